#include "core/quant/ldlq.h"

#include "core/base/clock.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/math/linalg.h"

#include <math.h>
#include <string.h>

/* Columns of a panel: what lies between panels is one matrix product. Rows of a strip: what one thread
 * rounds at a time, so that its part of a panel (32 kB) stays in the first cache. Below PARALLEL_FROM rows
 * a panel takes less than a millisecond, and waking a thread on a busy machine takes longer. */
enum { PANEL = 128, STRIP = 64, PARALLEL_FROM = 128, D_MAX = LQ_LDLQ_LARGEST_BLOCK };

static lq_status check_block(size_t n, size_t d)
{
    if (d == 0 || d > D_MAX || PANEL % d != 0 || n % d != 0)
        return lq_fail(LQ_E_SHAPE,
                       "blocks of %zu columns do not fit a width of %zu; take 1, 2 or 4", d, n);
    return LQ_OK;
}

/* X (rows,d), leading dimension n, times the inverse of the lower triangular or full B (d,d). */
static void multiply_right(double *X, size_t rows, size_t n, const double *B, size_t d)
{
    for (size_t i = 0; i < rows; i++) {
        double old[D_MAX];
        for (size_t a = 0; a < d; a++)
            old[a] = X[i * n + a];
        for (size_t b = 0; b < d; b++) {
            double sum = 0;
            for (size_t a = 0; a < d; a++)
                sum += old[a] * B[a * d + b];
            X[i * n + b] = sum;
        }
    }
}

static void set_identity_block(double *X, size_t n, size_t at, size_t d)
{
    for (size_t a = 0; a < d; a++)
        for (size_t b = 0; b < d; b++)
            X[(at + a) * n + at + b] = a == b ? 1 : 0;
}

/* H = Lc Lc'; with the diagonal block R of Lc, D = R R' and L = Lc R^-1, block column by block column. */
lq_status lq_block_ldl(const double *H, size_t n, size_t d, double *L, double *D)
{
    LQ_TRY(check_block(n, d));
    memcpy(L, H, n * n * sizeof *L);
    LQ_TRY(lq_cholesky(L, n));
    for (size_t k = 0; k < n; k += d) {
        double R[D_MAX * D_MAX];
        double *block = D + k * d;
        for (size_t a = 0; a < d; a++)
            for (size_t b = 0; b < d; b++)
                R[a * d + b] = L[(k + a) * n + k + b];
        for (size_t a = 0; a < d; a++)
            for (size_t b = 0; b < d; b++) {
                block[a * d + b] = 0;
                for (size_t c = 0; c < d; c++)
                    block[a * d + b] += R[a * d + c] * R[b * d + c];
            }
        lq_lower_inverse(R, d);
        multiply_right(L + (k + d) * n + k, n - k - d, n, R, d);
        set_identity_block(L, n, k, d);
    }
    return LQ_OK;
}

/* ---- The loss ---------------------------------------------------------------------------------- */

double lq_quadratic_trace(const float *X, const double *H, size_t m, size_t n, lq_arena *scratch)
{
    enum { ROWS = 64 };
    lq_mark mark = lq_arena_mark(scratch);
    double *x = lq_arena_f64(scratch, ROWS * n), *xh = lq_arena_f64(scratch, ROWS * n), total = 0;
    for (size_t at = 0; at < m; at += ROWS) {
        size_t rows = m - at < ROWS ? m - at : ROWS;
        for (size_t i = 0; i < rows * n; i++)
            x[i] = (double)X[at * n + i];
        if (H != NULL)
            lq_gemm_nn_f64(rows, n, n, 1, x, n, H, n, 0, xh, n);
        const double *y = H != NULL ? xh : x;
        for (size_t i = 0; i < rows * n; i++)
            total += x[i] * y[i];
    }
    lq_arena_release(scratch, mark);
    return total;
}

double lq_proxy_error(const float *W, const float *What, const double *H, size_t m, size_t n,
                      lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    float *E = lq_arena_f32(scratch, m * n);
    for (size_t i = 0; i < m * n; i++)
        E[i] = W[i] - What[i];
    double error = lq_quadratic_trace(E, H, m, n, scratch);
    double whole = lq_quadratic_trace(W, H, m, n, scratch);
    lq_arena_release(scratch, mark);
    if (whole > 0)
        return error / whole;
    return error > 0 ? (double)INFINITY : 0;
}

/* ---- LDLQ and sweeps --------------------------------------------------------------------------- */

/* One call of lq_ldlq. Matrices are transposed, (n,m): a column of the weight, which is what a step works
 * on, is contiguous, and its rows are the lanes of the kernels. */
typedef struct job {
    size_t m, n, strips;
    const lq_rounder *rounder;
    const float *W;  /* (n,m) */
    float *What, *E; /* (n,m), E = W - What */
    uint16_t *code;  /* (codes of a row,m) */
    float *target;   /* (PANEL,m) */
    double *loss;    /* (strips) what the pass adds to tr(E H E') */
} job;

typedef struct pass {
    size_t d;
    bool refine;         /* a sweep: errors are measured from the What of before */
    const float *M;      /* (n,n) feedback: L, or S of the sweeps */
    const float *weight; /* (n,d) the d x d blocks that weigh a rounding error in the loss */
} pass;

/* One block of d columns of a strip, component by component, STRIP apart. */
typedef struct step {
    float value[D_MAX * STRIP], delta[D_MAX * STRIP], other[D_MAX * STRIP];
    uint16_t code[D_MAX * STRIP];
} step;

/* Writes back what was rounded in columns `at` .. at+d of rows row .. row+rows. delta: the rounding error
 * (LDLQ), or by how much it grew (sweep). other: what the loss takes its product with, below. Returns
 * whether a value changed. */
static bool write_back(const job *j, const pass *how, size_t at, size_t row, size_t rows,
                       const float *t, step *s)
{
    bool moved = false;
    for (size_t c = 0; c < how->d; c++) {
        const float *w = j->W + (at + c) * j->m + row, *tc = t + c * STRIP;
        float *hat = j->What + (at + c) * j->m + row, *e = j->E + (at + c) * j->m + row;
        float *v = s->value + c * STRIP, *delta = s->delta + c * STRIP, *o = s->other + c * STRIP;
        int any = 0;
        if (how->refine) {
#pragma omp simd reduction(| : any)
            for (size_t i = 0; i < rows; i++) {
                delta[i] = hat[i] - v[i];
                o[i] = (tc[i] - v[i]) + (tc[i] - hat[i]);
                any |= delta[i] != 0;
            }
        } else {
#pragma omp simd reduction(| : any)
            for (size_t i = 0; i < rows; i++) {
                delta[i] = w[i] - v[i];
                o[i] = tc[i] - v[i];
                any |= delta[i] != 0;
            }
        }
        moved = moved || any != 0;
#pragma omp simd
        for (size_t i = 0; i < rows; i++) {
            hat[i] = v[i];
            e[i] = w[i] - v[i];
        }
    }
    return moved;
}

/* What this block adds to the loss. With D its weight, t its target, e = t - What:
 * LDLQ    e D e'                      tr(E H E') = tr(eta D eta'), eta_k = e
 * sweep   e D e' - r D r', r = t - (What of before): the change of tr(E H E') is exactly this, since t is
 *         where its gradient in the block vanishes. As (e - r) D (e + r)' it is 0 where nothing moved. */
static void add_loss(const pass *how, const float *D, size_t rows, const step *s, float sum[STRIP])
{
    const size_t d = how->d;
    for (size_t a = 0; a < d; a++)
        for (size_t b = 0; b < d; b++) {
            const float weight = D[a * d + b];
            const float *u = (how->refine ? s->delta : s->other) + a * STRIP;
            const float *v = s->other + b * STRIP;
#pragma omp simd
            for (size_t i = 0; i < rows; i++)
                sum[i] += weight * u[i] * v[i];
        }
}

/* Rounds columns a .. a+p of some rows from the last block to the first. What a block's rounding moves
 * is fed to the blocks on its left in the panel: target_j += delta_k M_kj. */
static bool round_strip(const job *j, const pass *how, size_t a, size_t p, size_t row, size_t rows,
                        double *loss)
{
    const size_t d = how->d, m = j->m, codes = lq_rounder_codes(j->rounder, d);
    const lq_kernel_table *kernels = lq_kernels();
    float tile[PANEL * STRIP], sum[STRIP] = {0};
    step s;
    bool moved = false;
    for (size_t k = 0; k < p; k++)
        memcpy(tile + k * STRIP, j->target + k * m + row, rows * sizeof *tile);
    for (size_t k = p; k >= d; k -= d) {
        const size_t left = k - d, at = a + left; /* columns of the panel left of the block */
        const float *t = tile + left * STRIP;
        j->rounder->round(j->rounder->context, t, rows, STRIP, d, s.value, s.code);
        for (size_t c = 0; c < codes; c++)
            memcpy(j->code + (at / d * codes + c) * m + row, s.code + c * STRIP,
                   rows * sizeof *s.code);
        const bool here = write_back(j, how, at, row, rows, t, &s);
        if (here || !how->refine)
            add_loss(how, how->weight + at * d, rows, &s, sum);
        if (!here)
            continue;
        moved = true;
        kernels->feed(tile, rows, STRIP, left, s.delta, STRIP, d, how->M + at * j->n + a, j->n);
    }
    for (size_t i = 0; i < rows; i++)
        *loss += (double)sum[i];
    return moved;
}

static bool round_panel(const job *j, const pass *how, size_t a, size_t p)
{
    bool moved = false;
#pragma omp parallel for schedule(static) reduction(|| : moved) if (j->m >= PARALLEL_FROM)
    for (size_t i = 0; i < j->strips; i++) {
        const size_t row = i * STRIP, rows = j->m - row < STRIP ? j->m - row : STRIP;
        bool here = round_strip(j, how, a, p, row, rows, &j->loss[i]);
        moved = moved || here;
    }
    return moved;
}

/* One pass over all panels, the last first. Targets at a panel's start:
 * LDLQ    W + E[:,after] L[after,panel]
 * sweep   What + E M[:,panel], M_jk = H_jk H_kk^-1: the best values of a block, all others kept.
 * *loss: tr(E H E') after LDLQ; what it changed by in a sweep. */
static bool run_pass(const job *j, const pass *how, double *loss)
{
    const size_t n = j->n, m = j->m;
    bool moved = false;
    memset(j->loss, 0, j->strips * sizeof *j->loss);
    for (size_t end = n; end > 0;) {
        const size_t a = (end - 1) / PANEL * PANEL, p = end - a, from = how->refine ? 0 : end;
        memcpy(j->target, (how->refine ? j->What : j->W) + a * m, p * m * sizeof *j->target);
        if (from < n)
            lq_gemm_tn(p, m, n - from, 1, how->M + from * n + a, n, j->E + from * m, m, 1,
                       j->target, m);
        if (round_panel(j, how, a, p))
            moved = true;
        end = a;
    }
    *loss = 0;
    for (size_t i = 0; i < j->strips; i++)
        *loss += j->loss[i];
    return moved;
}

static void narrow(float *to, const double *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (float)from[i];
}

/* S (n,n): block column k of H times the inverse of its diagonal block; D_sweep are those blocks. */
static lq_status plan_sweeps(const double *H, size_t d, float *S, float *blocks, size_t n,
                             lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    double *inverse = lq_arena_f64(scratch, n * d);
    lq_status status = LQ_OK;
    for (size_t k = 0; k < n && status == LQ_OK; k += d) {
        for (size_t a = 0; a < d; a++)
            memcpy(inverse + (k + a) * d, H + (k + a) * n + k, d * sizeof *inverse);
        narrow(blocks + k * d, inverse + k * d, d * d);
        status = lq_spd_inverse(inverse + k * d, d);
    }
    for (size_t i = 0; i < n && status == LQ_OK; i++)
        for (size_t k = 0; k < n; k += d)
            for (size_t b = 0; b < d; b++) {
                double sum = 0;
                for (size_t a = 0; a < d; a++)
                    sum += H[i * n + k + a] * inverse[(k + a) * d + b];
                S[i * n + k + b] = i / d == k / d ? (float)(i == k + b) : (float)sum;
            }
    lq_arena_release(scratch, mark);
    return status;
}

/* LDLQ's own factor, in float: errors of 1e-7 in a target move a code only at a near tie. */
static lq_status plan_ldlq(const double *H, size_t d, float *L, float *D, size_t n,
                           lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    double *wide_L = lq_arena_f64(scratch, n * n), *wide_D = lq_arena_f64(scratch, n * d);
    lq_status status = lq_block_ldl(H, n, d, wide_L, wide_D);
    if (status == LQ_OK) {
        narrow(L, wide_L, n * n);
        narrow(D, wide_D, n * d);
    }
    lq_arena_release(scratch, mark);
    return status;
}

lq_status lq_ldlq_plan_new(const double *H, size_t n, const lq_ldlq_opts *how, lq_arena *arena,
                           lq_ldlq_plan *out)
{
    const double started = lq_clock_wall_s();
    *out = (lq_ldlq_plan){.n = n, .block = how->block};
    out->sweep_block = how->sweeps > 0 ? how->sweep_block : how->block;
    LQ_TRY(check_block(n, out->block));
    LQ_TRY(check_block(n, out->sweep_block));
    if (H == NULL)
        return LQ_OK;
    float *h = lq_arena_f32(arena, n * n), *L = lq_arena_f32(arena, n * n);
    float *D = lq_arena_f32(arena, n * out->block);
    narrow(h, H, n * n);
    LQ_TRY(plan_ldlq(H, out->block, L, D, n, arena));
    if (how->sweeps > 0) {
        float *S = lq_arena_f32(arena, n * n), *blocks = lq_arena_f32(arena, n * out->sweep_block);
        LQ_TRY(plan_sweeps(H, out->sweep_block, S, blocks, n, arena));
        out->S = S;
        out->D_sweep = blocks;
    }
    out->H = h;
    out->L = L;
    out->D = D;
    out->seconds = lq_clock_wall_s() - started;
    return LQ_OK;
}

/* tr(W H W'): products in float, their sum in double. Uses target. */
static double whole_loss(const job *j, const float *H)
{
    const size_t n = j->n, m = j->m;
    double total = 0;
    for (size_t a = 0; a < n; a += PANEL) {
        const size_t p = n - a < PANEL ? n - a : PANEL;
        lq_gemm_tn(p, m, n, 1, H + a, n, j->W, m, 0, j->target, m);
        for (size_t k = 0; k < p; k++) {
            double sum = 0;
            for (size_t i = 0; i < m; i++)
                sum += (double)(j->target[k * m + i] * j->W[(a + k) * m + i]);
            total += sum;
        }
    }
    return total;
}

typedef struct kept { /* the best state so far, for the guard */
    float *What;
    uint16_t *code;
    size_t n_code;
} kept;

static void keep(const job *j, const kept *best)
{
    memcpy(best->What, j->What, j->m * j->n * sizeof *best->What);
    memcpy(best->code, j->code, best->n_code * sizeof *best->code);
}

/* `error` is tr(E H E') so far, and `whole` what it is relative to. */
static lq_status refine(job *j, const lq_ldlq_plan *plan, const lq_ldlq_opts *how, double error,
                        double whole, lq_ldlq_result *result, lq_arena *scratch)
{
    const pass sweep = {
        .d = plan->sweep_block, .refine = true, .M = plan->S, .weight = plan->D_sweep};
    kept best = {.n_code = j->m * (j->n / sweep.d) * lq_rounder_codes(j->rounder, sweep.d)};
    double least = error, change;
    bool moved = true;
    if (how->guard) {
        best.What = lq_arena_f32(scratch, j->m * j->n);
        LQ_TRY(lq_arena_new(scratch, &best.code, best.n_code));
    }
    while (moved && result->sweeps < how->sweeps) {
        if (how->guard && result->best_sweep == result->sweeps)
            keep(j, &best);
        moved = run_pass(j, &sweep, &change);
        result->sweeps++;
        error += change;
        if (moved && (!how->guard || error < least)) {
            least = error;
            result->best_sweep = result->sweeps;
        }
    }
    result->proxy = least / whole;
    if (how->guard && result->best_sweep < result->sweeps) {
        memcpy(j->What, best.What, j->m * j->n * sizeof *best.What);
        memcpy(j->code, best.code, best.n_code * sizeof *best.code);
    }
    return LQ_OK;
}

static lq_status round_planned(job *j, const lq_ldlq_plan *plan, const lq_ldlq_opts *how,
                               lq_ldlq_result *result, lq_arena *scratch)
{
    const double started = lq_clock_wall_s(), whole = whole_loss(j, plan->H);
    const pass first = {.d = plan->block, .M = plan->L, .weight = plan->D};
    double error;
    run_pass(j, &first, &error);
    const double rounded = lq_clock_wall_s();
    result->ldlq_s = rounded - started;
    result->first = whole > 0 ? error / whole : error > 0 ? (double)INFINITY : 0;
    result->proxy = result->first;
    if (how->sweeps == 0 || !(whole > 0)) /* a zero matrix stays as LDLQ left it */
        return LQ_OK;
    LQ_TRY(refine(j, plan, how, error, whole, result, scratch));
    result->sweeps_s = lq_clock_wall_s() - rounded;
    return LQ_OK;
}

/* to (cols,rows) = from (rows,cols), in squares that fit in the first cache. */
#define TURN(name, type)                                                   \
    static void name(type *to, const type *from, size_t rows, size_t cols) \
    {                                                                      \
        enum { SIDE = 32 };                                                \
        for (size_t r = 0; r < rows; r += SIDE)                            \
            for (size_t c = 0; c < cols; c += SIDE)                        \
                for (size_t i = r; i < rows && i < r + SIDE; i++)          \
                    for (size_t k = c; k < cols && k < c + SIDE; k++)      \
                        to[k * rows + i] = from[i * cols + k];             \
    }
TURN(turn_f32, float)
TURN(turn_u16, uint16_t)

static lq_status turn_and_round(const lq_ldlq_plan *plan, const float *W, size_t m,
                                const lq_rounder *rounder, const lq_ldlq_opts *how, float *What,
                                uint16_t *code, lq_ldlq_result *result, lq_arena *scratch)
{
    const size_t n = plan->n, row_codes = n / plan->block * lq_rounder_codes(rounder, plan->block);
    float *turned = lq_arena_f32(scratch, m * n);
    job j = {.m = m, .n = n, .strips = (m + STRIP - 1) / STRIP, .rounder = rounder, .W = turned};
    turn_f32(turned, W, m, n);
    j.What = lq_arena_f32(scratch, m * n);
    j.E = lq_arena_f32(scratch, m * n);
    j.target = lq_arena_f32(scratch, m * PANEL);
    j.loss = lq_arena_f64(scratch, j.strips);
    LQ_TRY(lq_arena_new(scratch, &j.code, m * row_codes));
    LQ_TRY(round_planned(&j, plan, how, result, scratch));
    turn_f32(What, j.What, n, m);
    turn_u16(code, j.code, row_codes, m);
    return LQ_OK;
}

static void round_plainly(const float *W, size_t m, size_t n, const lq_rounder *rounder, size_t d,
                          float *What, uint16_t *code)
{
    const size_t row = n / d, codes = row * lq_rounder_codes(rounder, d);
#pragma omp parallel for schedule(static) if (m >= PARALLEL_FROM)
    for (size_t i = 0; i < m; i++)
        lq_round_vectors(rounder, W + i * n, row, d, What + i * n, code + i * codes);
}

lq_status lq_ldlq_run(const lq_ldlq_plan *plan, const float *W, size_t m, const lq_rounder *rounder,
                      const lq_ldlq_opts *how, float *What, uint16_t *code, lq_ldlq_result *result,
                      lq_arena *scratch)
{
    const size_t used[] = {plan->block, plan->sweep_block};
    LQ_ASSERT(how->sweeps == 0 || plan->H == NULL || plan->S != NULL);
    for (size_t i = 0; i < 2; i++)
        if (rounder->vector != 0 && rounder->vector != used[i])
            return lq_fail(LQ_E_SHAPE, "the codebook has words of %zu weights, the blocks have %zu",
                           rounder->vector, used[i]);
    *result = (lq_ldlq_result){.ldl_s = plan->seconds};
    if (plan->H == NULL) {
        round_plainly(W, m, plan->n, rounder, plan->block, What, code);
        result->first = lq_proxy_error(W, What, NULL, m, plan->n, scratch);
        result->proxy = result->first;
        return LQ_OK;
    }
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status = turn_and_round(plan, W, m, rounder, how, What, code, result, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

lq_status lq_ldlq(const float *W, const double *H, size_t m, size_t n, const lq_rounder *rounder,
                  const lq_ldlq_opts *how, float *What, uint16_t *code, lq_ldlq_result *result,
                  lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    lq_ldlq_plan plan;
    lq_status status = lq_ldlq_plan_new(H, n, how, scratch, &plan);
    if (status == LQ_OK)
        status = lq_ldlq_run(&plan, W, m, rounder, how, What, code, result, scratch);
    lq_arena_release(scratch, mark);
    return status;
}
