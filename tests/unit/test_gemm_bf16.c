/* Products of bfloat16 operands: oneDNN against the definition (operands rounded, a float product) and
 * both against the float product; what a processor without bfloat16 is told. */
#include "tests/check.h"

#include "core/math/gemm.h"
#include "core/math/gemm_bf16.h"
#include "core/train/trainer.h"

#include <omp.h>
#include <string.h>

enum { MOST = 130 * 200 };

static void plain(lq_gemm_form form, size_t m, size_t n, size_t k, const float *A, size_t lda,
                  const float *B, size_t ldb, float beta, float *C, size_t ldc)
{
    if (form == LQ_GEMM_NN)
        lq_gemm_nn(m, n, k, 1, A, lda, B, ldb, beta, C, ldc);
    else if (form == LQ_GEMM_NT)
        lq_gemm_nt(m, n, k, 1, A, lda, B, ldb, beta, C, ldc);
    else
        lq_gemm_tn(m, n, k, 1, A, lda, B, ldb, beta, C, ldc);
}

/* The largest deviation from the float product, in units of sqrt(k): the operands are N(0,1). */
static double deviation(lq_bf16 *p, lq_gemm_form form, size_t m, size_t n, size_t k, float beta,
                        float *got)
{
    static float A[MOST], B[MOST], want[MOST];
    lq_rng rng = lq_rng_seed(m + n + k);
    const size_t lda = (form == LQ_GEMM_TN ? m : k) + 3, ldb = (form == LQ_GEMM_NT ? k : n) + 1;
    lq_fill_normal(A, MOST, &rng);
    lq_fill_normal(B, MOST, &rng);
    lq_fill_normal(want, MOST, &rng);
    memcpy(got, want, sizeof want);
    lq_bf16_gemm(p, form, m, n, k, A, lda, B, ldb, beta, got, n + 2);
    plain(form, m, n, k, A, lda, B, ldb, beta, want, n + 2);
    return lq_worst(got, want, m * (n + 2)) /
           sqrt((double)k); /* and between the rows, nothing moved */
}

typedef void check_shape(double off, const float *got, size_t n, size_t k);

static void every_shape(lq_bf16 *p, check_shape *check, float *got)
{
    static const size_t shape[][3] = {{1, 1, 1},    {3, 5, 7},      {16, 16, 16}, {64, 96, 32},
                                      {33, 65, 17}, {100, 64, 128}, {2, 120, 90}, {120, 2, 90}};
    for (size_t s = 0; s < sizeof shape / sizeof shape[0]; s++)
        for (lq_gemm_form form = LQ_GEMM_NN; form <= LQ_GEMM_TN; form++)
            for (int beta = 0; beta < 2; beta++) {
                const size_t m = shape[s][0], n = shape[s][1], k = shape[s][2];
                const double off = deviation(p, form, m, n, k, (float)beta, got);
                check(off, got, m * (n + 2), k);
            }
}

/* Each product is off by at most 2^-8 |a b| (both operands by half a unit of the eighth bit): over k
 * normal terms a few times 2^-9 sqrt(k). */
static void check_rounding(double off, const float *got, size_t n, size_t k)
{
    (void)got, (void)n;
    if (!(off <= 8 * ldexp(1, -8)))
        fail_msg("k %zu: off by %g, in units of sqrt(k)", k, off);
}

static void the_definition_rounds_operands(void **state)
{
    (void)state;
    static float got[MOST];
    lq_bf16 *p;
    lq_bf16_use_reference(1);
    check_ok(lq_bf16_open(MOST, &p));
    every_shape(p, check_rounding, got);
    assert_true(deviation(p, LQ_GEMM_NN, 100, 64, 128, 0, got) > ldexp(1, -11)); /* it does round */
    const float a[] = {1 + 1.0f / 256, 1 + 3.0f / 256}, b[] = {1, 1};
    float c;
    lq_bf16_gemm(p, LQ_GEMM_NT, 1, 1, 2, a, 2, b, 2, 0, &c, 1);
    assert_true(c == 2 + 4.0f / 256); /* ties to even: 1 and 1 + 4/256 */
    lq_bf16_close(p);
    lq_bf16_use_reference(0);
}

static bool unavailable(void)
{
    if (lq_bf16_check() == LQ_OK)
        return false;
    print_message("skipped: %s\n", lq_status_note());
    return true;
}

static void the_library_agrees_with_the_definition(void **state)
{
    (void)state;
    static float fast[MOST], slow[MOST];
    static const size_t shape[][3] = {{1, 1, 1}, {33, 65, 17}, {100, 64, 128}, {64, 96, 32}};
    lq_bf16 *p, *reference;
    if (unavailable())
        skip();
    check_ok(lq_bf16_open(MOST, &p));
    lq_bf16_use_reference(1);
    check_ok(lq_bf16_open(MOST, &reference));
    lq_bf16_use_reference(0);
    every_shape(p, check_rounding, fast);
    for (size_t s = 0; s < 4; s++)
        for (lq_gemm_form form = LQ_GEMM_NN; form <= LQ_GEMM_TN; form++)
            for (int beta = 0; beta < 2; beta++) {
                const size_t m = shape[s][0], n = shape[s][1], k = shape[s][2];
                deviation(p, form, m, n, k, (float)beta, fast);
                deviation(reference, form, m, n, k, (float)beta, slow);
                const double off = lq_worst(fast, slow, m * (n + 2));
                if (!(off <=
                      2e-6 * sqrt((double)k) + 1e-6)) /* only the order of the sums differs */
                    fail_msg("%zu %zu %zu form %d: %g", m, n, k, (int)form, off);
            }
    lq_bf16_close(p);
    lq_bf16_close(reference);
}

/* Prepared under one thread setting or another, run inside a parallel region or not. */
static void threads_do_not_show(void **state)
{
    (void)state;
    static float got[4][MOST];
    const int threads = omp_get_max_threads();
    if (unavailable())
        skip();
    for (int i = 0; i < 2; i++) {
        lq_bf16 *p;
        omp_set_num_threads(i + 1);
        check_ok(lq_bf16_open(MOST, &p));
        deviation(p, LQ_GEMM_TN, 100, 64, 128, 0, got[i]);
        assert_int_equal(omp_get_max_threads(), i + 1);
        lq_bf16_close(p);
    }
    lq_bf16 *own[2];
    check_ok(lq_bf16_open(MOST, &own[0]));
    check_ok(lq_bf16_open(MOST, &own[1]));
#pragma omp parallel for num_threads(2) schedule(static, 1)
    for (int i = 0; i < 2; i++) {
        static const float zero[128 * 104];
        for (int again = 0; again < 3; again++)
            lq_bf16_gemm(own[i], LQ_GEMM_TN, 100, 64, 128, zero, 103, zero, 65, 0, got[2 + i], 66);
    }
    assert_memory_equal(got[0], got[1], sizeof got[0]);
    assert_true(got[2][0] == 0 && got[3][0] == 0);
    lq_bf16_close(own[0]);
    lq_bf16_close(own[1]);
    omp_set_num_threads(threads);
}

static void shape_of(lq_config *c)
{
    *c = (lq_config){.arch = LQ_ARCH_LLAMA, .D = 32, .F = 48, .L = 2, .H = 4, .Hkv = 2, .dh = 8};
    c->V = 61;
    c->eps = 1e-5;
    c->rope_theta = 100;
    c->tied = true;
}

/* A model's gradient with rounded operands points where the float gradient points. */
static void check_model(bool reference)
{
    enum { T = 16, N = 2 };
    lq_arena arena = {0};
    lq_config c;
    lq_weights w, grad[2];
    uint32_t token[N * T], target[N * T];
    double nats[2], dot = 0, norm[2] = {0, 0};
    lq_rng rng = lq_rng_seed(4);
    shape_of(&c);
    check_ok(lq_weights_new(&c, &arena, &w));
    lq_weights_init(&w, &rng);
    for (size_t i = 0; i < w.n_tensors; i++)
        for (size_t j = 0; w.tensor[i].rows > 1 && j < w.tensor[i].rows * w.tensor[i].cols; j++)
            w.tensor[i].data[j] *= 5; /* all but the norms */
    for (size_t i = 0; i < N * T; i++) {
        token[i] = (uint32_t)lq_rng_below(&rng, c.V);
        target[i] = (uint32_t)lq_rng_below(&rng, c.V);
    }
    lq_bf16_use_reference(reference);
    for (int i = 0; i < 2; i++) {
        lq_lane *lane;
        check_ok(lq_weights_new(&c, &arena, &grad[i]));
        check_ok(lq_lane_new(&c, N, T, i == 0 ? LQ_KEEP_ALL : LQ_KEEP_INPUTS, &arena, &lane));
        if (i == 1)
            check_ok(lq_lane_use_bf16(lane));
        nats[i] = lq_gradient(&w, lane, token, target, N, &grad[i]);
        lq_lane_close(lane);
    }
    lq_bf16_use_reference(0);
    for (size_t i = 0; i < w.n; i++) {
        dot += (double)grad[0].flat[i] * (double)grad[1].flat[i];
        for (int j = 0; j < 2; j++)
            norm[j] += (double)grad[j].flat[i] * (double)grad[j].flat[i];
    }
    assert_true(nats[0] != nats[1]);
    check_close(nats[1], nats[0], 1e-2, 0);
    const double cosine = dot / sqrt(norm[0] * norm[1]);
    if (!(cosine > 0.999))
        fail_msg("cosine of the gradients: %g", cosine);
    lq_arena_close(&arena);
}

static void a_model_computes_nearly_the_same(void **state)
{
    (void)state;
    check_model(true);
    if (unavailable())
        skip();
    check_model(false);
}

/* Three steps: other losses than in float, close to them, and the same on one thread and two. */
static void a_training_uses_it_when_asked(void **state)
{
    (void)state;
    enum { T = 8 };
    double loss[3][3];
    const int threads = omp_get_max_threads();
    lq_bf16_use_reference(lq_bf16_check() != LQ_OK);
    for (int i = 0; i < 3; i++) {
        lq_arena arena = {0};
        lq_qmodel q = {.method = NULL};
        lq_config c;
        lq_batches data;
        lq_train_result r;
        uint32_t *token;
        const lq_rng rng = lq_rng_seed(9);
        lq_train_config how = {.batch = 4, .T = T, .micro = 1, .lanes = 2, .steps = 3, .lr = 1e-2};
        how.train_rest = true;
        how.checkpoint_s = 1e9;
        how.adamw = (lq_adamw){0.9, 0.95, 1e-8, 1};
        how.compute = i == 0 ? LQ_COMPUTE_F32 : LQ_COMPUTE_BF16;
        shape_of(&c);
        omp_set_num_threads(i == 2 ? 2 : 1);
        check_ok(lq_weights_new(&c, &arena, &q.w));
        lq_weights_init(&q.w, &rng);
        check_ok(lq_arena_new(&arena, &token, 100));
        for (size_t j = 0; j < 100; j++)
            token[j] = (uint32_t)(j * j % c.V);
        check_ok(lq_batches_new(token, 100, T, &rng, &arena, &data));
        check_ok(lq_train(&q, &data, &how, &arena, NULL, NULL, &r));
        memcpy(loss[i], r.loss, sizeof loss[i]);
        lq_arena_close(&arena);
    }
    lq_bf16_use_reference(0);
    omp_set_num_threads(threads);
    assert_true(loss[0][2] != loss[1][2]);
    check_close(loss[1][2], loss[0][2], 1e-2, 0);
    assert_memory_equal(loss[1], loss[2], sizeof loss[1]);
}

static void what_is_not_there_is_refused_by_name(void **state)
{
    (void)state;
    lq_bf16 *p = NULL;
    const lq_status status = lq_bf16_open(16, &p);
    assert_true(status == LQ_OK || status == LQ_E_UNAVAILABLE);
    if (status == LQ_E_UNAVAILABLE) {
        assert_null(p);
        assert_non_null(strstr(lq_status_note(), "compute=f32"));
    }
    assert_int_equal(lq_bf16_check(), status);
    lq_bf16_close(p);
    lq_bf16_use_reference(1);
    assert_int_equal(lq_bf16_open(SIZE_MAX / 64, &p), LQ_E_MEMORY);
    assert_null(p);
    lq_bf16_use_reference(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definition_rounds_operands),
        cmocka_unit_test(the_library_agrees_with_the_definition),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(a_model_computes_nearly_the_same),
        cmocka_unit_test(a_training_uses_it_when_asked),
        cmocka_unit_test(what_is_not_there_is_refused_by_name),
    };
    return cmocka_run_group_tests_name("gemm_bf16", tests, NULL, NULL);
}
