#include "experiments/chat.h"

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/data/gguf.h"

#include <string.h>

/* ---- Ends ---------------------------------------------------------------------------------------- */

static lq_status add_end(lq_ends *ends, const char *where, double id)
{
    if (!(id >= 0 && id < UINT32_MAX)) /* null, -1: there is none */
        return LQ_OK;
    for (size_t i = 0; i < ends->n; i++)
        if (ends->id[i] == (uint32_t)id)
            return LQ_OK;
    if (ends->n == LQ_MAX_ENDS)
        return lq_fail(LQ_E_FORMAT, "%s: more than %d tokens that end a text", where, LQ_MAX_ENDS);
    ends->id[ends->n++] = (uint32_t)id;
    return LQ_OK;
}

/* eos_token_id of a config: a number, or a list of them. */
static lq_status ends_of_config(const char *path, lq_ends *ends)
{
    lq_json *json;
    lq_status status = LQ_OK;
    if (!lq_path_exists(path))
        return LQ_OK;
    LQ_TRY(lq_json_read(path, &json));
    const lq_json *ids = lq_json_get(json, "eos_token_id");
    if (ids != NULL)
        status = add_end(ends, path, lq_json_number(ids));
    for (const lq_json *id = lq_json_first(ids); status == LQ_OK && id; id = lq_json_next(id))
        status = add_end(ends, path, lq_json_number(id));
    lq_json_free(json);
    return status;
}

/* The id of a text that is one token; UINT32_MAX: it is not. */
static lq_status id_of(const lq_tokenizer *tok, const char *text, lq_arena *arena, uint32_t *out)
{
    uint32_t *ids;
    size_t n;
    LQ_TRY(lq_tokenizer_encode(tok, text, strlen(text), arena, &ids, &n));
    *out = n == 1 ? ids[0] : UINT32_MAX;
    return LQ_OK;
}

/* eos_token or bos_token of tokenizer_config.json: a text, or an object with a "content". */
static lq_status id_in_tokenizer(const lq_model *m, const char *dir, const char *key,
                                 lq_arena *arena, uint32_t *out)
{
    const char *path = lq_arena_printf(arena, "%s/tokenizer_config.json", dir);
    lq_json *json;
    *out = UINT32_MAX;
    if (m->tok == NULL || !lq_path_exists(path))
        return LQ_OK;
    LQ_TRY(lq_json_read(path, &json));
    const lq_json *node = lq_json_get(json, key);
    const char *text = lq_json_string(node);
    if (text == NULL)
        text = lq_json_string(lq_json_get(node, "content"));
    const lq_status status = text != NULL ? id_of(m->tok, text, arena, out) : LQ_OK;
    lq_json_free(json);
    return status;
}

static lq_status ends_of_gguf(const char *path, lq_arena *arena, lq_ends *ends)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    lq_gguf file;
    LQ_TRY(lq_gguf_open(path, arena, &file));
    lq_status status = LQ_OK;
    for (size_t i = 0; status == LQ_OK && i < sizeof keys / sizeof *keys; i++) {
        size_t id;
        status = lq_gguf_size(&file, keys[i], 0, UINT32_MAX, UINT32_MAX, &id);
        if (status == LQ_OK)
            status = add_end(ends, path, (double)id);
    }
    lq_gguf_close(&file);
    return status;
}

/* A directory, or a file: a GGUF file says it itself, others have it in their folder. */
static const char *folder_of(const char *path, lq_arena *arena)
{
    const char *base = lq_path_base(path);
    if (lq_path_is_dir(path))
        return path;
    return base == path ? "." : lq_arena_printf(arena, "%.*s", (int)(base - path - 1), path);
}

static lq_status ends_of_path(const lq_model *m, const char *path, lq_arena *arena, lq_ends *ends)
{
    if (!lq_path_is_dir(path) && lq_gguf_is_one(path))
        return ends_of_gguf(path, arena, ends);
    const char *dir = folder_of(path, arena);
    LQ_TRY(ends_of_config(lq_arena_printf(arena, "%s/config.json", dir), ends));
    LQ_TRY(ends_of_config(lq_arena_printf(arena, "%s/generation_config.json", dir), ends));
    uint32_t id;
    LQ_TRY(id_in_tokenizer(m, dir, "eos_token", arena, &id));
    return id == UINT32_MAX ? LQ_OK : add_end(ends, dir, id);
}

lq_status lq_ends_of(const lq_model *m, lq_arena *arena, lq_ends *out)
{
    size_t n_before;
    *out = (lq_ends){.n = 0};
    if (m->form !=
        LQ_MODEL_LLAMA2C) /* a file among others: what lies beside it may not be its own */
        LQ_TRY(ends_of_path(m, m->path, arena, out));
    if (m->tok == NULL)
        return LQ_OK;
    if (strcmp(m->tok_path, m->path) != 0)
        LQ_TRY(ends_of_path(m, m->tok_path, arena, out));
    const uint32_t *before = lq_tokenizer_before(m->tok, &n_before);
    if (m->form == LQ_MODEL_LLAMA2C && n_before > 0)
        LQ_TRY(add_end(out, m->path, before[0]));
    const uint32_t end = lq_tokenizer_end_of_text(m->tok);
    return end == UINT32_MAX ? LQ_OK : add_end(out, m->tok_path, end);
}

/* ---- The beginning ------------------------------------------------------------------------------- */

static lq_status bos_of_gguf(const char *path, lq_arena *arena, uint32_t *out)
{
    lq_gguf file;
    size_t id;
    LQ_TRY(lq_gguf_open(path, arena, &file));
    const lq_status status =
        lq_gguf_size(&file, "tokenizer.ggml.bos_token_id", 0, UINT32_MAX, UINT32_MAX, &id);
    lq_gguf_close(&file);
    *out = (uint32_t)id;
    return status;
}

static lq_status bos_of_config(const char *path, uint32_t *out)
{
    lq_json *json;
    if (!lq_path_exists(path))
        return LQ_OK;
    LQ_TRY(lq_json_read(path, &json));
    const double id = lq_json_number(lq_json_get(json, "bos_token_id"));
    if (id >= 0 && id < UINT32_MAX)
        *out = (uint32_t)id;
    lq_json_free(json);
    return LQ_OK;
}

lq_status lq_bos_of(const lq_model *m, lq_arena *arena, uint32_t *out)
{
    *out = UINT32_MAX;
    if (m->tok_path != NULL && !lq_path_is_dir(m->tok_path) && lq_gguf_is_one(m->tok_path))
        return bos_of_gguf(m->tok_path, arena, out);
    const char *dir = folder_of(m->tok_path, arena);
    LQ_TRY(id_in_tokenizer(m, dir, "bos_token", arena, out));
    if (*out == UINT32_MAX && m->form != LQ_MODEL_LLAMA2C)
        return bos_of_config(lq_arena_printf(arena, "%s/config.json", m->dir), out);
    return LQ_OK;
}

/* ---- Templates ----------------------------------------------------------------------------------- */

static lq_status template_of_gguf(const char *path, lq_arena *arena, const char **text)
{
    lq_gguf file;
    LQ_TRY(lq_gguf_open(path, arena, &file));
    const lq_status status = lq_gguf_text(&file, "tokenizer.chat_template", "", arena, text);
    lq_gguf_close(&file);
    return status;
}

/* chat_template of tokenizer_config.json: a text, or a list of named ones. */
static lq_status template_of_config(const char *path, lq_arena *arena, const char **text)
{
    lq_json *json;
    LQ_TRY(lq_json_read(path, &json));
    const lq_json *found = lq_json_get(json, "chat_template");
    const char *word = lq_json_string(found);
    for (const lq_json *one = lq_json_first(found); one != NULL; one = lq_json_next(one)) {
        const char *name = lq_json_string(lq_json_get(one, "name"));
        if (name != NULL && strcmp(name, "default") == 0)
            word = lq_json_string(lq_json_get(one, "template"));
    }
    *text = word != NULL ? lq_arena_printf(arena, "%s", word) : "";
    lq_json_free(json);
    return LQ_OK;
}

lq_status lq_chat_template(const lq_model *m, lq_arena *arena, const char **text,
                           const char **where)
{
    const char *path = m->tok_path;
    char *data;
    size_t bytes;
    *text = "";
    if (!lq_path_is_dir(path) && lq_gguf_is_one(path)) {
        *where = path;
        LQ_TRY(template_of_gguf(path, arena, text));
    } else {
        const char *dir = folder_of(path, arena);
        *where = lq_arena_printf(arena, "%s/chat_template.jinja", dir);
        if (lq_path_exists(*where)) {
            LQ_TRY(lq_file_read(*where, arena, &data, &bytes));
            *text = data;
        } else {
            *where = lq_arena_printf(arena, "%s/tokenizer_config.json", dir);
            if (lq_path_exists(*where))
                LQ_TRY(template_of_config(*where, arena, text));
        }
    }
    if (**text == '\0')
        *text = NULL;
    return LQ_OK;
}

/* ---- Whether ------------------------------------------------------------------------------------- */

static bool is_end(const lq_ends *ends, uint32_t id)
{
    for (size_t i = 0; i < ends->n; i++)
        if (ends->id[i] == id)
            return true;
    return false;
}

static void leave(lq_chat *chat) { *chat = (lq_chat){.family = NULL}; }

/* A template of a known family, for a model that may or may not have been made to answer. */
static lq_status decide(const lq_model *m, const lq_ends *ends, lq_chat_wish wish, const char *user,
                        const char *where, lq_arena *arena, lq_chat *chat, const char **note)
{
    uint32_t end;
    LQ_TRY(id_of(m->tok, chat->end, arena, &end));
    if (end == UINT32_MAX && wish == LQ_CHAT_ALWAYS)
        return lq_fail(LQ_E_FORMAT, "%s: the tokenizer has no token %s, which %s needs",
                       m->tok_path, chat->end, chat->family);
    if (wish == LQ_CHAT_AUTO && strstr(user, chat->start) != NULL) {
        *note = lq_arena_printf(arena, "chat template: not applied, the prompt has its own %s",
                                chat->start);
        leave(chat);
    } else if (wish == LQ_CHAT_AUTO && !is_end(ends, end)) {
        *note = lq_arena_printf(arena,
                                "chat template: not applied, %s ends no text of this model (a base "
                                "model); --chat applies it",
                                chat->end);
        leave(chat);
    } else {
        *note = lq_arena_printf(arena, "chat template: %s, of %s; --no-chat leaves it out",
                                chat->family, where);
    }
    return LQ_OK;
}

lq_status lq_chat_choose(const lq_model *m, const lq_ends *ends, lq_chat_wish wish,
                         const char *user, lq_arena *arena, lq_chat *out, const char **note)
{
    const char *text, *where;
    leave(out);
    *note = NULL;
    if (wish == LQ_CHAT_NEVER)
        return LQ_OK;
    LQ_TRY(lq_chat_template(m, arena, &text, &where));
    if (text == NULL && wish == LQ_CHAT_ALWAYS)
        return lq_fail(LQ_E_MISSING,
                       "%s: no chat template: not an instruct model; leave --chat away",
                       m->tok_path);
    if (text == NULL)
        return LQ_OK;
    const lq_status status = lq_chat_prompt(text, where, user, arena, out);
    if (status == LQ_E_UNAVAILABLE && wish == LQ_CHAT_AUTO) {
        *note = lq_arena_printf(arena,
                                "chat template: not applied, that of %s is neither ChatML "
                                "nor Llama 3; the prompt is taken as it is",
                                where);
        return LQ_OK;
    }
    LQ_TRY(status);
    return decide(m, ends, wish, user, where, arena, out, note);
}
