/* Block Hadamard transforms of weights and grams, and the random-sign incoherence built on them.
 *
 *     Q_n = blockdiag of Sylvester Hadamards of order `block`, divided by sqrt(block): Q = Q' = Q^-1
 *
 *     size_t bm = lq_hadamard_block(m, 128), bn = lq_hadamard_block(n, 128);
 *     lq_incoherent_weight(w, m, n, sign_m, sign_n, bm, bn);       // Wr = Q_m D_m W D_n Q_n
 *     lq_incoherent_gram(H, n, sign_n, bn);                        // Hr = Q_n D_n H D_n Q_n
 *
 * tr(E H E') is the same before and after. A block never reaches over the end of a row: where the
 * width is no multiple of 128 the released code mixes neighbouring rows (docs/decisions/0020). */
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

/* In place: Wr = Q_m diag(left) W diag(right) Q_n. With signs for left and right, the inverse is
 * lq_hadamard_both followed by lq_scale_both. */
void lq_incoherent_weight(float *w, size_t m, size_t n, const float *left, const float *right,
                          size_t block_m, size_t block_n);
/* In place on symmetric H (n,n), in double: Q_n diag(sign) H diag(sign) Q_n. */
void lq_incoherent_gram(double *H, size_t n, const float *sign, size_t block);

#endif
