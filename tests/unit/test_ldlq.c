/* Block LDL, LDLQ and its sweeps against the plain definition in double, and by their identities. */
#include "core/base/rng.h"
#include "core/quant/ldlq.h"
#include "core/quant/rotation.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N_MAX = 288, M_MAX = 160 };
static double H[N_MAX * N_MAX], L[N_MAX * N_MAX], D[N_MAX * 4];
static float W[M_MAX * N_MAX], What[M_MAX * N_MAX], other[M_MAX * N_MAX];
static uint16_t code[M_MAX * N_MAX], other_code[M_MAX * N_MAX];
static const lq_scalar_grid grid = {.levels = 4, .step = 0.894427f, .offset = -1.341641f};
static lq_arena arena;

static void fill_weights(size_t m, size_t n, uint64_t seed)
{
    lq_rng rng = lq_rng_seed(seed);
    for (size_t i = 0; i < m * n; i++)
        W[i] = (float)(0.83 * lq_rng_normal(&rng));
}

/* A decaying autoregressive spectrum plus four random directions; mean diagonal 1, then 0.01 on it. */
static void fill_gram(size_t n, uint64_t seed)
{
    enum { DIRECTIONS = 4 };
    lq_rng rng = lq_rng_seed(seed);
    double z[DIRECTIONS][N_MAX], trace = 0;
    for (size_t i = 0; i < DIRECTIONS * n; i++)
        z[i / n][i % n] = lq_rng_normal(&rng);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = pow(0.8, (double)(i - j)) / sqrt((1 + (double)i) * (1 + (double)j));
            for (size_t s = 0; s < DIRECTIONS; s++)
                sum += 0.02 * z[s][i] * z[s][j];
            H[i * n + j] = H[j * n + i] = sum;
            trace += i == j ? sum : 0;
        }
    for (size_t i = 0; i < n * n; i++)
        H[i] = H[i] * (double)n / trace + (i / n == i % n ? 0.01 : 0);
}

static void ldl_multiplies_back(void **state)
{
    (void)state;
    static const size_t blocks[] = {1, 2, 4};
    const size_t n = 68;
    fill_gram(n, 1);
    for (size_t b = 0; b < 3; b++) {
        size_t d = blocks[b];
        assert_int_equal(lq_block_ldl(H, n, d, L, D), LQ_OK);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0; /* L D L' */
                for (size_t k = 0; k < n; k++)
                    for (size_t l = k / d * d; l < k / d * d + d; l++)
                        sum += L[i * n + k] * D[k * d + l % d] * L[j * n + l];
                assert_true(fabs(sum - H[i * n + j]) < 1e-12);
                if (i / d == j / d)
                    assert_true(L[i * n + j] == (i == j));
                if (j > i)
                    assert_true(L[i * n + j] == 0);
            }
    }
}

static float nearest(double t, uint16_t *c)
{
    double q = rint((t - (double)grid.offset) / (double)grid.step);
    *c = (uint16_t)(q < 0 ? 0 : q > 3 ? 3 : q);
    return grid.offset + grid.step * (float)*c;
}

/* The definition: no panels, all in double. */
static void plain_ldlq(size_t m, size_t n, size_t d)
{
    assert_int_equal(lq_block_ldl(H, n, d, L, D), LQ_OK);
    for (size_t i = 0; i < m; i++)
        for (size_t k = n; k > 0; k -= d)
            for (size_t c = k - d; c < k; c++) {
                double t = (double)W[i * n + c];
                for (size_t j = k; j < n; j++)
                    t += ((double)W[i * n + j] - (double)other[i * n + j]) * L[j * n + c];
                other[i * n + c] = nearest(t, &other_code[i * n + c]);
            }
}

/* Sweep with block 1: the best value of a weight, all others kept, rounded. */
static void plain_sweep(size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++)
        for (size_t k = n; k-- > 0;) {
            double t = 0;
            for (size_t j = 0; j < n; j++)
                t += ((double)W[i * n + j] - (double)other[i * n + j]) * H[j * n + k];
            t = (double)other[i * n + k] + t / H[k * n + k];
            other[i * n + k] = nearest(t, &other_code[i * n + k]);
        }
}

static lq_ldlq_result round_with(size_t m, size_t n, size_t d, size_t sweeps, size_t sweep_block,
                                 bool guard)
{
    const lq_rounder rounder = lq_rounder_scalar(&grid);
    const lq_ldlq_opts how = {d, sweeps, sweep_block, guard};
    lq_ldlq_result result;
    assert_int_equal(lq_ldlq(W, H, m, n, &rounder, &how, What, code, &result, &arena), LQ_OK);
    return result;
}

/* Widths below, at and above a panel, and no multiple of it. */
static void panels_do_not_show(void **state)
{
    (void)state;
    static const size_t widths[] = {4, 36, 128, 140, 264}, blocks[] = {1, 2, 4};
    const size_t m = 37;
    for (size_t w = 0; w < 5; w++)
        for (size_t b = 0; b < 3; b++) {
            size_t n = widths[w];
            fill_weights(m, n, 7 * w + b);
            fill_gram(n, w);
            plain_ldlq(m, n, blocks[b]);
            round_with(m, n, blocks[b], 0, 0, true);
            assert_memory_equal(code, other_code, m * n * sizeof *code);
            assert_memory_equal(What, other, m * n * sizeof *What);
            plain_sweep(m, n);
            lq_ldlq_result one = round_with(m, n, blocks[b], 1, 1, false);
            assert_memory_equal(code, other_code, m * n * sizeof *code);
            const double proxy = lq_proxy_error(W, other, H, m, n, &arena);
            assert_true(fabs(one.proxy - proxy) < 1e-6 * proxy);
            other_code[0] ^= 1;
            assert_memory_not_equal(code, other_code, m * n * sizeof *code);
        }
}

/* P = tr(eta D eta'), eta = (W - What) L, and eta_k is the rounding error of block k. */
static void loss_is_that_of_the_rounding_errors(void **state)
{
    (void)state;
    const size_t m = 16, n = 140, d = 4;
    fill_weights(m, n, 3);
    fill_gram(n, 3);
    lq_ldlq_result result = round_with(m, n, d, 0, 0, true);
    assert_int_equal(lq_block_ldl(H, n, d, L, D), LQ_OK);
    double total = 0, eta[N_MAX];
    for (size_t i = 0; i < m; i++) {
        for (size_t k = 0; k < n; k++) {
            eta[k] = 0;
            for (size_t j = k; j < n; j++)
                eta[k] += (double)(W[i * n + j] - What[i * n + j]) * L[j * n + k];
            uint16_t c; /* the target was What + eta */
            assert_true(nearest((double)What[i * n + k] + eta[k], &c) == What[i * n + k]);
        }
        for (size_t k = 0; k < n; k++)
            for (size_t l = k / d * d; l < k / d * d + d; l++)
                total += eta[k] * D[k * d + l % d] * eta[l];
    }
    total /= lq_quadratic_trace(W, H, m, n, &arena);
    assert_true(fabs(total - result.proxy) < 1e-6 * result.proxy);
}

static void identity_gram_is_plain_rounding(void **state)
{
    (void)state;
    const size_t m = 20, n = 132;
    fill_weights(m, n, 4);
    for (size_t i = 0; i < n * n; i++)
        H[i] = i / n == i % n;
    lq_ldlq_result with = round_with(m, n, 4, 10, 4, true);
    assert_int_equal(with.sweeps, 1); /* the first one moves nothing */
    assert_int_equal(with.best_sweep, 0);
    for (size_t i = 0; i < m * n; i++)
        assert_true(nearest((double)W[i], &other_code[i]) == What[i] && other_code[i] == code[i]);
    const lq_rounder rounder = lq_rounder_scalar(&grid);
    const lq_ldlq_opts how = {4, 10, 4, true};
    lq_ldlq_result without;
    assert_int_equal(lq_ldlq(W, NULL, m, n, &rounder, &how, What, code, &without, &arena), LQ_OK);
    assert_memory_equal(code, other_code, m * n * sizeof *code);
    assert_true(fabs(with.proxy - without.proxy) < 1e-6 * without.proxy);
}

static void feedback_and_sweeps_pay(void **state)
{
    (void)state;
    const size_t m = 64, n = 192;
    fill_weights(m, n, 5);
    fill_gram(n, 5);
    const lq_rounder rounder = lq_rounder_scalar(&grid);
    const lq_ldlq_opts how = {1, 0, 1, true};
    lq_ldlq_result plain;
    assert_int_equal(lq_ldlq(W, NULL, m, n, &rounder, &how, What, code, &plain, &arena), LQ_OK);
    double rounded = lq_proxy_error(W, What, H, m, n, &arena), last = (double)INFINITY;
    assert_true(round_with(m, n, 1, 0, 1, true).proxy < 0.7 * rounded);
    for (size_t sweeps = 0; sweeps <= 5; sweeps++) { /* block 1 cannot go up, guarded or not */
        double proxy = round_with(m, n, 4, sweeps, 1, false).proxy;
        assert_true(proxy <= last * (1 + 1e-6));
        last = proxy;
    }
}

/* Four outlier channels of gain 20 among independent ones, rotated. Their numbers agree modulo 4, so that
 * every diagonal block is nearly of rank one: there a sweep with block 4 raises the loss, since it rounds
 * in the plain sense what the gram does not weigh plainly. */
static void fill_outlier_gram(size_t n, uint64_t seed)
{
    float sign[N_MAX];
    lq_rng rng = lq_rng_seed(seed);
    double mean = ((double)n - 4 + 4 * 400) / (double)n;
    for (size_t i = 0; i < n * n; i++)
        H[i] = i / n == i % n ? 1 / mean + 0.01 : 0;
    for (size_t i = 0; i < 4; i++)
        H[(seed * 4 + i * 60) % n * (n + 1)] = 400 / mean;
    for (size_t i = 0; i < n; i++)
        sign[i] = lq_rng_sign(&rng);
    lq_rotation whole;
    assert_int_equal(lq_rotation_new(LQ_ROTATION_FULL, n, 0, &arena, &whole), LQ_OK);
    lq_rotate_gram(H, n, sign, &whole, &arena);
}

static void guard_keeps_the_best_sweep(void **state)
{
    (void)state;
    const size_t m = 64, n = 256;
    bool some_went_up = false;
    for (uint64_t seed = 0; seed < 3; seed++) {
        fill_weights(m, n, 40 + seed);
        fill_outlier_gram(n, seed);
        double best = (double)INFINITY;
        size_t best_at = 0;
        for (size_t sweeps = 0; sweeps <= 3; sweeps++) {
            double proxy = round_with(m, n, 4, sweeps, 4, false).proxy;
            some_went_up = some_went_up || (sweeps > 0 && proxy > best);
            best_at = proxy < best ? sweeps : best_at;
            best = proxy < best ? proxy : best;
        }
        lq_ldlq_result guarded = round_with(m, n, 4, 3, 4, true);
        assert_int_equal(guarded.best_sweep, best_at);
        assert_true(fabs(guarded.proxy - best) < 1e-6 * best);
        assert_true(fabs(lq_proxy_error(W, What, H, m, n, &arena) - best) < 1e-6 * best);
        assert_true(guarded.proxy <= guarded.first);
    }
    assert_true(some_went_up); /* else the guard was not tested */
}

static void table_of_the_grid_is_the_grid(void **state)
{
    (void)state;
    static float word[256 * 4], norm[256];
    const size_t m = 32, n = 64;
    for (size_t k = 0; k < 256; k++) {
        norm[k] = 0;
        for (size_t i = 0; i < 4; i++) {
            word[k * 4 + i] = grid.offset + grid.step * (float)(k >> (6 - 2 * i) & 3);
            norm[k] += word[k * 4 + i] * word[k * 4 + i];
        }
    }
    fill_weights(m, n, 6);
    fill_gram(n, 6);
    round_with(m, n, 4, 3, 4, true);
    const lq_word_table table = {.words = 256, .d = 4, .word = word, .norm = norm};
    const lq_rounder rounder = lq_rounder_table(&table);
    const lq_ldlq_opts how = {4, 3, 4, true};
    lq_ldlq_result result;
    assert_int_equal(lq_ldlq(W, H, m, n, &rounder, &how, other, other_code, &result, &arena),
                     LQ_OK);
    assert_memory_equal(other, What, m * n * sizeof *What);
    for (size_t i = 0; i < m * n / 4; i++)
        assert_int_equal(other_code[i], code[4 * i] << 6 | code[4 * i + 1] << 4 |
                                            code[4 * i + 2] << 2 | code[4 * i + 3]);
}

static void equal_scores_go_to_the_first_word(void **state)
{
    (void)state;
    static const float word[] = {1, 1, 0, 0, 1, 1}, norm[] = {2, 0, 2};
    static const float target[] = {1, 1, 0.5f, 0.5f};
    const lq_word_table table = {.words = 3, .d = 2, .word = word, .norm = norm};
    const lq_rounder rounder = lq_rounder_table(&table);
    float value[4];
    uint16_t found[2];
    lq_round_vectors(&rounder, target, 2, 2, value, found);
    assert_int_equal(found[0], 0); /* not 2 */
    assert_int_equal(found[1], 0); /* a tie with word 1 */
    assert_true(value[0] == 1 && value[3] == 1);
}

static void scalar_ties_go_to_even_and_clip(void **state)
{
    (void)state;
    const lq_scalar_grid whole = {.levels = 4, .step = 1, .offset = 0};
    const lq_rounder rounder = lq_rounder_scalar(&whole);
    static const float target[] = {0.5f, 1.5f, 2.5f, -3, 9, -0.5f};
    static const uint16_t want[] = {0, 2, 2, 0, 3, 0};
    float value[6];
    uint16_t found[6];
    lq_round_vectors(&rounder, target, 6, 1, value, found);
    assert_memory_equal(found, want, sizeof want);
}

/* The closed form for N(0,1) on the uniform grid of unit variance when the data have rms g. */
static double expected_mse(double g)
{
    const double step = 1 / sqrt(1.25) / g;
    double mse = 0;
    for (int i = 0; i < 4; i++) {
        double c = (i - 1.5) * step, low = (i - 2) * step, high = (i - 1) * step;
        double p_low = i == 0 ? 0 : exp(-low * low / 2) / sqrt(2 * 3.14159265358979);
        double p_high = i == 3 ? 0 : exp(-high * high / 2) / sqrt(2 * 3.14159265358979);
        double mass =
            (i == 3 ? 1 : 0.5 * erfc(-high / sqrt(2))) - (i == 0 ? 0 : 0.5 * erfc(-low / sqrt(2)));
        mse += mass - (i == 3 ? 0 : high * p_high) + (i == 0 ? 0 : low * p_low) -
               2 * c * (p_low - p_high) + c * c * mass;
    }
    return mse;
}

static void gaussian_mse_is_the_closed_form(void **state)
{
    (void)state;
    static const double g[] = {0.83, 0.8983, 1.0}, known[] = {0.121392, 0.118846, 0.123352};
    const lq_rounder rounder = lq_rounder_scalar(&grid);
    for (size_t i = 0; i < 3; i++) {
        assert_true(fabs(expected_mse(g[i]) - known[i]) < 2e-6);
        lq_rng rng = lq_rng_seed(60 + i);
        double mse = 0;
        const size_t n = 200000;
        for (size_t s = 0; s < n; s++) {
            float x = (float)lq_rng_normal(&rng), t = (float)g[i] * x, value;
            uint16_t c;
            lq_round_vectors(&rounder, &t, 1, 1, &value, &c);
            double gap = (double)x - (double)value / g[i];
            mse += gap * gap / (double)n;
        }
        assert_true(fabs(mse - known[i]) < 0.02 * known[i]);
    }
}

static void thread_count_does_not_show(void **state)
{
    (void)state;
    const size_t m = 150, n = 256;
    fill_weights(m, n, 8);
    fill_gram(n, 8);
    round_with(m, n, 4, 2, 4, true);
    memcpy(other_code, code, sizeof code);
    omp_set_num_threads(2);
    round_with(m, n, 4, 2, 4, true);
    omp_set_num_threads(1);
    assert_memory_equal(code, other_code, m * n * sizeof *code);
}

static void odd_shapes_and_grams_are_refused(void **state)
{
    (void)state;
    static const float word[8] = {0}, norm[2] = {0};
    const lq_word_table table = {.words = 2, .d = 4, .word = word, .norm = norm};
    const lq_rounder scalar = lq_rounder_scalar(&grid), vector = lq_rounder_table(&table);
    lq_ldlq_result result;
    const lq_ldlq_opts by4 = {4, 0, 0, true}, by3 = {3, 0, 0, true}, mixed = {4, 1, 1, true};
    fill_weights(2, 12, 9);
    fill_gram(12, 9);
    assert_int_equal(lq_ldlq(W, H, 2, 10, &scalar, &by4, What, code, &result, &arena), LQ_E_SHAPE);
    assert_int_equal(lq_ldlq(W, H, 2, 12, &scalar, &by3, What, code, &result, &arena), LQ_E_SHAPE);
    assert_int_equal(lq_ldlq(W, H, 2, 12, &vector, &mixed, What, code, &result, &arena),
                     LQ_E_SHAPE);
    assert_int_equal(lq_block_ldl(H, 10, 4, L, D), LQ_E_SHAPE);
    H[0] = -1;
    assert_int_equal(lq_ldlq(W, H, 2, 12, &scalar, &by4, What, code, &result, &arena),
                     LQ_E_NUMERIC);
}

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

int main(void)
{
    omp_set_num_threads(1); /* small matrices: waiting for a second thread is all it would do */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ldl_multiplies_back),
        cmocka_unit_test(panels_do_not_show),
        cmocka_unit_test(loss_is_that_of_the_rounding_errors),
        cmocka_unit_test(identity_gram_is_plain_rounding),
        cmocka_unit_test(feedback_and_sweeps_pay),
        cmocka_unit_test(guard_keeps_the_best_sweep),
        cmocka_unit_test(table_of_the_grid_is_the_grid),
        cmocka_unit_test(equal_scores_go_to_the_first_word),
        cmocka_unit_test(scalar_ties_go_to_even_and_clip),
        cmocka_unit_test(gaussian_mse_is_the_closed_form),
        cmocka_unit_test(thread_count_does_not_show),
        cmocka_unit_test(odd_shapes_and_grams_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, close_arena);
}
