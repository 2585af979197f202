/* The frequencies of rotary position embeddings: plain, or scaled as config.json and GGUF files say. */
#ifndef LQ_MODEL_ROPE_H
#define LQ_MODEL_ROPE_H

#include "core/base/status.h"

typedef enum lq_rope_kind {
    LQ_ROPE_PLAIN,
    LQ_ROPE_LINEAR, /* every frequency divided by factor */
    LQ_ROPE_LLAMA3, /* long waves divided, short ones kept, a ramp between; at every length */
    LQ_ROPE_YARN /* the same with a ramp over the pairs (arXiv:2309.00071), and a gain on q and k */
} lq_rope_kind;

typedef struct lq_rope_scaling { /* zeros: plain */
    lq_rope_kind kind;
    double factor;
    double low, high; /* llama3: low_freq_factor, high_freq_factor; yarn: beta_slow, beta_fast */
    double original;  /* llama3, yarn: the context before, in tokens */
    bool between;     /* yarn: the ramp may begin between two pairs (truncate: false) */
    double gain;      /* yarn: of cosine and sine (attention_factor) */
} lq_rope_scaling;

/* Angle per position of pair i < dh/2, as the Hugging Face code computes it in float. */
float lq_rope_frequency(double theta, const lq_rope_scaling *scaling, size_t dh, size_t i);
/* What cosine and sine are multiplied by; 1 but for yarn. */
double lq_rope_gain(const lq_rope_scaling *scaling);
/* yarn's gain where attention_factor does not stand: 1 + mscale log(factor)/10, over the same of mscale_all when
 * both are given (transformers, _compute_yarn_parameters); 0: not given. */
double lq_rope_yarn_gain(double factor, double mscale, double mscale_all);
/* The scaling whose frequencies are theta^(-2i/dh) / divisor[i], i < dh/2: how GGUF files state llama3's.
 * LQ_E_FORMAT: none that this program knows. */
lq_status lq_rope_of_divisors(const float *divisor, double theta, size_t dh, lq_rope_scaling *out);

#endif
