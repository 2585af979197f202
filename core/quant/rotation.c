#include "core/quant/rotation.h"

#include "core/math/gemm.h"
#include "core/quant/hadamard.h"
#include "core/quant/paley.h"

#include <math.h>
#include <string.h>

/* Floats of a tile that the dense factor works on, on the stack: 64 kB, K rows of it. */
enum { TILE = 16384, PARALLEL_FROM = 1 << 18 };

size_t lq_rotation_factor(size_t n)
{
    size_t odd = n;
    while (odd > 0 && odd % 2 == 0)
        odd /= 2;
    for (size_t k = odd; k > 0 && k <= n && k <= LQ_PALEY_LARGEST && n % k == 0; k *= 2)
        if (n / k <= LQ_HADAMARD_LARGEST && lq_paley_exists(k))
            return k;
    return 0;
}

lq_status lq_rotation_new(lq_rotation_kind kind, size_t n, size_t cap, lq_arena *arena,
                          lq_rotation *out)
{
    *out = (lq_rotation){.n = n, .block = 1, .factor = 1};
    if (kind == LQ_ROTATION_NONE)
        return LQ_OK;
    if (kind == LQ_ROTATION_BLOCK) {
        out->block = lq_hadamard_block(n, cap);
        return LQ_OK;
    }
    const size_t K = lq_rotation_factor(n);
    if (K == 0)
        return lq_fail(LQ_E_SHAPE,
                       "no Hadamard matrix is known for the full dimension %zu; take "
                       "rotation=block, which would use blocks of %zu",
                       n, lq_hadamard_block(n, 128));
    out->block = n / K;
    out->factor = K;
    if (K == 1)
        return LQ_OK;
    float *dense;
    LQ_TRY(lq_arena_new(arena, &dense, K * K));
    LQ_TRY(lq_paley_fill(K, dense, arena));
    const double scale = 1.0 / sqrt((double)K);
    for (size_t i = 0; i < K * K; i++)
        dense[i] = (float)((double)dense[i] * scale);
    out->dense = dense;
    return LQ_OK;
}

/* In place on columns at .. at+width of x (K,width of a row: ld): Had' x, or Had x. */
static void mix_tile(const lq_rotation *q, bool transposed, float *x, size_t ld, size_t width)
{
    const size_t K = q->factor;
    float tile[TILE];
    for (size_t k = 0; k < K; k++)
        memcpy(tile + k * width, x + k * ld, width * sizeof *x);
    if (transposed)
        lq_gemm_tn(K, width, K, 1, q->dense, K, tile, width, 0, x, ld);
    else
        lq_gemm_nn(K, width, K, 1, q->dense, K, tile, width, 0, x, ld);
}

/* `count` matrices (K,inner), one after the other: the dense factor across their rows. */
static void mix(const lq_rotation *q, bool transposed, float *x, size_t count, size_t inner)
{
    const size_t most = TILE / q->factor, width = inner < most ? inner : most;
    const size_t across = (inner + width - 1) / width, all = q->factor * inner;
#pragma omp parallel for schedule(static) if (count * all >= PARALLEL_FROM)
    for (size_t t = 0; t < count * across; t++) {
        const size_t at = t % across * width, here = inner - at < width ? inner - at : width;
        mix_tile(q, transposed, x + t / across * all + at, inner, here);
    }
}

static void rotate(float *x, size_t m, size_t n, const lq_rotation *qm, const lq_rotation *qn,
                   bool in)
{
    LQ_ASSERT(qm->n == m && qn->n == n);
    if (qm->block > 1)
        lq_hadamard_cols(x, m, n, qm->block);
    if (qm->factor > 1)
        mix(qm, in, x, 1, m / qm->factor * n);
    if (qn->block > 1)
        lq_hadamard_rows(x, m, n, qn->block);
    if (qn->factor > 1) /* a row times Had: Had' times the row, stood up as (K,n/K) */
        mix(qn, in, x, m, n / qn->factor);
}

void lq_rotate_in(float *x, size_t m, size_t n, const lq_rotation *qm, const lq_rotation *qn)
{
    rotate(x, m, n, qm, qn, true);
}

void lq_rotate_out(float *x, size_t m, size_t n, const lq_rotation *qm, const lq_rotation *qn)
{
    rotate(x, m, n, qm, qn, false);
}

/* ---- Gram matrices, in double ------------------------------------------------------------------ */

static void sylvester_f64(double *x, size_t count, size_t block)
{
    const double scale = 1.0 / sqrt((double)block);
#pragma omp parallel for schedule(static) if (count * block >= PARALLEL_FROM)
    for (size_t b = 0; b < count; b++) {
        double *v = x + b * block;
        for (size_t half = 1; half < block; half *= 2)
            for (size_t at = 0; at < block; at += 2 * half)
                for (size_t i = at; i < at + half; i++) {
                    double low = v[i], high = v[i + half];
                    v[i] = low + high;
                    v[i + half] = low - high;
                }
        for (size_t i = 0; i < block; i++)
            v[i] *= scale;
    }
}

/* x (n,n) becomes x Q. */
static void rows_f64(double *x, const lq_rotation *q, lq_arena *scratch)
{
    const size_t n = q->n, K = q->factor, inner = n / K;
    if (q->block > 1)
        sylvester_f64(x, n * n / q->block, q->block);
    if (K == 1)
        return;
    lq_mark mark = lq_arena_mark(scratch);
    double *row = lq_arena_f64(scratch, n), *dense = lq_arena_f64(scratch, K * K);
    for (size_t i = 0; i < K * K; i++)
        dense[i] = copysign(1.0 / sqrt((double)K), (double)q->dense[i]);
    for (size_t i = 0; i < n; i++) {
        memcpy(row, x + i * n, n * sizeof *row);
        lq_gemm_tn_f64(K, inner, K, 1, dense, K, row, inner, 0, x + i * n, inner);
    }
    lq_arena_release(scratch, mark);
}

/* (H Q)' = Q' H: the second pass works on the transpose, and the result is symmetric. */
void lq_rotate_gram(double *H, size_t n, const float *sign, const lq_rotation *q, lq_arena *scratch)
{
    LQ_ASSERT(q->n == n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            H[i * n + j] *= (double)sign[i] * (double)sign[j];
    rows_f64(H, q, scratch);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            double lower = H[i * n + j];
            H[i * n + j] = H[j * n + i];
            H[j * n + i] = lower;
        }
    rows_f64(H, q, scratch);
}
