#include "core/quant/ldlq.h"

#include "core/math/gemm.h"
#include "core/math/linalg.h"

#include <math.h>
#include <string.h>

/* Columns of a panel: what lies between panels is one matrix product. Rows of a strip: what one thread
 * rounds at a time, so that its part of a panel (16 kB) stays in the first cache. Below PARALLEL_FROM rows
 * a panel takes less than a millisecond, and waking a thread on a busy machine takes longer. */
enum { PANEL = 128, STRIP = 32, PARALLEL_FROM = 128, D_MAX = LQ_LDLQ_LARGEST_BLOCK };

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

/* ---- Rounders ---------------------------------------------------------------------------------- */

size_t lq_rounder_codes(const lq_rounder *rounder, size_t d)
{
    return rounder->vector == 0 ? d : 1;
}

static void round_scalar(const void *context, const float *target, size_t rows, size_t d,
                         float *value, uint16_t *code)
{
    const lq_scalar_grid *grid = context;
    const float top = (float)(grid->levels - 1);
    for (size_t i = 0; i < rows * d; i++) {
        float u = (target[i] - grid->offset) / grid->step;
        float q = u > 0 ? rintf(u < top ? u : top) : 0; /* a NaN rounds to 0; inputs are finite */
        code[i] = (uint16_t)q;
        value[i] = grid->offset + grid->step * q;
    }
}

lq_rounder lq_rounder_scalar(const lq_scalar_grid *grid)
{
    LQ_ASSERT(grid->levels >= 2 && grid->levels <= 65536 && grid->step > 0);
    return (lq_rounder){.round = round_scalar, .context = grid};
}

static void round_table(const void *context, const float *target, size_t rows, size_t d,
                        float *value, uint16_t *code)
{
    const lq_word_table *table = context;
    for (size_t i = 0; i < rows; i++) {
        const float *t = target + i * d;
        size_t best = 0;
        float best_score = -INFINITY;
        for (size_t k = 0; k < table->words; k++) {
            const float *word = table->word + k * d;
            float dot = 0;
            for (size_t a = 0; a < d; a++)
                dot += t[a] * word[a];
            float score = 2 * dot - table->norm[k];
            if (score > best_score) {
                best_score = score;
                best = k;
            }
        }
        code[i] = (uint16_t)best;
        memcpy(value + i * d, table->word + best * d, d * sizeof *value);
    }
}

lq_rounder lq_rounder_table(const lq_word_table *table)
{
    LQ_ASSERT(table->words >= 1 && table->words <= 65536 && table->d >= 1 && table->d <= D_MAX);
    return (lq_rounder){.round = round_table, .context = table, .vector = table->d};
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

typedef struct job { /* one call of lq_ldlq; all matrices but M are (m,n) */
    size_t m, n;
    const float *W;
    const lq_rounder *rounder;
    float *What, *E; /* E = W - What */
    uint16_t *code;
    const float *M; /* (n,n) feedback of the pass under way: of LDLQ or of a sweep */
    float *target;  /* (m,PANEL) */
} job;

typedef struct pass {
    size_t d;
    bool refine; /* a sweep: errors are measured from the What of before */
} pass;

/* Rounds columns a .. a+p of some rows from the last block to the first. What a block's rounding moves
 * is fed to the blocks on its left in the panel: target_j += delta_k M_kj, where delta is the rounding
 * error (LDLQ), or its change (sweep). Returns whether a value changed. */
static bool round_strip(const job *j, const pass *how, size_t a, size_t p, size_t row, size_t rows)
{
    const size_t d = how->d, n = j->n, codes = lq_rounder_codes(j->rounder, d);
    float target[STRIP * D_MAX], value[STRIP * D_MAX];
    uint16_t code[STRIP * D_MAX];
    bool moved = false;
    for (size_t k = p; k >= d; k -= d) {
        const size_t left = k - d; /* columns of the panel left of the block */
        for (size_t i = 0; i < rows; i++)
            memcpy(target + i * d, j->target + (row + i) * PANEL + left, d * sizeof *target);
        j->rounder->round(j->rounder->context, target, rows, d, value, code);
        for (size_t i = 0; i < rows; i++) {
            const size_t at = (row + i) * n + a + left;
            float *ahead = j->target + (row + i) * PANEL;
            memcpy(j->code + at / d * codes, code + i * codes, codes * sizeof *code);
            for (size_t c = 0; c < d; c++) {
                float from = how->refine ? j->What[at + c] : j->W[at + c];
                float delta = from - value[i * d + c];
                j->What[at + c] = value[i * d + c];
                j->E[at + c] = j->W[at + c] - value[i * d + c];
                if (delta == 0)
                    continue;
                moved = true;
                const float *feed = j->M + (a + left + c) * n + a;
#pragma omp simd
                for (size_t b = 0; b < left; b++)
                    ahead[b] += delta * feed[b];
            }
        }
    }
    return moved;
}

static bool round_panel(const job *j, const pass *how, size_t a, size_t p)
{
    bool moved = false;
#pragma omp parallel for schedule(static) reduction(|| : moved) if (j->m >= PARALLEL_FROM)
    for (size_t row = 0; row < j->m; row += STRIP) {
        bool here = round_strip(j, how, a, p, row, j->m - row < STRIP ? j->m - row : STRIP);
        moved = moved || here;
    }
    return moved;
}

/* One pass over all panels, the last first. Targets at a panel's start:
 * LDLQ    W + E[:,after] L[after,panel]
 * sweep   What + E M[:,panel], M_jk = H_jk H_kk^-1: the best values of a block, all others kept. */
static bool run_pass(const job *j, const pass *how)
{
    const size_t n = j->n;
    bool moved = false;
    for (size_t end = n; end > 0;) {
        const size_t a = (end - 1) / PANEL * PANEL, p = end - a;
        const float *base = how->refine ? j->What : j->W;
        for (size_t i = 0; i < j->m; i++)
            memcpy(j->target + i * PANEL, base + i * n + a, p * sizeof *base);
        const size_t from = how->refine ? 0 : end;
        if (from < n)
            lq_gemm_nn(j->m, p, n - from, 1, j->E + from, n, j->M + from * n + a, n, 1, j->target,
                       PANEL);
        if (round_panel(j, how, a, p))
            moved = true;
        end = a;
    }
    return moved;
}

static void narrow(float *to, const double *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (float)from[i];
}

/* M (n,n): block column k of H times the inverse of its diagonal block. */
static lq_status sweep_feedback(const double *H, size_t n, size_t d, float *M, lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    double *full = lq_arena_f64(scratch, n * n);
    memcpy(full, H, n * n * sizeof *full);
    lq_status status = LQ_OK;
    for (size_t k = 0; k < n && status == LQ_OK; k += d) {
        double inverse[D_MAX * D_MAX];
        for (size_t a = 0; a < d; a++)
            for (size_t b = 0; b < d; b++)
                inverse[a * d + b] = H[(k + a) * n + k + b];
        status = lq_spd_inverse(inverse, d);
        multiply_right(full + k, n, n, inverse, d);
        set_identity_block(full, n, k, d);
    }
    narrow(M, full, n * n);
    lq_arena_release(scratch, mark);
    return status;
}

/* LDLQ's own factor, in float: errors of 1e-7 in a target move a code only at a near tie. */
static lq_status ldlq_feedback(const double *H, size_t n, size_t d, float *M, lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    double *L = lq_arena_f64(scratch, n * n), *D = lq_arena_f64(scratch, n * d);
    lq_status status = lq_block_ldl(H, n, d, L, D);
    if (status == LQ_OK)
        narrow(M, L, n * n);
    lq_arena_release(scratch, mark);
    return status;
}

static void round_plainly(const job *j, size_t d)
{
    const size_t codes = lq_rounder_codes(j->rounder, d), row = j->n / d;
#pragma omp parallel for schedule(static) if (j->m >= PARALLEL_FROM)
    for (size_t i = 0; i < j->m; i++)
        j->rounder->round(j->rounder->context, j->W + i * j->n, row, d, j->What + i * j->n,
                          j->code + i * row * codes);
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

static lq_status refine(job *j, const double *H, const lq_ldlq_opts *how, float *M,
                        lq_ldlq_result *result, lq_arena *scratch)
{
    kept best = {.n_code = j->m * (j->n / how->sweep_block) *
                           lq_rounder_codes(j->rounder, how->sweep_block)};
    if (how->guard) {
        best.What = lq_arena_f32(scratch, j->m * j->n);
        LQ_TRY(lq_arena_new(scratch, &best.code, best.n_code));
        keep(j, &best);
    }
    LQ_TRY(sweep_feedback(H, j->n, how->sweep_block, M, scratch));
    const double whole = lq_quadratic_trace(j->W, H, j->m, j->n, scratch);
    if (!(whole > 0)) /* nothing to compare with: a zero matrix stays as LDLQ left it */
        return LQ_OK;
    const pass sweep = {.d = how->sweep_block, .refine = true};
    while (result->sweeps < how->sweeps) {
        bool moved = run_pass(j, &sweep);
        result->sweeps++;
        if (!moved)
            break;
        if (!how->guard)
            continue;
        double proxy = lq_quadratic_trace(j->E, H, j->m, j->n, scratch) / whole;
        if (proxy < result->proxy) {
            result->proxy = proxy;
            result->best_sweep = result->sweeps;
            keep(j, &best);
        }
    }
    if (how->guard) {
        memcpy(j->What, best.What, j->m * j->n * sizeof *best.What);
        memcpy(j->code, best.code, best.n_code * sizeof *best.code);
    } else {
        result->best_sweep = result->sweeps;
        result->proxy = lq_proxy_error(j->W, j->What, H, j->m, j->n, scratch);
    }
    return LQ_OK;
}

static lq_status round_under_h(job *j, const double *H, const lq_ldlq_opts *how,
                               lq_ldlq_result *result, lq_arena *scratch)
{
    float *M = lq_arena_f32(scratch, j->n * j->n);
    LQ_TRY(ldlq_feedback(H, j->n, how->block, M, scratch));
    j->M = M;
    j->E = lq_arena_f32(scratch, j->m * j->n);
    j->target = lq_arena_f32(scratch, j->m * PANEL);
    run_pass(j, &(pass){.d = how->block});
    result->first = lq_proxy_error(j->W, j->What, H, j->m, j->n, scratch);
    result->proxy = result->first;
    return how->sweeps > 0 ? refine(j, H, how, M, result, scratch) : LQ_OK;
}

lq_status lq_ldlq(const float *W, const double *H, size_t m, size_t n, const lq_rounder *rounder,
                  const lq_ldlq_opts *how, float *What, uint16_t *code, lq_ldlq_result *result,
                  lq_arena *scratch)
{
    const size_t used[] = {how->block, how->sweeps > 0 ? how->sweep_block : how->block};
    for (size_t i = 0; i < 2; i++) {
        LQ_TRY(check_block(n, used[i]));
        if (rounder->vector != 0 && rounder->vector != used[i])
            return lq_fail(LQ_E_SHAPE, "the codebook has words of %zu weights, the blocks have %zu",
                           rounder->vector, used[i]);
    }
    *result = (lq_ldlq_result){0};
    lq_mark mark = lq_arena_mark(scratch);
    job j = {.m = m, .n = n, .W = W, .rounder = rounder, .What = What, .code = code};
    lq_status status = LQ_OK;
    if (H != NULL) {
        status = round_under_h(&j, H, how, result, scratch);
    } else {
        round_plainly(&j, how->block);
        result->first = lq_proxy_error(W, What, NULL, m, n, scratch);
        result->proxy = result->first;
    }
    lq_arena_release(scratch, mark);
    return status;
}
