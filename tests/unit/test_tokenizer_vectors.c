/* The tokenizer against ids made by Hugging Face tokenizers and llama.cpp, where LQ_SHARED (default
 * "../shared") has them. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static lq_arena arena;

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

static size_t encoded(const lq_tokenizer *tok, const char *text, size_t bytes, uint32_t **ids)
{
    size_t n;
    if (lq_tokenizer_encode(tok, text, bytes, &arena, ids, &n) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return n;
}

static const char *shared(const char *name)
{
    const char *root = getenv("LQ_SHARED");
    const char *path =
        lq_arena_printf(&arena, "%s/data/tokenizers/%s", root ? root : "../shared", name);
    if (!lq_path_exists(path)) {
        print_message("%s is not there (LQ_SHARED): skipped\n", path);
        skip();
    }
    return path;
}

static void check_case(const lq_tokenizer *tok, const char *text, const lq_json *want,
                       const char *where)
{
    uint32_t *ids;
    size_t n = encoded(tok, text, strlen(text), &ids);
    if (n != lq_json_count(want))
        fail_msg("%s: \"%s\": %zu ids, not %zu", where, text, n, lq_json_count(want));
    const lq_json *id = lq_json_first(want);
    for (size_t i = 0; i < n; i++, id = lq_json_next(id))
        if ((double)ids[i] != lq_json_number(id))
            fail_msg("%s: \"%s\": id %zu is %u", where, text, i, ids[i]);
    char *back;
    size_t bytes;
    assert_int_equal(lq_tokenizer_decode(tok, ids, n, &arena, &back, &bytes), LQ_OK);
    assert_string_equal(back, text);
}

static void hugging_face_cases(void **state)
{
    (void)state;
    lq_json *root;
    assert_int_equal(lq_json_read(shared("vectors/hf_tokenizer_cases.json"), &root), LQ_OK);
    size_t families = 0, refused = 0;
    for (const lq_json *f = lq_json_first(root); f; f = lq_json_next(f)) {
        const char *file = lq_json_string(lq_json_get(f, "tokenizer"));
        lq_tokenizer *tok;
        if (!file || !strstr(file, ".json"))
            continue;
        const char *path = shared(lq_arena_printf(&arena, "vectors/%s", file));
        if (lq_tokenizer_read(path, &tok) != LQ_OK) {
            assert_non_null(strstr(lq_status_note(), "not supported"));
            refused++;
            continue;
        }
        const lq_json *cases = lq_json_get(f, "cases");
        for (const lq_json *c = lq_json_first(cases); c; c = lq_json_next(c))
            check_case(tok, lq_json_string(lq_json_get(c, "text")), lq_json_get(c, "ids"), file);
        families++;
        lq_tokenizer_free(tok);
    }
    lq_json_free(root);
    /* byte_level, digits, cl100k, deepseek, o200k twice, qwen2, qwen35 twice; the rest are Metaspace,
     * WordPiece, Unigram, Punctuation and add_prefix_space */
    assert_int_equal(families, 9);
    assert_int_equal(refused, 6);
}

static lq_tokenizer *gpt2(void)
{
    lq_tokenizer *tok;
    if (lq_tokenizer_read(shared("gpt2/tokenizer.json"), &tok) != LQ_OK)
        fail_msg("%s", lq_status_note());
    assert_int_equal(lq_tokenizer_vocab(tok), 50257);
    assert_int_equal(lq_tokenizer_end_of_text(tok), 50256);
    return tok;
}

/* The strings of vectors/ggml-vocab.inp, each with its line of ids. */
static void llama_cpp_cases(void **state)
{
    (void)state;
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char *texts, *lines;
    size_t n, cases = 0;
    assert_int_equal(lq_file_read(shared("vectors/ggml-vocab.inp"), &arena, &texts, &n), LQ_OK);
    assert_int_equal(lq_file_read(shared("vectors/ggml-vocab-gpt-2.out"), &arena, &lines, &n),
                     LQ_OK);
    lq_tokenizer *tok = gpt2();
    for (char *end; (end = strstr(texts, separator)) != NULL; texts = end + sizeof separator - 1) {
        uint32_t *ids;
        size_t n_ids = encoded(tok, texts, (size_t)(end - texts), &ids);
        for (size_t i = 0; i < n_ids; i++)
            assert_int_equal(ids[i], strtoul(lines, &lines, 10));
        assert_int_equal(*lines, '\n');
        lines++;
        cases++;
    }
    assert_int_equal(cases, 46);
    lq_tokenizer_free(tok);
}

static void gpt2_multilingual_cases(void **state)
{
    (void)state;
    lq_json *root;
    assert_int_equal(lq_json_read(shared("vectors/gpt2_multilingual.json"), &root), LQ_OK);
    lq_tokenizer *tok = gpt2();
    const lq_json *entries = lq_json_get(root, "entries");
    for (const lq_json *e = lq_json_first(entries); e; e = lq_json_next(e)) {
        const char *text = lq_json_string(lq_json_get(e, "decoded_with_special"));
        check_case(tok, text, lq_json_get(e, "input_ids"), lq_json_string(lq_json_get(e, "id")));
    }
    assert_int_equal(lq_json_count(entries), 83);
    lq_json_free(root);
    assert_int_equal(lq_json_read(shared("vectors/gpt2_encoded_tokens.json"), &root), LQ_OK);
    check_case(tok, lq_json_string(lq_json_get(root, "text")), lq_json_get(root, "token_ids"),
               "long text");
    lq_json_free(root);
    lq_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(hugging_face_cases, close_arena),
        cmocka_unit_test_teardown(llama_cpp_cases, close_arena),
        cmocka_unit_test_teardown(gpt2_multilingual_cases, close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
