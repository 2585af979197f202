/* Text out of a model: sampling, one continuation as it comes, many continuations into a buffer of
 * tokens (the training data of distillation without data, arXiv:2305.17888). Tokens, not letters: the
 * tokenizer is the caller's affair. */
#ifndef LQ_EVAL_GENERATE_H
#define LQ_EVAL_GENERATE_H

#include "core/base/arena.h"
#include "core/model/weights.h"

typedef struct lq_sampling {
    double temperature; /* logits are divided by it; 0: the largest wins, the first of equals */
    double top_p;       /* draws from the fewest tokens that hold this share; 1: from all */
} lq_sampling;

/* One token by logits (V). scratch is given back. LQ_E_NUMERIC: a logit is not finite. */
lq_status lq_sample(const float *logits, size_t V, const lq_sampling *how, lq_rng *rng,
                    lq_arena *scratch, uint32_t *out);

typedef struct lq_generate_how {
    lq_sampling sampling;
    size_t n; /* new tokens at most */
    const uint32_t *stop;
    size_t n_stop; /* tokens that end the text; they are not passed on */
} lq_generate_how;
typedef struct lq_generated {
    size_t n_prompt, n; /* tokens read, tokens passed on */
    bool ended;         /* by a token of `stop` */
    double prefill_s, decode_s;
} lq_generated;
/* Passes each new token to on_token, whose failure ends the text. LQ_E_OPTION: no prompt, a token outside
 * the vocabulary, or more positions than the model has; LQ_E_STOPPED. */
typedef lq_status (*lq_on_token)(void *context, uint32_t token);
lq_status lq_generate(const lq_weights *w, const uint32_t *prompt, size_t n_prompt,
                      const lq_generate_how *how, lq_rng *rng, lq_on_token on_token, void *context,
                      lq_generated *out);

typedef struct lq_generate_tokens_how {
    lq_sampling sampling;
    size_t T;              /* tokens of a sequence */
    size_t at_once;        /* sequences side by side: memory and speed, never the result */
    const uint32_t *start; /* every text begins with these (BOS); none: with a random token */
    size_t n_start;
    const uint32_t *stop; /* after one of these a new text begins in the same sequence */
    size_t n_stop;
    size_t n_greedy; /* so many tokens after the start are the likeliest, as LLM-QAT has it */
} lq_generate_tokens_how;
/* Fills token (n_sequences,T). Sequence i depends on rng and i alone. A text does not see the one before
 * it. Errors as above. */
lq_status lq_generate_tokens(const lq_weights *w, const lq_generate_tokens_how *how,
                             const lq_rng *rng, size_t n_sequences, uint32_t *token);

#endif
