/* lcqat train: quantization-aware training, from the PTQ start to the packed model. */
#include "core/base/file.h"
#include "experiments/data.h"
#include "experiments/model.h"
#include "experiments/single.h"

#include <string.h>

/* --tokens N, or --fraction F of the tokens of --data. */
static lq_status budget(const lq_args *args, const char *data_name, lq_arena *arena, double *tokens)
{
    double fraction;
    size_t count;
    LQ_TRY(lq_args_size(args, "tokens", 1, (size_t)1 << 50, 0, &count));
    LQ_TRY(lq_args_real(args, "fraction", 0, 1, 0, &fraction));
    if ((count > 0) == (fraction > 0))
        return lq_fail(LQ_E_OPTION, "train: give one of --tokens and --fraction");
    *tokens = (double)count;
    if (count > 0)
        return LQ_OK;
    lq_model model;
    lq_data data;
    LQ_TRY(lq_model_peek_with(lq_args_at(args, 0), lq_args_text(args, "tokenizer", NULL), arena,
                              &model));
    lq_status status = lq_model_data(&model, data_name, arena, &data);
    lq_model_close(&model);
    *tokens = fraction * (double)data.n;
    return status;
}

/* --resume says that the user expects something to go on from. */
static lq_status expect_progress(const char *out, lq_arena *arena)
{
    static const char end[] = ".checkpoint";
    char **names = NULL;
    size_t n = 0;
    if (lq_path_exists(lq_arena_printf(arena, "%s/packed.safetensors", out)))
        return LQ_OK; /* it is done already */
    if (lq_path_is_dir(out))
        LQ_TRY(lq_path_list(out, arena, &names, &n));
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(names[i]);
        if (length >= sizeof end && strcmp(names[i] + length + 1 - sizeof end, end) == 0)
            return LQ_OK;
    }
    return lq_fail(LQ_E_MISSING, "%s: no checkpoint to resume; leave --resume out to start", out);
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    const char *data = lq_args_text(args, "data", NULL);
    double tokens;
    if (data == NULL)
        return lq_fail(LQ_E_OPTION, "train: --data DATA is required");
    if (lq_args_flag(args, "resume") && lq_args_text(args, "out", NULL) != NULL)
        LQ_TRY(expect_progress(lq_args_text(args, "out", NULL), arena));
    LQ_TRY(budget(args, data, arena, &tokens));
    return lq_single_run(args, data, tokens, arena);
}

static const lq_arg_spec spec[] = {
    LQ_SINGLE_ARGS,
    {"data", 0, LQ_ARG_TEXT, "DATA", "training text: techdocs:train or a text file"},
    {"tokens", 0, LQ_ARG_TEXT, "N", "train on so many tokens"},
    {"fraction", 0, LQ_ARG_TEXT, "F", "train on this share of the tokens of DATA (0.01)"},
    {"resume", 0, LQ_ARG_FLAG, NULL,
     "insist on a checkpoint in --out (one that is there is always used)"},
};
const lq_command lq_command_train = {
    .name = "train",
    .summary = "trains a quantized model (QAT), and packs it",
    .positionals = "MODEL --method M --bits B --data D --tokens N|--fraction F --out DIR",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
