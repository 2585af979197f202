/* Training sequences out of one array of token ids: windows of T inputs and T targets (the next token
 * each), visited in a seeded permutation. Sequence i of a run depends on (seed, i) alone, so a fraction of
 * the data is a prefix: 0.1 % lies inside 1 %, which lies inside 10 %. */
#ifndef LQ_DATA_BATCH_H
#define LQ_DATA_BATCH_H

#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/base/status.h"

typedef struct lq_batches {
    const uint32_t *token; /* borrowed (n_tokens) */
    size_t n_tokens, T, n_windows;
    size_t
        stride; /* from a window's first token to the next one's: T, or T + 1 of whole sequences */
    lq_rng rng;
    uint32_t *order; /* (n_windows) the permutation of `epoch` */
    size_t epoch;
} lq_batches;

/* LQ_E_SHAPE: fewer than T + 1 tokens. */
lq_status lq_batches_new(const uint32_t *token, size_t n_tokens, size_t T, const lq_rng *rng,
                         lq_arena *arena, lq_batches *out);
/* Windows that share no token: sequences of T + 1 tokens each that belong together (generated texts). */
lq_status lq_batches_of_sequences(const uint32_t *token, size_t n_sequences, size_t T,
                                  const lq_rng *rng, lq_arena *arena, lq_batches *out);
/* Sequence `index` (0, 1, 2, ... without end; every n_windows a new permutation). */
void lq_batches_get(lq_batches *b, size_t index, uint32_t *tokens, uint32_t *targets);

#endif
