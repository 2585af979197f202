#include "core/data/batch.h"

static void permute(lq_batches *b, size_t epoch)
{
    lq_rng stream = lq_rng_split(&b->rng, "epoch", epoch);
    lq_rng_permutation(&stream, b->order, b->n_windows);
    b->epoch = epoch;
}

static lq_status start(lq_batches *b, lq_arena *arena)
{
    LQ_TRY(lq_arena_new(arena, &b->order, b->n_windows));
    permute(b, 0);
    return LQ_OK;
}

lq_status lq_batches_new(const uint32_t *token, size_t n_tokens, size_t T, const lq_rng *rng,
                         lq_arena *arena, lq_batches *out)
{
    if (T == 0 || n_tokens < T + 1)
        return lq_fail(LQ_E_SHAPE, "the data has %zu tokens, one sequence of %zu needs %zu",
                       n_tokens, T, T + 1);
    *out = (lq_batches){.token = token, .n_tokens = n_tokens, .T = T, .stride = T, .rng = *rng};
    out->n_windows = (n_tokens - 1) / T;
    return start(out, arena);
}

lq_status lq_batches_of_sequences(const uint32_t *token, size_t n_sequences, size_t T,
                                  const lq_rng *rng, lq_arena *arena, lq_batches *out)
{
    if (T == 0 || n_sequences == 0)
        return lq_fail(LQ_E_SHAPE, "the data has %zu sequences of %zu tokens", n_sequences, T + 1);
    *out = (lq_batches){.token = token,
                        .n_tokens = n_sequences * (T + 1),
                        .T = T,
                        .stride = T + 1,
                        .n_windows = n_sequences,
                        .rng = *rng};
    return start(out, arena);
}

void lq_batches_get(lq_batches *b, size_t index, uint32_t *tokens, uint32_t *targets)
{
    const size_t epoch = index / b->n_windows;
    if (epoch != b->epoch)
        permute(b, epoch);
    const uint32_t *from = b->token + (size_t)b->order[index % b->n_windows] * b->stride;
    for (size_t t = 0; t < b->T; t++) {
        tokens[t] = from[t];
        targets[t] = from[t + 1];
    }
}
