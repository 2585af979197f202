/* A single experiment from the command line: `lcqat quantize` and `lcqat train` are runs of one point, kept
 * with their packed model in --out. */
#ifndef LQ_EXPERIMENTS_SINGLE_H
#define LQ_EXPERIMENTS_SINGLE_H

#include "experiments/command.h"
#include "experiments/model.h"

/* Options that both commands share; put first in their tables. */
#define LQ_SINGLE_ARGS                                                                         \
    {"method", 'm', LQ_ARG_TEXT, "M", "method; `lcqat methods` lists them"},                   \
        {"bits", 'b', LQ_ARG_TEXT, "B", "nominal bits a weight (2)"},                          \
        {"set", 0, LQ_ARG_LIST, "KEY=VALUE",                                                   \
         "an option of the method, or train.KEY, calib.KEY, blockwise.KEY"},                   \
        {"seed", 0, LQ_ARG_TEXT, "S", "seed of everything random (1)"},                        \
        {"calib", 0, LQ_ARG_TEXT, "DATA", "calibration text (techdocs:calib)"},                \
        {"hessians", 0, LQ_ARG_TEXT, "H.safetensors",                                          \
         "Hessians from `lcqat calibrate`, instead of collecting them here"},                  \
        {"ppl", 0, LQ_ARG_TEXT, "DATA", "measure the perplexity of the packed model on DATA"}, \
        {"out", 'o', LQ_ARG_TEXT, "DIR", "where the packed model and the run record go"},      \
        LQ_ARG_TOKENIZER, LQ_ARG_JSON

/* Runs args with a training budget of `tokens` on train_data (0 and NULL: no training), stores the record
 * in OUT/runs and the packed model in OUT, prints the record. */
lq_status lq_single_run(const lq_args *args, const char *train_data, double tokens,
                        lq_arena *arena);

#endif
