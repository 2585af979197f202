#include "core/text/decode.h"

#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

lq_status lq_strings_add(lq_strings *strings, const char *text, size_t bytes)
{
    if (strings->n == strings->room) {
        size_t room = strings->room ? 2 * strings->room : 64;
        size_t *grown = realloc(strings->end, room * sizeof *grown);
        if (!grown)
            return lq_fail(LQ_E_MEMORY, "no memory to decode %zu tokens", room);
        strings->end = grown;
        strings->room = room;
    }
    LQ_TRY(lq_buffer_add(&strings->text, text, bytes));
    strings->end[strings->n++] = strings->text.n;
    return LQ_OK;
}

void lq_strings_free(lq_strings *strings)
{
    lq_buffer_free(&strings->text);
    free(strings->end);
    *strings = (lq_strings){0};
}

/* --- the decoders, a string at a time --------------------------------------------------------- */

typedef struct runner {
    const lq_decode_op *op;
    lq_pattern_run *run;
    bool replace;
    lq_strings *out;
    size_t index; /* of the string */
    size_t bytes; /* DECODE_BYTES: of byte tokens not written yet, at the end of out->text */
} runner;

static lq_status replace_all(runner *r, const char *text, size_t bytes)
{
    const lq_step step = {.kind = LQ_STEP_REPLACE,
                          .pattern = r->op->pattern,
                          .content = r->op->content,
                          .content_bytes = r->op->content_bytes};
    LQ_TRY(lq_step_rewrite(&step, r->run, text, bytes, &r->out->text));
    return lq_strings_add(r->out, "", 0);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The run of bytes so far becomes a string: as it is, or, when it is no UTF-8 and that is asked for, a
 * replacement character for each byte. */
static lq_status end_bytes(runner *r)
{
    lq_buffer *text = &r->out->text;
    if (r->bytes == 0)
        return LQ_OK;
    size_t from = text->n - r->bytes, n = r->bytes;
    r->bytes = 0;
    if (!r->replace || lq_utf8_prefix(text->data + from, n) == n)
        return lq_strings_add(r->out, "", 0);
    text->n = from;
    for (size_t i = 0; i < n; i++)
        LQ_TRY(lq_buffer_add(text, REPLACEMENT, 3));
    return lq_strings_add(r->out, "", 0);
}

static lq_status byte_token(runner *r, const char *text, size_t bytes)
{
    int high = -1, low = -1;
    if (bytes == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>') {
        high = hex(text[3]);
        low = hex(text[4]);
    }
    if (high < 0 || low < 0) {
        LQ_TRY(end_bytes(r));
        return lq_strings_add(r->out, text, bytes);
    }
    r->bytes++;
    return lq_buffer_add(&r->out->text, &(char){(char)(16 * high + low)}, 1);
}

static lq_status strip(runner *r, const char *text, size_t bytes)
{
    const lq_decode_op *op = r->op;
    size_t n = op->content_bytes;
    for (size_t i = 0; i < op->start && bytes >= n && memcmp(text, op->content, n) == 0; i++) {
        text += n;
        bytes -= n;
    }
    for (size_t i = 0; i < op->stop && bytes >= n && memcmp(text + bytes - n, op->content, n) == 0;
         i++)
        bytes -= n;
    return lq_strings_add(r->out, text, bytes);
}

static lq_status metaspace(runner *r, const char *text, size_t bytes)
{
    const lq_decode_op *op = r->op;
    for (size_t i = 0; i < bytes;) {
        bool mark =
            bytes - i >= op->content_bytes && memcmp(text + i, op->content, op->content_bytes) == 0;
        if (!mark)
            LQ_TRY(lq_buffer_add(&r->out->text, text + i, 1));
        else if (r->index > 0 || op->start == 0)
            LQ_TRY(lq_buffer_add(&r->out->text, " ", 1));
        i += mark ? op->content_bytes : 1;
    }
    return lq_strings_add(r->out, "", 0);
}

static lq_status byte_level(runner *r, const char *text, size_t bytes)
{
    size_t n;
    LQ_TRY(lq_buffer_reserve(&r->out->text, bytes));
    if (!lq_byte_string(text, bytes, r->out->text.data + r->out->text.n, &n))
        return lq_buffer_add(&r->out->text, text, bytes);
    r->out->text.n += n;
    return LQ_OK;
}

static lq_status one(runner *r, const char *text, size_t bytes)
{
    switch (r->op->kind) {
    case LQ_DECODE_BYTE_LEVEL:
        return byte_level(r, text, bytes);
    case LQ_DECODE_REPLACE_ALL:
        return replace_all(r, text, bytes);
    case LQ_DECODE_BYTES:
        return byte_token(r, text, bytes);
    case LQ_DECODE_JOIN:
        if (r->index > 0)
            LQ_TRY(lq_buffer_add(&r->out->text, " ", 1));
        return lq_buffer_add(&r->out->text, text, bytes);
    case LQ_DECODE_FUSE:
        return lq_buffer_add(&r->out->text, text, bytes);
    case LQ_DECODE_STRIP:
        return strip(r, text, bytes);
    case LQ_DECODE_METASPACE:
        return metaspace(r, text, bytes);
    }
    return LQ_OK;
}

/* What a decoder does when the strings are over. */
static lq_status finish(runner *r)
{
    lq_strings *out = r->out;
    if (r->op->kind == LQ_DECODE_BYTES)
        return end_bytes(r);
    if (r->op->kind == LQ_DECODE_BYTE_LEVEL && r->replace) {
        lq_buffer clean = {0};
        lq_status status = lq_utf8_replace(out->text.data, out->text.n, &clean);
        lq_buffer_free(&out->text);
        out->text = clean;
        LQ_TRY(status);
    }
    return out->n == 0 ? lq_strings_add(out, "", 0) : LQ_OK;
}

static lq_status run_op(const lq_decode_op *op, lq_pattern_run *run, bool replace,
                        const lq_strings *in, lq_strings *out)
{
    runner r = {.op = op, .run = run, .replace = replace, .out = out};
    for (size_t from = 0; r.index < in->n; from = in->end[r.index], r.index++)
        LQ_TRY(one(&r, in->text.data + from, in->end[r.index] - from));
    return finish(&r);
}

lq_status lq_decoder_run(const lq_decoder *decoder, bool replace, lq_strings *strings)
{
    lq_pattern_run *run;
    LQ_TRY(lq_pattern_run_open(&run));
    lq_status status = lq_buffer_reserve(&strings->text, 1); /* an address, even for no text */
    for (size_t i = 0; status == LQ_OK && i < decoder->n; i++) {
        lq_strings out = {0};
        status = run_op(&decoder->op[i], run, replace, strings, &out);
        lq_strings_free(strings);
        *strings = out;
        if (status == LQ_OK)
            status = lq_buffer_reserve(&strings->text, 1);
    }
    lq_pattern_run_close(run);
    return status;
}
