#include "core/quant/hadamard.h"

#include "core/base/status.h"
#include "core/math/kernels.h"

#include <math.h>
#include <string.h>

/* Floats of a tile, on the stack; at the largest block a tile is two columns wide. A matrix of fewer than
 * PARALLEL_FROM values is done before a second thread is awake. */
enum { TILE = 8192, TILE_COLS = 64, PARALLEL_FROM = 1 << 18 };

size_t lq_hadamard_block(size_t n, size_t cap)
{
    size_t block = 1;
    while (block * 2 <= cap && n % (block * 2) == 0)
        block *= 2;
    return block;
}

static void check_block(size_t n, size_t block)
{
    LQ_ASSERT(block >= 1 && block <= LQ_HADAMARD_LARGEST && (block & (block - 1)) == 0 &&
              n % block == 0);
}

void lq_hadamard_rows(float *x, size_t m, size_t n, size_t block)
{
    check_block(n, block);
    const lq_kernel_table *k = lq_kernels();
#pragma omp parallel for schedule(static) if (m * n >= PARALLEL_FROM)
    for (size_t i = 0; i < m; i++)
        k->hadamard(x + i * n, 1, n, block);
}

/* Stages half and 2 half among the rows of a tile (block,cols), all columns at once. */
static void radix_4(float *tile, size_t block, size_t cols, size_t half, float scale)
{
    for (size_t at = 0; at < block; at += 4 * half)
        for (size_t i = at; i < at + half; i++) {
            float *a = tile + i * cols, *b = a + half * cols, *c = b + half * cols,
                  *d = c + half * cols;
#pragma omp simd
            for (size_t j = 0; j < cols; j++) {
                float ab = a[j] + b[j], a_b = a[j] - b[j], cd = c[j] + d[j], c_d = c[j] - d[j];
                a[j] = (ab + cd) * scale;
                b[j] = (a_b + c_d) * scale;
                c[j] = (ab - cd) * scale;
                d[j] = (a_b - c_d) * scale;
            }
        }
}

static void radix_2(float *tile, size_t block, size_t cols, float scale)
{
    for (size_t i = 0; i < block; i += 2) {
        float *a = tile + i * cols, *b = a + cols;
#pragma omp simd
        for (size_t j = 0; j < cols; j++) {
            float sum = a[j] + b[j], difference = a[j] - b[j];
            a[j] = sum * scale;
            b[j] = difference * scale;
        }
    }
}

/* `block` rows by `cols` columns of x. The copy is contiguous: in place, rows a power of two apart would
 * throw one another out of the cache. Sums and the one scaling stand in the kernel's order. */
static void transform_tile(float *x, size_t n, size_t block, size_t cols)
{
    float tile[TILE];
    const float scale = (float)(1.0 / sqrt((double)block));
    const bool odd = __builtin_ctzll(block) % 2 != 0;
    for (size_t i = 0; i < block; i++)
        memcpy(tile + i * cols, x + i * n, cols * sizeof *x);
    if (odd)
        radix_2(tile, block, cols, block == 2 ? scale : 1);
    for (size_t half = odd ? 2 : 1; half < block; half *= 4)
        radix_4(tile, block, cols, half, 4 * half == block ? scale : 1);
    for (size_t i = 0; i < block; i++)
        memcpy(x + i * n, tile + i * cols, cols * sizeof *x);
}

void lq_hadamard_cols(float *x, size_t m, size_t n, size_t block)
{
    check_block(m, block);
    const size_t width = TILE / block < TILE_COLS ? TILE / block : TILE_COLS;
    const size_t across = (n + width - 1) / width;
#pragma omp parallel for schedule(static) if (m * n >= PARALLEL_FROM)
    for (size_t t = 0; t < m / block * across; t++) {
        size_t i = t / across * block, j = t % across * width;
        transform_tile(x + i * n + j, n, block, n - j < width ? n - j : width);
    }
}

void lq_hadamard_both(float *x, size_t m, size_t n, size_t block_m, size_t block_n)
{
    lq_hadamard_cols(x, m, n, block_m);
    lq_hadamard_rows(x, m, n, block_n);
}

void lq_scale_both(float *x, size_t m, size_t n, const float *left, const float *right)
{
    for (size_t i = 0; i < m; i++) {
        float *row = x + i * n, l = left != NULL ? left[i] : 1.0f;
        if (right == NULL)
            for (size_t j = 0; j < n; j++)
                row[j] *= l;
        else
            for (size_t j = 0; j < n; j++)
                row[j] *= l * right[j];
    }
}
