/* Metadata of a GGUF file by type. The container is checked when it is opened: what a value points to is
 * there. */
#include "core/data/gguf.h"

#include <math.h>
#include <string.h>

static uint64_t word(const uint8_t *data, size_t n)
{
    uint64_t x = 0;
    while (n-- > 0)
        x = x << 8 | data[n];
    return x;
}

static float f32_of(const uint8_t *data)
{
    const uint32_t bits = (uint32_t)word(data, 4);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double f64_of(const uint8_t *data)
{
    const uint64_t bits = word(data, 8);
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A whole number of any type: sign and magnitude, so that U64 and I64 both fit. */
typedef struct whole {
    bool negative;
    uint64_t magnitude;
} whole;

static whole of_signed(int64_t x)
{
    return (whole){x < 0, x < 0 ? (uint64_t)0 - (uint64_t)x : (uint64_t)x};
}

static bool is_integer(lq_gguf_type type)
{
    return type != LQ_GGUF_F32 && type != LQ_GGUF_F64 && type != LQ_GGUF_BOOL &&
           type != LQ_GGUF_STRING && type != LQ_GGUF_ARRAY;
}

static size_t width(lq_gguf_type type)
{
    if (type == LQ_GGUF_U8 || type == LQ_GGUF_I8 || type == LQ_GGUF_BOOL)
        return 1;
    if (type == LQ_GGUF_U16 || type == LQ_GGUF_I16)
        return 2;
    return type == LQ_GGUF_U64 || type == LQ_GGUF_I64 || type == LQ_GGUF_F64 ? 8 : 4;
}

/* Element i of a value of integers. */
static whole integer_at(const lq_gguf_value *v, size_t i)
{
    const size_t n = width(v->type);
    const uint64_t bits = word(v->data + i * n, n);
    if (v->type == LQ_GGUF_I8)
        return of_signed((int8_t)bits);
    if (v->type == LQ_GGUF_I16)
        return of_signed((int16_t)bits);
    if (v->type == LQ_GGUF_I32)
        return of_signed((int32_t)bits);
    if (v->type == LQ_GGUF_I64)
        return of_signed((int64_t)bits);
    return (whole){false, bits};
}

static lq_status wrong(const lq_gguf *file, const char *key, const char *want)
{
    return lq_fail(LQ_E_FORMAT, "%s: %s is no %s", file->path, key, want);
}

lq_status lq_gguf_size(const lq_gguf *file, const char *key, size_t lowest, size_t highest,
                       size_t fallback, size_t *out)
{
    const lq_gguf_value *v = lq_gguf_find(file, key);
    *out = fallback;
    if (v == NULL)
        return LQ_OK;
    if (v->is_array || !is_integer(v->type))
        return wrong(file, key, "whole number");
    const whole x = integer_at(v, 0);
    if (x.negative || x.magnitude < lowest || x.magnitude > highest)
        return lq_fail(LQ_E_FORMAT, "%s: %s is %s%llu; %zu to %zu are possible", file->path, key,
                       x.negative ? "-" : "", (unsigned long long)x.magnitude, lowest, highest);
    *out = (size_t)x.magnitude;
    return LQ_OK;
}

lq_status lq_gguf_real(const lq_gguf *file, const char *key, double lowest, double highest,
                       double fallback, double *out)
{
    const lq_gguf_value *v = lq_gguf_find(file, key);
    *out = fallback;
    if (v == NULL)
        return LQ_OK;
    double x = 0;
    if (v->is_array)
        return wrong(file, key, "number");
    if (v->type == LQ_GGUF_F32)
        x = (double)f32_of(v->data);
    else if (v->type == LQ_GGUF_F64)
        x = f64_of(v->data);
    else if (is_integer(v->type))
        x = (integer_at(v, 0).negative ? -1.0 : 1.0) * (double)integer_at(v, 0).magnitude;
    else
        return wrong(file, key, "number");
    if (!(x >= lowest && x <= highest)) /* a NaN neither */
        return lq_fail(LQ_E_FORMAT, "%s: %s is %g; %g to %g are possible", file->path, key, x,
                       lowest, highest);
    *out = x;
    return LQ_OK;
}

lq_status lq_gguf_bool(const lq_gguf *file, const char *key, bool fallback, bool *out)
{
    const lq_gguf_value *v = lq_gguf_find(file, key);
    *out = fallback;
    if (v == NULL)
        return LQ_OK;
    if (v->is_array || v->type != LQ_GGUF_BOOL)
        return wrong(file, key, "bool");
    *out = v->data[0] != 0;
    return LQ_OK;
}

lq_status lq_gguf_text(const lq_gguf *file, const char *key, const char *fallback, lq_arena *arena,
                       const char **out)
{
    const lq_gguf_value *v = lq_gguf_find(file, key);
    char *copy;
    *out = fallback;
    if (v == NULL)
        return fallback != NULL ? LQ_OK
                                : lq_fail(LQ_E_MISSING, "%s: %s is missing", file->path, key);
    if (v->is_array || v->type != LQ_GGUF_STRING)
        return wrong(file, key, "string");
    const size_t n = (size_t)word(v->data, 8);
    if (memchr(v->data + 8, '\0', n) != NULL)
        return wrong(file, key, "text: it holds a NUL");
    LQ_TRY(lq_arena_new(arena, &copy, n + 1));
    memcpy(copy, v->data + 8, n);
    *out = copy;
    return LQ_OK;
}

/* The value when it is there and an array; NULL when it is absent. */
static lq_status find_array(const lq_gguf *file, const char *key, const lq_gguf_value **out)
{
    *out = lq_gguf_find(file, key);
    return *out == NULL || (*out)->is_array ? LQ_OK : wrong(file, key, "array");
}

lq_status lq_gguf_strings(const lq_gguf *file, const char *key, lq_arena *arena,
                          lq_gguf_string **out, size_t *n)
{
    const lq_gguf_value *v;
    *out = NULL;
    *n = 0;
    LQ_TRY(find_array(file, key, &v));
    if (v == NULL)
        return LQ_OK;
    if (v->type != LQ_GGUF_STRING)
        return wrong(file, key, "array of strings");
    LQ_TRY(lq_arena_new(arena, out, v->n));
    const uint8_t *at = v->data;
    for (size_t i = 0; i < v->n; i++) {
        const size_t bytes = (size_t)word(at, 8);
        (*out)[i] = (lq_gguf_string){(const char *)at + 8, bytes};
        at += 8 + bytes;
    }
    *n = v->n;
    return LQ_OK;
}

lq_status lq_gguf_i32s(const lq_gguf *file, const char *key, lq_arena *arena, int32_t **out,
                       size_t *n)
{
    const lq_gguf_value *v;
    *out = NULL;
    *n = 0;
    LQ_TRY(find_array(file, key, &v));
    if (v == NULL)
        return LQ_OK;
    if (!is_integer(v->type))
        return wrong(file, key, "array of whole numbers");
    LQ_TRY(lq_arena_new(arena, out, v->n));
    for (size_t i = 0; i < v->n; i++) {
        const whole x = integer_at(v, i);
        if (x.magnitude > INT32_MAX)
            return lq_fail(LQ_E_FORMAT, "%s: %s: number %zu does not fit 32 bits", file->path, key,
                           i);
        (*out)[i] = x.negative ? -(int32_t)x.magnitude : (int32_t)x.magnitude;
    }
    *n = v->n;
    return LQ_OK;
}

lq_status lq_gguf_f32s(const lq_gguf *file, const char *key, lq_arena *arena, float **out,
                       size_t *n)
{
    const lq_gguf_value *v;
    *out = NULL;
    *n = 0;
    LQ_TRY(find_array(file, key, &v));
    if (v == NULL)
        return LQ_OK;
    if (v->type != LQ_GGUF_F32 && v->type != LQ_GGUF_F64)
        return wrong(file, key, "array of floats");
    LQ_TRY(lq_arena_new(arena, out, v->n));
    for (size_t i = 0; i < v->n; i++)
        (*out)[i] =
            v->type == LQ_GGUF_F32 ? f32_of(v->data + 4 * i) : (float)f64_of(v->data + 8 * i);
    *n = v->n;
    return LQ_OK;
}
