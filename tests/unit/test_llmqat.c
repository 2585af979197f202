/* LLM-QAT's dynamic scales; baselines/llmqat.c. */
#include "tests/check_method.h"

extern const lq_method lq_method_llmqat;
#define LLMQAT (&lq_method_llmqat)

/* The released lines, in double: rint(w k) / (k + 1e-6) and the two low-bit forms. */
static double released(int bits, double w, double mean, double top)
{
    const double q_p = pow(2, bits - 1) - 1, k = q_p / (top + 1e-6);
    if (bits > 2)
        return rint(w * k) / (k + 1e-6);
    const double a = bits == 2 ? 2 * mean : mean, u = fmin(fmax(w / a, -0.99), 0.99);
    return bits == 2 ? a * (rint(2 * u - 0.5) + 0.5) / 2 : a * (double)((w > 0) - (w < 0));
}

static void weights_are_the_released_ones(void **state)
{
    (void)state;
    enum { N = 200 };
    static const int bits[] = {1, 2, 3, 4, 8};
    const float *w = normal_weights(N, 0.05, 11);
    double mean = 0, top = 0;
    for (size_t j = 0; j < N; j++) {
        mean += fabs((double)w[j]) / N;
        top = fmax(top, fabs((double)w[j]));
    }
    for (size_t b = 0; b < 5; b++) {
        const char *json = lq_arena_printf(&arena, "{\"bits\":%d}", bits[b]);
        const lq_theta th = started(LLMQAT, json, w, 1, N);
        const float *w_eff = weights_of(&th);
        for (size_t j = 0; j < N; j++)
            check_close((double)w_eff[j], released(bits[b], (double)w[j], mean, top), 1e-5, 1e-9);
        assert_false(lq_close((double)w_eff[0],
                              released(bits[(b + 1) % 5], (double)w[0], mean, top), 1e-5, 1e-9));
    }
}

static void errors_are_the_golden_ones(void **state)
{
    (void)state;
    check_close(nmse_of(LLMQAT, "{\"bits\":2}", 256, 4096), 0.138, 0, 0.003);
    check_close(nmse_of(LLMQAT, "{\"bits\":1}", 256, 4096), 0.364, 0, 0.003);
    check_close(nmse_of(LLMQAT, "{\"bits\":4}", 256, 4096), 0.0254, 0, 0.003);
}

/* Identity, but for the fixed clip at 2 that the released code has from 3 bits on; inclusive. */
static void gate_is_open_below_two(void **state)
{
    (void)state;
    static const float w[] = {0.1f, -1.9f, 2, -2, 5, 0};
    static const double three[] = {1, 1, 0, 0, 0, 1};
    for (size_t j = 0; j < 6; j++) {
        lq_theta th = started(LLMQAT, "{\"bits\":3}", w, 1, 6);
        assert_true((double)gradients_of(&th, j)[0][j] == three[j]);
        th = started(LLMQAT, "{\"bits\":2}", w, 1, 6);
        assert_true(gradients_of(&th, j)[0][j] == 1);
    }
    const lq_theta th = started(LLMQAT, "{}", w, 1, 6);
    assert_false(th.slot[1].train); /* the scale is no parameter */
}

static void bits_rows_and_bytes(void **state)
{
    (void)state;
    const float *w = normal_weights(8 * 256, 0.1, 5);
    static const int bits[] = {1, 2, 3, 4, 8};
    for (size_t b = 0; b < 5; b++) {
        const char *json = lq_arena_printf(&arena, "{\"bits\":%d}", bits[b]);
        lq_theta th = started(LLMQAT, json, w, 8, 256);
        check_close(bits_of(&th), bits[b] + 16.0 / 256, 1e-12, 0);
        check_odd_rows(LLMQAT, json);
        assert_int_equal(unpack_damaged(&th, 1, 0x80), LQ_E_FORMAT);
    }
    const lq_theta th = started(LLMQAT, "{\"bits\":4}", w, 8, 256);
    assert_int_equal(unpack_damaged(&th, -1, 0x0F), LQ_E_FORMAT); /* code 0 is never used */
    assert_int_equal(unpack_damaged(&th, -1, 0x1F), LQ_OK);
    refuses(LLMQAT, "{\"bits\":1.58}", "1, 2, 3, 4 and 8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_the_released_ones),
        cmocka_unit_test(errors_are_the_golden_ones),
        cmocka_unit_test(gate_is_open_below_two),
        cmocka_unit_test(bits_rows_and_bytes),
    };
    return cmocka_run_group_tests_name("llmqat", tests, NULL, close_arena);
}
