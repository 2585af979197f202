/* Hadamard matrices of orders that are no powers of two: entries +1 and -1, H H' = K I.
 *
 *     Paley I     K = q + 1,    q a prime power, q = 3 mod 4:   I + S, S skew             12, 20, 24, 28
 *     Paley II    K = 2 (q+1),  q a prime power, q = 1 mod 4:   symmetric                 12, 28, 36, 52
 *     product     Kronecker, of two of these and of Sylvester's                           40, 56, 144
 *
 * Prime powers are taken up to the cube. 4 p exists for most odd p; the first that does not is 92 = 4 x 23,
 * where 368 = 16 x 23 does. Source: R. E. A. C. Paley, J. Math. Phys. 12 (1933) 311. */
#ifndef LQ_QUANT_PALEY_H
#define LQ_QUANT_PALEY_H

#include "core/base/arena.h"

enum { LQ_PALEY_LARGEST = 1024 };

/* Is there one of this order, 1 <= order <= LQ_PALEY_LARGEST? Powers of two count. */
bool lq_paley_exists(size_t order);
/* H (order,order), which must exist. It need not be symmetric. */
lq_status lq_paley_fill(size_t order, float *H, lq_arena *scratch);

#endif
