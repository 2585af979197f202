/* Shared by the forward, the backward and decoding. */
#ifndef LQ_MODEL_LLAMA_PARTS_H
#define LQ_MODEL_LLAMA_PARTS_H

#include "core/model/config.h"

/* Cosine and sine of the rotary angles, (T,dh/2). */
void lq_rope_fill(const lq_config *config, size_t T, float *cosine, float *sine);

#endif
