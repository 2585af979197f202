/* The scalar grids, against numbers and vectors that an independent program computed on 256 x 4096 iid
 * N(0,1): normalized mean square errors |W - What|^2 / |W|^2, here to 0.003. Where a step follows the
 * largest of 4096 weights, 256 rows still leave a standard deviation of 0.003 to 0.005 to chance (0.314
 * for SEQ, when the expectation is 0.3057): those are compared to 0.02, and, sharply, with the integral
 * over the density for the maxima that the rows have. */
#include "core/quant/grid.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

extern const lq_method lq_method_rtn, lq_method_paretoq, lq_method_template;
extern const lq_method lq_method_lsq, lq_method_stableqat;

enum { ROWS = 256, COLS = 4096 };
static float *normal; /* (ROWS,COLS) */
static lq_arena arena;

static int set_up(void **state)
{
    (void)state;
    lq_rng rng = lq_rng_seed(7);
    normal = lq_arena_f32(&arena, ROWS * COLS);
    for (size_t i = 0; i < ROWS * COLS; i++)
        normal[i] = (float)lq_rng_normal(&rng);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

static bool near(double got, double want, double tolerance)
{
    return fabs(got - want) <= tolerance; /* false for a NaN */
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

static double nmse_of(const lq_method *method, const char *options, size_t out, size_t in)
{
    lq_mark mark = lq_arena_mark(&arena);
    lq_theta th = theta_of(method, options, out, in);
    float *w_eff = lq_arena_f32(&arena, out * in);
    assert_int_equal(method->init(&th, normal, NULL, NULL, &arena), LQ_OK);
    method->effective(&th, w_eff, &arena);
    double error = 0, energy = 0;
    for (size_t i = 0; i < out * in; i++) {
        double e = (double)w_eff[i] - (double)normal[i];
        error += e * e;
        energy += (double)normal[i] * (double)normal[i];
    }
    lq_arena_release(&arena, mark);
    return error / energy;
}

typedef struct golden {
    const lq_method *method;
    const char *options;
    size_t in;
    double nmse;
    double tolerance;
} golden;

static void check_golden(const golden *row, size_t n, size_t values)
{
    for (size_t i = 0; i < n; i++) {
        double got = nmse_of(row[i].method, row[i].options, values / row[i].in, row[i].in);
        if (!near(got, row[i].nmse, row[i].tolerance))
            fail_msg("%s %s in=%zu: %.4f, not %.4f", row[i].method->name, row[i].options, row[i].in,
                     got, row[i].nmse);
    }
}

#define SHARP   0.003
#define CHANCE  0.02 /* the grid hangs on the largest of 4096 weights */
#define RTN     (&lq_method_rtn)
#define PARETOQ (&lq_method_paretoq)
#define LSQ     (&lq_method_template) /* its first step is the LSQ paper's */

static void rtn_errors_are_the_golden_ones(void **state)
{
    (void)state;
    static const golden rows[] = {
        {RTN, "{\"group\":64}", COLS, 0.209, SHARP},
        {RTN, "{\"group\":128}", COLS, 0.253, SHARP},
        {RTN, "{\"group\":0}", COLS, 0.475, CHANCE},
        {RTN, "{\"scheme\":\"sym\",\"group\":64}", COLS, 0.262, SHARP},
        {RTN, "{\"scheme\":\"sym\"}", COLS, 0.303, SHARP},
        {RTN, "{\"scheme\":\"sym\",\"group\":0}", COLS, 0.515, CHANCE},
        {RTN, "{\"scheme\":\"sym_max\",\"group\":64}", COLS, 0.516, SHARP},
        {RTN, "{\"scheme\":\"sym_max\"}", COLS, 0.588, SHARP},
        {RTN, "{\"scheme\":\"sym_max\",\"group\":0}", COLS, 0.835, CHANCE},
        {RTN, "{\"bits\":3,\"group\":0}", COLS, 0.092, SHARP},
        {RTN, "{\"bits\":3}", COLS, 0.0465, SHARP},
        {RTN, "{\"bits\":4,\"group\":0}", COLS, 0.0200, SHARP},
        {RTN, "{\"bits\":4}", COLS, 0.0101, SHARP},
        {RTN, "{\"bits\":3,\"scheme\":\"sym_max\",\"group\":0}", COLS, 0.139, CHANCE},
        {RTN, "{\"bits\":4,\"scheme\":\"sym_max\",\"group\":0}", COLS, 0.0254, SHARP},
    };
    check_golden(rows, sizeof rows / sizeof rows[0], (size_t)ROWS * COLS);
}

static void clip_search_errors_are_the_golden_ones(void **state)
{
    (void)state;
    static const golden rows[] = {
        {RTN, "{\"clip\":\"mse\",\"group\":64}", COLS, 0.127, SHARP},
        {RTN, "{\"clip\":\"mse\"}", COLS, 0.137, SHARP},
        {RTN, "{\"clip\":\"mse\",\"group\":0}", COLS, 0.151, SHARP},
    };
    check_golden(rows, sizeof rows / sizeof rows[0], (size_t)24 * COLS); /* it is slow */
}

static void paretoq_errors_are_the_golden_ones(void **state)
{
    (void)state;
    static const golden rows[] = {
        {PARETOQ, "{\"bits\":2}", 64, 0.149, SHARP},
        {PARETOQ, "{\"bits\":2}", 128, 0.173, SHARP},
        {PARETOQ, "{\"bits\":2}", COLS, 0.314, CHANCE},
        {PARETOQ, "{\"bits\":1.58}", COLS, 0.515, CHANCE},
        {PARETOQ, "{\"bits\":1}", COLS, 0.364, SHARP},
        {PARETOQ, "{\"bits\":3}", COLS, 0.139, CHANCE},
        {PARETOQ, "{\"bits\":4}", COLS, 0.0254, SHARP},
        {LSQ, "{\"bits\":2}", COLS, 0.221, SHARP},
        {LSQ, "{\"bits\":3}", COLS, 0.071, SHARP},
        {LSQ, "{\"bits\":4}", COLS, 0.030, SHARP},
    };
    check_golden(rows, sizeof rows / sizeof rows[0], (size_t)ROWS * COLS);
}

/* Integral over a..b of (x - q)^2 times the density of N(0,1). */
static double error_between(double a, double b, double q)
{
    double mass = (erf(b * sqrt(0.5)) - erf(a * sqrt(0.5))) / 2;
    double at_a = exp(-a * a / 2) / sqrt(2 * acos(-1)), at_b = exp(-b * b / 2) / sqrt(2 * acos(-1));
    return (1 + q * q) * mass + a * at_a - b * at_b + 2 * q * (at_b - at_a);
}

/* Each grid hangs on the largest weight M of a row alone, and rounds to the nearest of its levels. */
static void errors_are_the_integrals_given_the_maxima(void **state)
{
    (void)state;
    static const struct {
        const lq_method *method;
        const char *options;
        size_t n;
        double level[8]; /* over M, rising */
    } rows[] = {
        {PARETOQ, "{}", 4, {-.75, -.25, .25, .75}},
        {PARETOQ, "{\"bits\":1.58}", 3, {-2. / 3, 0, 2. / 3}},
        {PARETOQ, "{\"bits\":3}", 8, {-4. / 3, -1, -2. / 3, -1. / 3, 0, 1. / 3, 2. / 3, 1}},
        {RTN, "{\"scheme\":\"sym\",\"group\":0}", 4, {-4. / 3, -2. / 3, 0, 2. / 3}},
        {RTN, "{\"scheme\":\"sym_max\",\"group\":0}", 4, {-2, -1, 0, 1}},
        {&lq_method_lsq, "{\"init\":\"max\"}", 4, {-2, -1, 0, 1}},
        {&lq_method_stableqat, "{}", 4, {-2, -1, 0, 1}},
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        double want = 0;
        for (size_t i = 0; i < ROWS; i++) {
            double top = 0, low = -40; /* -40: nothing lies beyond */
            for (size_t j = i * COLS; j < (i + 1) * COLS; j++)
                top = fmax(top, fabs((double)normal[j]));
            for (size_t l = 0; l < rows[r].n; l++) {
                bool last = l + 1 == rows[r].n;
                double edge = last ? 40 : top * (rows[r].level[l] + rows[r].level[l + 1]) / 2;
                want += error_between(low, edge, top * rows[r].level[l]) / ROWS;
                low = edge;
            }
        }
        double got = nmse_of(rows[r].method, rows[r].options, ROWS, COLS);
        if (!near(got, want, 0.002))
            fail_msg("%s %s: %.4f, not %.4f", rows[r].method->name, rows[r].options, got, want);
    }
}

static void mse_alpha_is_about_optimal(void **state)
{
    (void)state;
    static const golden rows[] = {{PARETOQ, "{\"init\":\"mse\"}", COLS, 0.119, SHARP}};
    check_golden(rows, 1, (size_t)32 * COLS);
    /* Lloyd-Max bounds of the uniform grids on N(0,1): 0.1902 for 3 levels, 0.0374 for 8 */
    double ternary = nmse_of(PARETOQ, "{\"init\":\"mse\",\"bits\":1.58}", 32, COLS);
    double three = nmse_of(PARETOQ, "{\"init\":\"mse\",\"bits\":3}", 32, COLS);
    assert_true(ternary > 0.185 && ternary < 0.195);
    assert_true(three > 0.036 && three < 0.045);
}

/* No alpha on a fine scan of 1e-3 steps may beat the search by more than 0.1 %, whatever the row. */
static void mse_alpha_beats_a_fine_scan(void **state)
{
    (void)state;
    enum { N = 96 };
    for (size_t which = 0; which < 12; which++) {
        const char *options[] = {"{\"init\":\"mse\"}", "{\"init\":\"mse\",\"bits\":1.58}",
                                 "{\"init\":\"mse\",\"bits\":3}", "{\"init\":\"mse\",\"bits\":4}"};
        lq_theta th = theta_of(PARETOQ, options[which % 4], 1, N);
        float w[N], w_eff[N], top = 0;
        for (size_t j = 0; j < N; j++) {
            w[j] = normal[which * N + j] * 0.02f;
            w[j] *= which >= 8 && j == 5 ? 40.0f : 1.0f;                   /* an outlier */
            w[j] = which >= 4 && which < 8 ? copysignf(0.3f, w[j]) : w[j]; /* two values */
            top = fabsf(w[j]) > top ? fabsf(w[j]) : top;
        }
        assert_int_equal(PARETOQ->init(&th, w, NULL, NULL, &arena), LQ_OK);
        double found = 0, least = HUGE_VAL;
        for (size_t k = 0; k <= 4000; k++) {
            if (k > 0)
                lq_theta_f32(&th, "alpha")[0] = top * (float)k * 1e-3f;
            PARETOQ->effective(&th, w_eff, &arena);
            double error = 0;
            for (size_t j = 0; j < N; j++)
                error += ((double)w_eff[j] - (double)w[j]) * ((double)w_eff[j] - (double)w[j]);
            if (k == 0)
                found = error;
            else
                least = error < least ? error : least;
        }
        if (!(found <= least * 1.001 + 1e-9 * (double)top))
            fail_msg("row %zu %s: %g, but the scan found %g", which, options[which % 4], found,
                     least);
    }
}

typedef struct vector {
    double w, out, dw, dalpha;
} vector;

/* One row with alpha as given, through ->effective and ->backward with one-hot gradients. */
static void check_vectors(const char *options, float alpha, const vector *v, size_t n)
{
    lq_theta th = theta_of(PARETOQ, options, 1, n);
    float w_eff[16] = {0};
    for (size_t j = 0; j < n; j++)
        lq_theta_f32(&th, "latent")[j] = (float)v[j].w;
    lq_theta_f32(&th, "alpha")[0] = alpha;
    PARETOQ->effective(&th, w_eff, &arena);
    for (size_t j = 0; j < n; j++) {
        float hot[16] = {0}, dlatent[16] = {0}, dalpha = 0;
        hot[j] = 1;
        PARETOQ->backward(&th, hot, (float *const[]){dlatent, &dalpha}, &arena);
        if (!near((double)w_eff[j], v[j].out, 1e-6) || (double)dlatent[j] != v[j].dw ||
            !near((double)dalpha, v[j].dalpha, 1e-4))
            fail_msg("%s: %g -> (%g,%g,%g), not (%g,%g,%g)", options, v[j].w, (double)w_eff[j],
                     (double)dlatent[j], (double)dalpha, v[j].out, v[j].dw, v[j].dalpha);
        for (size_t k = 0; k < n; k++)
            assert_true(k == j || dlatent[k] == 0);
    }
}

static void paretoq_vectors_are_the_golden_ones(void **state)
{
    (void)state;
    static const vector seq[] = {
        {-1.2, -.75, 0, -.75}, {-.995, -.75, 0, -.75}, {-.99, -.75, 1, .24}, {-.5, -.75, 1, -.25},
        {-.2, -.25, 1, -.05},  {0, .25, 1, .25},       {.3, .25, 1, -.05},   {.5, .25, 1, -.25},
        {.7, .75, 1, .05},     {1, .75, 0, .75}};
    static const vector ternary[] = {{-1.2, -2. / 3, 0, -1},
                                     {-.5, -2. / 3, 1, -.1667},
                                     {.3, 0, 1, -.3},
                                     {.5, 2. / 3, 1, .1667},
                                     {1, 2. / 3, 0, 1}};
    static const vector exact[] = {{-1.2, -2. / 3, 0, -2. / 3}, {1, 2. / 3, 0, 2. / 3}};
    static const vector lsq[] = {{-1.2, -1, 0, -4}, {-1, -1, 1, 0},    {-.375, -.5, 1, -.5},
                                 {.125, 0, 1, -.5}, {.3, .25, 1, -.2}, {.8, .75, 0, 3}};
    static const vector sign[] = {{-1.2, -1, 0, -1}, {-1, -1, 1, -1}, {0, 0, 1, 0}, {.3, 1, 1, 1}};
    check_vectors("{\"bits\":2}", 1, seq, 10);
    check_vectors("{\"bits\":1.58}", 1, ternary, 5);
    check_vectors("{\"bits\":1.58,\"ternary_grad\":\"exact\"}", 1, exact, 2);
    check_vectors("{\"bits\":3}", 0.25f, lsq, 6);
    check_vectors("{\"bits\":1}", 1, sign, 4);
}

static void paretoq_scales_the_gradient_of_alpha_by_the_whole_matrix(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        double q_p;
    } rows[] = {{"{\"bits\":1}", 1},
                {"{\"bits\":1.58}", 1},
                {"{}", 1},
                {"{\"bits\":3}", 3},
                {"{\"bits\":4}", 7}};
    for (size_t i = 0; i < 5; i++) {
        lq_theta th = theta_of(PARETOQ, rows[i].options, 6, 50);
        assert_true(near(th.slot[1].grad_scale, 1 / sqrt(6 * 50 * rows[i].q_p), 1e-12));
        assert_true(th.slot[0].grad_scale == 1 && th.slot[1].lr == 0);
    }
    assert_true(theta_of(PARETOQ, "{\"alpha_lr\":0.001}", 6, 50).slot[1].lr == 0.001);
}

static void alpha_below_its_floor_still_has_a_gradient(void **state)
{
    (void)state;
    lq_theta th = theta_of(PARETOQ, "{}", 1, 2);
    float w_eff[2], dalpha = 0;
    lq_theta_f32(&th, "latent")[0] = 1;
    lq_theta_f32(&th, "latent")[1] = -1;
    lq_theta_f32(&th, "alpha")[0] = -3;
    PARETOQ->effective(&th, w_eff, &arena);
    assert_true(near((double)w_eff[0], 0.75e-5, 1e-10));
    PARETOQ->backward(&th, (const float[]){1, 1}, (float *const[]){NULL, &dalpha}, &arena);
    assert_true(dalpha == 0); /* +3/4 and -3/4 */
    PARETOQ->backward(&th, (const float[]){1, 0}, (float *const[]){NULL, &dalpha}, &arena);
    assert_true(dalpha == 0.75f);
}

static void check_group(lq_grid_rule rule, const float *w, size_t n, const float *want)
{
    lq_grid grid;
    assert_true(lq_grid_fit(&rule, w, n, &grid));
    assert_true(grid.step != 0 && grid.zero >= 0 && grid.zero <= rule.q_max);
    assert_true(grid.step == lq_grid_round_step(grid.step));
    for (size_t j = 0; j < n; j++) {
        float got = lq_grid_value(grid, lq_grid_code(grid, rule.q_max, w[j]));
        if (!near((double)got, (double)want[j], 2e-3 * fabs((double)want[j])))
            fail_msg("scheme %d weight %zu: %g, not %g", (int)rule.scheme, j, (double)got,
                     (double)want[j]);
    }
}
#define VALUES(...) ((const float[]){__VA_ARGS__})

static void degenerate_groups_have_a_documented_answer(void **state)
{
    (void)state;
    const float tiny = 1e-30f;
    for (int scheme = LQ_GRID_ASYM; scheme <= LQ_GRID_FULLRANGE; scheme++)
        for (int mse = 0; mse < 2; mse++) {
            lq_grid_rule rule = {.scheme = (lq_grid_scheme)scheme, .mse = mse, .q_max = 3};
            check_group(rule, VALUES(0, 0, 0), 3, VALUES(0, 0, 0));
            check_group(rule, VALUES(-0.0f), 1, VALUES(0));
            check_group(rule, VALUES(tiny, -tiny), 2, VALUES(0, 0)); /* step stays above 0 */
        }
    lq_grid_rule rule = {.scheme = LQ_GRID_ASYM, .q_max = 3};
    check_group(rule, VALUES(3, 2, 1), 3, VALUES(3, 2, 1));       /* zero code 0 */
    check_group(rule, VALUES(-3, -2, -1), 3, VALUES(-3, -2, -1)); /* zero code 3 */
    check_group(rule, VALUES(-1.5f, 1.5f), 2, VALUES(-2, 1));     /* zero rint(1.5) = 2 */
    rule.scheme = LQ_GRID_ASYM_RANGE;
    check_group(rule, VALUES(-1.5f, 1.5f), 2, VALUES(-2, 1));
    check_group(rule, VALUES(7, 7), 2, VALUES(1e-5f, 1e-5f)); /* the floor of the range, as AWQ */
    check_group(rule, VALUES(10, 13), 2, VALUES(3, 3));       /* zero saturates at 0 */
    rule.scheme = LQ_GRID_SYM;
    check_group(rule, VALUES(-3, 3, 1), 3, VALUES(-4, 2, 0)); /* ties to even */
    rule.scheme = LQ_GRID_SYM_MAX;
    check_group(rule, VALUES(-3, 3, 1), 3, VALUES(-3, 3, 0));
    rule.scheme = LQ_GRID_FULLRANGE;
    check_group(rule, VALUES(-3, 1.4f, 2.9f), 3, VALUES(-3, 1.5f, 1.5f));
    check_group(rule, VALUES(3, -1.4f, -2.9f), 3, VALUES(3, -1.5f, -1.5f));
    check_group(rule, VALUES(3, -3), 2, VALUES(3, -1.5f)); /* a tie goes to the positive side */
}

static void step_that_overflows_fp16_is_numeric_error(void **state)
{
    (void)state;
    const float w[] = {-1e6f, 1e6f, 3e38f, -3e38f};
    for (int scheme = LQ_GRID_ASYM; scheme <= LQ_GRID_FULLRANGE; scheme++) {
        lq_grid_rule rule = {.scheme = (lq_grid_scheme)scheme, .q_max = 3};
        lq_grid grid;
        assert_false(lq_grid_fit(&rule, w, 2, &grid));
        assert_false(lq_grid_fit(&rule, w, 4, &grid));
    }
    lq_theta th = theta_of(RTN, "{}", 1, 4);
    assert_int_equal(RTN->init(&th, w, NULL, NULL, &arena), LQ_E_NUMERIC);
    assert_non_null(strstr(lq_status_note(), "fp16"));
}

static void clip_search_never_loses_to_the_extremes(void **state)
{
    (void)state;
    for (int scheme = LQ_GRID_ASYM; scheme <= LQ_GRID_FULLRANGE; scheme++)
        for (size_t g = 0; g < 40; g++) {
            enum { N = 48 };
            const float *w = normal + g * N;
            double error[2];
            for (int mse = 0; mse < 2; mse++) {
                lq_grid_rule rule = {.scheme = (lq_grid_scheme)scheme, .mse = mse, .q_max = 3};
                lq_grid grid;
                assert_true(lq_grid_fit(&rule, w, N, &grid));
                error[mse] = 0;
                for (size_t j = 0; j < N; j++) {
                    float e = lq_grid_value(grid, lq_grid_code(grid, 3, w[j])) - w[j];
                    error[mse] += pow(fabs((double)e), 2.4);
                }
            }
            assert_true(error[1] <= error[0] * (1 + 1e-6));
        }
}

static void sizes_are_the_formulas(void **state)
{
    (void)state;
    static const struct {
        const lq_method *method;
        const char *options;
        double bits;
    } rows[] = {
        {RTN, "{}", 2 + 18. / 128},
        {RTN, "{\"group\":64}", 2 + 18. / 64},
        {RTN, "{\"group\":0}", 2 + 18. / 4096},
        {RTN, "{\"bits\":3}", 3 + 19. / 128},
        {RTN, "{\"bits\":4,\"group\":32}", 4 + 20. / 32},
        {RTN, "{\"scheme\":\"sym\"}", 2 + 16. / 128},
        {PARETOQ, "{}", 2 + 16. / 4096},
        {PARETOQ, "{\"bits\":3}", 3 + 16. / 4096},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum { OUT = 16 };
        lq_mark mark = lq_arena_mark(&arena);
        lq_theta th = theta_of(rows[i].method, rows[i].options, OUT, COLS), shipped;
        size_t bytes;
        assert_int_equal(rows[i].method->init(&th, normal, NULL, NULL, &arena), LQ_OK);
        assert_int_equal(lq_theta_through_bytes(&th, &arena, &shipped, &bytes), LQ_OK);
        assert_true(8.0 * (double)bytes / (OUT * COLS) == rows[i].bits);
        lq_arena_release(&arena, mark);
    }
}

/* 320 = 2 * 128 + 64: the last group has its own step, and only its own weights shape it. */
static void last_group_may_be_short(void **state)
{
    (void)state;
    enum { OUT = 3, IN = 320 };
    float w[OUT * IN], w_eff[OUT * IN], tail[OUT * 64], tail_eff[OUT * 64];
    for (size_t i = 0; i < OUT * IN; i++)
        w[i] = normal[i] * (i % IN < 256 ? 100.0f : 1.0f);
    for (size_t i = 0; i < OUT * 64; i++)
        tail[i] = w[i / 64 * IN + 256 + i % 64];
    lq_theta th = theta_of(RTN, "{}", OUT, IN);
    assert_int_equal(th.slot[lq_theta_find(&th, "step")].cols, 3);
    assert_int_equal(RTN->init(&th, w, NULL, NULL, &arena), LQ_OK);
    RTN->effective(&th, w_eff, &arena);
    lq_theta short_th = theta_of(RTN, "{\"group\":0}", OUT, 64);
    assert_int_equal(RTN->init(&short_th, tail, NULL, NULL, &arena), LQ_OK);
    RTN->effective(&short_th, tail_eff, &arena);
    for (size_t i = 0; i < OUT * 64; i++)
        assert_true(tail_eff[i] == w_eff[i / 64 * IN + 256 + i % 64]);
    lq_theta wide = theta_of(RTN, "{\"group\":1000}", OUT, IN);
    assert_int_equal(wide.slot[lq_theta_find(&wide, "step")].cols, 1);
}

static void unsupported_bits_are_option_errors(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"bits\":1}", "{\"bits\":1.58}", "{\"bits\":16}",
                                        "{\"bits\":2.5}"};
    for (size_t i = 0; i < 4; i++) {
        lq_json *json;
        void *opts;
        assert_int_equal(lq_json_parse(texts[i], strlen(texts[i]), "test", &json), LQ_OK);
        assert_int_equal(lq_method_options(RTN, json, "test", &arena, &opts), LQ_E_OPTION);
        lq_json_free(json);
    }
}

static void near_refuses_a_wrong_answer_and_a_nan(void **state)
{
    (void)state;
    assert_true(near(0.209, 0.210, 0.003));
    assert_false(near(0.205, 0.209, 0.003));
    assert_false(near((double)NAN, 0.209, 0.003));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_refuses_a_wrong_answer_and_a_nan),
        cmocka_unit_test(rtn_errors_are_the_golden_ones),
        cmocka_unit_test(clip_search_errors_are_the_golden_ones),
        cmocka_unit_test(paretoq_errors_are_the_golden_ones),
        cmocka_unit_test(errors_are_the_integrals_given_the_maxima),
        cmocka_unit_test(mse_alpha_is_about_optimal),
        cmocka_unit_test(mse_alpha_beats_a_fine_scan),
        cmocka_unit_test(paretoq_vectors_are_the_golden_ones),
        cmocka_unit_test(paretoq_scales_the_gradient_of_alpha_by_the_whole_matrix),
        cmocka_unit_test(alpha_below_its_floor_still_has_a_gradient),
        cmocka_unit_test(degenerate_groups_have_a_documented_answer),
        cmocka_unit_test(step_that_overflows_fp16_is_numeric_error),
        cmocka_unit_test(clip_search_never_loses_to_the_extremes),
        cmocka_unit_test(sizes_are_the_formulas),
        cmocka_unit_test(last_group_may_be_short),
        cmocka_unit_test(unsupported_bits_are_option_errors),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
