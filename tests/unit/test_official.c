/* Checkpoints in the layout of the released LC-QAT code: every byte where it belongs, round trips, the
 * three kinds that are read, and all that must be refused. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/data/safetensors.h"
#include "core/train/official.h"
#include "core/train/official_parts.h"
#include "core/train/quantize.h"
#include "experiments/methods.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_SEQ = 4, T = 8, D = 128, F = 256, ROOM = 96 };
static const char stem[] = "model.layers.0.mlp.up_proj";

typedef struct bed {
    lq_arena arena;
    lq_weights full;
    lq_qmodel q;
    char dir[ROOM];
} bed;

static lq_config shape(void)
{
    lq_config c = {.D = D, .F = F, .L = 1, .H = 2, .Hkv = 1, .dh = 128, .V = 40, .eps = 1e-6};
    c.arch = LQ_ARCH_QWEN3;
    c.rope_theta = 1e4;
    c.max_positions = 64;
    c.tied = c.qk_norm = true;
    return c;
}

static void quantize(bed *b, const lq_config *c, const char *name, const char *set)
{
    const lq_method *method;
    void *opts;
    uint32_t token[N_SEQ * T];
    lq_rng rng = lq_rng_seed(5);
    lq_json *spec = lq_json_object();
    check_ok(lq_weights_new(c, &b->arena, &b->full));
    lq_weights_init(&b->full, &rng);
    lq_weights_round_bf16(&b->full);
    memset(b->full.layer[0][LQ_UP] + 3 * c->D, 0, c->D * sizeof(float)); /* a pruned row */
    for (size_t i = 0; i < N_SEQ * T; i++)
        token[i] = (uint32_t)lq_rng_below(&rng, c->V);
    check_ok(lq_method_find(name, &method));
    if (set != NULL)
        check_ok(lq_option_set_text(spec, set));
    check_ok(lq_method_options(method, spec, "test", &b->arena, &opts));
    lq_json_free(spec);
    check_ok(lq_qmodel_new(&b->full, method, opts, &b->arena, &b->q));
    const lq_calib_data calib = {token, N_SEQ, T};
    check_ok(lq_quantize(&b->q, &b->full, &calib, &rng));
}

static void bed_new(bed *b, const char *method, const char *set)
{
    const lq_config c = shape();
    memset(b, 0, sizeof *b);
    snprintf(b->dir, sizeof b->dir, "/tmp/lcqat-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    quantize(b, &c, method, set);
}

static void bed_close(bed *b)
{
    check_ok(lq_path_remove_tree(b->dir));
    lq_arena_close(&b->arena);
}

static const char *inside(bed *b, const char *name)
{
    return lq_arena_printf(&b->arena, "%s/%s", b->dir, name);
}

static lq_status read_dir(bed *b, const char *dir, lq_qmodel *out)
{
    lq_packed_size size;
    return lq_official_read(dir, lq_method_find, &b->arena, out, &size);
}

static void same_bytes(bed *b, const char *one, const char *other)
{
    char *x, *y;
    size_t n, m;
    check_ok(lq_file_read(one, &b->arena, &x, &n));
    check_ok(lq_file_read(other, &b->arena, &y, &m));
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
}

/* ---- The layout --------------------------------------------------------------------------------- */

static const lq_tensor *has(const lq_safetensors *f, const char *suffix, lq_dtype dtype,
                            size_t rank, size_t rows, size_t cols)
{
    char name[ROOM];
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    const lq_tensor *t = lq_safetensors_find(f, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->rank, rank);
    assert_true(rank < 1 || t->shape[0] == rows);
    assert_true(rank < 2 || t->shape[1] == cols);
    return t;
}

static float scalar(const lq_safetensors *f, const char *suffix)
{
    float value;
    check_ok(lq_tensor_to_f32(has(f, suffix, LQ_DTYPE_BF16, 0, 0, 0), &value));
    return value;
}

static void every_byte_is_where_the_layout_has_it(void **state)
{
    (void)state;
    bed b;
    lq_safetensors f;
    bed_new(&b, "lcqat", NULL);
    check_ok(lq_official_write(&b.q, NULL, b.dir));
    check_ok(lq_safetensors_open(inside(&b, "model.safetensors"), &b.arena, &f));
    assert_int_equal(f.n_tensors, 6 + 7 * 5);
    assert_string_equal(lq_safetensors_metadata(&f, "format"), "pt");
    assert_null(lq_safetensors_find(&f, "lm_head.weight"));
    const lq_theta *th = &b.q.theta[LQ_UP];
    const float *u = lq_theta_f32(th, "u"), *sv = lq_theta_f32(th, "sv");
    const uint8_t *byte = has(&f, ".weight", LQ_DTYPE_U8, 2, F, D / 4)->data;
    for (size_t i = 0; i < F * D / 4; i++) {
        int want = 0;
        for (size_t j = 0; j < 4; j++)
            want = want << 2 | (int)u[4 * i + j];
        assert_int_equal(byte[i], want);
    }
    const uint8_t *half = has(&f, ".SV", LQ_DTYPE_BF16, 1, F, 0)->data;
    for (size_t i = 0; i < F; i++)
        assert_int_equal(half[2 * i] | half[2 * i + 1] << 8, lq_f32_to_bf16(sv[i]));
    assert_true(sv[3] == 0);
    has(&f, ".SU", LQ_DTYPE_BF16, 1, D, 0);
    assert_true(scalar(&f, ".code_generator.codebook_scale") == 0.89453125f);
    assert_true(scalar(&f, ".code_generator.codebook_zero_point") == -1.34375f);
    lq_safetensors_close(&f);
    bed_close(&b);
}

static void the_config_says_what_the_loader_asks(void **state)
{
    (void)state;
    bed b;
    lq_json *json;
    static const char base[] = "{\"model_type\": \"qwen3\", \"eos_token_id\": 7, \"vec_bit\": 9,\n"
                               " \"quip_params\": {}, \"attention_bias\": true}\n";
    bed_new(&b, "lcqat", NULL);
    check_ok(lq_file_write_all(inside(&b, "base.json"), base, strlen(base)));
    check_ok(lq_official_write(&b.q, inside(&b, "base.json"), b.dir));
    check_ok(lq_json_read(inside(&b, "config.json"), &json));
    assert_string_equal(lq_json_string(lq_json_get(json, "model_type")), "qwen3_lcqat_compression");
    assert_string_equal(lq_json_string(lq_json_get(json, "proj_type")), "hadamard_identical");
    assert_true(lq_json_number(lq_json_get(json, "vec_bit")) == 2);
    assert_true(lq_json_number(lq_json_get(json, "vec_size")) == 4);
    assert_true(lq_json_true(lq_json_get(json, "is_packed")));
    assert_true(lq_json_true(lq_json_get(json, "block_hadamard")));
    assert_non_null(lq_json_get(json, "mixed_percision"));
    assert_false(lq_json_true(lq_json_get(json, "mixed_percision")));
    assert_false(lq_json_true(lq_json_get(json, "attention_bias")));
    assert_true(lq_json_number(lq_json_get(json, "eos_token_id")) == 7); /* carried on */
    assert_null(lq_json_get(json, "quip_params"));
    const lq_json *shapes = lq_json_get(json, "original_shapes");
    assert_int_equal(lq_json_count(shapes), 7);
    const lq_json *down = lq_json_get(shapes, "model.layers.0.mlp.down_proj.weight");
    assert_true(lq_json_number(lq_json_at(down, 0)) == D);
    assert_true(lq_json_number(lq_json_at(down, 1)) == F);
    lq_json_free(json);
    bed_close(&b);
}

/* The released forward in plain double loops: y = SV had(C had(SU x)), blocks of 128. */
static void plain_had(double *x, size_t n)
{
    for (size_t at = 0; at < n; at += 128)
        for (size_t half = 1; half < 128; half *= 2)
            for (size_t i = at; i < at + 128; i++)
                if ((i - at) / half % 2 == 0) {
                    const double a = x[i], c = x[i + half];
                    x[i] = (a + c) / sqrt(2);
                    x[i + half] = (a - c) / sqrt(2);
                }
}

static void decoding_is_the_released_forward(void **state)
{
    (void)state;
    bed b;
    lq_qmodel back;
    lq_safetensors f;
    lq_rng rng = lq_rng_seed(3);
    double x[D], y[F];
    float su[D], sv[F], in[D];
    bed_new(&b, "lcqat", NULL);
    check_ok(lq_official_write(&b.q, NULL, b.dir));
    check_ok(read_dir(&b, b.dir, &back));
    check_ok(lq_safetensors_open(inside(&b, "model.safetensors"), &b.arena, &f));
    const uint8_t *byte = has(&f, ".weight", LQ_DTYPE_U8, 2, F, D / 4)->data;
    check_ok(lq_tensor_to_f32(has(&f, ".SU", LQ_DTYPE_BF16, 1, D, 0), su));
    check_ok(lq_tensor_to_f32(has(&f, ".SV", LQ_DTYPE_BF16, 1, F, 0), sv));
    const float step = scalar(&f, ".code_generator.codebook_scale");
    const float offset = scalar(&f, ".code_generator.codebook_zero_point");
    lq_fill_normal(in, D, &rng);
    for (size_t j = 0; j < D; j++)
        x[j] = (double)in[j] * (double)su[j];
    plain_had(x, D);
    for (size_t i = 0; i < F; i++) {
        y[i] = 0;
        for (size_t j = 0; j < D; j++) {
            const int q = byte[(i * D + j) / 4] >> (6 - 2 * (j % 4)) & 3;
            y[i] += ((double)step * q + (double)offset) * x[j];
        }
    }
    plain_had(y, F);
    for (size_t i = 0; i < F; i++) {
        double got = 0;
        for (size_t j = 0; j < D; j++)
            got += (double)back.w.layer[0][LQ_UP][i * D + j] * (double)in[j];
        check_close(got, y[i] * (double)sv[i], 1e-4, 1e-5);
    }
    lq_safetensors_close(&f);
    bed_close(&b);
}

static void round_trips_are_byte_identical(void **state)
{
    (void)state;
    static const char *const bits[] = {"bits=2", "bits=1.58"};
    for (size_t i = 0; i < 2; i++) {
        bed b;
        lq_qmodel ours, theirs;
        lq_packed_size size, their_size;
        bed_new(&b, "lcqat", bits[i]);
        check_ok(lq_artifact_write(&b.q, inside(&b, "ours")));
        check_ok(lq_artifact_read(inside(&b, "ours"), lq_method_find, &b.arena, &ours, &size));
        check_ok(lq_official_write(&ours, inside(&b, "ours/config.json"), inside(&b, "one")));
        assert_non_null(lq_official_file(inside(&b, "one"), &b.arena));
        assert_null(lq_official_file(inside(&b, "ours"), &b.arena));
        check_ok(
            lq_official_read(inside(&b, "one"), lq_method_find, &b.arena, &theirs, &their_size));
        assert_memory_equal(ours.w.flat, theirs.w.flat, ours.w.n * sizeof(float));
        assert_memory_equal(&size, &their_size, sizeof size);
        check_ok(lq_official_write(&theirs, inside(&b, "one/config.json"), inside(&b, "two")));
        same_bytes(&b, inside(&b, "one/model.safetensors"), inside(&b, "two/model.safetensors"));
        same_bytes(&b, inside(&b, "one/config.json"), inside(&b, "two/config.json"));
        check_ok(lq_artifact_write(&theirs, inside(&b, "again")));
        same_bytes(&b, inside(&b, "ours/packed.safetensors"),
                   inside(&b, "again/packed.safetensors"));
        bed_close(&b);
    }
}

/* ---- Other checkpoints, made from a packed one -------------------------------------------------- */

typedef struct checkpoint {
    lq_safetensors file;
    lq_tensor tensor[128];
    size_t n;
    const char *config;
} checkpoint;

static void open_copy(bed *b, checkpoint *k)
{
    char *text;
    size_t bytes;
    check_ok(lq_safetensors_open(inside(b, "model.safetensors"), &b->arena, &k->file));
    assert_true(k->file.n_tensors < 100);
    memcpy(k->tensor, k->file.tensor, k->file.n_tensors * sizeof *k->tensor);
    k->n = k->file.n_tensors;
    check_ok(lq_file_read(inside(b, "config.json"), &b->arena, &text, &bytes));
    k->config = text;
}

/* Replaces or adds; NULL data removes. */
static void put(bed *b, checkpoint *k, const char *name, lq_dtype dtype, size_t rank, size_t rows,
                size_t cols, const void *data)
{
    size_t i = 0;
    while (i < k->n && strcmp(k->tensor[i].name, name) != 0)
        i++;
    if (data == NULL) {
        assert_true(i < k->n);
        k->tensor[i] = k->tensor[--k->n];
        return;
    }
    k->n += i == k->n;
    k->tensor[i] = (lq_tensor){.name = lq_arena_printf(&b->arena, "%s", name),
                               .dtype = dtype,
                               .rank = rank,
                               .shape = {rows, cols},
                               .data = data};
}

static void save(bed *b, checkpoint *k)
{
    check_ok(lq_path_make_dirs(inside(b, "other")));
    check_ok(lq_safetensors_write(inside(b, "other/model.safetensors"), k->tensor, k->n, NULL, 0));
    check_ok(lq_file_write_all(inside(b, "other/config.json"), k->config, strlen(k->config)));
}

/* The same codes as proxies, off by what rounding must swallow. */
static void a_trainable_checkpoint_is_read(void **state)
{
    (void)state;
    bed b;
    checkpoint k;
    lq_qmodel packed, trainable;
    lq_rng rng = lq_rng_seed(8);
    bed_new(&b, "lcqat", NULL);
    check_ok(lq_official_write(&b.q, NULL, b.dir));
    check_ok(read_dir(&b, b.dir, &packed));
    open_copy(&b, &k);
    for (size_t i = 0; i < packed.n_theta; i++) {
        const lq_weight *w = lq_qmodel_weight(&packed, i);
        const float *u = lq_theta_f32(&packed.theta[i], "u");
        float *proxy = lq_arena_f32(&b.arena, w->rows * w->cols);
        const double kappa = sqrt((double)(w->rows + w->cols)) / 2;
        for (size_t j = 0; j < w->rows * w->cols; j++)
            proxy[j] = (float)(((double)u[j] - 1.5 + 0.8 * (lq_rng_uniform(&rng) - 0.5)) / kappa);
        put(&b, &k, w->name, LQ_DTYPE_F32, 2, w->rows, w->cols, proxy);
    }
    save(&b, &k);
    check_ok(read_dir(&b, inside(&b, "other"), &trainable));
    assert_memory_equal(packed.w.flat, trainable.w.flat, packed.w.n * sizeof(float));
    check_ok(lq_official_write(&trainable, inside(&b, "config.json"), inside(&b, "two")));
    same_bytes(&b, inside(&b, "model.safetensors"), inside(&b, "two/model.safetensors"));
    lq_safetensors_close(&k.file);
    bed_close(&b);
}

static void a_ptq_checkpoint_is_read(void **state)
{
    (void)state;
    bed b;
    checkpoint k;
    lq_qmodel packed, ptq;
    static const int32_t id = 3;
    float *A = NULL, *B = NULL, *scale = NULL;
    bed_new(&b, "lcqat", NULL);
    check_ok(lq_official_write(&b.q, NULL, b.dir));
    check_ok(read_dir(&b, b.dir, &packed));
    open_copy(&b, &k);
    check_ok(lq_arena_new(&b.arena, &A, 16));
    check_ok(lq_arena_new(&b.arena, &B, 4));
    check_ok(lq_arena_new(&b.arena, &scale, 1));
    *scale = 2;
    for (size_t i = 0; i < 4; i++) {
        A[5 * i] = 0.89453125f;
        B[i] = -1.34375f;
    }
    for (size_t i = 0; i < packed.n_theta; i++) {
        const lq_weight *w = lq_qmodel_weight(&packed, i);
        const lq_tensor *codes = lq_safetensors_find(&k.file, w->name);
        float *sv = lq_theta_f32(&packed.theta[i], "sv");
        float *half = lq_arena_f32(&b.arena, w->rows);
        for (size_t j = 0; j < w->rows; j++)
            half[j] = sv[j] / 2;
        put(&b, &k, w->name, 0, 0, 0, 0, NULL);
        put(&b, &k, lq_official_name(w, ".code_generator.codebook_scale", &b.arena), 0, 0, 0, 0,
            NULL);
        put(&b, &k, lq_official_name(w, ".code_generator.codebook_zero_point", &b.arena), 0, 0, 0,
            0, NULL);
        put(&b, &k, lq_official_name(w, ".Qidxs", &b.arena), LQ_DTYPE_U8, 2, w->rows, w->cols / 4,
            codes->data);
        put(&b, &k, lq_official_name(w, ".SV", &b.arena), LQ_DTYPE_F32, 1, w->rows, 0, half);
        put(&b, &k, lq_official_name(w, ".Wscale", &b.arena), LQ_DTYPE_F32, 0, 0, 0, scale);
        put(&b, &k, lq_official_name(w, ".codebook_id", &b.arena), LQ_DTYPE_I32, 0, 0, 0, &id);
        put(&b, &k, lq_official_name(w, ".codebook_class.codebook.linear_proj_weight", &b.arena),
            LQ_DTYPE_F32, 2, 4, 4, A);
        put(&b, &k, lq_official_name(w, ".codebook_class.codebook.linear_proj_bias", &b.arena),
            LQ_DTYPE_F32, 1, 4, 0, B);
    }
    k.config = "{\"model_type\": \"qwen3\", \"hidden_size\": 128, \"intermediate_size\": 256,"
               " \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
               " \"head_dim\": 128, \"vocab_size\": 40, \"rms_norm_eps\": 1e-6,"
               " \"quip_params\": {\"codebook_bit\": 2, \"blockwise_hadamard\": true}}";
    save(&b, &k);
    check_ok(read_dir(&b, inside(&b, "other"), &ptq));
    assert_memory_equal(packed.w.flat, ptq.w.flat, packed.w.n * sizeof(float));
    A[1] = 0.01f; /* no multiple of the identity any more */
    save(&b, &k);
    assert_int_equal(read_dir(&b, inside(&b, "other"), &ptq), LQ_E_OPTION);
    lq_safetensors_close(&k.file);
    bed_close(&b);
}

/* ---- An independent implementation's model ------------------------------------------------------ */

/* Golden case i4: weights and logits of the released layers, written by PyTorch. As a trainable
 * checkpoint it must be read to the same logits. */
static void golden_checkpoint_gives_its_logits(void **state)
{
    (void)state;
    enum { TOKENS = 24, V = 97 };
    const char *shared = getenv("LQ_SHARED");
    bed b = {.dir = "/tmp/lcqat-test-XXXXXX"};
    checkpoint k = {.config =
                        "{\"model_type\": \"qwen3_lcqat\", \"hidden_size\": 128,"
                        " \"intermediate_size\": 128, \"num_hidden_layers\": 2,"
                        " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 64,"
                        " \"vocab_size\": 97, \"rms_norm_eps\": 1e-6, \"rope_theta\": 1e6,"
                        " \"vec_bit\": 2, \"proj_type\": \"hadamard_identical\"}"};
    static const float scale = 0.89453125f, zero = -1.34375f;
    const char *path = lq_arena_printf(&b.arena, "%s/golden/i_lcqat_official.safetensors",
                                       shared != NULL ? shared : "../shared");
    if (!lq_path_exists(path)) {
        lq_arena_close(&b.arena);
        skip();
    }
    assert_non_null(mkdtemp(b.dir));
    check_ok(lq_safetensors_open(path, &b.arena, &k.file));
    for (size_t i = 0; i < k.file.n_tensors; i++) {
        const lq_tensor *t = &k.file.tensor[i];
        const size_t n = strlen(t->name);
        if (strncmp(t->name, "model.", 6) != 0)
            continue;
        k.tensor[k.n++] = *t;
        if (n < 12 || strcmp(t->name + n - 8, "_proj.SU") != 0)
            continue;
        const char *name =
            lq_arena_printf(&b.arena, "%.*s.code_generator.codebook_", (int)n - 3, t->name);
        put(&b, &k, lq_arena_printf(&b.arena, "%sscale", name), LQ_DTYPE_F32, 0, 0, 0, &scale);
        put(&b, &k, lq_arena_printf(&b.arena, "%szero_point", name), LQ_DTYPE_F32, 0, 0, 0, &zero);
    }
    save(&b, &k);
    lq_qmodel q;
    lq_lane *lane;
    float ids[2 * TOKENS], want[TOKENS * V], got[TOKENS * V];
    uint32_t token[2 * TOKENS];
    check_ok(read_dir(&b, inside(&b, "other"), &q));
    check_ok(lq_tensor_to_f32(lq_safetensors_find(&k.file, "ids"), ids));
    for (size_t i = 0; i < 2 * TOKENS; i++)
        token[i] = (uint32_t)ids[i];
    check_ok(lq_lane_new(&q.w.config, 2, TOKENS, LQ_KEEP_NOTHING, &b.arena, &lane));
    lq_forward(&q.w, lane, token, 2);
    lq_logits(&q.w, lane, TOKENS, TOKENS, got); /* of the second sequence */
    const lq_tensor *logits = lq_safetensors_find(&k.file, "logits");
    assert_int_equal(logits->bytes, 2 * sizeof want);
    memcpy(want, (const uint8_t *)logits->data + sizeof want, sizeof want);
    assert_true(lq_worst(got, want, TOKENS * V) < 2e-3);
    lq_safetensors_close(&k.file);
    bed_close(&b);
}

/* ---- Refusals ----------------------------------------------------------------------------------- */

static void what_the_layout_cannot_hold_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *method, *set, *why;
        lq_arch arch;
        bool tied;
        size_t F;
        bool biases;
    } list[] = {{"gptq", NULL, "gptq has other parameters", LQ_ARCH_QWEN3, true, F, false},
                {"lcqat", "bits=3", "not 3 bits", LQ_ARCH_QWEN3, true, F, false},
                {"lcqat", "hadamard_cap=64", "hadamard_cap=128", LQ_ARCH_QWEN3, true, F, false},
                {"lcqat", NULL, "a head of its own", LQ_ARCH_QWEN3, false, F, false},
                {"lcqat", NULL, "which a llama model does not do", LQ_ARCH_LLAMA, true, F, false},
                {"lcqat", NULL, "must be multiples", LQ_ARCH_QWEN3, true, 192, false},
                {"lcqat", NULL, "has no biases", LQ_ARCH_QWEN3, true, F, true}};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        bed b = {.dir = "/tmp/lcqat-test-XXXXXX"};
        lq_config c = shape();
        assert_non_null(mkdtemp(b.dir));
        c.arch = list[i].arch;
        c.qk_norm = c.arch == LQ_ARCH_QWEN3;
        c.tied = list[i].tied;
        c.F = list[i].F;
        c.qkv_bias = c.o_bias = list[i].biases;
        quantize(&b, &c, list[i].method, list[i].set);
        assert_int_equal(lq_official_write(&b.q, NULL, inside(&b, "no")), LQ_E_OPTION);
        if (strstr(lq_status_note(), list[i].why) == NULL)
            fail_msg("%zu: '%s' does not say '%s'", i, lq_status_note(), list[i].why);
        assert_false(lq_path_exists(inside(&b, "no")));
        bed_close(&b);
    }
}

/* Each spoils one thing of a sound checkpoint; no bytes: the tensor is missing. */
#define UP "model.layers.0.mlp.up_proj"
static const float one = 1, nan_value = NAN;
static const uint8_t zeros[F * D];
static const struct spoilt {
    const char *name;
    lq_dtype dtype;
    size_t rank, rows, cols;
    const void *data;
    lq_status want;
} spoilt[] = {
    {"lm_head.weight", LQ_DTYPE_BF16, 2, 40, D, zeros, LQ_E_OPTION},
    {UP ".bias", LQ_DTYPE_U8, 1, F, 0, zeros, LQ_E_FORMAT},
    {UP ".SV", 0, 0, 0, 0, NULL, LQ_E_MISSING},
    {UP ".SU", LQ_DTYPE_BF16, 1, D - 1, 0, zeros, LQ_E_SHAPE},
    {UP ".code_generator.codebook_scale", LQ_DTYPE_F32, 0, 0, 0, &nan_value, LQ_E_FORMAT},
    {UP ".weight", LQ_DTYPE_U8, 2, F, D / 4 - 1, zeros, LQ_E_SHAPE},
    /* five trits a byte where the config promises two bits */
    {UP ".weight", LQ_DTYPE_U8, 2, F, (D + 4) / 5, zeros, LQ_E_SHAPE},
    {UP ".code_generator.max_var", LQ_DTYPE_F32, 0, 0, 0, &one, LQ_E_OPTION},
    {UP ".weight", 0, 0, 0, 0, NULL, LQ_E_MISSING},
    {"model.norm.weight", LQ_DTYPE_U8, 1, 0, 0, zeros, LQ_E_SHAPE},
};

static lq_status read_with(bed *b, const struct spoilt *s)
{
    checkpoint k = {.n = 0};
    lq_qmodel q;
    open_copy(b, &k);
    put(b, &k, s->name, s->dtype, s->rank, s->rows, s->cols, s->data);
    save(b, &k);
    const lq_status status = read_dir(b, inside(b, "other"), &q);
    lq_safetensors_close(&k.file);
    return status;
}

static void spoilt_files_are_refused(void **state)
{
    (void)state;
    bed b;
    lq_safetensors f;
    bed_new(&b, "lcqat", NULL);
    check_ok(lq_official_write(&b.q, NULL, b.dir));
    check_ok(lq_safetensors_open(inside(&b, "model.safetensors"), &b.arena, &f));
    const lq_tensor *embed = lq_safetensors_find(&f, "model.embed_tokens.weight");
    const struct spoilt copy = {"lm_head.weight", embed->dtype, 2, 40, D, embed->data, LQ_OK};
    check_ok(read_with(&b, &copy)); /* the head is the embedding once more: fine */
    for (size_t i = 0; i < sizeof spoilt / sizeof spoilt[0]; i++) {
        const lq_status got = read_with(&b, &spoilt[i]);
        if (got != spoilt[i].want)
            fail_msg("%zu: %s, want %s: %s", i, lq_status_name(got), lq_status_name(spoilt[i].want),
                     lq_status_note());
    }
    lq_safetensors_close(&f);
    bed_close(&b);
}

static void other_variants_are_refused_by_key(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *why;
    } list[] = {{"\"hadamard_identical\"", "\"hadamard_linear\"", "proj_type"},
                {"\"block_hadamard\": true", "\"block_hadamard\": false", "block_hadamard"},
                {"\"qwen3_lcqat_compression\"", "\"llama_lcqat_compression\"", "model_type"},
                {"\"vec_bit\": 2", "\"vec_bit\": 4", "4 bits"},
                {"\"vec_bit\": 2", "\"vec_bit\": 1.5", "3 levels"},
                {"\"hidden_size\": 128", "\"hidden_size\": 256", "up_proj"}};
    bed b;
    lq_qmodel q;
    checkpoint k = {.n = 0};
    bed_new(&b, "lcqat", NULL);
    check_ok(lq_official_write(&b.q, NULL, b.dir));
    open_copy(&b, &k);
    const char *sound = k.config;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const char *found = strstr(sound, list[i].from);
        assert_non_null(found);
        k.config = lq_arena_printf(&b.arena, "%.*s%s%s", (int)(found - sound), sound, list[i].to,
                                   found + strlen(list[i].from));
        save(&b, &k);
        assert_int_not_equal(read_dir(&b, inside(&b, "other"), &q), LQ_OK);
        if (i < 5 && strstr(lq_status_note(), list[i].why) == NULL)
            fail_msg("%zu: '%s' does not say '%s'", i, lq_status_note(), list[i].why);
    }
    assert_int_equal(truncate(inside(&b, "other/model.safetensors"), 5000), 0);
    assert_null(lq_official_file(inside(&b, "other"), &b.arena));
    assert_int_equal(read_dir(&b, inside(&b, "nowhere"), &q), LQ_E_MISSING);
    lq_safetensors_close(&k.file);
    bed_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_where_the_layout_has_it),
        cmocka_unit_test(the_config_says_what_the_loader_asks),
        cmocka_unit_test(decoding_is_the_released_forward),
        cmocka_unit_test(round_trips_are_byte_identical),
        cmocka_unit_test(a_trainable_checkpoint_is_read),
        cmocka_unit_test(a_ptq_checkpoint_is_read),
        cmocka_unit_test(golden_checkpoint_gives_its_logits),
        cmocka_unit_test(what_the_layout_cannot_hold_is_refused),
        cmocka_unit_test(spoilt_files_are_refused),
        cmocka_unit_test(other_variants_are_refused_by_key),
    };
    return cmocka_run_group_tests_name("official", tests, NULL, NULL);
}
