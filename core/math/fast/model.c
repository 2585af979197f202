/* Vectorised twins of core/math/ref/model.c. Compiled once an instruction set; no kernel here has a
 * contract of its own: see core/math/kernels.h. */
#include "core/math/kernels.h"

#include "core/math/fast/vec.h"

void LQ_PASTE(lq_kernels_fill, LQ_ISA)(lq_kernel_table *table);

static float sum_squares(const float *x, size_t n)
{
    vec a = {0}, b = {0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        const vec u = load(x + i), v = load(x + i + LANES);
        a += u * u;
        b += v * v;
    }
    for (; i < n; i += LANES) {
        const vec u = n - i < LANES ? load_part(x + i, n - i, 0) : load(x + i);
        a += u * u;
    }
    return sum_lanes(a + b);
}

static void rmsnorm_fwd(float *y, float *rstd, const float *x, const float *gain, size_t n,
                        size_t D, float eps)
{
    for (size_t r = 0; r < n; r++, x += D, y += D) {
        const float scale = 1.0f / sqrtf(sum_squares(x, D) / (float)D + eps);
        rstd[r] = scale;
        size_t i = 0;
        for (; i + LANES <= D; i += LANES)
            store(y + i, load(x + i) * scale * load(gain + i));
        for (; i < D; i++)
            y[i] = x[i] * scale * gain[i];
    }
}

static void rmsnorm_bwd(float *dx, float *dgain, const float *dy, const float *x, const float *rstd,
                        const float *gain, size_t n, size_t D)
{
    for (size_t r = 0; r < n; r++, dx += D, dy += D, x += D) {
        const float scale = rstd[r];
        vec acc = {0};
        size_t i = 0;
        for (; i + LANES <= D; i += LANES)
            acc += load(dy + i) * load(gain + i) * load(x + i);
        float sum = sum_lanes(acc);
        for (; i < D; i++)
            sum += dy[i] * gain[i] * x[i];
        const float mean = sum * scale / (float)D;
        for (i = 0; i + LANES <= D; i += LANES) {
            const vec xh = load(x + i) * scale, d = load(dy + i);
            store(dgain + i, load(dgain + i) + d * xh);
            store(dx + i, load(dx + i) + (d * load(gain + i) - xh * mean) * scale);
        }
        for (; i < D; i++) {
            const float xh = x[i] * scale;
            dgain[i] += dy[i] * xh;
            dx[i] += scale * (dy[i] * gain[i] - xh * mean);
        }
    }
}

static void rope(float *x, size_t stride, const float *cosine, const float *sine, size_t n,
                 size_t T, size_t heads, size_t dh, float direction)
{
    const size_t half = dh / 2;
    for (size_t r = 0; r < n; r++) {
        const float *c = cosine + r % T * half, *s = sine + r % T * half;
        for (size_t h = 0; h < heads; h++) {
            float *a = x + r * stride + h * dh, *b = a + half;
            size_t i = 0;
            for (; i + LANES <= half; i += LANES) {
                const vec u = load(a + i), v = load(b + i), cc = load(c + i);
                const vec ss = load(s + i) * direction;
                store(a + i, u * cc - v * ss);
                store(b + i, v * cc + u * ss);
            }
            for (; i < half; i++) {
                const float u = a[i], v = b[i], ss = s[i] * direction;
                a[i] = u * c[i] - v * ss;
                b[i] = v * c[i] + u * ss;
            }
        }
    }
}

static float max_of(const float *x, size_t n)
{
    if (n < LANES)
        return max_lanes(load_part(x, n, x[0]));
    vec top = load(x);
    for (size_t i = LANES; i + LANES <= n; i += LANES)
        top = vmax(load(x + i), top);
    return max_lanes(vmax(load(x + n - LANES), top));
}

/* x (n) becomes exp(scale (x - top)); returns the sum. */
static float exp_row(float *x, size_t n, float scale, float top)
{
    vec acc = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec e = vexp((load(x + i) - top) * scale);
        store(x + i, e);
        acc += e;
    }
    if (i < n) { /* what is not there counts as exp(-87) */
        const vec e = vexp((load_part(x + i, n - i, -INFINITY) - top) * scale);
        store_part(x + i, e, n - i);
        acc += e;
    }
    return sum_lanes(acc);
}

static void scale_row(float *x, size_t n, float factor)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(x + i, load(x + i) * factor);
    for (; i < n; i++)
        x[i] *= factor;
}

static void softmax_causal_fwd(float *p, size_t T, float scale)
{
    for (size_t t = 0; t < T; t++) {
        float *row = p + t * T;
        const float sum = exp_row(row, t + 1, scale, max_of(row, t + 1));
        scale_row(row, t + 1, 1.0f / sum);
        memset(row + t + 1, 0, (T - t - 1) * sizeof *row);
    }
}

static void softmax(float *p, size_t n, float scale)
{
    const float sum = exp_row(p, n, scale, max_of(p, n));
    scale_row(p, n, 1.0f / sum);
}

static void softmax_causal_bwd(float *dp, const float *p, size_t T, float scale)
{
    for (size_t t = 0; t < T; t++, dp += T, p += T) {
        const size_t n = t + 1;
        vec acc = {0};
        size_t i = 0;
        for (; i + LANES <= n; i += LANES)
            acc += load(p + i) * load(dp + i);
        float dot = sum_lanes(acc);
        for (; i < n; i++)
            dot += p[i] * dp[i];
        for (i = 0; i + LANES <= n; i += LANES)
            store(dp + i, load(p + i) * (load(dp + i) - dot) * scale);
        for (; i < n; i++)
            dp[i] = p[i] * (dp[i] - dot) * scale;
        memset(dp + n, 0, (T - n) * sizeof *dp);
    }
}

static vec sigmoid(vec g) { return 1.0f / (1.0f + vexp(-g)); }

static void swiglu_fwd(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec g = load(gate + i);
        store(y + i, g * sigmoid(g) * load(up + i));
    }
    if (i < n) {
        const vec g = load_part(gate + i, n - i, 0), u = load_part(up + i, n - i, 0);
        store_part(y + i, g * sigmoid(g) * u, n - i);
    }
}

static void swiglu_bwd(float *dgate, float *dup, const float *dy, const float *gate,
                       const float *up, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const size_t m = n - i < LANES ? n - i : LANES;
        const int whole = m == LANES;
        const vec g = whole ? load(gate + i) : load_part(gate + i, m, 0);
        const vec u = whole ? load(up + i) : load_part(up + i, m, 0);
        const vec d = whole ? load(dy + i) : load_part(dy + i, m, 0);
        const vec s = sigmoid(g);
        const vec du = d * g * s, dg = d * u * s * (1.0f + g * (1.0f - s));
        if (whole) {
            store(dup + i, du);
            store(dgate + i, dg);
        } else {
            store_part(dup + i, du, m);
            store_part(dgate + i, dg, m);
        }
    }
}

/* exp_row without keeping the exponentials. */
static float exp_sum(const float *x, size_t n, float top)
{
    vec acc = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        acc += vexp(load(x + i) - top);
    float sum = sum_lanes(acc);
    for (; i < n; i++)
        sum += expf(x[i] - top);
    return sum;
}

static void cross_entropy(float *nll, float *logits, const uint32_t *target, size_t n, size_t V,
                          float weight)
{
    for (size_t r = 0; r < n; r++) {
        float *row = logits + r * V;
        if (target[r] >= V) {
            nll[r] = 0;
            if (weight != 0.0f)
                memset(row, 0, V * sizeof *row);
            continue;
        }
        const float top = max_of(row, V), mine = row[target[r]];
        const float sum = weight != 0.0f ? exp_row(row, V, 1.0f, top) : exp_sum(row, V, top);
        nll[r] = logf(sum) - (mine - top);
        if (weight != 0.0f) {
            scale_row(row, V, weight / sum);
            row[target[r]] -= weight;
        }
    }
}

static void add(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, load(y + i) + load(x + i));
    for (; i < n; i++)
        y[i] += x[i];
}

static void adamw(float *w, float *m, float *v, const float *g, size_t n, float lr, float beta1,
                  float beta2, float eps, float decay, float centre, float g_scale, float c1,
                  float c2)
{
    for (size_t i = 0; i < n; i++) {
        const float gi = g_scale * g[i];
        const float mi = beta1 * m[i] + (1.0f - beta1) * gi;
        const float vi = beta2 * v[i] + (1.0f - beta2) * gi * gi;
        m[i] = mi;
        v[i] = vi;
        w[i] -= lr * (mi / c1 / (sqrtf(vi / c2) + eps) + decay * (w[i] - centre));
    }
}

void LQ_PASTE(lq_kernels_fill, LQ_ISA)(lq_kernel_table *table)
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
