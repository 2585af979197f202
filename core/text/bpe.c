#include "core/text/bpe.h"

#include "core/text/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_PIECE = 48 }; /* bytes up to which a scan of all pairs beats the heap */

uint64_t lq_bpe_hash(const char *text, size_t bytes)
{
    uint64_t h = 0x9E3779B97F4A7C15u ^ bytes, word;
    for (; bytes >= sizeof word; text += sizeof word, bytes -= sizeof word) {
        memcpy(&word, text, sizeof word);
        h = lq_bpe_mix(h ^ word) * 0xD6E8FEB86659FD93u;
    }
    word = 0;
    memcpy(&word, text, bytes);
    return lq_bpe_mix(h ^ word);
}

static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return size;
}

lq_status lq_bpe_init_merges(lq_bpe *bpe, size_t n_merges, lq_arena *arena)
{
    size_t n_pairs = table_size(n_merges);
    LQ_TRY(lq_arena_new(arena, &bpe->merge, n_pairs));
    for (size_t i = 0; i < n_pairs; i++)
        bpe->merge[i].pair = LQ_BPE_NO_PAIR;
    bpe->merge_mask = n_pairs - 1;
    return LQ_OK;
}

lq_status lq_bpe_init(lq_bpe *bpe, size_t n_ids, size_t n_merges, lq_arena *arena)
{
    *bpe = (lq_bpe){.room = n_ids, .unknown = LQ_NO_ID};
    size_t n_slots = table_size(n_ids);
    LQ_TRY(lq_arena_new(arena, &bpe->token, n_ids));
    LQ_TRY(lq_arena_new(arena, &bpe->slot, n_slots));
    memset(bpe->slot, 0xFF, n_slots * sizeof *bpe->slot);
    memset(bpe->byte_id, 0xFF, sizeof bpe->byte_id);
    memset(bpe->fallback, 0xFF, sizeof bpe->fallback);
    bpe->slot_mask = n_slots - 1;
    return lq_bpe_init_merges(bpe, n_merges, arena);
}

static uint32_t *slot_of(const lq_bpe *bpe, const char *text, size_t bytes)
{
    size_t i = (size_t)lq_bpe_hash(text, bytes) & bpe->slot_mask;
    for (; bpe->slot[i] != LQ_NO_ID; i = (i + 1) & bpe->slot_mask) {
        const lq_bpe_token *t = &bpe->token[bpe->slot[i]];
        if (t->bytes == bytes && memcmp(t->text, text, bytes) == 0)
            break;
    }
    return &bpe->slot[i];
}

uint32_t lq_bpe_find(const lq_bpe *bpe, const char *text, size_t bytes)
{
    return *slot_of(bpe, text, bytes);
}

void lq_bpe_set_token(lq_bpe *bpe, uint32_t id, const char *text, size_t bytes, bool mergeable)
{
    LQ_ASSERT(id < bpe->room && !bpe->token[id].text);
    bpe->token[id] = (lq_bpe_token){text, bytes};
    if (id >= bpe->n)
        bpe->n = (size_t)id + 1;
    if (!mergeable)
        return;
    *slot_of(bpe, text, bytes) = id;
    if (bytes == 1)
        bpe->byte_id[(unsigned char)text[0]] = id;
}

static lq_bpe_merge *merge_of(const lq_bpe *bpe, uint64_t pair)
{
    size_t i = (size_t)lq_bpe_mix(pair) & bpe->merge_mask;
    while (bpe->merge[i].pair != LQ_BPE_NO_PAIR && bpe->merge[i].pair != pair)
        i = (i + 1) & bpe->merge_mask;
    return &bpe->merge[i];
}

void lq_bpe_set_merge(lq_bpe *bpe, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
    *merge_of(bpe, lq_bpe_pair(left, right)) = (lq_bpe_merge){lq_bpe_pair(left, right), rank, id};
}

/* Rank of a pair, LQ_NO_ID when it does not merge. */
static uint32_t rank_of(const lq_bpe *bpe, uint32_t left, uint32_t right, uint32_t *id)
{
    const lq_bpe_merge *m = merge_of(bpe, lq_bpe_pair(left, right));
    if (m->pair == LQ_BPE_NO_PAIR)
        return LQ_NO_ID;
    *id = m->id;
    return m->rank;
}

/* --- symbols ---------------------------------------------------------------------------------- */

/* The symbol at text[0, n): its bytes, and its id or LQ_NO_ID. */
static size_t symbol_at(const lq_bpe *bpe, const char *text, size_t n, uint32_t *id)
{
    uint32_t code;
    size_t length = 1;
    *id = bpe->byte_id[(unsigned char)text[0]];
    if (bpe->characters && (unsigned char)text[0] >= 0x80) {
        length = lq_utf8_next(text, n, &code);
        *id = length > 0 ? lq_bpe_find(bpe, text, length) : LQ_NO_ID;
        length += length == 0;
    }
    return length;
}

/* Ids of the bytes of a character that has none; 0 when some byte has none either. */
static size_t fall_back(const lq_bpe *bpe, const char *text, size_t length, uint32_t *ids)
{
    if (!bpe->byte_fallback)
        return 0;
    for (size_t i = 0; i < length; i++)
        if ((ids[i] = bpe->fallback[(unsigned char)text[i]]) == LQ_NO_ID)
            return 0;
    return length;
}

/* The symbols of a pre-token. An unknown token is written when something follows it that it cannot fuse
 * with; bytes of the fallback overtake it, as they do in Hugging Face tokenizers. */
static size_t symbols_of(const lq_bpe *bpe, const char *text, size_t bytes, uint32_t *ids)
{
    size_t n = 0;
    bool unknown = false;
    for (size_t i = 0, length; i < bytes; i += length) {
        uint32_t id, own[4];
        length = symbol_at(bpe, text + i, bytes - i, &id);
        size_t n_own = id == LQ_NO_ID ? fall_back(bpe, text + i, length, own) : 0;
        if (n_own > 0) {
            memcpy(ids + n, own, n_own * sizeof *ids);
            n += n_own;
            continue;
        }
        if (id == LQ_NO_ID && bpe->unknown == LQ_NO_ID)
            continue;
        if (unknown && (id != LQ_NO_ID || !bpe->fuse_unknown))
            ids[n++] = bpe->unknown;
        unknown = id == LQ_NO_ID;
        if (!unknown)
            ids[n++] = id;
    }
    if (unknown)
        ids[n++] = bpe->unknown;
    return n;
}

/* --- short pre-tokens ------------------------------------------------------------------------- */

static size_t encode_short(const lq_bpe *bpe, uint32_t *ids, size_t n)
{
    uint32_t rank[SHORT_PIECE], merged[SHORT_PIECE];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_of(bpe, ids[i], ids[i + 1], &merged[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == LQ_NO_ID)
            break;
        ids[best] = merged[best];
        n--;
        for (size_t i = best + 1; i < n; i++) {
            ids[i] = ids[i + 1];
            if (i + 1 < n) {
                rank[i] = rank[i + 1];
                merged[i] = merged[i + 1];
            }
        }
        if (best + 1 < n)
            rank[best] = rank_of(bpe, ids[best], ids[best + 1], &merged[best]);
        if (best > 0)
            rank[best - 1] = rank_of(bpe, ids[best - 1], ids[best], &merged[best - 1]);
    }
    return n;
}

/* --- long pre-tokens: a linked list of symbols, and a heap of the pairs that may merge ------------ */

typedef struct lq_bpe_node {
    uint32_t id, previous, next; /* LQ_NO_ID at the ends */
} symbol;
typedef struct
    lq_bpe_entry { /* stale when the node at `at` and its next are no longer left, right */
    uint32_t rank, at, left, right, id;
} entry;

static bool before(const entry *a, const entry *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

static void push(entry *heap, size_t *n, entry e)
{
    size_t i = (*n)++;
    for (; i > 0 && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

static entry pop(entry *heap, size_t *n)
{
    entry top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        child += child + 1 < *n && before(&heap[child + 1], &heap[child]);
        if (!before(&heap[child], &last))
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static void push_pair(const lq_bpe *bpe, lq_bpe_work *work, size_t *n_heap, uint32_t at)
{
    const symbol *node = work->node;
    if (at == LQ_NO_ID || node[at].next == LQ_NO_ID)
        return;
    entry e = {.at = at, .left = node[at].id, .right = node[node[at].next].id};
    e.rank = rank_of(bpe, e.left, e.right, &e.id);
    if (e.rank != LQ_NO_ID)
        push(work->heap, n_heap, e);
}

/* Room for n symbols: n - 1 pairs to begin with, and two more for each of at most n - 1 merges. */
static lq_status reserve(lq_bpe_work *work, size_t n)
{
    if (n > UINT32_MAX / 4)
        return lq_fail(LQ_E_MEMORY, "a pre-token of %zu bytes is too long", n);
    if (n <= work->node_room)
        return LQ_OK;
    free(work->node);
    free(work->heap);
    work->node = malloc(n * sizeof *work->node);
    work->heap = malloc(3 * n * sizeof *work->heap);
    work->node_room = work->node && work->heap ? n : 0;
    if (work->node_room == 0)
        return lq_fail(LQ_E_MEMORY, "no memory to merge a pre-token of %zu bytes", n);
    return LQ_OK;
}

void lq_bpe_work_free(lq_bpe_work *work)
{
    free(work->node);
    free(work->heap);
    *work = (lq_bpe_work){0};
}

static lq_status merge_long(const lq_bpe *bpe, lq_bpe_work *work, uint32_t *ids, size_t *n)
{
    LQ_TRY(reserve(work, *n));
    symbol *node = work->node;
    size_t n_heap = 0;
    uint32_t count = (uint32_t)*n;
    for (uint32_t i = 0; i < count; i++) {
        node[i].id = ids[i];
        node[i].previous = i > 0 ? i - 1 : LQ_NO_ID;
        node[i].next = i + 1 < count ? i + 1 : LQ_NO_ID;
    }
    for (uint32_t i = 0; i < count; i++)
        push_pair(bpe, work, &n_heap, i);
    while (n_heap > 0) {
        entry e = pop(work->heap, &n_heap);
        uint32_t right = node[e.at].next;
        if (node[e.at].id != e.left || right == LQ_NO_ID || node[right].id != e.right)
            continue;
        node[e.at].id = e.id;
        node[e.at].next = node[right].next;
        if (node[right].next != LQ_NO_ID)
            node[node[right].next].previous = e.at;
        node[right].id = LQ_NO_ID; /* entries that begin there are stale */
        push_pair(bpe, work, &n_heap, e.at);
        push_pair(bpe, work, &n_heap, node[e.at].previous);
    }
    *n = 0;
    for (uint32_t i = 0; i != LQ_NO_ID && i < count; i = node[i].next)
        ids[(*n)++] = node[i].id;
    return LQ_OK;
}

lq_status lq_bpe_encode_long(const lq_bpe *bpe, lq_bpe_work *work, const char *text, size_t bytes,
                             uint32_t *ids, size_t *n)
{
    *n = symbols_of(bpe, text, bytes, ids);
    return *n > 1 ? merge_long(bpe, work, ids, n) : LQ_OK;
}

lq_status lq_bpe_encode(const lq_bpe *bpe, lq_bpe_work *work, const char *text, size_t bytes,
                        uint32_t *ids, size_t *n)
{
    if (bpe->ignore_merges && bytes > 0) {
        ids[0] = lq_bpe_find(bpe, text, bytes);
        *n = 1;
        if (ids[0] != LQ_NO_ID)
            return LQ_OK;
    }
    if (bytes > SHORT_PIECE)
        return lq_bpe_encode_long(bpe, work, text, bytes, ids, n);
    *n = encode_short(bpe, ids, symbols_of(bpe, text, bytes, ids));
    return LQ_OK;
}
