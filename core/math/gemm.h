/* Matrix products: the only door to BLAS. Row-major; a `_t` operand is used transposed.
 * Inside an OpenMP parallel region a product runs on the caller's thread alone. */
#ifndef LQ_MATH_GEMM_H
#define LQ_MATH_GEMM_H

#include <stddef.h>

/* C (m,n) = beta C + alpha A B, with leading dimensions; A (m,k), B (k,n). */
void lq_gemm_nn(size_t m, size_t n, size_t k, float alpha, const float *A, size_t lda,
                const float *B, size_t ldb, float beta, float *C, size_t ldc);
/* C (m,n) = beta C + alpha A B', B (n,k): the forward of a linear layer, y = x W'. */
void lq_gemm_nt(size_t m, size_t n, size_t k, float alpha, const float *A, size_t lda,
                const float *B, size_t ldb, float beta, float *C, size_t ldc);
/* C (m,n) = beta C + alpha A' B, A (k,m), B (k,n): the weight gradient, dW = dy' x. */
void lq_gemm_tn(size_t m, size_t n, size_t k, float alpha, const float *A, size_t lda,
                const float *B, size_t ldb, float beta, float *C, size_t ldc);
/* The same three in double. */
void lq_gemm_nn_f64(size_t m, size_t n, size_t k, double alpha, const double *A, size_t lda,
                    const double *B, size_t ldb, double beta, double *C, size_t ldc);
void lq_gemm_nt_f64(size_t m, size_t n, size_t k, double alpha, const double *A, size_t lda,
                    const double *B, size_t ldb, double beta, double *C, size_t ldc);
void lq_gemm_tn_f64(size_t m, size_t n, size_t k, double alpha, const double *A, size_t lda,
                    const double *B, size_t ldb, double beta, double *C, size_t ldc);

void lq_gemm_use_reference(int on); /* plain loops instead of BLAS, for replay tests */
/* Threads of one product outside parallel regions, and (the OpenMP build's way) of the regions opened
 * from here on; returns what was set before. */
int lq_blas_threads(int n);
const char *lq_blas_name(void); /* "OpenBLAS 0.3.21 SkylakeX openmp ..." */

#endif
