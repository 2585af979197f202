/* One suite over the registry, and over the template: what core/quant/method.h promises, held against every
 * method, every number of bits it has, and every word of its options. Nothing here knows a method. */
#include "tests/contract/bounds.h"

#include "core/math/gemm.h"
#include "experiments/methods.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

extern const lq_method lq_method_template; /* compiled, not registered; held to the same contract */

static const double all_bits[] = {1, 1.58, 2, 3, 4, 8, 16};
static const struct {
    size_t out, in;
} shapes[] = {{8, 32}, {12, 24}, {8, 36}, {6, 320}, {4, 576}}; /* 128 divides none of them */
enum { N_BITS = sizeof all_bits / sizeof all_bits[0], N_SHAPES = sizeof shapes / sizeof shapes[0] };
enum { FEW_SHAPES = 3 }; /* the small ones, for all bits; the default bits are tried on all */

typedef struct subject { /* one method, with options, on one shape */
    const lq_method *method;
    const void *opts;
    size_t out, in;
    const float *w;
    lq_calib calib;
    lq_rng rng;
    lq_arena *arena;  /* emptied after each subject */
    const char *text; /* its options, for messages */
} subject;

/* ---- every method, bits, option and shape ---- */

typedef void check(const subject *s);

static bool lay_out(const subject *s, lq_theta *th)
{
    lq_status status = lq_theta_new(s->method, s->opts, s->out, s->in, s->arena, th);
    if (status == LQ_OK)
        return true;
    assert_int_equal(status, LQ_E_SHAPE); /* a method may refuse a shape, if it says why */
    assert_true(strlen(lq_status_note()) > 10);
    return false;
}

static lq_theta theta_from(const subject *s, const float *w)
{
    lq_theta th;
    assert_true(lay_out(s, &th));
    lq_status status = s->method->init(&th, w, &s->calib, &s->rng, s->arena);
    if (status != LQ_OK)
        fail_msg("%s %s (%zu,%zu): init: %s", s->method->name, s->text, s->out, s->in,
                 lq_status_note());
    return th;
}

/* How many of the shapes it was run on; 0 when the options are refused. */
static size_t on_shapes(const lq_method *method, const lq_json *spec, size_t n_shapes, check *run)
{
    lq_arena keep = {0}, arena = {0};
    void *opts;
    size_t n = 0;
    lq_status status = lq_method_options(method, spec, method->name, &keep, &opts);
    if (status != LQ_OK) {
        assert_int_equal(status, LQ_E_OPTION);
        assert_true(strlen(lq_status_note()) > 10);
    }
    for (size_t i = 0; i < n_shapes && status == LQ_OK; i++) {
        subject s = {.method = method, .opts = opts, .out = shapes[i].out, .in = shapes[i].in};
        lq_theta th;
        s.arena = &arena;
        s.rng = lq_rng_seed(5);
        s.text = lq_json_canonical(spec, &keep);
        s.w = odd_weight(&arena, s.out, s.in);
        if ((method->needs & LQ_NEEDS_GRAM) != 0)
            s.calib = (lq_calib){.gram = correlated_gram(&arena, s.in), .n_tokens = 100};
        if (lay_out(&s, &th)) {
            run(&s);
            n++;
        }
        lq_arena_close(&arena);
    }
    lq_arena_close(&keep);
    return n;
}

/* Each word of each choice, and the other value of each flag, one at a time, on the small shapes. */
static void with_other_options(const lq_method *method, double bits, check *run)
{
    for (size_t i = 0; i < method->n_options; i++) {
        const lq_option *option = &method->options[i];
        const char *word = option->type == LQ_OPTION_CHOICE ? option->choices : NULL;
        while (word != NULL || option->type == LQ_OPTION_BOOL) {
            lq_json *spec = lq_json_object();
            lq_json_set_number(spec, "bits", bits);
            if (word != NULL) {
                char text[64];
                snprintf(text, sizeof text, "%.*s", (int)strcspn(word, "|"), word);
                lq_json_set_string(spec, option->name, text);
                word = strchr(word, '|');
                word = word != NULL ? word + 1 : NULL;
            } else {
                lq_json_set_bool(spec, option->name, option->fallback == 0);
            }
            on_shapes(method, spec, 2, run);
            lq_json_free(spec);
            if (word == NULL)
                break;
        }
    }
}

static void with_groups(const lq_method *method, double bits, check *run)
{
    for (size_t i = 0; i < method->n_options; i++)
        for (size_t group = 0; group <= 7 && strcmp(method->options[i].name, "group") == 0;
             group += 7) {
            lq_json *spec = lq_json_object();
            lq_json_set_number(spec, "bits", bits);
            lq_json_set_number(spec, "group", (double)group);
            on_shapes(method, spec, 2, run);
            lq_json_free(spec);
        }
}

static void on_everything(check *run)
{
    for (size_t m = 0; m <= lq_method_count; m++) {
        const lq_method *method = m < lq_method_count ? lq_method_table[m] : &lq_method_template;
        size_t n = 0;
        for (size_t b = 0; b < N_BITS; b++) {
            lq_json *spec = lq_json_object();
            lq_json_set_number(spec, "bits", all_bits[b]);
            bool is_default = all_bits[b] == method->options[0].fallback;
            size_t here = on_shapes(method, spec, is_default ? N_SHAPES : FEW_SHAPES, run);
            lq_json_free(spec);
            if (here == 0)
                continue;
            n += here;
            with_other_options(method, all_bits[b], run);
            with_groups(method, all_bits[b], run);
        }
        if (n == 0)
            fail_msg("%s supports no bits on any shape of the suite", method->name);
    }
}

/* ---- the promises ---- */

static void check_layout(const subject *s)
{
    lq_theta th = theta_from(s, s->w);
    bool trains = false;
    assert_in_range(th.n_slots, 1, LQ_MAX_SLOTS);
    for (size_t i = 0; i < th.n_slots; i++) {
        const lq_slot *slot = &th.slot[i];
        assert_true(slot->rows > 0 && slot->cols > 0);
        assert_int_equal(lq_theta_find(&th, slot->name), i); /* names are unique */
        assert_int_equal((uintptr_t)th.data[i] % 64, 0);
        assert_true(isfinite(slot->grad_scale) && slot->grad_scale > 0);
        assert_true(isfinite(slot->lr) && slot->lr >= 0);
        assert_true(isfinite(slot->weight_decay) && isfinite(slot->decay_centre));
        assert_true(!slot->train || slot->kind == LQ_KIND_CONTINUOUS);
        trains |= slot->train;
        for (size_t j = 0; j < slot->rows * slot->cols && slot->kind != LQ_KIND_DISCRETE; j++)
            assert_true(isfinite(((const float *)th.data[i])[j]));
    }
    assert_int_equal(lq_theta_find(&th, "no such slot"), SIZE_MAX);
    assert_true(trains == ((s->method->needs & LQ_TRAINS) != 0));
    float *w_eff = lq_arena_f32(s->arena, s->out * s->in);
    s->method->effective(&th, w_eff, s->arena);
    for (size_t i = 0; i < s->out * s->in; i++)
        assert_true(isfinite(w_eff[i]));
}

static bool moves(const lq_theta *th, const lq_slot *slot)
{
    return slot->train || (th->method->blockwise != NULL && slot->kind == LQ_KIND_CONTINUOUS);
}

/* Early in the stage that a method learns in: a map that depends on it (lq_when) is smooth there, and not yet
 * so sharp that differences over a step of 1 % would see its curvature. */
static void into_training(lq_theta *th)
{
    const bool end_to_end = (th->method->needs & LQ_TRAINS) != 0;
    th->now = (lq_when){.stage = end_to_end ? LQ_STAGE_END_TO_END : LQ_STAGE_BLOCKWISE,
                        .progress = 0.1,
                        .seed = 12345};
}

/* The size of a slot's values; of one that begins at 0, about the size of a level. */
static double size_of(const lq_theta *th, size_t slot)
{
    const double size = rms(th->data[slot], th->slot[slot].rows * th->slot[slot].cols);
    return size > 0 ? size : 0.5;
}

/* Moves what trains, by about 5 % of its size, as training would. */
static void perturb(const lq_theta *th, lq_rng *rng)
{
    for (size_t i = 0; i < th->n_slots; i++) {
        size_t n = th->slot[i].rows * th->slot[i].cols;
        float *x = th->data[i];
        if (!moves(th, &th->slot[i]))
            continue;
        double size = 0.05 * size_of(th, i);
        for (size_t j = 0; j < n; j++)
            x[j] += (float)(size * lq_rng_normal(rng));
    }
}

static void check_shipped_weight(const subject *s, const lq_theta *th, const lq_theta *shipped)
{
    const size_t n = s->out * s->in;
    const bound *b = bound_of(s->method);
    const size_t levels = lq_levels_of_bits(((const lq_common_opts *)s->opts)->bits);
    const lq_theta want = b->ships == SHIPS_SLOTS ? with_shipped_slots(th, s->arena) : *th;
    float *before = lq_arena_f32(s->arena, n), *after = lq_arena_f32(s->arena, n);
    s->method->effective(&want, before, s->arena);
    s->method->effective(shipped, after, s->arena);
    const size_t i = first_off(b, levels, before, after, n);
    if (i < n)
        fail_msg("%s %s (%zu,%zu): weight %zu was %.9g, ships as %.9g (tests/contract/bounds.h)",
                 s->method->name, s->text, s->out, s->in, i, (double)before[i], (double)after[i]);
}

static void check_bytes(const subject *s)
{
    lq_theta th = theta_from(s, s->w), shipped;
    lq_rng rng = lq_rng_seed(9);
    for (size_t trained = 0; trained < 2; trained++) {
        size_t bytes;
        lq_sink first = {.arena = s->arena}, second = {.arena = s->arena};
        assert_int_equal(s->method->pack(&th, &first), LQ_OK);
        assert_int_equal(lq_theta_through_bytes(&th, s->arena, &shipped, &bytes), LQ_OK);
        assert_int_equal(bytes, first.bytes);
        assert_int_equal(s->method->pack(&shipped, &second), LQ_OK);
        assert_int_equal(second.bytes, first.bytes);
        assert_memory_equal(first.data, second.data, first.bytes);
        check_shipped_weight(s, &th, &shipped);
        double nominal = ((const lq_common_opts *)s->opts)->bits;
        double shipped_bits = 8 * (double)bytes / (double)(s->out * s->in);
        assert_true(shipped_bits >= nominal && shipped_bits < 2 * nominal + 18);
        perturb(&th, &rng);
    }
}

/* Twice; small shapes with one and with two of our threads, and plain products, as BLAS promises
 * nothing of the kind. */
static void check_same_bits_twice(const subject *s)
{
    const bool small = s->in <= 64; /* plain products are slow */
    lq_gemm_use_reference(small);
    lq_theta a = theta_from(s, s->w);
    omp_set_num_threads(small ? 2 : 1);
    lq_theta b = theta_from(s, s->w);
    float *one = lq_arena_f32(s->arena, s->out * s->in);
    float *two = lq_arena_f32(s->arena, s->out * s->in);
    b.method->effective(&b, two, s->arena);
    omp_set_num_threads(1);
    a.method->effective(&a, one, s->arena);
    for (size_t i = 0; i < a.n_slots; i++) {
        size_t each = a.slot[i].kind == LQ_KIND_DISCRETE ? 1 : sizeof(float);
        assert_memory_equal(a.data[i], b.data[i], a.slot[i].rows * a.slot[i].cols * each);
    }
    assert_memory_equal(one, two, s->out * s->in * sizeof *one);
    a.method->effective(&a, two, s->arena); /* again: it left no trace */
    assert_memory_equal(one, two, s->out * s->in * sizeof *one);
    into_training(&a); /* whatever noise a step draws, it draws it again */
    into_training(&b);
    a.method->effective(&a, one, s->arena);
    b.method->effective(&b, two, s->arena);
    assert_memory_equal(one, two, s->out * s->in * sizeof *one);
    lq_gemm_use_reference(0);
}

static float **new_grads(const subject *s, const lq_theta *th, float value)
{
    float **grad = lq_arena_alloc(s->arena, LQ_MAX_SLOTS * sizeof *grad);
    for (size_t i = 0; i < LQ_MAX_SLOTS; i++) {
        grad[i] = NULL;
        if (i >= th->n_slots || th->slot[i].kind != LQ_KIND_CONTINUOUS)
            continue;
        size_t n = th->slot[i].rows * th->slot[i].cols;
        grad[i] = lq_arena_f32(s->arena, n);
        for (size_t j = 0; j < n; j++)
            grad[i][j] = value;
    }
    return grad;
}

static float *random_dw(const subject *s)
{
    lq_rng rng = lq_rng_seed(77);
    float *dw = lq_arena_f32(s->arena, s->out * s->in);
    for (size_t i = 0; i < s->out * s->in; i++)
        dw[i] = (float)lq_rng_normal(&rng);
    return dw;
}

/* (f(x+h) - f(x-h)) / 2h of f = sum dw * w, in double, for entry j of slot i. */
static double quotient(const subject *s, const lq_theta *at, const lq_theta *base, size_t i,
                       size_t j, const float *dw, double h)
{
    lq_mark mark = lq_arena_mark(s->arena);
    float *x = (float *)at->data[i] + j, keep = *x;
    float *plus = lq_arena_f32(s->arena, s->out * s->in);
    float *minus = lq_arena_f32(s->arena, s->out * s->in);
    double span = 0, sum = 0;
    for (int side = 0; side < 2; side++) {
        float *w = side == 0 ? plus : minus;
        *x = side == 0 ? keep + (float)h : keep - (float)h;
        span += side == 0 ? (double)*x : -(double)*x;
        if (s->method->surrogate != NULL)
            s->method->surrogate(at, base, w, s->arena);
        else
            s->method->effective(at, w, s->arena);
    }
    *x = keep;
    for (size_t k = 0; k < s->out * s->in; k++)
        sum += (double)dw[k] * ((double)plus[k] - (double)minus[k]);
    lq_arena_release(s->arena, mark);
    return sum / span;
}

static void check_gradient(const subject *s)
{
    if (!learns(s->method))
        return;
    lq_theta base = theta_from(s, s->w), at = theta_from(s, s->w);
    lq_rng rng = lq_rng_seed(3), again = rng;
    into_training(&base);
    into_training(&at);
    perturb(&base, &rng); /* away from the ties that an init may sit on */
    perturb(&at, &again);
    const float *dw = random_dw(s);
    float **grad = new_grads(s, &base, 0);
    s->method->backward(&base, dw, grad, s->arena);
    float *w_eff = lq_arena_f32(s->arena, s->out * s->in);
    s->method->effective(&base, w_eff, s->arena);
    const bound *b = bound_of(s->method);
    const double count = (double)(s->out * s->in);
    const double rounding = 0x1p-23 * sqrt(b->roundings * count) * rms(w_eff, s->out * s->in);
    for (size_t i = 0; i < base.n_slots; i++) {
        size_t n = base.slot[i].rows * base.slot[i].cols;
        if (grad[i] == NULL)
            continue;
        const comparison how = comparison_of(b, base.slot[i].name);
        double h = how.step * size_of(&base, i), typical = rms(grad[i], n);
        assert_true(typical > 0); /* whatever trains has a gradient somewhere */
        for (size_t k = 0; k < 12; k++) {
            size_t j = k < n && n <= 12 ? k : lq_rng_below(&rng, n);
            double want = quotient(s, &at, &base, i, j, dw, h);
            if (!gradient_agrees((double)grad[i][j], want, how.share, typical, rounding / h))
                fail_msg("%s %s (%zu,%zu): d/d %s[%zu] = %.9g, but differences say %.9g",
                         s->method->name, s->text, s->out, s->in, base.slot[i].name, j,
                         (double)grad[i][j], want);
        }
    }
}

/* The surrogate is the effective weight itself at its base, so it is the derivative of the right thing. */
static void check_surrogate_meets_effective(const subject *s)
{
    if (s->method->surrogate == NULL)
        return;
    lq_theta th = theta_from(s, s->w);
    lq_rng rng = lq_rng_seed(8);
    into_training(&th);
    perturb(&th, &rng);
    float *smooth = lq_arena_f32(s->arena, s->out * s->in);
    float *w_eff = lq_arena_f32(s->arena, s->out * s->in);
    s->method->effective(&th, w_eff, s->arena);
    s->method->surrogate(&th, &th, smooth, s->arena);
    double size = rms(w_eff, s->out * s->in);
    for (size_t i = 0; i < s->out * s->in; i++)
        if (!near((double)smooth[i], (double)w_eff[i], 1e-5 * (fabs((double)w_eff[i]) + size)))
            fail_msg("%s %s (%zu,%zu): surrogate %zu is %g, effective %g", s->method->name, s->text,
                     s->out, s->in, i, (double)smooth[i], (double)w_eff[i]);
}

/* Frozen slots (NULL) do not disturb the others; gradients are added; theta stands still. */
static void check_frozen_slots(const subject *s)
{
    lq_theta th = theta_from(s, s->w), untouched = theta_from(s, s->w);
    into_training(&th);
    const float *dw = random_dw(s);
    float **all = new_grads(s, &th, 0), **one = new_grads(s, &th, 0.5f);
    s->method->backward(&th, dw, all, s->arena);
    s->method->backward(&th, dw, (float *const[LQ_MAX_SLOTS]){NULL}, s->arena);
    for (size_t i = 0; i < th.n_slots; i++) {
        float *only[LQ_MAX_SLOTS] = {NULL};
        size_t n = th.slot[i].rows * th.slot[i].cols;
        only[i] = one[i];
        if (one[i] == NULL)
            continue;
        s->method->backward(&th, dw, only, s->arena);
        double typical = rms(all[i], n);
        for (size_t j = 0; j < n; j++)
            assert_true(near((double)one[i][j], 0.5 + (double)all[i][j],
                             1e-5 * (fabs((double)all[i][j]) + typical + 1)));
    }
    for (size_t i = 0; i < th.n_slots; i++) {
        size_t each = th.slot[i].kind == LQ_KIND_DISCRETE ? 1 : sizeof(float);
        assert_memory_equal(th.data[i], untouched.data[i],
                            th.slot[i].rows * th.slot[i].cols * each);
    }
}

static void check_not_finite_is_refused(const subject *s)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};
    float *w = lq_arena_f32(s->arena, s->out * s->in);
    for (size_t i = 0; i < 3; i++) {
        lq_theta th;
        assert_true(lay_out(s, &th));
        memcpy(w, s->w, s->out * s->in * sizeof *w);
        w[(i * s->in + 5) % (s->out * s->in)] = bad[i];
        assert_int_equal(s->method->init(&th, w, &s->calib, &s->rng, s->arena), LQ_E_NUMERIC);
        assert_non_null(strstr(lq_status_note(), s->method->name));
    }
}

/* A trained parameter that is NaN must not become a code: the run diverged, and says so. */
static void check_diverged_theta_does_not_ship(const subject *s)
{
    if (!learns(s->method))
        return;
    lq_theta th = theta_from(s, s->w);
    for (size_t i = 0; i < th.n_slots; i++) {
        lq_sink sink = {.arena = s->arena};
        float *last = (float *)th.data[i] + th.slot[i].rows * th.slot[i].cols - 1, keep = *last;
        if (!moves(&th, &th.slot[i]))
            continue;
        *last = NAN;
        assert_int_equal(s->method->pack(&th, &sink), LQ_E_NUMERIC);
        *last = keep;
    }
}

static lq_status unpack_all(const subject *s, const uint8_t *data, size_t bytes, lq_theta *th)
{
    lq_source source = {.data = data, .bytes = bytes, .where = "test"};
    assert_true(lay_out(s, th));
    LQ_TRY(s->method->unpack(th, &source));
    return lq_source_end(&source);
}

static void check_damaged_bytes(const subject *s)
{
    lq_theta th = theta_from(s, s->w), back;
    lq_rng rng = lq_rng_seed(4);
    lq_sink sink = {.arena = s->arena};
    float *w_eff = lq_arena_f32(s->arena, s->out * s->in);
    assert_int_equal(s->method->pack(&th, &sink), LQ_OK);
    assert_int_equal(unpack_all(s, sink.data, sink.bytes, &back), LQ_OK);
    assert_int_equal(unpack_all(s, sink.data, 0, &back), LQ_E_FORMAT);
    assert_int_equal(unpack_all(s, sink.data, sink.bytes - 1, &back), LQ_E_FORMAT);
    assert_int_equal(unpack_all(s, sink.data, sink.bytes / 2, &back), LQ_E_FORMAT);
    assert_int_equal(lq_sink_put(&sink, "", 1), LQ_OK);
    assert_int_equal(unpack_all(s, sink.data, sink.bytes, &back), LQ_E_FORMAT);
    for (size_t k = 0; k < 20; k++) { /* any byte: decoded or refused, never a crash */
        uint8_t *byte = sink.data + lq_rng_below(&rng, sink.bytes - 1), keep = *byte;
        *byte = (uint8_t)lq_rng_below(&rng, 256);
        lq_status status = unpack_all(s, sink.data, sink.bytes - 1, &back);
        assert_true(status == LQ_OK || status == LQ_E_FORMAT);
        if (status == LQ_OK)
            s->method->effective(&back, w_eff, s->arena);
        *byte = keep;
    }
}

/* ---- cmocka ---- */

#define SUITE(test, run)           \
    static void test(void **state) \
    {                              \
        (void)state;               \
        on_everything(run);        \
    }
SUITE(layout_is_sound, check_layout)
SUITE(bytes_round_trip_and_keep_the_weight, check_bytes)
SUITE(same_input_gives_the_same_bits, check_same_bits_twice)
SUITE(backward_is_the_gradient_of_the_surrogate, check_gradient)
SUITE(surrogate_meets_effective_at_its_base, check_surrogate_meets_effective)
SUITE(frozen_slots_stay_and_gradients_add, check_frozen_slots)
SUITE(weight_that_is_not_finite_is_numeric_error, check_not_finite_is_refused)
SUITE(diverged_theta_is_numeric_error, check_diverged_theta_does_not_ship)
SUITE(damaged_bytes_are_format_errors, check_damaged_bytes)

static void registry_is_a_list_of_complete_methods(void **state)
{
    (void)state;
    assert_true(lq_method_count > 0);
    for (size_t i = 0; i < lq_method_count; i++) {
        const lq_method *m = lq_method_table[i], *found;
        assert_int_equal(lq_method_find(m->name, &found), LQ_OK);
        assert_ptr_equal(m, found); /* names are unique */
        assert_non_null(m->source);
        assert_true(m->n_options > 0 && strcmp(m->options[0].name, "bits") == 0);
        assert_true(m->layout && m->init && m->effective && m->backward && m->pack && m->unpack);
        for (size_t k = 0; k < m->n_options; k++) {
            assert_non_null(m->options[k].help);
            assert_true(m->options[k].offset < m->opts_bytes);
        }
    }
    const lq_method *found;
    assert_int_equal(lq_method_find("no such method", &found), LQ_E_OPTION);
    assert_non_null(strstr(lq_status_note(), lq_method_table[0]->name));
}

static void defaults_are_accepted_and_typos_are_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < lq_method_count; i++) {
        lq_arena keep = {0};
        void *opts;
        lq_json *typo = lq_json_object();
        lq_json_set_number(typo, "bist", 2);
        assert_int_equal(lq_method_options(lq_method_table[i], NULL, "test", &keep, &opts), LQ_OK);
        assert_int_equal(lq_method_options(lq_method_table[i], typo, "test", &keep, &opts),
                         LQ_E_OPTION);
        lq_json_free(typo);
        lq_arena_close(&keep);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registry_is_a_list_of_complete_methods),
        cmocka_unit_test(defaults_are_accepted_and_typos_are_not),
        cmocka_unit_test(layout_is_sound),
        cmocka_unit_test(bytes_round_trip_and_keep_the_weight),
        cmocka_unit_test(same_input_gives_the_same_bits),
        cmocka_unit_test(surrogate_meets_effective_at_its_base),
        cmocka_unit_test(backward_is_the_gradient_of_the_surrogate),
        cmocka_unit_test(frozen_slots_stay_and_gradients_add),
        cmocka_unit_test(weight_that_is_not_finite_is_numeric_error),
        cmocka_unit_test(diverged_theta_is_numeric_error),
        cmocka_unit_test(damaged_bytes_are_format_errors),
    };
    omp_set_num_threads(1); /* the matrices are small, and so may be the machine */
    lq_blas_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
