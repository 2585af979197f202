/* Text to tokens: corpora through a tokenizer, kept in the cache by both digests. */
#ifndef LQ_EXPERIMENTS_DATA_H
#define LQ_EXPERIMENTS_DATA_H

#include "core/base/arena.h"
#include "core/base/sha256.h"
#include "core/text/tokenizer.h"

typedef struct lq_data {
    const char *name;        /* as the user gave it */
    uint32_t *token;         /* (n) */
    size_t n, bytes;         /* tokens; bytes of text */
    lq_digest digest, whole; /* of the split's text; of the whole corpus */
} lq_data;

/* DATA: "techdocs:SPLIT" or the path of a text file. Errors as lq_corpus_load and the tokenizer. */
lq_status lq_data_load(const char *data, const lq_tokenizer *tok, lq_arena *arena, lq_data *out);

#endif
