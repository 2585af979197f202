/* Which tokens begin and end a text and whether a chat template is applied, by the files of a model: a directory, a
 * GGUF file, another tokenizer beside it. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/base/json.h"
#include "experiments/chat.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char here[64];
static lq_arena arena;

static int open_here(void **state)
{
    (void)state;
    snprintf(here, sizeof here, P_tmpdir "/lcqat-chat-XXXXXX");
    return mkdtemp(here) == NULL;
}

static int close_here(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return lq_path_remove_tree(here) != LQ_OK;
}

static const char *in_here(const char *name)
{
    return lq_arena_printf(&arena, "%s/%s", here, name);
}

static void write_file(const char *name, const char *text)
{
    check_ok(lq_file_write_all(in_here(name), text, strlen(text)));
}

static bool ends_hold(const lq_ends *ends, uint32_t id)
{
    for (size_t i = 0; i < ends->n; i++)
        if (ends->id[i] == id)
            return true;
    return false;
}

/* ---- A directory --------------------------------------------------------------------------------- */

enum { IM_START = 300, IM_END = 301 };
static const char chatml[] = "{{'<|im_start|>' + message['role'] + '<|im_end|>'}}";

/* A vocabulary of its own with ChatML's two tokens. */
static void tokenizer_in(const char *name)
{
    static const char *const special[] = {"<|im_start|>", "<|im_end|>"};
    static const char text[] = "a question and an answer, a question and an answer";
    lq_tokenizer *tok;
    lq_json *json;
    check_ok(lq_tokenizer_train(text, strlen(text), 260, &tok));
    check_ok(lq_tokenizer_write(tok, in_here(name)));
    lq_tokenizer_free(tok);
    check_ok(lq_json_read(in_here(name), &json));
    for (size_t i = 0; i < 2; i++) {
        lq_json *token = lq_json_object();
        lq_json_set_number(token, "id", (double)(IM_START + i));
        lq_json_set_string(token, "content", special[i]);
        lq_json_set_bool(token, "special", true);
        lq_json_append(lq_json_member(json, "added_tokens"), token);
    }
    write_file(name, lq_json_pretty(json, &arena));
    lq_json_free(json);
}

/* As lq_model_peek leaves it, without weights. */
static lq_model model_of(const char *path, const char *tok_path, lq_model_form form)
{
    lq_model m = {.name = "test", .form = form, .path = path, .dir = here, .tok_dir = here};
    m.tok_path = tok_path;
    check_ok(lq_tokenizer_open(in_here("tokenizer.json"), &m.tok));
    return m;
}

static void set_config(const char *template_text, const char *eos)
{
    lq_json *config = lq_json_object();
    if (template_text != NULL)
        lq_json_set_string(config, "chat_template", template_text);
    lq_json_set_string(config, "eos_token", eos);
    write_file("tokenizer_config.json", lq_json_pretty(config, &arena));
    lq_json_free(config);
}

static void ends_come_from_every_file(void **state)
{
    (void)state;
    lq_ends ends;
    tokenizer_in("tokenizer.json");
    lq_model m = model_of(here, here, LQ_MODEL_HF);
    check_ok(lq_ends_of(&m, &arena, &ends));
    assert_int_equal(ends.n, 1); /* the tokenizer's own */
    assert_int_equal(ends.id[0], 0);
    write_file("config.json", "{\"eos_token_id\": [7, 8], \"hidden_size\": 4}");
    write_file("generation_config.json", "{\"eos_token_id\": 9}");
    set_config(NULL, "<|im_end|>");
    check_ok(lq_ends_of(&m, &arena, &ends));
    assert_int_equal(ends.n, 5);
    assert_true(ends_hold(&ends, 7) && ends_hold(&ends, 8) && ends_hold(&ends, 9));
    assert_true(ends_hold(&ends, IM_END) && !ends_hold(&ends, IM_START));
    write_file("generation_config.json", "{\"eos_token_id\": null}");
    check_ok(lq_ends_of(&m, &arena, &ends));
    assert_int_equal(ends.n, 4);
    write_file("generation_config.json", "{\"eos_token_id\"");
    assert_int_equal(lq_ends_of(&m, &arena, &ends), LQ_E_FORMAT);
    check_ok(lq_path_remove_tree(in_here("generation_config.json")));
    check_ok(lq_path_remove_tree(in_here("config.json")));
    lq_tokenizer_free(m.tok);
}

typedef struct expected {
    lq_chat_wish wish;
    const char *user;
    lq_status status;
    bool applied;
    const char *note; /* a part of it; NULL: nothing is said */
} expected;

static void check_choice(const lq_model *m, const expected *want)
{
    lq_ends ends;
    lq_chat chat;
    const char *note;
    check_ok(lq_ends_of(m, &arena, &ends));
    const lq_status status = lq_chat_choose(m, &ends, want->wish, want->user, &arena, &chat, &note);
    assert_int_equal(status, want->status);
    if (status != LQ_OK)
        note = lq_status_note();
    else
        assert_int_equal(chat.family != NULL, want->applied);
    assert_int_equal(note != NULL, want->note != NULL);
    if (note != NULL && strstr(note, want->note) == NULL)
        fail_msg("'%s' does not say '%s'", note, want->note);
}

static void templates_are_for_models_that_answer(void **state)
{
    (void)state;
    static const char asked[] = "Why?", written[] = "<|im_start|>user\nWhy?<|im_end|>\n";
    tokenizer_in("tokenizer.json");
    lq_model m = model_of(here, here, LQ_MODEL_HF);
    set_config(chatml, "<|im_end|>"); /* made to answer */
    check_choice(&m, &(expected){LQ_CHAT_AUTO, asked, LQ_OK, true, "ChatML, of "});
    check_choice(&m, &(expected){LQ_CHAT_NEVER, asked, LQ_OK, false, NULL});
    check_choice(&m, &(expected){LQ_CHAT_AUTO, written, LQ_OK, false, "has its own <|im_start|>"});
    check_choice(&m, &(expected){LQ_CHAT_ALWAYS, written, LQ_OK, true, "ChatML"});
    set_config(chatml, "<|endoftext|>"); /* the template of its family, in a base model */
    check_choice(&m, &(expected){LQ_CHAT_AUTO, asked, LQ_OK, false, "a base model"});
    check_choice(&m, &(expected){LQ_CHAT_ALWAYS, asked, LQ_OK, true, "ChatML"});
    set_config("{{ '[INST] ' + message['content'] }}", "<|im_end|>");
    check_choice(&m, &(expected){LQ_CHAT_AUTO, asked, LQ_OK, false, "neither ChatML nor Llama 3"});
    check_choice(&m, &(expected){LQ_CHAT_ALWAYS, asked, LQ_E_UNAVAILABLE, false, "neither"});
    set_config("<|start_header_id|> <|eot_id|>", "<|im_end|>"); /* tokens that it does not have */
    check_choice(&m, &(expected){LQ_CHAT_AUTO, asked, LQ_OK, false, "not applied"});
    check_choice(&m, &(expected){LQ_CHAT_ALWAYS, asked, LQ_E_FORMAT, false, "<|eot_id|>"});
    set_config(NULL, "<|im_end|>");
    check_choice(&m, &(expected){LQ_CHAT_AUTO, asked, LQ_OK, false, NULL});
    check_choice(&m, &(expected){LQ_CHAT_ALWAYS, asked, LQ_E_MISSING, false, "no chat template"});
    write_file("chat_template.jinja", chatml); /* a file of its own is the newer way */
    check_choice(&m, &(expected){LQ_CHAT_AUTO, asked, LQ_OK, true, "chat_template.jinja"});
    check_ok(lq_path_remove_tree(in_here("chat_template.jinja")));
    lq_tokenizer_free(m.tok);
}

/* ---- A GGUF file ----------------------------------------------------------------------------------- */

typedef struct maker {
    char at[1024];
    size_t n;
} maker;
enum { U32 = 4, STRING = 8 };

static void raw(maker *m, const void *data, size_t n)
{
    assert_true(m->n + n <= sizeof m->at);
    memcpy(m->at + m->n, data, n);
    m->n += n;
}
static void string(maker *m, const char *text)
{
    const uint64_t n = strlen(text);
    raw(m, &n, sizeof n);
    raw(m, text, n);
}
static void head(maker *m, const char *key, uint32_t type)
{
    string(m, key);
    raw(m, &type, sizeof type);
}
static void number(maker *m, const char *key, uint32_t value)
{
    head(m, key, U32);
    raw(m, &value, sizeof value);
}

/* Metadata alone, of six values. */
static void gguf_in(const char *name, uint32_t eos)
{
    maker m = {.n = 0};
    const uint32_t version = 3;
    const uint64_t n_tensors = 0, n_values = 6;
    raw(&m, "GGUF", 4);
    raw(&m, &version, sizeof version);
    raw(&m, &n_tensors, sizeof n_tensors);
    raw(&m, &n_values, sizeof n_values);
    head(&m, "general.architecture", STRING);
    string(&m, "llama");
    number(&m, "tokenizer.ggml.bos_token_id", 13);
    number(&m, "tokenizer.ggml.eos_token_id", eos);
    number(&m, "tokenizer.ggml.eot_token_id", 11);
    number(&m, "tokenizer.ggml.eom_token_id", 12);
    head(&m, "tokenizer.chat_template", STRING);
    string(&m, chatml);
    while (m.n % 32 != 0)
        raw(&m, "", 1);
    check_ok(lq_file_write_all(in_here(name), m.at, m.n));
}

static void a_gguf_file_says_it_itself(void **state)
{
    (void)state;
    lq_ends ends;
    tokenizer_in("tokenizer.json");
    set_config("{{ 'of another model' }}", "<|im_start|>");
    gguf_in("model.gguf", IM_END);
    lq_model m = model_of(in_here("model.gguf"), in_here("model.gguf"), LQ_MODEL_GGUF);
    check_ok(lq_ends_of(&m, &arena, &ends));
    assert_int_equal(ends.n, 4); /* eos, eot, eom; and the tokenizer's 0 */
    assert_true(ends_hold(&ends, IM_END) && ends_hold(&ends, 11) && ends_hold(&ends, 12));
    check_choice(&m, &(expected){LQ_CHAT_AUTO, "Why?", LQ_OK, true, "model.gguf"});
    gguf_in("model.gguf", 0);
    check_choice(&m, &(expected){LQ_CHAT_AUTO, "Why?", LQ_OK, false, "a base model"});
    m.tok_path = here; /* --tokenizer DIR: its template, and its ends besides */
    set_config(chatml, "<|im_end|>");
    check_choice(&m, &(expected){LQ_CHAT_AUTO, "Why?", LQ_OK, true, "tokenizer_config.json"});
    check_ok(lq_ends_of(&m, &arena, &ends));
    assert_true(ends_hold(&ends, IM_END) && ends_hold(&ends, 11));
    lq_tokenizer_free(m.tok);
}

static void a_beginning_is_named_by_the_files(void **state)
{
    (void)state;
    uint32_t bos;
    tokenizer_in("tokenizer.json");
    write_file("tokenizer_config.json", "{\"bos_token\": null}");
    lq_model m = model_of(here, here, LQ_MODEL_HF);
    check_ok(lq_bos_of(&m, &arena, &bos));
    assert_int_equal(bos, UINT32_MAX);
    write_file("config.json", "{\"bos_token_id\": 5}");
    check_ok(lq_bos_of(&m, &arena, &bos));
    assert_int_equal(bos, 5);
    write_file("tokenizer_config.json", "{\"bos_token\": {\"content\": \"<|im_start|>\"}}");
    check_ok(lq_bos_of(&m, &arena, &bos));
    assert_int_equal(bos, IM_START);
    check_ok(lq_path_remove_tree(in_here("config.json")));
    gguf_in("model.gguf", IM_END);
    m.form = LQ_MODEL_GGUF;
    m.path = m.tok_path = in_here("model.gguf");
    check_ok(lq_bos_of(&m, &arena, &bos));
    assert_int_equal(bos, 13);
    lq_tokenizer_free(m.tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_come_from_every_file),
        cmocka_unit_test(templates_are_for_models_that_answer),
        cmocka_unit_test(a_gguf_file_says_it_itself),
        cmocka_unit_test(a_beginning_is_named_by_the_files),
    };
    return cmocka_run_group_tests_name("model_chat", tests, open_here, close_here);
}
