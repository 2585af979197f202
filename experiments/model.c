#include "experiments/model.h"

#include "core/base/file.h"
#include "core/train/official.h"
#include "experiments/catalog.h"
#include "experiments/methods.h"

#include <string.h>

static const char *teacher_dir(const char *name, lq_arena *arena)
{
    const char *dir =
        lq_repository_path(lq_arena_printf(arena, "datasets/teachers/%s", name), arena);
    return dir != NULL && lq_path_is_dir(dir) ? dir : NULL;
}

lq_status lq_model_dir(const char *model, lq_arena *arena, const char **dir)
{
    const size_t n = strlen(model);
    if (n > 5 && strcmp(model + n - 5, ".gguf") == 0)
        return lq_fail(LQ_E_UNAVAILABLE, "%s: GGUF files: not available in this version", model);
    *dir = lq_path_is_dir(model)        ? model
           : strchr(model, '/') == NULL ? teacher_dir(model, arena)
                                        : NULL;
    if (*dir == NULL)
        return lq_fail(LQ_E_MISSING,
                       "model '%s': no such directory and no teacher of that name; "
                       "`lcqat models` lists them",
                       model);
    return LQ_OK;
}

lq_status lq_model_peek(const char *model, lq_arena *arena, lq_model *out)
{
    memset(out, 0, sizeof *out);
    LQ_TRY(lq_model_dir(model, arena, &out->dir));
    out->name = lq_path_base(model);
    const char *path = lq_artifact_is_one(out->dir) ? NULL : lq_official_file(out->dir, arena);
    const char *file = lq_artifact_is_one(out->dir) ? "packed" : "model";
    if (path == NULL)
        path = lq_arena_printf(arena, "%s/%s.safetensors", out->dir, file);
    LQ_TRY(lq_sha256_file(path, &out->digest));
    return lq_tokenizer_read(lq_arena_printf(arena, "%s/tokenizer.json", out->dir), &out->tok);
}

lq_status lq_model_open(const char *model, lq_arena *arena, lq_model *out)
{
    LQ_TRY(lq_model_peek(model, arena, out));
    lq_status status;
    if (lq_artifact_is_one(out->dir))
        status = lq_artifact_read(out->dir, lq_method_find, arena, &out->q, &out->size);
    else if (lq_official_file(out->dir, arena) != NULL)
        status = lq_official_read(out->dir, lq_method_find, arena, &out->q, &out->size);
    else
        status = lq_weights_load(out->dir, arena, &out->q.w, NULL);
    if (status == LQ_OK && lq_tokenizer_vocab(out->tok) > out->q.w.config.V)
        status = lq_fail(LQ_E_FORMAT, "%s: the tokenizer has %zu tokens, the model %zu", out->dir,
                         lq_tokenizer_vocab(out->tok), out->q.w.config.V);
    if (status != LQ_OK)
        lq_model_close(out);
    return status;
}

void lq_model_close(lq_model *model)
{
    if (model->tok != NULL)
        lq_tokenizer_free(model->tok);
    model->tok = NULL;
}

lq_status lq_model_copy_tokenizer(const lq_model *model, const char *dir)
{
    lq_arena arena = {0};
    char *text;
    size_t bytes;
    lq_status status = lq_file_read(lq_arena_printf(&arena, "%s/tokenizer.json", model->dir),
                                    &arena, &text, &bytes);
    if (status == LQ_OK)
        status = lq_file_write_all(lq_arena_printf(&arena, "%s/tokenizer.json", dir), text, bytes);
    lq_arena_close(&arena);
    return status;
}
