/* Shared by the forward, the backward and decoding. */
#ifndef LQ_MODEL_LLAMA_PARTS_H
#define LQ_MODEL_LLAMA_PARTS_H

#include "core/math/gemm_bf16.h"
#include "core/model/llama.h"

/* Cosine and sine of the rotary angles, (T,dh/2). */
void lq_rope_fill(const lq_config *config, size_t T, float *cosine, float *sine);

/* A product of a linear layer, the head or attention, in the lane's arithmetic: lq_bf16_gemm or lq_gemm_*. */
void lq_lane_product(const lq_lane *lane, lq_gemm_form form, size_t m, size_t n, size_t k,
                     const float *A, size_t lda, const float *B, size_t ldb, float beta, float *C,
                     size_t ldc);

#endif
