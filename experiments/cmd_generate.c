/* lcqat generate: text with a model, token by token. */
#include "core/base/log.h"
#include "core/eval/generate.h"
#include "core/text/utf8.h"
#include "experiments/chat.h"
#include "experiments/command.h"

#include <stdio.h>
#include <string.h>

enum { DEFAULT_N = 128 };

typedef struct writer { /* of the text so far */
    const lq_tokenizer *tok;
    uint32_t *id; /* prompt, then what is new */
    size_t n;
    size_t read;    /* bytes of the decoded ids that are in `text` or belong to the prompt */
    lq_buffer text; /* what is new: whole characters, U+FFFD for bytes that are none */
    size_t written; /* bytes of it that were printed */
    bool quiet;     /* for --json: nothing before the end */
    lq_arena *arena;
} writer;

/* Bytes up to a character whose end is still to come: a token may end inside one. */
static size_t whole_characters(const char *text, size_t n)
{
    for (size_t k = n < 3 ? n : 3; k > 0; k--)
        if (lq_utf8_begun(text + n - k, k))
            return n - k;
    return n;
}

/* The text of a token may depend on those before it, so all is decoded anew. Special tokens have none. */
static lq_status write_on(writer *w)
{
    char *text;
    size_t bytes;
    const lq_mark mark = lq_arena_mark(w->arena);
    LQ_TRY(lq_tokenizer_decode_with(w->tok, w->id, w->n, LQ_DECODE_NO_SPECIAL, w->arena, &text,
                                    &bytes));
    const size_t end = whole_characters(text, bytes), from = w->read;
    lq_status status = LQ_OK;
    if (end > from) {
        status = lq_utf8_replace(text + from, end - from, &w->text);
        w->read = end;
    }
    lq_arena_release(w->arena, mark);
    if (status == LQ_OK && !w->quiet && w->text.n > w->written) {
        fwrite(w->text.data + w->written, 1, w->text.n - w->written, stdout);
        fflush(stdout);
        w->written = w->text.n;
    }
    return status;
}

static lq_status on_token(void *context, uint32_t token)
{
    writer *w = context;
    w->id[w->n++] = token;
    return w->quiet ? LQ_OK : write_on(w);
}

/* ---- The prompt ------------------------------------------------------------------------------- */

typedef struct prompt {
    lq_ends ends;
    lq_chat chat;     /* family NULL: the text as it is */
    const char *note; /* about the template, for the user; may be NULL */
    uint32_t *id;
    size_t n;
} prompt;

static lq_status read_prompt(const lq_args *args, const lq_model *m, lq_arena *arena, prompt *p)
{
    const char *text = lq_args_text(args, "prompt", NULL);
    const bool always = lq_args_flag(args, "chat"), never = lq_args_flag(args, "no-chat");
    if (text == NULL)
        return lq_fail(LQ_E_OPTION, "generate: --prompt TEXT is missing");
    if (always && never)
        return lq_fail(LQ_E_OPTION, "generate: --chat or --no-chat, not both");
    LQ_TRY(lq_ends_of(m, arena, &p->ends));
    LQ_TRY(lq_chat_choose(m, &p->ends,
                          always  ? LQ_CHAT_ALWAYS
                          : never ? LQ_CHAT_NEVER
                                  : LQ_CHAT_AUTO,
                          text, arena, &p->chat, &p->note));
    if (p->chat.family != NULL) {
        uint32_t *end;
        size_t n;
        text = p->chat.prompt;
        LQ_TRY(lq_tokenizer_encode(m->tok, p->chat.end, strlen(p->chat.end), arena, &end, &n));
        LQ_ASSERT(n == 1);
        if (p->ends.n < LQ_MAX_ENDS)
            p->ends.id[p->ends.n++] = end[0];
    }
    /* A chat template writes the special tokens itself; else there is the BOS of the model's training. */
    const unsigned flags = p->chat.family != NULL ? 0 : LQ_ENCODE_SPECIAL;
    LQ_TRY(lq_tokenizer_encode_with(m->tok, text, strlen(text), flags, arena, &p->id, &p->n));
    const uint32_t end = lq_tokenizer_end_of_text(m->tok);
    if (p->n == 0 && end != UINT32_MAX) { /* a text begins where another ended */
        LQ_TRY(lq_arena_new(arena, &p->id, 1));
        p->id[p->n++] = end;
    }
    return LQ_OK;
}

/* ---- The command ------------------------------------------------------------------------------ */

static double tokens_per_s(const lq_generated *r)
{
    return r->decode_s > 0 ? (double)r->n / r->decode_s : 0;
}

static void report_speed(const lq_generated *r)
{
    fprintf(stderr, "%zu tokens of prompt in %.2f s, %zu tokens in %.2f s (%.1f tokens/s)%s\n",
            r->n_prompt, r->prefill_s, r->n, r->decode_s, tokens_per_s(r),
            r->ended ? ", ended" : "");
}

static void print_json(const lq_model *model, const prompt *p, const writer *w,
                       const lq_generated *r)
{
    lq_json *json = lq_json_object(), *ids = lq_json_array();
    lq_json_set_string(json, "model", model->name);
    lq_json_set_string(json, "model_sha256", model->digest.hex);
    lq_json_set_string(json, "tokenizer", model->tok_path);
    if (p->chat.family != NULL)
        lq_json_set_string(json, "chat_template", p->chat.family);
    lq_json_set_string(json, "text", w->text.n > 0 ? w->text.data : "");
    for (size_t i = r->n_prompt; i < w->n; i++)
        lq_json_append(ids, lq_json_of_number((double)w->id[i]));
    lq_json_set(json, "ids", ids);
    lq_json_set_number(json, "prompt_tokens", (double)r->n_prompt);
    lq_json_set_number(json, "tokens", (double)r->n);
    lq_json_set_bool(json, "ended", r->ended);
    lq_json_set_number(json, "prefill_s", r->prefill_s);
    lq_json_set_number(json, "decode_s", r->decode_s);
    lq_json_set_number(json, "tokens_per_s", tokens_per_s(r));
    lq_print_json(json);
}

/* How many tokens to write, and how: checked before the work begins. */
static lq_status read_how(const lq_args *args, const lq_model *m, const prompt *p, size_t *seed,
                          lq_generate_how *how)
{
    const size_t most = m->q.w.config.max_positions;
    const size_t room = p->n < most ? most - p->n : 0;
    LQ_TRY(lq_args_size(args, "n", 0, 1 << 24, room > 0 && room < DEFAULT_N ? room : DEFAULT_N,
                        &how->n));
    LQ_TRY(lq_args_real(args, "temperature", 0, 100, 0, &how->sampling.temperature));
    LQ_TRY(lq_args_real(args, "top-p", 1e-6, 1, 1, &how->sampling.top_p));
    LQ_TRY(lq_args_size(args, "seed", 0, 1ul << 31, 1, seed));
    how->stop = p->ends.id;
    how->n_stop = p->ends.n;
    if (p->n > most || how->n > room)
        return lq_fail(LQ_E_OPTION,
                       "generate: %zu tokens of prompt and %zu new ones are more than the %zu "
                       "positions of %s; shorten the prompt%s",
                       p->n, how->n, most, m->name, room > 0 ? " or give a lower -n" : "");
    if (p->note != NULL)
        lq_log_info("%s", p->note);
    if (how->sampling.top_p < 1 && how->sampling.temperature <= 0)
        lq_log_warn("--top-p changes nothing at --temperature 0: the likeliest token is taken");
    return LQ_OK;
}

static lq_status write_text(const lq_args *args, const lq_model *model, lq_arena *arena, writer *w)
{
    lq_generate_how how;
    lq_generated result;
    prompt p = {.n = 0};
    size_t seed;
    char *before;
    LQ_TRY(read_prompt(args, model, arena, &p));
    LQ_TRY(read_how(args, model, &p, &seed, &how));
    LQ_TRY(lq_arena_new(arena, &w->id, p.n + how.n));
    if (p.n > 0)
        memcpy(w->id, p.id, p.n * sizeof *p.id);
    w->n = p.n;
    LQ_TRY(lq_tokenizer_decode_with(model->tok, p.id, p.n, LQ_DECODE_NO_SPECIAL, arena, &before,
                                    &w->read));
    const lq_rng root = lq_rng_seed(seed);
    lq_rng rng = lq_rng_split(&root, "generate", 0);
    LQ_TRY(lq_generate(&model->q.w, p.id, p.n, &how, &rng, on_token, w, &result));
    if (w->quiet) {
        LQ_TRY(write_on(w));
        LQ_TRY(lq_buffer_add(&w->text, "", 1)); /* the NUL */
        print_json(model, &p, w, &result);
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
    LQ_TRY(lq_model_open_with(lq_args_at(args, 0), lq_args_text(args, "tokenizer", NULL), arena,
                              &model));
    writer w = {.tok = model.tok, .arena = arena, .quiet = lq_args_flag(args, "json")};
    lq_status status = lq_model_need_text(&model);
    if (status == LQ_OK)
        status = write_text(args, &model, arena, &w);
    lq_buffer_free(&w.text);
    lq_model_close(&model);
    return status;
}

static const lq_arg_spec spec[] = {
    {"prompt", 'p', LQ_ARG_TEXT, "TEXT", "what the text begins with; it is not printed again"},
    {"n", 'n', LQ_ARG_TEXT, "N", "new tokens at most (128)"},
    {"temperature", 0, LQ_ARG_TEXT, "T", "0: always the likeliest token (0)"},
    {"top-p", 0, LQ_ARG_TEXT, "P", "draw from the fewest tokens that hold this share (1)"},
    {"seed", 0, LQ_ARG_TEXT, "S", "of the draws (1)"},
    {"chat", 0, LQ_ARG_FLAG, NULL,
     "put the prompt as the chat template does, also for a base model"},
    {"no-chat", 0, LQ_ARG_FLAG, NULL, "leave an instruct model's chat template out"},
    LQ_ARG_TOKENIZER,
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
