#include "core/data/batch.h"

static void permute(lq_batches *b, size_t epoch)
{
    lq_rng stream = lq_rng_split(&b->rng, "epoch", epoch);
    lq_rng_permutation(&stream, b->order, b->n_windows);
    b->epoch = epoch;
}

lq_status lq_batches_new(const uint32_t *token, size_t n_tokens, size_t T, const lq_rng *rng,
                         lq_arena *arena, lq_batches *out)
{
    if (T == 0 || n_tokens < T + 1)
        return lq_fail(LQ_E_SHAPE, "the data has %zu tokens, one sequence of %zu needs %zu",
                       n_tokens, T, T + 1);
    *out = (lq_batches){.token = token, .n_tokens = n_tokens, .T = T, .rng = *rng};
    out->n_windows = (n_tokens - 1) / T;
    LQ_TRY(lq_arena_new(arena, &out->order, out->n_windows));
    permute(out, 0);
    return LQ_OK;
}

void lq_batches_get(lq_batches *b, size_t index, uint32_t *tokens, uint32_t *targets)
{
    const size_t epoch = index / b->n_windows;
    if (epoch != b->epoch)
        permute(b, epoch);
    const uint32_t *from = b->token + (size_t)b->order[index % b->n_windows] * b->T;
    for (size_t t = 0; t < b->T; t++) {
        tokens[t] = from[t];
        targets[t] = from[t + 1];
    }
}
