/* The one list of kernels. Each has a plain reference (core/math/ref), which is its definition, and may
 * have a fast twin (core/math/fast), compiled once an instruction set and chosen at run time. The table
 * is filled with references and overlaid by the fast ones; the twin tests are generated from the list.
 *
 *     const lq_kernels *k = lq_kernels();
 *     k->rmsnorm_fwd(y, rstd, x, gain, n, D, eps);
 *
 * All matrices are row-major. A kernel runs on the caller's thread, allocates nothing, cannot fail.
 * "+=" outputs are accumulated. Lengths may be anything, pointers need only the alignment of float. */
#ifndef LQ_MATH_KERNELS_H
#define LQ_MATH_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* clang-format off */
#define LQ_KERNELS(X)                                                                              \
    /* y (n,D) = x / sqrt(mean(x^2) + eps) * gain (D); rstd (n) = 1 / sqrt(...) is kept. */        \
    X(rmsnorm_fwd, (float *y, float *rstd, const float *x, const float *gain, size_t n, size_t D,  \
                    float eps))                                                                    \
    /* dx (n,D) +=, dgain (D) += of the above, given dy (n,D). */                                  \
    X(rmsnorm_bwd, (float *dx, float *dgain, const float *dy, const float *x, const float *rstd,   \
                    const float *gain, size_t n, size_t D))                                        \
    /* Rotate-half RoPE in place on x: n rows, `stride` apart, of `heads` heads of dh values; row  \
     * r has position r mod T. cosine, sine (T, dh/2). direction +1 rotates, -1 undoes it. */      \
    X(rope, (float *x, size_t stride, const float *cosine, const float *sine, size_t n, size_t T,  \
             size_t heads, size_t dh, float direction))                                            \
    /* p (T,T) in place: row t becomes softmax(scale * p[t][0..t]), zeros after t. */              \
    X(softmax_causal_fwd, (float *p, size_t T, float scale))                                       \
    /* dp (T,T) in place: becomes scale * p * (dp - sum_j p dp), zeros after t. */                 \
    X(softmax_causal_bwd, (float *dp, const float *p, size_t T, float scale))                      \
    /* y (n) = silu(gate) * up, silu(g) = g / (1 + exp(-g)). */                                    \
    X(swiglu_fwd, (float *y, const float *gate, const float *up, size_t n))                        \
    /* dgate, dup (n) are written. */                                                              \
    X(swiglu_bwd, (float *dgate, float *dup, const float *dy, const float *gate, const float *up,  \
                   size_t n))                                                                      \
    /* nll (n) nats of target (n) under softmax(logits (n,V)); if `weight` is not 0, logits become  \
     * weight * dnll/dlogits. A target >= V is skipped: nll 0, gradient 0. */                      \
    X(cross_entropy, (float *nll, float *logits, const uint32_t *target, size_t n, size_t V,       \
                      float weight))                                                               \
    /* y (n) += x (n). */                                                                          \
    X(add, (float *y, const float *x, size_t n))                                                   \
    /* AdamW on n values, arXiv:1711.05101 alg. 2: m, v moments, g scaled by g_scale first;        \
     * c1 = 1 - beta1^t, c2 = 1 - beta2^t; decay pulls w towards `centre`. */                      \
    X(adamw, (float *w, float *m, float *v, const float *g, size_t n, float lr, float beta1,       \
              float beta2, float eps, float decay, float centre, float g_scale, float c1,          \
              float c2))                                                                           \
    /* In place on x (n,D): each run of `block` values of a row times the Sylvester Hadamard of    \
     * that order / sqrt(block). block: a power of two that divides D. Its own inverse. */         \
    X(hadamard, (float *x, size_t n, size_t D, size_t block))                                      \
    /* q (n) = clip(rint(u), 0, q_max): the forward of DGE, arXiv:2501.17116 as in LC-QAT. */      \
    X(dge_fwd, (float *q, const float *u, size_t n, float q_max))                                  \
    /* du (n) += scale * dq * min(ceiling, |2r-1|^(1/k-1)/k), r = u - clip(floor(u), 0, q_max). */ \
    X(dge_bwd, (float *du, const float *dq, const float *u, size_t n, float q_max, float k,        \
                float ceiling, float scale)) \
    /* One row on a learned step, arXiv:2502.02631: u = w / alpha, c = clip(u, lo, hi),            \
     * q = (rint(levels c - shift) + shift) / levels, w_hat (n) = q alpha. |levels c| < 2^22. */    \
    X(seq_fwd, (float *w_hat, const float *w, size_t n, float alpha, float lo, float hi,           \
                float levels, float shift))                                                        \
    /* dw (n; may be NULL) += g where lo <= u <= hi; *dalpha += sum of g times the slope: q - u    \
     * inside, `below` where u < lo, `above` elsewhere. */                                         \
    X(seq_bwd, (float *dw, double *dalpha, const float *g, const float *w, size_t n, float alpha,  \
                float lo, float hi, float levels, float shift, float below, float above))                              \
    /* q (n) = clip(rint((t - offset) / step), 0, top), value (n) = offset + step q; ties to even, \
     * a NaN gives 0. top < 2^22. */                                                               \
    X(grid_round, (float *q, float *value, const float *t, size_t n, float step, float offset,     \
                   float top))                                                                     \
    /* index (n) = argmax over k of 2 t.word[k] - norm[k], the first of equals. t (d,n): component \
     * a of vector i at t[a ldt + i]; word (words,d), words <= 65536, d <= 16. */                  \
    X(word_search, (uint16_t *index, const float *t, size_t n, size_t ldt, const float *word,      \
                    const float *norm, size_t words, size_t d))                                    \
    /* t (left,n) += M' delta, delta (d,n), M (d,left): what rounding d columns of a weight moves  \
     * in the columns on their left, for n rows. The d terms are added one by one. */              \
    X(feed, (float *t, size_t n, size_t ldt, size_t left, const float *delta, size_t ldd,          \
             size_t d, const float *M, size_t ldm))
/* clang-format on */

typedef struct lq_kernel_table {
#define X(name, params) void(*name) params;
    LQ_KERNELS(X)
#undef X
} lq_kernel_table;

/* The table in use: the best for this processor, or the references after lq_kernels_use_reference(1),
 * or when LQ_KERNELS=ref is in the environment. */
const lq_kernel_table *lq_kernels(void);
void lq_kernels_use_reference(int on);
const char *lq_kernels_isa(void); /* "ref", "base", "v3", "v4" */
/* Every table that this processor can run, for the twin tests: i = 0 is the reference; NULL ends. */
const lq_kernel_table *lq_kernels_variant(size_t i, const char **name);

/* Sum of squares in double, in fixed chunks: the same bits whatever the thread count. */
double lq_sum_squares(const float *x, size_t n);

#endif
