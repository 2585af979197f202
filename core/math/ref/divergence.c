/* Definitions of the divergences between two softmaxes: double inside, no contraction, no tricks. */
#include "core/math/kernels.h"

#include <math.h>

void lq_kernels_fill_ref_divergence(lq_kernel_table *table);

/* log sum exp(x / T). */
static double log_sum(const float *x, size_t V, double inv_T)
{
    double top = (double)x[0], sum = 0;
    for (size_t j = 1; j < V; j++)
        top = (double)x[j] > top ? (double)x[j] : top;
    for (size_t j = 0; j < V; j++)
        sum += exp(inv_T * ((double)x[j] - top));
    return inv_T * top + log(sum);
}

/* With F = forward and R = reverse, and dq_j / ds_k = q_j ([j = k] - q_k) / T:
 *     d KL(p||q) / ds_k = (q_k - p_k) / T
 *     d KL(q||p) / ds_k = q_k (log(q_k / p_k) - KL(q||p)) / T */
static void kl_divergence(float *nats, float *t, const float *s, size_t n, size_t V, float inv_T,
                          float forward, float reverse, float weight)
{
    const double scale = (double)inv_T, F = (double)forward, R = (double)reverse;
    for (size_t r = 0; r < n; r++, t += V, s += V) {
        const double of_t = log_sum(t, V, scale), of_s = log_sum(s, V, scale);
        double to_student = 0, to_teacher = 0; /* KL(p||q), KL(q||p) */
        for (size_t j = 0; j < V; j++) {
            const double log_p = scale * (double)t[j] - of_t, log_q = scale * (double)s[j] - of_s;
            to_student += exp(log_p) * (log_p - log_q);
            to_teacher += exp(log_q) * (log_q - log_p);
        }
        nats[r] = (float)(F * to_student + R * to_teacher);
        for (size_t j = 0; j < V; j++) {
            const double log_p = scale * (double)t[j] - of_t, log_q = scale * (double)s[j] - of_s;
            const double p = exp(log_p), q = exp(log_q);
            t[j] = (float)((double)weight * scale *
                           (F * (q - p) + R * q * (log_q - log_p - to_teacher)));
        }
    }
}

/* log(beta e^a + (1 - beta) e^b), 0 < beta < 1. */
static double log_mix(double a, double b, double beta)
{
    return a > b ? a + log(beta + (1 - beta) * exp(b - a)) : b + log(beta * exp(a - b) + 1 - beta);
}

/* m depends on q: of the derivative of L in q_j, beta (-p_j (1 - beta) / m_j) + (1 - beta) (log(q_j /
 * m_j) + 1 - q_j (1 - beta) / m_j), all but (1 - beta) log(q_j / m_j) cancels, since beta p + (1 - beta) q
 * is m. The softmax then gives (1 - beta) q_k (log(q_k / m_k) - KL(q||m)) / T. */
static void js_divergence(float *nats, float *t, const float *s, size_t n, size_t V, float inv_T,
                          float beta, float weight)
{
    const double scale = (double)inv_T, b = (double)beta;
    for (size_t r = 0; r < n; r++, t += V, s += V) {
        const double of_t = log_sum(t, V, scale), of_s = log_sum(s, V, scale);
        double teacher = 0, student = 0; /* KL(p||m), KL(q||m) */
        for (size_t j = 0; j < V; j++) {
            const double log_p = scale * (double)t[j] - of_t, log_q = scale * (double)s[j] - of_s;
            const double log_m = log_mix(log_p, log_q, b);
            teacher += exp(log_p) * (log_p - log_m);
            student += exp(log_q) * (log_q - log_m);
        }
        nats[r] = (float)(b * teacher + (1 - b) * student);
        for (size_t j = 0; j < V; j++) {
            const double log_p = scale * (double)t[j] - of_t, log_q = scale * (double)s[j] - of_s;
            const double off = log_q - log_mix(log_p, log_q, b);
            t[j] = (float)((double)weight * scale * (1 - b) * exp(log_q) * (off - student));
        }
    }
}

void lq_kernels_fill_ref_divergence(lq_kernel_table *table)
{
    table->kl_divergence = kl_divergence;
    table->js_divergence = js_divergence;
}
