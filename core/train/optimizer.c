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

static float sign_of(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f; }

static void sign_step(lq_optimizer_kind kind, const lq_adamw *opt, lq_param *p, double factor,
                      double scale)
{
    const float beta1 = (float)opt->beta1, beta2 = (float)opt->beta2, lr = (float)(p->lr * factor);
    for (size_t i = 0; i < p->n; i++) {
        const float g = (float)scale * p->g[i];
        float along = g;
        if (kind == LQ_OPTIMIZER_LION) {
            along = beta1 * p->m[i] + (1 - beta1) * g;
            p->m[i] = beta2 * p->m[i] + (1 - beta2) * g;
        }
        p->w[i] -= lr * (sign_of(along) + (float)p->decay * (p->w[i] - (float)p->centre));
    }
}

static void keep_within(lq_param *p)
{
    const float lowest = (float)p->lowest, highest = (float)p->highest;
    for (size_t i = 0; lowest < highest && i < p->n; i++)
        p->w[i] = p->w[i] < lowest ? lowest : p->w[i] > highest ? highest : p->w[i];
}

void lq_optimizer_step(lq_optimizer_kind kind, const lq_adamw *numbers, lq_param *param, size_t n,
                       size_t t, double factor, double grad_norm)
{
    const double clip =
        numbers->clip > 0 && grad_norm > numbers->clip ? numbers->clip / grad_norm : 1.0;
    if (kind == LQ_OPTIMIZER_ADAMW)
        lq_adamw_step(numbers, param, n, t, factor, grad_norm);
    for (size_t i = 0; i < n; i++) {
        if (kind != LQ_OPTIMIZER_ADAMW)
            sign_step(kind, numbers, &param[i], factor, param[i].grad_scale * clip);
        keep_within(&param[i]);
    }
}
