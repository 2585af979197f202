/* The settings of a run besides its method: training, calibration, evaluation. Each is a table of
 * options, so that specs, `--set` and the stored configuration share one list. */
#ifndef LQ_EXPERIMENTS_RECIPE_H
#define LQ_EXPERIMENTS_RECIPE_H

#include "core/quant/option.h"
#include "core/train/quantize.h"
#include "core/train/trainer.h"
#include "experiments/data.h"

typedef struct lq_train_opts {
    size_t batch, context, micro, lanes;
    double lr, warmup, decay, beta1, beta2, eps, clip;
    int schedule; /* lq_schedule_kind */
    bool rest;
} lq_train_opts;
typedef struct lq_calib_opts {
    size_t tokens, context;
} lq_calib_opts;
typedef struct lq_eval_opts {
    size_t context, windows;
} lq_eval_opts;

typedef struct lq_recipe {
    lq_train_opts train;
    lq_calib_opts calib;
    lq_eval_opts eval;
    const char *train_data, *calib_data, *eval_data;
} lq_recipe;

/* Reads the members "train", "calib", "eval" of a run (each may be absent). The names of data are copied
 * into the arena. */
lq_status lq_recipe_read(const lq_json *run, const char *where, lq_arena *arena, lq_recipe *out);
/* Writes the three members, all defaults spelt out, into a run. */
void lq_recipe_write(const lq_recipe *recipe, lq_json *run);
/* Steps for a budget of tokens: at least one. */
size_t lq_recipe_steps(const lq_recipe *recipe, double tokens);
lq_train_config lq_recipe_train(const lq_recipe *recipe, size_t steps);
/* The calibration sequences: a seeded choice of windows, without repetition, as one block of tokens.
 * LQ_E_SHAPE: the data are too short. */
lq_status lq_recipe_calib(const lq_recipe *recipe, const lq_data *data, const lq_rng *rng,
                          lq_arena *arena, lq_calib_data *out);

#endif
