/* lcqat calibrate: the Gram matrix of every linear layer's input. */
#include "core/train/quantize.h"
#include "experiments/command.h"
#include "experiments/model.h"
#include "experiments/recipe.h"

#include <stdio.h>

static lq_status run(const lq_args *args, lq_arena *arena)
{
    const char *out = lq_args_text(args, "out", NULL);
    const char *name = lq_args_text(args, "data", "techdocs:calib");
    size_t seed;
    lq_recipe recipe = {.calib_data = name};
    lq_model model;
    lq_data data;
    lq_calib_data calib;
    if (out == NULL)
        return lq_fail(LQ_E_OPTION, "calibrate: --out H.safetensors is required");
    LQ_TRY(lq_args_size(args, "tokens", 1, (size_t)1 << 40, 65536, &recipe.calib.tokens));
    LQ_TRY(lq_args_size(args, "context", 2, 1 << 20, 128, &recipe.calib.context));
    LQ_TRY(lq_args_size(args, "seed", 0, 1ul << 31, 1, &seed));
    LQ_TRY(lq_model_open_with(lq_args_at(args, 0), lq_args_text(args, "tokenizer", NULL), arena,
                              &model));
    const lq_rng rng = lq_rng_seed(seed);
    lq_status status = LQ_OK;
    if (model.q.method != NULL)
        status = lq_fail(LQ_E_OPTION, "calibrate: %s is quantized already", model.dir);
    if (status == LQ_OK)
        status = lq_model_data(&model, name, arena, &data);
    if (status == LQ_OK)
        status = lq_recipe_calib(&recipe, &data, &rng, arena, &calib);
    if (status == LQ_OK)
        status = lq_calibrate_to_file(&model.q.w, &calib, model.digest.hex, out);
    if (status == LQ_OK)
        printf("%s: %zu linears, %zu tokens of %s\n", out, model.q.w.config.L * LQ_N_LINEARS,
               calib.n_sequences * calib.T, name);
    lq_model_close(&model);
    return status;
}

static const lq_arg_spec spec[] = {
    {"data", 0, LQ_ARG_TEXT, "D", "calibration text (techdocs:calib)"},
    {"tokens", 0, LQ_ARG_TEXT, "N", "tokens (65536)"},
    {"context", 0, LQ_ARG_TEXT, "N", "tokens per sequence (128)"},
    {"seed", 0, LQ_ARG_TEXT, "S", "seed of the choice of sequences (1)"},
    LQ_ARG_TOKENIZER,
    {"out", 'o', LQ_ARG_TEXT, "H.safetensors", "where the matrices go"},
};
const lq_command lq_command_calibrate = {
    .name = "calibrate",
    .summary = "collects the Gram matrix E[x' x] of every linear layer's input",
    .positionals = "MODEL --data D --tokens N --out H.safetensors",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
