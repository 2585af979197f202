/* The LC-QAT method: DGE kernels, gradients, rounding of a matrix, bytes. */
#include "core/data/safetensors.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/quant/hadamard.h"
#include "core/quant/lcqat.h"
#include "core/quant/method.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

extern const lq_method lq_method_lcqat;
static lq_arena arena;

static bool close_to(double got, double want, double rtol, double atol)
{
    return fabs(got - want) <= atol + rtol * fabs(want); /* false when either is NaN */
}

static void comparison_refuses_wrong_and_nan(void **state)
{
    (void)state;
    assert_true(close_to(1.0, 1.0 + 1e-9, 1e-8, 0));
    assert_false(close_to(1.0, 1.1, 1e-8, 0));
    assert_false(close_to((double)NAN, 1, 1, 1));
    assert_false(close_to(1, (double)NAN, 1, 1));
}

/* ---- DGE --------------------------------------------------------------------------------------- */

static float slope_of(const lq_kernel_table *table, float u, float q_max, float k, float ceiling)
{
    float du = 0, one = 1;
    table->dge_bwd(&du, &one, &u, 1, q_max, k, ceiling, 1);
    return du;
}

static void dge_slopes_are_the_table(void **state)
{
    (void)state;
    static const struct {
        float u, slope;
    } want[] = {{-2, .0552f}, {-0.5f, .1149f}, {0, .2f},        {0.25f, .3482f}, {0.45f, 1.2619f},
                {0.49f, 3},   {0.5f, 3},       {0.51f, 3},      {0.75f, .3482f}, {1, .2f},
                {2.5f, 3},    {3, .2f},        {3.25f, .3482f}, {3.5f, 3},       {3.75f, .3482f},
                {4, .2f},     {5, .083f},      {8, .0345f},     {-1.5f, .066f}};
    const char *name;
    for (size_t v = 0; lq_kernels_variant(v, &name) != NULL; v++) {
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
            assert_true(close_to((double)slope_of(lq_kernels_variant(v, &name), want[i].u, 3, 5, 3),
                                 (double)want[i].slope, 0, 6e-5));
        assert_true(slope_of(lq_kernels_variant(v, &name), 1.5f, 3, 5, 1e6f) == 1e6f);
    }
}

static void dge_slope_has_mean_0_5935_in_range(void **state)
{
    (void)state;
    double mean = 0;
    const size_t n = 200000;
    for (size_t i = 0; i < n; i++)
        mean +=
            (double)slope_of(lq_kernels(), (float)(3 * ((double)i + 0.5) / (double)n), 3, 5, 3) /
            (double)n;
    assert_true(close_to(mean, 0.5935, 0, 2e-4));
}

static void dge_backward_is_the_power_to_1e_6(void **state)
{
    (void)state;
    const char *name;
    lq_rng rng = lq_rng_seed(2);
    for (size_t v = 0; lq_kernels_variant(v, &name) != NULL; v++)
        for (size_t i = 0; i < 20000; i++) {
            float q_max = i % 3 == 0   ? 2.0f
                          : i % 3 == 1 ? 3.0f
                                       : 7.0f,
                  k = i % 50 == 0 ? 3.0f : 5.0f;
            float spread = i % 100 == 0 ? 1e6f : 4.0f;
            float u = (float)(lq_rng_normal(&rng)) * spread + 1.5f;
            float low = floorf(u < 0 ? 0 : u > q_max ? q_max : u);
            double t = fabs(2 * ((double)u - (double)low) - 1);
            float below = 2 * (u - low) - 1; /* the float argument, for u of large magnitude */
            if (fabsf(u) > 1e3f)
                t = fabs((double)below);
            double want = fmin(1e4, pow(t, 1 / (double)k - 1) / (double)k);
            assert_true(close_to((double)slope_of(lq_kernels_variant(v, &name), u, q_max, k, 1e4f),
                                 want, 1e-6, 0));
        }
}

static void dge_kernels_agree_with_their_references(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 67, 129, 255};
    static const float special[] = {0.0f,     -0.0f,     0.5f,        1.5f,       2.5f,
                                    3.5f,     -0.5f,     1e-42f,      3e38f,      -3e38f,
                                    INFINITY, -INFINITY, 0.49999997f, 2.5000002f, 8388609.0f};
    enum { N = 256, N_SPECIAL = sizeof special / sizeof special[0] };
    float u[N], dq[N], q[2][N], du[2][N];
    const char *name;
    const lq_kernel_table *ref = lq_kernels_variant(0, &name);
    lq_rng rng = lq_rng_seed(3);
    for (size_t v = 1; lq_kernels_variant(v, &name) != NULL; v++)
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            size_t n = lengths[l];
            for (size_t i = 0; i < N; i++) {
                u[i] = (i + l) % 4 == 0 ? special[(i / 4 + l) % N_SPECIAL]
                                        : (float)(1.5 + 2 * lq_rng_normal(&rng));
                dq[i] = (float)lq_rng_normal(&rng);
                du[0][i] = du[1][i] = q[0][i] = q[1][i] = (float)i;
            }
            const lq_kernel_table *fast = lq_kernels_variant(v, &name);
            ref->dge_fwd(q[0] + 1, u + 1, n, 3);
            fast->dge_fwd(q[1] + 1, u + 1, n, 3);
            assert_memory_equal(q[0], q[1], sizeof q[0]);
            ref->dge_bwd(du[0] + 1, dq + 1, u + 1, n, 3, 5, 3, 0.9f);
            fast->dge_bwd(du[1] + 1, dq + 1, u + 1, n, 3, 5, 3, 0.9f);
            for (size_t i = 0; i < N; i++)
                assert_true(close_to((double)du[1][i], (double)du[0][i], 5e-7, 1e-6));
        }
}

static void dge_forward_rounds_half_to_even_and_keeps_nan(void **state)
{
    (void)state;
    static const float u[] = {0.5f, 1.5f, 2.5f, 3.5f, -0.5f, 9, NAN}, want[] = {0, 2, 2, 3, 0, 3};
    const char *name;
    for (size_t v = 0; lq_kernels_variant(v, &name) != NULL; v++) {
        const lq_kernel_table *table = lq_kernels_variant(v, &name);
        float q[7], du = 0, one = 1;
        table->dge_fwd(q, u, 7, 3);
        assert_memory_equal(q, want, sizeof want);
        assert_true(isnan(q[6]));
        table->dge_bwd(&du, &one, u + 6, 1, 3, 5, 3, 1);
        assert_true(isnan(du));
    }
}

/* ---- Parametrization --------------------------------------------------------------------------- */

static const void *options_of(const char *json)
{
    void *opts;
    lq_json *doc;
    assert_int_equal(lq_json_parse(json, strlen(json), "test", &doc), LQ_OK);
    assert_int_equal(lq_method_options(&lq_method_lcqat, doc, "test", &arena, &opts), LQ_OK);
    lq_json_free(doc);
    return opts;
}

static float *normal(size_t n, double rms, uint64_t seed)
{
    float *x;
    lq_rng rng = lq_rng_seed(seed);
    assert_int_equal(lq_arena_new(&arena, &x, n), LQ_OK);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rms * lq_rng_normal(&rng));
    return x;
}

static lq_theta theta_of(const char *json, size_t out, size_t in)
{
    lq_theta th;
    assert_int_equal(lq_theta_new(&lq_method_lcqat, options_of(json), out, in, &arena, &th), LQ_OK);
    return th;
}

/* Trained-looking parameters: latents between grid points and outside, real scales. */
static lq_theta random_theta(const char *json, size_t out, size_t in, uint64_t seed)
{
    lq_theta th = theta_of(json, out, in);
    lq_rng rng = lq_rng_seed(seed);
    for (size_t s = 0; s < 3; s++) {
        float *x = th.data[s];
        for (size_t i = 0; i < th.slot[s].rows * th.slot[s].cols; i++)
            x[i] = (float)(s == 0 ? 1.5 + 1.4 * lq_rng_normal(&rng) : 0.5 + lq_rng_uniform(&rng));
    }
    lq_theta_f32(&th, "affine")[0] = 0.9f;
    lq_theta_f32(&th, "affine")[1] = -1.3f;
    return th;
}

static lq_theta copy_of(const lq_theta *th)
{
    lq_theta copy;
    assert_int_equal(lq_theta_new(th->method, th->opts, th->out, th->in, &arena, &copy), LQ_OK);
    for (size_t s = 0; s < th->n_slots; s++)
        memcpy(copy.data[s], th->data[s], th->slot[s].rows * th->slot[s].cols * sizeof(float));
    return copy;
}

static double loss_of_surrogate(const lq_theta *at, const lq_theta *base, const float *g)
{
    float *w = lq_arena_f32(&arena, at->out * at->in);
    double sum = 0;
    at->method->surrogate(at, base, w, &arena);
    for (size_t i = 0; i < at->out * at->in; i++)
        sum += (double)g[i] * (double)w[i];
    return sum;
}

/* Central differences of the surrogate along every coordinate, or along some of a large slot. The
 * surrogate is linear in each slot, so that a step of 1/4 has no error of its own. */
static void check_gradient(const char *json, size_t out, size_t in)
{
    lq_theta base = random_theta(json, out, in, out + in), at = copy_of(&base);
    const float *g = normal(out * in, 1, 4);
    float *grad[LQ_MAX_SLOTS] = {0};
    for (size_t s = 0; s < base.n_slots; s++)
        grad[s] = normal(base.slot[s].rows * base.slot[s].cols, 0, 0);
    lq_arena scratch = {0};
    base.method->backward(&base, g, grad, &scratch);
    lq_arena_close(&scratch);
    for (size_t s = 0; s < base.n_slots; s++) {
        float *x = at.data[s];
        const size_t n = base.slot[s].rows * base.slot[s].cols;
        for (size_t i = 0; i<n; i += n> 40 ? n / 40 : 1) {
            lq_mark mark = lq_arena_mark(&arena);
            const float keep = x[i];
            x[i] = keep + 0.25f;
            double up = loss_of_surrogate(&at, &base, g), width = (double)x[i];
            x[i] = keep - 0.25f;
            double down = loss_of_surrogate(&at, &base, g);
            width -= (double)x[i];
            x[i] = keep;
            lq_arena_release(&arena, mark);
            assert_true(close_to((double)grad[s][i], (up - down) / width, 1e-4, 2e-4));
            assert_false(close_to((double)grad[s][i] + 0.01, (up - down) / width, 1e-4, 2e-4));
        }
    }
}

static void gradient_is_that_of_the_surrogate(void **state)
{
    (void)state;
    check_gradient("{}", 12, 20);
    check_gradient("{\"estimator\":\"ste\"}", 7, 9);
    check_gradient("{\"bits\":1.58,\"dge_k\":3,\"dge_ceiling\":2}", 64, 24);
    check_gradient("{\"bits\":3}", 6, 128);
}

static void surrogate_meets_effective_at_its_base(void **state)
{
    (void)state;
    lq_theta th = random_theta("{}", 24, 36, 1);
    float *a = normal(24 * 36, 0, 0), *b = normal(24 * 36, 0, 0);
    th.method->effective(&th, a, &arena);
    th.method->surrogate(&th, &th, b, &arena);
    assert_memory_equal(a, b, 24 * 36 * sizeof *a);
}

/* In u: s_c dC phi(u); a STE has phi = 1. Frozen slots may be NULL, and gradients are added. */
static void latent_gradient_is_ste_times_slope(void **state)
{
    (void)state;
    const size_t m = 16, n = 24;
    lq_theta dge = random_theta("{}", m, n, 2), ste = dge;
    ste.opts = options_of("{\"estimator\":\"ste\"}");
    const float *g = normal(m * n, 1, 5), *u = dge.data[0];
    float *of_dge = normal(m * n, 0, 0), *of_ste = normal(m * n, 0, 0);
    float *grad[LQ_MAX_SLOTS] = {of_dge};
    for (size_t i = 0; i < m * n; i++)
        of_dge[i] = 1;
    dge.method->backward(&dge, g, grad, &arena);
    grad[0] = of_ste;
    dge.method->backward(&ste, g, grad, &arena);
    for (size_t i = 0; i < m * n; i++)
        assert_true(close_to((double)of_dge[i],
                             1 + (double)of_ste[i] * (double)slope_of(lq_kernels(), u[i], 3, 5, 3),
                             1e-5, 1e-5));
}

/* y = SV Q_m (C Q_n (SU x)) through activations equals x What'. */
static void effective_is_what_activations_see(void **state)
{
    (void)state;
    const size_t m = 192, n = 128, rows = 3;
    lq_theta th = random_theta("{}", m, n, 3);
    float *w = normal(m * n, 0, 0), *C = normal(m * n, 0, 0), *x = normal(rows * n, 1, 6);
    float *y = normal(rows * m, 0, 0), *want = normal(rows * m, 0, 0);
    th.method->effective(&th, w, &arena);
    lq_gemm_nt(rows, m, n, 1, x, n, w, n, 0, want, m);
    const float *affine = lq_theta_f32(&th, "affine"), *u = th.data[0];
    for (size_t i = 0; i < m * n; i++)
        C[i] = affine[0] * fminf(3, fmaxf(0, rintf(u[i]))) + affine[1];
    lq_scale_both(x, rows, n, NULL, lq_theta_f32(&th, "su"));
    lq_hadamard_rows(x, rows, n, 128);
    lq_gemm_nt(rows, m, n, 1, x, n, C, n, 0, y, m);
    lq_hadamard_rows(y, rows, m, 64);
    lq_scale_both(y, rows, m, NULL, lq_theta_f32(&th, "sv"));
    for (size_t i = 0; i < rows * m; i++)
        assert_true(close_to((double)y[i], (double)want[i], 1e-5, 2e-4));
}

/* ---- Initialization ---------------------------------------------------------------------------- */

static double *gram_of(size_t n, uint64_t seed)
{
    double *H;
    assert_int_equal(lq_arena_new(&arena, &H, n * n), LQ_OK);
    float *x = normal(2 * n * n, 1, seed);
    for (size_t s = 0; s < 2 * n; s++)
        for (size_t i = 1; i < n; i++)
            x[s * n + i] += 0.9f * x[s * n + i - 1];
    for (size_t s = 0; s < 2 * n; s++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                H[i * n + j] += (double)x[s * n + i] * (double)x[s * n + j] / (double)(2 * n);
    return H;
}

static double proxy_after_init(lq_theta *th, const float *w, const double *H, const double *judge)
{
    const lq_calib calib = {.gram = H, .n_tokens = 1};
    const lq_rng rng = lq_rng_seed(7);
    assert_int_equal(th->method->init(th, w, &calib, &rng, &arena), LQ_OK);
    float *got = normal(th->out * th->in, 0, 0);
    th->method->effective(th, got, &arena);
    return lq_proxy_error(w, got, judge, th->out, th->in, &arena);
}

static void init_uses_the_gram(void **state)
{
    (void)state;
    const size_t m = 96, n = 160;
    const float *w = normal(m * n, 0.02, 8);
    const double *H = gram_of(n, 9);
    lq_theta th = theta_of("{}", m, n), plain = theta_of("{}", m, n);
    lq_theta rtn = theta_of("{\"start\":\"rtn\"}", m, n);
    double with = proxy_after_init(&th, w, H, H);
    double without = proxy_after_init(&plain, w, NULL, H);
    assert_true(with < 0.6 * without);
    assert_true(proxy_after_init(&rtn, w, H, H) == without);
    assert_true(
        close_to(proxy_after_init(&plain, w, NULL, NULL), 0.1214, 0.05, 0)); /* G.1, g = 0.83 */
    const float *u = th.data[0];
    for (size_t i = 0; i < m * n; i++)
        assert_true(u[i] == 0 || u[i] == 1 || u[i] == 2 || u[i] == 3);
    double a = lq_sum_squares(lq_theta_f32(&th, "su"), n),
           v = lq_sum_squares(lq_theta_f32(&th, "sv"), m);
    assert_true(close_to(a, v, 1e-5, 0));
}

/* SU and SV change, What does not; not even in bf16. */
static void balance_keeps_the_weight(void **state)
{
    (void)state;
    const size_t m = 64, n = 96;
    const float *w = normal(m * n, 0.02, 10);
    lq_theta even = theta_of("{}", m, n), raw = theta_of("{\"balance\":false}", m, n);
    proxy_after_init(&even, w, NULL, NULL);
    proxy_after_init(&raw, w, NULL, NULL);
    assert_true(fabsf(lq_theta_f32(&raw, "su")[0]) == 1);
    assert_false(fabsf(lq_theta_f32(&even, "su")[0]) == 1);
    float *a = normal(m * n, 0, 0), *b = normal(m * n, 0, 0);
    raw.method->effective(&raw, a, &arena);
    even.method->effective(&even, b, &arena);
    for (size_t i = 0; i < m * n; i++)
        assert_true(close_to((double)b[i], (double)a[i], 1e-5, 1e-8));
    lq_theta shipped;
    size_t bytes;
    assert_int_equal(lq_theta_through_bytes(&even, &arena, &shipped, &bytes), LQ_OK);
    even.method->effective(&shipped, b, &arena);
    assert_true(lq_proxy_error(a, b, NULL, m, n, &arena) < 1e-4);
}

static void zeros_stay_zero(void **state)
{
    (void)state;
    const size_t m = 32, n = 48;
    const double *H = gram_of(n, 11);
    float *w = normal(m * n, 0, 0), *got = normal(m * n, 1, 1);
    lq_theta th = theta_of("{}", m, n);
    assert_true(proxy_after_init(&th, w, H, H) == 0);
    float *some = normal(m * n, 1, 12);
    memset(some + 5 * n, 0, n * sizeof *some);
    assert_true(proxy_after_init(&th, some, H, H) < 0.3);
    th.method->effective(&th, got, &arena);
    for (size_t j = 0; j < n; j++)
        assert_true(got[5 * n + j] == 0);
}

static void odd_widths_take_smaller_blocks(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{1, 1}, {3, 5}, {10, 6}, {33, 130}, {576, 12}};
    for (size_t i = 0; i < 5; i++) {
        lq_theta th = theta_of("{}", shapes[i][0], shapes[i][1]);
        const float *w = normal(th.out * th.in, 1, 13);
        assert_true(isfinite(proxy_after_init(&th, w, gram_of(th.in, 14), NULL)));
    }
}

static void init_refuses_what_is_not_finite(void **state)
{
    (void)state;
    const lq_rng rng = lq_rng_seed(1);
    float *w = normal(8 * 8, 1, 15);
    double *H = gram_of(8, 16);
    const lq_calib calib = {.gram = H, .n_tokens = 1};
    lq_theta th = theta_of("{}", 8, 8);
    w[9] = NAN;
    assert_int_equal(th.method->init(&th, w, &calib, &rng, &arena), LQ_E_NUMERIC);
    w[9] = 1;
    H[3] = (double)INFINITY;
    assert_int_equal(th.method->init(&th, w, &calib, &rng, &arena), LQ_E_NUMERIC);
}

/* An indefinite gram: damped step by step, or given up when 10 is not enough. */
static void damping_is_bounded(void **state)
{
    (void)state;
    enum { M = 4, N = 8 };
    const float *w = normal(M * N, 1, 17), ones[N] = {1, 1, 1, 1, 1, 1, 1, 1};
    double H[N * N] = {0};
    lq_lcqat_rounding how = {.levels = 4, .d = 1, .g = 0.83, .hadamard_cap = 8, .sigma = 0.01};
    how.ldlq = (lq_ldlq_opts){.block = 4};
    lq_lcqat_rounded out;
    for (size_t i = 0; i < N; i++)
        H[i * N + i] = 0.5;
    H[1] = H[N] = 1; /* an eigenvalue -0.5 */
    assert_int_equal(lq_lcqat_round_matrix(&how, w, H, M, N, ones, ones, &arena, &out, &arena),
                     LQ_OK);
    assert_true(close_to(out.damping, 1, 1e-12, 0));
    H[1] = H[N] = 100;
    assert_int_equal(lq_lcqat_round_matrix(&how, w, H, M, N, ones, ones, &arena, &out, &arena),
                     LQ_E_NUMERIC);
}

static void regularized_gram_has_unit_mean_diagonal(void **state)
{
    (void)state;
    double H[4] = {3, 1, 1, 5}, zero[4] = {0};
    assert_int_equal(lq_lcqat_regularize(H, 2, 0.01), LQ_OK);
    assert_true(close_to(H[0], 0.76, 1e-12, 0) && close_to(H[1], 0.25, 1e-12, 0) &&
                close_to(H[3], 1.26, 1e-12, 0));
    assert_int_equal(lq_lcqat_regularize(zero, 2, 0.01), LQ_OK);
    assert_true(zero[0] == 1 && zero[1] == 0);
}

static void released_codebook_starts_training(void **state)
{
    (void)state;
    lq_theta th = theta_of("{\"codebook\":\"bf16\"}", 64, 64);
    const double *H = gram_of(64, 19);
    assert_true(proxy_after_init(&th, normal(64 * 64, 1, 18), H, H) < 0.12);
    assert_true(lq_theta_f32(&th, "affine")[0] == 0.89453125f);
}

static void proxy_and_code_units_are_the_same(void **state)
{
    (void)state;
    float u[3] = {0, 1.5f, 3}, p[3], back[3];
    assert_true(lq_lcqat_kappa(128, 128) == 8);
    assert_true(close_to(lq_lcqat_kappa_paper(4, 128, 128) / 8, 1.2247449, 1e-6, 0));
    lq_lcqat_proxy_of_u(p, u, 3, 8, 1.5);
    assert_true(p[0] == -0.1875f && p[1] == 0 && p[2] == 0.1875f);
    lq_lcqat_u_of_proxy(back, p, 3, 8, 1.5);
    assert_memory_equal(u, back, sizeof u);
}

/* ---- Bytes and options ------------------------------------------------------------------------- */

static void bytes_are_codes_scales_and_affine(void **state)
{
    (void)state;
    lq_theta th = theta_of("{}", 2, 4), three = theta_of("{\"bits\":1.58}", 1, 5);
    const float codes[] = {0, 1, 2, 3, 3.4f, 2.6f, -7, 99}, two[] = {2, 2, 2, 2, 2};
    memcpy(th.data[0], codes, sizeof codes);
    memcpy(three.data[0], two, sizeof two);
    lq_sink sink = {.arena = &arena}, trits = {.arena = &arena};
    assert_int_equal(th.method->pack(&th, &sink), LQ_OK);
    assert_int_equal(sink.bytes, 2 + 2 * 4 + 2 * 2 + 2 * 2);
    assert_int_equal(sink.data[0], 0x1B);
    assert_int_equal(sink.data[1], 0xF3);
    assert_int_equal(th.method->pack(&three, &trits), LQ_OK);
    assert_int_equal(trits.data[0], 242);
    ((float *)th.data[0])[3] = NAN;
    assert_int_equal(th.method->pack(&th, &sink), LQ_E_NUMERIC);
    lq_source brief = {.data = sink.data, .bytes = 9, .where = "test"};
    assert_int_equal(th.method->unpack(&th, &brief), LQ_E_FORMAT);
}

static void packing_twice_gives_the_same_bytes(void **state)
{
    (void)state;
    static const char *const bits[] = {"{\"bits\":1.58}", "{}", "{\"bits\":3}", "{\"bits\":4}"};
    for (size_t b = 0; b < 4; b++) {
        lq_theta th = random_theta(bits[b], 7, 13, b), shipped;
        size_t bytes;
        lq_sink first = {.arena = &arena}, second = {.arena = &arena};
        assert_int_equal(th.method->pack(&th, &first), LQ_OK);
        assert_int_equal(lq_theta_through_bytes(&th, &arena, &shipped, &bytes), LQ_OK);
        assert_int_equal(th.method->pack(&shipped, &second), LQ_OK);
        assert_int_equal(first.bytes, second.bytes);
        assert_int_equal(bytes, first.bytes);
        assert_memory_equal(first.data, second.data, first.bytes);
    }
    lq_theta square = random_theta("{}", 256, 256, 1), shipped; /* 2.1255 bits a weight */
    size_t bytes;
    assert_int_equal(lq_theta_through_bytes(&square, &arena, &shipped, &bytes), LQ_OK);
    assert_true(
        close_to(8.0 * (double)bytes / 65536, 2 + 16.0 * 512 / 65536 + 32.0 / 65536, 1e-12, 0));
}

static void options_refuse_combinations(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"bits\":1}",
                                      "{\"bits\":16}",
                                      "{\"ldl_block\":3}",
                                      "{\"codebook\":\"bf16\",\"sweep_block\":1}",
                                      "{\"codebook\":\"bf16\",\"bits\":3,\"vector\":8}",
                                      "{\"codebook\":\"bf16\",\"lattice\":\"learned\"}",
                                      "{\"lattice\":\"learned\",\"ldl_block\":1}",
                                      "{\"vector\":5}",
                                      "{\"kappa\":\"code\",\"lr_u\":0}",
                                      "{\"preset\":\"papr\"}",
                                      "{\"ldl_blok\":4}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        lq_json *doc;
        void *opts;
        assert_int_equal(lq_json_parse(bad[i], strlen(bad[i]), "test", &doc), LQ_OK);
        assert_int_equal(lq_method_options(&lq_method_lcqat, doc, "test", &arena, &opts),
                         LQ_E_OPTION);
        lq_json_free(doc);
    }
    lq_slot slot[LQ_MAX_SLOTS];
    size_t n;
    assert_int_equal(lq_method_lcqat.layout(options_of("{\"codebook\":\"bf16\"}"), 8, 6, slot, &n),
                     LQ_E_SHAPE);
    lq_theta frozen = theta_of(
        "{\"train_affine\":false,\"train_su\":false,\"train_sv\":false,\"lr_u\":0.01}", 4, 4);
    assert_true(frozen.slot[0].train && frozen.slot[0].lr == 0.01);
    assert_true(frozen.slot[0].decay_centre == 1.5);
    for (size_t s = 1; s < 4; s++)
        assert_false(frozen.slot[s].train);
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
        cmocka_unit_test(comparison_refuses_wrong_and_nan),
        cmocka_unit_test(dge_slopes_are_the_table),
        cmocka_unit_test(dge_slope_has_mean_0_5935_in_range),
        cmocka_unit_test(dge_backward_is_the_power_to_1e_6),
        cmocka_unit_test(dge_kernels_agree_with_their_references),
        cmocka_unit_test(dge_forward_rounds_half_to_even_and_keeps_nan),
        cmocka_unit_test(gradient_is_that_of_the_surrogate),
        cmocka_unit_test(surrogate_meets_effective_at_its_base),
        cmocka_unit_test(latent_gradient_is_ste_times_slope),
        cmocka_unit_test(effective_is_what_activations_see),
        cmocka_unit_test(init_uses_the_gram),
        cmocka_unit_test(balance_keeps_the_weight),
        cmocka_unit_test(zeros_stay_zero),
        cmocka_unit_test(odd_widths_take_smaller_blocks),
        cmocka_unit_test(init_refuses_what_is_not_finite),
        cmocka_unit_test(damping_is_bounded),
        cmocka_unit_test(regularized_gram_has_unit_mean_diagonal),
        cmocka_unit_test(released_codebook_starts_training),
        cmocka_unit_test(proxy_and_code_units_are_the_same),
        cmocka_unit_test(bytes_are_codes_scales_and_affine),
        cmocka_unit_test(packing_twice_gives_the_same_bytes),
        cmocka_unit_test(options_refuse_combinations),
    };
    return cmocka_run_group_tests(tests, NULL, close_arena);
}
