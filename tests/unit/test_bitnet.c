/* BitNet's levels, its warm-up from a pretrained weight; baselines/bitnet.c. */
#include "tests/check_method.h"

extern const lq_method lq_method_bitnet;
#define BITNET (&lq_method_bitnet)

/* The worked example of the blog's formula: mean |w| = 0.8333, and what its code (not its text) gives. */
static void example_of_the_blog(void **state)
{
    (void)state;
    static const float w[] = {0.8f, -0.5f, 1.2f, -1.5f, 0.4f, -0.9f, 1.3f, -0.7f, 0.2f};
    static const double level[] = {1, -1, 1, -1, 0, -1, 1, -1, 0};
    const lq_theta th = started(BITNET, "{}", w, 3, 3);
    const float *w_eff = weights_of(&th);
    for (size_t i = 0; i < 9; i++)
        check_close((double)w_eff[i], level[i] * 7.5 / 9, 1e-6, 0);
}

static void errors_are_the_golden_ones(void **state)
{
    (void)state;
    check_close(nmse_of(BITNET, "{}", 256, 4096), 0.264, 0, 0.003);
    check_close(nmse_of(BITNET, "{\"bits\":1}", 256, 4096), 0.364, 0, 0.003);
}

/* b1 takes the mean away before the sign, and an exact 0 is -1. */
static void binary_is_centred(void **state)
{
    (void)state;
    static const float w[] = {0, 1, 2, 5}; /* mean 2 */
    const lq_theta th = started(BITNET, "{\"bits\":1}", w, 1, 4);
    const float *w_eff = weights_of(&th);
    static const double want[] = {-2, -2, -2, 2};
    for (size_t i = 0; i < 4; i++)
        check_close((double)w_eff[i], want[i], 1e-6, 0);
}

static double lambda_at(const char *json, lq_stage stage, double progress)
{
    static const float w[] = {0.3f, 1}; /* a 0.65: levels 0 and 1 */
    lq_theta th = started(BITNET, json, w, 1, 2);
    th.now = (lq_when){.stage = stage, .progress = progress};
    const float *w_eff = weights_of(&th);
    float **grad = gradients_of(&th, 0);
    assert_true(grad[0][0] == 1 && grad[0][1] == 0); /* whatever lambda is */
    return (0.3 - (double)w_eff[0]) / 0.3;
}

static void warm_up_follows_the_schedule(void **state)
{
    (void)state;
    const lq_stage e2e = LQ_STAGE_END_TO_END;
    check_close(lambda_at("{}", e2e, 0), 0, 0, 1e-6);
    check_close(lambda_at("{}", e2e, 0.1), 0.5, 0, 1e-6); /* step 500 of 5000 */
    check_close(lambda_at("{}", e2e, 0.2), 1, 0, 1e-6);
    check_close(lambda_at("{}", e2e, 0.9), 1, 0, 1e-6);
    check_close(lambda_at("{\"warmup\":0}", e2e, 0), 1, 0, 1e-6);
    check_close(lambda_at("{\"warmup\":0.5}", e2e, 0.125), 0.25, 0, 1e-6);
    check_close(lambda_at("{\"warmup\":1,\"ramp\":\"power\"}", e2e, 0.5), 0.9375, 0, 1e-6);
    const char *sigmoid = "{\"warmup\":1,\"ramp\":\"sigmoid\",\"ramp_k\":20}";
    check_close(lambda_at(sigmoid, e2e, 0.6), 1 / (1 + exp(-2.0)), 0, 1e-6);
    check_close(lambda_at("{}", LQ_STAGE_DONE, 0), 1, 0, 1e-6);
    check_close(lambda_at("{}", LQ_STAGE_BLOCKWISE, 0), 1, 0, 1e-6);
}

static void bits_rows_and_bytes(void **state)
{
    (void)state;
    const float *w = normal_weights(8 * 320, 0.1, 5);
    lq_theta th = started(BITNET, "{}", w, 8, 320);
    check_close(bits_of(&th), 1.6 + 16.0 / (8 * 320), 1e-12, 0);
    assert_int_equal(unpack_damaged(&th, 1, 0x80), LQ_E_FORMAT);
    assert_int_equal(unpack_damaged(&th, 5, 243), LQ_E_FORMAT);
    assert_int_equal(unpack_damaged(&th, 5, 242), LQ_OK);
    th = started(BITNET, "{\"bits\":1}", w, 8, 320);
    check_close(bits_of(&th), 1 + 16.0 / (8 * 320), 1e-12, 0);
    check_odd_rows(BITNET, "{}");
    check_odd_rows(BITNET, "{\"bits\":1}");
    float *zeros;
    check_ok(lq_arena_new(&arena, &zeros, 64));
    th = started(BITNET, "{}", zeros, 1, 64);
    assert_true(weights_of(&th)[5] == 0 && shipped_of(&th)[5] == 0);
    refuses(BITNET, "{\"bits\":2}", "1 and 1.58");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(example_of_the_blog), cmocka_unit_test(errors_are_the_golden_ones),
        cmocka_unit_test(binary_is_centred),   cmocka_unit_test(warm_up_follows_the_schedule),
        cmocka_unit_test(bits_rows_and_bytes),
    };
    return cmocka_run_group_tests_name("bitnet", tests, NULL, close_arena);
}
