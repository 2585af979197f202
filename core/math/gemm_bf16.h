/* Matrix products of operands rounded to bfloat16, summed in float: the only door to oneDNN. For
 * processors that multiply bfloat16 (AVX512-BF16, AMX); elsewhere they are refused, not imitated.
 *
 *     LQ_TRY(lq_bf16_open(most, &products));          // operands of at most so many values
 *     lq_bf16_gemm(products, LQ_GEMM_NT, m, n, k, x, k, W, k, 0, y, n);   // y = x W'
 *     lq_bf16_close(products);
 *
 * A product runs on the caller's thread alone, so that its bits depend on nothing but its operands. What
 * it deviates from the float product by: each operand is off by a share of at most 2^-9. */
#ifndef LQ_MATH_GEMM_BF16_H
#define LQ_MATH_GEMM_BF16_H

#include "core/base/status.h"

typedef enum lq_compute { LQ_COMPUTE_F32, LQ_COMPUTE_BF16 } lq_compute;
typedef enum lq_gemm_form {
    LQ_GEMM_NN,
    LQ_GEMM_NT,
    LQ_GEMM_TN
} lq_gemm_form;                 /* core/math/gemm.h */
typedef struct lq_bf16 lq_bf16; /* buffers and prepared products of one thread */

/* LQ_E_UNAVAILABLE: built without oneDNN, or a processor without bfloat16; which of them, and what to do. */
lq_status lq_bf16_check(void);
/* "oneDNN 2.6.3"; "none" when built without. */
const char *lq_bf16_library(void);
/* Bytes of lq_bf16_open, without oneDNN's own. */
size_t lq_bf16_bytes(size_t most);
/* most: values of the largest operand. LQ_E_UNAVAILABLE as above; LQ_E_MEMORY. Owned: lq_bf16_close. */
lq_status lq_bf16_open(size_t most, lq_bf16 **out);
void lq_bf16_close(lq_bf16 *products); /* NULL is fine */
/* C (m,n) = beta C + the product of A and B as `form` has it; beta 0 or 1, m, n, k > 0. Aborts when memory
 * is out. */
void lq_bf16_gemm(lq_bf16 *products, lq_gemm_form form, size_t m, size_t n, size_t k,
                  const float *A, size_t lda, const float *B, size_t ldb, float beta, float *C,
                  size_t ldc);

/* The definition: operands rounded, the product by lq_gemm_*. From here on lq_bf16_open gives it, on every
 * processor: for tests. */
void lq_bf16_use_reference(int on);

#endif
