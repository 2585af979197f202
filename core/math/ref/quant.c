/* The definitions of the quantizer's kernels. */
#include "core/math/kernels.h"

#include <math.h>

void lq_kernels_fill_ref_quant(lq_kernel_table *table);

/* H[i][j] = (-1)^(number of bits that i and j share) / sqrt(block), Sylvester's natural order, as a
 * product of log2(block) sparse factors. The fast twin keeps the order of the sums: the twins agree
 * bit for bit. */
static void hadamard_ref(float *x, size_t n, size_t D, size_t block)
{
    const float scale = (float)(1.0 / sqrt((double)block));
    for (float *b = x; b < x + n * D; b += block) {
        for (size_t half = 1; half < block; half *= 2)
            for (size_t i = 0; i < block; i++)
                if ((i & half) == 0) {
                    float low = b[i], high = b[i + half];
                    b[i] = low + high;
                    b[i + half] = low - high;
                }
        for (size_t i = 0; i < block; i++)
            b[i] *= scale;
    }
}

/* Ties go to even, as in torch.round; the clip comes first, which for whole bounds changes nothing
 * and keeps any float away from a conversion. A NaN stays one. The sum turns -0 into 0. */
static void dge_fwd_ref(float *q, const float *u, size_t n, float q_max)
{
    for (size_t i = 0; i < n; i++) {
        float x = u[i] < 0 ? 0 : u[i] > q_max ? q_max : u[i];
        q[i] = rintf(x) + 0.0f;
    }
}

/* No cut-off outside the range: the released code has none (docs/decisions/0024). At |2r-1| = 0 the
 * power is infinite and the ceiling stands. */
static void dge_bwd_ref(float *du, const float *dq, const float *u, size_t n, float q_max, float k,
                        float ceiling, float scale)
{
    const double power = 1.0 / (double)k - 1.0;
    for (size_t i = 0; i < n; i++) {
        float below = floorf(u[i] < 0 ? 0 : u[i] > q_max ? q_max : u[i]);
        float t = fabsf(2.0f * (u[i] - below) - 1.0f);
        double slope = pow((double)t, power) / (double)k;
        float phi = slope > (double)ceiling ? ceiling : (float)slope;
        du[i] += scale * dq[i] * phi;
    }
}

void lq_kernels_fill_ref_quant(lq_kernel_table *table)
{
    table->hadamard = hadamard_ref;
    table->dge_fwd = dge_fwd_ref;
    table->dge_bwd = dge_bwd_ref;
}
