/* Hadamard matrices of Paley and their products; the rotations by blocks and of whole dimensions. */
#include "tests/check.h"

#include "core/quant/hadamard.h"
#include "core/quant/paley.h"
#include "core/quant/rotation.h"

#include <string.h>

static lq_arena arena;

static float *room(size_t n)
{
    float *x;
    check_ok(lq_arena_new(&arena, &x, n));
    return x;
}

static float *normal(size_t n, uint64_t seed)
{
    float *x = room(n);
    lq_rng rng = lq_rng_seed(seed);
    lq_fill_normal(x, n, &rng);
    return x;
}

/* Entries are +-1 and H H' = K I, exactly. */
static bool is_hadamard(const float *H, size_t K)
{
    for (size_t i = 0; i < K * K; i++)
        if (!(fabsf(H[i]) == 1))
            return false;
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j <= i; j++) {
            float dot = 0;
            for (size_t k = 0; k < K; k++)
                dot += H[i * K + k] * H[j * K + k];
            if (!(dot == (i == j ? (float)K : 0)))
                return false;
        }
    return true;
}

static void constructions_are_hadamard(void **state)
{
    (void)state;
    static const size_t missing[] = {0, 3, 5, 6, 7, 14, 92, 116, 156, 172, 184, 188};
    size_t found = 0;
    for (size_t K = 1; K <= 200; K++) {
        bool expected = K <= 2 || K % 4 == 0;
        for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
            expected = expected && K != missing[i];
        if (lq_paley_exists(K) != expected)
            fail_msg("order %zu: exists is %d", K, lq_paley_exists(K));
        if (!expected)
            continue;
        lq_mark mark = lq_arena_mark(&arena);
        float *H = room(K * K);
        check_ok(lq_paley_fill(K, H, &arena));
        if (!is_hadamard(H, K))
            fail_msg("order %zu is no Hadamard matrix", K);
        H[K * K - 1] = -H[K * K - 1];
        assert_true(K == 1 || !is_hadamard(H, K)); /* the checker can refuse */
        lq_arena_release(&arena, mark);
        found++;
    }
    assert_int_equal(found, 2 + 50 - 6);
    assert_false(lq_paley_exists(LQ_PALEY_LARGEST + 4));
}

static void large_orders_and_cubes_of_primes(void **state)
{
    (void)state;
    static const size_t orders[] = {244, 252, 344, 368}; /* 11^2, 251, 7^3, 367 */
    for (size_t i = 0; i < 4; i++) {
        lq_mark mark = lq_arena_mark(&arena);
        float *H = room(orders[i] * orders[i]);
        check_ok(lq_paley_fill(orders[i], H, &arena));
        assert_true(is_hadamard(H, orders[i]));
        lq_arena_release(&arena, mark);
    }
}

static void factor_is_the_smallest_that_exists(void **state)
{
    (void)state;
    static const size_t want[][2] = {{1, 1},       {2, 1},    {2048, 1},  {16384, 4},  {768, 12},
                                     {6144, 12},   {576, 36}, {320, 20},  {9728, 76},  {25600, 100},
                                     {5120, 20},   {192, 12}, {1536, 12}, {12288, 12}, {736, 368},
                                     {11008, 344}, {6, 0},    {7, 0},     {92, 0},     {130, 0}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        if (lq_rotation_factor(want[i][0]) != want[i][1])
            fail_msg("%zu: factor %zu", want[i][0], lq_rotation_factor(want[i][0]));
}

static void missing_rotation_names_the_alternative(void **state)
{
    (void)state;
    lq_rotation q;
    assert_int_equal(lq_rotation_new(LQ_ROTATION_FULL, 184, 0, &arena, &q), LQ_E_SHAPE);
    assert_non_null(strstr(lq_status_note(), "184"));
    assert_non_null(strstr(lq_status_note(), "rotation=block"));
    assert_non_null(strstr(lq_status_note(), "blocks of 8"));
    check_ok(lq_rotation_new(LQ_ROTATION_BLOCK, 184, 128, &arena, &q));
    assert_int_equal(q.block, 8);
}

/* Entry (i,j) of Q by its definition: i = k n/K + a. */
static double entry(const lq_rotation *q, size_t i, size_t j)
{
    const size_t p = q->block, a = i % p, b = j % p;
    const double sylvester = (__builtin_popcountll(a & b) % 2 == 0 ? 1.0 : -1.0) / sqrt((double)p);
    if (q->dense == NULL)
        return i / p == j / p ? sylvester : 0;
    return sylvester * (double)q->dense[i / p * q->factor + j / p];
}

static lq_rotation rotation(lq_rotation_kind kind, size_t n)
{
    lq_rotation q;
    check_ok(lq_rotation_new(kind, n, 16, &arena, &q));
    return q;
}

/* Q_m' x Q_n, or with back Q_m x Q_n', entry by entry. */
static void by_definition(float *out, const float *x, const lq_rotation *qm, const lq_rotation *qn,
                          bool back)
{
    const size_t m = qm->n, n = qn->n;
    double *half = lq_arena_f64(&arena, m * n);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            half[i * n + j] = 0;
            for (size_t k = 0; k < n; k++)
                half[i * n + j] +=
                    (double)x[i * n + k] * (back ? entry(qn, j, k) : entry(qn, k, j));
        }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < m; k++)
                sum += half[k * n + j] * (back ? entry(qm, i, k) : entry(qm, k, i));
            out[i * n + j] = (float)sum;
        }
}

static void both_ways_are_the_definition(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{12, 20}, {24, 28}, {36, 40}, {80, 48}, {16, 72}, {7, 12}};
    for (size_t s = 0; s < 6; s++)
        for (int kind = LQ_ROTATION_BLOCK; kind <= LQ_ROTATION_NONE; kind++) {
            const size_t m = shapes[s][0], n = shapes[s][1];
            lq_mark mark = lq_arena_mark(&arena);
            if (kind == LQ_ROTATION_FULL && lq_rotation_factor(m) == 0)
                continue;
            const lq_rotation qm = rotation((lq_rotation_kind)kind, m),
                              qn = rotation((lq_rotation_kind)kind, n);
            float *x = normal(m * n, s), *y = room(m * n), *want = room(m * n);
            memcpy(y, x, m * n * sizeof *y);
            lq_rotate_in(y, m, n, &qm, &qn);
            by_definition(want, x, &qm, &qn, false);
            assert_true(lq_worst(y, want, m * n) < 5e-6);
            lq_rotate_out(y, m, n, &qm, &qn);
            assert_true(lq_worst(y, x, m * n) < 5e-6);
            lq_rotate_out(y, m, n, &qm, &qn);
            by_definition(want, x, &qm, &qn, true);
            assert_true(lq_worst(y, want, m * n) < 5e-6);
            want[3] += 1e-3f;
            assert_false(lq_worst(y, want, m * n) < 5e-6);
            lq_arena_release(&arena, mark);
        }
}

/* Paley I is skew: to take Q for Q' would not undo it. */
static void transpose_is_not_the_same(void **state)
{
    (void)state;
    const lq_rotation one = rotation(LQ_ROTATION_FULL, 1), q = rotation(LQ_ROTATION_FULL, 20);
    float *x = normal(20, 3), *y = room(20);
    memcpy(y, x, 20 * sizeof *y);
    lq_rotate_in(y, 1, 20, &one, &q);
    lq_rotate_in(y, 1, 20, &one, &q);
    assert_false(lq_worst(y, x, 20) < 0.1);
}

static void whole_dimensions_come_back(void **state)
{
    (void)state;
    static const size_t dims[] = {576, 768, 1536, 6144, 16384, 736, 20, 1};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        const size_t n = dims[i], m = 2;
        lq_mark mark = lq_arena_mark(&arena);
        const lq_rotation qm = rotation(LQ_ROTATION_FULL, m), qn = rotation(LQ_ROTATION_FULL, n);
        assert_int_equal(qn.block * qn.factor, n);
        float *x = normal(m * n, i), *y = room(m * n);
        double before = 0, after = 0;
        memcpy(y, x, m * n * sizeof *y);
        lq_rotate_in(y, m, n, &qm, &qn);
        for (size_t k = 0; k < m * n; k++) {
            before += (double)x[k] * (double)x[k];
            after += (double)y[k] * (double)y[k];
        }
        check_close(after, before, 1e-5, 0);
        assert_true(n == 1 || lq_worst(y, x, m * n) > 0.1);
        lq_rotate_out(y, m, n, &qm, &qn);
        assert_true(lq_worst(y, x, m * n) < 1e-5);
        /* and as columns: the transpose gives the transpose */
        float *columns = room(m * n);
        for (size_t r = 0; r < m; r++)
            for (size_t c = 0; c < n; c++)
                columns[c * m + r] = x[r * n + c];
        memcpy(y, x, m * n * sizeof *y);
        lq_rotate_in(y, m, n, &qm, &qn);
        lq_rotate_in(columns, n, m, &qn, &qm);
        for (size_t r = 0; r < m; r++)
            for (size_t c = 0; c < n; c++)
                assert_true(fabsf(columns[c * m + r] - y[r * n + c]) < 1e-5f);
        lq_arena_release(&arena, mark);
    }
}

/* tr(E H E') before and after, with E rotated as weights are. */
static void gram_rotation_keeps_the_loss(void **state)
{
    (void)state;
    static const size_t dims[] = {96, 60, 36, 20};
    for (size_t i = 0; i < 4; i++)
        for (int kind = LQ_ROTATION_BLOCK; kind <= LQ_ROTATION_NONE; kind++) {
            const size_t n = dims[i];
            lq_mark mark = lq_arena_mark(&arena);
            const lq_rotation q = rotation((lq_rotation_kind)kind, n),
                              one = rotation(LQ_ROTATION_NONE, 1);
            lq_rng rng = lq_rng_seed(i);
            double *H = lq_arena_f64(&arena, n * n), before = 0, after = 0;
            float *sign = room(n), *e = normal(n, 9);
            for (size_t a = 0; a < n; a++) {
                sign[a] = lq_rng_sign(&rng);
                for (size_t b = 0; b <= a; b++)
                    H[a * n + b] = H[b * n + a] = lq_rng_normal(&rng);
            }
            for (size_t a = 0; a < n * n; a++)
                before += (double)e[a / n] * H[a] * (double)e[a % n];
            lq_rotate_gram(H, n, sign, &q, &arena);
            lq_scale_both(e, 1, n, NULL, sign);
            lq_rotate_in(e, 1, n, &one, &q);
            for (size_t a = 0; a < n; a++)
                for (size_t b = 0; b < n; b++) {
                    after += (double)e[a] * H[a * n + b] * (double)e[b];
                    check_close(H[a * n + b], H[b * n + a], 0, 1e-12);
                }
            check_close(after, before, 1e-5, 1e-4);
            lq_arena_release(&arena, mark);
        }
}

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constructions_are_hadamard),
        cmocka_unit_test(large_orders_and_cubes_of_primes),
        cmocka_unit_test(factor_is_the_smallest_that_exists),
        cmocka_unit_test(missing_rotation_names_the_alternative),
        cmocka_unit_test(both_ways_are_the_definition),
        cmocka_unit_test(transpose_is_not_the_same),
        cmocka_unit_test(whole_dimensions_come_back),
        cmocka_unit_test(gram_rotation_keeps_the_loss),
    };
    return cmocka_run_group_tests_name("rotation", tests, NULL, close_arena);
}
