/* Block Hadamard transforms. What is built on them: core/quant/rotation.h.
 *
 *     Q_n = blockdiag of Sylvester Hadamards of order `block`, divided by sqrt(block): Q = Q' = Q^-1
 *
 * A block never reaches over the end of a row: where the width is no multiple of 128 the released code
 * mixes neighbouring rows (docs/decisions/0020). */
#ifndef LQ_QUANT_HADAMARD_H
#define LQ_QUANT_HADAMARD_H

#include <stddef.h>

enum { LQ_HADAMARD_LARGEST = 4096 };

/* The largest power of two that divides n and is at most `cap` (1 .. LQ_HADAMARD_LARGEST). */
size_t lq_hadamard_block(size_t n, size_t cap);

/* In place on x (m,n): x Q_n; Q_m x; Q_m x Q_n. A block must divide its dimension. */
void lq_hadamard_rows(float *x, size_t m, size_t n, size_t block);
void lq_hadamard_cols(float *x, size_t m, size_t n, size_t block);
void lq_hadamard_both(float *x, size_t m, size_t n, size_t block_m, size_t block_n);

/* In place on x (m,n): x_ij *= left_i right_j; a NULL stands for ones. */
void lq_scale_both(float *x, size_t m, size_t n, const float *left, const float *right);

#endif
