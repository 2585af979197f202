/* Definitions of the kernels of decoding, and of bfloat16: core/math/kernels.h. */
#include "core/math/kernels.h"

#include <string.h>

void lq_kernels_fill_ref_infer(lq_kernel_table *table);

static void project(float *y, size_t ldy, const float *x, size_t ldx, size_t m, const float *W,
                    size_t ldw, size_t n, size_t k)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)x[i * ldx + p] * (double)W[j * ldw + p];
            y[i * ldy + j] = (float)sum;
        }
}

static void mix(float *y, const float *p, const float *v, size_t ldv, size_t n, size_t d)
{
    for (size_t j = 0; j < d; j++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)p[i] * (double)v[i * ldv + j];
        y[j] = (float)sum;
    }
}

/* The upper half of a float is its bfloat16; adding half of what is cut off rounds. */
static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if ((bits & 0x7fffffffu) > 0x7f800000u)
            y[i] = (uint16_t)(bits >> 16 | 0x40u); /* a NaN, made quiet */
        else
            y[i] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
}

void lq_kernels_fill_ref_infer(lq_kernel_table *table)
{
    table->project = project;
    table->mix = mix;
    table->to_bf16 = to_bf16;
}
