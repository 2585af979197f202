#include "core/text/tokenizer.h"

#include "core/base/file.h"
#include "core/text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

/* Pre-tokens longer than this do not take part in training: runs of one character, encoded data. */
enum { LONGEST_WORD = 256, LOWEST_VOCAB = 257 };
/* Pre-tokens up to this length are looked up before they are merged. */
enum { LONGEST_CACHED = 64, CACHE_LARGEST = 1 << 20 };

void lq_tokenizer_free(lq_tokenizer *tok)
{
    if (!tok)
        return;
    for (size_t i = 0; i < tok->pieces.n_steps; i++)
        lq_pattern_close(tok->pieces.step[i]);
    lq_arena_close(&tok->arena);
    free(tok);
}

lq_status lq_tokenizer_read(const char *path, lq_tokenizer **out)
{
    lq_arena scratch = {0};
    char *json;
    size_t bytes;
    lq_status status = lq_file_read(path, &scratch, &json, &bytes);
    if (status == LQ_OK)
        status = lq_tokenizer_parse(json, bytes, path, out);
    lq_arena_close(&scratch);
    return status;
}

lq_status lq_tokenizer_write(const lq_tokenizer *tok, const char *path)
{
    return lq_file_write_all(path, tok->json, tok->json_bytes);
}

size_t lq_tokenizer_vocab(const lq_tokenizer *tok) { return tok->bpe.n; }
uint32_t lq_tokenizer_end_of_text(const lq_tokenizer *tok) { return tok->end_of_text; }
const lq_digest *lq_tokenizer_digest(const lq_tokenizer *tok) { return &tok->digest; }

/* --- encoding --------------------------------------------------------------------------------- */

/* A pre-token met before in this text: its bytes are in the text and its ids among those already made,
 * so the cache holds two places and no copies. */
typedef struct met {
    size_t text, ids;      /* where */
    uint32_t bytes, n_ids; /* bytes 0: free */
} met;

typedef struct encoder {
    const lq_tokenizer *tok;
    const char *text;
    uint32_t *ids; /* grown with realloc */
    size_t n, room;
    met *cache; /* open addressing, at most half full */
    size_t n_cached, cache_mask;
    lq_bpe_work work;
} encoder;

static met *met_at(met *cache, size_t mask, const char *text, size_t from, size_t bytes)
{
    size_t i = (size_t)lq_bpe_hash(text + from, bytes) & mask;
    while (cache[i].bytes != 0 &&
           (cache[i].bytes != bytes || memcmp(text + cache[i].text, text + from, bytes) != 0))
        i = (i + 1) & mask;
    return &cache[i];
}

static lq_status grow_cache(encoder *e, size_t size)
{
    met *grown = calloc(size, sizeof *grown);
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "no memory to tokenize");
    for (size_t i = 0; e->cache && i <= e->cache_mask; i++)
        if (e->cache[i].bytes != 0)
            *met_at(grown, size - 1, e->text, e->cache[i].text, e->cache[i].bytes) = e->cache[i];
    free(e->cache);
    e->cache = grown;
    e->cache_mask = size - 1;
    return LQ_OK;
}

static lq_status remember(encoder *e, size_t from, size_t bytes, size_t first_id)
{
    if (2 * (e->n_cached + 1) > e->cache_mask) {
        if (e->cache_mask + 1 >= CACHE_LARGEST)
            return LQ_OK; /* full: what is rarer than the first half million is merged anew */
        LQ_TRY(grow_cache(e, 2 * (e->cache_mask + 1)));
    }
    *met_at(e->cache, e->cache_mask, e->text, from, bytes) =
        (met){from, first_id, (uint32_t)bytes, (uint32_t)(e->n - first_id)};
    e->n_cached++;
    return LQ_OK;
}

static lq_status reserve(encoder *e, size_t more)
{
    if (more <= e->room - e->n)
        return LQ_OK;
    size_t room = e->room;
    while (more > room - e->n)
        room = room ? 2 * room : 1024;
    uint32_t *grown =
        room <= SIZE_MAX / sizeof *grown ? realloc(e->ids, room * sizeof *grown) : NULL;
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "no memory for %zu token ids", room);
    e->ids = grown;
    e->room = room;
    return LQ_OK;
}

static lq_status on_piece(void *self, size_t from, size_t bytes, uint32_t added)
{
    encoder *e = self;
    LQ_TRY(reserve(e, bytes));
    if (added != LQ_NO_ID) {
        e->ids[e->n++] = added;
        return LQ_OK;
    }
    if (bytes <= LONGEST_CACHED) {
        const met *m = met_at(e->cache, e->cache_mask, e->text, from, bytes);
        if (m->bytes != 0) {
            memcpy(e->ids + e->n, e->ids + m->ids, m->n_ids * sizeof *e->ids);
            e->n += m->n_ids;
            return LQ_OK;
        }
    }
    size_t first = e->n, n;
    LQ_TRY(lq_bpe_encode(&e->tok->bpe, &e->work, e->text + from, bytes, e->ids + e->n, &n));
    e->n += n;
    return bytes <= LONGEST_CACHED ? remember(e, from, bytes, first) : LQ_OK;
}

lq_status lq_tokenizer_encode(const lq_tokenizer *tok, const char *text, size_t bytes,
                              lq_arena *arena, uint32_t **ids, size_t *n)
{
    encoder e = {.tok = tok, .text = text};
    size_t cache = 64;
    while (cache < bytes / 4 && cache < 4096)
        cache *= 2;
    *ids = NULL;
    *n = 0;
    lq_status status = grow_cache(&e, cache);
    if (status == LQ_OK)
        status = lq_pieces_split(&tok->pieces, text, bytes, on_piece, &e);
    if (status == LQ_OK)
        status = lq_arena_new(arena, ids, e.n);
    if (status == LQ_OK) {
        if (e.n > 0)
            memcpy(*ids, e.ids, e.n * sizeof *e.ids);
        *n = e.n;
    }
    lq_bpe_work_free(&e.work);
    free(e.cache);
    free(e.ids);
    return status;
}

lq_status lq_tokenizer_decode(const lq_tokenizer *tok, const uint32_t *ids, size_t n,
                              lq_arena *arena, char **text, size_t *bytes)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= tok->bpe.n || !tok->bpe.token[ids[i]].text)
            return lq_fail(LQ_E_OPTION, "token id %u is not in the vocabulary of %zu", ids[i],
                           tok->bpe.n);
        if (__builtin_add_overflow(total, tok->bpe.token[ids[i]].bytes, &total))
            return lq_fail(LQ_E_MEMORY, "the text of %zu token ids is too long", n);
    }
    if (total == SIZE_MAX)
        return lq_fail(LQ_E_MEMORY, "the text of %zu token ids is too long", n);
    LQ_TRY(lq_arena_new(arena, text, total + 1));
    char *to = *text;
    for (size_t i = 0; i < n; i++) {
        const lq_bpe_token *t = &tok->bpe.token[ids[i]];
        memcpy(to, t->text, t->bytes);
        to += t->bytes;
    }
    *bytes = total;
    return LQ_OK;
}

/* --- training --------------------------------------------------------------------------------- */

typedef struct counter { /* of distinct pre-tokens */
    const char *text;
    lq_bpe_word *words; /* grown with realloc */
    size_t n, room;
    uint32_t *slot; /* index into words, or LQ_NO_ID */
    size_t mask;
} counter;

static uint32_t *word_slot(const counter *c, const char *text, size_t bytes)
{
    size_t i = (size_t)lq_bpe_hash(text, bytes) & c->mask;
    for (; c->slot[i] != LQ_NO_ID; i = (i + 1) & c->mask) {
        const lq_bpe_word *w = &c->words[c->slot[i]];
        if (w->bytes == bytes && memcmp(w->text, text, bytes) == 0)
            break;
    }
    return &c->slot[i];
}

static lq_status grow_counter(counter *c)
{
    size_t room = c->room ? 2 * c->room : 1 << 14, slots = 2 * room;
    lq_bpe_word *words = room < UINT32_MAX ? realloc(c->words, room * sizeof *words) : NULL;
    if (words)
        c->words = words;
    uint32_t *slot = words ? malloc(slots * sizeof *slot) : NULL;
    if (!slot)
        return lq_fail(LQ_E_MEMORY, "no memory to count %zu distinct words", room);
    memset(slot, 0xFF, slots * sizeof *slot);
    free(c->slot);
    c->slot = slot;
    c->mask = slots - 1;
    c->room = room;
    for (size_t i = 0; i < c->n; i++)
        *word_slot(c, c->words[i].text, c->words[i].bytes) = (uint32_t)i;
    return LQ_OK;
}

static lq_status count_piece(void *self, size_t from, size_t bytes, uint32_t added)
{
    counter *c = self;
    if (added != LQ_NO_ID || bytes > LONGEST_WORD)
        return LQ_OK;
    if (c->n == c->room)
        LQ_TRY(grow_counter(c));
    uint32_t *slot = word_slot(c, c->text + from, bytes);
    if (*slot == LQ_NO_ID) {
        *slot = (uint32_t)c->n;
        c->words[c->n++] = (lq_bpe_word){c->text + from, bytes, 0};
    }
    c->words[*slot].count++;
    return LQ_OK;
}

/* Distinct pre-tokens of the text under our own pre-tokenizer; *words is owned by the caller. */
static lq_status count_words(const char *text, size_t bytes, lq_bpe_word **words, size_t *n)
{
    lq_added end = {LQ_END_OF_TEXT, sizeof LQ_END_OF_TEXT - 1, 0};
    lq_pieces pieces = {.n_steps = 1, .added = &end, .n_added = 1};
    counter c = {.text = text};
    LQ_TRY(lq_pattern_open(LQ_PIECES_GPT2, "the GPT-2 pattern", &pieces.step[0]));
    lq_pieces_index(&pieces);
    lq_status status = lq_pieces_split(&pieces, text, bytes, count_piece, &c);
    lq_pattern_close(pieces.step[0]);
    free(c.slot);
    *words = c.words;
    *n = c.n;
    return status;
}

/* Ids as Hugging Face's trainer gives them: the special token, then the bytes in the order of their
 * characters in the byte-level alphabet ('!' first), then the merges. */
static lq_status set_bytes(lq_bpe *bpe, lq_arena *arena)
{
    uint32_t id = 0;
    char *bytes;
    LQ_TRY(lq_arena_new(arena, &bytes, 256));
    lq_bpe_set_token(bpe, id++, LQ_END_OF_TEXT, sizeof LQ_END_OF_TEXT - 1, false);
    for (uint32_t character = 0; character < 0x144; character++)
        for (unsigned b = 0; b < 256; b++)
            if (lq_byte_character((unsigned char)b) == character) {
                bytes[b] = (char)b;
                lq_bpe_set_token(bpe, id++, &bytes[b], 1, true);
            }
    LQ_ASSERT(id == LOWEST_VOCAB);
    return LQ_OK;
}

static lq_status train(const lq_bpe_word *words, size_t n_words, size_t n_vocab, lq_arena *arena,
                       lq_tokenizer **out)
{
    lq_bpe bpe;
    uint64_t *merges;
    size_t n_merges, bytes;
    char *json;
    LQ_TRY(lq_bpe_init(&bpe, n_vocab, 0, arena));
    LQ_TRY(set_bytes(&bpe, arena));
    LQ_TRY(lq_bpe_learn(&bpe, words, n_words, arena, &merges, &n_merges));
    LQ_TRY(lq_tokenizer_compose(&bpe, merges, n_merges, arena, &json, &bytes));
    return lq_tokenizer_parse(json, bytes, "the trained tokenizer", out);
}

lq_status lq_tokenizer_train(const char *text, size_t bytes, size_t n_vocab, lq_tokenizer **out)
{
    if (n_vocab < LOWEST_VOCAB || n_vocab > LQ_BPE_HIGHEST_ID)
        return lq_fail(LQ_E_OPTION, "a vocabulary of %zu tokens: it must be %d to %d", n_vocab,
                       LOWEST_VOCAB, LQ_BPE_HIGHEST_ID);
    lq_arena arena = {0};
    lq_bpe_word *words = NULL;
    size_t n_words = 0;
    lq_status status = count_words(text, bytes, &words, &n_words);
    if (status == LQ_OK)
        status = train(words, n_words, n_vocab, &arena, out);
    free(words);
    lq_arena_close(&arena);
    return status;
}
