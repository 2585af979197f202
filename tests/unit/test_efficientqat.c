/* EfficientQAT's gate after rounding, its two stages and bytes; baselines/efficientqat.c. */
#include "tests/check_method.h"

extern const lq_method lq_method_efficientqat;
#define EFFICIENT (&lq_method_efficientqat)
enum { LATENT, STEP, ZERO };

typedef struct post {
    double w, out, dw, ds, dz;
} post;

static void check_post(const post *v, size_t n, double zero)
{
    lq_theta th = theta_of(EFFICIENT, "{}", 1, n);
    lq_theta_f32(&th, "step")[0] = 0.5f;
    lq_theta_f32(&th, "zero")[0] = (float)zero;
    for (size_t j = 0; j < n; j++)
        lq_theta_f32(&th, "latent")[j] = (float)v[j].w;
    const float *w_eff = weights_of(&th);
    for (size_t j = 0; j < n; j++) {
        float **grad = gradients_of(&th, j);
        const double got[] = {(double)w_eff[j], (double)grad[LATENT][j], (double)grad[STEP][0],
                              (double)grad[ZERO][0]};
        const double want[] = {v[j].out, v[j].dw, v[j].ds, v[j].dz};
        for (size_t k = 0; k < 4; k++)
            if (!lq_close(got[k], want[k], 0, 1e-6))
                fail_msg("w %g, zero %g: number %zu is %g, not %g", v[j].w, zero, k, got[k],
                         want[k]);
    }
}

static void gate_comes_after_rounding(void **state)
{
    (void)state;
    static const post golden[] = {{-.9, -.5, 0, -1, -.5},
                                  {-.74, -.5, 1, .48, 0},
                                  {.25, 0, 1, -.5, 0},
                                  {1.2, 1, 1, -.4, 0},
                                  {1.3, 1, 0, 2, -.5}};
    check_post(golden, 5, 1);
    check_post(golden, 5, 1.3); /* the zero counts as rounded */
    /* On the edges themselves: -1.5 rounds to -2 and is out, 2.5 rounds to 2 and is in; about zero 2,
     * -2.5 is in and 1.5 is out. */
    static const post edges[] = {{-.75, -.5, 0, -1, -.5}, {1.25, 1, 1, -.5, 0}};
    static const post others[] = {{-1.25, -1, 1, .5, 0}, {.75, .5, 0, 1, -.5}};
    check_post(edges, 2, 1);
    check_post(others, 2, 2);
    /* A zero that has drifted out of the codes is clipped, and steps have their floor. */
    static const post low[] = {{-.3, 0, 0, 0, -.5}, {.3, .5, 1, .4, 0}};
    check_post(low, 2, -7);
}

static void step_below_its_floor_has_a_gradient(void **state)
{
    (void)state;
    lq_theta th = theta_of(EFFICIENT, "{}", 1, 1);
    lq_theta_f32(&th, "step")[0] = -1;
    lq_theta_f32(&th, "latent")[0] = 1;
    check_close((double)weights_of(&th)[0], 3e-4, 1e-6, 0);
    assert_true(gradients_of(&th, 0)[STEP][0] == 3);
}

static void errors_are_the_golden_ones(void **state)
{
    (void)state;
    check_close(nmse_of(EFFICIENT, "{\"group\":64}", 256, 4096), 0.209, 0, 0.003);
    check_close(nmse_of(EFFICIENT, "{}", 256, 4096), 0.253, 0, 0.003);
    check_close(nmse_of(EFFICIENT, "{\"bits\":3}", 256, 4096), 0.0465, 0, 0.003);
    check_close(nmse_of(EFFICIENT, "{\"bits\":4}", 256, 4096), 0.0101, 0, 0.003);
}

static void rates_follow_the_stages(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        lq_stage stage;
        double scale;
        bool latent_trains;
    } rows[] = {{"{}", LQ_STAGE_BLOCKWISE, 1, true},
                {"{}", LQ_STAGE_END_TO_END, 1, false},
                {"{\"e2e\":\"all\"}", LQ_STAGE_END_TO_END, 5, true},
                {"{\"e2e\":\"all\",\"bits\":4}", LQ_STAGE_END_TO_END, 10, true},
                {"{\"e2e\":\"all\",\"lr_ratio\":3}", LQ_STAGE_END_TO_END, 3, true}};
    for (size_t i = 0; i < 5; i++) {
        lq_theta th = started(EFFICIENT, rows[i].json, normal_weights(256, 0.1, 5), 2, 128);
        check_ok(EFFICIENT->begin(&th, rows[i].stage, &arena));
        check_close(lq_slot_lr_scale(&th.slot[STEP]), rows[i].scale, 0, 0);
        check_close(lq_slot_lr_scale(&th.slot[ZERO]), rows[i].scale, 0, 0);
        check_close(lq_slot_lr_scale(&th.slot[LATENT]), 1, 0, 0);
        assert_true(th.slot[STEP].train);
        assert_int_equal(th.slot[LATENT].train, rows[i].latent_trains);
        assert_int_equal(th.slot[ZERO].train, rows[i].latent_trains);
    }
}

/* The second stage: codes and zeros stand still, dL/ds = sum G (code - z) exactly, and the bytes are those
 * of before. */
static void second_stage_trains_steps_alone(void **state)
{
    (void)state;
    enum { OUT = 4, IN = 320, GROUPS = 3 };
    const float *w = normal_weights((size_t)OUT * IN, 0.1, 5);
    lq_theta th = started(EFFICIENT, "{}", w, OUT, IN);
    float *zero = lq_theta_f32(&th, "zero");
    zero[1] = 1.6f; /* as trained */
    zero[2] = 9;
    const float *before = weights_of(&th), *shipped = shipped_of(&th);
    check_ok(EFFICIENT->begin(&th, LQ_STAGE_END_TO_END, &arena));
    check_ok(EFFICIENT->begin(&th, LQ_STAGE_END_TO_END, &arena)); /* again: nothing more happens */
    const float *frozen = weights_of(&th), *again = shipped_of(&th);
    assert_memory_equal(shipped, frozen, OUT * IN * sizeof *frozen);
    assert_memory_equal(shipped, again, OUT * IN * sizeof *again);
    assert_true(lq_worst(before, frozen, OUT * IN) < 1e-3); /* steps become fp16, no code moves */
    assert_true(zero[1] == 2 && zero[2] == 3);
    float *step = lq_theta_f32(&th, "step");
    for (size_t j = 0; j < OUT * IN; j += 37) {
        float **grad = gradients_of(&th, j);
        const size_t at = j / IN * GROUPS + j % IN / 128;
        check_close((double)grad[STEP][at], (double)(frozen[j] / step[at]), 1e-5, 1e-6);
        assert_true(grad[LATENT][j] == 0 && grad[ZERO][at] == 0);
    }
    const float codes_before = frozen[5] / step[0];
    step[0] *= -1.5f; /* the optimizer may do anything to a step */
    check_close((double)(weights_of(&th)[5] / step[0]), (double)codes_before, 1e-6, 0);
    assert_true(lq_worst(weights_of(&th), shipped_of(&th), OUT * IN) < 1e-3);
    step[0] = 0;
    assert_true(fabsf(shipped_of(&th)[5]) < 1e-6f);
}

static void bits_rows_and_bytes(void **state)
{
    (void)state;
    const float *w = normal_weights(8 * 512, 0.1, 5);
    for (int bits = 2; bits <= 4; bits++)
        for (int group = 64; group <= 128; group *= 2) {
            const char *json = lq_arena_printf(&arena, "{\"bits\":%d,\"group\":%d}", bits, group);
            const lq_theta th = started(EFFICIENT, json, w, 8, 512);
            check_close(bits_of(&th), bits + (16.0 + bits) / group, 1e-12, 0);
            check_odd_rows(EFFICIENT, json);
        }
    const lq_theta th = started(EFFICIENT, "{}", w, 8, 512);
    assert_int_equal(unpack_damaged(&th, 8 * 512 / 4 + 1, 0x7C),
                     LQ_E_FORMAT); /* an infinite step */
    assert_int_equal(unpack_damaged(&th, 0, 0xFF), LQ_OK);
    refuses(EFFICIENT, "{\"bits\":1.58}", "2, 3, 4 and 8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate_comes_after_rounding),
        cmocka_unit_test(step_below_its_floor_has_a_gradient),
        cmocka_unit_test(errors_are_the_golden_ones),
        cmocka_unit_test(rates_follow_the_stages),
        cmocka_unit_test(second_stage_trains_steps_alone),
        cmocka_unit_test(bits_rows_and_bytes),
    };
    return cmocka_run_group_tests_name("efficientqat", tests, NULL, close_arena);
}
