/* StableQAT's slope, its released start, and LSQ's grid under it; baselines/stableqat.c. */
#include "tests/check_method.h"

extern const lq_method lq_method_stableqat;
#define STABLE (&lq_method_stableqat)

static const double pi = 3.14159265358979323846;

/* The slope as the released code writes it: cos of pi (u + rint(u)), not of the fraction. */
static double released_slope(double u, double a)
{
    const double c = sqrt(2) * pi * a * cos(pi * (u + rint(u)));
    return (1 - c) / (1 + c);
}

static lq_theta with_alpha(const char *json, float alpha, size_t in)
{
    lq_theta th = theta_of(STABLE, json, 1, in);
    lq_theta_f32(&th, "alpha")[0] = alpha;
    return th;
}

static void forward_and_alpha_are_lsq(void **state)
{
    (void)state;
    vector v[] = {{-1.2, -1, 0, -4}, {-1, -1, 0, 0},    {-.375, -.5, 0, -.5},
                  {.125, 0, 0, -.5}, {.3, .25, 0, -.2}, {.8, .75, 0, 3}};
    for (size_t j = 1; j < 5; j++)
        v[j].dw = released_slope(v[j].w / 0.25, 0.21);
    lq_theta th = with_alpha("{\"bits\":3}", 0.25f, 6);
    check_vectors(&th, v);
    check_close(v[1].dw, 0.0347, 0, 1e-4); /* on a level */
    check_close(v[2].dw, 1, 0, 1e-6);      /* on an edge */
    check_close(v[4].dw, released_slope(0.2, 0.21), 1e-9, 0);
    for (size_t j = 1; j < 5; j++)
        v[j].dw = 1;
    th = with_alpha("{\"bits\":3,\"amplitude\":0}", 0.25f, 6);
    check_vectors(&th, v);
}

/* Ours: the grid without a zero, whose undecided points are u = -1/2, 0, 1/2. */
static void stretched_grid_moves_what_is_undecided(void **state)
{
    (void)state;
    vector v[] = {{-1.2, -.75, 0, -.75}, {-.995, -.75, 0, -.75}, {-.99, -.75, 0, .24},
                  {-.5, -.75, 1, -.25},  {-.2, -.25, 0, -.05},   {0, .25, 1, .25},
                  {.3, .25, 0, -.05},    {.5, .25, 1, -.25},     {.7, .75, 0, .05},
                  {1.0, .75, 0, .75}};
    for (size_t j = 2; j < 9; j++)
        v[j].dw = released_slope(2 * v[j].w - 0.5, 0.21);
    lq_theta th = with_alpha("{\"grid\":\"seq\"}", 1, 10);
    check_vectors(&th, v);
    check_close(v[5].dw, 1, 0, 1e-9);
    assert_true(v[4].dw < 0.1);
}

static void errors_are_the_golden_ones(void **state)
{
    (void)state;
    /* hangs on the largest of 4096 weights; sharply in test_grid.c, given those */
    check_close(nmse_of(STABLE, "{}", 256, 4096), 0.835, 0, 0.02);
    check_close(nmse_of(STABLE, "{\"bits\":4}", 256, 4096), 0.0254, 0, 0.003);
    check_close(nmse_of(STABLE, "{\"init\":\"lsq\"}", 256, 4096), 0.221, 0, 0.003);
    check_close(nmse_of(STABLE, "{\"init\":\"mse\"}", 16, 4096), 0.150, 0, 0.003);
    check_close(nmse_of(STABLE, "{\"init\":\"mse\",\"grid\":\"seq\"}", 16, 4096), 0.119, 0, 0.003);
}

static void scales_bits_and_bytes(void **state)
{
    (void)state;
    const float *w = normal_weights(8 * 256, 0.1, 5);
    lq_theta th = started(STABLE, "{\"bits\":3}", w, 8, 256);
    check_close(th.slot[1].grad_scale, 1 / sqrt(8 * 256 * 3.0), 1e-12, 0);
    check_close(bits_of(&th), 3 + 16.0 / 256, 1e-12, 0);
    check_odd_rows(STABLE, "{}");
    check_odd_rows(STABLE, "{\"grid\":\"seq\"}");
    assert_int_equal(unpack_damaged(&th, 1, 0x80), LQ_E_FORMAT);
    refuses(STABLE, "{\"bits\":3,\"grid\":\"seq\"}", "seq has 2 bits");
    refuses(STABLE, "{\"grid\":\"seq\",\"init\":\"lsq\"}", "init=lsq");
    refuses(STABLE, "{\"bits\":1}", "2, 3 and 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_and_alpha_are_lsq),
        cmocka_unit_test(stretched_grid_moves_what_is_undecided),
        cmocka_unit_test(errors_are_the_golden_ones),
        cmocka_unit_test(scales_bits_and_bytes),
    };
    return cmocka_run_group_tests_name("stableqat", tests, NULL, close_arena);
}
