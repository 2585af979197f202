/* The Hadamard kernel in all its variants against the definition, and the transforms built on it. */
#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/math/kernels.h"
#include "core/quant/hadamard.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ROOM = 1 << 16 };
static float x[ROOM + 1], y[ROOM + 1], z[ROOM + 1];

static void fill(float *v, size_t n, uint64_t seed)
{
    lq_rng rng = lq_rng_seed(seed);
    for (size_t i = 0; i < n; i++)
        v[i] = (float)lq_rng_normal(&rng);
}

/* Entry (i,j) of the Sylvester Hadamard of order `block`, normalized. */
static double entry(size_t i, size_t j, size_t block)
{
    return (__builtin_popcountll(i & j) % 2 == 0 ? 1.0 : -1.0) / sqrt((double)block);
}

/* Largest distance of got from v Q by the definition; infinite when a NaN is met. */
static double gap_to_definition(const float *got, const float *v, size_t n, size_t D, size_t block)
{
    double worst = 0;
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < D; j++) {
            double sum = 0;
            for (size_t i = 0; i < block; i++)
                sum += (double)v[r * D + j / block * block + i] * entry(i, j % block, block);
            double gap = fabs(sum - (double)got[r * D + j]);
            if (!(gap <= worst))
                worst = isnan(gap) ? (double)INFINITY : gap;
        }
    return worst;
}

static void every_variant_is_the_definition(void **state)
{
    (void)state;
    const char *name;
    for (size_t v = 0; lq_kernels_variant(v, &name) != NULL; v++)
        for (size_t block = 1; block <= 512; block *= 2) {
            fill(x, 3 * 2 * block, block);
            memcpy(y, x, sizeof x);
            lq_kernels_variant(v, &name)->hadamard(y, 3, 2 * block, block);
            assert_true(gap_to_definition(y, x, 3, 2 * block, block) < 2e-6);
            y[1] += 1e-3f; /* the checker can refuse */
            assert_false(gap_to_definition(y, x, 3, 2 * block, block) < 2e-6);
            y[1] = NAN;
            assert_false(gap_to_definition(y, x, 3, 2 * block, block) < 2e-6);
        }
}

/* Bit for bit, at lengths that leave no vector whole, at odd addresses, for huge, tiny and zero values. */
static void twins_agree_bit_for_bit(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 67, 129, 255};
    static const size_t blocks[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
    const char *name;
    for (size_t v = 1; lq_kernels_variant(v, &name) != NULL; v++)
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
            for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
                size_t D = blocks[b] * (1 + l % 3), n = lengths[l];
                if (n * D > ROOM)
                    continue;
                fill(x, n * D + 1, l);
                x[0] = 1e37f;
                x[n * D / 2] = 1e-42f;
                x[n * D - 1] = 0;
                memcpy(y, x, sizeof x);
                lq_kernels_variant(0, &name)->hadamard(x + 1, n, D, blocks[b]);
                lq_kernels_variant(v, &name)->hadamard(y + 1, n, D, blocks[b]);
                assert_memory_equal(x, y, (n * D + 1) * sizeof *x);
            }
}

static void transform_undoes_itself(void **state)
{
    (void)state;
    const size_t m = 96, n = 640;
    fill(x, m * n, 5);
    memcpy(y, x, sizeof x);
    lq_hadamard_both(y, m, n, 32, 128);
    assert_false(fabs((double)(y[5] - x[5])) < 1e-6);
    lq_hadamard_both(y, m, n, 32, 128);
    for (size_t i = 0; i < m * n; i++)
        assert_true(fabs((double)(y[i] - x[i])) < 5e-6);
    for (size_t i = 0; i < 128; i++)
        z[i] = 1; /* the sum of the first row is sqrt(block), of every other 0 */
    lq_hadamard_rows(z, 1, 128, 128);
    assert_true(fabs((double)z[0] - sqrt(128.0)) < 1e-5);
    for (size_t i = 1; i < 128; i++)
        assert_true(z[i] == 0);
}

static void columns_are_rows_of_the_transpose(void **state)
{
    (void)state;
    static const size_t m = 64, widths[] = {1, 3, 31, 33, 100};
    static const size_t blocks[] = {1, 2, 16, 64};
    for (size_t w = 0; w < 5; w++)
        for (size_t b = 0; b < 4; b++) {
            size_t n = widths[w];
            fill(x, m * n, w);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++)
                    y[j * m + i] = x[i * n + j];
            lq_hadamard_cols(x, m, n, blocks[b]);
            lq_hadamard_rows(y, n, m, blocks[b]);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < n; j++)
                    assert_true(y[j * m + i] == x[i * n + j]);
        }
}

static void block_is_largest_power_of_two_that_divides(void **state)
{
    (void)state;
    assert_int_equal(lq_hadamard_block(256, 128), 128);
    assert_int_equal(lq_hadamard_block(256, 100), 64);
    assert_int_equal(lq_hadamard_block(576, 128), 64);
    assert_int_equal(lq_hadamard_block(192, 4096), 64);
    assert_int_equal(lq_hadamard_block(7, 128), 1);
    assert_int_equal(lq_hadamard_block(2048, 4096), 2048);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_is_the_definition),
        cmocka_unit_test(twins_agree_bit_for_bit),
        cmocka_unit_test(transform_undoes_itself),
        cmocka_unit_test(columns_are_rows_of_the_transpose),
        cmocka_unit_test(block_is_largest_power_of_two_that_divides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
