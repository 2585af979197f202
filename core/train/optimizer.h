/* AdamW over a list of parameters, each with its own learning rate, decay and gradient scale; global
 * gradient-norm clipping. Moments live with the parameter, so a checkpoint is the list written down. */
#ifndef LQ_TRAIN_OPTIMIZER_H
#define LQ_TRAIN_OPTIMIZER_H

#include "core/base/arena.h"
#include "core/base/status.h"

typedef struct lq_param {
    const char *name;
    float *w, *g; /* borrowed (n) */
    float *m, *v; /* (n) moments */
    size_t n;
    double lr;         /* peak */
    double grad_scale; /* the gradient is multiplied by it first */
    double decay, centre;
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

#endif
