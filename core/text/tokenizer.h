/* Byte-level BPE in the Hugging Face tokenizer.json form: training, reading, writing, encoding,
 * decoding. The pre-tokenizer of our own files is ByteLevel with the GPT-2 pattern.
 *
 *     lq_tokenizer *tok;
 *     LQ_TRY(lq_tokenizer_read("tokenizer.json", &tok));
 *     uint32_t *ids; size_t n;
 *     LQ_TRY(lq_tokenizer_encode(tok, text, bytes, arena, &ids, &n));
 *     lq_tokenizer_free(tok); */
#ifndef LQ_TEXT_TOKENIZER_H
#define LQ_TEXT_TOKENIZER_H

#include "core/base/arena.h"
#include "core/base/sha256.h"
#include "core/base/status.h"

#include <stdint.h>

typedef struct lq_tokenizer lq_tokenizer;

/* Trains n_vocab tokens (>= 257: the special token "<|endoftext|>" is id 0, then the 256 bytes) on
 * `bytes` of text: pre-tokens are counted, then the most frequent pair (ties: the pair of smaller ids)
 * is merged until the vocabulary is full. Deterministic. LQ_E_OPTION, LQ_E_MEMORY. */
lq_status lq_tokenizer_train(const char *text, size_t bytes, size_t n_vocab, lq_tokenizer **out);
/* Refuses by name every component that it does not know. LQ_E_MISSING, LQ_E_FORMAT. */
lq_status lq_tokenizer_read(const char *path, lq_tokenizer **out);
lq_status lq_tokenizer_write(const lq_tokenizer *tok, const char *path);
void lq_tokenizer_free(lq_tokenizer *tok);

size_t lq_tokenizer_vocab(const lq_tokenizer *tok);
uint32_t lq_tokenizer_end_of_text(const lq_tokenizer *tok);    /* UINT32_MAX: has none */
const lq_digest *lq_tokenizer_digest(const lq_tokenizer *tok); /* of the tokenizer.json text */

/* Ids of the text, special tokens inside it recognized, none added. The ids live in the arena. */
lq_status lq_tokenizer_encode(const lq_tokenizer *tok, const char *text, size_t bytes,
                              lq_arena *arena, uint32_t **ids, size_t *n);
/* Bytes of the ids, NUL-terminated, in the arena. LQ_E_OPTION: an id outside the vocabulary. */
lq_status lq_tokenizer_decode(const lq_tokenizer *tok, const uint32_t *ids, size_t n,
                              lq_arena *arena, char **text, size_t *bytes);

#endif
