#include "core/quant/lcqat.h"

#include "core/base/log.h"
#include "core/math/kernels.h"
#include "core/quant/hadamard.h"

#include <math.h>
#include <string.h>

lq_status lq_lcqat_regularize(double *H, size_t n, double sigma)
{
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            if (!isfinite(H[i * n + j]))
                return lq_fail(LQ_E_NUMERIC,
                               "gram of order %zu: entry (%zu,%zu) is not finite; "
                               "look at the calibration's activations",
                               n, i, j);
            if (i == j)
                trace += H[i * n + j];
        }
    const double mean = trace / (double)n;
    if (mean < 0)
        return lq_fail(LQ_E_NUMERIC, "gram of order %zu has a negative trace; collect it anew", n);
    if (mean == 0) {
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                H[i * n + j] = i == j;
        return LQ_OK;
    }
    for (size_t i = 0; i < n * n; i++)
        H[i] /= mean;
    for (size_t i = 0; i < n; i++)
        H[i * n + i] += sigma;
    return LQ_OK;
}

/* ---- The codebook ------------------------------------------------------------------------------- */

/* What the matrix is rounded with. An orthogonal G is one more rotation of every d columns: the words then
 * are those of the scalar grid, and rounding needs no search. */
typedef struct coder {
    lq_rounder rounder;
    lq_scalar_grid scalar;
    lq_word_list list;
    lq_word_table table;
    bool turned; /* wr and hr are turned by I x G */
} coder;

/* x (rows,d) times G (d,d), for count vectors, stride apart; or times G'. */
#define TURN_VECTORS(name, real)                                                                  \
    static void name(real *x, size_t count, size_t stride, size_t step, size_t d, const float *G, \
                     bool back)                                                                   \
    {                                                                                             \
        for (size_t v = 0; v < count; v++) {                                                      \
            real old[LQ_LATTICE_LARGEST], *to = x + v * stride;                                   \
            for (size_t i = 0; i < d; i++)                                                        \
                old[i] = to[i * step];                                                            \
            for (size_t j = 0; j < d; j++) {                                                      \
                double sum = 0;                                                                   \
                for (size_t i = 0; i < d; i++)                                                    \
                    sum += (double)old[i] * (double)(back ? G[j * d + i] : G[i * d + j]);         \
                to[j * step] = (real)sum;                                                         \
            }                                                                                     \
        }                                                                                         \
    }
TURN_VECTORS(turn_f32, float)
TURN_VECTORS(turn_f64, double)

/* H becomes (I x G)' H (I x G). */
static void turn_gram(double *H, size_t n, size_t d, const float *G)
{
    turn_f64(H, n * n / d, d, 1, d, G, false);
    for (size_t k = 0; k < n; k += d)
        turn_f64(H + k * n, n, 1, n, d, G, false);
}

/* A and B are fitted to the weights as the first grid meets them, on at most so many vectors. */
enum { FIT_VECTORS = 16384, FIT_ROUNDS = 20, FEW_WORDS = 256 };

static lq_status learn(const lq_lcqat_rounding *how, const float *wr, size_t count, double scale,
                       lq_lattice *lattice, lq_arena *scratch)
{
    const size_t d = how->d, all = count / d, taken = all < FIT_VECTORS ? all : FIT_VECTORS;
    lq_mark mark = lq_arena_mark(scratch);
    float *x = lq_arena_f32(scratch, taken * d);
    double mse;
    for (size_t v = 0; v < taken; v++)
        for (size_t i = 0; i < d; i++)
            x[v * d + i] = (float)((double)wr[v * all / taken * d + i] / scale);
    lq_status status = lq_lattice_fit(lattice, x, taken, FIT_ROUNDS, &mse, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

/* Turns wr (count) and hr when G can be got rid of that way. */
static lq_status new_coder(const lq_lcqat_rounding *how, float *wr, size_t count, double *hr,
                           size_t n, double scale, coder *c, lq_lattice *lattice, lq_arena *scratch)
{
    float affine[2];
    lq_lattice_uniform(how->levels, how->d, how->G, lattice);
    if (how->bf16) {
        LQ_TRY(lq_word_list_new(how->levels, how->d, how->G, true, scratch, &c->list));
        lq_lattice_of(how->levels, how->d, c->list.A, c->list.B, lattice);
        c->table = lq_word_list_table(&c->list);
        c->rounder = lq_rounder_table(&c->table);
        return LQ_OK;
    }
    if (how->lattice == LQ_LATTICE_LEARNED) {
        if (scale > 0)
            LQ_TRY(learn(how, wr, count, scale, lattice, scratch));
        if (pow((double)how->levels, (double)how->d) > FEW_WORDS) {
            c->rounder = lq_rounder_lattice(lattice);
            return LQ_OK;
        }
        LQ_TRY(lq_word_list_of(lattice, scratch, &c->list));
        c->table = lq_word_list_table(&c->list);
        c->rounder = lq_rounder_table(&c->table);
        return LQ_OK;
    }
    lq_lattice_affine(how->levels, false, affine);
    c->scalar = (lq_scalar_grid){.levels = how->levels, .step = affine[0], .offset = affine[1]};
    c->rounder = lq_rounder_scalar(&c->scalar);
    c->turned = how->G != NULL;
    if (c->turned)
        turn_f32(wr, count / how->d, how->d, 1, how->d, how->G, false);
    if (c->turned && hr != NULL)
        turn_gram(hr, n, how->d, how->G);
    return LQ_OK;
}

/* ---- Rounding ----------------------------------------------------------------------------------- */

/* More and more on the diagonal: 0, then 10, 100, 1000 sigma, as the released code. */
static lq_status plan_damped(const lq_lcqat_rounding *how, double *h, size_t m, size_t n,
                             lq_ldlq_plan *plan, double *damping, lq_arena *scratch)
{
    const double sigma = how->sigma > 0 ? how->sigma : 0.01;
    *damping = 0;
    lq_status status = lq_ldlq_plan_new(h, n, &how->ldlq, scratch, plan);
    for (double more = 10 * sigma; status == LQ_E_NUMERIC && more <= 1001 * sigma; more *= 10) {
        lq_log_warn("rounding a %zu x %zu weight: %s; trying again with %g added", m, n,
                    lq_status_note(), more);
        for (size_t i = 0; i < n; i++)
            h[i * n + i] += more - *damping;
        *damping = more;
        status = lq_ldlq_plan_new(h, n, &how->ldlq, scratch, plan);
    }
    return status;
}

static void scale_by(float *to, const float *from, size_t count, double factor)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (float)((double)from[i] * factor);
}

enum { SEARCH_ROWS = 128, SEARCH_SWEEPS = 2 };

/* Of the candidates, the g of least proxy error on SEARCH_ROWS rows: rows are rounded independently of one
 * another, so that some of them stand for all. */
static lq_status search_scale(const lq_lcqat_rounding *how, const lq_ldlq_plan *plan,
                              const coder *c, const float *wr, size_t m, double rms, double *g,
                              lq_arena *scratch)
{
    const size_t n = plan->n, rows = m < SEARCH_ROWS ? m : SEARCH_ROWS;
    lq_ldlq_opts brief = how->ldlq;
    brief.sweeps = brief.sweeps < SEARCH_SWEEPS ? brief.sweeps : SEARCH_SWEEPS;
    lq_mark mark = lq_arena_mark(scratch);
    float *sample = lq_arena_f32(scratch, rows * n), *value = lq_arena_f32(scratch, rows * n);
    double least = (double)INFINITY;
    const double centre = *g;
    lq_ldlq_result result;
    uint16_t *code;
    lq_status status = lq_arena_new(scratch, &code, rows * n);
    for (size_t k = 0; k < how->candidates && status == LQ_OK; k++) {
        const double share = how->candidates > 1 ? (double)k / (double)(how->candidates - 1) : 0.75;
        const double tried = centre * (0.88 + 0.16 * share);
        for (size_t i = 0; i < rows; i++)
            scale_by(sample + i * n, wr + i * m / rows * n, n, tried / rms);
        status =
            lq_ldlq_run(plan, sample, rows, &c->rounder, &brief, value, code, &result, scratch);
        if (status == LQ_OK && result.proxy < least) {
            least = result.proxy;
            *g = tried;
        }
    }
    lq_arena_release(scratch, mark);
    return status;
}

/* Numbers of words become digits, the first column's the most significant. */
static void digits_of(uint8_t *digit, const uint16_t *code, size_t count, const coder *c,
                      size_t levels)
{
    const size_t d = c->rounder.numbered ? c->rounder.vector : 1;
    for (size_t i = 0; i < count / d; i++) {
        size_t rest = code[i];
        for (size_t j = d; j-- > 0; rest /= levels)
            digit[i * d + j] = (uint8_t)(rest % levels);
    }
}

static lq_status round_incoherent(const lq_lcqat_rounding *how, float *wr, double *hr, size_t m,
                                  size_t n, double rms, lq_lcqat_rounded *out, lq_arena *scratch)
{
    coder c = {0};
    lq_ldlq_plan plan;
    uint16_t *code;
    double started = lq_clock_wall_s();
    LQ_TRY(new_coder(how, wr, m * n, hr, n, rms / out->g, &c, &out->lattice, scratch));
    lq_laps_add(how->laps, "codebook", lq_clock_wall_s() - started);
    LQ_TRY(plan_damped(how, hr, m, n, &plan, &out->damping, scratch));
    lq_laps_add(how->laps, "ldl", plan.seconds);
    started = lq_clock_wall_s();
    if (how->candidates > 0 && rms > 0)
        LQ_TRY(search_scale(how, &plan, &c, wr, m, rms, &out->g, scratch));
    lq_laps_add(how->laps, "search", lq_clock_wall_s() - started);
    out->scale = rms / out->g;
    if (rms > 0)
        scale_by(wr, wr, m * n, 1 / out->scale);
    LQ_TRY(lq_arena_new(scratch, &code, m * n));
    LQ_TRY(
        lq_ldlq_run(&plan, wr, m, &c.rounder, &how->ldlq, out->value, code, &out->ldlq, scratch));
    lq_laps_add(how->laps, "ldlq", out->ldlq.ldlq_s);
    lq_laps_add(how->laps, "sweeps", out->ldlq.sweeps_s);
    digits_of(out->code, code, m * n, &c, how->levels);
    if (c.turned)
        turn_f32(out->value, m * n / how->d, how->d, 1, how->d, how->G, true);
    return LQ_OK;
}

static lq_status rotate_and_round(const lq_lcqat_rounding *how, const float *w, const double *h,
                                  size_t m, size_t n, const float *sign_m, const float *sign_n,
                                  lq_lcqat_rounded *out, lq_arena *scratch)
{
    const double started = lq_clock_wall_s();
    lq_rotation qm, qn;
    double *hr = NULL;
    LQ_TRY(lq_rotation_new(how->rotation, m, how->hadamard_cap, scratch, &qm));
    LQ_TRY(lq_rotation_new(how->rotation, n, how->hadamard_cap, scratch, &qn));
    float *wr = lq_arena_f32(scratch, m * n);
    memcpy(wr, w, m * n * sizeof *wr);
    lq_scale_both(wr, m, n, sign_m, sign_n);
    lq_rotate_in(wr, m, n, &qm, &qn);
    const double rms = sqrt(lq_sum_squares(wr, m * n) / (double)(m * n));
    if (rms > 0 && h != NULL) {
        hr = lq_arena_f64(scratch, n * n);
        memcpy(hr, h, n * n * sizeof *hr);
        lq_rotate_gram(hr, n, sign_n, &qn, scratch);
    }
    out->g = how->g > 0 ? how->g : lq_lattice_best_scale(how->levels);
    lq_laps_add(how->laps, "rotate", lq_clock_wall_s() - started);
    return round_incoherent(how, wr, hr, m, n, rms, out, scratch);
}

lq_status lq_lcqat_round_matrix(const lq_lcqat_rounding *how, const float *w, const double *h,
                                size_t m, size_t n, const float *sign_m, const float *sign_n,
                                lq_arena *keep, lq_lcqat_rounded *out, lq_arena *scratch)
{
    *out = (lq_lcqat_rounded){0};
    if ((how->G != NULL || how->bf16 || how->lattice == LQ_LATTICE_LEARNED) && n % how->d != 0)
        return lq_fail(LQ_E_SHAPE, "words of %zu weights do not fit a row of %zu", how->d, n);
    LQ_TRY(lq_arena_new(keep, &out->code, m * n));
    LQ_TRY(lq_arena_new(keep, &out->value, m * n));
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status = rotate_and_round(how, w, h, m, n, sign_m, sign_n, out, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

static double norm(const float *x, size_t n) { return sqrt(lq_sum_squares(x, n)); }

void lq_lcqat_balance(float *su, size_t n, float *sv, size_t m, double epsilon)
{
    const double a = norm(su, n), v = norm(sv, m);
    if (!(a > 0 && v > 0))
        return;
    const double t = sqrt(a * v + epsilon);
    for (size_t j = 0; j < n; j++)
        su[j] = (float)((double)su[j] * (t / a));
    for (size_t i = 0; i < m; i++)
        sv[i] = (float)((double)sv[i] * (t / v));
}

double lq_lcqat_kappa(size_t out, size_t in) { return sqrt((double)out + (double)in) / 2; }

double lq_lcqat_kappa_paper(size_t levels, size_t out, size_t in)
{
    return (double)(levels - 1) * sqrt(((double)out + (double)in) / 24);
}

void lq_lcqat_proxy_of_u(float *proxy, const float *u, size_t count, double kappa, double mu)
{
    for (size_t i = 0; i < count; i++)
        proxy[i] = (float)(((double)u[i] - mu) / kappa);
}

void lq_lcqat_u_of_proxy(float *u, const float *proxy, size_t count, double kappa, double mu)
{
    for (size_t i = 0; i < count; i++)
        u[i] = (float)(kappa * (double)proxy[i] + mu);
}
