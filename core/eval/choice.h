/* Which continuation a model finds likelier: the log-likelihoods of the choices of a task, and what they come
 * to. Tokens, boundaries and truncation are those of lm-evaluation-harness (HFLM.loglikelihood).
 *
 *     LQ_TRY(lq_choice_weigh(&w, &encode, &questions, arena, &answers));
 *     lq_choice_conclude(&questions, &answers, &result); */
#ifndef LQ_EVAL_CHOICE_H
#define LQ_EVAL_CHOICE_H

#include "core/eval/protocol.h"
#include "core/eval/task.h"
#include "core/model/weights.h"

typedef struct lq_answer { /* to one question */
    double *ll;            /* (n) nats of each continuation, <= 0 */
    bool *greedy; /* (n) would the model have said just that, always the likeliest token? */
} lq_answer;

typedef struct lq_answers {
    lq_answer *answer; /* (n) as the questions */
    size_t n_tokens;   /* of the continuations: those that were scored */
    size_t n_cut;      /* choices whose context lost its beginning */
} lq_answers;

/* A pair of context c and continuation s becomes tokens as follows. White space at the end of c moves to the
 * beginning of s. The tokens of s are those of c + s from the number of tokens of c on: the boundary is a
 * count, also where a token reaches over it. The model reads the tokens of c and of s but for the last one; of
 * more than max_positions it reads the last ones. encode puts before a text what its tokens begin with (BOS) and
 * nothing behind it. LQ_E_FORMAT: a continuation without a token of its own; LQ_E_OPTION: one of more than
 * max_positions, or a token outside the vocabulary; LQ_E_NUMERIC; LQ_E_STOPPED. The same bits on any thread
 * count. */
lq_status lq_choice_weigh(const lq_weights *w, const lq_encode *encode, const lq_questions *q,
                          lq_arena *arena, lq_answers *out);

typedef struct lq_choice_result {
    size_t n;
    /* Share of questions whose right choice has the largest log-likelihood, the first of equals; of last words:
     * that are greedy. Normed: the largest log-likelihood a character, a choice of none being the least. */
    double acc, acc_norm;
    /* exp of the mean of -ll, of a whole last word each; NaN where choices are weighed */
    double perplexity;
    /* Standard errors: s / sqrt(n), s with n - 1; of the perplexity by the delta method. NaN where n = 1. */
    double acc_error, acc_norm_error, perplexity_error;
} lq_choice_result;
void lq_choice_conclude(const lq_questions *q, const lq_answers *answers, lq_choice_result *out);
/* The index that acc, or acc_norm, goes by. */
size_t lq_choice_best(const lq_question *question, const lq_answer *answer, bool normed);

#endif
