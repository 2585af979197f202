/* The random numbers of Python's `random`, for protocols that are defined by them: MT19937, seeded as
 * random.seed(n) does for whole numbers, and the ways CPython draws from it. Nothing else uses it: our own
 * streams are core/base/rng.h.
 *
 *     lq_pyrandom r;
 *     lq_pyrandom_seed(&r, 0);
 *     i = lq_pyrandom_int(&r, 0, n - 1);          // random.randint(0, n - 1)
 *
 * Source: Matsumoto and Nishimura 1998 (init_by_array); CPython Lib/random.py, Modules/_randommodule.c. */
#ifndef LQ_EVAL_PYRANDOM_H
#define LQ_EVAL_PYRANDOM_H

#include <stddef.h>
#include <stdint.h>

enum { LQ_MT_WORDS = 624 };
typedef struct lq_pyrandom {
    uint32_t word[LQ_MT_WORDS];
    size_t at;
} lq_pyrandom;

void lq_pyrandom_seed(lq_pyrandom *r, uint64_t seed);
uint32_t lq_pyrandom_u32(lq_pyrandom *r);
double lq_pyrandom_real(lq_pyrandom *r); /* random.random(): [0,1), 53 bits */
/* random.randint(low, high), both ends included; low <= high, high - low < 2^32 - 1. */
uint64_t lq_pyrandom_int(lq_pyrandom *r, uint64_t low, uint64_t high);

#endif
