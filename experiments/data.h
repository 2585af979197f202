/* Text to tokens: what a data set's name means, through a tokenizer, kept in the cache by both digests. */
#ifndef LQ_EXPERIMENTS_DATA_H
#define LQ_EXPERIMENTS_DATA_H

#include "core/base/arena.h"
#include "core/base/sha256.h"
#include "core/eval/perplexity.h"
#include "core/text/tokenizer.h"

typedef struct lq_data {
    const char *name;        /* as the user gave it */
    uint32_t *token;         /* (n) */
    size_t n, bytes;         /* tokens; bytes of text, 0: not counted */
    lq_digest digest, whole; /* of the split's text; of the whole corpus */
} lq_data;

/* DATA: "techdocs[:SPLIT]", "NAME[:SPLIT]" of the catalog (the split "train", where none is named), a data
 * set's name with a file of one's own, "wikitext2:path/to/wiki.test.raw", or the path of a text file. Texts
 * that come as documents have the tokenizer's end-of-text token behind each. LQ_E_OPTION: no such split;
 * LQ_E_MISSING: not fetched yet; else as lq_corpus_load, lq_documents_each and the tokenizer. */
lq_status lq_data_load(const char *data, const lq_tokenizer *tok, lq_arena *arena, lq_data *out);

typedef struct lq_eval_data { /* tokens, and how a protocol scores them */
    lq_data data;
    const char *protocol; /* "gptq", "c4-crop", "c4-new", "llama.cpp" */
    lq_windows windows;   /* of data.token; limit is the caller's */
    uint32_t bos;         /* what the tokenizer puts before a text; UINT32_MAX: nothing */
} lq_eval_data;

/* Windows of T tokens (0: the protocol's own length) of DATA as above, with the split "test" or
 * "validation" where none is named; or of "c4-crop[:FILE]", "c4-new[:FILE]", "llama.cpp[:DATA]". A tokenizer
 * that puts special tokens around a text does so here, once a text. */
lq_status lq_eval_data_load(const char *data, const lq_tokenizer *tok, size_t T, lq_arena *arena,
                            lq_eval_data *out);

#endif
