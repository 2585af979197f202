/* Block-wise fine-tuning, for any method: once all linears of a block are quantized, the continuous
 * parameters of their thetas, and the block's norms, are moved so that the block's output comes near to
 * that of the full-precision block, by mean squared error.
 *
 *     input  = X, what the full-precision model has before the block (feed full: blocks are independent),
 *              or what the quantized prefix makes of the same tokens (feed quant)
 *     target = full-precision block on X (target model: a block may undo errors of those before it), full-
 *              precision block on the input (target block), or both, two errors added up (OmniQuant's
 *              --aug_loss); with feed full they are the same
 *
 * The last sequences are held out. With keep best the state of least loss on them is kept, the start among
 * them, so a block never ends worse than it began. UniSVQ's stage (arXiv:2606.10520, released code
 * lib/algo/finetune.py) is feed full, batch 8 (4 twice), patience 3, a validation of 1/8. */
#ifndef LQ_TRAIN_BLOCKWISE_H
#define LQ_TRAIN_BLOCKWISE_H

#include "core/base/log.h"
#include "core/train/qmodel.h"

typedef enum lq_blockwise_feed { LQ_FEED_FULL, LQ_FEED_QUANT } lq_blockwise_feed;
#define LQ_BLOCKWISE_FEED_WORDS "full|quant"
typedef enum lq_blockwise_target {
    LQ_TARGET_MODEL,
    LQ_TARGET_BLOCK,
    LQ_TARGET_BOTH
} lq_blockwise_target;
#define LQ_BLOCKWISE_TARGET_WORDS "model|block|both"
typedef enum lq_blockwise_keep { /* the state that a block ends with */
                                 LQ_KEEP_BEST, /* least loss on the held-out sequences, looked at after each epoch */
                                 LQ_KEEP_LAST, /* the last one */
                                 LQ_KEEP_BEST_STEP /* least training loss of a step's own sequences: AutoRound's */
} lq_blockwise_keep;
#define LQ_BLOCKWISE_KEEP_WORDS "best|last|best_step"
typedef enum lq_blockwise_lr_unit {
    LQ_LR_STEP, /* a learning rate is a step's */
    LQ_LR_STAGE /* it is what all steps of a block add up to when the schedule is constant: a step takes
                   1/steps of it. For optimizers whose step is a sign this fixes how far a value gets,
                   however many steps there are */
} lq_blockwise_lr_unit;
#define LQ_BLOCKWISE_LR_UNIT_WORDS  "step|stage"
#define LQ_BLOCKWISE_SCHEDULE_WORDS "constant|cosine|linear"

typedef struct lq_blockwise_config {
    size_t epochs; /* at most */
    size_t
        iterations; /* optimizer steps in place of epochs, through as many passes as they need; 0: not.
                          Both 0: no fine-tuning at all */
    int feed;       /* lq_blockwise_feed */
    int target;     /* lq_blockwise_target */
    const char
        *slots; /* "scales": continuous slots that are smaller than the weight; "all" continuous
                          slots; or names, "su,sv,affine" */
    bool norms; /* the block's RMSNorm gains move, too */
    bool drop_norms;  /* and are put back afterwards, as the released conversion does */
    double lr_scales; /* learning rates: of slots smaller than the weight, */
    double lr_latent; /* of slots of its shape or larger, */
    double lr_norms;  /* of the norms */
    bool
        slot_rates; /* where a slot has a learning rate, decay or gradient scale of its own (lq_slot), it
                          holds here, too */
    int lr_unit;         /* lq_blockwise_lr_unit */
    double lr_floor;     /* what a schedule falls to, as a share of the rate */
    int schedule;        /* of LQ_BLOCKWISE_SCHEDULE_WORDS */
    int optimizer;       /* lq_optimizer_kind */
    double beta1, beta2; /* of Adam and Lion */
    double
        decay_latent; /* decoupled weight decay of slots of the weight's shape or larger, towards 0 */
    int keep;         /* lq_blockwise_keep */
    size_t batch;     /* sequences a step */
    double validation;   /* share of the sequences, from the end, that is held out: at least one */
    size_t patience;     /* epochs without improvement that end a block; keep best only */
    size_t micro, lanes; /* as in training (core/train/trainer.h): part of the arithmetic */
} lq_blockwise_config;

typedef struct lq_blockwise_data { /* borrowed */
    const float *input, *target;   /* (n_sequences, T, D); target: of the model */
    const float *block_target;     /* of the block; not read with target model */
    size_t n_sequences, T;
} lq_blockwise_data;

typedef struct lq_blockwise_result {
    double mse_before,
        mse_after;             /* on the held-out sequences, mean over all entries; the sum of two
                                     with target both */
    size_t epochs, best_epoch; /* begun; after which the state that was kept arose, 0: the start */
} lq_blockwise_result;

typedef struct lq_blockwise_progress { /* where a block stands in a larger piece of work */
    lq_progress *line;                 /* NULL: silent */
    size_t done;                       /* units of it that are done before this block */
} lq_blockwise_progress;

/* Is there anything to do? */
bool lq_blockwise_is_on(const lq_blockwise_config *config);
/* Optimizer steps of a block, early stops apart. */
size_t lq_blockwise_steps(const lq_blockwise_config *config, size_t n_sequences);
/* LQ_E_OPTION: a slot that the method does not have, or nothing that could move. */
lq_status lq_blockwise_check(const lq_blockwise_config *config, const lq_qmodel *q);
/* Tunes block `layer` of q in place, thetas and effective weights. LQ_E_SHAPE: fewer than two sequences;
 * LQ_E_NUMERIC: the block's output is not finite before the first step; LQ_E_STOPPED: the user asked to
 * stop. A loss that diverges later ends the block at its best state, with a warning. */
lq_status lq_blockwise_tune(lq_qmodel *q, size_t layer, const lq_blockwise_data *data,
                            const lq_blockwise_config *config, const lq_rng *rng,
                            lq_blockwise_progress progress, lq_blockwise_result *out);

#endif
