/* The definition of the step-learning kernels: core/math/kernels.h, seq_fwd and seq_bwd. */
#include "core/math/kernels.h"

#include <math.h>

void lq_kernels_fill_ref_seq(lq_kernel_table *table);

static float level(float u, float lo, float hi, float levels, float shift)
{
    float c = u < lo ? lo : u > hi ? hi : u; /* a NaN stays one */
    return (rintf(c * levels - shift) + shift) / levels;
}

static void seq_fwd(float *w_hat, const float *w, size_t n, float alpha, float lo, float hi,
                    float levels, float shift)
{
    for (size_t i = 0; i < n; i++)
        w_hat[i] = level(w[i] / alpha, lo, hi, levels, shift) * alpha;
}

static void seq_bwd(float *dw, double *dalpha, const float *g, const float *w, size_t n,
                    float alpha, float lo, float hi, float levels, float shift, float below,
                    float above)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        float u = w[i] / alpha;
        if (lo <= u && u <= hi) {
            sum += (double)g[i] * (double)(level(u, lo, hi, levels, shift) - u);
            if (dw != NULL)
                dw[i] += g[i];
        } else {
            sum += (double)g[i] * (double)(u < lo ? below : above);
        }
    }
    *dalpha += sum;
}

void lq_kernels_fill_ref_seq(lq_kernel_table *table)
{
    table->seq_fwd = seq_fwd;
    table->seq_bwd = seq_bwd;
}
