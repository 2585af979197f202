#include "core/quant/step.h"

#include "core/math/kernels.h"

#include <math.h>
#include <string.h>

/* ---- grids ---- */

lq_step_grid lq_step_sign(void)
{
    return (lq_step_grid){.levels = 2,
                          .lo = -1,
                          .hi = 1,
                          .gate_lo = -1,
                          .gate_hi = 1,
                          .below = -1,
                          .above = 1,
                          .top = 1};
}

lq_step_grid lq_step_stretched(size_t levels)
{
    const bool four = levels == 4;
    const float top = four ? 0.75f : 2.0f / 3.0f;
    return (lq_step_grid){.levels = levels,
                          .lo = -0.99f,
                          .hi = 0.99f,
                          .scale = four ? 2 : 1.5f,
                          .shift = four ? 0.5f : 0,
                          .gate_lo = -0.99f,
                          .gate_hi = 0.99f,
                          .below = -top,
                          .above = top,
                          .top = top,
                          .first = four ? -2 : -1};
}

lq_step_grid lq_step_integer(size_t levels)
{
    const int half = (int)levels / 2;
    const float lo = (float)-half, hi = (float)(half - 1);
    return (lq_step_grid){.levels = levels,
                          .lo = lo,
                          .hi = hi,
                          .scale = 1,
                          .gate_lo = lo,
                          .gate_hi = hi,
                          .below = lo,
                          .above = hi,
                          .top = hi,
                          .first = -half};
}

lq_step_grid lq_step_affine(int q_max, int zero)
{
    const float lo = (float)-zero, hi = (float)(q_max - zero);
    lq_step_grid g = {.levels = (size_t)q_max + 1,
                      .lo = lo,
                      .hi = hi,
                      .scale = 1,
                      .gate_lo = lo - 0.5f,
                      .gate_hi = hi + 0.5f,
                      .below = lo,
                      .above = hi,
                      .top = hi,
                      .first = -zero};
    /* Ties go to even: one of the two neighbours of a bound takes the bound itself. */
    if (rintf(g.gate_lo) < lo)
        g.gate_lo = nextafterf(g.gate_lo, INFINITY);
    if (rintf(g.gate_hi) > hi)
        g.gate_hi = nextafterf(g.gate_hi, -INFINITY);
    return g;
}

void lq_step_open_gate(lq_step_grid *g)
{
    g->gate_lo = nextafterf(g->gate_lo, INFINITY);
    g->gate_hi = nextafterf(g->gate_hi, -INFINITY);
}

/* ---- a row ---- */

void lq_step_forward(const lq_step_grid *g, const float *w, size_t n, float alpha, float *w_eff)
{
    if (g->levels > 2) {
        lq_kernels()->seq_fwd(w_eff, w, n, alpha, g->lo, g->hi, g->scale, g->shift);
        return;
    }
    for (size_t j = 0; j < n; j++)
        w_eff[j] = fabsf(w[j]) > 0 ? copysignf(alpha, w[j]) : w[j]; /* a zero and a NaN stay */
}

/* dw += dw_eff times the slope of the gate. */
static void add_sloped(const lq_step_grid *g, const float *dw_eff, const float *w, size_t n,
                       float alpha, float *dw)
{
    for (size_t j = 0; j < n; j++) {
        const float u = w[j] / alpha;
        if (g->gate_lo <= u && u <= g->gate_hi)
            dw[j] += dw_eff[j] * lq_stable_slope(g->stable, g->scale * u - g->shift);
    }
}

void lq_step_backward(const lq_step_grid *g, const float *dw_eff, const float *w, size_t n,
                      float alpha, float *dw, double *dalpha)
{
    const bool sloped = g->stable.amplitude > 0;
    if (g->levels > 2) {
        lq_kernels()->seq_bwd(sloped ? NULL : dw, dalpha, dw_eff, w, n, alpha, g->gate_lo,
                              g->gate_hi, g->scale, g->shift, g->below, g->above);
        if (sloped && dw != NULL)
            add_sloped(g, dw_eff, w, n, alpha, dw);
        return;
    }
    for (size_t j = 0; j < n; j++)
        *dalpha += fabsf(w[j]) > 0 ? (double)dw_eff[j] * (double)copysignf(1, w[j]) : 0;
    for (size_t j = 0; j < n && dw != NULL; j++)
        dw[j] += fabsf(w[j] / alpha) <= 1 ? dw_eff[j] : 0.0f;
}

uint8_t lq_step_code(const lq_step_grid *g, float w, float alpha)
{
    if (g->levels == 2)
        return w >= 0; /* a zero has no sign, but its bit needs one: docs/decisions/0017 */
    float u = w / alpha, c = u < g->lo ? g->lo : u > g->hi ? g->hi : u;
    return (uint8_t)((int)rintf(c * g->scale - g->shift) - g->first);
}

float lq_step_level(const lq_step_grid *g, uint8_t code)
{
    return g->levels == 2 ? (float)(2 * code - 1)
                          : ((float)(code + g->first) + g->shift) / g->scale;
}

lq_step_size lq_step_measure(const float *w, size_t n)
{
    double sum = 0;
    float top = 0;
    for (size_t j = 0; j < n; j++) {
        sum += fabs((double)w[j]);
        top = fabsf(w[j]) > top ? fabsf(w[j]) : top;
    }
    return (lq_step_size){.mean = sum / (double)n, .top = top};
}

/* Squared error of a row under alpha, and the alpha of least error for the codes alpha chose. */
static double row_error(const lq_step_grid *g, const float *w, size_t n, float alpha, float *w_eff,
                        float *better)
{
    double error = 0, across = 0, along = 0;
    lq_step_forward(g, w, n, alpha, w_eff);
    for (size_t j = 0; j < n; j++) {
        double e = (double)w_eff[j] - (double)w[j];
        error += e * e;
        across += (double)w[j] * (double)w_eff[j];
        along += (double)w_eff[j] * (double)w_eff[j];
    }
    *better = along > 0 ? (float)((double)alpha * across / along) : alpha;
    return error;
}

typedef struct search { /* for the alpha of least error of one row */
    const lq_step_grid *g;
    const float *w;
    size_t n;
    float *scratch;   /* (n) */
    float best, next; /* the best alpha so far, and the best one for its codes */
    double least;     /* squared error of best */
} search;

static bool improves(search *s, double alpha)
{
    float better, tried = lq_step_floored((float)alpha);
    double error = row_error(s->g, s->w, s->n, tried, s->scratch, &better);
    if (!(error < s->least))
        return false;
    s->best = tried;
    s->next = better;
    s->least = error;
    return true;
}

/* The error as a function of alpha has many shallow minima, so: the best of 81 alphas, 9 % apart, from
 * where the outer level meets the largest weight down to 2^-10 of that; of 15 more, 1 % apart, around
 * it; from there, in turn, the best alpha for these codes and the best codes for this alpha, while the
 * error falls. */
float lq_step_best(const lq_step_grid *g, const float *w, size_t n, float top, float *scratch)
{
    search s = {g, w, n, scratch, .best = top, .next = top, .least = HUGE_VAL};
    for (int k = 0; k <= 80; k++)
        improves(&s, (double)top / (double)g->top * exp2(-k / 8.0));
    double middle = (double)s.best;
    for (int k = -7; k <= 7; k++)
        improves(&s, middle * exp2(k / 64.0));
    for (int k = 0; k < 50 && improves(&s, (double)s.next); k++)
        ;
    return s.best;
}

/* ---- theta ---- */

lq_slot lq_latent_slot(size_t out, size_t in)
{
    return (lq_slot){.name = "latent",
                     .kind = LQ_KIND_CONTINUOUS,
                     .rows = out,
                     .cols = in,
                     .train = true,
                     .grad_scale = 1};
}

lq_slot lq_alpha_slot(const char *name, size_t rows, double grad_scale)
{
    return (lq_slot){.name = name,
                     .kind = LQ_KIND_CONTINUOUS,
                     .rows = rows,
                     .cols = 1,
                     .train = true,
                     .grad_scale = grad_scale};
}

float lq_step_floored(float alpha) { return alpha < 1e-5f ? 1e-5f : alpha; /* a NaN stays one */ }

static lq_step_grid grid_of(const lq_theta *th) { return th->method->step_grid(th->opts); }

/* The alpha of a row, floored. */
static float alpha_of(const lq_theta *th, size_t row)
{
    const float *alpha = th->data[LQ_STEP_ALPHA];
    return lq_step_floored(alpha[th->slot[LQ_STEP_ALPHA].rows == 1 ? 0 : row]);
}

static float first_alpha(const lq_step_grid *g, lq_step_start start, const float *w, size_t n,
                         float *scratch)
{
    const lq_step_size size = lq_step_measure(w, n);
    if (start == LQ_STEP_FROM_MEAN)
        return (float)size.mean;
    if (start == LQ_STEP_FROM_LSQ)
        return (float)(2 * size.mean / sqrt((double)g->hi));
    if (start == LQ_STEP_FROM_MSE && size.top > 0)
        return lq_step_best(g, w, n, size.top, scratch);
    return g->scale == 1 ? size.top / g->hi : size.top; /* 1: integer */
}

lq_status lq_step_init(lq_theta *th, lq_step_start start, const float *w, lq_arena *scratch)
{
    const lq_step_grid g = grid_of(th);
    const size_t steps = th->slot[LQ_STEP_ALPHA].rows, n = th->out * th->in / steps;
    float *alpha = th->data[LQ_STEP_ALPHA];
    LQ_TRY(lq_check_finite(th->method->name, w, th->out, th->in));
    memcpy(th->data[LQ_STEP_LATENT], w, th->out * th->in * sizeof *w);
    lq_mark mark = lq_arena_mark(scratch);
    float *row = lq_arena_f32(scratch, n);
    for (size_t i = 0; i < steps; i++)
        alpha[i] = first_alpha(&g, start, w + i * n, n, row);
    lq_arena_release(scratch, mark);
    return LQ_OK;
}

void lq_step_effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const lq_step_grid g = grid_of(th);
    const float *latent = th->data[LQ_STEP_LATENT];
    for (size_t i = 0; i < th->out; i++)
        lq_step_forward(&g, latent + i * th->in, th->in, alpha_of(th, i), w_eff + i * th->in);
}

void lq_step_backprop(const lq_theta *th, const float *dw_eff, float *const *grad,
                      lq_arena *scratch)
{
    (void)scratch;
    const lq_step_grid g = grid_of(th);
    const float *latent = th->data[LQ_STEP_LATENT];
    const bool one_for_all = th->slot[LQ_STEP_ALPHA].rows == 1;
    float *dlatent = grad[LQ_STEP_LATENT], *dalpha = grad[LQ_STEP_ALPHA];
    double sum = 0;
    if (dlatent == NULL && dalpha == NULL)
        return;
    for (size_t i = 0; i < th->out; i++) {
        const size_t row = i * th->in;
        sum = one_for_all ? sum : 0;
        lq_step_backward(&g, dw_eff + row, latent + row, th->in, alpha_of(th, i),
                         dlatent != NULL ? dlatent + row : NULL, &sum);
        if (dalpha != NULL && !one_for_all)
            dalpha[i] += (float)sum;
    }
    if (dalpha != NULL && one_for_all)
        dalpha[0] += (float)sum;
}

/* One weight of the surrogate: w_eff and u of base, how far the latent and alpha have moved. */
static double moved_weight(const lq_step_grid *g, double w_eff, float u, double alpha, double dw,
                           double dalpha)
{
    const bool inside = g->gate_lo <= u && u <= g->gate_hi;
    if (g->levels == 2)
        return (alpha + dalpha) * (w_eff / alpha) + (inside ? dw : 0);
    if (!inside)
        return w_eff + dalpha * (double)(u < g->gate_lo ? g->below : g->above);
    const double slope =
        g->stable.amplitude > 0 ? (double)lq_stable_slope(g->stable, g->scale * u - g->shift) : 1;
    return w_eff + slope * dw + dalpha * (w_eff / alpha - (double)u);
}

void lq_step_surrogate(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch)
{
    const lq_step_grid g = grid_of(base);
    const float *latent = base->data[LQ_STEP_LATENT], *moved = at->data[LQ_STEP_LATENT];
    const bool one_for_all = base->slot[LQ_STEP_ALPHA].rows == 1;
    lq_step_effective(base, w, scratch);
    for (size_t i = 0; i < base->out; i++) {
        const size_t a = one_for_all ? 0 : i;
        const float alpha = alpha_of(base, i);
        const double dalpha = (double)((const float *)at->data[LQ_STEP_ALPHA])[a] -
                              (double)((const float *)base->data[LQ_STEP_ALPHA])[a];
        for (size_t j = 0; j < base->in; j++, latent++, moved++, w++)
            *w = (float)moved_weight(&g, (double)*w, *latent / alpha, (double)alpha,
                                     (double)*moved - (double)*latent, dalpha);
    }
}

lq_status lq_step_pack(const lq_theta *th, lq_sink *bytes)
{
    const lq_step_grid g = grid_of(th);
    const char *who = th->method->name;
    const float *latent = th->data[LQ_STEP_LATENT], *alpha = th->data[LQ_STEP_ALPHA];
    const size_t n_steps = th->slot[LQ_STEP_ALPHA].rows;
    uint8_t *codes;
    float *steps;
    LQ_TRY(lq_arena_new(bytes->arena, &codes, th->out * th->in));
    LQ_TRY(lq_arena_new(bytes->arena, &steps, n_steps));
    LQ_TRY(lq_check_finite(who, latent, th->out, th->in));
    LQ_TRY(lq_check_finite(who, alpha, n_steps, 1));
    for (size_t i = 0; i < n_steps; i++)
        steps[i] = lq_step_floored(alpha[i]);
    for (size_t i = 0; i < th->out; i++)
        for (size_t j = i * th->in; j < (i + 1) * th->in; j++)
            codes[j] = lq_step_code(&g, latent[j], alpha_of(th, i));
    LQ_TRY(lq_sink_f16(bytes, steps, n_steps));
    return lq_sink_codes(bytes, codes, th->out, th->in, g.levels);
}

lq_status lq_step_unpack(lq_theta *th, lq_source *bytes)
{
    const lq_step_grid g = grid_of(th);
    float *latent = th->data[LQ_STEP_LATENT], *alpha = th->data[LQ_STEP_ALPHA];
    const lq_slot *slot = &th->slot[LQ_STEP_ALPHA];
    LQ_TRY(lq_source_f16(bytes, alpha, slot->rows));
    for (size_t i = 0; i < slot->rows; i++)
        if (alpha[i] < 1e-5f)
            return lq_fail(LQ_E_FORMAT, "%s: %s of row %zu is %g, below its floor", bytes->where,
                           slot->name, i, (double)alpha[i]);
    lq_arena room = {0};
    uint8_t *code;
    lq_status status = lq_arena_new(&room, &code, th->in);
    for (size_t i = 0; i < th->out && status == LQ_OK; i++, latent += th->in) {
        status = lq_source_codes(bytes, code, 1, th->in, g.levels);
        for (size_t j = 0; j < th->in && status == LQ_OK; j++)
            latent[j] = lq_step_level(&g, code[j]) * alpha_of(th, i);
    }
    lq_arena_close(&room);
    return status;
}
