/* Training text that the full-precision model writes itself, kept in the cache.
 *
 *     teacher       LLM-QAT, arXiv:2305.17888 (released code): a random token, then 2, 3 or 4 of the likeliest,
 *                   then samples, to the end of the sequence; after an end of text a new one begins
 *     continuation  BitDistiller, arXiv:2402.10631: the first tokens of windows of real text, then samples
 *
 * Sequence i depends on the seed and i alone, so a shorter set is a prefix of a longer one.
 * docs/decisions/0086 says where this differs from the releases. */
#ifndef LQ_EXPERIMENTS_GENERATED_H
#define LQ_EXPERIMENTS_GENERATED_H

#include "core/base/rng.h"
#include "experiments/data.h"
#include "experiments/model.h"
#include "experiments/recipe.h"

typedef struct lq_written { /* sequences of T + 1 tokens: core/data/batch.h */
    uint32_t *token;        /* (n_sequences, T + 1) */
    size_t n_sequences, T;
    lq_digest digest; /* of everything that they depend on */
} lq_written;

/* recipe->train: data_from, sampling, prompt, context; text: of continuations, else NULL. Taken from
 * $LCQAT_CACHE/generated, or written and put there. LQ_E_SHAPE: text of less than a window; and what
 * lq_generate_tokens says. */
lq_status lq_written_get(const lq_model *model, const lq_recipe *recipe, const lq_data *text,
                         const lq_rng *rng, size_t n_sequences, lq_arena *arena, lq_written *out);

#endif
