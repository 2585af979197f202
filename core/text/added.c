#include "core/text/added.h"

#include "core/text/bpe.h"
#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

static int by_first_then_longest(const void *a, const void *b)
{
    const lq_added_entry *x = a, *y = b;
    unsigned char cx = (unsigned char)x->text[0], cy = (unsigned char)y->text[0];
    if (cx != cy)
        return cx < cy ? -1 : 1;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static uint32_t *slot_of(const lq_added_set *set, const char *text, size_t bytes)
{
    size_t i = (size_t)lq_bpe_hash(text, bytes) & set->slot_mask;
    for (; set->slot[i] != LQ_NO_ID; i = (i + 1) & set->slot_mask) {
        const lq_added_entry *e = &set->entry[set->slot[i]];
        if (e->bytes == bytes && memcmp(e->text, text, bytes) == 0)
            break;
    }
    return &set->slot[i];
}

lq_status lq_added_index(lq_added_set *set, lq_arena *arena)
{
    size_t slots = 16, lengths = 0, i = 0, kinds = 0;
    while (slots < 2 * set->n)
        slots *= 2;
    LQ_TRY(lq_arena_new(arena, &set->slot, slots));
    LQ_TRY(lq_arena_new(arena, &set->length, set->n));
    memset(set->slot, 0xFF, slots * sizeof *set->slot);
    set->slot_mask = slots - 1;
    set->only_first = -1;
    if (set->n > 0)
        qsort(set->entry, set->n, sizeof *set->entry, by_first_then_longest);
    for (size_t k = 0; k < set->n; k++) {
        *slot_of(set, set->entry[k].text, set->entry[k].bytes) = (uint32_t)k;
        set->longest = set->entry[k].bytes > set->longest ? set->entry[k].bytes : set->longest;
        set->strips_left |= set->entry[k].token->lstrip;
        set->looks_back |= set->entry[k].token->single_word;
    }
    for (int c = 0; c < 256; c++) {
        set->first[c] = lengths;
        for (; i < set->n && (unsigned char)set->entry[i].text[0] == c; i++)
            if (lengths == set->first[c] || set->length[lengths - 1] != set->entry[i].bytes)
                set->length[lengths++] = set->entry[i].bytes;
        if (lengths > set->first[c]) {
            kinds++;
            set->only_first = c;
        }
    }
    set->first[256] = lengths;
    if (kinds != 1)
        set->only_first = -1;
    return LQ_OK;
}

/* The next place at or after `at` where a token may begin, or `bytes`. */
static size_t candidate(const lq_added_set *set, const char *text, size_t at, size_t bytes)
{
    if (set->n == 0)
        return bytes;
    if (set->only_first >= 0) {
        const char *found = at < bytes ? memchr(text + at, set->only_first, bytes - at) : NULL;
        return found ? (size_t)(found - text) : bytes;
    }
    while (at < bytes &&
           set->first[(unsigned char)text[at]] == set->first[(unsigned char)text[at] + 1])
        at++;
    return at;
}

static const lq_added_entry *longest_at(const lq_added_set *set, const char *text, size_t at,
                                        size_t bytes)
{
    unsigned char c = (unsigned char)text[at];
    for (size_t i = set->first[c]; i < set->first[c + 1]; i++) {
        if (set->length[i] > bytes - at)
            continue;
        uint32_t found = *slot_of(set, text + at, set->length[i]);
        if (found != LQ_NO_ID)
            return &set->entry[found];
    }
    return NULL;
}

/* A character before or after a match; bytes that are no UTF-8 belong to no word. */
static bool is_word(const char *text, size_t n)
{
    uint32_t code;
    return n > 0 && lq_utf8_next(text, n, &code) > 0 && lq_unicode_is_word(code);
}

static bool is_space(const char *text, size_t n, size_t *length)
{
    uint32_t code;
    *length = n > 0 ? lq_utf8_next(text, n, &code) : 0;
    return *length > 0 && lq_utf8_space(code);
}

static size_t spaces_before(const char *text, size_t at, size_t least)
{
    while (at > least) {
        size_t length, last = lq_utf8_last(text, at);
        if (last < least || !is_space(text + last, at - last, &length) || last + length != at)
            break;
        at = last;
    }
    return at;
}

static size_t spaces_after(const char *text, size_t at, size_t bytes)
{
    for (size_t length; is_space(text + at, bytes - at, &length);)
        at += length;
    return at;
}

/* Does what stands around the token allow it? Writes the match when it does. */
static bool fits(const lq_added_entry *e, const char *text, size_t at, size_t bytes, size_t least,
                 lq_added_match *match)
{
    size_t end = at + e->bytes;
    if (e->token->single_word) {
        size_t before = at > 0 ? lq_utf8_last(text, at) : 0;
        if ((at > 0 && is_word(text + before, at - before)) || is_word(text + end, bytes - end))
            return false;
    }
    *match = (lq_added_match){.token = e->token,
                              .start = e->token->lstrip ? spaces_before(text, at, least) : at,
                              .end = e->token->rstrip ? spaces_after(text, end, bytes) : end};
    return true;
}

void lq_added_find(const lq_added_set *set, const char *text, size_t bytes, size_t from,
                   size_t least, bool more, bool plain, lq_added_match *match)
{
    size_t open = bytes; /* a token may begin from here on, and we cannot see it whole */
    if (more && set->longest > 0)
        open = bytes - from < set->longest ? from : bytes - set->longest + 1;
    for (size_t at = from; (at = candidate(set, text, at, open)) < open;) {
        const lq_added_entry *e = longest_at(set, text, at, bytes);
        if (!e || (plain && e->token->special)) {
            at += e ? e->bytes : 1;
            continue;
        }
        /* up to three bytes may be a character that is not whole yet */
        bool looks_on = e->token->rstrip || e->token->single_word;
        if (fits(e, text, at, bytes, least, match)) {
            if (!more || !looks_on || match->end + 4 <= bytes)
                return;
            open = at;
        } else {
            if (more && at + e->bytes + 4 > bytes)
                open = at;
            at += e->bytes;
        }
    }
    while (more && open > from && open < bytes && ((unsigned char)text[open] & 0xC0) == 0x80)
        open--; /* no character is cut */
    if (more && set->strips_left)
        open = spaces_before(text, open, least);
    *match = (lq_added_match){.token = NULL, .start = open, .end = open};
}
