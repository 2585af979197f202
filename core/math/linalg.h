/* Dense factorizations in double, row-major, n x n. */
#ifndef LQ_MATH_LINALG_H
#define LQ_MATH_LINALG_H

#include "core/base/status.h"

/* A = L L', in place: the lower triangle becomes L, the upper one zero. LQ_E_NUMERIC: A is not finite
 * or not positive definite (the note names the pivot); A is then undefined. */
lq_status lq_cholesky(double *A, size_t n);
/* In place: lower-triangular L becomes its inverse (lower). Diagonal must not be zero. */
void lq_lower_inverse(double *L, size_t n);
/* A becomes the inverse of symmetric positive definite A (both triangles). LQ_E_NUMERIC as above. */
lq_status lq_spd_inverse(double *A, size_t n);
/* The upper factor U with A^-1 = U' U, that GPTQ works with (arXiv:2210.17323, sec. 3.3). */
lq_status lq_inverse_upper_cholesky(double *A, size_t n);

#endif
