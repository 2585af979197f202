/* UniSVQ and what LC-QAT shares with it: presets, options, bytes, equivalent forms. Its
 * gradients: test_estimators.c. */
#include "tests/check_lcqat.h"

#include "core/data/safetensors.h"
#include "core/math/gemm.h"
#include "core/quant/hadamard.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

static double proxy_of(const lq_theta *th)
{
    const size_t m = th->out, n = th->in;
    float *w_eff = zeros(m * n);
    th->method->effective(th, w_eff, &arena);
    return lq_proxy_error(begun_from(m, n), w_eff, fading_gram(n), m, n, &arena);
}

/* ---- Options -------------------------------------------------------------------------------------- */

static const char *text_of(const lq_method *method, const void *opts, const char *key)
{
    lq_json *all = lq_options_write(method->options, method->n_options, opts);
    const char *text = lq_json_canonical(lq_json_get(all, key), &arena);
    lq_json_free(all);
    return text;
}

static void presets_are_defaults_that_options_override(void **state)
{
    (void)state;
    void *opts;
    for (size_t i = 0; i < 2; i++) {
        const lq_method *m = methods[i];
        for (size_t p = 0; p < m->n_presets; p++) {
            lq_json *spec = lq_json_object();
            lq_json_set_string(spec, "preset", m->presets[p].name);
            check_ok(lq_method_options(m, spec, "test", &arena, &opts));
            lq_json *resolved = lq_options_write(m->options, m->n_options, opts);
            const char *once = lq_json_canonical(resolved, &arena); /* written out in full */
            check_ok(lq_method_options(m, resolved, "test", &arena, &opts));
            lq_json *again = lq_options_write(m->options, m->n_options, opts);
            assert_string_equal(once, lq_json_canonical(again, &arena));
            lq_json_free(again);
            lq_json_free(resolved);
            lq_json_free(spec);
        }
        check_ok(read_options(m, "{\"preset\":\"paper\"}", &opts));
        assert_string_equal(text_of(m, opts, "rotation"), "\"full\"");
        assert_string_equal(text_of(m, opts, "lattice"), "\"orthogonal\"");
        assert_string_equal(text_of(m, opts, "guard"), "false");
        check_ok(read_options(m, "{\"preset\":\"paper\",\"rotation\":\"block\"}", &opts));
        assert_string_equal(text_of(m, opts, "rotation"), "\"block\"");
        assert_string_equal(text_of(m, opts, "lattice"), "\"orthogonal\"");
        check_ok(read_options(m, "{\"preset\":\"release\"}", &opts));
        assert_string_equal(text_of(m, opts, "codebook"), "\"bf16\"");
        check_ok(read_options(m, "{\"preset\":\"scalar\"}", &opts));
        assert_string_equal(text_of(m, opts, "vector"), "1");
        assert_string_equal(text_of(m, opts, "rotation"), "\"full\"");
        assert_int_equal(read_options(m, "{\"preset\":\"papier\"}", &opts), LQ_E_OPTION);
        assert_int_equal(read_options(m, "{\"preset\":3}", &opts), LQ_E_OPTION);
    }
    check_ok(read_options(&lq_method_lcqat, "{\"preset\":\"paper\"}", &opts));
    assert_string_equal(text_of(&lq_method_lcqat, opts, "kappa"), "\"paper\"");
    lq_json *merged, *bad = lq_json_object();
    const lq_preset wrong = {"ours", "rotation"};
    assert_int_equal(lq_options_preset(&wrong, 1, bad, &merged), LQ_E_OPTION);
    lq_json_free(bad);
}

/* lr_u is that of the proxy weight under kappa; one step shrinks u - mu by 1 - lr decay either way. */
static void kappa_turns_rates_of_the_proxy_into_rates_of_u(void **state)
{
    (void)state;
    lq_theta code = theta_of(&lq_method_lcqat,
                             "{\"kappa\":\"code\",\"lr_u\":1e-4,\"weight_decay\":0.1}", 128, 128);
    lq_theta paper = theta_of(&lq_method_lcqat, "{\"kappa\":\"paper\",\"lr_u\":1e-4}", 128, 128);
    check_close(code.slot[0].lr, 8e-4, 1e-12, 0);
    check_close(code.slot[0].lr * code.slot[0].weight_decay, 1e-5, 1e-12, 0);
    check_close(paper.slot[0].lr, 8e-4 * 1.2247449, 1e-6, 0);
}

static void shapes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    void *opts;
    lq_theta th;
    for (size_t i = 0; i < 2; i++) {
        check_ok(read_options(methods[i], "{\"rotation\":\"full\"}", &opts));
        assert_int_equal(lq_theta_new(methods[i], opts, 184, 64, &arena, &th), LQ_E_SHAPE);
        assert_non_null(strstr(lq_status_note(), "rotation=block"));
        check_ok(read_options(methods[i], "{\"lattice\":\"orthogonal\",\"vector\":8}", &opts));
        assert_int_equal(lq_theta_new(methods[i], opts, 64, 36, &arena, &th), LQ_E_SHAPE);
        check_ok(
            read_options(methods[i], "{\"vector\":8}", &opts)); /* the identity fits any width */
        check_ok(lq_theta_new(methods[i], opts, 64, 36, &arena, &th));
    }
}

/* ---- The start ------------------------------------------------------------------------------------ */

static void lcqat_starts_from_unisvq(void **state)
{
    (void)state;
    static const char *const json[] = {"{}", "{\"preset\":\"paper\"}", "{\"lattice\":\"learned\"}"};
    for (size_t i = 0; i < 3; i++) {
        const lq_theta a = begun(&lq_method_unisvq, json[i], 24, 40),
                       b = begun(&lq_method_lcqat, json[i], 24, 40);
        const uint8_t *code = a.data[0];
        const float *u = b.data[0];
        for (size_t k = 0; k < 24 * 40; k++)
            assert_true((float)code[k] == u[k]);
        for (size_t s = 1; s < a.n_slots; s++)
            assert_true(lq_worst(a.data[s], b.data[s], a.slot[s].rows * a.slot[s].cols) < 4e-3);
    }
}

static void every_lattice_starts_well(void **state)
{
    (void)state;
    static const char *const json[] = {
        "{}",
        "{\"rotation\":\"full\"}",
        "{\"rotation\":\"none\"}",
        "{\"lattice\":\"orthogonal\",\"vector\":2}",
        "{\"lattice\":\"orthogonal\",\"vector\":8,\"lattice_shared\":false,\"ldl_block\":8}",
        "{\"lattice\":\"learned\",\"vector\":2}",
        "{\"lattice\":\"learned\",\"vector\":4,\"lattice_start\":\"orthogonal\"}",
        "{\"lattice\":\"learned\",\"vector\":8}",
        "{\"preset\":\"release\"}",
        "{\"preset\":\"paper\"}",
        "{\"preset\":\"scalar\"}",
    };
    for (size_t i = 0; i < sizeof json / sizeof json[0]; i++) {
        const lq_theta th = begun(&lq_method_unisvq, json[i], 48, 80);
        const double proxy = proxy_of(&th);
        if (!(proxy < (strstr(json[i], "\"vector\":8") != NULL ? 0.08 : 0.05) && proxy > 0.01))
            fail_msg("%s: proxy error %g", json[i], proxy);
    }
}

static void scale_search_finds_a_better_scale(void **state)
{
    (void)state;
    const lq_theta fixed =
        begun(&lq_method_unisvq, "{\"scale_override\":0.6,\"scale_search\":0}", 96, 80);
    const lq_theta searched =
        begun(&lq_method_unisvq, "{\"scale_override\":0.6,\"scale_search\":5}", 96, 80);
    const lq_theta normal_best =
        begun(&lq_method_unisvq, "{\"scale_override\":0,\"scale_search\":0}", 96, 80);
    const lq_theta best =
        begun(&lq_method_unisvq, "{\"scale_override\":0,\"scale_search\":9}", 96, 80);
    assert_true(proxy_of(&searched) < proxy_of(&fixed));
    assert_true(proxy_of(&best) < proxy_of(&normal_best) * 1.001);
    assert_true(proxy_of(&best) < proxy_of(&searched));
}

static void stages_are_timed(void **state)
{
    (void)state;
    lq_laps laps = {0};
    lq_theta th = theta_of(&lq_method_unisvq, "{\"scale_search\":2}", 16, 32);
    const lq_calib calib = {.gram = fading_gram(32), .n_tokens = 1};
    const lq_rng rng = lq_rng_seed(1);
    th.laps = &laps;
    check_ok(th.method->init(&th, normal_weights(16 * 32, 1, 1), &calib, &rng, &arena));
    static const char *const want[] = {"rotate", "codebook", "ldl", "search", "ldlq", "sweeps"};
    assert_int_equal(laps.n, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(laps.lap[i].name, want[i]);
        assert_true(laps.lap[i].s >= 0 && laps.lap[i].s < 10);
    }
}

/* ---- The released code's results ------------------------------------------------------------------ */

typedef struct golden { /* a file of ../shared/golden, open */
    lq_safetensors file;
    const char *path;
} golden;

static bool open_golden(golden *g, const char *name)
{
    const char *shared = getenv("LQ_SHARED");
    g->path = lq_arena_printf(&arena, "%s/golden/%s", shared != NULL ? shared : "../shared", name);
    return lq_safetensors_open(g->path, &arena, &g->file) == LQ_OK;
}

static float *tensor_of(const golden *g, const char *name, size_t *rows, size_t *cols)
{
    const lq_tensor *t = lq_safetensors_find(&g->file, name);
    assert_non_null(t);
    float *x = zeros(t->elements);
    check_ok(lq_tensor_to_f32(t, x));
    *rows = t->shape[0];
    *cols = t->rank > 1 ? t->shape[1] : 1;
    return x;
}

/* The method on a golden matrix: codes as packed bytes of the released layout, and the proxy error. */
static void check_golden(const golden *g, const char *json, const char *W, const char *H,
                         const char *const *slot, const char *want)
{
    size_t m, n, rows, cols;
    const float *w = tensor_of(g, W, &m, &n), *h = tensor_of(g, H, &rows, &cols);
    double *gram;
    check_ok(lq_arena_new(&arena, &gram, n * n));
    for (size_t i = 0; i < n * n; i++)
        gram[i] = (double)h[i];
    lq_theta th = theta_of(&lq_method_unisvq, json, m, n);
    for (; *slot != NULL; slot += 2) {
        const float *from = tensor_of(g, slot[1], &rows, &cols);
        memcpy(lq_theta_f32(&th, slot[0]), from, rows * cols * sizeof *from);
    }
    const lq_calib calib = {.gram = gram, .n_tokens = 1};
    const lq_rng rng = lq_rng_seed(1);
    check_ok(th.method->init(&th, w, &calib, &rng, &arena));
    lq_sink sink = {.arena = &arena};
    check_ok(lq_sink_codes(&sink, th.data[0], m, n, 4));
    const float *codes = tensor_of(g, lq_arena_printf(&arena, "%s_codes", want), &rows, &cols);
    size_t differ = 0;
    for (size_t i = 0; i < rows * cols; i++)
        differ += codes[i] != (float)sink.data[i];
    if (differ != 0)
        fail_msg("%s of %s: %zu codes of %zu differ", want, json, differ, rows * cols);
    float *w_eff = zeros(m * n);
    th.method->effective(&th, w_eff, &arena);
    const double proxy = lq_proxy_error(w, w_eff, gram, m, n, &arena);
    const float *expected = tensor_of(g, lq_arena_printf(&arena, "%s_proxy", want), &rows, &cols);
    check_close(proxy, (double)expected[0], 0.01, 0); /* the affine map is not the rounded grid */
}

static void release_preset_gives_the_released_codes(void **state)
{
    (void)state;
    golden g;
    static const char *const signs[] = {"su", "SU_sign", "sv", "SV_sign", NULL};
    if (!open_golden(&g, "g_quantize.safetensors"))
        skip();
    check_golden(&g, "{\"preset\":\"release\",\"sigma_reg\":0}", "W", "H", signs, "s083");
    check_golden(&g, "{\"preset\":\"release\",\"sigma_reg\":0,\"scale_override\":1}", "W", "H",
                 signs, "s100");
    lq_safetensors_close(&g.file);
}

/* Plain LDLQ: no transform, no signs, the weight as it is (g = its rms). The identity only: the words of
 * the other codebook are to be taken as stored. */
static void plain_ldlq_gives_the_released_codes(void **state)
{
    (void)state;
    golden g;
    size_t m, n;
    static const char *const nothing[] = {NULL};
    if (!open_golden(&g, "f_ldlq.safetensors"))
        skip();
    const float *w = tensor_of(&g, "W", &m, &n);
    double squares = 0;
    for (size_t i = 0; i < m * n; i++)
        squares += (double)w[i] * (double)w[i];
    for (size_t sweeps = 0; sweeps <= 10; sweeps += 10) {
        const char *base = lq_arena_printf(&arena,
                                           "\"preset\":\"release\",\"rotation\":\"none\","
                                           "\"signs\":false,\"sigma_reg\":0,\"sweeps\":%zu,"
                                           "\"scale_override\":%.17g",
                                           sweeps, sqrt(squares / (double)(m * n)));
        check_golden(&g, lq_arena_printf(&arena, "{%s}", base), "W", "H", nothing,
                     lq_arena_printf(&arena, "identity_t%zu", sweeps));
    }
    lq_safetensors_close(&g.file);
}

/* ---- Bytes ---------------------------------------------------------------------------------------- */

/* Codes of a row fill whole bytes: 4 levels 4 a byte, 3 levels 5, 8 levels 8 in 3, 16 levels 2. */
static double bits_by_formula(size_t levels, size_t d, bool general, double m, double n)
{
    const double row = levels == 4   ? ceil(n / 4)
                       : levels == 3 ? ceil(n / 5)
                       : levels == 8 ? ceil(n * 3 / 8)
                                     : ceil(n / 2);
    const double numbers = general ? (double)(d * d + d) : 2;
    return (8 * row * m + 16 * (m + n) + 16 * numbers) / (m * n);
}

static void bytes_are_the_formula_for_every_lattice(void **state)
{
    (void)state;
    static const struct {
        const char *bits;
        size_t levels;
    } width[] = {{"1.58", 3}, {"2", 4}, {"3", 8}, {"4", 16}};
    const size_t m = 6, n = 40;
    for (size_t k = 0; k < 2; k++)
        for (size_t b = 0; b < 4; b++)
            for (size_t d = 1; d <= 8; d *= 2)
                for (size_t general = 0; general < 2; general++) {
                    const char *json =
                        lq_arena_printf(&arena, "{\"bits\":%s,\"vector\":%zu,\"lattice\":\"%s\"}",
                                        width[b].bits, d, general ? "orthogonal" : "identity");
                    const lq_theta th = begun(methods[k], json, m, n);
                    lq_theta shipped;
                    size_t bytes;
                    lq_sink first = {.arena = &arena}, second = {.arena = &arena};
                    check_ok(lq_theta_through_bytes(&th, &arena, &shipped, &bytes));
                    check_ok(th.method->pack(&th, &first));
                    check_ok(th.method->pack(&shipped, &second));
                    assert_int_equal(first.bytes, second.bytes);
                    assert_memory_equal(first.data, second.data, first.bytes);
                    check_close(8.0 * (double)bytes / (double)(m * n),
                                bits_by_formula(width[b].levels, d, general, (double)m, (double)n),
                                1e-12, 0);
                    float *before = zeros(m * n), *after = zeros(m * n);
                    th.method->effective(&th, before, &arena);
                    th.method->effective(&shipped, after, &arena);
                    if (k == 0) /* what was quantized after training is what ships */
                        assert_memory_equal(before, after, m * n * sizeof *before);
                    assert_true(lq_proxy_error(before, after, NULL, m, n, &arena) < 1e-4);
                }
}

static void true_bits_at_the_shapes_of_the_paper(void **state)
{
    (void)state;
    check_close(bits_by_formula(4, 4, false, 2048, 2048), 2.0156, 0, 5e-5);
    check_close(bits_by_formula(4, 4, false, 6144, 2048), 2.0104, 0, 5e-5);
    check_close(bits_by_formula(4, 4, false, 256, 256), 2.1255, 0, 5e-5);
    check_close(bits_by_formula(4, 4, true, 512, 512), 2.0637, 0, 5e-5);
}

/* ---- Equivalent forms ----------------------------------------------------------------------------- */

/* y = (sum_i (X_i A) z_i' + sum_i (X_i B) 1') Q_m' diag(SV), X = x diag(SU) Q_n: no word is ever made. */
static void without_decoding(const lq_theta *th, const float *x, size_t rows, float *y)
{
    const lq_lcqat_opts *o = th->opts;
    const size_t m = th->out, n = th->in, d = o->vector;
    const uint8_t *code = th->data[LQ_LCQAT_CODES];
    const float *A = th->data[LQ_LCQAT_A], *B = lq_theta_f32(th, "B");
    lq_rotation none, qm, qn;
    check_ok(lq_rotation_new(LQ_ROTATION_NONE, rows, 0, &arena, &none));
    check_ok(lq_rotation_new((lq_rotation_kind)o->rotation, m, o->hadamard_cap, &arena, &qm));
    check_ok(lq_rotation_new((lq_rotation_kind)o->rotation, n, o->hadamard_cap, &arena, &qn));
    float *X = zeros(rows * n), *XA = zeros(rows * n);
    memcpy(X, x, rows * n * sizeof *X);
    lq_scale_both(X, rows, n, NULL, th->data[LQ_LCQAT_SU]);
    lq_rotate_in(X, rows, n, &none, &qn); /* x diag(SU) Q_n, the transpose of Q_n' on a column */
    for (size_t r = 0; r < rows; r++) {
        double offset = 0;
        for (size_t j = 0; j < n; j++) {
            offset += (double)(X[r * n + j] * B[j % d]);
            for (size_t k = 0; k < d; k++)
                XA[r * n + j] += X[r * n + j / d * d + k] * A[k * d + j % d];
        }
        for (size_t i = 0; i < m; i++) {
            double sum = offset;
            for (size_t j = 0; j < n; j++)
                sum += (double)XA[r * n + j] * (double)code[i * n + j];
            y[r * m + i] = (float)sum;
        }
    }
    lq_rotate_out(y, rows, m, &none, &qm);
    lq_scale_both(y, rows, m, NULL, th->data[LQ_LCQAT_SV]);
}

static void activations_need_no_decoding(void **state)
{
    (void)state;
    static const char *const json[] = {
        "{\"lattice\":\"orthogonal\",\"rotation\":\"full\"}",
        "{\"lattice\":\"learned\",\"vector\":2,\"bits\":3}",
        "{\"lattice\":\"learned\",\"vector\":8,\"rotation\":\"full\",\"bits\":1.58}",
        "{\"lattice\":\"orthogonal\",\"vector\":1,\"rotation\":\"none\"}"};
    const size_t m = 36, n = 80, rows = 5; /* factors 36 and 20: Q_n is not symmetric */
    for (size_t i = 0; i < 4; i++) {
        const lq_theta th = begun(&lq_method_unisvq, json[i], m, n);
        const float *x = normal_weights(rows * n, 1, 3);
        float *w = zeros(m * n), *y = zeros(rows * m), *want = zeros(rows * m);
        th.method->effective(&th, w, &arena);
        lq_gemm_nt(rows, m, n, 1, x, n, w, n, 0, want, m);
        without_decoding(&th, x, rows, y);
        assert_true(lq_worst(y, want, rows * m) < 2e-5);
        lq_theta_f32(&th, "B")[0] += 0.01f;
        without_decoding(&th, x, rows, y);
        assert_false(lq_worst(y, want, rows * m) < 2e-5);
    }
}

/* d = 1, A = 1, no rotation: What = SV (z + B) SU, a uniform grid. */
static void one_weight_at_a_time_is_a_uniform_grid(void **state)
{
    (void)state;
    lq_theta th = begun(&lq_method_unisvq,
                        "{\"vector\":1,\"lattice\":\"orthogonal\",\"rotation\":\"none\"}", 8, 12);
    const uint8_t *code = th.data[LQ_LCQAT_CODES];
    const float *su = th.data[LQ_LCQAT_SU], *sv = th.data[LQ_LCQAT_SV];
    float *w = zeros(8 * 12);
    lq_theta_f32(&th, "A")[0] = 1;
    lq_theta_f32(&th, "B")[0] = -1.5f;
    th.method->effective(&th, w, &arena);
    for (size_t i = 0; i < 8 * 12; i++)
        check_close(w[i], sv[i / 12] * su[i % 12] * ((float)code[i] - 1.5f), 1e-6, 0);
}

int main(void)
{
    omp_set_num_threads(1); /* small matrices: waiting for a second thread is all it would do */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_defaults_that_options_override),
        cmocka_unit_test(kappa_turns_rates_of_the_proxy_into_rates_of_u),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
        cmocka_unit_test(lcqat_starts_from_unisvq),
        cmocka_unit_test(every_lattice_starts_well),
        cmocka_unit_test(scale_search_finds_a_better_scale),
        cmocka_unit_test(stages_are_timed),
        cmocka_unit_test(release_preset_gives_the_released_codes),
        cmocka_unit_test(plain_ldlq_gives_the_released_codes),
        cmocka_unit_test(bytes_are_the_formula_for_every_lattice),
        cmocka_unit_test(true_bits_at_the_shapes_of_the_paper),
        cmocka_unit_test(activations_need_no_decoding),
        cmocka_unit_test(one_weight_at_a_time_is_a_uniform_grid),
    };
    return cmocka_run_group_tests_name("unisvq", tests, NULL, close_arena);
}
