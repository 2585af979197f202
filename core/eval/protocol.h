/* The protocols by which the field scores a model on C4, exactly: the same documents, crops and tokens as
 * the code that printed the published numbers. Those on a plain stream of tokens need nothing but
 * core/eval/perplexity.h. docs/metrics.md tells them apart. */
#ifndef LQ_EVAL_PROTOCOL_H
#define LQ_EVAL_PROTOCOL_H

#include "core/base/arena.h"

enum { LQ_C4_WINDOWS = 256, LQ_C4_NEW_DOCUMENTS = 1100 };

/* The tokens of a text, with what the tokenizer puts around one. Ids in the arena. */
typedef struct lq_encode {
    void *self;
    lq_status (*run)(void *self, const char *text, size_t bytes, lq_arena *arena, uint32_t **ids,
                     size_t *n);
} lq_encode;

/* "c4" of GPTQ, QuIP# and AQLM: 256 crops of T tokens, one behind the other. Python's generator with seed
 * 0 draws a document among all, anew while it has less than T tokens, then where the crop begins, up to
 * length - T - 1, so that a document's last token is in no crop. A document of just T tokens is taken
 * whole, without a draw (AQLM; GPTQ's own code fails there). Documents come more than once.
 * path: JSON lines, en/c4-validation.00000-of-00008.json.gz. LQ_E_SHAPE: no document is so long. */
lq_status lq_c4_crop(const char *path, size_t T, const lq_encode *encode, lq_arena *arena,
                     uint32_t **ids, size_t *n);
/* "c4_new" of GPTQ, AQLM, and "c4" of LightCompress: the first 1100 documents joined by a space, tokenized
 * once, the first 256 T tokens of that. */
lq_status lq_c4_new(const char *path, size_t T, const lq_encode *encode, lq_arena *arena,
                    uint32_t **ids, size_t *n);

#endif
