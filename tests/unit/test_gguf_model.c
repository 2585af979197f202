/* Models in GGUF files that the test writes itself: names, order of rotary rows, scaling, and what is refused
 * in the metadata. Files that others wrote are read in test_load.c. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/data/gguf.h"
#include "core/model/weights.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROOM = 1 << 16, U32 = 4, F32 = 6, STRING = 8 };

typedef struct maker {
    uint8_t at[ROOM];
    size_t n;
} maker;

static char path[64];
static lq_arena arena;
static maker m;

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, P_tmpdir "/lcqat-test-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return unlink(path);
}

static void raw(const void *data, size_t n)
{
    assert_true(m.n + n <= ROOM);
    memcpy(m.at + m.n, data, n);
    m.n += n;
}
static void u32(uint32_t x) { raw(&x, 4); }
static void u64(uint64_t x) { raw(&x, 8); }
static void string(const char *text)
{
    u64(strlen(text));
    raw(text, strlen(text));
}
static void pad(void)
{
    while (m.n % 32 != 0)
        raw("", 1);
}

/* ---- A model, written -------------------------------------------------------------------------- */

typedef struct extra { /* a value or a tensor more, or in the place of the one of that name */
    const char *key;   /* after "<arch>." when it begins with a point */
    int type;
    double number;
    const char *text;
} extra;
typedef struct plan {
    extra value[4];
    const char *drop;        /* the name of a tensor that is left out */
    const char *more;        /* of a tensor (1) that is put in */
    const float *rope_freqs; /* (dh/2), or NULL */
} plan;

static lq_config shape(lq_arch arch)
{
    lq_config c = {.arch = arch, .D = 12, .F = 20, .L = 2, .H = 4, .Hkv = 2, .dh = 8, .V = 17};
    c.eps = 0x1p-17;
    c.rope_theta = 5e5;
    c.max_positions = 64;
    c.tied = arch == LQ_ARCH_QWEN3;
    c.qk_norm = arch == LQ_ARCH_QWEN3;
    c.qkv_bias = arch == LQ_ARCH_QWEN2;
    return c;
}

/* The name that llama.cpp's converter gives. */
static const char *their_name(const char *ours)
{
    static const char *const list[][2] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                          {"model.norm.weight", "output_norm.weight"},
                                          {"lm_head.weight", "output.weight"},
                                          {"input_layernorm", "attn_norm"},
                                          {"post_attention_layernorm", "ffn_norm"},
                                          {"self_attn.q_proj", "attn_q"},
                                          {"self_attn.k_proj", "attn_k"},
                                          {"self_attn.v_proj", "attn_v"},
                                          {"self_attn.o_proj", "attn_output"},
                                          {"self_attn.q_norm", "attn_q_norm"},
                                          {"self_attn.k_norm", "attn_k_norm"},
                                          {"mlp.gate_proj", "ffn_gate"},
                                          {"mlp.up_proj", "ffn_up"},
                                          {"mlp.down_proj", "ffn_down"}};
    static const char layers[] = "model.layers.";
    const bool of_layer = strncmp(ours, layers, strlen(layers)) == 0;
    const char *rest = of_layer ? ours + strlen(layers) + 2 : ours;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const size_t n = strlen(list[i][0]);
        if (strncmp(rest, list[i][0], n) != 0)
            continue;
        return of_layer ? lq_arena_printf(&arena, "blk.%c.%s%s", ours[strlen(layers)], list[i][1],
                                          rest + n)
                        : list[i][1];
    }
    fail_msg("no name for %s", ours);
    return NULL;
}

static void put_value(const char *arch, const extra *v)
{
    string(v->key[0] == '.' ? lq_arena_printf(&arena, "%s%s", arch, v->key) : v->key);
    u32((uint32_t)v->type);
    const float f = (float)v->number;
    if (v->type == STRING)
        string(v->text);
    else if (v->type == F32)
        raw(&f, 4);
    else
        u32((uint32_t)v->number);
}

/* The metadata of the model; a value of the plan stands for the one of its key. */
static size_t put_values(const lq_config *c, const plan *p)
{
    const extra plain[] = {{"general.architecture", STRING, 0, lq_arch_name(c->arch)},
                           {".block_count", U32, (double)c->L, NULL},
                           {".context_length", U32, (double)c->max_positions, NULL},
                           {".embedding_length", U32, (double)c->D, NULL},
                           {".feed_forward_length", U32, (double)c->F, NULL},
                           {".attention.head_count", U32, (double)c->H, NULL},
                           {".attention.head_count_kv", U32, (double)c->Hkv, NULL},
                           {".attention.key_length", U32, (double)c->dh, NULL},
                           {".attention.value_length", U32, (double)c->dh, NULL},
                           {".rope.dimension_count", U32, (double)c->dh, NULL},
                           {".rope.freq_base", F32, c->rope_theta, NULL},
                           {".attention.layer_norm_rms_epsilon", F32, c->eps, NULL},
                           {"tokenizer.ggml.eos_token_id", U32, 2, NULL}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        bool replaced = false;
        for (size_t k = 0; k < 4 && p->value[k].key != NULL; k++)
            replaced = replaced || strcmp(p->value[k].key, plain[i].key) == 0;
        if (!replaced) {
            put_value(lq_arch_name(c->arch), &plain[i]);
            n++;
        }
    }
    for (size_t k = 0; k < 4 && p->value[k].key != NULL; k++, n++)
        put_value(lq_arch_name(c->arch), &p->value[k]);
    return n;
}

typedef struct tensor {
    const char *name;
    size_t rows, cols;
    const float *data;
    bool pairs; /* rows of heads of dh, written as adjacent rotary pairs */
} tensor;

static void put_info(const tensor *t, size_t *offset)
{
    string(t->name);
    u32(t->rows > 1 ? 2 : 1);
    u64(t->cols);
    if (t->rows > 1)
        u64(t->rows);
    u32(0);
    u64(*offset);
    *offset += (4 * t->rows * t->cols + 31) / 32 * 32;
}

static void put_data(const tensor *t)
{
    /* llama.cpp's converter on a head of 8 rows: "stored order is 0 4 1 5 2 6 3 7". */
    static const size_t order[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    for (size_t i = 0; t->pairs && t->rows == 1 && i < t->cols; i++) /* a bias */
        raw(t->data + i / 8 * 8 + order[i % 8], 4);
    for (size_t r = 0; !(t->pairs && t->rows == 1) && r < t->rows; r++)
        raw(t->data + (t->pairs ? r / 8 * 8 + order[r % 8] : r) * t->cols, 4 * t->cols);
    pad();
}

static void write_model(const lq_weights *w, const plan *p)
{
    const float one = 1;
    tensor list[64];
    size_t n = 0, offset = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        const bool q_or_k =
            t->kind == LQ_WEIGHT_LINEAR
                ? t->id == LQ_Q || t->id == LQ_K
                : t->kind == LQ_WEIGHT_BIAS && (t->id == LQ_Q_BIAS || t->id == LQ_K_BIAS);
        const bool pairs = w->config.arch == LQ_ARCH_LLAMA && q_or_k;
        list[n] = (tensor){their_name(t->name), t->rows, t->cols, t->data, pairs};
        n += p->drop == NULL || strcmp(p->drop, list[n].name) != 0;
    }
    if (p->rope_freqs != NULL)
        list[n++] = (tensor){"rope_freqs.weight", 1, w->config.dh / 2, p->rope_freqs, false};
    if (p->more != NULL)
        list[n++] = (tensor){p->more, 1, 1, &one, false};
    m.n = 0;
    raw("GGUF", 4);
    u32(3);
    u64(n);
    u64(0);
    const uint64_t values = put_values(&w->config, p);
    memcpy(m.at + 16, &values, 8);
    for (size_t i = 0; i < n; i++)
        put_info(&list[i], &offset);
    pad();
    for (size_t i = 0; i < n; i++)
        put_data(&list[i]);
    unlink(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(m.at, 1, m.n, f), m.n);
    assert_int_equal(fclose(f), 0);
}

static lq_weights random_weights(lq_config c)
{
    lq_weights w;
    lq_rng rng = lq_rng_seed(3);
    check_ok(lq_weights_new(&c, &arena, &w));
    lq_fill_normal(w.flat, w.n, &rng);
    return w;
}

static lq_weights random_model(lq_arch arch) { return random_weights(shape(arch)); }

/* ---- Tests ------------------------------------------------------------------------------------- */

static void every_family_comes_back(void **state)
{
    (void)state;
    static const lq_arch archs[] = {LQ_ARCH_LLAMA, LQ_ARCH_QWEN2, LQ_ARCH_QWEN3};
    for (size_t i = 0; i < 3; i++) {
        const lq_weights w = random_model(archs[i]);
        lq_weights back;
        write_model(&w, &(plan){0});
        check_ok(lq_weights_load_gguf(path, &arena, &back));
        const lq_config *c = &w.config, *b = &back.config;
        assert_true(b->arch == c->arch && b->D == c->D && b->F == c->F && b->L == c->L &&
                    b->H == c->H && b->Hkv == c->Hkv && b->dh == c->dh && b->V == c->V);
        assert_true(b->eps == c->eps && b->rope_theta == c->rope_theta && b->tied == c->tied &&
                    b->qk_norm == c->qk_norm && b->qkv_bias == c->qkv_bias &&
                    b->max_positions == c->max_positions && b->rope.kind == LQ_ROPE_PLAIN);
        assert_int_equal(back.n, w.n);
        assert_memory_equal(back.flat, w.flat, w.n * sizeof(float));
        lq_json *json =
            lq_config_to_json(b); /* what the file says of its end goes into an export */
        assert_true(lq_json_number(lq_json_get(json, "eos_token_id")) == 2);
        lq_json_free(json);
    }
}

/* No key tells of biases, their tensors do; those of q and k are in the order of rotary pairs, too. */
static void biases_come_back(void **state)
{
    (void)state;
    static const lq_arch archs[] = {LQ_ARCH_LLAMA, LQ_ARCH_LLAMA, LQ_ARCH_QWEN3};
    for (size_t i = 0; i < 3; i++) {
        lq_config c = shape(archs[i]);
        c.qkv_bias = c.o_bias = i != 1;
        c.mlp_bias = i == 1;
        const lq_weights w = random_weights(c);
        lq_weights back;
        write_model(&w, &(plan){0});
        check_ok(lq_weights_load_gguf(path, &arena, &back));
        assert_true(back.config.qkv_bias == c.qkv_bias && back.config.o_bias == c.o_bias &&
                    back.config.mlp_bias == c.mlp_bias);
        assert_int_equal(back.n, w.n);
        assert_memory_equal(back.flat, w.flat, w.n * sizeof(float));
        write_model(&w, &(plan){.drop = i == 1 ? "blk.1.ffn_up.bias" : "blk.0.attn_output.bias"});
        assert_int_equal(lq_weights_load_gguf(path, &arena, &back), LQ_E_MISSING);
    }
}

/* What lies beside a packed model: all values, byte for byte, and no tensor. */
static void values_are_written_alone(void **state)
{
    (void)state;
    lq_gguf f, again;
    const lq_weights w = random_model(LQ_ARCH_LLAMA);
    write_model(&w, &(plan){0});
    check_ok(lq_gguf_open(path, &arena, &f));
    const char *alone = lq_arena_printf(&arena, "%s.alone", path);
    check_ok(lq_gguf_write_values(&f, alone));
    check_ok(lq_gguf_open(alone, &arena, &again));
    assert_true(f.n_tensors > 0 && again.n_tensors == 0);
    assert_true(f.n_values > 0 && again.n_values == f.n_values && again.version == f.version);
    const size_t bytes = f.values_end - f.values_at;
    assert_int_equal(again.map.bytes, 24 + bytes);
    assert_memory_equal(again.map.data + 24, f.map.data + f.values_at, bytes);
    lq_gguf_close(&again);
    lq_gguf_close(&f);
    assert_int_equal(unlink(alone), 0);
}

/* The checker of order: the same rows are another model when the file says llama. Its values are those of
 * test_load.c's f32 file, where the logits decide; here one row is followed. */
static void rows_in_pairs_move_and_others_do_not(void **state)
{
    (void)state;
    static const lq_arch archs[] = {LQ_ARCH_LLAMA, LQ_ARCH_QWEN3};
    for (size_t i = 0; i < 2; i++) {
        const lq_weights w = random_model(archs[i]);
        lq_weights back;
        const size_t bytes = 12 * sizeof(float);
        write_model(&w, &(plan){0});
        const float *row =
            w.layer[1][LQ_K] + (8 + 4) * 12; /* row 4 of head 1: stored as its second */
        size_t at = 0;
        while (at + bytes < m.n && memcmp(m.at + at, row, bytes) != 0)
            at += 4;
        size_t head = 0; /* where head 1 begins: its row 0 stays first */
        while (head + bytes < m.n && memcmp(m.at + head, w.layer[1][LQ_K] + 8 * 12, bytes) != 0)
            head += 4;
        assert_int_equal(at - head, bytes * (archs[i] == LQ_ARCH_LLAMA ? 1 : 4));
        check_ok(lq_weights_load_gguf(path, &arena, &back));
        assert_memory_equal(back.layer[1][LQ_K] + (8 + 4) * 12, row, bytes);
    }
}

static void scaling_is_read(void **state)
{
    (void)state;
    const lq_weights w = random_model(LQ_ARCH_LLAMA);
    const lq_rope_scaling plain = {.kind = LQ_ROPE_PLAIN}, llama3 = {.kind = LQ_ROPE_LLAMA3,
                                                                     .factor = 32,
                                                                     .low = 1,
                                                                     .high = 4,
                                                                     .original = 8192};
    lq_weights back;
    float divisor[4];
    write_model(&w, &(plan){.value = {{".rope.scaling.type", STRING, 0, "linear"},
                                      {".rope.scaling.factor", F32, 4, NULL}}});
    check_ok(lq_weights_load_gguf(path, &arena, &back));
    assert_true(back.config.rope.kind == LQ_ROPE_LINEAR && back.config.rope.factor == 4);
    write_model(&w, &(plan){.value = {{".rope.scale_linear", F32, 2, NULL}}});
    check_ok(lq_weights_load_gguf(path, &arena, &back));
    assert_true(back.config.rope.kind == LQ_ROPE_LINEAR && back.config.rope.factor == 2);
    write_model(&w, &(plan){.value = {{".rope.scaling.type", STRING, 0, "none"}}});
    check_ok(lq_weights_load_gguf(path, &arena, &back));
    assert_int_equal(back.config.rope.kind, LQ_ROPE_PLAIN);
    for (size_t i = 0; i < 4; i++)
        divisor[i] = lq_rope_frequency(5e5, &plain, 8, i) / lq_rope_frequency(5e5, &llama3, 8, i);
    write_model(&w, &(plan){.rope_freqs = divisor});
    check_ok(lq_weights_load_gguf(path, &arena, &back));
    for (size_t i = 0; i < 4; i++)
        check_close((double)lq_rope_frequency(5e5, &back.config.rope, 8, i),
                    (double)lq_rope_frequency(5e5, &llama3, 8, i), 2e-5, 0);
    divisor[1] = 7;
    write_model(&w, &(plan){.rope_freqs = divisor});
    assert_int_equal(lq_weights_load_gguf(path, &arena, &back), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), path));
}

static void what_is_not_computed_is_refused(void **state)
{
    (void)state;
    static const struct {
        plan plan;
        lq_status status;
        const char *words;
    } bad[] = {
        {{.value = {{".attention.sliding_window", U32, 4096, NULL}}},
         LQ_E_FORMAT,
         "sliding_window is 4096"},
        {{.value = {{".expert_count", U32, 8, NULL}}}, LQ_E_FORMAT, "expert_count is 8"},
        {{.value = {{".rope.dimension_count", U32, 4, NULL}}}, LQ_E_FORMAT, "dimension_count is 4"},
        {{.value = {{".attention.value_length", U32, 4, NULL}}}, LQ_E_FORMAT, "value_length is 4"},
        {{.value = {{".logit_scale", F32, 2, NULL}}}, LQ_E_FORMAT, "llama.logit_scale is unknown"},
        {{.value = {{".rope.scaling.type", STRING, 0, "yarn"}}},
         LQ_E_FORMAT,
         "'yarn' is not computed"},
        {{.value = {{"general.architecture", STRING, 0, "gemma2"}}},
         LQ_E_FORMAT,
         "'gemma2' is not computed"},
        {{.value = {{"general.type", STRING, 0, "adapter"}}}, LQ_E_FORMAT, "not model"},
        {{.value = {{"split.count", U32, 3, NULL}}}, LQ_E_UNAVAILABLE, "one of 3 parts"},
        {{.value = {{".block_count", U32, 3, NULL}}},
         LQ_E_MISSING,
         "blk.2.attn_q.weight is missing"},
        {{.value = {{".block_count", U32, 1, NULL}}},
         LQ_E_FORMAT,
         "blk.1.attn_q.weight does not belong"},
        {{.value = {{".block_count", U32, 0, NULL}}}, LQ_E_FORMAT, "block_count is 0"},
        {{.value = {{".block_count", STRING, 0, "2"}}}, LQ_E_FORMAT, "is no whole number"},
        {{.value = {{".embedding_length", U32, 1 << 24, NULL}}},
         LQ_E_SHAPE,
         "token_embd.weight holds"},
        {{.value = {{".attention.head_count", U32, 65536, NULL}}},
         LQ_E_SHAPE,
         "attn_q.weight holds"},
        {{.value = {{".attention.head_count", U32, 5, NULL}}}, LQ_E_FORMAT, "do not fit"},
        {{.value = {{".attention.head_count_kv", U32, 3, NULL}}}, LQ_E_FORMAT, "do not fit"},
        {{.value = {{".attention.key_length", U32, 7, NULL}}}, LQ_E_FORMAT, "do not fit"},
        {{.value = {{".attention.layer_norm_rms_epsilon", F32, 2, NULL}}},
         LQ_E_FORMAT,
         "epsilon is 2"},
        {{.value = {{".vocab_size", U32, 18, NULL}}}, LQ_E_SHAPE, "holds 17 rows of 12, not 18"},
        {{.drop = "blk.1.ffn_norm.weight"}, LQ_E_MISSING, "blk.1.ffn_norm.weight is missing"},
        {{.drop = "token_embd.weight"}, LQ_E_MISSING, "token_embd.weight is missing"},
        {{.more = "blk.0.attn_q.bias"},
         LQ_E_SHAPE,
         "blk.0.attn_q.bias holds 1 rows of 1, not 1 of 32"},
        {{.more = "blk.0.attn_v.bias"},
         LQ_E_FORMAT,
         "blk.0.attn_v.bias does not belong to a llama"},
        {{.more = "rope_freqs.weight"}, LQ_E_SHAPE, "rope_freqs.weight does not hold 4"},
    };
    const lq_weights w = random_model(LQ_ARCH_LLAMA);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        lq_weights back;
        write_model(&w, &bad[i].plan);
        const lq_status got = lq_weights_load_gguf(path, &arena, &back);
        if (got != bad[i].status || strstr(lq_status_note(), bad[i].words) == NULL ||
            strstr(lq_status_note(), path) == NULL)
            fail_msg("%zu: %s \"%s\", not %s \"%s\"", i, lq_status_name(got),
                     got ? lq_status_note() : "", lq_status_name(bad[i].status), bad[i].words);
    }
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_path, remove_path)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(every_family_comes_back),  WITH_FILE(biases_come_back),
        WITH_FILE(values_are_written_alone), WITH_FILE(rows_in_pairs_move_and_others_do_not),
        WITH_FILE(scaling_is_read),          WITH_FILE(what_is_not_computed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
