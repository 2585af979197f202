/* Sixteen floats at a time through the compiler's vector type: the same lanes and the same order of sums
 * on every instruction set (only fused multiply-adds differ). Include it from core/math/fast alone. */
#ifndef LQ_MATH_FAST_VEC_H
#define LQ_MATH_FAST_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Every function here is inlined, so the calling convention of wide vectors does not matter. */
#pragma GCC diagnostic ignored "-Wpsabi"

enum { LANES = 16 };
typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));

static inline vec load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store(float *p, vec v) { memcpy(p, &v, sizeof v); }

/* n < LANES values, the rest `fill`. */
static inline vec load_part(const float *p, size_t n, float fill)
{
    float room[LANES];
    for (size_t i = 0; i < LANES; i++)
        room[i] = i < n ? p[i] : fill;
    return load(room);
}

static inline void store_part(float *p, vec v, size_t n)
{
    float room[LANES];
    store(room, v);
    memcpy(p, room, n * sizeof *p);
}

static inline vec splat(float x) { return (vec){0} + x; }

static inline vec select_vec(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

static inline vec vmax(vec a, vec b) { return select_vec(a > b, a, b); }

static inline vec vmin(vec a, vec b) { return select_vec(a < b, a, b); }

static inline float sum_lanes(vec v)
{
    float x[LANES];
    store(x, v);
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            x[i] += x[i + width];
    return x[0];
}

static inline float max_lanes(vec v)
{
    float x[LANES];
    store(x, v);
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t i = 0; i < width; i++)
            x[i] = x[i] > x[i + width] ? x[i] : x[i + width];
    return x[0];
}

/* exp(x), x clamped to [-87.3, 88.3]: 2^n p(r) with r = x - n ln 2 in [-ln2/2, ln2/2] and the Taylor
 * polynomial of degree 7 (relative error below 2e-7). A NaN stays one. */
static inline vec vexp(vec x)
{
    const vec shift = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    vec in = vmin(vmax(x, splat(-87.3f)), splat(88.3f));
    in = select_vec(x == x, in, x);
    const vec n = (in * 1.44269504f + shift) - shift;
    vec r = in - n * 0.693145752f; /* ln 2 in two parts: the first has 15 zero bits */
    r = r - n * 1.42860677e-6f;
    vec p = splat(1.0f / 5040);
    p = p * r + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const vec whole = select_vec(x == x, n, (vec){0});
    const ivec power = (__builtin_convertvector(whole, ivec) + 127) << 23;
    return p * (vec)power;
}

#define LQ_PASTE2(a, b) a##_##b
#define LQ_PASTE(a, b)  LQ_PASTE2(a, b)

#endif
