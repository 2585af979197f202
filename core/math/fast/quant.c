/* The quantizer's kernels, compiled once an instruction set. Lanes and sums stand in the order of the
 * references: hadamard and dge_fwd agree with them bit for bit. Vectors are as wide as the registers, not
 * 64 bytes as in vec.h: the compiler takes shuffles and conversions of wider ones apart lane by lane,
 * which made these kernels 2 to 5 times slower with AVX2 and SSE2. */
#include "core/math/kernels.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
enum { LANES = VECTOR_BYTES / 4, BLOCK = 128, BLOCK_VECTORS = BLOCK / LANES };

typedef float vfloat __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vint __attribute__((vector_size(VECTOR_BYTES)));
#define INLINE static inline __attribute__((always_inline))

#define PASTE_(a, b) a##b
#define PASTE(a, b)  PASTE_(a, b)
#define FILL         PASTE(lq_kernels_fill_quant_, LQ_ISA)
void FILL(lq_kernel_table *table);

INLINE vfloat load(const float *x)
{
    vfloat v;
    memcpy(&v, x, sizeof v);
    return v;
}

INLINE void store(float *x, vfloat v) { memcpy(x, &v, sizeof v); }

INLINE vfloat splat(float x) { return (vfloat){0} + x; }

/* Lane by lane: mask ? a : b, for a mask of all or no bits. */
INLINE vfloat choose(vint mask, vfloat a, vfloat b)
{
    return (vfloat)((mask & (vint)a) | (~mask & (vint)b));
}

INLINE vfloat clip(vfloat x, float top)
{
    x = choose(x < splat(0), splat(0), x);
    return choose(x > splat(top), splat(top), x);
}

/* ---- Hadamard ---------------------------------------------------------------------------------- */

/* One stage inside a vector: lane i meets lane i ^ half; the upper one of a pair is subtracted. */
#define SIGN(i, half) (((i) & (half)) != 0 ? -1.0f : 1.0f)
#if VECTOR_BYTES == 64
#define LIST(f, h)                                                                            \
    f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h), f(8, h), f(9, h), \
        f(10, h), f(11, h), f(12, h), f(13, h), f(14, h), f(15, h)
#elif VECTOR_BYTES == 32
#define LIST(f, h) f(0, h), f(1, h), f(2, h), f(3, h), f(4, h), f(5, h), f(6, h), f(7, h)
#else
#define LIST(f, h) f(0, h), f(1, h), f(2, h), f(3, h)
#endif
#define PARTNER(i, half) ((i) ^ (half))
#define STAGE(v, half) \
    (__builtin_shufflevector(v, v, LIST(PARTNER, half)) + (v) * (vfloat){LIST(SIGN, half)})

INLINE vfloat stages_within(vfloat v)
{
    v = STAGE(v, 1);
    v = STAGE(v, 2);
#if VECTOR_BYTES >= 32
    v = STAGE(v, 4);
#endif
#if VECTOR_BYTES == 64
    v = STAGE(v, 8);
#endif
    return v;
}

/* One stage among the vectors of a block that lies in registers; half is known at compile time. */
INLINE void stage_among(vfloat *v, size_t half)
{
    for (size_t p = 0; p < BLOCK_VECTORS / 2; p++) {
        size_t i = p / half * 2 * half + p % half;
        vfloat low = v[i], high = v[i + half];
        v[i] = low + high;
        v[i + half] = low - high;
    }
}

/* The block of the paper's released code. Two levels of memory traffic only: in and out. */
INLINE void block_128(float *x, float scale)
{
    vfloat v[BLOCK_VECTORS];
    for (size_t i = 0; i < BLOCK_VECTORS; i++)
        v[i] = stages_within(load(x + i * LANES));
    stage_among(v, 1);
    stage_among(v, 2);
    stage_among(v, 4);
#if VECTOR_BYTES <= 32
    stage_among(v, 8);
#endif
#if VECTOR_BYTES == 16
    stage_among(v, 16);
#endif
    for (size_t i = 0; i < BLOCK_VECTORS; i++)
        store(x + i * LANES, v[i] * scale);
}

/* Stages half and 2 half in one pass over a block in memory. */
INLINE void radix_4(float *x, size_t block, size_t half)
{
    for (size_t at = 0; at < block; at += 4 * half)
        for (size_t i = at; i < at + half; i += LANES) {
            vfloat a = load(x + i), b = load(x + i + half);
            vfloat c = load(x + i + 2 * half), d = load(x + i + 3 * half);
            vfloat ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
            store(x + i, ab + cd);
            store(x + i + half, a_b + c_d);
            store(x + i + 2 * half, ab - cd);
            store(x + i + 3 * half, a_b - c_d);
        }
}

static void block_large(float *x, size_t block, float scale)
{
    for (size_t i = 0; i < block; i += LANES)
        store(x + i, stages_within(load(x + i)));
    size_t half = LANES;
    for (; 4 * half <= block; half *= 4)
        radix_4(x, block, half);
    if (half < block)
        for (size_t i = 0; i < half; i += LANES) {
            vfloat low = load(x + i), high = load(x + i + half);
            store(x + i, low + high);
            store(x + i + half, low - high);
        }
    for (size_t i = 0; i < block; i += LANES)
        store(x + i, load(x + i) * scale);
}

static void block_small(float *x, size_t block, float scale)
{
    for (size_t half = 1; half < block; half *= 2)
        for (size_t p = 0; p < block / 2; p++) {
            size_t i = p / half * 2 * half + p % half;
            float low = x[i], high = x[i + half];
            x[i] = low + high;
            x[i + half] = low - high;
        }
    for (size_t i = 0; i < block; i++)
        x[i] *= scale;
}

static void hadamard(float *x, size_t n, size_t D, size_t block)
{
    const float scale = (float)(1.0 / sqrt((double)block));
    const float *end = x + n * D;
    if (block == BLOCK)
        for (; x < end; x += BLOCK)
            block_128(x, scale);
    else if (block >= LANES)
        for (; x < end; x += block)
            block_large(x, block, scale);
    else
        for (; x < end; x += block)
            block_small(x, block, scale);
}

/* ---- DGE --------------------------------------------------------------------------------------- */

/* 1.5 * 2^23: added to a float of small magnitude it leaves no fraction, and the addition itself
 * rounds to nearest, ties to even. */
static const float round_magic = 12582912.0f;

INLINE vfloat round_clip(vfloat u, float q_max)
{
    return clip(u, q_max) + round_magic - round_magic;
}

static void dge_fwd(float *q, const float *u, size_t n, float q_max)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(q + i, round_clip(load(u + i), q_max));
    if (i < n) {
        float rest[LANES] = {0};
        memcpy(rest, u + i, (n - i) * sizeof *u);
        store(rest, round_clip(load(rest), q_max));
        memcpy(q + i, rest, (n - i) * sizeof *q);
    }
}

INLINE vint pick(vint index, int32_t value, float then)
{
    return (index == value) & (vint)splat(then);
}

/* t^(-4/5) / 5 for normal t > 0 and for zero, where it is above 2^100. With t = 2^e m, 1 <= m < 2,
 * it is 2^(-4e/5) times a polynomial in m - 1.5 (Chebyshev, degree 10: relative error 5e-9); and
 * -4e/5 is a whole number plus a multiple of 1/5 below 1, both exact. */
INLINE vfloat power_slope(vfloat t)
{
    static const float c[] = {0.14459623606f,     -0.0771180055303f,  0.0462708239454f,
                              -0.0287896977096f,  0.018232815146f,    -0.0116922347447f,
                              0.00754238850919f,  -0.00467217799422f, 0.00300312010842f,
                              -0.00280725527955f, 0.00188814638977f};
    vint bits = (vint)t;
    vfloat z = (vfloat)((bits & 0x007fffff) | 0x3f800000) - 1.5f;
    vfloat sum = splat(c[10]);
    for (int i = 9; i >= 0; i--)
        sum = sum * z + c[i];
    vint fifths = 640 - 4 * ((bits >> 23) - 127); /* of the exponent + 128; 128 .. 1148 */
    vint whole = __builtin_convertvector(__builtin_convertvector(fifths, vfloat) * 0.2f, vint);
    vint rest = fifths - 5 * whole;
    vint root = pick(rest, 0, 1.0f) | pick(rest, 1, 1.14869835500f) |
                pick(rest, 2, 1.31950791077f) | pick(rest, 3, 1.51571656651f) |
                pick(rest, 4, 1.74110112659f);
    return sum * (vfloat)root * (vfloat)((whole - 1) << 23); /* 2^(whole - 128) */
}

INLINE vfloat dge_slope(vfloat u, float q_max, float ceiling)
{
    /* floor of the clipped value: it is not negative, so truncation will do; a NaN is put back below */
    vfloat inside = clip(choose(u == u, u, splat(0)), q_max);
    vfloat below = __builtin_convertvector(__builtin_convertvector(inside, vint), vfloat);
    vfloat t = 2.0f * (u - below) - 1.0f;
    t = (vfloat)((vint)t & INT32_MAX);
    vfloat phi = power_slope(t);
    phi = choose(phi > splat(ceiling), splat(ceiling), phi);
    /* infinity has slope 0, a NaN stays one */
    return choose(t <= splat(FLT_MAX), phi, choose(t == t, splat(0), t));
}

/* The fifth root is what LC-QAT trains with; other exponents are for ablations. */
static void dge_bwd_any(float *du, const float *dq, const float *u, size_t n, float q_max, float k,
                        float ceiling, float scale)
{
    const float power = 1.0f / k - 1.0f;
    for (size_t i = 0; i < n; i++) {
        float below = floorf(u[i] < 0 ? 0 : u[i] > q_max ? q_max : u[i]);
        float slope = powf(fabsf(2.0f * (u[i] - below) - 1.0f), power) / k;
        du[i] += scale * dq[i] * (slope > ceiling ? ceiling : slope);
    }
}

static void dge_bwd(float *du, const float *dq, const float *u, size_t n, float q_max, float k,
                    float ceiling, float scale)
{
    if (k != 5.0f) {
        dge_bwd_any(du, dq, u, n, q_max, k, ceiling, scale);
        return;
    }
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(du + i, load(du + i) + scale * load(dq + i) * dge_slope(load(u + i), q_max, ceiling));
    if (i < n) {
        float rest[3][LANES] = {{0}};
        size_t bytes = (n - i) * sizeof *u;
        memcpy(rest[0], u + i, bytes);
        memcpy(rest[1], dq + i, bytes);
        memcpy(rest[2], du + i, bytes);
        store(rest[2],
              load(rest[2]) + scale * load(rest[1]) * dge_slope(load(rest[0]), q_max, ceiling));
        memcpy(du + i, rest[2], bytes);
    }
}

void FILL(lq_kernel_table *table)
{
    table->hadamard = hadamard;
    table->dge_fwd = dge_fwd;
    table->dge_bwd = dge_bwd;
}
