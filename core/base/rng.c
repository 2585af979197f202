/* The generator is Philox2x64-10: ten rounds of multiply, xor and key bump turn a 64-bit key and a
 * 128-bit counter into two 64-bit words. It passes BigCrush and has no state beyond key and counter.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the
 * constants and the known answers in the unit test are those of its library, Random123.
 *
 *     draw i of a stream       word 0 of philox(key; i, 0)
 *     child (name, index)      key' = word 1 of philox(key; index, hash(name))
 *     seed                     key  = word 1 of philox(0; seed, 0)
 * Draws and keys never share a word, so a child stream repeats nothing of its parent. */
#include "core/base/rng.h"

#include "core/base/status.h"

#include <math.h>

__extension__ typedef unsigned __int128 u128;
typedef struct pair {
    uint64_t word[2];
} pair;

static pair philox(uint64_t key, uint64_t low, uint64_t high)
{
    for (int round = 0; round < 10; round++) {
        u128 product = (u128)low * 0xd2b74407b1ce6e93u;
        low = (uint64_t)(product >> 64) ^ key ^ high;
        high = (uint64_t)product;
        key += 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio */
    }
    return (pair){{low, high}};
}

/* FNV-1a, 64 bits; philox does the mixing. */
static uint64_t hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *c = name; *c; c++)
        h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    return h;
}

lq_rng lq_rng_seed(uint64_t seed) { return (lq_rng){philox(0, seed, 0).word[1], 0}; }

lq_rng lq_rng_split(const lq_rng *parent, const char *name, uint64_t index)
{
    return (lq_rng){philox(parent->key, index, hash(name)).word[1], 0};
}

uint64_t lq_rng_u64(lq_rng *rng) { return philox(rng->key, rng->counter++, 0).word[0]; }

double lq_rng_uniform(lq_rng *rng) { return (double)(lq_rng_u64(rng) >> 11) * 0x1p-53; }

double lq_rng_normal(lq_rng *rng)
{
    double radius = sqrt(-2.0 * log(1.0 - lq_rng_uniform(rng))); /* of (0,1]: the log is finite */
    return radius * cos(2.0 * 3.14159265358979323846 * lq_rng_uniform(rng));
}

/* The high word of draw * n, without the few draws that would favour some values.
 * Source: Lemire, "Fast random integer generation in an interval", ACM TOMACS 29(1), 2019. */
uint64_t lq_rng_below(lq_rng *rng, uint64_t n)
{
    LQ_ASSERT(n > 0);
    u128 product = (u128)lq_rng_u64(rng) * n;
    if ((uint64_t)product < n) {
        uint64_t unfair = (0 - n) % n; /* 2^64 mod n */
        while ((uint64_t)product < unfair)
            product = (u128)lq_rng_u64(rng) * n;
    }
    return (uint64_t)(product >> 64);
}

float lq_rng_sign(lq_rng *rng) { return lq_rng_u64(rng) >> 63 ? -1.0f : 1.0f; }

void lq_rng_permutation(lq_rng *rng, uint32_t *p, size_t n)
{
    LQ_ASSERT((uint64_t)n <= (uint64_t)UINT32_MAX + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint32_t)i;
    for (size_t i = n; i-- > 1;) {
        size_t j = (size_t)lq_rng_below(rng, (uint64_t)i + 1);
        uint32_t swap = p[i];
        p[i] = p[j];
        p[j] = swap;
    }
}
