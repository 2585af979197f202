/* What can be said of merges without a text: all pairs that make a token, and which neighbours no merge
 * joins. */
#include "core/text/bpe.h"
#include "core/text/utf8.h"

#include <string.h>

enum { LONGEST_RANKED = 1024 };

/* Where a token may be cut in two: between its symbols. */
static bool is_border(const lq_bpe *bpe, const char *text, size_t at)
{
    return !bpe->characters || ((unsigned char)text[at] & 0xC0) != 0x80;
}

/* The pairs that make token `id`, into the table when `sets`; how many. */
static size_t pairs_of(lq_bpe *bpe, uint32_t id, uint32_t rank, bool sets)
{
    const lq_bpe_token *t = &bpe->token[id];
    size_t n = 0;
    for (size_t at = 1; at < t->bytes; at++) {
        if (!is_border(bpe, t->text, at))
            continue;
        uint32_t left = lq_bpe_find(bpe, t->text, at);
        uint32_t right = left == LQ_NO_ID ? left : lq_bpe_find(bpe, t->text + at, t->bytes - at);
        if (right == LQ_NO_ID)
            continue;
        n++;
        if (sets)
            lq_bpe_set_merge(bpe, left, right, rank, id);
    }
    return n;
}

lq_status lq_bpe_merge_all(lq_bpe *bpe, const uint32_t *rank, const char *where, lq_arena *arena)
{
    size_t n = 0;
    for (uint32_t id = 0; id < bpe->n; id++) {
        if (rank[id] == LQ_NO_ID || !bpe->token[id].text)
            continue;
        if (bpe->token[id].bytes > LONGEST_RANKED)
            return lq_fail(LQ_E_FORMAT, "%s: token %u has %zu bytes; at most %d can be", where, id,
                           bpe->token[id].bytes, LONGEST_RANKED);
        n += pairs_of(bpe, id, rank[id], false);
    }
    LQ_TRY(lq_bpe_init_merges(bpe, n, arena));
    for (uint32_t id = 0; id < bpe->n; id++)
        if (rank[id] != LQ_NO_ID && bpe->token[id].text)
            pairs_of(bpe, id, rank[id], true);
    return LQ_OK;
}

/* --- cuts ------------------------------------------------------------------------------------- */

enum { JOIN_BITS = 1 << 16 };

/* Two neighbouring symbols share a bit with some others: then a cut is missed, never a wrong one
 * made. */
static size_t join_bit(const lq_bpe *bpe, const char *left, size_t left_bytes, const char *right,
                       size_t right_bytes)
{
    if (!bpe->characters)
        return (size_t)(unsigned char)left[0] << 8 | (unsigned char)right[0];
    uint32_t a = 0, b = 0;
    lq_utf8_next(left, left_bytes, &a);
    lq_utf8_next(right, right_bytes, &b);
    return (size_t)lq_bpe_mix(lq_bpe_pair(a, b)) & (JOIN_BITS - 1);
}

/* A token that stands for other bytes than its own. */
static bool is_stand_in(const lq_bpe *bpe, uint32_t id)
{
    if (id == bpe->unknown)
        return true;
    for (size_t b = 0; bpe->token[id].bytes == 6 && b < 256; b++) /* <0x0A> */
        if (bpe->fallback[b] == id)
            return true;
    return false;
}

/* Can every symbol of any text be told from its own bytes alone? */
static bool is_total(const lq_bpe *bpe)
{
    const uint32_t *id = bpe->characters ? bpe->fallback : bpe->byte_id;
    for (size_t b = 0; b < 256; b++)
        if (id[b] == LQ_NO_ID)
            return false;
    return !bpe->characters || bpe->byte_fallback;
}

/* Where the last symbol of the text begins. */
static size_t last_symbol(const lq_bpe *bpe, const char *text, size_t bytes)
{
    return bpe->characters ? lq_utf8_last(text, bytes) : bytes - 1;
}

lq_status lq_bpe_allow_cuts(lq_bpe *bpe, lq_arena *arena)
{
    uint64_t *joins;
    if (bpe->ignore_merges || !is_total(bpe))
        return LQ_OK;
    LQ_TRY(lq_arena_new(arena, &joins, JOIN_BITS / 64));
    for (size_t i = 0; i <= bpe->merge_mask; i++) {
        if (bpe->merge[i].pair == LQ_BPE_NO_PAIR)
            continue;
        uint32_t left = (uint32_t)(bpe->merge[i].pair >> 32), right = (uint32_t)bpe->merge[i].pair;
        const lq_bpe_token *l = &bpe->token[left], *r = &bpe->token[right];
        if (bpe->characters && (is_stand_in(bpe, left) || is_stand_in(bpe, right)))
            return LQ_OK;
        size_t last = last_symbol(bpe, l->text, l->bytes);
        size_t bit = join_bit(bpe, l->text + last, l->bytes - last, r->text, r->bytes);
        joins[bit / 64] |= (uint64_t)1 << bit % 64;
    }
    bpe->joins = joins;
    return LQ_OK;
}

/* May a merge join the symbol that begins at `left` and the one that begins at `at`? */
static bool joins(const lq_bpe *bpe, const char *text, size_t bytes, size_t left, size_t at)
{
    size_t bit = join_bit(bpe, text + left, at - left, text + at, bytes - at);
    return bpe->joins[bit / 64] >> bit % 64 & 1;
}

size_t lq_bpe_first_cut(const lq_bpe *bpe, const char *text, size_t bytes)
{
    if (!bpe->joins)
        return 0;
    for (size_t left = 0, at; left < bytes; left = at) {
        at = left + (bpe->characters ? lq_utf8_length(text + left) : 1);
        if (at >= bytes)
            break;
        if (!joins(bpe, text, bytes, left, at))
            return at;
    }
    return 0;
}

size_t lq_bpe_last_cut(const lq_bpe *bpe, const char *text, size_t bytes)
{
    if (!bpe->joins || bytes == 0)
        return 0;
    for (size_t at = last_symbol(bpe, text, bytes), left; at > 0; at = left) {
        left = last_symbol(bpe, text, at);
        bool inside = ((unsigned char)text[at] & 0xC0) == 0x80; /* a character */
        if (!inside && !joins(bpe, text, bytes, left, at))
            return at;
    }
    return 0;
}
