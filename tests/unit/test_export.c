/* Models written again: dense for other programs, packed by every method. The models are those of LQ_SHARED;
 * without them the tests are skipped. */
#include "tests/tiny.h"

#include "core/base/sha256.h"
#include "core/train/quantize.h"
#include "experiments/methods.h"
#include "experiments/model.h"

static bool same_file(const char *a, const char *b)
{
    lq_digest x, y;
    check_ok(lq_sha256_file(a, &x));
    check_ok(lq_sha256_file(b, &y));
    return strcmp(x.hex, y.hex) == 0;
}

/* What is written dense is the model again: its logits, every key of its config, its tokenizer's files. */
static void a_dense_export_is_the_model_again(void **state)
{
    static const char *const names[] = {"tiny_llama", "tiny_smollm2", "tiny_qwen2", "tiny_qwen3"};
    NEEDS_TINY();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lq_model m, back;
        const char *from = directory(names[i]);
        const char *to = lq_arena_printf(&arena, "%s-dense", from);
        char *config;
        size_t n;
        check_ok(
            lq_file_read(lq_arena_printf(&arena, "%s/config.json", from), &arena, &config, &n));
        write_text(from, "config.json",
                   lq_arena_printf(&arena, "{\"bos_token_id\": 3, \"pad_token_id\": null, %s",
                                   strchr(config, '{') + 1));
        write_text(from, "tokenizer_config.json", "{\"x\": 1}");
        write_text(from, "chat_template.jinja", "{{ messages }}");
        check_ok(lq_model_open(from, &arena, &m));
        check_ok(lq_weights_save(&m.q.w, to, false));
        check_ok(lq_model_copy_tokenizer(&m, to));
        check_ok(lq_model_open(to, &arena, &back));
        check_logits(&back.q.w, names[i], 1e-5);
        const lq_json *kept;
        lq_json *json;
        check_ok(lq_json_read(lq_arena_printf(&arena, "%s/config.json", to), &json));
        assert_true(lq_json_number(lq_json_get(json, "bos_token_id")) == 3);
        assert_true((kept = lq_json_get(json, "pad_token_id")) != NULL &&
                    lq_json_type(kept) == LQ_JSON_NULL);
        assert_string_equal(lq_json_string(lq_json_get(json, "torch_dtype")), "float32");
        lq_json_free(json);
        static const char *const files[] = {"tokenizer_config.json", "chat_template.jinja"};
        for (size_t f = 0; f < 2; f++)
            assert_true(same_file(lq_arena_printf(&arena, "%s/%s", from, files[f]),
                                  lq_arena_printf(&arena, "%s/%s", to, files[f])));
        check_ok(lq_weights_save(&m.q.w, to, true));
        check_ok(lq_model_open(to, &arena, &back));
        lq_weights_round_bf16(&m.q.w);
        assert_memory_equal(back.q.w.flat, m.q.w.flat, m.q.w.n * sizeof(float));
    }
}

/* From GGUF and llama2.c files too: what they know goes into config.json. */
static void other_formats_export_to_hugging_face(void **state)
{
    static const char *const files[] = {"hf_tiny/tiny_llama_q8.gguf", "llama-2-tiny-random.gguf",
                                        "stories260K/stories260K.bin"};
    NEEDS_TINY();
    for (size_t i = 0; i < 3; i++) {
        lq_model m, back;
        const char *to = lq_arena_printf(&arena, "%s/dense-%zu", here, i);
        check_ok(lq_model_open(of_tiny(files[i]), &arena, &m));
        check_ok(lq_weights_save(&m.q.w, to, false));
        check_ok(lq_model_open(to, &arena, &back));
        assert_int_equal(back.q.w.n, m.q.w.n);
        assert_memory_equal(back.q.w.flat, m.q.w.flat, m.q.w.n * sizeof(float));
        assert_true(back.q.w.config.eps > 0.99e-5 && back.q.w.config.eps < 1.01e-5);
        assert_true(back.q.w.config.tied == m.q.w.config.tied);
        lq_model_close(&m);
        lq_model_close(&back);
    }
}

/* Every method, on widths that nothing divides: packed with the keys of the original config, read back. */
static void every_method_quantizes_what_users_have(void **state)
{
    static const char *const names[] = {"tiny_llama", "tiny_qwen2", "tiny_qwen3"};
    NEEDS_TINY();
    for (size_t i = 0; i < 3 * lq_method_count; i++) {
        const lq_method *method = lq_method_table[i / 3];
        const char *to = lq_arena_printf(&arena, "%s/%s-%s", here, names[i % 3], method->name);
        uint32_t token[8 * 16];
        void *opts;
        lq_model m, back;
        lq_qmodel q;
        lq_rng rng = lq_rng_seed(i);
        const char *from = directory(names[i % 3]);
        check_ok(lq_model_open(from, &arena, &m));
        for (size_t t = 0; t < 8 * 16; t++)
            token[t] = (uint32_t)lq_rng_below(&rng, m.q.w.config.V);
        const lq_calib_data calib = {token, 8, 16};
        check_ok(lq_method_options(method, NULL, method->name, &arena, &opts));
        check_ok(lq_qmodel_new(&m.q.w, method, opts, &arena, &q));
        check_ok(lq_quantize(&q, &m.q.w, &calib, &rng));
        check_ok(lq_artifact_write(&q, to));
        check_ok(lq_model_open(to, &arena, &back));
        assert_int_equal(back.form, LQ_MODEL_PACKED);
        for (size_t t = 0; t < q.w.n; t++)
            check_close((double)back.q.w.flat[t], (double)q.w.flat[t], 0.01, 0.01);
        char *text, *config;
        size_t n;
        check_ok(lq_file_read(lq_arena_printf(&arena, "%s/config.json", to), &arena, &text, &n));
        check_ok(
            lq_file_read(lq_arena_printf(&arena, "%s/config.json", from), &arena, &config, &n));
        lq_json *a, *b;
        check_ok(lq_json_parse(text, strlen(text), "a", &a));
        check_ok(lq_json_parse(config, n, "b", &b));
        assert_string_equal(lq_json_canonical(a, &arena), lq_json_canonical(b, &arena));
        lq_json_free(a);
        lq_json_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dense_export_is_the_model_again),
        cmocka_unit_test(other_formats_export_to_hugging_face),
        cmocka_unit_test(every_method_quantizes_what_users_have),
    };
    return cmocka_run_group_tests(tests, open_here, close_here);
}
