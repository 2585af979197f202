/* First-order optimizers over a list of parameters, each with its own learning rate, decay and gradient
 * scale; global gradient-norm clipping. Moments live with the parameter, so a checkpoint is the list
 * written down. */
#ifndef LQ_TRAIN_OPTIMIZER_H
#define LQ_TRAIN_OPTIMIZER_H

#include "core/base/arena.h"
#include "core/base/status.h"

typedef struct lq_param {
    const char *name;
    float *w, *g; /* borrowed (n) */
    float *m, *v; /* (n) moments; v: AdamW only, m: AdamW and Lion */
    size_t n;
    double lr;         /* peak */
    double grad_scale; /* the gradient is multiplied by it first */
    double decay, centre;
    double lowest, highest; /* w is kept within, after each step; both 0: anywhere */
} lq_param;

typedef struct lq_adamw {
    double beta1, beta2, eps;
    double clip; /* bound on the norm of the scaled gradients; 0 = none */
} lq_adamw;

/* Norm of all gradients, scaled; NaN or infinite when one is. Same bits whatever the thread count. */
double lq_params_grad_norm(const lq_param *param, size_t n);
/* One step: t counts from 1; factor multiplies every lr. */
void lq_adamw_step(const lq_adamw *opt, lq_param *param, size_t n, size_t t, double factor,
                   double grad_norm);

typedef enum lq_optimizer_kind {
    LQ_OPTIMIZER_ADAMW,
    LQ_OPTIMIZER_LION,    /* arXiv:2302.06675, alg. 2 */
    LQ_OPTIMIZER_SIGN_SGD /* w -= lr sign(g); SignRound's, arXiv:2309.05516 */
} lq_optimizer_kind;
#define LQ_OPTIMIZER_WORDS "adamw|lion|sign_sgd"

/* One step of any of them, and of their bounds. Lion, with c = beta1 m + (1 - beta1) g:
 *     w -= lr (sign(c) + decay (w - centre)),   m = beta2 m + (1 - beta2) g
 * sign(0) = 0. Decay is decoupled everywhere; numbers->clip bounds the gradient as in lq_adamw_step. */
void lq_optimizer_step(lq_optimizer_kind kind, const lq_adamw *numbers, lq_param *param, size_t n,
                       size_t t, double factor, double grad_norm);

#endif
