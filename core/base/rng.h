/* Random numbers as an argument: counter-based streams, split by purpose. A stream is two words and
 * may be stored in a checkpoint. The same (seed, names, indices) give the same numbers on every
 * machine: only integer arithmetic, sqrt, log, cos.
 *
 *     lq_rng root = lq_rng_seed(1);
 *     lq_rng signs = lq_rng_split(&root, "signs", layer);
 *     double u = lq_rng_uniform(&signs); */
#ifndef LQ_BASE_RNG_H
#define LQ_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct lq_rng {
    uint64_t key, counter;
} lq_rng;

lq_rng lq_rng_seed(uint64_t seed);
/* A child stream, independent of how far the parent was drawn from. */
lq_rng lq_rng_split(const lq_rng *parent, const char *name, uint64_t index);
uint64_t lq_rng_u64(lq_rng *rng);
double lq_rng_uniform(lq_rng *rng);             /* [0,1), 53 bits */
double lq_rng_normal(lq_rng *rng);              /* N(0,1), Box-Muller, two draws each */
uint64_t lq_rng_below(lq_rng *rng, uint64_t n); /* uniform in 0..n-1, n > 0, unbiased */
float lq_rng_sign(lq_rng *rng);                 /* +1 or -1 */
void lq_rng_permutation(lq_rng *rng, uint32_t *p, size_t n); /* Fisher-Yates of 0..n-1 */

#endif
