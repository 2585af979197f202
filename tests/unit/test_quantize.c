/* Calibration, block-wise quantization, and the packed model on disk, on a random two-layer model. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/data/safetensors.h"
#include "core/eval/perplexity.h"
#include "core/train/quantize.h"
#include "experiments/methods.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_SEQ = 19, T = 16 };

typedef struct bed {
    lq_arena arena;
    lq_weights full;
    uint32_t token[N_SEQ * T];
    lq_calib_data calib;
} bed;

static void bed_new(bed *b)
{
    const lq_config c = {.arch = LQ_ARCH_QWEN3,
                         .D = 32,
                         .F = 48,
                         .L = 2,
                         .H = 4,
                         .Hkv = 2,
                         .dh = 8,
                         .V = 40,
                         .eps = 1e-5,
                         .rope_theta = 1e4,
                         .tied = true,
                         .qk_norm = true,
                         .max_positions = 64};
    memset(b, 0, sizeof *b);
    lq_rng rng = lq_rng_seed(11);
    check_ok(lq_weights_new(&c, &b->arena, &b->full));
    lq_weights_init(&b->full, &rng);
    for (size_t i = 0; i < b->full.n; i++)
        b->full.flat[i] *= 5; /* an untrained model is nearly linear; this one is not */
    lq_weights_round_bf16(&b->full);
    for (size_t i = 0; i < N_SEQ * T; i++)
        b->token[i] = (uint32_t)lq_rng_below(&rng, c.V);
    b->calib = (lq_calib_data){b->token, N_SEQ, T};
}

/* E[x' x] of one linear's input, by plain loops over one forward of everything. */
static void plain_gram(bed *b, size_t layer, lq_layer_tensor linear, size_t in, double *gram)
{
    lq_lane *lane;
    check_ok(lq_lane_new(&b->full.config, N_SEQ, T, LQ_KEEP_ALL, &b->arena, &lane));
    lq_forward(&b->full, lane, b->token, N_SEQ);
    const float *x = lq_linear_input(lane, layer, linear);
    memset(gram, 0, in * in * sizeof *gram);
    for (size_t r = 0; r < N_SEQ * T; r++)
        for (size_t i = 0; i < in; i++)
            for (size_t j = 0; j < in; j++)
                gram[i * in + j] += (double)x[r * in + i] * (double)x[r * in + j] / (N_SEQ * T);
}

/* E|x| of the same input is what the gram's diagonal bounds, and is recounted here. */
static void mean_abs_equals_the_plain_mean(void **state)
{
    (void)state;
    bed b;
    lq_lane *lane;
    lq_grams grams;
    lq_passage p;
    float *x;
    bed_new(&b);
    check_ok(lq_lane_new(&b.full.config, N_SEQ, T, true, &b.arena, &lane));
    lq_forward(&b.full, lane, b.token, N_SEQ);
    check_ok(lq_grams_new(&b.full.config, &b.arena, &grams));
    check_ok(lq_passage_new(&b.full.config, &b.calib, &b.arena, &p));
    check_ok(lq_passage_stream(&b.full, &b.calib, &b.arena, &x));
    for (size_t l = 0; l < 2; l++) {
        lq_passage_block(&p, &b.full, l, x, x, &grams);
        for (size_t i = 0; i < LQ_N_LINEARS; i++) {
            const lq_site site = lq_site_of((lq_layer_tensor)i);
            const float *in = lq_linear_input(lane, l, (lq_layer_tensor)i);
            for (size_t j = 0; j < grams.width[site]; j++) {
                double mean = 0;
                for (size_t r = 0; r < N_SEQ * T; r++)
                    mean += fabs((double)in[r * grams.width[site] + j]) / (N_SEQ * T);
                check_close(grams.mean_abs[site][j], mean, 1e-4, 1e-7);
                assert_true(mean * mean <= grams.gram[site][j * (grams.width[site] + 1)] * 1.001);
            }
        }
    }
    lq_arena_close(&b.arena);
}

static void temporary(char *path, size_t room)
{
    snprintf(path, room, "/tmp/lcqat-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void calibrated_grams_equal_plain_sums(void **state)
{
    (void)state;
    bed b;
    char dir[64], path[96];
    lq_safetensors file;
    static const struct {
        size_t layer;
        lq_layer_tensor linear;
        const char *name;
        size_t in;
    } list[] = {{0, LQ_Q, "model.layers.0.self_attn.q_proj.gram", 32},
                {1, LQ_V, "model.layers.1.self_attn.v_proj.gram", 32},
                {1, LQ_O, "model.layers.1.self_attn.o_proj.gram", 32},
                {0, LQ_UP, "model.layers.0.mlp.up_proj.gram", 32},
                {1, LQ_DOWN, "model.layers.1.mlp.down_proj.gram", 48}};
    bed_new(&b);
    temporary(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/h.safetensors", dir);
    check_ok(lq_calibrate_to_file(&b.full, &b.calib, NULL, path));
    check_ok(lq_safetensors_open(path, &b.arena, &file));
    assert_int_equal(file.n_tensors, 28);
    assert_string_equal(lq_safetensors_metadata(&file, "tokens"), "304");
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const size_t n = list[i].in, shape[] = {n, n};
        float *got;
        double *want = lq_arena_f64(&b.arena, n * n);
        plain_gram(&b, list[i].layer, list[i].linear, n, want);
        check_ok(lq_safetensors_f32(&file, list[i].name, 2, shape, &b.arena, &got));
        for (size_t j = 0; j < n * n; j++)
            check_close(got[j], want[j], 1e-4, 1e-5 * want[0] + 1e-7);
    }
    lq_safetensors_close(&file);
    check_ok(lq_path_remove_tree(dir));
    lq_arena_close(&b.arena);
}

static void quantize_with(bed *b, const char *name, lq_qmodel *q) /* at its own number of bits */
{
    const lq_method *method;
    void *opts;
    const lq_rng rng = lq_rng_seed(1);
    check_ok(lq_method_find(name, &method));
    check_ok(lq_method_options(method, NULL, "test", &b->arena, &opts));
    check_ok(lq_qmodel_new(&b->full, method, opts, &b->arena, q));
    check_ok(lq_quantize(q, &b->full, &b->calib, &rng));
}

/* In the place of the full-precision weights: the same bits, whatever a method asks for. */
static void quantizing_in_place_changes_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"rtn", "gptq", "lcqat", "none"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bed b, own;
        lq_qmodel q, in_place;
        const lq_rng rng = lq_rng_seed(1);
        bed_new(&b);
        bed_new(&own);
        quantize_with(&b, names[i], &q);
        check_ok(lq_qmodel_take(&own.full, q.method, q.opts, &own.arena, &in_place));
        assert_ptr_equal(in_place.w.flat, own.full.flat);
        check_ok(lq_quantize(&in_place, &own.full, &own.calib, &rng));
        assert_memory_equal(q.w.flat, in_place.w.flat, q.w.n * sizeof(float));
        lq_arena_close(&b.arena);
        lq_arena_close(&own.arena);
    }
}

static double ppl_of(bed *b, const lq_weights *w)
{
    lq_perplexity p;
    check_ok(lq_perplexity_of(w, b->token, N_SEQ * T, T, 0, &b->arena, &p));
    assert_int_equal(p.n_windows, N_SEQ);
    assert_int_equal(p.n_predicted, N_SEQ * (T - 1));
    return p.ppl;
}

/* One block's grams of a file are the floats of what was collected. */
static void grams_of_a_file_are_those_collected(void **state)
{
    (void)state;
    bed b;
    char dir[64], path[96];
    lq_gram_file file;
    lq_grams want, got;
    lq_passage p;
    float *x;
    bed_new(&b);
    temporary(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/h.safetensors", dir);
    check_ok(lq_calibrate_to_file(&b.full, &b.calib, "abc", path));
    check_ok(lq_gram_file_open(path, "abc", &b.arena, &file));
    assert_string_equal(file.file.tensor[27].name,
                        "model.layers.1.mlp.down_proj.mean_abs"); /* streamed */
    assert_int_equal(file.n_tokens, N_SEQ * T);
    check_ok(lq_grams_new(&b.full.config, &b.arena, &want));
    check_ok(lq_grams_new(&b.full.config, &b.arena, &got));
    check_ok(lq_passage_new(&b.full.config, &b.calib, &b.arena, &p));
    check_ok(lq_passage_stream(&b.full, &b.calib, &b.arena, &x));
    for (size_t l = 0; l < 2; l++) {
        lq_passage_block(&p, &b.full, l, x, x, &want);
        check_ok(lq_gram_file_read(&file, &b.full, l, true, &got));
        assert_int_equal(got.n_tokens, want.n_tokens);
        for (size_t i = 0; i < LQ_N_SITES; i++)
            for (size_t j = 0; j < want.width[i] * want.width[i]; j++)
                assert_true(got.gram[i][j] == (double)(float)want.gram[i][j]);
        for (size_t i = 0; i < LQ_N_SITES; i++)
            for (size_t j = 0; j < want.width[i]; j++)
                assert_true(got.mean_abs[i][j] == (double)(float)want.mean_abs[i][j]);
    }
    lq_gram_file_close(&file);
    check_ok(lq_gram_file_open(path, NULL, &b.arena, &file)); /* the model is not asked for */
    lq_gram_file_close(&file);
    assert_int_equal(lq_gram_file_open(path, "abd", &b.arena, &file), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "another model"));
    check_ok(lq_path_remove_tree(dir));
    lq_arena_close(&b.arena);
}

/* Writes the file again with one tensor changed: NULL data drops it. */
static void rewrite(bed *b, const char *path, const char *name, size_t n, const float *data,
                    const char *tokens)
{
    lq_safetensors file;
    lq_tensor list[32];
    size_t kept = 0;
    const char *metadata[] = {"tokens", tokens};
    check_ok(lq_safetensors_open(path, &b->arena, &file));
    for (size_t i = 0; i < file.n_tensors; i++) {
        list[kept] = file.tensor[i];
        if (strcmp(list[kept].name, name) == 0) {
            list[kept].shape[0] = list[kept].shape[1] = n;
            list[kept].data = data;
        }
        kept += list[kept].data != NULL;
    }
    check_ok(lq_safetensors_write(path, list, kept, metadata, tokens != NULL ? 1 : 0));
    lq_safetensors_close(&file);
}

static void odd_gram_files_are_refused(void **state)
{
    (void)state;
    static const float zeros[32 * 32];
    static const struct {
        const char *tensor, *tokens;
        size_t n;
        const float *data;
        lq_status want;
    } list[] = {{"model.layers.1.mlp.up_proj.gram", "304", 32, NULL, LQ_E_MISSING},
                {"model.layers.1.mlp.down_proj.gram", "304", 32, zeros, LQ_E_SHAPE},
                {"model.layers.1.self_attn.v_proj.gram", "304", 32, zeros, LQ_E_FORMAT},
                {"model.layers.1.mlp.up_proj.mean_abs", "304", 32, NULL, LQ_E_MISSING},
                {"model.layers.1.self_attn.k_proj.mean_abs", "304", 32, zeros, LQ_E_FORMAT},
                {"", NULL, 0, NULL, LQ_E_FORMAT},
                {"", "many", 0, NULL, LQ_E_FORMAT}};
    bed b;
    char dir[64], path[96];
    bed_new(&b);
    temporary(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/h.safetensors", dir);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        lq_gram_file file;
        lq_grams grams;
        check_ok(lq_calibrate_to_file(&b.full, &b.calib, NULL, path));
        rewrite(&b, path, list[i].tensor, list[i].n, list[i].data, list[i].tokens);
        check_ok(lq_grams_new(&b.full.config, &b.arena, &grams));
        lq_status got = lq_gram_file_open(path, NULL, &b.arena, &file);
        if (got == LQ_OK) {
            check_ok(lq_gram_file_read(&file, &b.full, 0, true, &grams));
            got = lq_gram_file_read(&file, &b.full, 1, true, &grams);
            lq_gram_file_close(&file);
        }
        if (got != list[i].want)
            fail_msg("%zu: %s: %s", i, lq_status_name(got), lq_status_note());
    }
    check_ok(lq_path_remove_tree(dir));
    lq_arena_close(&b.arena);
}

/* With the grams of a file no calibration text is needed, and the model is as good. */
static void a_file_replaces_calibration(void **state)
{
    (void)state;
    static const char *const methods[] = {"lcqat", "gptq"};
    bed b;
    char dir[64], path[96];
    bed_new(&b);
    temporary(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/h.safetensors", dir);
    check_ok(lq_calibrate_to_file(&b.full, &b.calib, NULL, path));
    for (size_t i = 0; i < 2; i++) {
        lq_qmodel collected, read;
        size_t same = 0;
        const lq_rng rng = lq_rng_seed(1);
        const lq_quantize_how how = {.grams = path};
        quantize_with(&b, methods[i], &collected);
        quantize_with(&b, methods[i], &read);
        memset(read.w.flat, 0, read.w.n * sizeof(float));
        check_ok(lq_quantize_with(&read, &b.full, NULL, &rng, &how));
        const size_t n = 32 * 32; /* q_proj of block 0: before any quantized prefix */
        for (size_t j = 0; j < n; j++)
            same += lq_close(read.w.layer[0][LQ_Q][j], collected.w.layer[0][LQ_Q][j], 1e-4, 1e-6);
        assert_true(same > n * 9 / 10); /* codes near a tie may differ: the file holds floats */
        for (size_t j = 0; j < 32 * 48; j++)
            assert_true(isfinite(read.w.layer[1][LQ_DOWN][j]));
    }
    check_ok(lq_path_remove_tree(dir));
    lq_arena_close(&b.arena);
}

static void every_method_survives_the_disk(void **state)
{
    (void)state;
    bed b;
    char dir[64], path[96];
    bed_new(&b);
    for (size_t i = 0; i < lq_method_count; i++) {
        lq_qmodel q, back;
        lq_packed_size size;
        temporary(dir, sizeof dir);
        quantize_with(&b, lq_method_table[i]->name, &q);
        if (lq_method_table[i]->family != LQ_FAMILY_NONE)
            assert_memory_not_equal(q.w.flat, b.full.flat, q.w.n * sizeof(float));
        check_ok(lq_artifact_write(&q, dir));
        assert_true(lq_artifact_is_one(dir));
        check_ok(lq_artifact_read(dir, lq_method_find, &b.arena, &back, &size));
        assert_int_equal(size.linear_weights, 2 * (32 * 96 + 3 * 32 * 48));
        check_close(size.bits_per_weight, 8.0 * (double)size.linear_bytes / 15360.0, 1e-12, 0);
        check_close(ppl_of(&b, &back.w), ppl_of(&b, &q.w), 0.03, 0); /* scales lose bits */
        lq_qmodel again;
        char other[96];
        snprintf(other, sizeof other, "%s/again", dir);
        check_ok(lq_artifact_write(&back, other));
        check_ok(lq_artifact_read(other, lq_method_find, &b.arena, &again, &size));
        assert_memory_equal(again.w.flat, back.w.flat, back.w.n * sizeof(float));
        snprintf(path, sizeof path, "%s/packed.safetensors", dir);
        assert_int_equal(truncate(path, 600), 0);
        assert_int_equal(lq_artifact_read(dir, lq_method_find, &b.arena, &back, &size),
                         LQ_E_FORMAT);
        check_ok(lq_path_remove_tree(dir));
    }
    lq_arena_close(&b.arena);
}

static void full_precision_through_bytes_is_the_model(void **state)
{
    (void)state;
    bed b;
    lq_qmodel q;
    bed_new(&b);
    quantize_with(&b, "none", &q);
    assert_memory_equal(q.w.flat, b.full.flat, q.w.n * sizeof(float));
    lq_arena_close(&b.arena);
}

static void missing_calibration_is_an_error_with_a_name(void **state)
{
    (void)state;
    bed b;
    lq_qmodel q;
    const lq_method *method;
    void *opts;
    const lq_rng rng = lq_rng_seed(1);
    bed_new(&b);
    check_ok(lq_method_find("gptq", &method));
    check_ok(lq_method_options(method, NULL, "test", &b.arena, &opts));
    check_ok(lq_qmodel_new(&b.full, method, opts, &b.arena, &q));
    assert_int_equal(lq_quantize(&q, &b.full, NULL, &rng), LQ_E_SHAPE);
    b.full.layer[1][LQ_UP][5] = NAN;
    assert_int_equal(lq_quantize(&q, &b.full, &b.calib, &rng), LQ_E_NUMERIC);
    assert_non_null(strstr(lq_status_note(), "model.layers.1."));
    lq_arena_close(&b.arena);
}

static void perplexity_follows_its_definition(void **state)
{
    (void)state;
    bed b;
    lq_perplexity p;
    bed_new(&b);
    memset(b.full.flat, 0, b.full.n * sizeof(float)); /* all logits zero: perplexity V */
    check_close(ppl_of(&b, &b.full), 40, 1e-6, 0);
    check_ok(lq_perplexity_of(&b.full, b.token, N_SEQ * T - 1, T, 0, &b.arena, &p));
    assert_int_equal(p.n_windows, N_SEQ - 1); /* the remainder is dropped */
    check_ok(lq_perplexity_of(&b.full, b.token, N_SEQ * T, T, 3, &b.arena, &p));
    assert_int_equal(p.n_windows, 3);
    assert_int_equal(lq_perplexity_of(&b.full, b.token, T - 1, T, 0, &b.arena, &p), LQ_E_SHAPE);
    b.token[3] = 40;
    assert_int_equal(lq_perplexity_of(&b.full, b.token, N_SEQ * T, T, 0, &b.arena, &p),
                     LQ_E_OPTION);
    lq_arena_close(&b.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantizing_in_place_changes_nothing),
        cmocka_unit_test(calibrated_grams_equal_plain_sums),
        cmocka_unit_test(mean_abs_equals_the_plain_mean),
        cmocka_unit_test(grams_of_a_file_are_those_collected),
        cmocka_unit_test(odd_gram_files_are_refused),
        cmocka_unit_test(a_file_replaces_calibration),
        cmocka_unit_test(every_method_survives_the_disk),
        cmocka_unit_test(full_precision_through_bytes_is_the_model),
        cmocka_unit_test(missing_calibration_is_an_error_with_a_name),
        cmocka_unit_test(perplexity_follows_its_definition),
    };
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}
