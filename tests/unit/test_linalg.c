/* Factorizations: identities on a random symmetric positive definite matrix, and refusals. */
#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/math/linalg.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { N_MAX = 130 };
static double A[N_MAX * N_MAX], X[N_MAX * N_MAX], Y[N_MAX * N_MAX];

/* A = B B' / n + I / 10, B normal. */
static void make_spd(size_t n, uint64_t seed)
{
    lq_rng rng = lq_rng_seed(seed);
    for (size_t i = 0; i < n * n; i++)
        Y[i] = lq_rng_normal(&rng);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = i == j ? 0.1 * (double)n : 0;
            for (size_t k = 0; k < n; k++)
                sum += Y[i * n + k] * Y[j * n + k];
            A[i * n + j] = sum / (double)n;
        }
}

/* Largest |P Q - R| with P, Q optionally transposed; infinite when a NaN is met. */
static double product_gap(const double *P, bool p_t, const double *Q, bool q_t, const double *R,
                          size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++)
                sum += (p_t ? P[k * n + i] : P[i * n + k]) * (q_t ? Q[j * n + k] : Q[k * n + j]);
            double gap = fabs(sum - R[i * n + j]);
            if (!(gap <= worst))
                worst = isnan(gap) ? (double)INFINITY : gap;
        }
    return worst;
}

static void identity(double *I, size_t n)
{
    for (size_t i = 0; i < n * n; i++)
        I[i] = i / n == i % n;
}

static const size_t orders[] = {1, 2, 3, 17, 64, N_MAX};
enum { N_ORDERS = sizeof orders / sizeof orders[0] };

static void gap_sees_wrong_product_and_nan(void **state)
{
    (void)state;
    make_spd(3, 1);
    memcpy(X, A, sizeof X);
    assert_int_equal(lq_cholesky(X, 3), LQ_OK);
    assert_true(product_gap(X, false, X, true, A, 3) < 1e-12);
    X[3] += 1e-3;
    assert_true(product_gap(X, false, X, true, A, 3) > 1e-5);
    X[3] = (double)NAN;
    assert_false(product_gap(X, false, X, true, A, 3) < 1e9);
}

static void cholesky_multiplies_back(void **state)
{
    (void)state;
    for (size_t o = 0; o < N_ORDERS; o++) {
        size_t n = orders[o];
        make_spd(n, 10 + o);
        memcpy(X, A, n * n * sizeof *X);
        assert_int_equal(lq_cholesky(X, n), LQ_OK);
        assert_true(product_gap(X, false, X, true, A, n) < 1e-12);
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++)
                assert_true(X[i * n + j] == 0);
    }
    assert_int_equal(lq_cholesky(X, 0), LQ_OK);
}

static void cholesky_reads_the_lower_triangle_only(void **state)
{
    (void)state;
    make_spd(17, 3);
    memcpy(X, A, sizeof X);
    for (size_t i = 0; i < 17; i++)
        for (size_t j = i + 1; j < 17; j++)
            X[i * 17 + j] = 1e6;
    assert_int_equal(lq_cholesky(X, 17), LQ_OK);
    assert_true(product_gap(X, false, X, true, A, 17) < 1e-12);
}

static void inverses_undo(void **state)
{
    (void)state;
    for (size_t o = 0; o < N_ORDERS; o++) {
        size_t n = orders[o];
        make_spd(n, 20 + o);
        memcpy(X, A, n * n * sizeof *X);
        assert_int_equal(lq_spd_inverse(X, n), LQ_OK);
        identity(Y, n);
        assert_true(product_gap(A, false, X, false, Y, n) < 1e-10);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                assert_true(X[i * n + j] == X[j * n + i]);

        assert_int_equal(lq_cholesky(A, n), LQ_OK);
        memcpy(X, A, n * n * sizeof *X);
        lq_lower_inverse(X, n);
        assert_true(product_gap(A, false, X, false, Y, n) < 1e-11);
    }
}

static void upper_factor_is_of_the_inverse(void **state)
{
    (void)state;
    for (size_t o = 0; o < N_ORDERS; o++) {
        size_t n = orders[o];
        make_spd(n, 30 + o);
        memcpy(X, A, n * n * sizeof *X);
        assert_int_equal(lq_inverse_upper_cholesky(X, n), LQ_OK);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++)
                assert_true(X[i * n + j] == 0);
        assert_int_equal(lq_spd_inverse(A, n), LQ_OK);
        assert_true(product_gap(X, true, X, false, A, n) < 1e-9);
    }
}

static void odd_matrices_are_refused(void **state)
{
    (void)state;
    make_spd(5, 4);
    A[7] = (double)NAN;
    assert_int_equal(lq_cholesky(A, 5), LQ_E_NUMERIC);
    assert_non_null(strstr(lq_status_note(), "(1,2) is not finite"));
    A[7] = (double)INFINITY;
    assert_int_equal(lq_spd_inverse(A, 5), LQ_E_NUMERIC);
    identity(A, 5);
    A[3 * 5 + 3] = -1;
    assert_int_equal(lq_inverse_upper_cholesky(A, 5), LQ_E_NUMERIC);
    assert_non_null(strstr(lq_status_note(), "pivot 4"));
    identity(A, 5);
    A[0] = 0;
    assert_int_equal(lq_cholesky(A, 5), LQ_E_NUMERIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gap_sees_wrong_product_and_nan),
        cmocka_unit_test(cholesky_multiplies_back),
        cmocka_unit_test(cholesky_reads_the_lower_triangle_only),
        cmocka_unit_test(inverses_undo),
        cmocka_unit_test(upper_factor_is_of_the_inverse),
        cmocka_unit_test(odd_matrices_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
