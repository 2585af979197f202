/* LSQ's grid, gradients and first step; baselines/lsq.c. */
#include "tests/check_method.h"

extern const lq_method lq_method_lsq;
#define LSQ (&lq_method_lsq)

static void vectors_are_the_golden_ones(void **state)
{
    (void)state;
    static const vector closed[] = {{-1.2, -1, 0, -4}, {-1, -1, 1, 0},    {-.375, -.5, 1, -.5},
                                    {.125, 0, 1, -.5}, {.3, .25, 1, -.2}, {.8, .75, 0, 3}};
    static const vector open[] = {{-1.2, -1, 0, -4},  {-1, -1, 0, -4},     {.75, .75, 0, 3},
                                  {.74, .75, 1, .04}, {-.99, -1, 1, -.04}, {.8, .75, 0, 3}};
    static const char *const json[] = {"{\"bits\":3}", "{\"bits\":3,\"gate\":\"open\"}",
                                       "{\"bits\":3,\"share\":\"matrix\"}"};
    for (size_t i = 0; i < 3; i++) {
        lq_theta th = theta_of(LSQ, json[i], 1, 6);
        lq_theta_f32(&th, "step")[0] = 0.25f;
        check_vectors(&th, i == 1 ? open : closed);
    }
}

static void errors_are_the_golden_ones(void **state)
{
    (void)state;
    check_close(nmse_of(LSQ, "{\"bits\":2}", 256, 4096), 0.221, 0, 0.003);
    check_close(nmse_of(LSQ, "{\"bits\":3}", 256, 4096), 0.071, 0, 0.003);
    check_close(nmse_of(LSQ, "{\"bits\":4}", 256, 4096), 0.030, 0, 0.003);
    check_close(nmse_of(LSQ, "{\"init\":\"mse\"}", 16, 4096), 0.150, 0, 0.003);
    /* hangs on the largest of 4096 weights; sharply in test_grid.c, given those */
    check_close(nmse_of(LSQ, "{\"init\":\"max\"}", 256, 4096), 0.835, 0, 0.02);
    assert_false(lq_close(nmse_of(LSQ, "{\"bits\":3}", 256, 4096), 0.030, 0, 0.003));
}

static void gradient_scale_counts_what_it_says(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        double counted, q_p;
        size_t steps;
    } rows[] = {{"{}", 50, 1, 6},
                {"{\"bits\":3}", 50, 3, 6},
                {"{\"bits\":4,\"count\":\"matrix\"}", 300, 7, 6},
                {"{\"share\":\"matrix\"}", 300, 1, 1}};
    for (size_t i = 0; i < 4; i++) {
        const lq_theta th = theta_of(LSQ, rows[i].json, 6, 50);
        check_close(th.slot[1].grad_scale, 1 / sqrt(rows[i].counted * rows[i].q_p), 1e-12, 0);
        assert_int_equal(th.slot[1].rows, rows[i].steps);
    }
}

static void one_step_for_all_rows(void **state)
{
    (void)state;
    const float *w = normal_weights(8 * 64, 0.1, 5);
    lq_theta th = started(LSQ, "{\"share\":\"matrix\"}", w, 8, 64);
    double mean = 0;
    for (size_t i = 0; i < 8 * 64; i++)
        mean += fabs((double)w[i]) / (8 * 64);
    check_close((double)lq_theta_f32(&th, "step")[0], 2 * mean, 1e-6, 0);
    const float *a = gradients_of(&th, 3)[1], *b = gradients_of(&th, 200)[1];
    assert_true(a[0] != 0 && b[0] != 0); /* the step hears of rows 0 and 3 */
}

static void bits_are_true(void **state)
{
    (void)state;
    const float *w = normal_weights(8 * 256, 0.1, 5);
    for (int bits = 2; bits <= 4; bits++) {
        const char *json = lq_arena_printf(&arena, "{\"bits\":%d}", bits);
        lq_theta th = started(LSQ, json, w, 8, 256);
        check_close(bits_of(&th), bits + 16.0 / 256, 1e-12, 0);
    }
    lq_theta th = started(LSQ, "{\"share\":\"matrix\"}", w, 8, 256);
    check_close(bits_of(&th), 2 + 16.0 / (8 * 256), 1e-12, 0);
}

static void odd_rows_and_bytes(void **state)
{
    (void)state;
    check_odd_rows(LSQ, "{\"bits\":2}");
    check_odd_rows(LSQ, "{\"bits\":4,\"init\":\"mse\"}");
    check_odd_rows(LSQ, "{\"bits\":3,\"share\":\"matrix\"}");
    const lq_theta th = started(LSQ, "{}", normal_weights(64, 0.1, 5), 1, 64);
    assert_int_equal(unpack_damaged(&th, 1, 0x80), LQ_E_FORMAT); /* a negative step */
    assert_int_equal(unpack_damaged(&th, 1, 0x7C), LQ_E_FORMAT); /* one that is not finite */
    assert_int_equal(unpack_damaged(&th, 5, 0x1B), LQ_OK);
    refuses(LSQ, "{\"bits\":1.58}", "2, 3 and 4");
    refuses(LSQ, "{\"bits\":8}", "2, 3 and 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_the_golden_ones),
        cmocka_unit_test(errors_are_the_golden_ones),
        cmocka_unit_test(gradient_scale_counts_what_it_says),
        cmocka_unit_test(one_step_for_all_rows),
        cmocka_unit_test(bits_are_true),
        cmocka_unit_test(odd_rows_and_bytes),
    };
    return cmocka_run_group_tests_name("lsq", tests, NULL, close_arena);
}
