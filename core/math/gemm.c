#include "core/math/gemm.h"

#include <cblas.h>
#include <stdbool.h>

/* OpenBLAS 0.3.21's own names; its header declares them too, but only when built by its own flags. */
char *openblas_get_config(void);

static bool reference;

void lq_gemm_use_reference(int on) { reference = on != 0; }

int lq_blas_threads(int n)
{
    const int old = openblas_get_num_threads();
    openblas_set_num_threads(n);
    return old;
}

const char *lq_blas_name(void) { return openblas_get_config(); }

/* The definition, for both types: element (i,p) of A lies at A[i * a_row + p * a_col]. */
#define REFERENCE_GEMM(name, real)                                                                \
    static void name(size_t m, size_t n, size_t k, real alpha, const real *A, size_t a_row,       \
                     size_t a_col, const real *B, size_t b_row, size_t b_col, real beta, real *C, \
                     size_t ldc)                                                                  \
    {                                                                                             \
        for (size_t i = 0; i < m; i++)                                                            \
            for (size_t j = 0; j < n; j++) {                                                      \
                double sum = 0;                                                                   \
                for (size_t p = 0; p < k; p++)                                                    \
                    sum += (double)A[i * a_row + p * a_col] * (double)B[p * b_row + j * b_col];   \
                double old = beta == (real)0 ? 0 : (double)beta * (double)C[i * ldc + j];         \
                C[i * ldc + j] = (real)(old + (double)alpha * sum);                               \
            }                                                                                     \
    }
REFERENCE_GEMM(reference_f32, float)
REFERENCE_GEMM(reference_f64, double)

#define GEMM(name, real, blas, plain, ta, tb, a_row, a_col, b_row, b_col)                          \
    void name(size_t m, size_t n, size_t k, real alpha, const real *A, size_t lda, const real *B,  \
              size_t ldb, real beta, real *C, size_t ldc)                                          \
    {                                                                                              \
        if (m == 0 || n == 0)                                                                      \
            return;                                                                                \
        if (reference || k == 0) {                                                                 \
            plain(m, n, k, alpha, A, a_row, a_col, B, b_row, b_col, beta, C, ldc);                 \
            return;                                                                                \
        }                                                                                          \
        blas(CblasRowMajor, ta, tb, (blasint)m, (blasint)n, (blasint)k, alpha, A, (blasint)lda, B, \
             (blasint)ldb, beta, C, (blasint)ldc);                                                 \
    }
GEMM(lq_gemm_nn, float, cblas_sgemm, reference_f32, CblasNoTrans, CblasNoTrans, lda, 1, ldb, 1)
GEMM(lq_gemm_nt, float, cblas_sgemm, reference_f32, CblasNoTrans, CblasTrans, lda, 1, 1, ldb)
GEMM(lq_gemm_tn, float, cblas_sgemm, reference_f32, CblasTrans, CblasNoTrans, 1, lda, ldb, 1)
GEMM(lq_gemm_nn_f64, double, cblas_dgemm, reference_f64, CblasNoTrans, CblasNoTrans, lda, 1, ldb, 1)
GEMM(lq_gemm_nt_f64, double, cblas_dgemm, reference_f64, CblasNoTrans, CblasTrans, lda, 1, 1, ldb)
GEMM(lq_gemm_tn_f64, double, cblas_dgemm, reference_f64, CblasTrans, CblasNoTrans, 1, lda, ldb, 1)
