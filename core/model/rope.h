/* The frequencies of rotary position embeddings: plain, or scaled as config.json and GGUF files say. */
#ifndef LQ_MODEL_ROPE_H
#define LQ_MODEL_ROPE_H

#include "core/base/status.h"

typedef enum lq_rope_kind {
    LQ_ROPE_PLAIN,
    LQ_ROPE_LINEAR, /* every frequency divided by factor */
    LQ_ROPE_LLAMA3  /* long waves divided, short ones kept, a ramp between; at every length */
} lq_rope_kind;

typedef struct lq_rope_scaling { /* zeros: plain */
    lq_rope_kind kind;
    double factor;
    double low, high, original; /* llama3: low_freq_factor, high_freq_factor, the context before */
} lq_rope_scaling;

/* Angle per position of pair i < dh/2, as the Hugging Face code computes it in float. */
float lq_rope_frequency(double theta, const lq_rope_scaling *scaling, size_t dh, size_t i);
/* The scaling whose frequencies are theta^(-2i/dh) / divisor[i], i < dh/2: how GGUF files state llama3's.
 * LQ_E_FORMAT: none that this program knows. */
lq_status lq_rope_of_divisors(const float *divisor, double theta, size_t dh, lq_rope_scaling *out);

#endif
