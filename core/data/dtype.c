/* Element types of safetensors, and their values as floats. */
#include "core/data/safetensors.h"

#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
#define X(name, text, bits) [LQ_DTYPE_##name] = {text, (bits) / 8},
    LQ_DTYPE_LIST(X)
#undef X
};

const char *lq_dtype_name(lq_dtype dtype)
{
    LQ_ASSERT((size_t)dtype < sizeof dtypes / sizeof *dtypes);
    return dtypes[dtype].name;
}

size_t lq_dtype_bytes(lq_dtype dtype)
{
    LQ_ASSERT((size_t)dtype < sizeof dtypes / sizeof *dtypes);
    return dtypes[dtype].bytes;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint16_t lq_f32_to_bf16(float x)
{
    uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40); /* stays NaN though its low bits go */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

float lq_bf16_to_f32(uint16_t x) { return float_of((uint32_t)x << 16); }

/* f16: sign 1, exponent 5 (bias 15), mantissa 10; f32: sign 1, exponent 8 (bias 127), mantissa 23. */
uint16_t lq_f32_to_f16(float x)
{
    uint32_t bits = bits_of(x), magnitude = bits & 0x7fffffffu;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000u) /* 65520: halfway between the largest f16 and the next step */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000u) {
        /* Below 2^-14 the step is 2^-24: adding 0.5, whose own step is 2^-24, rounds to it. */
        float shifted = float_of(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - 0x3f000000u));
    }
    uint32_t rounded = magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | rounded >> 13);
}

float lq_f16_to_f32(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x >> 10 & 0x1f, mantissa = x & 0x3ff;
    if (exponent == 0) {
        float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    if (exponent == 0x1f)
        return float_of(sign | 0x7f800000u | mantissa << 13);
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

static void from_16_bits(const unsigned char *from, size_t n, float (*convert)(uint16_t),
                         float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t bits; /* the data may be unaligned */
        memcpy(&bits, from + 2 * i, sizeof bits);
        out[i] = convert(bits);
    }
}

static lq_status from_i32(const lq_tensor *tensor, float *out)
{
    const unsigned char *from = tensor->data;
    for (size_t i = 0; i < tensor->elements; i++) {
        int32_t value;
        memcpy(&value, from + 4 * i, sizeof value);
        out[i] = (float)value;
        if ((double)out[i] != (double)value)
            return lq_fail(LQ_E_FORMAT, "tensor %.200s: %ld at %zu is not exact as a float",
                           tensor->name, (long)value, i);
    }
    return LQ_OK;
}

lq_status lq_tensor_to_f32(const lq_tensor *tensor, float *out)
{
    const unsigned char *from = tensor->data;
    size_t n = tensor->elements;
    if (tensor->dtype == LQ_DTYPE_F32) {
        if (n > 0)
            memcpy(out, from, n * sizeof *out);
    } else if (tensor->dtype == LQ_DTYPE_BF16) {
        from_16_bits(from, n, lq_bf16_to_f32, out);
    } else if (tensor->dtype == LQ_DTYPE_F16) {
        from_16_bits(from, n, lq_f16_to_f32, out);
    } else if (tensor->dtype == LQ_DTYPE_U8) {
        for (size_t i = 0; i < n; i++)
            out[i] = (float)from[i];
    } else if (tensor->dtype == LQ_DTYPE_I32) {
        return from_i32(tensor, out);
    } else {
        return lq_fail(LQ_E_FORMAT, "tensor %.200s: values of type %s are not read as floats",
                       tensor->name, lq_dtype_name(tensor->dtype));
    }
    return LQ_OK;
}
