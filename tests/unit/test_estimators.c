/* The gradients of UniSVQ's and LC-QAT's layers, and the estimators of rounding's slope. */
#include "tests/check_lcqat.h"

#include <omp.h>
#include <string.h>

static double loss_of(const lq_theta *at, const lq_theta *base, const float *g)
{
    const size_t count = at->out * at->in;
    float *w = lq_arena_f32(&arena, count);
    double sum = 0;
    if (at->method->surrogate != NULL)
        at->method->surrogate(at, base, w, &arena);
    else
        at->method->effective(at, w, &arena);
    for (size_t i = 0; i < count; i++)
        sum += (double)g[i] * (double)w[i];
    return sum;
}

/* Latents between and beyond the levels, scales of the size 1: what a trained layer looks like. */
static void perturb(lq_theta *th, uint64_t seed)
{
    lq_rng rng = lq_rng_seed(seed);
    for (size_t s = 0; s < th->n_slots; s++) {
        float *x = th->data[s];
        const size_t n = th->slot[s].rows * th->slot[s].cols;
        if (th->slot[s].kind != LQ_KIND_CONTINUOUS)
            continue;
        for (size_t i = 0; i < n; i++)
            x[i] = s == 0 ? (float)(1.5 + 1.4 * lq_rng_normal(&rng))
                   : s == LQ_LCQAT_SU || s == LQ_LCQAT_SV
                       ? (float)(0.5 + lq_rng_uniform(&rng))
                       : x[i] + 0.1f * (float)lq_rng_normal(&rng);
    }
}

/* Every slot along some of its coordinates. The loss is linear in each slot, so that a step of 1/4 has no
 * error of its own. */
static void check_gradients(const lq_method *method, const char *json, size_t out, size_t in)
{
    lq_theta base = begun(method, json, out, in), at = begun(method, json, out, in);
    const float *g = normal_weights(out * in, 1, 4);
    float *grad[LQ_MAX_SLOTS] = {0};
    perturb(&base, 5);
    perturb(&at, 5);
    for (size_t s = 0; s < base.n_slots; s++)
        if (base.slot[s].kind == LQ_KIND_CONTINUOUS)
            grad[s] = zeros(base.slot[s].rows * base.slot[s].cols);
    method->backward(&base, g, grad, &arena);
    for (size_t s = 0; s < base.n_slots; s++) {
        const size_t n = base.slot[s].rows * base.slot[s].cols;
        float *x = at.data[s];
        for (size_t i = 0; grad[s] != NULL && i<n; i += n> 20 ? n / 20 : 1) {
            lq_mark mark = lq_arena_mark(&arena);
            const float keep = x[i];
            x[i] = keep + 0.25f;
            const double up = loss_of(&at, &base, g), high = (double)x[i];
            x[i] = keep - 0.25f;
            const double down = loss_of(&at, &base, g), width = high - (double)x[i];
            x[i] = keep;
            lq_arena_release(&arena, mark);
            if (!lq_close((double)grad[s][i], (up - down) / width, 2e-4, 5e-4))
                fail_msg("%s %s: d %s[%zu] = %g, differences say %g", method->name, json,
                         base.slot[s].name, i, (double)grad[s][i], (up - down) / width);
            assert_false(lq_close((double)grad[s][i] + 0.02, (up - down) / width, 2e-4, 5e-4));
        }
    }
}

static void gradients_are_those_of_the_surrogate(void **state)
{
    (void)state;
    static const char *const json[] = {
        "{\"rotation\":\"full\"}", "{\"rotation\":\"full\",\"lattice\":\"orthogonal\"}",
        "{\"lattice\":\"learned\",\"vector\":2,\"bits\":3}",
        "{\"lattice\":\"learned\",\"vector\":8,\"bits\":1.58,\"rotation\":\"none\"}"};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 2; k++)
            check_gradients(methods[k], json[i], 12, 40);
    check_gradients(&lq_method_lcqat, "{\"estimator\":\"stable\",\"rotation\":\"full\"}", 12, 40);
    check_gradients(&lq_method_lcqat, "{\"dge_oob\":\"mirrored\",\"lattice\":\"orthogonal\"}", 8,
                    16);
    check_gradients(&lq_method_lcqat, "{\"dge_oob\":\"zero\"}", 8, 16);
}

/* The estimator's slope at u: dW = 1 on one weight without rotation, SU = SV = 1, A = 1. */
static double slope_at(const char *json, float u)
{
    lq_theta th = theta_of(&lq_method_lcqat, json, 1, 1);
    float du = 0, one = 1, *grad[LQ_MAX_SLOTS] = {&du};
    ((float *)th.data[0])[0] = u;
    for (size_t s = 1; s < th.n_slots; s++)
        ((float *)th.data[s])[0] = 1;
    th.method->backward(&th, &one, grad, &arena);
    return (double)du;
}

static void estimators_have_their_slopes(void **state)
{
    (void)state;
    static const char *const mirrored = "{\"dge_oob\":\"mirrored\",\"rotation\":\"none\"}";
    static const char *const zero = "{\"dge_oob\":\"zero\",\"rotation\":\"none\"}";
    static const char *const stable = "{\"estimator\":\"stable\",\"rotation\":\"none\"}";
    for (float u = -3; u <= 6; u += 0.37f) { /* about the middle, mu = 1.5 */
        check_close(slope_at(mirrored, u), slope_at(mirrored, 3 - u), 2e-5, 0);
        const bool inside = u >= 0 && u <= 3;
        check_close(slope_at(zero, u), inside ? slope_at("{}", u) : 0, 1e-6, 0);
        check_close(slope_at(stable, u) * (inside ? 0 : 1), 0, 0, 0);
    }
    check_close(slope_at("{}", 3.5f), 3, 1e-6, 0); /* the released code's second peak */
    check_close(slope_at(mirrored, 3.5f), 0.1149, 0, 1e-4);
    check_close(slope_at(stable, 1), 0.0347, 0, 2e-4);
    check_close(slope_at(stable, 1.5f), 1, 1e-5, 0);
    check_close(slope_at(stable, 2.5f), 1, 1e-5, 0);
    check_close(slope_at("{\"estimator\":\"stable\",\"stable_a\":0}", 0.3f), 1, 1e-6, 0);
    check_close(slope_at("{\"estimator\":\"ste\"}", 9), 1, 1e-6, 0);
}

static void masking_leaves_a_share_of_the_chunks(void **state)
{
    (void)state;
    const size_t m = 64, n = 64, chunk = m * n / 128;
    const lq_theta all = begun(&lq_method_lcqat, "{}", m, n);
    lq_theta some = begun(&lq_method_lcqat, "{\"sgm_keep\":0.7}", m, n);
    size_t kept = 0;
    for (uint64_t step = 0; step < 20; step++) {
        lq_mark mark = lq_arena_mark(&arena);
        const float *g = normal_weights(m * n, 1, 100);
        some.now.seed = step;
        float *whole = zeros(m * n), *masked = zeros(m * n), *again = zeros(m * n);
        float *grad[LQ_MAX_SLOTS] = {whole};
        all.method->backward(&all, g, grad, &arena);
        grad[0] = masked;
        some.method->backward(&some, g, grad, &arena);
        grad[0] = again;
        some.method->backward(&some, g, grad, &arena);
        assert_memory_equal(masked, again,
                            m * n * sizeof *masked); /* a function of its arguments */
        for (size_t c = 0; c < 128; c++) {
            const bool here = masked[c * chunk] != 0;
            kept += here;
            for (size_t i = c * chunk; i < (c + 1) * chunk; i++)
                assert_true(masked[i] == (here ? whole[i] : 0));
        }
        lq_arena_release(&arena, mark);
    }
    check_close((double)kept / (20 * 128), 0.7, 0, 0.04);
}

static void frozen_groups_do_not_train(void **state)
{
    (void)state;
    const lq_theta th = theta_of(&lq_method_lcqat,
                                 "{\"lattice\":\"learned\",\"train_u\":false,\"train_su\":false,"
                                 "\"lr_affine\":0.5,\"lr_scales\":0.25,\"decay_scales\":0.1}",
                                 8, 8);
    static const bool trains[] = {false, false, true, true, true};
    assert_int_equal(th.n_slots, 5);
    for (size_t s = 0; s < 5; s++)
        assert_int_equal(th.slot[s].train, trains[s]);
    assert_true(th.slot[LQ_LCQAT_A].lr == 0.5 && th.slot[LQ_LCQAT_B].lr == 0.5);
    assert_true(th.slot[LQ_LCQAT_SV].lr == 0.25 && th.slot[LQ_LCQAT_SV].weight_decay == 0.1);
    void *opts;
    assert_int_equal(read_options(&lq_method_lcqat,
                                  "{\"train_u\":false,\"train_su\":false,\"train_sv\":false,"
                                  "\"train_affine\":false}",
                                  &opts),
                     LQ_E_OPTION);
}

int main(void)
{
    omp_set_num_threads(1); /* small matrices: waiting for a second thread is all it would do */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_the_surrogate),
        cmocka_unit_test(estimators_have_their_slopes),
        cmocka_unit_test(masking_leaves_a_share_of_the_chunks),
        cmocka_unit_test(frozen_groups_do_not_train),
    };
    return cmocka_run_group_tests_name("estimators", tests, NULL, close_arena);
}
