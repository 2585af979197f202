/* Loss and backward. Each step quotes the forward line that it differentiates; dX is dL/dX.
 * For y = x W':  dx = dy W,  dW = dy' x. */
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/model/llama.h"
#include "core/model/llama_parts.h"

#include <math.h>
#include <string.h>

/* logits = h_final head' */
void lq_logits_backward(const lq_weights *w, lq_lane *lane, size_t first, size_t n,
                        const float *dlogits, lq_weights *grad)
{
    const size_t D = lane->config.D, V = lane->config.V;
    LQ_ASSERT(lane->for_backward);
    lq_lane_product(lane, LQ_GEMM_TN, V, D, n, dlogits, V, lane->h_final + first * D, D, 1,
                    grad->head, D);
    lq_lane_product(lane, LQ_GEMM_NN, n, D, V, dlogits, V, w->head, D, 0, lane->dh + first * D, D);
}

double lq_loss(const lq_weights *w, lq_lane *lane, const uint32_t *targets, float weight,
               lq_weights *grad, float *nll)
{
    const size_t N = lane->B * lane->T, V = lane->config.V;
    double total = 0;
    LQ_ASSERT(grad == NULL || lane->for_backward);
    for (size_t at = 0; at < N; at += lane->head_rows) {
        const size_t n = N - at < lane->head_rows ? N - at : lane->head_rows;
        lq_logits(w, lane, at, n, lane->logits);
        lq_kernels()->cross_entropy(lane->nll, lane->logits, targets + at, n, V,
                                    grad != NULL ? weight : 0.0f);
        for (size_t i = 0; i < n; i++)
            total += (double)lane->nll[i];
        if (nll != NULL)
            memcpy(nll + at, lane->nll, n * sizeof *nll);
        if (grad == NULL)
            continue;
        lq_logits_backward(w, lane, at, n, lane->logits, grad);
    }
    return total;
}

/* o = p v, p = softmax(q k' / sqrt(dh)): fills dqkv from d_o (N, H dh). */
static void attend_bwd(const lq_lane *lane, const lq_layer_acts *a, const float *d_o)
{
    const lq_config *c = &lane->config;
    const size_t T = lane->T, E = lane->E, dh = c->dh, width = c->H * dh, share = c->H / c->Hkv;
    const float scale = (float)(1.0 / sqrt((double)dh));
    for (size_t b = 0; b < lane->B; b++)
        for (size_t h = 0; h < c->H; h++) {
            const size_t at = b * T * E, qc = h * dh, kc = (c->H + h / share) * dh;
            const size_t vc = (c->H + c->Hkv + h / share) * dh;
            const float *p = a->p + (b * c->H + h) * T * T;
            const float *dy = d_o + b * T * width + h * dh;
            const float add = h % share == 0 ? 0.0f : 1.0f; /* heads that share k, v add up */
            float *dq = lane->dqkv + at + qc, *dk = lane->dqkv + at + kc;
            lq_lane_product(lane, LQ_GEMM_TN, T, dh, T, p, T, dy, width, add, lane->dqkv + at + vc,
                            E);
            lq_lane_product(lane, LQ_GEMM_NT, T, T, dh, dy, width, a->qkv + at + vc, E, 0, lane->dp,
                            T);
            lq_kernels()->softmax_causal_bwd(lane->dp, p, T, scale);
            lq_lane_product(lane, LQ_GEMM_NN, T, dh, T, lane->dp, T, a->qkv + at + kc, E, 0, dq, E);
            lq_lane_product(lane, LQ_GEMM_TN, T, dh, T, lane->dp, T, a->qkv + at + qc, E, add, dk,
                            E);
        }
}

/* q, k = rmsnorm(raw) per head, in place on dqkv. */
static void norm_heads_bwd(const lq_lane *lane, const lq_layer_acts *a, float *const *t,
                           float *const *g)
{
    const lq_config *c = &lane->config;
    const size_t N = lane->B * lane->T, q = c->H * c->dh, width = (c->H + c->Hkv) * c->dh;
    const lq_kernel_table *k = lq_kernels();
    for (size_t r = 0; r < N; r++) {
        float *dy = lane->dp, *row = lane->dqkv + r * lane->E; /* dp is wide enough for one row */
        const float *raw = a->qk_raw + r * width, *rstd = a->rstd_qk + r * (c->H + c->Hkv);
        memcpy(dy, row, width * sizeof *dy);
        memset(row, 0, width * sizeof *row);
        k->rmsnorm_bwd(row, g[LQ_Q_NORM], dy, raw, rstd, t[LQ_Q_NORM], c->H, c->dh);
        k->rmsnorm_bwd(row + q, g[LQ_K_NORM], dy + q, raw + q, rstd + c->H, t[LQ_K_NORM], c->Hkv,
                       c->dh);
    }
}

static void bias_bwd(float *dbias, const float *dy, size_t n, size_t cols)
{
    for (size_t r = 0; dbias != NULL && r < n; r++)
        lq_kernels()->add(dbias, dy + r * cols, cols);
}

/* x2 = x + o O' (+ bias, as below);  o = attention(qkv);  qkv = h1 [Q K V]';  h1 = rmsnorm(x) */
static void attention_bwd(const lq_lane *lane, const lq_layer_acts *a, float *const *t,
                          float *const *g)
{
    const lq_config *c = &lane->config;
    const size_t N = lane->B * lane->T, D = c->D, HD = c->H * c->dh, E = lane->E;
    const lq_kernel_table *k = lq_kernels();
    lq_lane_product(lane, LQ_GEMM_NN, N, HD, D, lane->dx, D, t[LQ_O], HD, 0, lane->dh, HD);
    lq_lane_product(lane, LQ_GEMM_TN, D, HD, N, lane->dx, D, a->o, HD, 1, g[LQ_O], HD);
    bias_bwd(g[LQ_O_BIAS], lane->dx, N, D);
    attend_bwd(lane, a, lane->dh);
    k->rope(lane->dqkv, E, lane->cosine, lane->sine, N, lane->T, c->H + c->Hkv, c->dh, -1.0f);
    if (c->qk_norm)
        norm_heads_bwd(lane, a, t, g);
    bias_bwd(g[LQ_Q_BIAS], lane->dqkv, N, E);
    lq_lane_product(lane, LQ_GEMM_TN, E, D, N, lane->dqkv, E, a->h1, D, 1, g[LQ_Q], D);
    lq_lane_product(lane, LQ_GEMM_NN, N, D, E, lane->dqkv, E, t[LQ_Q], D, 0, lane->dh, D);
    k->rmsnorm_bwd(lane->dx, g[LQ_INPUT_NORM], lane->dh, a->x, a->rstd1, t[LQ_INPUT_NORM], N, D);
}

/* y = x2 + act DOWN';  act = silu(gate) up;  [gate up] = h2 [GATE UP]';  h2 = rmsnorm(x2) */
static void mlp_bwd(const lq_lane *lane, const lq_layer_acts *a, float *const *t, float *const *g)
{
    const size_t N = lane->B * lane->T, D = lane->config.D, F = lane->config.F;
    const lq_kernel_table *k = lq_kernels();
    float *dgu = lane->dwide, *dact = lane->dwide + N * 2 * F;
    lq_lane_product(lane, LQ_GEMM_NN, N, F, D, lane->dx, D, t[LQ_DOWN], F, 0, dact, F);
    lq_lane_product(lane, LQ_GEMM_TN, D, F, N, lane->dx, D, a->act, F, 1, g[LQ_DOWN], F);
    bias_bwd(g[LQ_DOWN_BIAS], lane->dx, N, D);
    for (size_t r = 0; r < N; r++) {
        const float *gate = a->gu + r * 2 * F;
        k->swiglu_bwd(dgu + r * 2 * F, dgu + r * 2 * F + F, dact + r * F, gate, gate + F, F);
    }
    bias_bwd(g[LQ_GATE_BIAS], dgu, N, 2 * F);
    lq_lane_product(lane, LQ_GEMM_TN, 2 * F, D, N, dgu, 2 * F, a->h2, D, 1, g[LQ_GATE], D);
    lq_lane_product(lane, LQ_GEMM_NN, N, D, 2 * F, dgu, 2 * F, t[LQ_GATE], D, 0, lane->dh, D);
    k->rmsnorm_bwd(lane->dx, g[LQ_POST_NORM], lane->dh, a->x2, a->rstd2, t[LQ_POST_NORM], N, D);
}

void lq_block_backward(const lq_weights *w, lq_lane *lane, size_t layer, const float *dy, size_t B,
                       float *dx, float *const *grad)
{
    const lq_layer_acts *a = &lane->layer[layer];
    const size_t n = B * lane->T * lane->config.D;
    LQ_ASSERT(lane->for_backward && B <= lane->B_max);
    LQ_ASSERT(lane->for_backward == LQ_KEEP_ALL || lane->computed == layer);
    lane->B = B;
    if (dy != lane->dx)
        memcpy(lane->dx, dy, n * sizeof *dy);
    mlp_bwd(lane, a, w->layer[layer], grad);
    attention_bwd(lane, a, w->layer[layer], grad);
    if (dx != NULL && dx != lane->dx)
        memcpy(dx, lane->dx, n * sizeof *dx);
}

void lq_backward(const lq_weights *w, lq_lane *lane, const uint32_t *tokens, lq_weights *grad)
{
    const size_t N = lane->B * lane->T, D = lane->config.D;
    LQ_ASSERT(lane->for_backward);
    memset(lane->dx, 0, N * D * sizeof *lane->dx);
    lq_kernels()->rmsnorm_bwd(lane->dx, grad->final_norm, lane->dh, lane->x_final, lane->rstd_final,
                              w->final_norm, N, D);
    for (size_t l = lane->config.L; l-- > 0;) {
        if (lane->for_backward == LQ_KEEP_INPUTS && lane->computed != l)
            lq_block_forward(w, lane, l, lane->layer[l].x, lane->B, NULL);
        lq_block_backward(w, lane, l, lane->dx, lane->B, lane->dx, grad->layer[l]);
    }
    for (size_t i = 0; i < N; i++)
        lq_kernels()->add(grad->embed + tokens[i] * D, lane->dx + i * D, D);
}
