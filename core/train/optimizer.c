#include "core/train/optimizer.h"

#include "core/math/kernels.h"

#include <math.h>

enum { CHUNK = 16384 }; /* work of one thread at a time; results do not depend on it */

double lq_params_grad_norm(const lq_param *param, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n; i++)
        total += param[i].grad_scale * param[i].grad_scale * lq_sum_squares(param[i].g, param[i].n);
    return sqrt(total);
}

void lq_adamw_step(const lq_adamw *opt, lq_param *param, size_t n, size_t t, double factor,
                   double grad_norm)
{
    const double c1 = 1 - pow(opt->beta1, (double)t), c2 = 1 - pow(opt->beta2, (double)t);
    const double clip = opt->clip > 0 && grad_norm > opt->clip ? opt->clip / grad_norm : 1.0;
    for (size_t i = 0; i < n; i++) {
        lq_param *p = &param[i];
        const size_t n_chunks = (p->n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) if (n_chunks > 4)
        for (size_t c = 0; c < n_chunks; c++) {
            const size_t at = c * CHUNK, count = p->n - at < CHUNK ? p->n - at : CHUNK;
            lq_kernels()->adamw(p->w + at, p->m + at, p->v + at, p->g + at, count,
                                (float)(p->lr * factor), (float)opt->beta1, (float)opt->beta2,
                                (float)opt->eps, (float)p->decay, (float)p->centre,
                                (float)(p->grad_scale * clip), (float)c1, (float)c2);
        }
    }
}
