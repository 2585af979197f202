/* Optimizers against their formulas, written out by hand; schedules at their ends. */
#include "tests/check.h"

#include "core/train/optimizer.h"
#include "core/train/schedule.h"

#include <string.h>

enum { N = 5 };

typedef struct state {
    float w[N], g[N], m[N], v[N];
    lq_param p;
} state;

static void start(state *s)
{
    static const float w[N] = {1, -2, 0.5f, 0, 3}, g[N] = {0.1f, -0.2f, 0, -0.3f, 4};
    memset(s, 0, sizeof *s);
    memcpy(s->w, w, sizeof w);
    memcpy(s->g, g, sizeof g);
    s->p = (lq_param){.name = "p",
                      .w = s->w,
                      .g = s->g,
                      .m = s->m,
                      .v = s->v,
                      .n = N,
                      .lr = 0.5,
                      .grad_scale = 1};
}

static double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

static void lion_is_its_algorithm(void **unused)
{
    (void)unused;
    const lq_adamw numbers = {.beta1 = 0.9, .beta2 = 0.95};
    double w[N] = {1, -2, 0.5, 0, 3}, m[N] = {0};
    state s;
    start(&s);
    s.p.decay = 0.25;
    s.p.centre = 1;
    for (size_t t = 1; t <= 3; t++) {
        for (size_t i = 0; i < N; i++)
            s.g[i] = t == 2 ? -s.g[i] * 0.5f : s.g[i];
        for (size_t i = 0; i < N; i++) {
            const double g = (double)s.g[i], c = 0.9 * m[i] + 0.1 * g;
            w[i] -= 0.5 * 0.1 * (sign(c) + 0.25 * (w[i] - 1));
            m[i] = 0.95 * m[i] + 0.05 * g;
        }
        lq_optimizer_step(LQ_OPTIMIZER_LION, &numbers, &s.p, 1, t, 0.1, 0);
    }
    for (size_t i = 0; i < N; i++)
        check_close(s.w[i], w[i], 1e-6, 1e-7);
    assert_false(lq_close((double)s.w[0], w[0] + 1e-3, 1e-6, 1e-7));
}

static void sign_sgd_moves_by_the_rate_and_stays_within_bounds(void **unused)
{
    (void)unused;
    const lq_adamw numbers = {.beta1 = 0.9, .beta2 = 0.95};
    static const float free_w[N] = {0.5f, -1.5f, 0.5f, 0.5f, 2.5f};
    static const float bound_w[N] = {0.5f, 0, 0.5f, 0.5f, 1};
    state s;
    start(&s);
    lq_optimizer_step(LQ_OPTIMIZER_SIGN_SGD, &numbers, &s.p, 1, 1, 1, 0);
    assert_memory_equal(s.w, free_w, sizeof free_w);
    start(&s);
    s.p.highest = 1;
    lq_optimizer_step(LQ_OPTIMIZER_SIGN_SGD, &numbers, &s.p, 1, 1, 1, 0);
    assert_memory_equal(s.w, bound_w, sizeof bound_w);
}

static void adamw_is_the_step_that_training_takes(void **unused)
{
    (void)unused;
    const lq_adamw numbers = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 0.5};
    state a, b;
    start(&a);
    start(&b);
    for (size_t t = 1; t <= 2; t++) {
        lq_adamw_step(&numbers, &a.p, 1, t, 0.7, 4);
        lq_optimizer_step(LQ_OPTIMIZER_ADAMW, &numbers, &b.p, 1, t, 0.7, 4);
    }
    assert_memory_equal(a.w, b.w, sizeof a.w);
    assert_true(a.w[0] < 1);
}

static void clipping_bounds_the_gradient_of_lion(void **unused)
{
    (void)unused;
    const lq_adamw numbers = {.beta1 = 0.9, .beta2 = 0.5, .clip = 1};
    state s;
    start(&s);
    lq_optimizer_step(LQ_OPTIMIZER_LION, &numbers, &s.p, 1, 1, 1, 8);
    check_close(s.m[4], 0.5 * 4 / 8, 1e-6, 0);
}

static void schedules_begin_and_end_where_they_say(void **unused)
{
    (void)unused;
    const lq_schedule linear = {.kind = LQ_SCHEDULE_LINEAR}, cosine = {.kind = LQ_SCHEDULE_COSINE};
    double sum = 0;
    assert_true(lq_schedule_factor(&linear, 0, 10) == 1);
    check_close(lq_schedule_factor(&linear, 9, 10), 0.1, 1e-12, 0);
    check_close(lq_schedule_factor(&cosine, 5, 10), 0.5, 1e-12, 0);
    for (size_t i = 0; i < 200; i++)
        sum += lq_schedule_factor(&linear, i, 200) / 200;
    check_close(sum, 0.5, 6e-3, 0); /* a sign moves so far in all, in units of the stage */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lion_is_its_algorithm),
        cmocka_unit_test(sign_sgd_moves_by_the_rate_and_stays_within_bounds),
        cmocka_unit_test(adamw_is_the_step_that_training_takes),
        cmocka_unit_test(clipping_bounds_the_gradient_of_lion),
        cmocka_unit_test(schedules_begin_and_end_where_they_say),
    };
    return cmocka_run_group_tests_name("optimizer", tests, NULL, NULL);
}
