/* Calibration and post-training quantization, block by block. The input of every linear layer is seen
 * once; only one block's Gram matrices exist at a time. */
#ifndef LQ_TRAIN_QUANTIZE_H
#define LQ_TRAIN_QUANTIZE_H

#include "core/train/qmodel.h"

/* The four inputs of a block's linears, and which linears share one. */
typedef enum lq_site { LQ_SITE_QKV, LQ_SITE_O, LQ_SITE_GATE_UP, LQ_SITE_DOWN, LQ_N_SITES } lq_site;
lq_site lq_site_of(lq_layer_tensor linear);

typedef struct lq_calib_data { /* n_sequences of T tokens; borrowed */
    const uint32_t *token;
    size_t n_sequences, T;
} lq_calib_data;

/* Fills every theta of q from the full-precision weights `full`, in order of the blocks, and refreshes
 * q->w. The method says whether it needs Gram matrices, and whether the inputs come from the quantized
 * prefix. LQ_E_SHAPE: calibration data needed and empty; else what ->init returns, with the linear's
 * name in front. */
lq_status lq_quantize(lq_qmodel *q, const lq_weights *full, const lq_calib_data *calib,
                      const lq_rng *rng);

/* Gram matrices E[x' x] of every linear's input in the full-precision model, as F32 tensors named
 * "<linear>.gram" (model.layers.0.self_attn.q_proj.gram), with "tokens" in the metadata. */
lq_status lq_calibrate_to_file(const lq_weights *full, const lq_calib_data *calib,
                               const char *path);

#endif
