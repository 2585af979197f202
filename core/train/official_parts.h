/* Shared by the reader and the writer of official checkpoints. */
#ifndef LQ_TRAIN_OFFICIAL_PARTS_H
#define LQ_TRAIN_OFFICIAL_PARTS_H

#include "core/train/qmodel.h"

enum { LQ_OFFICIAL_BLOCK = 128 }; /* of the Hadamard transform, both sides */

typedef struct lq_official_theta { /* where lcqat keeps what the layout stores */
    float *u;                      /* (out,in) latent in code units */
    float *su, *sv, *affine;       /* (in), (out), (2): scale, offset */
} lq_official_theta;

/* "model.layers.0.mlp.up_proj" + suffix, of the linear's tensor name. */
const char *lq_official_name(const lq_weight *linear, const char *suffix, lq_arena *arena);
/* LQ_E_OPTION: theta has no such slots, or its shape is no multiple of 128. */
lq_status lq_official_theta_of(const lq_theta *th, const char *name, lq_official_theta *out);
/* LQ_E_OPTION unless theta's effective weight is the layout's decode of it, for every linear of q:
 * diag(SV) Q (scale q + offset) Q diag(SU), Q of blocks of 128. */
lq_status lq_official_check(const lq_qmodel *q);

#endif
