/* Training of our own tokenizers. */
#include "core/text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

/* Pre-tokens longer than this do not take part in training: runs of one character, encoded data. */
enum { LONGEST_WORD = 256, LOWEST_VOCAB = 257 };

typedef struct counter { /* of distinct pre-tokens */
    lq_bpe_word *words;  /* grown with realloc */
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

/* The pieces lie in the text itself: our pre-tokenizer writes nothing anew. */
static lq_status count_piece(void *self, const char *text, size_t bytes, const lq_added *added)
{
    counter *c = self;
    if (added || bytes > LONGEST_WORD)
        return LQ_OK;
    if (c->n == c->room)
        LQ_TRY(grow_counter(c));
    uint32_t *slot = word_slot(c, text, bytes);
    if (*slot == LQ_NO_ID) {
        *slot = (uint32_t)c->n;
        c->words[c->n++] = (lq_bpe_word){text, bytes, 0};
    }
    c->words[*slot].count++;
    return LQ_OK;
}

static lq_status split_all(const lq_pieces *pieces, const char *text, size_t bytes, counter *c)
{
    lq_splitter *splitter;
    lq_rest rest;
    LQ_TRY(lq_splitter_open(pieces, false, count_piece, c, &splitter));
    lq_status status = lq_splitter_feed(splitter, text, bytes, 0, true, &rest);
    lq_splitter_close(splitter);
    return status;
}

/* Distinct pre-tokens of the text under our own pre-tokenizer; *words is owned by the caller. */
static lq_status count_words(const char *text, size_t bytes, lq_arena *arena, lq_bpe_word **words,
                             size_t *n)
{
    lq_added end = {.text = LQ_END_OF_TEXT, .bytes = sizeof LQ_END_OF_TEXT - 1, .special = true};
    lq_added_entry entry = {end.text, end.bytes, &end};
    lq_pieces pieces = {.n_steps = 1, .raw = {.entry = &entry, .n = 1}};
    counter c = {0};
    LQ_TRY(lq_added_index(&pieces.raw, arena));
    LQ_TRY(lq_added_index(&pieces.normalized, arena));
    LQ_TRY(lq_pattern_open(LQ_PIECES_GPT2, "the GPT-2 pattern", &pieces.step[0].pattern));
    lq_status status = split_all(&pieces, text, bytes, &c);
    lq_pattern_close(pieces.step[0].pattern);
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
    lq_status status = count_words(text, bytes, &arena, &words, &n_words);
    if (status == LQ_OK)
        status = train(words, n_words, n_vocab, &arena, out);
    free(words);
    lq_arena_close(&arena);
    return status;
}
