#include "core/text/pieces.h"

#include <stdlib.h>
#include <string.h>

typedef struct splitter {
    const lq_pieces *pieces;
    const char *text;
    lq_pattern_run *run;
    lq_on_piece on_piece;
    void *self;
} splitter;

static int by_first_then_longest(const void *a, const void *b)
{
    const lq_added *x = a, *y = b;
    unsigned char cx = (unsigned char)x->text[0], cy = (unsigned char)y->text[0];
    if (cx != cy)
        return cx < cy ? -1 : 1;
    return x->bytes != y->bytes ? (x->bytes > y->bytes ? -1 : 1)
                                : memcmp(x->text, y->text, x->bytes);
}

void lq_pieces_index(lq_pieces *pieces)
{
    if (pieces->n_added > 0)
        qsort(pieces->added, pieces->n_added, sizeof *pieces->added, by_first_then_longest);
    size_t i = 0, kinds = 0;
    pieces->only_first = -1;
    for (int c = 0; c < 256; c++) {
        pieces->first[c] = i;
        while (i < pieces->n_added && (unsigned char)pieces->added[i].text[0] == c)
            i++;
        if (i > pieces->first[c]) {
            kinds++;
            pieces->only_first = c;
        }
    }
    pieces->first[256] = i;
    if (kinds != 1)
        pieces->only_first = -1;
}

/* Bytes of one character at s[0, n), 0 when it is none (Unicode 15, table 3-7). */
static size_t character(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || length > n)
        return 0;
    unsigned lowest = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned highest = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < lowest || s[1] > highest)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

/* Bytes of valid UTF-8 at the start of the text. */
static size_t valid_utf8(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < bytes;) {
        uint64_t eight;
        if (bytes - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        size_t length = character(s + i, bytes - i);
        if (length == 0)
            return i;
        i += length;
    }
    return bytes;
}

/* Applies steps k, k + 1, ... to text[from, to): each sees its piece alone, as if it were the text. */
static lq_status apply(splitter *s, size_t k, size_t from, size_t to)
{
    if (from == to)
        return LQ_OK;
    if (k == s->pieces->n_steps)
        return s->on_piece(s->self, from, to - from, LQ_NO_ID);
    const char *piece = s->text + from;
    size_t n = to - from;
    for (size_t at = 0; at < n;) {
        size_t start, end;
        LQ_TRY(lq_pattern_next(s->pieces->step[k], s->run, piece, n, at, &start, &end));
        LQ_TRY(apply(s, k + 1, from + at, from + start));
        LQ_TRY(apply(s, k + 1, from + start, from + end));
        at = end;
    }
    return LQ_OK;
}

static lq_status split_text(splitter *s, size_t from, size_t to)
{
    while (from < to) {
        size_t valid = valid_utf8(s->text + from, to - from);
        LQ_TRY(apply(s, 0, from, from + valid));
        from += valid;
        size_t broken = from;
        while (from < to && character((const unsigned char *)s->text + from, to - from) == 0)
            from++;
        if (from > broken)
            LQ_TRY(s->on_piece(s->self, broken, from - broken, LQ_NO_ID));
    }
    return LQ_OK;
}

/* The next place at or after `at` where an added token may begin, or `bytes`. */
static size_t candidate(const lq_pieces *p, const char *text, size_t at, size_t bytes)
{
    if (p->n_added == 0)
        return bytes;
    if (p->only_first >= 0) {
        const char *found = at < bytes ? memchr(text + at, p->only_first, bytes - at) : NULL;
        return found ? (size_t)(found - text) : bytes;
    }
    while (at < bytes && p->first[(unsigned char)text[at]] == p->first[(unsigned char)text[at] + 1])
        at++;
    return at;
}

static const lq_added *added_at(const lq_pieces *p, const char *text, size_t at, size_t bytes)
{
    unsigned char c = (unsigned char)text[at];
    for (size_t i = p->first[c]; i < p->first[c + 1]; i++)
        if (p->added[i].bytes <= bytes - at &&
            memcmp(p->added[i].text, text + at, p->added[i].bytes) == 0)
            return &p->added[i];
    return NULL;
}

static lq_status split_added(splitter *s, size_t bytes)
{
    size_t from = 0; /* the text since the last added token begins here */
    for (size_t at = 0; (at = candidate(s->pieces, s->text, at, bytes)) < bytes;) {
        const lq_added *added = added_at(s->pieces, s->text, at, bytes);
        if (!added) {
            at++;
            continue;
        }
        LQ_TRY(split_text(s, from, at));
        LQ_TRY(s->on_piece(s->self, at, added->bytes, added->id));
        at += added->bytes;
        from = at;
    }
    return split_text(s, from, bytes);
}

lq_status lq_pieces_split(const lq_pieces *pieces, const char *text, size_t bytes,
                          lq_on_piece on_piece, void *self)
{
    splitter s = {.pieces = pieces, .text = text, .on_piece = on_piece, .self = self};
    LQ_TRY(lq_pattern_run_open(&s.run));
    lq_status status = split_added(&s, bytes);
    lq_pattern_run_close(s.run);
    return status;
}
