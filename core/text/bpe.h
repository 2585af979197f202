/* Byte-pair encoding: the vocabulary, the merges, and what they make of a pre-token, whose symbols are
 * bytes or characters. Private to core/text; the tokenizer's interface is tokenizer.h. */
#ifndef LQ_TEXT_BPE_H
#define LQ_TEXT_BPE_H

#include "core/base/arena.h"
#include <stdint.h>

#define LQ_NO_ID UINT32_MAX
enum { LQ_BPE_HIGHEST_ID = (1 << 24) - 1 };

typedef struct lq_bpe_token {
    const char *text; /* its bytes; NULL: no token has this id */
    size_t bytes;
} lq_bpe_token;
typedef struct lq_bpe_merge {
    uint64_t pair; /* left << 32 | right; LQ_BPE_NO_PAIR: free slot */
    uint32_t rank, id;
} lq_bpe_merge;
#define LQ_BPE_NO_PAIR UINT64_MAX

typedef struct lq_bpe {
    lq_bpe_token *token;   /* (room) by id */
    size_t n, room;        /* n: highest id + 1 */
    uint32_t byte_id[256]; /* of the tokens of one byte */
    uint32_t *slot;        /* hash table of ids by their bytes; open addressing */
    size_t slot_mask;
    lq_bpe_merge *merge; /* hash table by pair; open addressing */
    size_t merge_mask;
    bool ignore_merges; /* a pre-token that is a token is taken whole */
    bool characters;    /* symbols are characters of UTF-8; else bytes */
    /* What becomes of a character without a token: its bytes, when all of them have one here; else the
     * unknown token, one for a run of them when they fuse; else nothing. */
    uint32_t fallback[256], unknown;
    bool byte_fallback, fuse_unknown;
    uint64_t *joins; /* lq_bpe_allow_cuts; NULL: a pre-token is not cut */
} lq_bpe;

/* Empty tables for ids below n_ids and n_merges merges, in the arena. LQ_E_MEMORY. */
lq_status lq_bpe_init(lq_bpe *bpe, size_t n_ids, size_t n_merges, lq_arena *arena);
lq_status lq_bpe_init_merges(lq_bpe *bpe, size_t n_merges, lq_arena *arena); /* none again */
/* `text` is borrowed. `mergeable`: it can be found by its bytes. The id must be below room and free. */
void lq_bpe_set_token(lq_bpe *bpe, uint32_t id, const char *text, size_t bytes, bool mergeable);
uint32_t lq_bpe_find(const lq_bpe *bpe, const char *text, size_t bytes); /* or LQ_NO_ID */
/* left + right become id; a pair set twice has the later rank. At most n_merges of lq_bpe_init. */
void lq_bpe_set_merge(lq_bpe *bpe, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);

/* Instead of a list of merges: any two tokens merge whose bytes together are a token that has a rank (by
 * id; LQ_NO_ID: none), the lowest rank first. So SentencePiece and tiktoken do. LQ_E_FORMAT: a token of
 * more than 1024 bytes (`where` names the file); LQ_E_MEMORY. */
lq_status lq_bpe_merge_all(lq_bpe *bpe, const uint32_t *rank, const char *where, lq_arena *arena);

/* Notes which neighbours a merge may join, so that a long pre-token can be cut between any others without
 * a change of its ids. Does nothing where an unknown symbol or a merge of bytes of the fallback could
 * reach across. Call it once all is set. LQ_E_MEMORY. */
lq_status lq_bpe_allow_cuts(lq_bpe *bpe, lq_arena *arena);
/* Bytes before the first such place in the pre-token, and before the last one that is inside no character
 * (0: there is none). */
size_t lq_bpe_first_cut(const lq_bpe *bpe, const char *text, size_t bytes);
size_t lq_bpe_last_cut(const lq_bpe *bpe, const char *text, size_t bytes);

/* Buffers for long pre-tokens; {0} to begin with, a thread has its own. */
typedef struct lq_bpe_work {
    struct lq_bpe_node *node;
    struct lq_bpe_entry *heap;
    size_t node_room, heap_room;
} lq_bpe_work;
void lq_bpe_work_free(lq_bpe_work *work);

/* Ids of one pre-token into ids[0, bytes); *n of them. Of characters, bytes that are no UTF-8 are
 * characters of one byte. Adjacent pairs of the lowest rank are merged first, the leftmost of
 * equals. LQ_E_MEMORY. */
lq_status lq_bpe_encode(const lq_bpe *bpe, lq_bpe_work *work, const char *text, size_t bytes,
                        uint32_t *ids, size_t *n);
/* As lq_bpe_encode, always by the heap: for tests, which compare the two. */
lq_status lq_bpe_encode_long(const lq_bpe *bpe, lq_bpe_work *work, const char *text, size_t bytes,
                             uint32_t *ids, size_t *n);

typedef struct lq_bpe_word { /* a distinct pre-token of a training text */
    const char *text;
    size_t bytes;
    uint64_t count;
} lq_bpe_word;
/* Learns merges until the vocabulary is full (bpe->n == bpe->room), starting from the byte tokens in
 * `bpe`; adds tokens to it and writes the pairs to merges, of which there may be more than new tokens
 * when two merges make the same bytes. LQ_E_OPTION: the words have no more pairs. LQ_E_MEMORY. */
lq_status lq_bpe_learn(lq_bpe *bpe, const lq_bpe_word *words, size_t n_words, lq_arena *arena,
                       uint64_t **merges, size_t *n_merges);

/* 64-bit hash of bytes; the same on every machine of one byte order, never stored. */
uint64_t lq_bpe_hash(const char *text, size_t bytes);
static inline uint64_t lq_bpe_pair(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}
static inline uint64_t lq_bpe_mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

#endif
