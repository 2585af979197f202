/* LC-QAT's linear-constrained codebook: word(z) = A z + B for z in {0 .. levels-1}^d, A = s G, B = -mu A 1,
 * mu = (levels-1)/2, s = 1/sqrt((levels^2-1)/12), so that a uniform z has zero mean and unit variance.
 * G is orthogonal (paper) or the identity (the released code, and what the method here trains). */
#ifndef LQ_QUANT_LCQAT_GRID_H
#define LQ_QUANT_LCQAT_GRID_H

#include "core/quant/ldlq.h"

enum { LQ_LCQAT_D = 4 };

typedef struct lq_lcqat_grid {
    size_t levels, words;             /* words = levels^d */
    float A[LQ_LCQAT_D * LQ_LCQAT_D]; /* (d,d) */
    float B[LQ_LCQAT_D];
    float
        *word; /* (words,d); number of z: digits in base `levels`, first column most significant */
    float *norm; /* (words) squared norms for the search */
} lq_lcqat_grid;

/* G (d,d) or NULL for the identity; word and norm live in the arena. bf16: every step rounded as the
 * released code does, whose grid and norms are bfloat16: for 4 levels -1.34375, -0.44921875, 0.4453125,
 * 1.34375, not symmetric; norms off by up to 0.015, so that 2 % of the vectors miss their nearest word.
 * LQ_E_SHAPE: more than 8 levels. */
lq_status lq_lcqat_grid_new(size_t levels, const float *G, bool bf16, lq_arena *arena,
                            lq_lcqat_grid *out);
lq_word_table lq_lcqat_grid_table(const lq_lcqat_grid *grid);
/* Squared norms of the words as they stand: the search is then the nearest word. */
void lq_lcqat_exact_norms(const float *word, size_t words, size_t d, float *norm);

/* {s_c, o_c} of the layer, value = s_c code + o_c, for G = I: A[0][0] and B[0] above. */
void lq_lcqat_affine(size_t levels, bool bf16, float affine[2]);

#endif
