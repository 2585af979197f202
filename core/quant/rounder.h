/* What LDLQ rounds with: a codebook and the search in it, behind one function.
 *
 *     lq_scalar_grid grid = {.levels = 4, .step = 0.894f, .offset = -1.342f};
 *     lq_rounder rounder = lq_rounder_scalar(&grid);
 *     lq_round_vectors(&rounder, x, n, 1, value, code); */
#ifndef LQ_QUANT_ROUNDER_H
#define LQ_QUANT_ROUNDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LQ_ROUNDER_LARGEST = 16 }; /* weights of a vector */

/* Rounds vectors of d consecutive weights of a row, each for itself, in the plain Euclidean sense. Many
 * vectors stand side by side: component a of vector i is x[a * ld + i], in all three arrays. */
typedef struct lq_rounder {
    /* target (d,count) -> value (d,count), the nearest the rounder can do, and code (codes(d),count). */
    void (*round)(const void *context, const float *target, size_t count, size_t ld, size_t d,
                  float *value, uint16_t *code);
    const void *context; /* borrowed */
    size_t vector;       /* the only d it takes; 0: any */
    bool numbered;       /* a code is the number of a word, one a vector; else a digit a weight */
} lq_rounder;
size_t lq_rounder_codes(const lq_rounder *rounder, size_t d); /* of one vector: 1 or d */
/* The same for vectors that lie one after the other: x, value (count,d), code (count,codes). */
void lq_round_vectors(const lq_rounder *rounder, const float *x, size_t count, size_t d,
                      float *value, uint16_t *code);

/* value = offset + step * code, code = clip(rint((target - offset) / step), 0, levels - 1). */
typedef struct lq_scalar_grid {
    size_t levels;
    float step, offset;
} lq_scalar_grid;
lq_rounder lq_rounder_scalar(const lq_scalar_grid *grid); /* any d */

/* code = argmax over k of 2 target.word[k] - norm[k], the first of equals; value = word[code]. The norms
 * are given, since the released LC-QAT code searches with inexact ones. */
typedef struct lq_word_table {
    size_t words, d;   /* words <= 65536 */
    const float *word; /* (words,d), borrowed, like norm (words) */
    const float *norm;
} lq_word_table;
lq_rounder lq_rounder_table(const lq_word_table *table); /* d = table->d, numbered */

#endif
