/* Linear-constrained codebooks: word(z) = A z + B for z in {0 .. levels-1}^d, and the nearest word to a
 * vector. With A = s G, B = -mu A 1, mu = (levels-1)/2, s = 1/sqrt((levels^2-1)/12), a uniform z gives words
 * of zero mean and, for orthogonal G, unit variance: the codebook of LC-QAT (arXiv:2606.10531).
 *
 *     lq_lattice lattice;
 *     lq_lattice_uniform(4, 4, NULL, &lattice);             // G = I: the scalar grid, four at a time
 *     LQ_TRY(lq_lattice_fit(&lattice, x, n, 20, &mse, scratch));
 *     lq_rounder rounder = lq_rounder_lattice(&lattice); */
#ifndef LQ_QUANT_LATTICE_H
#define LQ_QUANT_LATTICE_H

#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/quant/rounder.h"

enum { LQ_LATTICE_LARGEST = 8, LQ_LATTICE_NUMBERS = 64 };

typedef enum lq_lattice_kind { /* how A comes about */
                               LQ_LATTICE_IDENTITY,
                               LQ_LATTICE_ORTHOGONAL, /* a random orthogonal matrix */
                               LQ_LATTICE_LEARNED     /* fitted to the vectors of the matrix */
} lq_lattice_kind;
#define LQ_LATTICE_WORDS "identity|orthogonal|learned" /* in the order of the enum */

typedef struct lq_lattice {
    size_t d, levels;            /* d: 1 .. 8; levels: 2 .. 256 */
    float A[LQ_LATTICE_NUMBERS]; /* (d,d) */
    float B[LQ_LATTICE_LARGEST]; /* (d) */
    double turn
        [LQ_LATTICE_NUMBERS]; /* A = turn' R, turn orthogonal, R upper triangular: the search's */
    double R[LQ_LATTICE_NUMBERS];
} lq_lattice;

double lq_lattice_step(size_t levels); /* s */
/* The g for which a N(0,1) source, scaled by g, meets the unit-variance grid with the least error: 0.8983
 * for 4 levels. */
double lq_lattice_best_scale(size_t levels);
/* Mean squared error of N(0,1) on that grid at scale g: 0.118846 for 4 levels at best. */
double lq_lattice_normal_mse(size_t levels, double g);

/* A = s G, B = -mu A 1; G (d,d) or NULL for the identity. */
void lq_lattice_uniform(size_t levels, size_t d, const float *G, lq_lattice *out);
/* Any A (d,d) and B (d). */
void lq_lattice_of(size_t levels, size_t d, const float *A, const float *B, lq_lattice *out);
void lq_random_orthogonal(size_t d, lq_rng *rng, float *G); /* (d,d), Haar measure */

/* word (count,d) of code (count,d). */
void lq_lattice_decode(const lq_lattice *lattice, const uint8_t *code, size_t count, float *word);
/* Finds the nearest word by a search in depth that cuts off what cannot win: exact for every A, a few
 * steps where A is near a scaled rotation. Codes are digits. */
lq_rounder lq_rounder_lattice(const lq_lattice *lattice); /* d = lattice->d */

/* Alternates nearest words and least squares for (A,B), from the (A,B) it is given, on x (count,d): the
 * error never grows. Ends after `rounds`, or when it falls by less than 1e-5. *mse: mean square of x minus
 * its nearest word, a component. */
lq_status lq_lattice_fit(lq_lattice *lattice, const float *x, size_t count, size_t rounds,
                         double *mse, lq_arena *scratch);

/* All words in one list, for a search with given norms: the released code's, which are inexact. */
typedef struct lq_word_list {
    size_t levels, d, words; /* words = levels^d <= 65536 */
    float *A, *B;            /* (d,d), (d) */
    float
        *word; /* (words,d); number of z: digits in base `levels`, first column most significant */
    float *norm; /* (words) squared norms for the search */
} lq_word_list;
/* G (d,d) or NULL for the identity; all live in the arena. bf16: every step rounded as the released code
 * does, whose grid and norms are bfloat16: for 4 levels -1.34375, -0.44921875, 0.4453125, 1.34375, not
 * symmetric; norms off by up to 0.015, so that 2 % of the vectors miss their nearest word.
 * LQ_E_SHAPE: more than 65536 words. */
lq_status lq_word_list_new(size_t levels, size_t d, const float *G, bool bf16, lq_arena *arena,
                           lq_word_list *out);
/* The words of any lattice, with their own norms: up to 256 of them are compared faster than searched. */
lq_status lq_word_list_of(const lq_lattice *lattice, lq_arena *arena, lq_word_list *out);
lq_word_table lq_word_list_table(const lq_word_list *list);
/* Squared norms of the words as they stand: the search is then the nearest word. */
void lq_exact_norms(const float *word, size_t words, size_t d, float *norm);
/* {s_c, o_c} of the layer, value = s_c code + o_c, for G = I: A[0][0] and B[0] above. */
void lq_lattice_affine(size_t levels, bool bf16, float affine[2]);

#endif
