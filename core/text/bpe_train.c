/* Learning merges. Pairs are counted once, then kept exact: a merge visits only the words that hold the
 * pair and recounts those. A heap with stale entries gives the most frequent pair. */
#include "core/text/bpe.h"

#include <stdlib.h>
#include <string.h>

typedef struct word {
    uint32_t *symbol; /* in one array for all words */
    uint32_t n;
    uint64_t count;
} word;
typedef struct pair {
    uint64_t key; /* LQ_BPE_NO_PAIR: free slot */
    uint64_t count;
    uint32_t place; /* first of the places where it was seen, LQ_NO_ID at the end */
    uint32_t round; /* of the last merge that made the pair: it is pushed once a round */
    bool merged;    /* before: it may come up again when two merges make the same bytes */
} pair;
typedef struct place {
    uint32_t word, next;
} place;
typedef struct entry {
    uint64_t count, key;
} entry;

typedef struct learner {
    lq_bpe *bpe;
    word *words;
    size_t n_words;
    pair *pairs; /* hash table, at most half full */
    size_t n_pairs, mask;
    place *places;
    size_t n_places, places_room;
    entry *heap;
    size_t n_heap, heap_room;
    uint64_t *made; /* pairs that the merge in hand made */
    size_t n_made, made_room;
    uint32_t round;
} learner;

/* Makes room for one more element of an array that grows by doubling. */
static lq_status room_for_one(void **array, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return LQ_OK;
    size_t more = *room ? 2 * *room : 1024;
    void *grown = more < UINT32_MAX ? realloc(*array, more * size) : NULL;
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "no memory to learn merges from this much text");
    *array = grown;
    *room = more;
    return LQ_OK;
}

static bool after(const entry *a, const entry *b) /* b comes first */
{
    return a->count < b->count || (a->count == b->count && a->key > b->key);
}

static lq_status push(learner *l, uint64_t count, uint64_t key)
{
    LQ_TRY(room_for_one((void **)&l->heap, l->n_heap, &l->heap_room, sizeof *l->heap));
    entry e = {count, key};
    size_t i = l->n_heap++;
    for (; i > 0 && after(&l->heap[(i - 1) / 2], &e); i = (i - 1) / 2)
        l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = e;
    return LQ_OK;
}

static entry pop(learner *l)
{
    entry top = l->heap[0], last = l->heap[--l->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < l->n_heap; i = child) {
        child += child + 1 < l->n_heap && after(&l->heap[child], &l->heap[child + 1]);
        if (!after(&last, &l->heap[child]))
            break;
        l->heap[i] = l->heap[child];
    }
    l->heap[i] = last;
    return top;
}

static pair *slot_of(pair *pairs, size_t mask, uint64_t key)
{
    size_t i = (size_t)lq_bpe_mix(key) & mask;
    while (pairs[i].key != LQ_BPE_NO_PAIR && pairs[i].key != key)
        i = (i + 1) & mask;
    return &pairs[i];
}

static lq_status grow_table(learner *l)
{
    size_t size = l->pairs ? 2 * (l->mask + 1) : (size_t)1 << 16;
    pair *grown = malloc(size * sizeof *grown);
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "no memory for %zu pairs of tokens", size);
    for (size_t i = 0; i < size; i++)
        grown[i] = (pair){.key = LQ_BPE_NO_PAIR, .place = LQ_NO_ID};
    for (size_t i = 0; l->pairs && i <= l->mask; i++)
        if (l->pairs[i].key != LQ_BPE_NO_PAIR)
            *slot_of(grown, size - 1, l->pairs[i].key) = l->pairs[i];
    free(l->pairs);
    l->pairs = grown;
    l->mask = size - 1;
    return LQ_OK;
}

/* Counts the pairs of a word. Pairs with `made` in them (LQ_NO_ID: all) get the word as a place. */
static lq_status count_word(learner *l, uint32_t w, uint32_t made)
{
    const word *in = &l->words[w];
    for (uint32_t i = 0; i + 1 < in->n; i++) {
        if (!l->pairs || 2 * l->n_pairs > l->mask)
            LQ_TRY(grow_table(l));
        uint32_t left = in->symbol[i], right = in->symbol[i + 1];
        pair *p = slot_of(l->pairs, l->mask, lq_bpe_pair(left, right));
        l->n_pairs += p->key == LQ_BPE_NO_PAIR;
        p->key = lq_bpe_pair(left, right);
        p->count += in->count;
        if (made != LQ_NO_ID && left != made && right != made)
            continue;
        if (p->place == LQ_NO_ID || l->places[p->place].word != w) {
            LQ_TRY(
                room_for_one((void **)&l->places, l->n_places, &l->places_room, sizeof *l->places));
            l->places[l->n_places] = (place){w, p->place};
            p->place = (uint32_t)l->n_places++;
        }
        if (p->round != l->round) {
            p->round = l->round;
            LQ_TRY(room_for_one((void **)&l->made, l->n_made, &l->made_room, sizeof *l->made));
            l->made[l->n_made++] = p->key;
        }
    }
    return LQ_OK;
}

static void uncount_word(learner *l, const word *in)
{
    for (uint32_t i = 0; i + 1 < in->n; i++)
        slot_of(l->pairs, l->mask, lq_bpe_pair(in->symbol[i], in->symbol[i + 1]))->count -=
            in->count;
}

static bool holds(const word *in, uint64_t key)
{
    for (uint32_t i = 0; i + 1 < in->n; i++)
        if (lq_bpe_pair(in->symbol[i], in->symbol[i + 1]) == key)
            return true;
    return false;
}

static void rewrite(word *in, uint64_t key, uint32_t id)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < in->n; i++) {
        bool here = i + 1 < in->n && lq_bpe_pair(in->symbol[i], in->symbol[i + 1]) == key;
        in->symbol[n++] = here ? id : in->symbol[i];
        i += here;
    }
    in->n = n;
}

/* Merges the pair in all words, and pushes the pairs that came of it. */
static lq_status merge(learner *l, uint64_t key, uint32_t id)
{
    l->round++;
    l->n_made = 0;
    uint32_t at = slot_of(l->pairs, l->mask, key)->place;
    for (; at != LQ_NO_ID; at = l->places[at].next) {
        uint32_t w = l->places[at].word;
        if (!holds(&l->words[w], key))
            continue;
        uncount_word(l, &l->words[w]);
        rewrite(&l->words[w], key, id);
        LQ_TRY(count_word(l, w, id));
    }
    for (size_t i = 0; i < l->n_made; i++)
        LQ_TRY(push(l, slot_of(l->pairs, l->mask, l->made[i])->count, l->made[i]));
    return LQ_OK;
}

/* The most frequent pair, of equals the one of smaller ids; LQ_BPE_NO_PAIR: there is none. */
static lq_status best(learner *l, uint64_t *key)
{
    *key = LQ_BPE_NO_PAIR;
    while (l->n_heap > 0) {
        entry e = pop(l);
        uint64_t now = slot_of(l->pairs, l->mask, e.key)->count;
        if (now == e.count && now > 0) {
            *key = e.key;
            return LQ_OK;
        }
        if (now > 0 && now < e.count) /* a larger count was pushed when it came about */
            LQ_TRY(push(l, now, e.key));
    }
    return LQ_OK;
}

/* The id of left + right: a new one, unless other merges made the same bytes before. */
static lq_status joined_id(lq_bpe *bpe, uint64_t key, lq_arena *arena, uint32_t *id)
{
    const lq_bpe_token *left = &bpe->token[key >> 32], *right = &bpe->token[key & UINT32_MAX];
    char *text;
    LQ_TRY(lq_arena_new(arena, &text, left->bytes + right->bytes));
    memcpy(text, left->text, left->bytes);
    memcpy(text + left->bytes, right->text, right->bytes);
    *id = lq_bpe_find(bpe, text, left->bytes + right->bytes);
    if (*id == LQ_NO_ID) {
        *id = (uint32_t)bpe->n;
        lq_bpe_set_token(bpe, *id, text, left->bytes + right->bytes, true);
    }
    return LQ_OK;
}

static lq_status set_up(learner *l, const lq_bpe_word *words, lq_arena *arena)
{
    size_t n_symbols = 0;
    uint32_t *symbols;
    for (size_t w = 0; w < l->n_words; w++)
        n_symbols += words[w].bytes;
    LQ_TRY(lq_arena_new(arena, &l->words, l->n_words));
    LQ_TRY(lq_arena_new(arena, &symbols, n_symbols));
    l->round = 1;
    LQ_TRY(grow_table(l));
    for (size_t w = 0; w < l->n_words; w++) {
        l->words[w] = (word){symbols, (uint32_t)words[w].bytes, words[w].count};
        for (size_t i = 0; i < words[w].bytes; i++)
            *symbols++ = l->bpe->byte_id[(unsigned char)words[w].text[i]];
        LQ_TRY(count_word(l, (uint32_t)w, LQ_NO_ID));
    }
    for (size_t i = 0; i < l->n_made; i++)
        LQ_TRY(push(l, slot_of(l->pairs, l->mask, l->made[i])->count, l->made[i]));
    return LQ_OK;
}

static lq_status learn(learner *l, const lq_bpe_word *words, lq_arena *arena, uint64_t **merges,
                       size_t *n_merges)
{
    size_t room = 0;
    LQ_TRY(set_up(l, words, arena));
    while (l->bpe->n < l->bpe->room) {
        uint64_t key;
        uint32_t id;
        LQ_TRY(best(l, &key));
        if (key == LQ_BPE_NO_PAIR)
            return lq_fail(LQ_E_OPTION,
                           "the text has no more than %zu tokens to learn, %zu were asked for",
                           l->bpe->n, l->bpe->room);
        LQ_TRY(joined_id(l->bpe, key, arena, &id));
        pair *p = slot_of(l->pairs, l->mask, key);
        if (!p->merged) {
            LQ_TRY(room_for_one((void **)merges, *n_merges, &room, sizeof **merges));
            (*merges)[(*n_merges)++] = key;
        }
        p->merged = true;
        LQ_TRY(merge(l, key, id));
    }
    return LQ_OK;
}

lq_status lq_bpe_learn(lq_bpe *bpe, const lq_bpe_word *words, size_t n_words, lq_arena *arena,
                       uint64_t **merges, size_t *n_merges)
{
    learner l = {.bpe = bpe, .n_words = n_words};
    uint64_t *found = NULL;
    *merges = NULL;
    *n_merges = 0;
    if (n_words >= UINT32_MAX)
        return lq_fail(LQ_E_MEMORY, "%zu distinct words are too many to learn merges from",
                       n_words);
    lq_status status = learn(&l, words, arena, &found, n_merges);
    if (status == LQ_OK)
        status = lq_arena_new(arena, merges, *n_merges);
    if (status == LQ_OK && *n_merges > 0)
        memcpy(*merges, found, *n_merges * sizeof *found);
    free(found);
    free(l.pairs);
    free(l.places);
    free(l.heap);
    free(l.made);
    return status;
}
