/* Perplexity by the protocol of the GPTQ paper: the text is one stream of tokens, cut into windows of
 * T tokens that do not overlap; the remainder is dropped; each window predicts its tokens 2..T; the result
 * is exp of the mean nats per predicted token. docs/metrics.md */
#ifndef LQ_EVAL_PERPLEXITY_H
#define LQ_EVAL_PERPLEXITY_H

#include "core/base/arena.h"
#include "core/model/llama.h"

typedef struct lq_perplexity {
    double ppl, nats_per_token;
    size_t T, n_windows, n_predicted; /* window length, windows, predicted tokens */
    double *window_nats;              /* (n_windows) mean nats of each window */
} lq_perplexity;

/* limit: at most so many windows, 0 = all. LQ_E_SHAPE: not one whole window; LQ_E_OPTION: a token
 * outside the vocabulary; LQ_E_NUMERIC: not finite; LQ_E_STOPPED. The same bits on any thread count. */
lq_status lq_perplexity_of(const lq_weights *w, const uint32_t *token, size_t n, size_t T,
                           size_t limit, lq_arena *arena, lq_perplexity *out);

#endif
