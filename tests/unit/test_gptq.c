/* GPTQ against a plain version of itself: one column after the other, the whole rest corrected each time,
 * the inverse's factor by a Cholesky of its own. */
#include "core/math/gemm.h"
#include "core/quant/grid.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern const lq_method lq_method_gptq, lq_method_rtn;
static lq_arena arena;

static int tear_down(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

static lq_theta theta_of(const lq_method *method, const char *options, size_t out, size_t in)
{
    lq_json *json;
    void *opts;
    lq_theta th;
    assert_int_equal(lq_json_parse(options, strlen(options), "test", &json), LQ_OK);
    assert_int_equal(lq_method_options(method, json, "test", &arena, &opts), LQ_OK);
    assert_int_equal(lq_theta_new(method, opts, out, in, &arena, &th), LQ_OK);
    lq_json_free(json);
    return th;
}

static float *random_weight(uint64_t seed, size_t out, size_t in)
{
    lq_rng rng = lq_rng_seed(seed);
    float *w = lq_arena_f32(&arena, out * in);
    for (size_t i = 0; i < out * in; i++)
        w[i] = (float)lq_rng_normal(&rng) * 0.1f;
    return w;
}

/* Strongly correlated inputs of uneven size: 6 directions over a floor. */
static double *random_gram(uint64_t seed, size_t in)
{
    enum { RANK = 6 };
    lq_rng rng = lq_rng_seed(seed);
    double *gram = lq_arena_f64(&arena, in * in), *x = lq_arena_f64(&arena, RANK * in);
    for (size_t j = 0; j < in; j++) {
        double size = exp(lq_rng_normal(&rng));
        for (size_t r = 0; r < RANK; r++)
            x[r * in + j] = size * lq_rng_normal(&rng);
    }
    for (size_t i = 0; i < in; i++)
        for (size_t j = 0; j < in; j++) {
            double sum = i == j ? 0.05 * (1 + lq_rng_uniform(&rng)) : 0;
            for (size_t r = 0; r < RANK; r++)
                sum += x[r * in + i] * x[r * in + j];
            gram[i * in + j] = sum;
        }
    return gram;
}

/* tr((W - What) H (W - What)') */
static double proxy(const float *w, const float *w_eff, const double *gram, size_t out, size_t in)
{
    double sum = 0;
    for (size_t r = 0; r < out; r++)
        for (size_t i = 0; i < in; i++)
            for (size_t j = 0; j < in; j++)
                sum += ((double)w[r * in + i] - (double)w_eff[r * in + i]) * gram[i * in + j] *
                       ((double)w[r * in + j] - (double)w_eff[r * in + j]);
    return sum;
}

typedef struct plain_options {
    size_t group;
    bool act_order, static_groups, stale_groups;
} plain_options;

/* U upper with A^-1 = U' U. With J the reversal, J A J = L L' gives A^-1 = (J L^-1 J)' (J L^-1 J), whose
 * factor is upper: element (i,j) of U is element (n-1-i, n-1-j) of L^-1. */
static void plain_factor(const double *A, double *U, size_t n)
{
    double *L = lq_arena_f64(&arena, n * n), *inverse = lq_arena_f64(&arena, n * n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = A[(n - 1 - i) * n + n - 1 - j];
            for (size_t k = 0; k < j; k++)
                sum -= L[i * n + k] * L[j * n + k];
            L[i * n + j] = i == j ? sqrt(sum) : sum / L[j * n + j];
        }
    for (size_t c = 0; c < n; c++)
        for (size_t i = 0; i < n; i++) {
            double sum = i == c ? 1 : 0;
            for (size_t k = c; k < i; k++)
                sum -= L[i * n + k] * inverse[k * n + c];
            inverse[i * n + c] = i < c ? 0 : sum / L[i * n + i];
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            U[i * n + j] = inverse[(n - 1 - i) * n + n - 1 - j];
}

static void plain_order(const double *gram, size_t in, bool act_order, size_t *order)
{
    for (size_t p = 0; p < in; p++)
        order[p] = p;
    for (size_t p = 1; p < in && act_order; p++) /* stable insertion sort, falling */
        for (size_t q = p; q > 0; q--) {
            double here = gram[order[q] * in + order[q]];
            double before = gram[order[q - 1] * in + order[q - 1]];
            if (!((here == 0 ? 1 : here) > (before == 0 ? 1 : before)))
                break;
            size_t keep = order[q];
            order[q] = order[q - 1];
            order[q - 1] = keep;
        }
}

static double *plain_damped(const double *gram, size_t in, const size_t *order)
{
    double *H = lq_arena_f64(&arena, in * in), mean = 0;
    for (size_t p = 0; p < in; p++) {
        for (size_t q = 0; q < in; q++)
            H[p * in + q] = gram[order[p] * in + order[q]];
        if (H[p * in + p] == 0)
            H[p * in + p] = 1;
        mean += H[p * in + p] / (double)in;
    }
    for (size_t p = 0; p < in; p++)
        H[p * in + p] += 0.01 * mean;
    return H;
}

static void plain_gptq(const float *w, const double *gram, size_t out, size_t in, plain_options o,
                       float *w_eff)
{
    size_t *order = lq_arena_alloc(&arena, in * sizeof *order);
    double *U = lq_arena_f64(&arena, in * in), *row = lq_arena_f64(&arena, in);
    double *stale = lq_arena_f64(&arena, in);
    float *fit = lq_arena_f32(&arena, in);
    lq_grid_rule rule = {.scheme = LQ_GRID_ASYM, .q_max = 3};
    plain_order(gram, in, o.act_order, order);
    plain_factor(plain_damped(gram, in, order), U, in);
    for (size_t i = 0; i < out; i++) { /* rows are independent */
        const float *original = w + i * in;
        lq_grid grid = {0};
        for (size_t p = 0; p < in; p++)
            row[p] = gram[order[p] * in + order[p]] == 0 ? 0 : (double)original[order[p]];
        for (size_t p = 0; p < in; p++) {
            if (p % 128 == 0)
                memcpy(stale, row, in * sizeof *row);
            size_t first = o.static_groups ? order[p] / o.group * o.group : p;
            size_t end = first + o.group < in ? first + o.group : in;
            for (size_t q = first; q < end; q++) {
                bool dead = gram[q * in + q] == 0;
                float static_w = dead ? 0 : original[q];
                fit[q - first] =
                    o.static_groups ? static_w : (float)(o.stale_groups ? stale : row)[q];
            }
            if (o.static_groups || p % o.group == 0)
                assert_true(lq_grid_fit(&rule, fit, end - first, &grid));
            float q = lq_grid_value(grid, lq_grid_code(grid, 3, (float)row[p]));
            w_eff[i * in + order[p]] = q;
            double e = (row[p] - (double)q) / U[p * in + p];
            for (size_t k = p + 1; k < in; k++)
                row[k] -= e * U[p * in + k];
        }
    }
}

static void run(const lq_method *method, const char *options, const float *w, const double *gram,
                size_t out, size_t in, float *w_eff)
{
    lq_calib calib = {.gram = gram, .n_tokens = 1000};
    lq_theta th = theta_of(method, options, out, in);
    assert_int_equal(method->init(&th, w, &calib, NULL, &arena), LQ_OK);
    method->effective(&th, w_eff, &arena);
}

static size_t count_different(const float *a, const float *b, size_t n)
{
    size_t different = 0;
    for (size_t i = 0; i < n; i++)
        different += !(fabsf(a[i] - b[i]) <= 1e-6f);
    return different;
}

static void identity_gram_is_round_to_nearest(void **state)
{
    (void)state;
    enum { OUT = 9, IN = 320 };
    const char *options[] = {"{}", "{\"group\":64}", "{\"group\":0,\"clip\":\"mse\"}",
                             "{\"group\":96,\"scheme\":\"sym\",\"bits\":3}"};
    const float *w = random_weight(1, OUT, IN);
    double *gram = lq_arena_f64(&arena, IN * IN);
    for (size_t i = 0; i < IN * IN; i++)
        gram[i] = i % (IN + 1) == 0 ? 2.5 : 0;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        float a[OUT * IN], b[OUT * IN];
        run(&lq_method_gptq, options[i], w, gram, OUT, IN, a);
        run(&lq_method_rtn, options[i], w, NULL, OUT, IN, b);
        assert_int_equal(count_different(a, b, OUT * IN), 0);
    }
}

/* Blocks, products and the transposed copy change nothing but the last bits of the working copy. Ragged
 * rows, groups that straddle 128 columns, and dead columns are among the cases. */
static void blocked_is_the_plain_algorithm(void **state)
{
    (void)state;
    static const struct {
        size_t in;
        plain_options o;
    } cases[] = {
        {24, {128, false, false, false}},  {300, {128, false, false, false}},
        {300, {64, false, false, false}},  {300, {96, false, false, false}},
        {300, {200, false, false, false}}, {300, {300, false, false, false}},
        {300, {7, false, false, false}},   {300, {64, true, false, false}},
        {300, {64, true, true, false}},    {300, {96, false, true, false}},
        {300, {64, false, false, true}},   {300, {128, true, false, true}},
        {300, {32, true, false, true}},
    };
    enum { OUT = 8 };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        lq_mark mark = lq_arena_mark(&arena);
        size_t in = cases[c].in;
        plain_options o = cases[c].o;
        float got[OUT * 300], want[OUT * 300];
        const float *w = random_weight(c, OUT, in);
        double *gram = random_gram(c, in);
        for (size_t j = 0; j < in && c % 2 == 0; j++)
            gram[5 * in + j] = gram[j * in + 5] = 0; /* no input ever reaches column 5 */
        char options[128];
        snprintf(options, sizeof options,
                 "{\"group\":%zu,\"act_order\":%s,\"static_groups\":%s,\"stale_groups\":%s}",
                 o.group, o.act_order ? "true" : "false", o.static_groups ? "true" : "false",
                 o.stale_groups ? "true" : "false");
        run(&lq_method_gptq, options, w, gram, OUT, in, got);
        plain_gptq(w, gram, OUT, in, o, want);
        size_t different = count_different(got, want, OUT * in);
        if (different != 0)
            fail_msg("in=%zu %s: %zu weights differ", in, options, different);
        lq_arena_release(&arena, mark);
    }
}

static void stale_groups_differ_only_inside_a_block(void **state)
{
    (void)state;
    enum { OUT = 8, IN = 256 };
    float a[OUT * IN], b[OUT * IN];
    const float *w = random_weight(2, OUT, IN);
    const double *gram = random_gram(2, IN);
    run(&lq_method_gptq, "{\"group\":128}", w, gram, OUT, IN, a);
    run(&lq_method_gptq, "{\"group\":128,\"stale_groups\":true}", w, gram, OUT, IN, b);
    assert_int_equal(count_different(a, b, OUT * IN), 0);
    run(&lq_method_gptq, "{\"group\":64}", w, gram, OUT, IN, a);
    run(&lq_method_gptq, "{\"group\":64,\"stale_groups\":true}", w, gram, OUT, IN, b);
    assert_true(count_different(a, b, OUT * IN) > 0);
}

static void correlated_inputs_make_it_beat_rounding(void **state)
{
    (void)state;
    enum { OUT = 16, IN = 192 };
    const char *options[] = {"{}",
                             "{\"group\":64}",
                             "{\"group\":64,\"act_order\":true}",
                             "{\"group\":64,\"act_order\":true,\"static_groups\":true}",
                             "{\"group\":0,\"clip\":\"mse\"}",
                             "{\"scheme\":\"sym\",\"bits\":3}"};
    const float *w = random_weight(3, OUT, IN);
    const double *gram = random_gram(3, IN);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        float gptq[OUT * IN], rtn[OUT * IN];
        char rounded[128];
        snprintf(rounded, sizeof rounded, "%s", options[i]);
        char *order = strstr(rounded, ",\"act_order");
        if (order != NULL)
            memcpy(order, "}", 2);
        run(&lq_method_gptq, options[i], w, gram, OUT, IN, gptq);
        run(&lq_method_rtn, rounded, w, NULL, OUT, IN, rtn);
        double better = proxy(w, gptq, gram, OUT, IN), worse = proxy(w, rtn, gram, OUT, IN);
        if (!(better < 0.5 * worse))
            fail_msg("%s: proxy %g, rounding %g", options[i], better, worse);
    }
}

/* sum e^2 over the columns is the proxy error under the damped gram: the identity behind the method. */
static void proxy_error_is_the_sum_of_column_errors(void **state)
{
    (void)state;
    enum { IN = 48 };
    const float *w = random_weight(4, 1, IN);
    const double *gram = random_gram(4, IN);
    size_t order[IN];
    float w_eff[IN];
    double U[IN * IN], row[IN], sum = 0;
    run(&lq_method_gptq, "{\"group\":0}", w, gram, 1, IN, w_eff);
    plain_order(gram, IN, false, order);
    double *H = plain_damped(gram, IN, order);
    plain_factor(H, U, IN);
    for (size_t p = 0; p < IN; p++)
        row[p] = (double)w[p];
    for (size_t p = 0; p < IN; p++) {
        double e = (row[p] - (double)w_eff[p]) / U[p * IN + p];
        sum += e * e;
        for (size_t k = p + 1; k < IN; k++)
            row[k] -= e * U[p * IN + k];
    }
    double want = proxy(w, w_eff, H, 1, IN);
    assert_true(fabs(sum - want) <= 1e-9 * want);
}

static void act_order_ships_the_group_of_each_column(void **state)
{
    (void)state;
    enum { OUT = 64, IN = 128 };
    static const struct {
        const char *options;
        double bits;
    } rows[] = {
        {"{\"group\":32}", 2 + 18. / 32},
        {"{\"group\":32,\"act_order\":true}", 2 + 18. / 32 + 16. / OUT},
        {"{\"group\":32,\"act_order\":true,\"static_groups\":true}", 2 + 18. / 32},
        {"{\"group\":0,\"act_order\":true}", 2 + 18. / 128},
    };
    const float *w = random_weight(5, OUT, IN);
    lq_calib calib = {.gram = random_gram(5, IN), .n_tokens = 1};
    for (size_t i = 0; i < 4; i++) {
        static float before[OUT * IN], after[OUT * IN];
        lq_theta th = theta_of(&lq_method_gptq, rows[i].options, OUT, IN), shipped;
        size_t bytes;
        assert_int_equal(lq_method_gptq.init(&th, w, &calib, NULL, &arena), LQ_OK);
        assert_int_equal(lq_theta_through_bytes(&th, &arena, &shipped, &bytes), LQ_OK);
        assert_true(8.0 * (double)bytes / (OUT * IN) == rows[i].bits);
        lq_method_gptq.effective(&th, before, &arena);
        lq_method_gptq.effective(&shipped, after, &arena);
        assert_memory_equal(before, after, sizeof before);
    }
}

static void group_index_out_of_range_is_format_error(void **state)
{
    (void)state;
    enum { OUT = 2, IN = 64 };
    lq_calib calib = {.gram = random_gram(6, IN), .n_tokens = 1};
    lq_theta th = theta_of(&lq_method_gptq, "{\"group\":32,\"act_order\":true}", OUT, IN);
    lq_sink sink = {.arena = &arena};
    assert_int_equal(lq_method_gptq.init(&th, random_weight(6, OUT, IN), &calib, NULL, &arena),
                     LQ_OK);
    assert_int_equal(lq_method_gptq.pack(&th, &sink), LQ_OK);
    lq_source source = {.data = sink.data, .bytes = sink.bytes, .where = "test"};
    assert_int_equal(lq_method_gptq.unpack(&th, &source), LQ_OK);
    sink.data[sink.bytes - 2] = 2; /* groups are 0 and 1 */
    source.at = 0;
    assert_int_equal(lq_method_gptq.unpack(&th, &source), LQ_E_FORMAT);
}

/* Two equal inputs and no damping: singular. More damping is tried; -1 on the diagonal is hopeless. */
static void indefinite_gram_is_damped_or_refused(void **state)
{
    (void)state;
    enum { OUT = 2, IN = 4 };
    const float *w = random_weight(7, OUT, IN);
    double gram[IN * IN] = {1, 1.02, 0, 0, 1.02, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    lq_calib calib = {.gram = gram, .n_tokens = 1};
    lq_theta th = theta_of(&lq_method_gptq, "{}", OUT, IN);
    assert_int_equal(lq_method_gptq.init(&th, w, &calib, NULL, &arena), LQ_OK); /* 0.1 helps */
    th = theta_of(&lq_method_gptq, "{\"sigma_reg\":0}", OUT, IN);
    assert_int_equal(lq_method_gptq.init(&th, w, &calib, NULL, &arena), LQ_OK);
    gram[1] = gram[4] = 1e6;
    assert_int_equal(lq_method_gptq.init(&th, w, &calib, NULL, &arena), LQ_E_NUMERIC);
    assert_non_null(strstr(lq_status_note(), "positive definite"));
    gram[1] = gram[4] = (double)NAN;
    assert_int_equal(lq_method_gptq.init(&th, w, &calib, NULL, &arena), LQ_E_NUMERIC);
    gram[1] = gram[4] = 0;
    gram[0] = -1;
    assert_int_equal(lq_method_gptq.init(&th, w, &calib, NULL, &arena), LQ_E_NUMERIC);
    assert_int_equal(lq_method_gptq.init(&th, w, NULL, NULL, &arena), LQ_E_MISSING);
}

static void comparison_refuses_a_wrong_answer_and_a_nan(void **state)
{
    (void)state;
    const float a[] = {1, 2, 3}, b[] = {1, 2.5f, NAN};
    assert_int_equal(count_different(a, a, 3), 0);
    assert_int_equal(count_different(a, b, 3), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparison_refuses_a_wrong_answer_and_a_nan),
        cmocka_unit_test(identity_gram_is_round_to_nearest),
        cmocka_unit_test(blocked_is_the_plain_algorithm),
        cmocka_unit_test(stale_groups_differ_only_inside_a_block),
        cmocka_unit_test(correlated_inputs_make_it_beat_rounding),
        cmocka_unit_test(proxy_error_is_the_sum_of_column_errors),
        cmocka_unit_test(act_order_ships_the_group_of_each_column),
        cmocka_unit_test(group_index_out_of_range_is_format_error),
        cmocka_unit_test(indefinite_gram_is_damped_or_refused),
    };
    lq_blas_threads(1); /* the products are small */
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
