/* Models as users have them, against logits that others computed (transformers, in double): every format and
 * family that is computed, and the families that are refused. The models are those of LQ_SHARED; without
 * them the tests are skipped. */
#include "tests/tiny.h"

#include "core/data/safetensors.h"
#include "experiments/model.h"

/* MODEL is refused with this status, for a reason with these words. */
static void refused(const char *model, lq_status status, const char *words)
{
    lq_model m;
    const lq_status got = lq_model_open(model, &arena, &m);
    if (got != status || strstr(lq_status_note(), words) == NULL ||
        strchr(lq_status_note(), '\n') != NULL)
        fail_msg("%s: %s \"%s\", not %s \"%s\"", model, lq_status_name(got),
                 got ? lq_status_note() : "", lq_status_name(status), words);
}

/* ---- Hugging Face directories ------------------------------------------------------------------ */

static void hugging_face_models_give_their_logits(void **state)
{
    static const char *const names[] = {"tiny_llama", "tiny_smollm2", "tiny_qwen2", "tiny_qwen3"};
    NEEDS_TINY();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lq_model m;
        check_ok(lq_model_open(directory(names[i]), &arena, &m));
        check_logits(&m.q.w, names[i], 1e-5);
        m.q.w.layer[1][LQ_DOWN][3] += 0.01f; /* the checker sees one weight of many */
        assert_false(worst_logit(&m.q.w, of_hf(names[i], "_logits.json")) <= 1e-5);
        m.q.w.layer[1][LQ_DOWN][3] = NAN;
        assert_false(worst_logit(&m.q.w, of_hf(names[i], "_logits.json")) <= 1e-5);
        lq_model_close(&m);
    }
}

/* As directory(), of the two shards. `index`: NULL, or the text of another index. */
static const char *sharded(const char *name, const char *index)
{
    static const char *const shard[] = {"tiny_llama-00001-of-00002.safetensors",
                                        "tiny_llama-00002-of-00002.safetensors"};
    const char *dir = lq_arena_printf(&arena, "%s/%s", here, name);
    place(dir, "config.json", of_hf("tiny_llama", "_config.json"));
    for (size_t i = 0; i < 2; i++)
        place(dir, shard[i], of_hf(shard[i], ""));
    if (index == NULL)
        place(dir, "model.safetensors.index.json", of_hf("tiny_llama", ".safetensors.index.json"));
    else
        write_text(dir, "model.safetensors.index.json", index);
    return dir;
}

static void shards_are_one_model(void **state)
{
    NEEDS_TINY();
    lq_model whole, parts;
    check_ok(lq_model_open(directory("tiny_llama"), &arena, &whole));
    check_ok(lq_model_open(sharded("shards", NULL), &arena, &parts));
    assert_int_equal(whole.q.w.n, parts.q.w.n);
    assert_memory_equal(whole.q.w.flat, parts.q.w.flat, whole.q.w.n * sizeof(float));
    assert_string_not_equal(whole.digest.hex, parts.digest.hex);
}

/* The index of the two shards with one text in the place of another. */
static char *index_with(const char *from, const char *to)
{
    char *whole;
    size_t n;
    check_ok(lq_file_read(of_hf("tiny_llama", ".safetensors.index.json"), &arena, &whole, &n));
    char *at = strstr(whole, from);
    assert_non_null(at);
    return lq_arena_printf(&arena, "%.*s%s%s", (int)(at - whole), whole, to, at + strlen(from));
}

static void a_false_index_is_refused(void **state)
{
    NEEDS_TINY();
#define HEAD  "\"lm_head.weight\": \"tiny_llama-00002-of-00002.safetensors\","
#define OTHER "\"lm_head.weight\": \"tiny_llama-00001-of-00002.safetensors\","
    refused(sharded("i0", "{}"), LQ_E_FORMAT, "no weight_map");
    refused(sharded("i1", "{\"weight_map\": []}"), LQ_E_FORMAT, "no weight_map");
    refused(sharded("i2", index_with(HEAD, OTHER)), LQ_E_FORMAT, "lm_head.weight is not in");
    refused(sharded("i3", index_with(HEAD, "")), LQ_E_FORMAT,
            "lists 21 tensors, the shards hold 22");
    refused(sharded("i4", index_with(HEAD, "\"lm_head.weight\": \"gone.safetensors\",")),
            LQ_E_MISSING, "gone.safetensors");
    static const char *const outside[] = {"../tiny_llama/model.safetensors",
                                          "/etc/x.safetensors",
                                          "..safetensors",
                                          ".safetensors",
                                          "x.bin",
                                          ""};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        refused(
            sharded("i5", index_with(HEAD, lq_arena_printf(&arena, "\"lm_head.weight\": \"%s\",",
                                                           outside[i]))),
            LQ_E_FORMAT, "no shard's name");
    refused(sharded("i6", index_with(HEAD, "\"lm_head.weight\": 2,")), LQ_E_FORMAT,
            "no shard's name");
    const char *dir = sharded("i7", NULL); /* one file under both names: every tensor twice */
    place(dir, "tiny_llama-00002-of-00002.safetensors",
          of_hf("tiny_llama-00001-of-00002.safetensors", ""));
    refused(dir, LQ_E_FORMAT, "in two shards");
#undef HEAD
#undef OTHER
}

static void paged_infer_llama_gives_its_logits(void **state)
{
    enum { T = 40, V = 112 };
    static const uint32_t tokens[T] = {94, 87, 60, 29, 75, 85, 18, 15, 47, 102, 105, 36, 63, 49,
                                       54, 76, 47, 36, 34, 19, 22, 81, 55, 102, 57,  62, 59, 51,
                                       68, 62, 68, 74, 89, 13, 45, 77, 37, 41,  72,  33};
    NEEDS_TINY();
    lq_model m;
    char *want;
    size_t bytes;
    const char *dir = lq_arena_printf(&arena, "%s/paged", here);
    place(dir, "config.json", of_tiny("paged_infer_llama/config.json"));
    place(dir, "model.safetensors", of_tiny("paged_infer_llama/tiny_llama.safetensors"));
    check_ok(lq_model_open(dir, &arena, &m));
    check_ok(
        lq_file_read(of_tiny("paged_infer_llama/tiny_llama_golden.bin"), &arena, &want, &bytes));
    assert_int_equal(bytes, sizeof(float) * T * V);
    float *golden;
    check_ok(lq_arena_new(&arena, &golden, (size_t)T * V));
    memcpy(golden, want, bytes);
    const double worst = lq_worst(logits_of(&m.q.w, tokens, T), golden, (size_t)T * V);
    print_message("paged_infer_llama: worst logit differs by %.2e\n", worst);
    assert_true(worst <= 1e-4);
}

static void other_families_are_refused_by_name(void **state)
{
    static const struct {
        const char *name, *words;
    } other[] = {{"tiny_mistral", "'mistral' is not computed (sliding"},
                 {"tiny_phi3", "'phi3' is not computed (fused"},
                 {"tiny_olmo2", "'olmo2' is not computed (norms"},
                 {"tiny_qwen3_moe", "'qwen3_moe' is not computed (experts)"},
                 {"tiny_bitnet", "'bitnet' is not computed (norms"}};
    NEEDS_TINY();
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        refused(directory(other[i].name), LQ_E_FORMAT, other[i].words);
    const char *gpt2 = lq_arena_printf(&arena, "%s/gpt2", here);
    place(gpt2, "model.safetensors", of_hf("tiny_gpt2", ".safetensors"));
    write_text(gpt2, "config.json", "{\"model_type\": \"gpt2\", \"n_embd\": 8, \"n_layer\": 2}");
    refused(gpt2, LQ_E_FORMAT, "'gpt2' is not computed (LayerNorm");
    /* Under a name that is computed, the tensors give them away. */
    const char *liar = lq_arena_printf(&arena, "%s/liar", here);
    place(liar, "config.json", of_hf("tiny_llama", "_config.json"));
    place(liar, "model.safetensors", of_hf("tiny_olmo2", ".safetensors"));
    refused(liar, LQ_E_FORMAT, "does not belong to a llama model");
    place(liar, "model.safetensors", of_hf("tiny_smollm2", ".safetensors"));
    refused(liar, LQ_E_SHAPE, "is not (11,8), as config.json says");
    char *config;
    size_t n;
    check_ok(lq_file_read(of_hf("tiny_smollm2", "_config.json"), &arena, &config, &n));
    char *tied = strstr(config, "\"tie_word_embeddings\": true");
    assert_non_null(tied);
    memcpy(tied, "\"tie_word_embeddings\":false", 27);
    write_text(liar, "config.json", config);
    refused(liar, LQ_E_MISSING, "lm_head.weight is missing");
}

/* ---- GGUF -------------------------------------------------------------------------------------- */

static void gguf_of_floats_gives_the_logits(void **state)
{
    NEEDS_TINY();
    lq_model gguf, hf;
    check_ok(lq_model_open(of_hf("tiny_llama_f32", ".gguf"), &arena, &gguf));
    check_ok(lq_model_open(directory("tiny_llama"), &arena, &hf));
    check_logits(&gguf.q.w, "tiny_llama", 1e-5);
    /* Not only the logits: rows of q and k are back in their order. */
    assert_memory_equal(gguf.q.w.flat, hf.q.w.flat, hf.q.w.n * sizeof(float));
    assert_int_equal(gguf.form, LQ_MODEL_GGUF);
    assert_null(gguf.tok);
}

static void gguf_of_halves_holds_the_rounded_weights(void **state)
{
    NEEDS_TINY();
    lq_model gguf, hf;
    check_ok(lq_model_open(of_hf("tiny_llama_f16", ".gguf"), &arena, &gguf));
    check_ok(lq_model_open(directory("tiny_llama"), &arena, &hf));
    for (size_t i = 0; i < hf.q.w.n_tensors; i++) {
        const lq_weight *t = &hf.q.w.tensor[i];
        for (size_t j = 0; t->kind != LQ_WEIGHT_NORM && j < t->rows * t->cols; j++)
            t->data[j] = lq_f16_to_f32(lq_f32_to_f16(t->data[j]));
    }
    assert_memory_equal(gguf.q.w.flat, hf.q.w.flat, hf.q.w.n * sizeof(float));
}

/* Q8_0 by its definition: d = amax / 127, round(x / d), d stored as a half. */
static void round_q8(float *x, size_t n)
{
    for (size_t b = 0; b < n; b += 32) {
        float most = 0;
        for (size_t j = 0; j < 32; j++)
            most = fmaxf(most, fabsf(x[b + j]));
        const float d = most / 127, half = lq_f16_to_f32(lq_f32_to_f16(d));
        for (size_t j = 0; j < 32; j++)
            x[b + j] = (float)(int)roundf(x[b + j] * (d != 0 ? 1 / d : 0)) * half;
    }
}

static void gguf_of_bytes_holds_the_rounded_weights(void **state)
{
    NEEDS_TINY();
    lq_model gguf, hf;
    check_ok(lq_model_open(of_hf("tiny_llama_q8", ".gguf"), &arena, &gguf));
    check_ok(lq_model_open(directory("tiny_llama_q8"), &arena, &hf));
    assert_true(gguf.q.w.config.tied && gguf.q.w.n == hf.q.w.n);
    for (size_t i = 0; i < hf.q.w.n_tensors; i++)
        if (hf.q.w.tensor[i].kind != LQ_WEIGHT_NORM)
            round_q8(hf.q.w.tensor[i].data, hf.q.w.tensor[i].rows * hf.q.w.tensor[i].cols);
    assert_memory_equal(gguf.q.w.flat, hf.q.w.flat, hf.q.w.n * sizeof(float));
}

static void gguf_without_logits_loads(void **state)
{
    NEEDS_TINY();
    lq_model m;
    check_ok(lq_model_open(of_tiny("llama-2-tiny-random.gguf"), &arena, &m));
    const lq_config *c = &m.q.w.config;
    assert_true(c->V == 32000 && c->D == 8 && c->L == 1 && c->dh == 4 && !c->tied);
    const uint32_t tokens[] = {1, 15043, 3186};
    const float *logits = logits_of(&m.q.w, tokens, 3);
    for (size_t i = 0; i < 3 * c->V; i++)
        assert_true(isfinite(logits[i]));
    assert_string_equal(m.digest.hex,
                        "81f226c62d28ed4a1a9b9fa080fcd9f0cc40e0f9d5680036583ff98fbcd035cb");
    check_ok(lq_model_need_text(&m)); /* the tokenizer is in the file */
    uint32_t *ids;
    size_t n;
    check_ok(
        lq_tokenizer_encode_with(m.tok, "Hello world", 11, LQ_ENCODE_SPECIAL, &arena, &ids, &n));
    const uint32_t hello[] = {1, 15043, 3186};
    assert_int_equal(n, 3);
    assert_memory_equal(ids, hello, sizeof hello);
    lq_model_close(&m);
}

static void gguf_of_other_models_is_refused(void **state)
{
    NEEDS_TINY();
    refused(of_hf("tiny_kquant", ".gguf"), LQ_E_FORMAT, "'kquanttest' is not known");
    refused(of_tiny("../tokenizers/gpt2/ggml-vocab-gpt-2.gguf"), LQ_E_FORMAT,
            "'gpt2' is not computed");
    refused(of_tiny("../tokenizers/llama2/ggml-vocab-llama-spm.gguf"), LQ_E_MISSING,
            "the file is a vocabulary");
}

/* ---- llama2.c ---------------------------------------------------------------------------------- */

/* tok512.bin: int32 longest, then for each token float32 score, int32 bytes, the bytes. */
static void append_token(const char *file, uint32_t id, char *out, size_t room)
{
    const char *at = file + 4;
    int32_t n;
    for (uint32_t i = 0;; i++, at += 8 + n) {
        memcpy(&n, at + 4, sizeof n);
        if (i == id)
            break;
    }
    const size_t used = strlen(out);
    if (used + (size_t)n < room)
        memcpy(out + used, at + 8, (size_t)n);
}

static void stories260K_tells_its_story(void **state)
{
    enum { T = 72 };
    NEEDS_TINY();
    static const char story[] =
        " Once upon a time, there was a little girl named Lily. She loved to play outside in the "
        "park. One day, she saw a big, red ball.";
    lq_model m;
    char *vocabulary, told[1024] = "";
    size_t n;
    uint32_t tokens[T] = {1};
    check_ok(lq_model_open(of_tiny("stories260K/stories260K.bin"), &arena, &m));
    check_ok(lq_file_read(of_tiny("stories260K/tok512.bin"), &arena, &vocabulary, &n));
    for (size_t t = 0; t + 1 < T; t++) {
        const lq_mark mark = lq_arena_mark(&arena);
        const float *row = logits_of(&m.q.w, tokens, t + 1) + t * m.q.w.config.V;
        for (uint32_t v = 0; v < m.q.w.config.V; v++)
            if (row[v] > row[tokens[t + 1]])
                tokens[t + 1] = v;
        append_token(vocabulary, tokens[t + 1], told, sizeof told);
        lq_arena_release(&arena, mark);
    }
    told[sizeof story - 1] = '\0';
    assert_string_equal(told, story);
    lq_model_close(&m);
}

/* Four bytes of a file, in place. */
static void patch(const char *path, size_t at, const void *word)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(word, 4, 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

static void a_broken_llama2c_checkpoint_is_refused(void **state)
{
    NEEDS_TINY();
    char *bytes;
    size_t n;
    check_ok(lq_file_read(of_tiny("stories260K/stories260K.bin"), &arena, &bytes, &n));
    const char *path = lq_arena_printf(&arena, "%s/broken.bin", here);
    static const size_t cut[] = {0, 4, 27, 28, 1000, 1056539};
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        check_ok(lq_file_write_all(path, bytes, cut[i]));
        refused(path, LQ_E_FORMAT, "llama2.c checkpoint");
    }
    check_ok(lq_file_write_all(path, bytes, n));
    for (size_t i = 0; i < 7; i++) { /* each number of the header: wrong, huge, negative, zero */
        static const int32_t lies[] = {0, -1, 3, 7, 1 << 20, INT32_MAX, INT32_MIN};
        for (size_t k = 0; k < sizeof lies / sizeof lies[0]; k++) {
            patch(path, 4 * i, &lies[k]);
            refused(path, LQ_E_FORMAT, "llama2.c checkpoint");
            patch(path, 4 * i, bytes + 4 * i);
        }
    }
    memcpy(bytes, "24ka", 4);
    check_ok(lq_file_write_all(path, bytes, n));
    refused(path, LQ_E_UNAVAILABLE, "version 1 or later");
}

/* ---- MODEL ------------------------------------------------------------------------------------- */

static void what_is_no_model_is_refused(void **state)
{
    (void)state;
    const char *file = lq_arena_printf(&arena, "%s/model.pt", here);
    check_ok(lq_file_write_all(file, "x", 1));
    refused(file, LQ_E_FORMAT, "ends in .gguf or .bin");
    refused("no-such-model", LQ_E_MISSING, "is not in the catalog");
    const char *gguf = lq_arena_printf(&arena, "%s/empty.gguf", here);
    check_ok(lq_file_write_all(gguf, "", 0));
    refused(gguf, LQ_E_FORMAT, "no GGUF file");
}

static void text_needs_a_tokenizer_and_logits_do_not(void **state)
{
    NEEDS_TINY();
    lq_model m;
    const char *dir = directory("tiny_smollm2");
    check_ok(lq_model_open(dir, &arena, &m));
    assert_int_equal(lq_model_need_text(&m), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "tokenizer.json"));
    write_text(dir, "tokenizer.json", "{\"model\": ");
    check_ok(lq_model_open(dir, &arena, &m));
    assert_int_equal(lq_model_need_text(&m), LQ_E_FORMAT);
    const char *other = lq_arena_printf(&arena, "%s/other", here);
    place(other, "tokenizer.json",
          of_tiny("../tokenizers/vectors/tiny_bpe_bytelevel_tokenizer.json"));
    check_ok(lq_model_open_with(of_tiny("llama-2-tiny-random.gguf"), other, &arena, &m));
    check_ok(lq_model_need_text(&m));
    lq_model_close(&m);
    check_ok(lq_model_open_with(dir, other, &arena, &m)); /* more tokens than the model has */
    assert_int_equal(lq_model_need_text(&m), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "the model 12"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hugging_face_models_give_their_logits),
        cmocka_unit_test(shards_are_one_model),
        cmocka_unit_test(a_false_index_is_refused),
        cmocka_unit_test(paged_infer_llama_gives_its_logits),
        cmocka_unit_test(other_families_are_refused_by_name),
        cmocka_unit_test(gguf_of_floats_gives_the_logits),
        cmocka_unit_test(gguf_of_halves_holds_the_rounded_weights),
        cmocka_unit_test(gguf_of_bytes_holds_the_rounded_weights),
        cmocka_unit_test(gguf_without_logits_loads),
        cmocka_unit_test(gguf_of_other_models_is_refused),
        cmocka_unit_test(stories260K_tells_its_story),
        cmocka_unit_test(a_broken_llama2c_checkpoint_is_refused),
        cmocka_unit_test(what_is_no_model_is_refused),
        cmocka_unit_test(text_needs_a_tokenizer_and_logits_do_not),
    };
    return cmocka_run_group_tests(tests, open_here, close_here);
}
