/* What the tests of single methods share: a theta from options, errors on normal weights, one weight's
 * gradient, true bits. */
#ifndef LQ_TESTS_CHECK_METHOD_H
#define LQ_TESTS_CHECK_METHOD_H

#include "tests/check.h"

#include "core/quant/method.h"

#include <string.h>

static lq_arena arena; /* of the test program */

static inline lq_status read_options(const lq_method *method, const char *json, void **opts)
{
    lq_json *doc;
    check_ok(lq_json_parse(json, strlen(json), "test", &doc));
    lq_status status = lq_method_options(method, doc, "test", &arena, opts);
    lq_json_free(doc);
    return status;
}

static inline void refuses(const lq_method *method, const char *json, const char *note)
{
    void *opts;
    assert_int_equal(read_options(method, json, &opts), LQ_E_OPTION);
    if (strstr(lq_status_note(), note) == NULL)
        fail_msg("%s: '%s' says nothing of '%s'", json, lq_status_note(), note);
}

static inline lq_theta theta_of(const lq_method *method, const char *json, size_t out, size_t in)
{
    void *opts;
    lq_theta th;
    check_ok(read_options(method, json, &opts));
    check_ok(lq_theta_new(method, opts, out, in, &arena, &th));
    return th;
}

static inline double *identity_gram(size_t n)
{
    double *H;
    check_ok(lq_arena_new(&arena, &H, n * n));
    for (size_t i = 0; i < n; i++)
        H[i * n + i] = 1;
    return H;
}

/* A theta started from w under the identity as second moments. */
static inline lq_theta started(const lq_method *method, const char *json, const float *w,
                               size_t out, size_t in)
{
    lq_theta th = theta_of(method, json, out, in);
    lq_calib calib = {.n_tokens = 1};
    const lq_rng rng = lq_rng_seed(7);
    if ((method->needs & LQ_NEEDS_GRAM) != 0)
        calib.gram = identity_gram(in);
    check_ok(method->init(&th, w, &calib, &rng, &arena));
    return th;
}

static inline float *weights_of(const lq_theta *th)
{
    float *w = lq_arena_f32(&arena, th->out * th->in);
    th->method->effective(th, w, &arena);
    return w;
}

/* Normal weights of standard deviation `size`. */
static inline float *normal_weights(size_t n, double size, uint64_t seed)
{
    float *w = lq_arena_f32(&arena, n);
    lq_rng rng = lq_rng_seed(seed);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(size * lq_rng_normal(&rng));
    return w;
}

/* |w_eff - w|^2 / |w|^2 of the start on normal weights. */
static inline double nmse_of(const lq_method *method, const char *json, size_t out, size_t in)
{
    lq_mark mark = lq_arena_mark(&arena);
    const float *w = normal_weights(out * in, 1, 7);
    lq_theta th = started(method, json, w, out, in);
    const float *w_eff = weights_of(&th);
    double error = 0, energy = 0;
    for (size_t i = 0; i < out * in; i++) {
        const double e = (double)w_eff[i] - (double)w[i];
        error += e * e;
        energy += (double)w[i] * (double)w[i];
    }
    lq_arena_release(&arena, mark);
    return error / energy;
}

/* Gradients of all slots for a dL/dw_eff that is 1 at weight j and 0 elsewhere. */
static inline float **gradients_of(const lq_theta *th, size_t j)
{
    float **grad, *hot;
    check_ok(lq_arena_new(&arena, &grad, LQ_MAX_SLOTS));
    check_ok(lq_arena_new(&arena, &hot, th->out * th->in));
    hot[j] = 1;
    for (size_t s = 0; s < th->n_slots; s++)
        if (th->slot[s].kind == LQ_KIND_CONTINUOUS)
            check_ok(lq_arena_new(&arena, &grad[s], th->slot[s].rows * th->slot[s].cols));
    th->method->backward(th, hot, grad, &arena);
    return grad;
}

/* Each weight of a row, with the other slots as they are: w -> w_eff, dw_eff/dw, dw_eff/d(slot 1). */
typedef struct vector {
    double w, out, dw, dstep;
} vector;
static inline void check_vectors(lq_theta *th, const vector *v)
{
    for (size_t j = 0; j < th->in; j++)
        ((float *)th->data[0])[j] = (float)v[j].w;
    const float *w_eff = weights_of(th);
    for (size_t j = 0; j < th->in; j++) {
        float **grad = gradients_of(th, j);
        const double dw = (double)grad[0][j], dstep = grad[1] != NULL ? (double)grad[1][0] : 0;
        if (!lq_close((double)w_eff[j], v[j].out, 0, 1e-6) || !lq_close(dw, v[j].dw, 0, 1e-4) ||
            !lq_close(dstep, v[j].dstep, 0, 1e-4))
            fail_msg("%s: %g -> (%g,%g,%g), not (%g,%g,%g)", th->method->name, v[j].w,
                     (double)w_eff[j], dw, dstep, v[j].out, v[j].dw, v[j].dstep);
        for (size_t k = 0; k < th->in; k++)
            assert_true(k == j || grad[0][k] == 0);
    }
}

static inline double bits_of(const lq_theta *th)
{
    size_t bytes;
    lq_theta shipped;
    check_ok(lq_theta_through_bytes(th, &arena, &shipped, &bytes));
    return 8 * (double)bytes / (double)(th->out * th->in);
}

/* The weight after packing and unpacking. */
static inline float *shipped_of(const lq_theta *th)
{
    size_t bytes;
    lq_theta shipped;
    check_ok(lq_theta_through_bytes(th, &arena, &shipped, &bytes));
    return weights_of(&shipped);
}

/* Packs, puts `value` at byte `at`, counted from the end when negative, and unpacks. */
static inline lq_status unpack_damaged(const lq_theta *th, long at, uint8_t value)
{
    lq_sink sink = {.arena = &arena};
    lq_theta back;
    check_ok(th->method->pack(th, &sink));
    check_ok(lq_theta_new(th->method, th->opts, th->out, th->in, &arena, &back));
    sink.data[at < 0 ? (size_t)((long)sink.bytes + at) : (size_t)at] = value;
    lq_source source = {.data = sink.data, .bytes = sink.bytes, .where = "test"};
    return th->method->unpack(&back, &source);
}

/* Rows of zeros, of one value, with one huge weight, and of one sign: finite, and shipped as measured. */
static inline void check_odd_rows(const lq_method *method, const char *json)
{
    enum { OUT = 4, IN = 64 };
    float *w = normal_weights((size_t)OUT * IN, 0.05, 3);
    for (size_t j = 0; j < IN; j++) {
        w[j] = 0;
        w[IN + j] = 0.25f;
        w[3 * IN + j] = fabsf(w[3 * IN + j]);
    }
    w[2 * IN + 7] = -60;
    const lq_theta th = started(method, json, w, OUT, IN);
    const float *before = weights_of(&th), *after = shipped_of(&th);
    for (size_t i = 0; i < (size_t)OUT * IN; i++)
        if (!isfinite(before[i]) || !lq_close((double)after[i], (double)before[i], 1e-3, 3e-5))
            fail_msg("%s %s: weight %zu is %g, ships as %g", method->name, json, i,
                     (double)before[i], (double)after[i]);
}

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

#endif
