/* Tokenizers of language models: byte-level BPE and SentencePiece's BPE with byte fallback, from the
 * files that models are published with; and the training of our own.
 *
 *     lq_tokenizer *tok;
 *     LQ_TRY(lq_tokenizer_open("models/Llama-3.2-1B", &tok));    // a directory or one file
 *     uint32_t *ids; size_t n;
 *     LQ_TRY(lq_tokenizer_encode(tok, text, bytes, arena, &ids, &n));
 *     lq_tokenizer_free(tok);
 *
 * The ids are those of Hugging Face `tokenizers` for the same files. Bytes that are no UTF-8 (which that
 * library never sees) pass through unharmed. */
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

/* A directory: its tokenizer.json, else vocab.json and merges.txt (or encoder.json and vocab.bpe), else
 * tokenizer.model, else tokenizer.bin. A file: any of these by its content (SentencePiece, tiktoken) or,
 * for llama2.c, the end ".bin". What is not known is refused by name. LQ_E_MISSING, LQ_E_FORMAT. */
lq_status lq_tokenizer_open(const char *path, lq_tokenizer **out);
/* Only a tokenizer.json; its text, which `where` names in notes. */
lq_status lq_tokenizer_read(const char *path, lq_tokenizer **out);
lq_status lq_tokenizer_parse(const char *json, size_t bytes, const char *where, lq_tokenizer **out);
/* The file it was read from or trained into. LQ_E_UNAVAILABLE: it comes from no tokenizer.json. */
lq_status lq_tokenizer_write(const lq_tokenizer *tok, const char *path);
void lq_tokenizer_free(lq_tokenizer *tok); /* NULL is fine */

typedef enum lq_token_type { /* as SentencePiece and GGUF number them */
                             LQ_TOKEN_NORMAL = 1,
                             LQ_TOKEN_UNKNOWN = 2,
                             LQ_TOKEN_CONTROL = 3,
                             LQ_TOKEN_USER = 4,
                             LQ_TOKEN_UNUSED = 5,
                             LQ_TOKEN_BYTE = 6
} lq_token_type;
typedef enum lq_parts_kind {
    LQ_PARTS_SCORES, /* SentencePiece: tokens in UTF-8, U+2581 for a space; highest score first */
    LQ_PARTS_MERGES, /* byte-level BPE: tokens in the byte-level alphabet, and a list of merges */
    LQ_PARTS_RANKS   /* tiktoken: tokens as their bytes, the lowest id first */
} lq_parts_kind;
typedef struct lq_bytes {
    const char *text;
    size_t bytes;
} lq_bytes;
/* A tokenizer in pieces, as GGUF's metadata, tokenizer.model and vocab.json hold it. All is borrowed. */
typedef struct lq_tokenizer_parts {
    const char *where; /* for notes */
    lq_parts_kind kind;
    /* MERGES, RANKS: the pre-tokenizer by llama.cpp's name: "gpt-2", "llama-bpe", "qwen2", "smollm", ...
     * (core/text/families.c). NULL or "" is "default". */
    const char *pre;
    size_t n;
    const lq_bytes *token; /* (n); text NULL: no token has this id */
    const float *score;    /* (n); SCORES only */
    const int32_t *type;   /* (n) lq_token_type; NULL: all are normal */
    const lq_bytes *merge; /* (n_merges) "a b"; MERGES only */
    size_t n_merges;
    uint32_t bos, eos;     /* UINT32_MAX: none */
    bool add_bos, add_eos; /* by LQ_ENCODE_SPECIAL */
    bool no_space_prefix;  /* SCORES: a text does not begin with a space of its own */
    bool squeeze_spaces;   /* SCORES: SentencePiece's remove_extra_whitespaces */
    bool no_byte_fallback; /* SCORES: the byte tokens are not used */
} lq_tokenizer_parts;
/* LQ_E_FORMAT: the parts contradict each other, or name a pre-tokenizer that is not known. */
lq_status lq_tokenizer_from_parts(const lq_tokenizer_parts *parts, lq_tokenizer **out);

size_t lq_tokenizer_vocab(const lq_tokenizer *tok);            /* highest id + 1 */
uint32_t lq_tokenizer_end_of_text(const lq_tokenizer *tok);    /* UINT32_MAX: has none */
const lq_digest *lq_tokenizer_digest(const lq_tokenizer *tok); /* of the files or parts */
/* Ids that LQ_ENCODE_SPECIAL puts before a text and after it; borrowed. */
const uint32_t *lq_tokenizer_before(const lq_tokenizer *tok, size_t *n);
const uint32_t *lq_tokenizer_after(const lq_tokenizer *tok, size_t *n);

enum {
    LQ_ENCODE_SPECIAL =
        1,              /* as the model was trained: with the post-processor's tokens (one BOS) */
    LQ_ENCODE_PLAIN = 2 /* special tokens in the text are text */
};
/* Ids of the text, special tokens inside it recognized, none added. The ids live in the arena. */
lq_status lq_tokenizer_encode(const lq_tokenizer *tok, const char *text, size_t bytes,
                              lq_arena *arena, uint32_t **ids, size_t *n);
lq_status lq_tokenizer_encode_with(const lq_tokenizer *tok, const char *text, size_t bytes,
                                   unsigned flags, lq_arena *arena, uint32_t **ids, size_t *n);

/* The ids of a text that comes in parts, the same as those of the whole:
 *
 *     LQ_TRY(lq_encoder_open(tok, 0, &e));
 *     while (...) {
 *         LQ_TRY(lq_encoder_feed(e, part, bytes, is_last));
 *         ids = lq_encoder_take(e, &n);           // valid until the next call
 *     }
 *
 * Memory is that of a part and of the longest pre-token. Where the tokenizer cannot be cut (a normalizer
 * that strips, a pattern that looks behind) all ids come with the last part. */
typedef struct lq_encoder lq_encoder;
lq_status lq_encoder_open(const lq_tokenizer *tok, unsigned flags, lq_encoder **out);
lq_status lq_encoder_feed(lq_encoder *encoder, const char *text, size_t bytes, bool last);
const uint32_t *lq_encoder_take(lq_encoder *encoder, size_t *n);
void lq_encoder_close(lq_encoder *encoder); /* NULL is fine */

enum {
    LQ_DECODE_NO_SPECIAL = 1, /* special tokens are left out */
    LQ_DECODE_REPLACE = 2     /* bytes that are no UTF-8 become U+FFFD, as Hugging Face has it */
};
/* Bytes of the ids, NUL-terminated, in the arena. LQ_E_OPTION: an id outside the vocabulary. */
lq_status lq_tokenizer_decode(const lq_tokenizer *tok, const uint32_t *ids, size_t n,
                              lq_arena *arena, char **text, size_t *bytes);
lq_status lq_tokenizer_decode_with(const lq_tokenizer *tok, const uint32_t *ids, size_t n,
                                   unsigned flags, lq_arena *arena, char **text, size_t *bytes);

#endif
