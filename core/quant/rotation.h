/* The orthogonal transforms Q that make weights incoherent, and the random signs before them.
 *
 *     none     Q = I
 *     block    Q = blockdiag of Sylvester Hadamards of one order, / sqrt(order)      core/quant/hadamard.h
 *     full     Q = (Had_K x Sylvester_{n/K}) / sqrt(n), K the smallest order there is  core/quant/paley.h
 *
 *     LQ_TRY(lq_rotation_new(LQ_ROTATION_FULL, m, 0, arena, &qm));
 *     LQ_TRY(lq_rotation_new(LQ_ROTATION_FULL, n, 0, arena, &qn));
 *     lq_scale_both(w, m, n, sign_m, sign_n);
 *     lq_rotate_in(w, m, n, &qm, &qn);                      // Wr = Q_m' D_m W D_n Q_n
 *     lq_rotate_gram(H, n, sign_n, &qn, scratch);           // Hr = Q_n' D_n H D_n Q_n
 *
 * tr(E H E') is the same before and after. Had_K need not be symmetric, so that Q' differs from Q. */
#ifndef LQ_QUANT_ROTATION_H
#define LQ_QUANT_ROTATION_H

#include "core/base/arena.h"

typedef enum lq_rotation_kind {
    LQ_ROTATION_BLOCK,
    LQ_ROTATION_FULL,
    LQ_ROTATION_NONE
} lq_rotation_kind;
#define LQ_ROTATION_WORDS "block|full|none" /* in the order of the enum */

typedef struct lq_rotation {
    size_t n;           /* the dimension */
    size_t block;       /* order of the Sylvester factor; 1: none */
    size_t factor;      /* K, order of the dense factor; 1: none */
    const float *dense; /* (K,K) Had_K / sqrt(K); NULL for K = 1 */
} lq_rotation;

/* K of the full rotation of n: the odd part of n times a power of two. 0: none is known. */
size_t lq_rotation_factor(size_t n);
/* cap: largest block, for the kind block; `dense` lives in the arena. LQ_E_SHAPE: no full rotation of
 * this dimension is known. */
lq_status lq_rotation_new(lq_rotation_kind kind, size_t n, size_t cap, lq_arena *arena,
                          lq_rotation *out);

/* In place on x (m,n): Q_m' x Q_n, into the basis where weights are rounded; and back, Q_m x Q_n'. */
void lq_rotate_in(float *x, size_t m, size_t n, const lq_rotation *qm, const lq_rotation *qn);
void lq_rotate_out(float *x, size_t m, size_t n, const lq_rotation *qm, const lq_rotation *qn);
/* In place on symmetric H (n,n), in double: Q' diag(sign) H diag(sign) Q. */
void lq_rotate_gram(double *H, size_t n, const float *sign, const lq_rotation *q,
                    lq_arena *scratch);

#endif
