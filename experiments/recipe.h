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
    int optimizer, normalize; /* lq_optimizer_kind; LQ_NORMALIZE_... */
    double weight_decay;
    int loss; /* lq_loss_kind */
    double loss_weight, ce_weight, temperature, beta;
    size_t teacher_topk; /* 0: the teacher runs beside the student */
    int data_from;       /* LQ_DATA_... */
    double sample_temperature, sample_top_p;
    size_t prompt;              /* tokens of text that a continuation begins with */
    int checkpointing, compute; /* lq_checkpointing, lq_compute */
} lq_train_opts;
enum { LQ_NORMALIZE_TOKEN, LQ_NORMALIZE_SEQUENCE };
enum { LQ_DATA_TEXT, LQ_DATA_TEACHER, LQ_DATA_CONTINUATION };
typedef struct lq_calib_opts {
    size_t tokens, context;
} lq_calib_opts;
typedef struct lq_eval_opts {
    size_t context, windows, also_windows;
} lq_eval_opts;

typedef struct lq_recipe {
    lq_train_opts train;
    lq_calib_opts calib;
    lq_eval_opts eval;
    lq_blockwise_config blockwise; /* epochs 0: off */
    bool stage_of_method; /* the run's method brings a block-wise stage (lq_method.blockwise) */
    const char *train_data, *calib_data, *eval_data;
    const char *eval_also;   /* a second text, in windows of the same length; NULL: none */
    const char *train_slots; /* "method": those that it trains; else core/train/slots.h */
    const char *hessians;    /* file of `lcqat calibrate`; NULL: collected in the run */
} lq_recipe;

/* Reads the members "train", "calib", "eval", "blockwise" of a run (each may be absent). Names are copied
 * into the arena. What `blockwise` leaves open is filled by the run's method where that has a stage of its
 * own; LQ_E_OPTION when such a stage is switched off, or options of train contradict each other. */
lq_status lq_recipe_read(const lq_json *run, const char *where, lq_arena *arena, lq_recipe *out);
/* Writes the members, all defaults spelt out, into a run. "blockwise", calib.hessians, and the options of
 * train from `optimizer` on are written only where they do something: a run without them is the run that it
 * was before they existed (docs/decisions/0042). */
void lq_recipe_write(const lq_recipe *recipe, lq_json *run);
/* Does a run of a method with these needs (lq_method) read calibration text? */
bool lq_recipe_calibrates(const lq_recipe *recipe, unsigned needs);
/* Steps for a budget of tokens: at least one. */
size_t lq_recipe_steps(const lq_recipe *recipe, double tokens);
/* The teacher is the caller's to add. */
lq_train_config lq_recipe_train(const lq_recipe *recipe, size_t steps);
/* The calibration sequences: a seeded choice of windows, without repetition, as one block of tokens.
 * LQ_E_SHAPE: the data are too short. */
lq_status lq_recipe_calib(const lq_recipe *recipe, const lq_data *data, const lq_rng *rng,
                          lq_arena *arena, lq_calib_data *out);

#endif
