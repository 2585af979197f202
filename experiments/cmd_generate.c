/* lcqat generate: text with a model, token by token. */
#include "core/base/file.h"
#include "core/eval/generate.h"
#include "core/text/chat.h"
#include "experiments/command.h"
#include "experiments/model.h"

#include <stdio.h>
#include <string.h>

enum { DEFAULT_N = 128, MAX_STOP = 32 };

typedef struct writer { /* of the text so far */
    const lq_tokenizer *tok;
    uint32_t *id; /* prompt, then what is new */
    size_t n;
    size_t before, written; /* bytes of the prompt's text; bytes of all that were passed on */
    bool quiet;             /* for --json: nothing before the end */
    char *text;             /* all of it, decoded */
    size_t bytes;
    lq_arena *arena;
} writer;

/* Bytes up to the last whole character: a token may end inside one. */
static size_t whole_characters(const char *text, size_t n)
{
    size_t at = n;
    for (size_t back = 0; at > 0 && back < 4; back++) {
        const unsigned char c = (unsigned char)text[--at];
        if ((c & 0xc0) == 0x80)
            continue;
        const size_t wide = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        return n - at < wide ? at : n;
    }
    return n;
}

/* The text of a token may depend on those before it, so all is decoded anew. */
static lq_status write_on(writer *w, bool last)
{
    const lq_mark mark = lq_arena_mark(w->arena);
    LQ_TRY(lq_tokenizer_decode(w->tok, w->id, w->n, w->arena, &w->text, &w->bytes));
    const size_t end = last ? w->bytes : whole_characters(w->text, w->bytes);
    if (!w->quiet && end > w->written) {
        fwrite(w->text + w->written, 1, end - w->written, stdout);
        fflush(stdout);
        w->written = end;
    }
    if (!last)
        lq_arena_release(w->arena, mark);
    return LQ_OK;
}

static lq_status on_token(void *context, uint32_t token)
{
    writer *w = context;
    w->id[w->n++] = token;
    return w->quiet ? LQ_OK : write_on(w, false);
}

/* ---- What ends a text --------------------------------------------------------------------------- */

typedef struct stop_list {
    uint32_t id[MAX_STOP];
    size_t n;
} stop_list;

static void add_stop(stop_list *stop, double id)
{
    if (id >= 0 && id < UINT32_MAX && stop->n < MAX_STOP)
        stop->id[stop->n++] = (uint32_t)id;
}

/* eos_token_id of DIR/FILE: a number, or a list of them. */
static lq_status read_stops(const char *dir, const char *file, lq_arena *arena, stop_list *stop)
{
    const char *path = lq_arena_printf(arena, "%s/%s", dir, file);
    lq_json *json;
    if (!lq_path_exists(path))
        return LQ_OK;
    LQ_TRY(lq_json_read(path, &json));
    const lq_json *ids = lq_json_get(json, "eos_token_id");
    if (ids != NULL && lq_json_type(ids) == LQ_JSON_NUMBER)
        add_stop(stop, lq_json_number(ids));
    for (const lq_json *id = lq_json_first(ids); id != NULL; id = lq_json_next(id))
        add_stop(stop, lq_json_number(id));
    lq_json_free(json);
    return LQ_OK;
}

static lq_status find_stops(const lq_model *model, const lq_chat *chat, lq_arena *arena,
                            stop_list *stop)
{
    const uint32_t end = lq_tokenizer_end_of_text(model->tok);
    uint32_t *ids;
    size_t n;
    if (end != UINT32_MAX)
        add_stop(stop, (double)end);
    LQ_TRY(read_stops(model->dir, "config.json", arena, stop));
    LQ_TRY(read_stops(model->dir, "generation_config.json", arena, stop));
    if (chat == NULL)
        return LQ_OK;
    LQ_TRY(lq_tokenizer_encode(model->tok, chat->end, strlen(chat->end), arena, &ids, &n));
    if (n != 1)
        return lq_fail(LQ_E_FORMAT, "%s: the tokenizer has no token %s, which %s needs", model->dir,
                       chat->end, chat->family);
    add_stop(stop, (double)ids[0]);
    return LQ_OK;
}

/* ---- The prompt ------------------------------------------------------------------------------- */

/* chat_template of tokenizer_config.json: a text, or a list of named ones; or chat_template.jinja. */
static lq_status read_template(const char *dir, lq_arena *arena, const char **out)
{
    const char *path = lq_arena_printf(arena, "%s/chat_template.jinja", dir);
    char *text;
    size_t bytes;
    *out = NULL;
    if (lq_path_exists(path)) {
        LQ_TRY(lq_file_read(path, arena, &text, &bytes));
        *out = lq_arena_printf(arena, "%.*s", (int)bytes, text);
        return LQ_OK;
    }
    path = lq_arena_printf(arena, "%s/tokenizer_config.json", dir);
    if (lq_path_exists(path)) {
        lq_json *json;
        LQ_TRY(lq_json_read(path, &json));
        const lq_json *found = lq_json_get(json, "chat_template");
        const char *word = lq_json_string(found);
        for (const lq_json *one = lq_json_first(found); one != NULL; one = lq_json_next(one)) {
            const char *name = lq_json_string(lq_json_get(one, "name"));
            if (name != NULL && strcmp(name, "default") == 0)
                word = lq_json_string(lq_json_get(one, "template"));
        }
        *out = word != NULL ? lq_arena_printf(arena, "%s", word) : NULL;
        lq_json_free(json);
    }
    if (*out == NULL)
        return lq_fail(LQ_E_MISSING,
                       "%s: no chat template: not an instruct model; leave --chat away", dir);
    return LQ_OK;
}

static lq_status read_prompt(const lq_args *args, const lq_model *model, lq_arena *arena,
                             lq_chat *chat, uint32_t **ids, size_t *n)
{
    const char *text = lq_args_text(args, "prompt", NULL), *form;
    if (text == NULL)
        return lq_fail(LQ_E_OPTION, "generate: --prompt TEXT is missing");
    if (lq_args_flag(args, "chat")) {
        LQ_TRY(read_template(model->dir, arena, &form));
        LQ_TRY(lq_chat_prompt(form, model->dir, text, arena, chat));
        text = chat->prompt;
    }
    LQ_TRY(lq_tokenizer_encode(model->tok, text, strlen(text), arena, ids, n));
    const uint32_t end = lq_tokenizer_end_of_text(model->tok);
    if (*n == 0 && end != UINT32_MAX) { /* a text begins where another ended */
        LQ_TRY(lq_arena_new(arena, ids, 1));
        (*ids)[(*n)++] = end;
    }
    return LQ_OK;
}

/* ---- The command ------------------------------------------------------------------------------ */

static void report_speed(const lq_generated *r)
{
    fprintf(stderr, "%zu tokens of prompt in %.2f s, %zu tokens in %.2f s (%.1f tokens/s)%s\n",
            r->n_prompt, r->prefill_s, r->n, r->decode_s,
            r->decode_s > 0 ? (double)r->n / r->decode_s : 0.0, r->ended ? ", ended" : "");
}

static void print_json(const lq_model *model, const writer *w, const lq_generated *r)
{
    lq_json *json = lq_json_object(), *ids = lq_json_array();
    lq_json_set_string(json, "model", model->name);
    lq_json_set_string(json, "model_sha256", model->digest.hex);
    w->text[whole_characters(w->text, w->bytes)] = '\0'; /* a cut one is no UTF-8 */
    lq_json_set_string(json, "text", w->text + w->before);
    for (size_t i = r->n_prompt; i < w->n; i++)
        lq_json_append(ids, lq_json_of_number((double)w->id[i]));
    lq_json_set(json, "ids", ids);
    lq_json_set_number(json, "prompt_tokens", (double)r->n_prompt);
    lq_json_set_number(json, "tokens", (double)r->n);
    lq_json_set_bool(json, "ended", r->ended);
    lq_json_set_number(json, "prefill_s", r->prefill_s);
    lq_json_set_number(json, "decode_s", r->decode_s);
    lq_json_set_number(json, "tokens_per_s", (double)r->n / r->decode_s);
    lq_print_json(json);
}

static lq_status write_text(const lq_args *args, const lq_model *model, lq_arena *arena)
{
    lq_generate_how how;
    lq_generated result;
    lq_chat chat = {.family = NULL};
    stop_list stop = {.n = 0};
    size_t seed, n_prompt;
    uint32_t *prompt;
    writer w = {.tok = model->tok, .arena = arena, .quiet = lq_args_flag(args, "json")};
    LQ_TRY(read_prompt(args, model, arena, &chat, &prompt, &n_prompt));
    LQ_TRY(find_stops(model, chat.family != NULL ? &chat : NULL, arena, &stop));
    const size_t most = model->q.w.config.max_positions;
    const size_t room = n_prompt < most ? most - n_prompt : 0;
    LQ_TRY(lq_args_size(args, "n", 1, 1 << 24, room < DEFAULT_N ? room : DEFAULT_N, &how.n));
    LQ_TRY(lq_args_real(args, "temperature", 0, 100, 0, &how.sampling.temperature));
    LQ_TRY(lq_args_real(args, "top-p", 1e-6, 1, 1, &how.sampling.top_p));
    LQ_TRY(lq_args_size(args, "seed", 0, 1ul << 31, 1, &seed));
    how.stop = stop.id;
    how.n_stop = stop.n;
    LQ_TRY(lq_arena_new(arena, &w.id, n_prompt + how.n));
    if (n_prompt > 0)
        memcpy(w.id, prompt, n_prompt * sizeof *prompt);
    w.n = n_prompt;
    LQ_TRY(lq_tokenizer_decode(model->tok, prompt, n_prompt, arena, &w.text, &w.before));
    w.written = w.before;
    const lq_rng root = lq_rng_seed(seed);
    lq_rng rng = lq_rng_split(&root, "generate", 0);
    LQ_TRY(lq_generate(&model->q.w, prompt, n_prompt, &how, &rng, on_token, &w, &result));
    LQ_TRY(write_on(&w, true));
    if (w.quiet) {
        print_json(model, &w, &result);
        return LQ_OK;
    }
    printf("\n");
    fflush(stdout);
    report_speed(&result);
    return LQ_OK;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    lq_model model;
    LQ_TRY(lq_model_open(lq_args_at(args, 0), arena, &model));
    lq_status status = write_text(args, &model, arena);
    lq_model_close(&model);
    return status;
}

static const lq_arg_spec spec[] = {
    {"prompt", 'p', LQ_ARG_TEXT, "TEXT", "what the text begins with; it is not printed again"},
    {"n", 'n', LQ_ARG_TEXT, "N", "new tokens at most (128)"},
    {"temperature", 0, LQ_ARG_TEXT, "T", "0: always the likeliest token (0)"},
    {"top-p", 0, LQ_ARG_TEXT, "P", "draw from the fewest tokens that hold this share (1)"},
    {"seed", 0, LQ_ARG_TEXT, "S", "of the draws (1)"},
    {"chat", 0, LQ_ARG_FLAG, NULL, "put the prompt as the model's chat template does"},
    LQ_ARG_JSON,
};
const lq_command lq_command_generate = {
    .name = "generate",
    .summary = "writes text with a model",
    .positionals = "MODEL --prompt TEXT [-n N] [--temperature T] [--top-p P] [--seed S]",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
