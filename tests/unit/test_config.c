/* config.json: what is read, what is refused by name, what is let through; rotary frequencies. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/model/config.h"
#include "core/model/weights.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];
static lq_arena arena;

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

/* A sound config of `type` with more members, which begin with a comma. */
static lq_status read_with(const char *type, const char *more, lq_config *out)
{
    const char *text = lq_arena_printf(
        &arena,
        "{\"model_type\": \"%s\", \"hidden_size\": 64, \"intermediate_size\": 96,"
        "\"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
        "\"vocab_size\": 50%s}",
        type, more);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    return lq_config_read(path, &arena, out);
}

static lq_config taken(const char *type, const char *more)
{
    lq_config c;
    const lq_status status = read_with(type, more, &c);
    if (status != LQ_OK)
        fail_msg("%s%s: %s", type, more, lq_status_note());
    return c;
}

static void refused(const char *type, const char *more, const char *words)
{
    lq_config c;
    const lq_status status = read_with(type, more, &c);
    if ((status != LQ_E_FORMAT && status != LQ_E_OPTION) || !strstr(lq_status_note(), words) ||
        !strstr(lq_status_note(), path) || strchr(lq_status_note(), '\n'))
        fail_msg("%s%s: %s \"%s\", not \"%s\"", type, more, lq_status_name(status),
                 status ? lq_status_note() : "", words);
}

static void defaults_are_those_of_the_classes(void **state)
{
    (void)state;
    lq_config c = taken("llama", "");
    assert_true(c.dh == 16 && c.Hkv == 2 && !c.tied && !c.qk_norm && !c.qkv_bias);
    assert_true(c.rope_theta == 10000 && c.eps == 1e-6 && c.max_positions == 2048);
    assert_int_equal(c.rope.kind, LQ_ROPE_PLAIN);
    c = taken("qwen3", "");
    assert_true(c.dh == 128 && c.qk_norm && !c.qkv_bias); /* 128, not hidden / heads */
    c = taken("qwen3", ", \"head_dim\": 32");
    assert_int_equal(c.dh, 32);
    c = taken("qwen2", ", \"tie_word_embeddings\": true, \"attention_bias\": true");
    assert_true(c.qkv_bias && !c.o_bias && !c.qk_norm && c.tied && c.dh == 16);
    c = taken("llama", ", \"attention_bias\": true");
    assert_true(c.qkv_bias && c.o_bias && !c.mlp_bias);
    c = taken("qwen3", ", \"attention_bias\": true, \"mlp_bias\": false");
    assert_true(c.qkv_bias && c.o_bias && !c.mlp_bias);
    c = taken("llama", ", \"mlp_bias\": true");
    assert_true(!c.qkv_bias && !c.o_bias && c.mlp_bias);
    c = taken("llama", ", \"head_dim\": null, \"rope_scaling\": null, \"rms_norm_eps\": 1e-5");
    assert_true(c.dh == 16 && c.eps == 1e-5);
    c = taken("", ", \"architectures\": [\"Qwen2ForCausalLM\"]"); /* no model_type */
    assert_int_equal(c.arch, LQ_ARCH_QWEN2);
}

static void rotary_scaling_is_read_in_every_spelling(void **state)
{
    (void)state;
#define LLAMA3                                                               \
    "\"factor\": 32.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0," \
    "\"original_max_position_embeddings\": 8192"
    static const char *const same[] = {
        ", \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", " LLAMA3 "}",
        ", \"rope_theta\": 5e5, \"rope_scaling\": {\"type\": \"llama3\", " LLAMA3 "}",
        ", \"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"llama3\", " LLAMA3 "}"};
    for (size_t i = 0; i < 3; i++) {
        const lq_config c = taken("llama", same[i]);
        assert_true(c.rope.kind == LQ_ROPE_LLAMA3 && c.rope_theta == 5e5 && c.rope.factor == 32);
        assert_true(c.rope.low == 1 && c.rope.high == 4 && c.rope.original == 8192);
    }
    lq_config c = taken("llama", ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}");
    assert_true(c.rope.kind == LQ_ROPE_LINEAR && c.rope.factor == 2.5);
    c = taken("llama", ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 7}");
    assert_true(c.rope.kind == LQ_ROPE_PLAIN && c.rope_theta == 7);
    static const char *const others[] = {"dynamic", "longrope", "su", "mrope"};
    for (size_t i = 0; i < 4; i++)
        refused("qwen3",
                lq_arena_printf(&arena,
                                ", \"rope_scaling\": {\"rope_type\": \"%s\", \"factor\": 4}",
                                others[i]),
                "is not computed; default linear llama3 yarn are");
    refused("llama", ", \"rope_scaling\": {\"type\": \"linear\"}", "needs factor");
    refused("llama", ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}",
            "needs factor");
    refused("llama", ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}", "factor");
    refused("llama", ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"mscale\": 1}",
            "mscale");
    refused("llama", ", \"rope_scaling\": 2", "rope_scaling is no object");
    refused("llama", ", \"partial_rotary_factor\": 0.5", "partial_rotary_factor");
    refused("llama", ", \"rope_parameters\": {\"partial_rotary_factor\": 0.5}",
            "partial_rotary_factor");
    taken("llama", ", \"partial_rotary_factor\": 1.0");
#undef LLAMA3
}

static void what_changes_the_forward_pass_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *type, *more, *words;
    } bad[] = {
        {"llama", ", \"hidden_act\": \"gelu\"", "hidden_act has a value"},
        {"llama", ", \"attention_bias\": 1", "attention_bias"},
        {"qwen3", ", \"mlp_bias\": true", "mlp_bias"},
        {"llama", ", \"sliding_window\": 4096", "sliding_window"},
        {"qwen2", ", \"use_sliding_window\": true, \"max_window_layers\": 3", "use_sliding_window"},
        {"qwen2", ", \"use_sliding_window\": true", "use_sliding_window"},
        {"qwen3", ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]",
         "'sliding_attention' is not computed"},
        {"llama", ", \"rope_interleaved\": true", "rope_interleaved"},
        {"llama", ", \"quantization_config\": {\"bits\": 4}", "quantization_config"},
        {"llama", ", \"logit_scale\": 0.5", "key logit_scale is unknown"},
        {"llama", ", \"final_logit_softcapping\": 30", "key final_logit_softcapping is unknown"},
        {"llama", ", \"head_dim\": 15", "do not fit"},
        {"llama", ", \"head_dim\": \"16\"", "head_dim"},
        {"llama", ", \"architectures\": [\"LlamaForSequenceClassification\"]",
         "'LlamaForSequenceClassification' is not computed"},
        {"llama", ", \"architectures\": [\"MistralForCausalLM\"]", "is not computed"},
        {"", "", "model_type '' is not known"},
        {"mixtral", "", "'mixtral' is not computed (experts)"},
        {"a-new-one", "", "'a-new-one' is not known; computed are llama qwen2 qwen3"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(bad[i].type, bad[i].more, bad[i].words);
}

static void what_is_no_object_is_refused(void **state)
{
    (void)state;
    lq_config c;
    check_ok(lq_file_write_all(path, "[]", 2));
    assert_int_equal(lq_config_read(path, &arena, &c), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "no object"));
}

static void what_changes_nothing_is_let_through(void **state)
{
    (void)state;
    taken("qwen2", ", \"use_sliding_window\": true, \"max_window_layers\": 4"); /* of 4 layers */
    taken("qwen2", ", \"use_sliding_window\": false, \"sliding_window\": 32768,"
                   "\"max_window_layers\": 2, \"use_mrope\": false, \"bos_token_id\": 1");
    taken("qwen3", ", \"layer_types\": [\"full_attention\", \"full_attention\"]");
    taken("llama",
          ", \"architectures\": [\"LlamaForCausalLM\"], \"is_llama_config\": true,"
          "\"rope_interleaved\": false, \"pretraining_tp\": 1, \"mlp_bias\": false,"
          "\"eos_token_id\": [1, 2], \"dtype\": \"bfloat16\", \"id2label\": {\"0\": \"a\"},"
          "\"transformers_version\": \"5.0\", \"unheard_of\": null");
    taken("llama", ", \"max_sequence_length\": 2048, \"_commit_hash\": \"0a1b\", \"num_labels\": 2,"
                   "\"_flash_attn_2_enabled\": true, \"cache_implementation\": \"static\"");
}

static void every_key_stays_when_written(void **state)
{
    (void)state;
    const lq_config c = taken("llama", ", \"bos_token_id\": 7, \"pad_token_id\": null");
    lq_json *json = lq_config_to_json(&c);
    assert_true(lq_json_number(lq_json_get(json, "bos_token_id")) == 7);
    assert_true(lq_json_get(json, "pad_token_id") != NULL);
    assert_true(lq_json_get(json, "head_dim") == NULL); /* nothing is added */
    lq_json_free(json);
}

/* What is not read but made goes through config.json and back. */
static void a_config_of_our_own_comes_back(void **state)
{
    (void)state;
    static const lq_rope_kind kinds[] = {LQ_ROPE_PLAIN, LQ_ROPE_LINEAR, LQ_ROPE_LLAMA3,
                                         LQ_ROPE_YARN};
    for (size_t i = 0; i < 4; i++) {
        lq_config c = taken(i < 2 ? "qwen3" : "llama", ""), back;
        c.qkv_bias = c.o_bias = i % 2 == 1;
        c.mlp_bias = i == 2;
        c.source = NULL;
        c.rope = (lq_rope_scaling){.kind = kinds[i]};
        if (i > 0)
            c.rope.factor = 8;
        if (i >= 2)
            c.rope.low = 1, c.rope.high = 4, c.rope.original = 1024;
        if (i == 3)
            c.rope.between = true, c.rope.gain = 1.25;
        lq_json *json = lq_config_to_json(&c);
        const char *text = lq_json_pretty(json, &arena);
        lq_json_free(json);
        check_ok(lq_file_write_all(path, text, strlen(text)));
        check_ok(lq_config_read(path, &arena, &back));
        back.source = NULL;
        assert_true(back.arch == c.arch && back.D == c.D && back.F == c.F && back.L == c.L &&
                    back.H == c.H && back.Hkv == c.Hkv && back.dh == c.dh && back.V == c.V &&
                    back.eps == c.eps && back.rope_theta == c.rope_theta && back.tied == c.tied);
        assert_true(back.rope.kind == c.rope.kind && back.rope.factor == c.rope.factor &&
                    back.rope.low == c.rope.low && back.rope.high == c.rope.high &&
                    back.rope.original == c.rope.original && back.rope.between == c.rope.between &&
                    back.rope.gain == c.rope.gain);
        assert_true(back.qkv_bias == c.qkv_bias && back.o_bias == c.o_bias &&
                    back.mlp_bias == c.mlp_bias);
    }
}

/* ---- Frequencies ------------------------------------------------------------------------------- */

/* Llama-3.2-1B: width 64, theta 5e5, factor 32; the values that transformers gives. */
static void llama3_frequencies_are_those_of_transformers(void **state)
{
    (void)state;
    const lq_rope_scaling s = {
        .kind = LQ_ROPE_LLAMA3, .factor = 32, .low = 1, .high = 4, .original = 8192};
    static const struct {
        size_t i;
        double plain, scaled;
    } want[] = {{14, 3.211445995e-3, 3.211445995e-3},
                {15, 2.131119537e-3, 1.290547928e-3},
                {16, 1.414213562e-3, 4.295567966e-4},
                {17, 9.384738704e-4, 9.708287803e-5},
                {18, 32 * 1.946163818e-5, 1.946163818e-5}};
    for (size_t k = 0; k < 5; k++) {
        const lq_rope_scaling none = {.kind = LQ_ROPE_PLAIN};
        check_close((double)lq_rope_frequency(5e5, &none, 64, want[k].i), want[k].plain, 2e-7, 0);
        check_close((double)lq_rope_frequency(5e5, &s, 64, want[k].i), want[k].scaled, 2e-7, 0);
    }
    const lq_rope_scaling half = {.kind = LQ_ROPE_LINEAR, .factor = 2};
    assert_true(lq_rope_frequency(1e4, &half, 4, 0) == 0.5f);
    assert_true(lq_rope_frequency(1e4, &half, 4, 1) == 0.005f);
}

/* Width 64, theta 1e6; the values that transformers gives. */
static void yarn_frequencies_are_those_of_transformers(void **state)
{
    (void)state;
    static const char *const scaling[] = {
        ", \"rope_theta\": 1e6, \"max_position_embeddings\": 131072, \"rope_scaling\": {\"type\": "
        "\"yarn\","
        "\"factor\": 4, \"original_max_position_embeddings\": 32768}",
        ", \"rope_parameters\": {\"rope_theta\": 1e6, \"rope_type\": \"yarn\", \"factor\": 8,"
        "\"original_max_position_embeddings\": 4096, \"beta_fast\": 16, \"beta_slow\": 2,"
        "\"truncate\": false, \"mscale\": 0.7, \"mscale_all_dim\": 1}"};
    static const size_t pair[] = {0, 10, 14, 18, 20, 22, 24, 31};
    static const double gain[2] = {1.138629436111989, 0.9483558523503399};
    static const double want[2][8] = {
        {1, 1.333521493e-2, 1.778530306e-3, 1.757068676e-4, 4.445698505e-5, 1.874735608e-5,
         7.905693565e-6, 3.849816324e-7},
        {1, 9.912078269e-3, 2.964217274e-4, 5.271206101e-5, 2.222849253e-5, 9.373678040e-6,
         3.952846782e-6, 1.924908162e-7}};
    for (size_t k = 0; k < 2; k++) {
        const lq_config c = taken("llama", scaling[k]);
        assert_int_equal(c.rope.kind, LQ_ROPE_YARN);
        check_close(lq_rope_gain(&c.rope), gain[k], 1e-12, 0);
        for (size_t i = 0; i < 8; i++)
            check_close((double)lq_rope_frequency(c.rope_theta, &c.rope, 64, pair[i]), want[k][i],
                        1e-6, 0);
    }
    lq_config c =
        taken("qwen3", ", \"max_position_embeddings\": 4096, \"rope_scaling\":"
                       " {\"rope_type\": \"yarn\", \"factor\": 2, \"attention_factor\": 3}");
    assert_true(c.rope.original == 4096 && lq_rope_gain(&c.rope) == 3);
    refused("llama", ", \"rope_scaling\": {\"rope_type\": \"yarn\"}", "needs factor");
    refused("llama",
            ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, \"beta_fast\": 0.5}",
            "beta_slow <= beta_fast");
    refused("llama",
            ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, \"low_freq_factor\": 1}",
            "low_freq_factor");
}

static void divisors_are_recognized(void **state)
{
    (void)state;
    enum { DH = 64 };
#define LLAMA3(f, o)                                                                \
    {                                                                               \
        .kind = LQ_ROPE_LLAMA3, .factor = (f), .low = 1, .high = 4, .original = (o) \
    }
    static const lq_rope_scaling list[] = {
        {.kind = LQ_ROPE_PLAIN}, {.kind = LQ_ROPE_LINEAR, .factor = 4},
        LLAMA3(8, 8192),         LLAMA3(32, 1024),
        LLAMA3(8, 32),           LLAMA3(4, 6001)};
#undef LLAMA3
    float divisor[DH / 2];
    lq_rope_scaling got;
    for (size_t k = 0; k < sizeof list / sizeof list[0]; k++) {
        for (size_t i = 0; i < DH / 2; i++)
            divisor[i] =
                lq_rope_frequency(5e5, &list[0], DH, i) / lq_rope_frequency(5e5, &list[k], DH, i);
        check_ok(lq_rope_of_divisors(divisor, 5e5, DH, &got));
        assert_int_equal(got.kind, list[k].kind);
        assert_true(got.original == list[k].original);
        for (size_t i = 0; i < DH / 2; i++)
            check_close((double)lq_rope_frequency(5e5, &got, DH, i),
                        (double)lq_rope_frequency(5e5, &list[k], DH, i), 2e-5, 0);
    }
    divisor[3] = 1.5f;
    assert_int_equal(lq_rope_of_divisors(divisor, 5e5, DH, &got), LQ_E_FORMAT);
    divisor[3] = NAN;
    assert_int_equal(lq_rope_of_divisors(divisor, 5e5, DH, &got), LQ_E_FORMAT);
    memset(divisor, 0, sizeof divisor);
    assert_int_equal(lq_rope_of_divisors(divisor, 5e5, DH, &got), LQ_E_FORMAT);
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_path, remove_path)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(defaults_are_those_of_the_classes),
        WITH_FILE(rotary_scaling_is_read_in_every_spelling),
        WITH_FILE(what_changes_the_forward_pass_is_refused),
        WITH_FILE(what_is_no_object_is_refused),
        WITH_FILE(what_changes_nothing_is_let_through),
        WITH_FILE(every_key_stays_when_written),
        WITH_FILE(a_config_of_our_own_comes_back),
        WITH_FILE(yarn_frequencies_are_those_of_transformers),
        cmocka_unit_test(llama3_frequencies_are_those_of_transformers),
        cmocka_unit_test(divisors_are_recognized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
