#include "core/eval/pyrandom.h"

#include "core/base/status.h"

enum { N = LQ_MT_WORDS, M = 397 };

static void seed_word(lq_pyrandom *r, uint32_t seed)
{
    r->word[0] = seed;
    for (uint32_t i = 1; i < N; i++)
        r->word[i] = 1812433253u * (r->word[i - 1] ^ (r->word[i - 1] >> 30)) + i;
    r->at = N;
}

void lq_pyrandom_seed(lq_pyrandom *r, uint64_t seed)
{
    /* The key is |seed| in limbs of 32 bits, lowest first, at least one. */
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t n_key = key[1] != 0 ? 2 : 1;
    uint32_t *w = r->word, i = 1, j = 0;
    seed_word(r, 19650218u);
    for (uint32_t k = N; k > 0; k--) {
        w[i] = (w[i] ^ ((w[i - 1] ^ (w[i - 1] >> 30)) * 1664525u)) + key[j] + j;
        if (++i == N) {
            w[0] = w[N - 1];
            i = 1;
        }
        j = j + 1 == n_key ? 0 : j + 1;
    }
    for (uint32_t k = N - 1; k > 0; k--) {
        w[i] = (w[i] ^ ((w[i - 1] ^ (w[i - 1] >> 30)) * 1566083941u)) - i;
        if (++i == N) {
            w[0] = w[N - 1];
            i = 1;
        }
    }
    w[0] = 0x80000000u;
}

static void refill(lq_pyrandom *r)
{
    uint32_t *w = r->word;
    for (size_t i = 0; i < N; i++) {
        const uint32_t y = (w[i] & 0x80000000u) | (w[(i + 1) % N] & 0x7fffffffu);
        w[i] = w[(i + M) % N] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908b0dfu : 0);
    }
    r->at = 0;
}

uint32_t lq_pyrandom_u32(lq_pyrandom *r)
{
    if (r->at >= N)
        refill(r);
    uint32_t y = r->word[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

double lq_pyrandom_real(lq_pyrandom *r)
{
    const uint32_t high = lq_pyrandom_u32(r) >> 5, low = lq_pyrandom_u32(r) >> 6;
    return (high * 67108864.0 + low) / 9007199254740992.0;
}

/* Random._randbelow: as many top bits as the width has, drawn again while they are too many. */
uint64_t lq_pyrandom_int(lq_pyrandom *r, uint64_t low, uint64_t high)
{
    LQ_ASSERT(low <= high && high - low < UINT32_MAX);
    const uint64_t width = high - low + 1;
    int bits = 0;
    while (width >> bits != 0)
        bits++;
    uint64_t value;
    do
        value = lq_pyrandom_u32(r) >> (32 - bits);
    while (value >= width);
    return low + value;
}
