#include "core/text/steps.h"

#include "core/text/unicode.h"

#include <string.h>

/* --- the byte-level alphabet ------------------------------------------------------------------ */

static bool is_printable(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

/* A printable byte is its own character; the other 68, in order, are U+0100, U+0101, ...: 0x00 to 0x20,
 * 0x7F to 0xA0, 0xAD. */
uint32_t lq_byte_character(unsigned char byte)
{
    if (is_printable(byte))
        return byte;
    return byte <= 0x20 ? 0x100u + byte : byte <= 0xA0 ? 0x121u + byte - 0x7F : 0x143;
}

/* The byte of a character, -1: it is not in the alphabet. */
static int byte_of(uint32_t c)
{
    if (c < 0x100)
        return is_printable(c) ? (int)c : -1;
    return c <= 0x120   ? (int)c - 0x100
           : c <= 0x142 ? (int)c - 0x121 + 0x7F
           : c == 0x143 ? 0xAD
                        : -1;
}

bool lq_byte_string(const char *text, size_t n, char *out, size_t *out_bytes)
{
    size_t k = 0;
    for (size_t i = 0; i < n; k++) {
        uint32_t code;
        size_t length = lq_utf8_next(text + i, n - i, &code);
        int byte = length > 0 ? byte_of(code) : -1;
        if (byte < 0)
            return false;
        out[k] = (char)byte;
        i += length;
    }
    *out_bytes = k;
    return true;
}

static lq_status to_alphabet(const char *text, size_t bytes, lq_buffer *out)
{
    LQ_TRY(lq_buffer_reserve(out, 2 * bytes));
    for (size_t i = 0; i < bytes; i++)
        out->n += lq_utf8_put(lq_byte_character((unsigned char)text[i]), out->data + out->n);
    return LQ_OK;
}

/* The steps between may have brought in characters of no byte: those stay as they are. */
static lq_status to_bytes(const char *text, size_t bytes, lq_buffer *out)
{
    LQ_TRY(lq_buffer_reserve(out, bytes));
    for (size_t i = 0; i < bytes;) {
        size_t length = lq_utf8_length(text + i), one;
        if (lq_byte_string(text + i, length, out->data + out->n, &one))
            out->n++;
        else
            for (size_t k = 0; k < length; k++)
                out->data[out->n++] = text[i + k];
        i += length;
    }
    return LQ_OK;
}

/* --- the other rewriting steps ---------------------------------------------------------------- */

static lq_status replace(const lq_step *step, lq_pattern_run *run, const char *text, size_t bytes,
                         lq_buffer *out)
{
    lq_match m = {0};
    for (size_t at = 0;; at = m.end) {
        LQ_TRY(lq_pattern_next(step->pattern, run, text, bytes, false, &m));
        size_t gap = (m.kind == LQ_MATCH_FOUND ? m.start : bytes) - at;
        LQ_TRY(lq_buffer_add(out, text + at, gap));
        if (m.kind != LQ_MATCH_FOUND)
            return LQ_OK;
        LQ_TRY(lq_buffer_add(out, step->content, step->content_bytes));
    }
}

static lq_status strip(const lq_step *step, const char *text, size_t bytes, lq_buffer *out)
{
    size_t from = 0, to = bytes;
    uint32_t code;
    while (step->left && from < to) {
        size_t length = lq_utf8_next(text + from, to - from, &code);
        if (!lq_utf8_space(code))
            break;
        from += length;
    }
    while (step->right && from < to) {
        size_t last = lq_utf8_last(text, to);
        lq_utf8_next(text + last, to - last, &code);
        if (!lq_utf8_space(code))
            break;
        to = last;
    }
    return lq_buffer_add(out, text + from, to - from);
}

lq_status lq_step_rewrite(const lq_step *step, lq_pattern_run *run, const char *text, size_t bytes,
                          lq_buffer *out)
{
    switch (step->kind) {
    case LQ_STEP_REPLACE:
        return replace(step, run, text, bytes, out);
    case LQ_STEP_PREPEND:
        LQ_TRY(lq_buffer_add(out, step->content, step->content_bytes));
        return lq_buffer_add(out, text, bytes);
    case LQ_STEP_NFC:
        return lq_unicode_normalize(LQ_NFC, text, bytes, out);
    case LQ_STEP_NFD:
        return lq_unicode_normalize(LQ_NFD, text, bytes, out);
    case LQ_STEP_NFKC:
        return lq_unicode_normalize(LQ_NFKC, text, bytes, out);
    case LQ_STEP_NFKD:
        return lq_unicode_normalize(LQ_NFKD, text, bytes, out);
    case LQ_STEP_LOWERCASE:
        return lq_unicode_lower(text, bytes, out);
    case LQ_STEP_STRIP_ACCENTS:
        return lq_unicode_strip_accents(text, bytes, out);
    case LQ_STEP_STRIP:
        return strip(step, text, bytes, out);
    case LQ_STEP_ALPHABET:
        return to_alphabet(text, bytes, out);
    case LQ_STEP_BYTES:
        return to_bytes(text, bytes, out);
    case LQ_STEP_SPLIT:
        break;
    }
    return lq_fail(LQ_E_FORMAT, "a split writes no text");
}
