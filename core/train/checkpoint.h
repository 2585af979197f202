/* The whole state of a training run in one safetensors file: parameters, moments, losses so far, step.
 * What is read back continues bit for bit. */
#ifndef LQ_TRAIN_CHECKPOINT_H
#define LQ_TRAIN_CHECKPOINT_H

#include "core/train/optimizer.h"

typedef struct lq_checkpoint {
    const char *path, *fingerprint;
    lq_param *param;
    size_t n_params, step;
    double *loss; /* (n_loss), the first `step` of them are filled */
    size_t n_loss;
} lq_checkpoint;

lq_status lq_checkpoint_write(const lq_checkpoint *now); /* whole or not at all */
/* Fills param, loss and step. LQ_E_FORMAT: damaged, or the fingerprint is another run's. */
lq_status lq_checkpoint_read(lq_checkpoint *out, lq_arena *scratch);

#endif
