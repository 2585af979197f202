/* The tokenizers against ids made by Hugging Face tokenizers, SentencePiece and llama.cpp, where LQ_SHARED
 * (default "../shared") has them; and which files of a directory are read. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/text/tokenizer_parts.h"
#include "experiments/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static lq_arena arena;

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

static const char *shared(const char *name)
{
    const char *root = getenv("LQ_SHARED");
    const char *path = lq_arena_printf(&arena, "%s/data/%s", root ? root : "../shared", name);
    if (!lq_path_exists(path)) {
        print_message("%s is not there (LQ_SHARED): skipped\n", path);
        skip();
    }
    return path;
}

static lq_tokenizer *opened(const char *name)
{
    lq_tokenizer *tok;
    if (lq_open_tokenizer(shared(lq_arena_printf(&arena, "tokenizers/%s", name)), &tok) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return tok;
}

static bool ids_are(const lq_tokenizer *tok, const char *text, unsigned flags, const lq_json *want)
{
    uint32_t *ids;
    size_t n;
    if (lq_tokenizer_encode_with(tok, text, strlen(text), flags, &arena, &ids, &n) != LQ_OK)
        fail_msg("%s", lq_status_note());
    bool same = n == lq_json_count(want);
    const lq_json *id = lq_json_first(want);
    for (size_t i = 0; same && i < n; i++, id = lq_json_next(id))
        same = (double)ids[i] == lq_json_number(id);
    return same;
}

static void check_decoded(const lq_tokenizer *tok, const lq_json *ids, unsigned flags,
                          const char *want)
{
    uint32_t *list;
    size_t n = 0, bytes;
    char *text;
    assert_int_equal(lq_arena_new(&arena, &list, lq_json_count(ids)), LQ_OK);
    for (const lq_json *id = lq_json_first(ids); id; id = lq_json_next(id))
        list[n++] = (uint32_t)lq_json_number(id);
    assert_int_equal(lq_tokenizer_decode_with(tok, list, n, flags, &arena, &text, &bytes), LQ_OK);
    assert_string_equal(text, want);
}

/* Each of the small tokenizers with its cases; Unigram and WordPiece are refused by name. */
static void hugging_face_cases(void **state)
{
    (void)state;
    static const char *const others[] = {"tiny_unigram_tokenizer.json",
                                         "\"Unigram\"",
                                         "tiny_wordpiece_tokenizer.json",
                                         "\"WordPiece\"",
                                         "tiny_spm.model",
                                         "\"Unigram\"",
                                         "tiny_spm_bytefallback.model",
                                         "\"Unigram\""};
    lq_json *root;
    assert_int_equal(lq_json_read(shared("tokenizers/vectors/hf_tokenizer_cases.json"), &root),
                     LQ_OK);
    size_t families = 0, refused = 0;
    for (const lq_json *f = lq_json_first(root); f; f = lq_json_next(f)) {
        const char *file = lq_json_string(lq_json_get(f, "tokenizer"));
        lq_tokenizer *tok;
        lq_status status =
            lq_open_tokenizer(shared(lq_arena_printf(&arena, "tokenizers/vectors/%s", file)), &tok);
        for (size_t i = 0; status != LQ_OK && i < 8; i += 2)
            if (strcmp(file, others[i]) == 0) {
                assert_non_null(strstr(lq_status_note(), others[i + 1]));
                refused++;
            }
        if (status != LQ_OK)
            continue;
        const lq_json *cases = lq_json_get(f, "cases");
        for (const lq_json *c = lq_json_first(cases); c; c = lq_json_next(c)) {
            const char *text = lq_json_string(lq_json_get(c, "text"));
            if (!ids_are(tok, text, 0, lq_json_get(c, "ids")))
                fail_msg("%s: \"%s\": other ids", file, text);
            check_decoded(tok, lq_json_get(c, "ids"), LQ_DECODE_REPLACE | LQ_DECODE_NO_SPECIAL,
                          lq_json_string(lq_json_get(c, "decoded")));
        }
        families++;
        lq_tokenizer_free(tok);
    }
    assert_int_equal(lq_json_count(root), 18);
    lq_json_free(root);
    assert_int_equal(families, 14);
    assert_int_equal(refused, 4);
}

/* --- llama.cpp -------------------------------------------------------------------------------- */

/* How many of the 47 strings of vectors/ggml-vocab.inp have the ids of their line. */
static size_t right_lines(const lq_tokenizer *tok, const char *out)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char *texts, *lines;
    size_t n, right = 0;
    assert_int_equal(lq_file_read(shared("tokenizers/vectors/ggml-vocab.inp"), &arena, &texts, &n),
                     LQ_OK);
    assert_int_equal(lq_file_read(shared(lq_arena_printf(&arena, "tokenizers/vectors/%s", out)),
                                  &arena, &lines, &n),
                     LQ_OK);
    for (char *end = texts; end; texts = end + sizeof separator - 1) {
        uint32_t *ids;
        size_t n_ids, good = 0;
        end = strstr(texts, separator);
        size_t bytes = end ? (size_t)(end - texts) : strlen(texts);
        assert_int_equal(lq_tokenizer_encode(tok, texts, bytes, &arena, &ids, &n_ids), LQ_OK);
        char *line_end = strchr(lines, '\n');
        for (size_t i = 0; i < n_ids; i++)
            good += ids[i] == strtoul(lines, &lines, 10);
        right += good == n_ids && (lines == line_end || (!line_end && *lines == '\0'));
        lines = line_end ? line_end + 1 : lines;
        if (!end)
            break;
    }
    return right;
}

static void check_lines(const char *name, const char *out)
{
    lq_tokenizer *tok = opened(name);
    assert_int_equal(right_lines(tok, out), 47);
    lq_tokenizer_free(tok);
}

static void llama_cpp_cases(void **state)
{
    (void)state;
    check_lines("gpt2/tokenizer.json", "ggml-vocab-gpt-2.out");
    check_lines("gpt2/ggml-vocab-gpt-2.gguf", "ggml-vocab-gpt-2.out");
    check_lines("starcoder/ggml-vocab-starcoder.gguf", "ggml-vocab-starcoder.out");
    lq_tokenizer *tok = opened("gpt2"); /* and the check can fail */
    assert_true(right_lines(tok, "ggml-vocab-starcoder.out") < 5);
    lq_tokenizer_free(tok);
}

static void llama3_from_ranks(void **state)
{
    (void)state;
    check_lines("llama3/tokenizer.model", "ggml-vocab-llama-bpe.out");
}

static void llama3_from_merges(void **state)
{
    (void)state;
    lq_tokenizer *tok = opened("llama3");
    size_t n;
    assert_int_equal(right_lines(tok, "ggml-vocab-llama-bpe.out"), 47);
    assert_int_equal(lq_tokenizer_vocab(tok), 128256);
    assert_int_equal(lq_tokenizer_end_of_text(tok), 128001);
    assert_int_equal(lq_tokenizer_before(tok, &n)[0], 128000);
    assert_int_equal(n, 1); /* one BOS */
    uint32_t *ids;
    static const uint32_t want[] = {128000, 128006, 64, 128009};
    static const char text[] = "<|start_header_id|>a<|eot_id|>";
    assert_int_equal(
        lq_tokenizer_encode_with(tok, text, sizeof text - 1, LQ_ENCODE_SPECIAL, &arena, &ids, &n),
        LQ_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(ids, want, sizeof want);
    lq_tokenizer_free(tok);
}

/* SmolLM's vocabulary is here in mllm's form (see the README of the data); merges.txt goes with it. */
static lq_tokenizer *smollm(void)
{
    char *vocab, *merges;
    size_t bytes, merge_bytes, at = 8, n_merges = 0;
    assert_int_equal(
        lq_file_read(shared("tokenizers/smollm/phonelm_vocab.mllm"), &arena, &vocab, &bytes),
        LQ_OK);
    assert_int_equal(
        lq_file_read(shared("tokenizers/smollm/merges.txt"), &arena, &merges, &merge_bytes), LQ_OK);
    enum { N = 49152 };
    lq_bytes *token, *merge;
    int32_t *type;
    assert_int_equal(lq_arena_new(&arena, &token, N), LQ_OK);
    assert_int_equal(lq_arena_new(&arena, &type, N), LQ_OK);
    assert_int_equal(lq_arena_new(&arena, &merge, N), LQ_OK);
    while (at + 12 <= bytes) {
        int32_t id, length;
        memcpy(&id, vocab + at, 4);
        memcpy(&length, vocab + at + 4, 4);
        assert_true(id >= 0 && id < N && length > 0);
        token[id] = (lq_bytes){vocab + at + 8, (size_t)length};
        type[id] = id < 17 ? LQ_TOKEN_CONTROL : LQ_TOKEN_NORMAL;
        at += 12 + (size_t)length;
    }
    for (char *line = strchr(merges, '\n') + 1, *end; (end = strchr(line, '\n')); line = end + 1)
        merge[n_merges++] = (lq_bytes){line, (size_t)(end - line)};
    const lq_tokenizer_parts parts = {.where = "smollm",
                                      .kind = LQ_PARTS_MERGES,
                                      .pre = "smollm",
                                      .n = N,
                                      .token = token,
                                      .type = type,
                                      .merge = merge,
                                      .n_merges = n_merges,
                                      .bos = 0,
                                      .eos = 0};
    lq_tokenizer *tok;
    if (lq_tokenizer_from_parts(&parts, &tok) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return tok;
}

static void smollm_cases(void **state)
{
    (void)state;
    lq_tokenizer *tok = smollm();
    size_t n;
    assert_int_equal(right_lines(tok, "ggml-vocab-smollm.out"), 47);
    assert_int_equal(lq_tokenizer_end_of_text(tok), 0);
    lq_tokenizer_before(tok, &n);
    assert_int_equal(n, 0);
    lq_tokenizer_free(tok);
}

static void qwen_cases(void **state)
{
    (void)state;
    lq_tokenizer *tok = opened("qwen2");
    lq_json *want;
    size_t n;
    /* made with tokenizers 0.23.3 from the same two files, NFC and the Split of section 6.4: the check
     * string of the pre-tokenizers, then a decomposed and a composed e with an acute accent */
    static const char ids[] =
        "[40,6,4086,2291,220,400,16,17,18,19,20,1431,3554,220,5394,5267,856,28,"
        "22,220,151645]";
    assert_int_equal(lq_json_parse(ids, sizeof ids - 1, "ids", &want), LQ_OK);
    assert_true(
        ids_are(tok, "I'LL pay  $12345 now,\n\n  ok?\n x=7 <|im_end|>", LQ_ENCODE_SPECIAL, want));
    assert_false(
        ids_are(tok, "I'LL pay  $12345 now,\n\n  ok?\n x=7 <|im_end|>", LQ_ENCODE_PLAIN, want));
    lq_json_free(want);
    uint32_t *one, *other;
    assert_int_equal(lq_tokenizer_encode(tok, "caf\xC3\xA9", 5, &arena, &one, &n), LQ_OK);
    assert_int_equal(n, 2);
    assert_int_equal(lq_tokenizer_encode(tok, "cafe\xCC\x81", 6, &arena, &other, &n), LQ_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(one, other, 2 * sizeof *one);
    assert_int_equal(lq_tokenizer_vocab(tok), 151646);
    assert_int_equal(lq_tokenizer_end_of_text(tok), 151643);
    lq_tokenizer_free(tok);
}

/* --- texts of many languages ------------------------------------------------------------------ */

static void check_multilingual(const char *name, const char *file, unsigned flags)
{
    lq_json *root;
    assert_int_equal(lq_json_read(shared(file), &root), LQ_OK);
    lq_tokenizer *tok = opened(name);
    const lq_json *entries = lq_json_get(root, "entries");
    for (const lq_json *e = lq_json_first(entries); e; e = lq_json_next(e)) {
        const lq_json *ids = lq_json_get(e, "input_ids");
        const char *text = lq_json_string(lq_json_get(e, "decoded_skip_special"));
        if (!ids_are(tok, text, flags, ids))
            fail_msg("%s: %s: other ids", name, lq_json_string(lq_json_get(e, "id")));
        check_decoded(tok, ids, LQ_DECODE_NO_SPECIAL, text);
        check_decoded(tok, ids, 0, lq_json_string(lq_json_get(e, "decoded_with_special")));
    }
    assert_int_equal(lq_json_count(entries), 83);
    lq_json_free(root);
    lq_tokenizer_free(tok);
}

static void gpt2_multilingual_cases(void **state)
{
    (void)state;
    lq_json *root;
    check_multilingual("gpt2/tokenizer.json", "tokenizers/vectors/gpt2_multilingual.json", 0);
    assert_int_equal(lq_json_read(shared("tokenizers/vectors/gpt2_encoded_tokens.json"), &root),
                     LQ_OK);
    lq_tokenizer *tok = opened("gpt2/tokenizer.json");
    assert_int_equal(lq_tokenizer_vocab(tok), 50257);
    assert_int_equal(lq_tokenizer_end_of_text(tok), 50256);
    assert_true(
        ids_are(tok, lq_json_string(lq_json_get(root, "text")), 0, lq_json_get(root, "token_ids")));
    check_decoded(tok, lq_json_get(root, "token_ids"), 0,
                  lq_json_string(lq_json_get(root, "decoded_text")));
    lq_json_free(root);
    lq_tokenizer_free(tok);
}

static void llama2_multilingual_cases(void **state)
{
    (void)state;
    static const char cases[] = "tokenizers/vectors/tinyllama_multilingual.json";
    check_multilingual("llama2/tokenizer.model", cases, LQ_ENCODE_SPECIAL);
    check_multilingual("llama2/tokenizer.bin", cases, LQ_ENCODE_SPECIAL);
    check_multilingual("llama2/ggml-vocab-llama-spm.gguf", cases, LQ_ENCODE_SPECIAL);
}

/* Its special tokens are looked for in normalized text, "_<s>", and decode so: otherwise the same. */
static void llama2_json_has_the_same_ids(void **state)
{
    (void)state;
    lq_tokenizer *json = opened("llama2/tokenizer.json"), *model = opened("llama2/tokenizer.model");
    char *text;
    size_t bytes, n_one, n_other;
    uint32_t *one, *other;
    assert_int_equal(lq_file_read(shared("text/tinyshakespeare.txt"), &arena, &text, &bytes),
                     LQ_OK);
    bytes /= 4;
    assert_int_equal(
        lq_tokenizer_encode_with(json, text, bytes, LQ_ENCODE_SPECIAL, &arena, &one, &n_one),
        LQ_OK);
    assert_int_equal(
        lq_tokenizer_encode_with(model, text, bytes, LQ_ENCODE_SPECIAL, &arena, &other, &n_other),
        LQ_OK);
    assert_int_equal(n_one, n_other);
    assert_memory_equal(one, other, n_one * sizeof *one);
    assert_int_equal(one[0], 1);
    assert_true(one[1] != 1);
    lq_tokenizer_free(json);
    lq_tokenizer_free(model);
}

/* llama2.c's vocabulary and the SentencePiece model that it was made from. The ids are sentencepiece's. */
static void the_512_tokens_of_stories(void **state)
{
    (void)state;
    static const char *const files[] = {"tok512.bin", "tok512.model"};
    static const char text[] = "Once upon a time, there was a little girl.";
    static const uint32_t want[] = {1,   403, 407, 261, 378, 432, 383,
                                    286, 261, 376, 298, 315, 421, 426};
    for (size_t i = 0; i < 2; i++) {
        lq_tokenizer *tok;
        uint32_t *ids;
        size_t n;
        const char *path = shared(lq_arena_printf(&arena, "tiny_models/stories260K/%s", files[i]));
        assert_int_equal(lq_tokenizer_open(path, &tok), LQ_OK);
        assert_int_equal(lq_tokenizer_vocab(tok), 512);
        assert_int_equal(lq_tokenizer_encode_with(tok, text, sizeof text - 1, LQ_ENCODE_SPECIAL,
                                                  &arena, &ids, &n),
                         LQ_OK);
        assert_int_equal(n, sizeof want / sizeof *want);
        assert_memory_equal(ids, want, sizeof want);
        lq_tokenizer_free(tok);
    }
}

static void books_come_back(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2", "llama2/tokenizer.model"};
    char *text, *back;
    size_t bytes, n, back_bytes;
    uint32_t *ids;
    assert_int_equal(lq_file_read(shared("text/tinystories_train_head.txt"), &arena, &text, &bytes),
                     LQ_OK);
    bytes /= 4;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lq_tokenizer *tok = opened(names[i]);
        assert_int_equal(lq_tokenizer_encode(tok, text, bytes, &arena, &ids, &n), LQ_OK);
        assert_int_equal(lq_tokenizer_decode(tok, ids, n, &arena, &back, &back_bytes), LQ_OK);
        assert_int_equal(back_bytes, bytes);
        assert_memory_equal(back, text, bytes);
        lq_tokenizer_free(tok);
    }
}

/* --- directories ------------------------------------------------------------------------------ */

static void write_text(const char *dir, const char *name, const char *text)
{
    assert_int_equal(
        lq_file_write_all(lq_arena_printf(&arena, "%s/%s", dir, name), text, strlen(text)), LQ_OK);
}

static void directories_are_searched_in_order(void **state)
{
    (void)state;
    char dir[] = "/tmp/lcqat-tokenizer-XXXXXX";
    lq_tokenizer *tok;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(lq_tokenizer_open(dir, &tok), LQ_E_MISSING);
    write_text(dir, "vocab.json", "{\"a\":0,\"b\":1,\"ab\":2,\"</s>\":3}");
    assert_int_equal(lq_tokenizer_open(dir, &tok), LQ_E_MISSING); /* the merges are not there */
    write_text(dir, "merges.txt", "#version: 0.2\na b\n");
    assert_int_equal(lq_tokenizer_open(dir, &tok), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "family"));
    write_text(
        dir, "tokenizer_config.json",
        "{\"tokenizer_class\":\"GPT2Tokenizer\",\"eos_token\":\"</s>\",\"bos_token\":\"</s>\","
        "\"add_bos_token\":true}");
    assert_int_equal(lq_tokenizer_open(dir, &tok), LQ_OK);
    lq_json *want;
    assert_int_equal(lq_json_parse("[3,2,3,1]", 9, "ids", &want), LQ_OK);
    assert_true(ids_are(tok, "ab</s>b", LQ_ENCODE_SPECIAL, want));
    lq_json_free(want);
    lq_tokenizer_free(tok);
    write_text(dir, "merges.txt", "a b\nb c\n");
    assert_int_equal(lq_tokenizer_open(dir, &tok), LQ_E_FORMAT);
    write_text(dir, "tokenizer.json", "{}");
    assert_int_equal(lq_tokenizer_open(dir, &tok), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "tokenizer.json"));
    write_text(dir, "tokenizer.json", ""); /* named as what it is called, not as another format */
    assert_int_equal(lq_tokenizer_open(dir, &tok), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "no JSON"));
    assert_int_equal(lq_path_remove_tree(dir), LQ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(hugging_face_cases, close_arena),
        cmocka_unit_test_teardown(llama_cpp_cases, close_arena),
        cmocka_unit_test_teardown(llama3_from_ranks, close_arena),
        cmocka_unit_test_teardown(llama3_from_merges, close_arena),
        cmocka_unit_test_teardown(smollm_cases, close_arena),
        cmocka_unit_test_teardown(qwen_cases, close_arena),
        cmocka_unit_test_teardown(gpt2_multilingual_cases, close_arena),
        cmocka_unit_test_teardown(llama2_multilingual_cases, close_arena),
        cmocka_unit_test_teardown(llama2_json_has_the_same_ids, close_arena),
        cmocka_unit_test_teardown(the_512_tokens_of_stories, close_arena),
        cmocka_unit_test_teardown(books_come_back, close_arena),
        cmocka_unit_test_teardown(directories_are_searched_in_order, close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
