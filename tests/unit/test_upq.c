/* UPQ: INT4 first, then two bits; baselines/upq.c. */
#include "tests/check_method.h"

extern const lq_method lq_method_upq, lq_method_paretoq;
#define UPQ (&lq_method_upq)

static double *correlated(size_t n)
{
    double *H = identity_gram(n);
    for (size_t i = 0; i < n * n; i++)
        H[i] = pow(0.9, fabs((double)(i / n) - (double)(i % n)));
    return H;
}

static lq_theta started_under(const double *H, const char *json, const float *w, size_t out,
                              size_t in)
{
    lq_theta th = theta_of(UPQ, json, out, in);
    const lq_calib calib = {.gram = H, .n_tokens = 1};
    check_ok(UPQ->init(&th, w, &calib, NULL, &arena));
    return th;
}

/* d' H d summed over the rows, d = latent - w. */
static double output_error(const lq_theta *th, const float *w, const double *H)
{
    double sum = 0;
    const float *latent = th->data[0];
    for (size_t i = 0; i < th->out; i++)
        for (size_t j = 0; j < th->in; j++)
            for (size_t k = 0; k < th->in; k++)
                sum += ((double)latent[i * th->in + j] - (double)w[i * th->in + j]) *
                       ((double)latent[i * th->in + k] - (double)w[i * th->in + k]) *
                       H[j * th->in + k];
    return sum;
}

static void latents_are_int4_and_alpha_their_maximum(void **state)
{
    (void)state;
    enum { OUT = 6, IN = 64 };
    static const char *const json[] = {"{}", "{\"stage_one\":\"rtn\"}", "{\"int4_step\":\"max\"}"};
    const float *w = normal_weights((size_t)OUT * IN, 0.1, 3);
    const double *H = correlated(IN);
    for (size_t v = 0; v < 3; v++) {
        const lq_theta th = started_under(H, json[v], w, OUT, IN);
        for (size_t i = 0; i < OUT; i++) {
            const float *latent = (const float *)th.data[0] + i * IN;
            float least = INFINITY, top = 0;
            for (size_t j = 0; j < IN; j++) {
                top = fmaxf(top, fabsf(latent[j]));
                if (latent[j] != 0)
                    least = fminf(least, fabsf(latent[j]));
            }
            for (size_t j = 0; j < IN; j++) { /* 16 multiples of one step */
                const float units = latent[j] / least;
                check_close((double)units, (double)rintf(units), 0, 1e-3);
                assert_true(units > -8.001f && units < 7.001f);
            }
            assert_true(lq_theta_f32(&th, "alpha")[i] == top);
        }
    }
}

static void ldlq_heeds_the_inputs(void **state)
{
    (void)state;
    enum { OUT = 8, IN = 64 };
    const float *w = normal_weights((size_t)OUT * IN, 0.1, 3);
    const double *H = correlated(IN);
    const lq_theta ldlq = started_under(H, "{}", w, OUT, IN);
    const lq_theta rtn = started_under(H, "{\"stage_one\":\"rtn\"}", w, OUT, IN);
    assert_true(output_error(&ldlq, w, H) < 0.6 * output_error(&rtn, w, H));
    const lq_theta under_identity = started(UPQ, "{\"sigma_reg\":0}", w, OUT, IN);
    assert_memory_equal(under_identity.data[0], rtn.data[0], OUT * IN * sizeof(float));
    double *flat = identity_gram(IN); /* of rank one: no Cholesky factor without damping */
    for (size_t i = 0; i < IN * IN; i++)
        flat[i] = 1;
    started_under(flat, "{\"sigma_reg\":0}", w, OUT, IN);
    flat[3] = NAN;
    lq_theta th = theta_of(UPQ, "{}", OUT, IN);
    const lq_calib bad = {.gram = flat, .n_tokens = 1};
    assert_int_equal(UPQ->init(&th, w, &bad, NULL, &arena), LQ_E_NUMERIC);
    assert_int_equal(UPQ->init(&th, w, NULL, NULL, &arena), LQ_E_MISSING);
}

static void without_a_first_stage_it_is_paretoq(void **state)
{
    (void)state;
    const float *w = normal_weights(4 * 64, 0.1, 3);
    const lq_theta upq = started(UPQ, "{\"stage_one\":\"none\"}", w, 4, 64);
    const lq_theta paretoq = started(&lq_method_paretoq, "{}", w, 4, 64);
    assert_memory_equal(weights_of(&upq), weights_of(&paretoq), 4 * 64 * sizeof(float));
    assert_true(upq.slot[1].grad_scale == paretoq.slot[1].grad_scale);
}

static void vectors_are_the_golden_ones(void **state)
{
    (void)state;
    static const vector seq[] = {
        {-1.2, -.75, 0, -.75}, {-.995, -.75, 0, -.75}, {-.99, -.75, 1, .24}, {-.5, -.75, 1, -.25},
        {-.2, -.25, 1, -.05},  {0, .25, 1, .25},       {.3, .25, 1, -.05},   {.5, .25, 1, -.25},
        {.7, .75, 1, .05},     {1, .75, 0, .75}};
    lq_theta th = theta_of(UPQ, "{}", 1, 10);
    lq_theta_f32(&th, "alpha")[0] = 1;
    check_vectors(&th, seq);
}

static void bits_rows_and_bytes(void **state)
{
    (void)state;
    const lq_theta th = started(UPQ, "{}", normal_weights(8 * 256, 0.1, 5), 8, 256);
    check_close(bits_of(&th), 2 + 16.0 / 256, 1e-12, 0);
    check_odd_rows(UPQ, "{}");
    check_odd_rows(UPQ, "{\"stage_one\":\"rtn\",\"int4_step\":\"max\"}");
    assert_int_equal(unpack_damaged(&th, 1, 0x80), LQ_E_FORMAT);
    refuses(UPQ, "{\"bits\":4}", "it has 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_are_int4_and_alpha_their_maximum),
        cmocka_unit_test(ldlq_heeds_the_inputs),
        cmocka_unit_test(without_a_first_stage_it_is_paretoq),
        cmocka_unit_test(vectors_are_the_golden_ones),
        cmocka_unit_test(bits_rows_and_bytes),
    };
    return cmocka_run_group_tests_name("upq", tests, NULL, close_arena);
}
