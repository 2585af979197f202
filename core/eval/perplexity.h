/* Perplexity: a stream of tokens is cut into windows of T that do not overlap, the remainder is dropped;
 * each window predicts its tokens from those before them in the window; the result is exp of the mean nats
 * per predicted token. As in the GPTQ paper all tokens but a window's first are predicted; llama.cpp predicts
 * those of the second half. docs/metrics.md */
#ifndef LQ_EVAL_PERPLEXITY_H
#define LQ_EVAL_PERPLEXITY_H

#include "core/base/arena.h"
#include "core/model/llama.h"

typedef struct lq_windows {
    const uint32_t *token; /* (n) */
    size_t n, T;           /* of the stream; of a window, >= 2 */
    size_t limit;          /* at most so many windows; 0: all */
    size_t
        context; /* tokens of a window that are read only; 0 counts as 1: the first has no past */
    uint32_t begin; /* stands in for each window's first token; UINT32_MAX: nothing does */
} lq_windows;

typedef struct lq_perplexity {
    double ppl, nats_per_token;
    double nats_error;                /* standard error of nats_per_token, over predicted tokens */
    size_t T, n_windows, n_predicted; /* window length, windows, predicted tokens */
    double *window_nats;              /* (n_windows) mean nats of each window */
} lq_perplexity;

/* LQ_E_SHAPE: not one whole window, or a window that predicts nothing; LQ_E_OPTION: a token outside the
 * vocabulary; LQ_E_NUMERIC: not finite; LQ_E_STOPPED. The same bits on any thread count. */
lq_status lq_perplexity_windows(const lq_weights *w, const lq_windows *windows, lq_arena *arena,
                                lq_perplexity *out);
/* The windows of GPTQ: all of them, or the first `limit`. */
lq_status lq_perplexity_of(const lq_weights *w, const uint32_t *token, size_t n, size_t T,
                           size_t limit, lq_arena *arena, lq_perplexity *out);

#endif
