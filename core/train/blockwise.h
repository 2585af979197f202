/* Block-wise fine-tuning, for any method: once all linears of a block are quantized, the continuous
 * parameters of their thetas, and the block's norms, are moved so that the block's output comes near to
 * that of the full-precision block, by mean squared error.
 *
 *     target Y = full-precision block on full-precision inputs X
 *     input    = X (feed full: blocks are independent), or what the quantized prefix makes of the same
 *                tokens (feed quant: a block may undo errors of those before it)
 *
 * The last sequences are held out; the state of least loss on them is kept, the start among them, so a
 * block never ends worse than it began. UniSVQ's stage (arXiv:2606.10520, released code
 * lib/algo/finetune.py) is feed full, batch 8 (4 twice), patience 3, a validation of 1/8. */
#ifndef LQ_TRAIN_BLOCKWISE_H
#define LQ_TRAIN_BLOCKWISE_H

#include "core/base/log.h"
#include "core/train/qmodel.h"

typedef enum lq_blockwise_feed { LQ_FEED_FULL, LQ_FEED_QUANT } lq_blockwise_feed;
#define LQ_BLOCKWISE_FEED_WORDS "full|quant"

typedef struct lq_blockwise_config {
    size_t epochs; /* at most; 0: no fine-tuning at all */
    int feed;      /* lq_blockwise_feed */
    const char
        *slots; /* "scales": continuous slots that are smaller than the weight; "all" continuous
                          slots; or names, "su,sv,affine" */
    bool norms; /* the block's RMSNorm gains move, too */
    bool drop_norms;     /* and are put back afterwards, as the released conversion does */
    double lr_scales;    /* Adam's learning rates, constant: of slots smaller than the weight, */
    double lr_latent;    /* of slots of its shape, */
    double lr_norms;     /* of the norms */
    size_t batch;        /* sequences a step */
    double validation;   /* share of the sequences, from the end, that is held out: at least one */
    size_t patience;     /* epochs without improvement that end a block */
    size_t micro, lanes; /* as in training (core/train/trainer.h): part of the arithmetic */
} lq_blockwise_config;

typedef struct lq_blockwise_data { /* borrowed */
    const float *input, *target;   /* (n_sequences, T, D) */
    size_t n_sequences, T;
} lq_blockwise_data;

typedef struct lq_blockwise_result {
    double mse_before, mse_after; /* on the held-out sequences, mean over all entries */
    size_t epochs, best_epoch;    /* done; of the state that was kept, 0: the start */
} lq_blockwise_result;

typedef struct lq_blockwise_progress { /* where a block stands in a larger piece of work */
    lq_progress *line;                 /* NULL: silent */
    size_t done;                       /* units of it that are done before this block */
} lq_blockwise_progress;

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
