#include "core/math/linalg.h"

#include <math.h>
#include <stddef.h>

/* LAPACK comes with OpenBLAS; its Fortran symbols need no header. It is column-major: what it calls
 * the upper triangle of a matrix is our lower one, and its U' U is our L L'. The lengths of the
 * character arguments are passed by value at the end, as gfortran does. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_n);
void dpotri_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_n);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda, int *info,
             size_t uplo_n, size_t diag_n);

/* LAPACK lets NaN through in places, hence the look beforehand. */
static lq_status check_finite(const double *A, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            if (!isfinite(A[i * n + j]))
                return lq_fail(LQ_E_NUMERIC,
                               "matrix of order %zu: entry (%zu,%zu) is not finite; "
                               "look at the data that it was collected from",
                               n, i, j);
    return LQ_OK;
}

/* Of the triangle named in LAPACK's view; the other one is left as it is. */
static lq_status factor(const char *uplo, double *A, size_t n)
{
    LQ_TRY(check_finite(A, n));
    if (n == 0)
        return LQ_OK;
    int order = (int)n, info = 0;
    dpotrf_(uplo, &order, A, &order, &info, 1);
    LQ_ASSERT(info >= 0);
    if (info > 0)
        return lq_fail(LQ_E_NUMERIC,
                       "matrix of order %zu is not positive definite: pivot %d; "
                       "add more to its diagonal",
                       n, info);
    return LQ_OK;
}

static void zero_upper(double *A, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            A[i * n + j] = 0;
}

lq_status lq_cholesky(double *A, size_t n)
{
    LQ_TRY(factor("U", A, n));
    zero_upper(A, n);
    return LQ_OK;
}

void lq_lower_inverse(double *L, size_t n)
{
    if (n == 0)
        return;
    int order = (int)n, info = 0;
    dtrtri_("U", "N", &order, L, &order, &info, 1, 1);
    LQ_ASSERT(info == 0); /* a zero on the diagonal is the caller's bug */
}

lq_status lq_spd_inverse(double *A, size_t n)
{
    LQ_TRY(factor("U", A, n));
    if (n == 0)
        return LQ_OK;
    int order = (int)n, info = 0;
    dpotri_("U", &order, A, &order, &info, 1);
    LQ_ASSERT(info == 0);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            A[i * n + j] = A[j * n + i];
    return LQ_OK;
}

lq_status lq_inverse_upper_cholesky(double *A, size_t n)
{
    LQ_TRY(lq_spd_inverse(A, n));
    LQ_TRY(factor("L", A, n)); /* LAPACK's L L' is our U' U with U = L' */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            A[i * n + j] = 0;
    return LQ_OK;
}
