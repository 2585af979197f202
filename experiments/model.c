#include "experiments/model.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/data/gguf.h"
#include "core/data/shards.h"
#include "core/train/official.h"
#include "experiments/catalog.h"
#include "experiments/methods.h"
#include "experiments/tokenizer.h"

#include <stdio.h>
#include <string.h>

static const char *teacher_dir(const char *name, lq_arena *arena)
{
    const char *dir =
        lq_repository_path(lq_arena_printf(arena, "datasets/teachers/%s", name), arena);
    return dir != NULL && lq_path_is_dir(dir) ? dir : NULL;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), n_end = strlen(end);
    return n > n_end && strcmp(text + n - n_end, end) == 0;
}

/* The path that a name of the catalog stands for: a folder, or the one GGUF file in it. */
static lq_status path_of_name(const char *name, lq_arena *arena, const char **path)
{
    char **names;
    size_t n;
    if (strchr(name, '/') != NULL)
        return lq_fail(LQ_E_MISSING, "model '%s': no such directory or file", name);
    *path = teacher_dir(name, arena);
    if (*path != NULL)
        return LQ_OK;
    if (lq_catalog_locate("models", name, arena, path) != LQ_OK) {
        char note[512];
        snprintf(note, sizeof note, "%s", lq_status_note());
        return lq_fail(LQ_E_MISSING, "model '%s': no such directory or file; %s", name, note);
    }
    const char *dir = *path;
    LQ_TRY(lq_path_list(dir, arena, &names, &n));
    for (size_t i = 0; i < n; i++)
        if (ends_with(names[i], ".gguf"))
            *path = lq_arena_printf(arena, "%s/%s", dir, names[i]);
    return LQ_OK;
}

/* What MODEL is, and where. */
static lq_status locate(const char *model, lq_arena *arena, lq_model *out)
{
    out->name = lq_path_base(model);
    if (!lq_path_exists(model))
        LQ_TRY(path_of_name(model, arena, &model));
    const bool is_dir = lq_path_is_dir(model);
    out->dir = out->path = model;
    if (!is_dir) {
        const char *base = lq_path_base(model);
        out->form = LQ_MODEL_GGUF;
        out->dir =
            base == model ? "." : lq_arena_printf(arena, "%.*s", (int)(base - model - 1), model);
        if (lq_gguf_is_one(model) || ends_with(model, ".gguf"))
            return LQ_OK;
        out->form = LQ_MODEL_LLAMA2C;
        return ends_with(model, ".bin")
                   ? LQ_OK
                   : lq_fail(
                         LQ_E_FORMAT,
                         "model '%s': neither a directory nor a file that ends in .gguf or .bin",
                         model);
    }
    out->form = lq_artifact_is_one(out->dir)                ? LQ_MODEL_PACKED
                : lq_official_file(out->dir, arena) != NULL ? LQ_MODEL_UNISVQ
                                                            : LQ_MODEL_HF;
    return LQ_OK;
}

lq_status lq_model_dir(const char *model, lq_arena *arena, const char **dir)
{
    lq_model found = {0};
    const lq_status status = locate(model, arena, &found);
    *dir = found.dir;
    return status;
}

static lq_status digest_of(const lq_model *m, lq_arena *arena, lq_digest *out)
{
    switch (m->form) {
    case LQ_MODEL_HF:
        return lq_shards_digest(m->dir, arena, out);
    case LQ_MODEL_PACKED:
        return lq_sha256_file(lq_arena_printf(arena, "%s/packed.safetensors", m->dir), out);
    case LQ_MODEL_UNISVQ:
        return lq_sha256_file(lq_official_file(m->dir, arena), out);
    case LQ_MODEL_GGUF:
    case LQ_MODEL_LLAMA2C:
        break;
    }
    return lq_sha256_file(m->path, out);
}

/* There is no tokenizer, for the reason that the last note states. */
static void keep_reason(lq_model *m, lq_status status, lq_arena *arena)
{
    m->tok_status = status;
    m->tok_note = lq_arena_printf(arena, "%s", lq_status_note());
    lq_tokenizer_free(m->tok);
    m->tok = NULL;
}

/* llama2.c calls a vocabulary of V tokens tokV.bin. NULL: there is none of that name beside the checkpoint. */
static const char *named_by_size(const lq_model *m, lq_arena *arena)
{
    size_t V;
    if (lq_llama2c_vocab(m->path, &V) != LQ_OK)
        return NULL; /* no checkpoint: who reads the weights says so */
    const char *path = lq_arena_printf(arena, "%s/tok%zu.bin", m->dir, V);
    return lq_path_exists(path) ? path : NULL;
}

/* What a packed model of a GGUF file has beside it. NULL: the folder is not such a one. */
static const char *kept_values(const lq_model *m, lq_arena *arena)
{
    const char *path = lq_arena_printf(arena, "%s/" LQ_KEPT_TOKENIZER, m->tok_dir);
    return lq_path_is_dir(m->tok_dir) && lq_path_exists(path) ? path : NULL;
}

/* The one asked for; else a GGUF file's own; else llama2.c's of that many tokens; else that of the
 * directory. */
static lq_status read_tokenizer(lq_model *m, const char *asked, lq_arena *arena)
{
    m->tok_path = m->path;
    if (asked == NULL && m->form == LQ_MODEL_GGUF) {
        const lq_status status = lq_open_tokenizer(m->path, &m->tok);
        if (status != LQ_E_MISSING)
            return status;
    }
    const char *sized = asked == NULL && m->form == LQ_MODEL_LLAMA2C ? named_by_size(m, arena)
                                                                     : kept_values(m, arena);
    m->tok_path = sized != NULL ? sized : m->tok_dir;
    return lq_open_tokenizer(m->tok_path, &m->tok);
}

lq_status lq_model_tokenizer(const char *model, lq_arena *arena, lq_tokenizer **out)
{
    lq_model found = {0};
    LQ_TRY(locate(model, arena, &found));
    found.tok_dir = found.dir;
    const lq_status status = read_tokenizer(&found, NULL, arena);
    *out = found.tok;
    return status;
}

lq_status lq_model_peek_with(const char *model, const char *tokenizer, lq_arena *arena,
                             lq_model *out)
{
    memset(out, 0, sizeof *out);
    LQ_TRY(locate(model, arena, out));
    LQ_TRY(digest_of(out, arena, &out->digest));
    out->tok_dir = tokenizer != NULL ? tokenizer : out->dir;
    const lq_status status = read_tokenizer(out, tokenizer, arena);
    if (status == LQ_E_MEMORY)
        return status;
    if (status != LQ_OK)
        keep_reason(out, status, arena);
    return LQ_OK;
}

lq_status lq_model_peek(const char *model, lq_arena *arena, lq_model *out)
{
    return lq_model_peek_with(model, NULL, arena, out);
}

static lq_status read_weights(lq_model *m, lq_arena *arena)
{
    switch (m->form) {
    case LQ_MODEL_PACKED:
        return lq_artifact_read(m->dir, lq_method_find, arena, &m->q, &m->size);
    case LQ_MODEL_UNISVQ:
        return lq_official_read(m->dir, lq_method_find, arena, &m->q, &m->size);
    case LQ_MODEL_GGUF:
        return lq_weights_load_gguf(m->path, arena, &m->q.w);
    case LQ_MODEL_LLAMA2C:
        return lq_weights_load_llama2c(m->path, arena, &m->q.w);
    case LQ_MODEL_HF:
        break;
    }
    return lq_weights_load(m->dir, arena, &m->q.w);
}

lq_status lq_model_open_with(const char *model, const char *tokenizer, lq_arena *arena,
                             lq_model *out)
{
    LQ_TRY(lq_model_peek_with(model, tokenizer, arena, out));
    lq_status status = read_weights(out, arena);
    if (status == LQ_OK && out->tok != NULL && lq_tokenizer_vocab(out->tok) > out->q.w.config.V)
        keep_reason(out,
                    lq_fail(LQ_E_FORMAT, "%s: the tokenizer has %zu tokens, the model %zu",
                            out->tok_dir, lq_tokenizer_vocab(out->tok), out->q.w.config.V),
                    arena);
    if (status != LQ_OK)
        lq_model_close(out);
    else if (out->form == LQ_MODEL_LLAMA2C && out->tok != NULL && tokenizer == NULL)
        lq_log_info("tokenizer: %s; --tokenizer takes another one", out->tok_path);
    return status;
}

lq_status lq_model_open(const char *model, lq_arena *arena, lq_model *out)
{
    return lq_model_open_with(model, NULL, arena, out);
}

void lq_model_close(lq_model *model)
{
    if (model->tok != NULL)
        lq_tokenizer_free(model->tok);
    model->tok = NULL;
}

lq_status lq_model_need_text(const lq_model *m)
{
    if (m->tok != NULL)
        return LQ_OK;
    return lq_fail(m->tok_status, "%s%s", m->tok_note,
                   m->tok_status == LQ_E_MISSING ? "; --tokenizer DIR takes another one" : "");
}

lq_status lq_model_data(const lq_model *model, const char *data, lq_arena *arena, lq_data *out)
{
    LQ_TRY(lq_model_need_text(model));
    return lq_data_load(data, model->tok, arena, out);
}

lq_status lq_model_eval_data(const lq_model *model, const char *data, size_t T, lq_arena *arena,
                             lq_eval_data *out)
{
    LQ_TRY(lq_model_need_text(model));
    return lq_eval_data_load(data, model->tok, T, arena, out);
}

/* A GGUF file's tokenizer, chat template and end ids: all its values, none of its tensors. */
static lq_status keep_values(const char *gguf, const char *dir)
{
    lq_arena arena = {0};
    lq_gguf file;
    lq_status status = lq_gguf_open(gguf, &arena, &file);
    if (status == LQ_OK) {
        status = lq_gguf_write_values(&file, lq_arena_printf(&arena, "%s/" LQ_KEPT_TOKENIZER, dir));
        lq_gguf_close(&file);
    }
    lq_arena_close(&arena);
    return status;
}

lq_status lq_model_copy_tokenizer(const lq_model *model, const char *dir)
{
    static const char *const files[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "encoder.json",
                                        "vocab.bpe",
                                        "tokenizer.model",
                                        "tokenizer.bin",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "generation_config.json"};
    lq_arena arena = {0};
    lq_status status = LQ_OK;
    if (model->tok != NULL && !lq_path_is_dir(model->tok_path) && lq_gguf_is_one(model->tok_path))
        return keep_values(model->tok_path, dir);
    for (size_t i = 0; i < sizeof files / sizeof files[0] && status == LQ_OK; i++) {
        const char *from = lq_arena_printf(&arena, "%s/%s", model->tok_dir, files[i]);
        char *text;
        size_t bytes;
        if (!lq_path_exists(from))
            continue;
        status = lq_file_read(from, &arena, &text, &bytes);
        if (status == LQ_OK)
            status =
                lq_file_write_all(lq_arena_printf(&arena, "%s/%s", dir, files[i]), text, bytes);
    }
    lq_arena_close(&arena);
    return status;
}
