/* lcqat export: a packed model in a form that other programs read. */
#include "core/train/official.h"
#include "experiments/command.h"
#include "experiments/model.h"

#include <stdio.h>
#include <string.h>

static lq_status write_as(const lq_model *model, const char *format, bool f32, const char *out,
                          lq_arena *arena)
{
    if (strcmp(format, "dense") == 0)
        return lq_weights_save(&model->q.w, out, !f32);
    if (strcmp(format, "unisvq") == 0)
        return lq_official_write(&model->q, lq_arena_printf(arena, "%s/config.json", model->dir),
                                 out);
    if (strcmp(format, "packed") != 0)
        return lq_fail(LQ_E_OPTION, "export: --format '%s' is none of packed, dense, unisvq",
                       format);
    if (model->q.method == NULL)
        return lq_fail(LQ_E_OPTION, "export: %s is not quantized; packed needs a packed model",
                       model->dir);
    return lq_artifact_write(&model->q, out);
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    const char *format = lq_args_text(args, "format", NULL), *out = lq_args_text(args, "out", NULL);
    lq_model model;
    if (format == NULL || out == NULL)
        return lq_fail(LQ_E_OPTION, "export: --format and --out are required");
    LQ_TRY(lq_model_open_with(lq_args_at(args, 0), lq_args_text(args, "tokenizer", NULL), arena,
                              &model));
    lq_status status = write_as(&model, format, lq_args_flag(args, "f32"), out, arena);
    if (status == LQ_OK)
        status = lq_model_copy_tokenizer(&model, out);
    if (status == LQ_OK)
        printf("%s: %s\n", out, format);
    lq_model_close(&model);
    return status;
}

static const lq_arg_spec spec[] = {
    {"format", 0, LQ_ARG_TEXT, "FORMAT",
     "packed (ours), dense (Hugging Face, effective weights) or unisvq (released LC-QAT code)"},
    {"f32", 0, LQ_ARG_FLAG, NULL, "dense in float instead of bf16"},
    LQ_ARG_TOKENIZER,
    {"out", 'o', LQ_ARG_TEXT, "DIR", "where the model goes"},
};
const lq_command lq_command_export = {
    .name = "export",
    .summary = "writes a model in another form",
    .positionals = "DIR --format FORMAT --out DIR2",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
