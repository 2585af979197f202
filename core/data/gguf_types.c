/* The block types of GGUF and their values as floats. The order of each product follows the reference code
 * (ggml, MIT licence: its formulas, none of its lines), so that every bit agrees; this file is compiled
 * without contraction. Element j of a block below counts from its start; scales are IEEE halves.
 *
 *   Q4_0   d qs[16]                      y = d (q - 8), low nibbles are elements 0..15, high ones 16..31
 *   Q4_1   d m qs[16]                    y = d q + m
 *   Q5_0   d qh[4] qs[16]                as Q4_0, with bit j of qh on top: y = d (q - 16)
 *   Q5_1   d m qh[4] qs[16]              y = d q + m
 *   Q8_0   d qs[32]    Q8_1  d s qs[32]  y = d q (s is a sum, not needed here)
 *   IQ4_NL d qs[16]                      y = d T[q], nibbles as in Q4_0
 *   Q2_K   scales[16] qs[64] d dmin      16 groups of 16: y = d s q - dmin m, s and m nibbles of scales
 *   Q3_K   hmask[32] qs[64] scales[12] d 16 groups of 16: y = d (s - 32) (q - (bit of hmask ? 0 : 4))
 *   Q4_K   d dmin scales[12] qs[128]     8 groups of 32: y = d s q - dmin m, six-bit s and m
 *   Q5_K   d dmin scales[12] qh[32] qs[128]
 *   Q6_K   ql[128] qh[64] scales[16] d   16 groups of 16: y = d s (q - 32)
 *   Q8_K   d (float) qs[256] sums[16]    y = d q */
#include "core/data/gguf.h"
#include "core/data/safetensors.h"

#include <string.h>

enum { SMALL = 32, SUPER = 256 };

static float half_at(const uint8_t *at) { return lq_f16_to_f32((uint16_t)(at[0] | at[1] << 8)); }

static int i8_at(const uint8_t *at) { return *at < 128 ? *at : *at - 256; }

/* ---- Plain values: one a block ----------------------------------------------------------------- */

static void f32(const uint8_t *b, float *y) { memcpy(y, b, sizeof *y); }
static void f16(const uint8_t *b, float *y) { *y = half_at(b); }
static void bf16(const uint8_t *b, float *y) { *y = lq_bf16_to_f32((uint16_t)(b[0] | b[1] << 8)); }

/* ---- Blocks of 32 ------------------------------------------------------------------------------ */

/* The nibble of element j. */
static int nibble(const uint8_t *qs, int j) { return j < 16 ? qs[j] & 15 : qs[j - 16] >> 4; }

/* With bit j of qh as the fifth. */
static int five_bits(const uint8_t *qs, const uint8_t *qh, int j)
{
    return nibble(qs, j) | (qh[j / 8] >> j % 8 & 1) << 4;
}

static void q4_0(const uint8_t *b, float *y)
{
    const float d = half_at(b);
    for (int j = 0; j < SMALL; j++)
        y[j] = (float)(nibble(b + 2, j) - 8) * d;
}

static void q4_1(const uint8_t *b, float *y)
{
    const float d = half_at(b), m = half_at(b + 2);
    for (int j = 0; j < SMALL; j++)
        y[j] = (float)nibble(b + 4, j) * d + m;
}

static void q5_0(const uint8_t *b, float *y)
{
    const float d = half_at(b);
    for (int j = 0; j < SMALL; j++)
        y[j] = (float)(five_bits(b + 6, b + 2, j) - 16) * d;
}

static void q5_1(const uint8_t *b, float *y)
{
    const float d = half_at(b), m = half_at(b + 2);
    for (int j = 0; j < SMALL; j++)
        y[j] = (float)five_bits(b + 8, b + 4, j) * d + m;
}

static void q8_0(const uint8_t *b, float *y)
{
    const float d = half_at(b);
    for (int j = 0; j < SMALL; j++)
        y[j] = (float)i8_at(b + 2 + j) * d;
}

static void q8_1(const uint8_t *b, float *y)
{
    const float d = half_at(b);
    for (int j = 0; j < SMALL; j++)
        y[j] = (float)i8_at(b + 4 + j) * d;
}

static void iq4_nl(const uint8_t *b, float *y)
{
    static const int8_t level[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
    const float d = half_at(b);
    for (int j = 0; j < SMALL; j++)
        y[j] = d * (float)level[nibble(b + 2, j)];
}

/* ---- Blocks of 256 ----------------------------------------------------------------------------- */

/* Q2_K and Q3_K: element j lies in half j/128, plane j%128/32 of two bits, byte j%32 of the half. */
static int two_bits(const uint8_t *qs, int j)
{
    return qs[32 * (j / 128) + j % 32] >> 2 * (j % 128 / 32) & 3;
}

static void q2_k(const uint8_t *b, float *y)
{
    const uint8_t *scales = b, *qs = b + 16;
    const float d = half_at(b + 80), dmin = half_at(b + 82);
    for (int g = 0; g < 16; g++) {
        const float scale = d * (float)(scales[g] & 15), low = dmin * (float)(scales[g] >> 4);
        for (int j = 16 * g; j < 16 * g + 16; j++)
            y[j] = scale * (float)two_bits(qs, j) - low;
    }
}

/* The six bits of scale g of Q3_K: four in the nibbles of bytes 0..7, two in bytes 8..11. */
static int q3_scale(const uint8_t *a, int g)
{
    const int low = g < 8 ? a[g] & 15 : a[g - 8] >> 4;
    return low | (a[8 + g % 4] >> 2 * (g / 4) & 3) << 4;
}

static void q3_k(const uint8_t *b, float *y)
{
    const uint8_t *hmask = b, *qs = b + 32, *scales = b + 96;
    const float d = half_at(b + 108);
    for (int g = 0; g < 16; g++) {
        const float scale = d * (float)(q3_scale(scales, g) - 32);
        for (int j = 16 * g; j < 16 * g + 16; j++) {
            const int high = hmask[j % 32] >> j / 32 & 1;
            y[j] = scale * (float)(two_bits(qs, j) - (high ? 0 : 4));
        }
    }
}

/* Scale and minimum g of Q4_K and Q5_K, six bits each in twelve bytes: bytes 0..3 and 4..7 hold those of
 * groups 0..3 and, in their upper two bits, the upper two of groups 4..7, whose lower four are the nibbles
 * of bytes 8..11. */
static void q4_scale(const uint8_t *s, int g, int *scale, int *low)
{
    *scale = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
    *low = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4;
}

/* Element j of Q4_K and Q5_K: bytes in chunks of 32, the low nibbles of a chunk before the high ones. */
static int chunk_nibble(const uint8_t *qs, int j)
{
    const int byte = qs[32 * (j / 64) + j % 32];
    return j % 64 < 32 ? byte & 15 : byte >> 4;
}

static void q45_k(const uint8_t *b, const uint8_t *qh, const uint8_t *qs, float *y)
{
    const float d = half_at(b), dmin = half_at(b + 2);
    for (int g = 0; g < 8; g++) {
        int s, m;
        q4_scale(b + 4, g, &s, &m);
        const float scale = d * (float)s, low = dmin * (float)m;
        for (int j = 32 * g; j < 32 * g + 32; j++) {
            const int high = qh != NULL ? qh[j % 32] >> g & 1 : 0;
            y[j] = scale * (float)(chunk_nibble(qs, j) + 16 * high) - low;
        }
    }
}

static void q4_k(const uint8_t *b, float *y) { q45_k(b, NULL, b + 16, y); }
static void q5_k(const uint8_t *b, float *y) { q45_k(b, b + 16, b + 48, y); }

/* In each half of 128, quarter i takes nibbles of ql[32 (i%2) ..], low ones for i < 2, and bits 2i of qh. */
static void q6_k(const uint8_t *b, float *y)
{
    const uint8_t *scales = b + 192;
    const float d = half_at(b + 208);
    for (int j = 0; j < SUPER; j++) {
        const int half = j / 128, quarter = j % 128 / 32, l = j % 32;
        const int byte = b[64 * half + 32 * (quarter % 2) + l];
        const int top = b[128 + 32 * half + l] >> 2 * quarter & 3;
        const int q = (quarter < 2 ? byte & 15 : byte >> 4) | top << 4;
        y[j] = d * (float)i8_at(scales + j / 16) * (float)(q - 32);
    }
}

static void q8_k(const uint8_t *b, float *y)
{
    float d;
    memcpy(&d, b, sizeof d);
    for (int j = 0; j < SUPER; j++)
        y[j] = d * (float)i8_at(b + 4 + j);
}

/* ---- The table --------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    size_t elements, bytes; /* of a block */
    void (*decode)(const uint8_t *block, float *y); /* NULL: known by name only */
} types[] = {
    [0] = {"F32", 1, 4, f32},         [1] = {"F16", 1, 2, f16},
    [2] = {"Q4_0", SMALL, 18, q4_0},  [3] = {"Q4_1", SMALL, 20, q4_1},
    [6] = {"Q5_0", SMALL, 22, q5_0},  [7] = {"Q5_1", SMALL, 24, q5_1},
    [8] = {"Q8_0", SMALL, 34, q8_0},  [9] = {"Q8_1", SMALL, 36, q8_1},
    [10] = {"Q2_K", SUPER, 84, q2_k}, [11] = {"Q3_K", SUPER, 110, q3_k},
    [12] = {"Q4_K", SUPER, 144, q4_k}, [13] = {"Q5_K", SUPER, 176, q5_k},
    [14] = {"Q6_K", SUPER, 210, q6_k}, [15] = {"Q8_K", SUPER, 292, q8_k},
    [16] = {.name = "IQ2_XXS"}, [17] = {.name = "IQ2_XS"}, [18] = {.name = "IQ3_XXS"},
    [19] = {.name = "IQ1_S"},   [20] = {"IQ4_NL", SMALL, 18, iq4_nl},
    [21] = {.name = "IQ3_S"},   [22] = {.name = "IQ2_S"},  [23] = {.name = "IQ4_XS"},
    [24] = {.name = "I8"},      [25] = {.name = "I16"},    [26] = {.name = "I32"},
    [27] = {.name = "I64"},     [28] = {.name = "F64"},    [29] = {.name = "IQ1_M"},
    [30] = {"BF16", 1, 2, bf16}, [34] = {.name = "TQ1_0"}, [35] = {.name = "TQ2_0"},
    [39] = {.name = "MXFP4"},   [40] = {.name = "NVFP4"},  [41] = {.name = "Q1_0"},
    [42] = {.name = "Q2_0"},
};
/* clang-format on */
enum { N_TYPES = sizeof types / sizeof types[0] };

bool lq_gguf_type_known(uint32_t type, size_t *block_elements, size_t *block_bytes)
{
    if (type >= N_TYPES || types[type].decode == NULL)
        return false;
    *block_elements = types[type].elements;
    *block_bytes = types[type].bytes;
    return true;
}

const char *lq_gguf_type_name(uint32_t type) { return type < N_TYPES ? types[type].name : NULL; }

void lq_gguf_row(const lq_gguf_tensor *tensor, size_t row, float *out)
{
    LQ_ASSERT(tensor->type < N_TYPES && types[tensor->type].decode != NULL);
    LQ_ASSERT(row < tensor->rows);
    const size_t block = types[tensor->type].elements, bytes = types[tensor->type].bytes;
    const uint8_t *from = tensor->data + row * (tensor->cols / block * bytes);
    if (tensor->type == 0) {
        memcpy(out, from, tensor->cols * sizeof *out);
        return;
    }
    for (size_t j = 0; j < tensor->cols; j += block, from += bytes)
        types[tensor->type].decode(from, out + j);
}
