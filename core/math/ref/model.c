/* Definitions of the kernels of the transformer and the optimizer: plain loops, sums in double. */
#include "core/math/kernels.h"

#include <math.h>
#include <string.h>

void lq_kernels_fill_ref(lq_kernel_table *table);

static void rmsnorm_fwd(float *y, float *rstd, const float *x, const float *gain, size_t n,
                        size_t D, float eps)
{
    for (size_t r = 0; r < n; r++) {
        double sum = 0;
        for (size_t i = 0; i < D; i++)
            sum += (double)x[r * D + i] * (double)x[r * D + i];
        rstd[r] = (float)(1.0 / sqrt(sum / (double)D + (double)eps));
        for (size_t i = 0; i < D; i++)
            y[r * D + i] = x[r * D + i] * rstd[r] * gain[i];
    }
}

/* With xh = x rstd and d = dy gain:  dx = rstd (d - xh mean(d xh)),  dgain = sum_rows dy xh. */
static void rmsnorm_bwd(float *dx, float *dgain, const float *dy, const float *x, const float *rstd,
                        const float *gain, size_t n, size_t D)
{
    for (size_t r = 0; r < n; r++) {
        const float *xr = x + r * D, *dyr = dy + r * D;
        double sum = 0;
        for (size_t i = 0; i < D; i++)
            sum += (double)dyr[i] * (double)gain[i] * (double)xr[i] * (double)rstd[r];
        const float mean = (float)(sum / (double)D);
        for (size_t i = 0; i < D; i++) {
            const float xh = xr[i] * rstd[r];
            dgain[i] += dyr[i] * xh;
            dx[r * D + i] += rstd[r] * (dyr[i] * gain[i] - xh * mean);
        }
    }
}

static void rope(float *x, size_t stride, const float *cosine, const float *sine, size_t n,
                 size_t T, size_t heads, size_t dh, float direction)
{
    const size_t half = dh / 2;
    for (size_t r = 0; r < n; r++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < half; i++) {
                float *a = x + r * stride + h * dh + i, *b = a + half;
                const float c = cosine[r % T * half + i];
                const float s = direction * sine[r % T * half + i];
                const float first = *a * c - *b * s, second = *b * c + *a * s;
                *a = first;
                *b = second;
            }
}

static void softmax_causal_fwd(float *p, size_t T, float scale)
{
    for (size_t t = 0; t < T; t++) {
        float *row = p + t * T, top = row[0];
        for (size_t j = 1; j <= t; j++)
            top = row[j] > top ? row[j] : top;
        double sum = 0;
        for (size_t j = 0; j <= t; j++) {
            row[j] = (float)exp((double)scale * (double)(row[j] - top));
            sum += (double)row[j];
        }
        const float inverse = (float)(1.0 / sum);
        for (size_t j = 0; j < T; j++)
            row[j] = j <= t ? row[j] * inverse : 0.0f;
    }
}

static void softmax(float *p, size_t n, float scale)
{
    float top = p[0];
    double sum = 0;
    for (size_t j = 1; j < n; j++)
        top = p[j] > top ? p[j] : top;
    for (size_t j = 0; j < n; j++) {
        p[j] = (float)exp((double)scale * (double)(p[j] - top));
        sum += (double)p[j];
    }
    const float inverse = (float)(1.0 / sum);
    for (size_t j = 0; j < n; j++)
        p[j] *= inverse;
}

static void softmax_causal_bwd(float *dp, const float *p, size_t T, float scale)
{
    for (size_t t = 0; t < T; t++) {
        double dot = 0;
        for (size_t j = 0; j <= t; j++)
            dot += (double)p[t * T + j] * (double)dp[t * T + j];
        for (size_t j = 0; j < T; j++)
            dp[t * T + j] = j <= t ? scale * p[t * T + j] * (dp[t * T + j] - (float)dot) : 0.0f;
    }
}

static double sigmoid(double g) { return 1.0 / (1.0 + exp(-g)); }

static void swiglu_fwd(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((double)gate[i] * sigmoid((double)gate[i]) * (double)up[i]);
}

/* silu'(g) = s (1 + g (1 - s)), s = sigmoid(g) */
static void swiglu_bwd(float *dgate, float *dup, const float *dy, const float *gate,
                       const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double g = (double)gate[i], s = sigmoid(g), d = (double)dy[i];
        const double u = (double)up[i];
        dup[i] = (float)(d * g * s);
        dgate[i] = (float)(d * u * s * (1 + g * (1 - s)));
    }
}

static void cross_entropy(float *nll, float *logits, const uint32_t *target, size_t n, size_t V,
                          float weight)
{
    for (size_t r = 0; r < n; r++) {
        float *row = logits + r * V, top = row[0];
        if (target[r] >= V) {
            nll[r] = 0;
            if (weight != 0.0f)
                memset(row, 0, V * sizeof *row);
            continue;
        }
        for (size_t j = 1; j < V; j++)
            top = row[j] > top ? row[j] : top;
        double sum = 0;
        for (size_t j = 0; j < V; j++)
            sum += exp((double)(row[j] - top));
        nll[r] = (float)(log(sum) - (double)(row[target[r]] - top));
        for (size_t j = 0; weight != 0.0f && j < V; j++) {
            const double p = exp((double)(row[j] - top)) / sum;
            row[j] = (float)((double)weight * (p - (j == target[r] ? 1.0 : 0.0)));
        }
    }
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void adamw(float *w, float *m, float *v, const float *g, size_t n, float lr, float beta1,
                  float beta2, float eps, float decay, float centre, float g_scale, float c1,
                  float c2)
{
    for (size_t i = 0; i < n; i++) {
        const float gi = g_scale * g[i];
        m[i] = beta1 * m[i] + (1.0f - beta1) * gi;
        v[i] = beta2 * v[i] + (1.0f - beta2) * gi * gi;
        w[i] -= lr * (m[i] / c1 / (sqrtf(v[i] / c2) + eps) + decay * (w[i] - centre));
    }
}

void lq_kernels_fill_ref(lq_kernel_table *table)
{
    table->rmsnorm_fwd = rmsnorm_fwd;
    table->rmsnorm_bwd = rmsnorm_bwd;
    table->rope = rope;
    table->softmax_causal_fwd = softmax_causal_fwd;
    table->softmax = softmax;
    table->softmax_causal_bwd = softmax_causal_bwd;
    table->swiglu_fwd = swiglu_fwd;
    table->swiglu_bwd = swiglu_bwd;
    table->cross_entropy = cross_entropy;
    table->add = add;
    table->adamw = adamw;
}
