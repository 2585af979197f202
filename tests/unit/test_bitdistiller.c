/* BitDistiller's dynamic ranges, their gradients and the clipped start; baselines/bitdistiller.c. */
#include "tests/check_method.h"

extern const lq_method lq_method_bitdistiller;
#define DISTILLER (&lq_method_bitdistiller)
#define PLAIN     "{\"clip\":\"none\"}"
#define N2F3      "{\"clip\":\"none\",\"bits\":3}"

/* One group with lo -0.5, hi 1: s = 0.5, z = 1. The extremes carry what the others' steps would. */
static void gradients_reach_the_extremes(void **state)
{
    (void)state;
    /*               lo   hi                halves: away from zero */
    const float w[] = {-.5f, 1, .2f, -.2f, .6f, .25f, -.25f, .75f};
    const double out[] = {-.5, 1, 0, 0, .5, .5, -.5, 1};
    enum { N = sizeof w / sizeof w[0] };
    const lq_theta th = started(DISTILLER, PLAIN, w, 1, N);
    const float *w_eff = weights_of(&th);
    for (size_t j = 0; j < N; j++) {
        const float *dw = gradients_of(&th, j)[0];
        const double units = out[j] / .5 - (double)w[j] / .5; /* c - z - u: all lie inside */
        check_close((double)w_eff[j], out[j], 0, 1e-6);
        for (size_t k = 0; k < N; k++) {
            const double through = k == 0 ? -units / 3 : k == 1 ? units / 3 : 0;
            check_close((double)dw[k], (j == k) + through, 0, 1e-6);
        }
        assert_false(lq_close((double)dw[1], (j == 1) + units / 3 + 0.1, 0, 1e-6));
    }
    const lq_theta even = started(DISTILLER, "{\"clip\":\"none\",\"half\":\"even\"}", w, 1, N);
    const double half_even[] = {0, 0, 1}; /* of 0.5, -0.5 and 1.5 steps */
    for (size_t j = 0; j < 3; j++)
        check_close((double)weights_of(&even)[5 + j], half_even[j], 0, 1e-6);
}

/* A group of 3..4: its zero is clipped to 0, and all codes are 3. */
static void what_is_clipped_moves_the_range_alone(void **state)
{
    (void)state;
    const float w[] = {3, 4, 3.5f, 3.25f};
    const lq_theta th = started(DISTILLER, PLAIN, w, 1, 4);
    const float *w_eff = weights_of(&th), *dw = gradients_of(&th, 2)[0];
    check_close((double)w_eff[2], 1, 1e-6, 0); /* 3 s, s = 1/3 */
    check_close((double)dw[2], 0, 0, 1e-6);
    check_close((double)dw[1], 3.0 / 3, 1e-6, 0);
    check_close((double)dw[0], -3.0 / 3, 1e-6, 0);
}

static void equals_share_and_a_floor_stops(void **state)
{
    (void)state;
    const float w[] = {1, -1, 1, 1, .3f, -1};
    lq_theta th = started(DISTILLER, PLAIN, w, 1, 6);
    const float *dw = gradients_of(&th, 4)[0]; /* s 2/3, z 2 (-rint(-1.5)): u .45, code 2 */
    check_close((double)dw[0], -.45 / 9, 1e-5, 0);
    check_close((double)dw[1], .45 / 6, 1e-5, 0);
    check_close((double)dw[4], 1, 0, 1e-6);
    const float flat[] = {1e-6f, 2e-6f, -1e-6f, 0};
    th = started(DISTILLER, PLAIN, flat, 1, 4);
    const float *df = gradients_of(&th, 1)[0];
    assert_true(df[1] == 1 && df[0] == 0 && df[2] == 0); /* the range is at its floor */
}

static void n2f3_has_its_levels(void **state)
{
    (void)state;
    const float w[] = {2, -1, 0, .3f, .6f, 1.1f, -.2f, -.5f, -.8f, .18f, 1.7f, -.1f};
    const double out[] = {2, -1, 0, .36667, .76399, 1.24597, -.24693, -.53502, -1, 0, 2, 0};
    const lq_theta th = started(DISTILLER, N2F3, w, 1, 12);
    const float *w_eff = weights_of(&th);
    for (size_t j = 0; j < 12; j++) {
        const float *dw = gradients_of(&th, j)[0];
        const bool negative = w[j] < 0;
        const double scale = negative ? 1 : 2;
        const double units = (out[j] - (double)w[j]) / scale;
        check_close((double)w_eff[j], out[j], 0, 2e-5);
        check_close((double)dw[0], (j == 0) + (negative ? 0 : units), 0, 2e-5);
        check_close((double)dw[1], (j == 1) - (negative ? units : 0), 0, 2e-5);
        if (j > 1)
            check_close((double)dw[j], 1, 0, 1e-6);
    }
}

static void errors_are_the_golden_ones(void **state)
{
    (void)state;
    check_close(nmse_of(DISTILLER, "{\"clip\":\"none\",\"group\":64}", 256, 4096), 0.209, 0, 0.003);
    check_close(nmse_of(DISTILLER, PLAIN, 256, 4096), 0.253, 0, 0.003);
    check_close(nmse_of(DISTILLER, N2F3, 256, 4096), 0.039, 0, 0.003);
    const char *integers = "{\"clip\":\"none\",\"bits\":3,\"three_bits\":\"int\"}";
    check_close(nmse_of(DISTILLER, integers, 256, 4096), 0.0465, 0, 0.003);
}

/* Under H = I. Training starts from the clipped weight, whose own extremes are the new range. */
static void clipped_start_is_the_golden_one(void **state)
{
    (void)state;
    check_close(nmse_of(DISTILLER, "{\"group\":64}", 96, 512), 0.123, 0, 0.003);
    check_close(nmse_of(DISTILLER, "{}", 96, 512), 0.133, 0, 0.003);
}

/* Under a correlated H the bounds are those of a search written down naively. */
static void clipping_minimizes_the_output_error(void **state)
{
    (void)state;
    enum { N = 16 };
    const float *w = normal_weights(2 * N, 0.1, 9);
    double *H = identity_gram(2 * N);
    for (size_t i = 0; i < 4 * N * N; i++)
        H[i] = pow(0.8, fabs((double)(i / (2 * N)) - (double)(i % (2 * N))));
    const char *json = "{\"group\":16}";
    lq_theta th = theta_of(DISTILLER, json, 1, 2 * N);
    const lq_calib calib = {.gram = H, .n_tokens = 1};
    check_ok(DISTILLER->init(&th, w, &calib, NULL, &arena));
    for (size_t g = 0; g < 2; g++) {
        float lo = 0, hi = 0, best_lo = 0, best_hi = 0;
        double least = HUGE_VAL;
        for (size_t j = g * N; j < (g + 1) * N; j++) {
            lo = fminf(lo, w[j]);
            hi = fmaxf(hi, w[j]);
        }
        for (int i = 0; i < 100; i++) {
            const float top = hi * (1 - (float)(i / 10) / 20),
                        low = lo * (1 - (float)(i % 10) / 20);
            const float s = (top - low) / 3, z = -rintf(low / s);
            double d[N], error = 0;
            for (size_t j = 0; j < N; j++) {
                const float c = fminf(fmaxf(w[g * N + j], low), top);
                d[j] = (double)(s * (fminf(fmaxf(rintf(c / s) + z, 0), 3) - z) - w[g * N + j]);
            }
            for (size_t j = 0; j < N * N; j++)
                error += d[j / N] * d[j % N] * H[j % N * 2 * N + j / N];
            if (error < least) {
                least = error;
                best_lo = low;
                best_hi = top;
            }
        }
        const float *latent = lq_theta_f32(&th, "latent") + g * N;
        assert_true(best_lo > lo || best_hi < hi); /* something is cut */
        for (size_t j = 0; j < N; j++)
            check_close((double)latent[j], (double)fminf(fmaxf(w[g * N + j], best_lo), best_hi),
                        1e-5, 0);
    }
}

static void queries_and_keys_are_not_clipped(void **state)
{
    (void)state;
    static const char *const name[] = {
        "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight", "model.layers.0.mlp.down_proj.weight", NULL};
    const float *w = normal_weights(4 * 64, 0.1, 9);
    for (size_t i = 0; i < 5; i++) {
        lq_theta th = theta_of(DISTILLER, "{}", 4, 64);
        const lq_calib calib = {.gram = identity_gram(64), .n_tokens = 1};
        th.linear = name[i];
        check_ok(DISTILLER->init(&th, w, &calib, NULL, &arena));
        const bool same = memcmp(th.data[0], w, 4 * 64 * sizeof *w) == 0;
        assert_int_equal(same, i < 2);
    }
    lq_theta th = theta_of(DISTILLER, "{}", 4, 64);
    assert_int_equal(DISTILLER->init(&th, w, NULL, NULL, &arena), LQ_E_MISSING);
}

static void bits_rows_and_bytes(void **state)
{
    (void)state;
    const float *w = normal_weights(8 * 512, 0.1, 5);
    lq_theta th = started(DISTILLER, PLAIN, w, 8, 512);
    check_close(bits_of(&th), 2 + 18.0 / 128, 1e-12, 0);
    assert_int_equal(unpack_damaged(&th, 8 * 512 / 4 + 1, 0x80), LQ_E_FORMAT); /* a negative step */
    th = started(DISTILLER, "{\"clip\":\"none\",\"group\":64}", w, 8, 512);
    check_close(bits_of(&th), 2 + 18.0 / 64, 1e-12, 0);
    th = started(DISTILLER, N2F3, w, 8, 512);
    check_close(bits_of(&th), 3 + 32.0 / 128, 1e-12, 0);
    assert_int_equal(unpack_damaged(&th, -1, 0xFC), LQ_E_FORMAT);
    check_odd_rows(DISTILLER, "{}");
    check_odd_rows(DISTILLER, PLAIN);
    check_odd_rows(DISTILLER, "{\"bits\":3}");
    refuses(DISTILLER, "{\"bits\":4}", "2 and 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_reach_the_extremes),
        cmocka_unit_test(what_is_clipped_moves_the_range_alone),
        cmocka_unit_test(equals_share_and_a_floor_stops),
        cmocka_unit_test(n2f3_has_its_levels),
        cmocka_unit_test(errors_are_the_golden_ones),
        cmocka_unit_test(clipped_start_is_the_golden_one),
        cmocka_unit_test(clipping_minimizes_the_output_error),
        cmocka_unit_test(queries_and_keys_are_not_clipped),
        cmocka_unit_test(bits_rows_and_bytes),
    };
    return cmocka_run_group_tests_name("bitdistiller", tests, NULL, close_arena);
}
