/* Post-training quantization, block by block: calibrate, quantize the linears, fine-tune the block. */
#ifndef LQ_TRAIN_QUANTIZE_H
#define LQ_TRAIN_QUANTIZE_H

#include "core/train/blockwise.h"
#include "core/train/calibrate.h"

typedef struct lq_quantize_how {          /* all members may be NULL */
    const lq_blockwise_config *blockwise; /* fine-tuning of each block; off when epochs is 0 */
    const char *grams;        /* file of lq_calibrate_to_file; else the grams are collected here */
    const char *model_sha256; /* the file must belong to this model */
    /* Called after each fine-tuned block. */
    void (*on_block)(void *context, size_t layer, const lq_blockwise_result *result);
    void *context;
} lq_quantize_how;

/* Fills every theta of q from the full-precision weights `full`, in order of the blocks, and refreshes
 * q->w (which may be `full` itself: lq_qmodel_take). The method says whether it needs Gram matrices, and whether the inputs come from the quantized
 * prefix (from a file they never do: a warning). LQ_E_SHAPE: calibration data needed and empty; else what
 * ->init returns, with the linear's name in front, and what lq_blockwise_tune and lq_gram_file_read say. */
lq_status lq_quantize_with(lq_qmodel *q, const lq_weights *full, const lq_calib_data *calib,
                           const lq_rng *rng, const lq_quantize_how *how);
/* The same without fine-tuning, grams collected. */
lq_status lq_quantize(lq_qmodel *q, const lq_weights *full, const lq_calib_data *calib,
                      const lq_rng *rng);

#endif
