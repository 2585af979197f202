/* Vectorised twins of core/math/ref/infer.c. */
#include "core/math/kernels.h"

#include "core/math/fast/vec.h"

void LQ_PASTE(lq_kernels_fill_infer, LQ_ISA)(lq_kernel_table *table);

/* Rows of x and of W that share their loads: as many sums as the registers hold. */
#ifdef __AVX512F__
enum { TILE = 4 };
#else
enum { TILE = 2 };
#endif

/* M rows of x against N rows of W, both constants where this is inlined. Each sum runs over the same
 * lanes in the same order whatever M and N are. */
static inline __attribute__((always_inline)) void tile(float *y, size_t ldy, const float *x,
                                                       size_t ldx, const float *W, size_t ldw,
                                                       size_t k, const size_t M, const size_t N)
{
    vec sum[TILE][TILE], w[TILE];
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++)
            sum[i][j] = (vec){0};
    for (size_t p = 0; p < k; p += LANES) {
        const size_t left = k - p;
        for (size_t j = 0; j < N; j++)
            w[j] = left < LANES ? load_part(W + j * ldw + p, left, 0) : load(W + j * ldw + p);
        for (size_t i = 0; i < M; i++) {
            const float *at = x + i * ldx + p;
            const vec v = left < LANES ? load_part(at, left, 0) : load(at);
            for (size_t j = 0; j < N; j++)
                sum[i][j] += v * w[j];
        }
    }
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++)
            y[i * ldy + j] = sum_lanes(sum[i][j]);
}

static void project(float *y, size_t ldy, const float *x, size_t ldx, size_t m, const float *W,
                    size_t ldw, size_t n, size_t k)
{
    size_t j = 0;
    /* One row of x shares no loads: W only streams through, and the processor foresees one row behind the
     * other twice as fast as rows side by side (18 against 9 GB/s at k = 576 on one core of an EPYC). */
    for (; m > 1 && j + TILE <= n; j += TILE) {
        const float *w = W + j * ldw;
        size_t i = 0;
        for (; i + TILE <= m; i += TILE)
            tile(y + i * ldy + j, ldy, x + i * ldx, ldx, w, ldw, k, TILE, TILE);
        for (; i < m; i++)
            tile(y + i * ldy + j, ldy, x + i * ldx, ldx, w, ldw, k, 1, TILE);
    }
    for (; j < n; j++)
        for (size_t i = 0; i < m; i++)
            tile(y + i * ldy + j, ldy, x + i * ldx, ldx, W + j * ldw, ldw, k, 1, 1);
}

static void mix(float *y, const float *p, const float *v, size_t ldv, size_t n, size_t d)
{
    size_t j = 0;
    for (; j + 4 * LANES <= d; j += 4 * LANES) {
        vec a = {0}, b = {0}, c = {0}, e = {0};
        for (size_t i = 0; i < n; i++) {
            const float *row = v + i * ldv + j;
            a += load(row) * p[i];
            b += load(row + LANES) * p[i];
            c += load(row + 2 * LANES) * p[i];
            e += load(row + 3 * LANES) * p[i];
        }
        store(y + j, a);
        store(y + j + LANES, b);
        store(y + j + 2 * LANES, c);
        store(y + j + 3 * LANES, e);
    }
    for (; j + LANES <= d; j += LANES) {
        vec a = {0};
        for (size_t i = 0; i < n; i++)
            a += load(v + i * ldv + j) * p[i];
        store(y + j, a);
    }
    for (; j < d; j++) {
        float a = 0;
        for (size_t i = 0; i < n; i++)
            a += v[i * ldv + j] * p[i];
        y[j] = a;
    }
}

/* Without a branch, so that the compiler makes vectors of it. */
static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        const uint32_t quiet = bits >> 16 | 0x40u;
        y[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
    }
}

void LQ_PASTE(lq_kernels_fill_infer, LQ_ISA)(lq_kernel_table *table)
{
    table->project = project;
    table->mix = mix;
    table->to_bf16 = to_bf16;
}
