/* The forward pass. Shapes: N = B T rows, E = (H + 2 Hkv) dh columns of q, k, v side by side. */
#include "core/model/llama.h"

#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/model/llama_parts.h"

#include <math.h>
#include <string.h>

/* clang-format off */
/* X(field, floats): the activations of one layer; the plan and the allocation are made of it. */
#define LAYER_ACTS(X)                                       \
    X(x, N * c->D)                                          \
    X(h1, N * c->D)                                         \
    X(rstd1, N)                                             \
    X(qkv, N * E)                                           \
    X(qk_raw, c->qk_norm ? N * (c->H + c->Hkv) * c->dh : 0) \
    X(rstd_qk, c->qk_norm ? N * (c->H + c->Hkv) : 0)        \
    X(p, N * c->H * T)                                      \
    X(o, N * c->H * c->dh)                                  \
    X(x2, N * c->D)                                         \
    X(h2, N * c->D)                                         \
    X(rstd2, N)                                             \
    X(gu, N * 2 * c->F)                                     \
    X(act, N * c->F)
/* X(field, floats): what a lane has once. wide: the widest of the scratch that the backward needs. */
#define LANE_ACTS(X)                                        \
    X(cosine, T * c->dh / 2)                                \
    X(sine, T * c->dh / 2)                                  \
    X(x_final, N * c->D)                                    \
    X(h_final, N * c->D)                                    \
    X(rstd_final, N)                                        \
    X(logits, LQ_HEAD_CHUNK * c->V)                         \
    X(nll, LQ_HEAD_CHUNK)                                   \
    X(dx, back ? N * c->D : 0)                              \
    X(dh, back ? N * lq_max(c->D, c->H * c->dh) : 0)        \
    X(dwide, back ? N * 3 * c->F : 0)                       \
    X(dqkv, back ? N * E : 0)                               \
    X(dp, back ? lq_max(T * T, (c->H + c->Hkv) * c->dh) : 0)
/* clang-format on */

static size_t lq_max(size_t a, size_t b) { return a > b ? a : b; }

size_t lq_lane_bytes(const lq_config *c, size_t B, size_t T, bool back)
{
    const size_t N = B * T, E = (c->H + 2 * c->Hkv) * c->dh;
    size_t layer = 0, lane = 0;
#define X(field, floats) layer += (floats);
    LAYER_ACTS(X)
#undef X
#define X(field, floats) lane += (floats);
    LANE_ACTS(X)
#undef X
    return sizeof(float) * (lane + layer * (back ? c->L : 1));
}

/* Angles in float, as the Hugging Face code computes them. */
static void fill_rope(const lq_config *c, size_t T, float *cosine, float *sine)
{
    const size_t half = c->dh / 2;
    for (size_t i = 0; i < half; i++) {
        const float inv = lq_rope_frequency(c->rope_theta, &c->rope, c->dh, i);
        for (size_t t = 0; t < T; t++) {
            const float angle = (float)t * inv;
            cosine[t * half + i] = (float)cos((double)angle);
            sine[t * half + i] = (float)sin((double)angle);
        }
    }
}

lq_status lq_lane_new(const lq_config *c, size_t B, size_t T, bool back, lq_arena *arena,
                      lq_lane **out)
{
    lq_lane *lane;
    LQ_TRY(lq_arena_new(arena, &lane, 1));
    const size_t N = B * T, E = (c->H + 2 * c->Hkv) * c->dh;
    lane->config = *c;
    lane->B_max = lane->B = B;
    lane->T = T;
    lane->E = E;
    lane->for_backward = back;
    LQ_TRY(lq_arena_new(arena, &lane->layer, c->L));
    for (size_t l = 0; l < c->L; l++) {
        lq_layer_acts *a = &lane->layer[l];
        if (l > 0 && !back) {
            *a = lane->layer[0];
            continue;
        }
#define X(field, floats) LQ_TRY(lq_arena_new(arena, &a->field, (floats)));
        LAYER_ACTS(X)
#undef X
    }
#define X(field, floats) LQ_TRY(lq_arena_new(arena, &lane->field, (floats)));
    LANE_ACTS(X)
#undef X
    fill_rope(c, T, lane->cosine, lane->sine);
    *out = lane;
    return LQ_OK;
}

void lq_embed(const lq_weights *w, const uint32_t *tokens, size_t n, float *x)
{
    const size_t D = w->config.D;
    for (size_t i = 0; i < n; i++) {
        LQ_ASSERT(tokens[i] < w->config.V);
        memcpy(x + i * D, w->embed + tokens[i] * D, D * sizeof *x);
    }
}

static void add_bias(float *x, const float *bias, size_t n, size_t cols, size_t stride)
{
    for (size_t r = 0; bias != NULL && r < n; r++)
        lq_kernels()->add(x + r * stride, bias, cols);
}

/* RMSNorm on each head of q and k; the raw values are kept for the backward. */
static void norm_heads(const lq_lane *lane, lq_layer_acts *a, float *const *t, size_t N)
{
    const lq_config *c = &lane->config;
    const size_t width = (c->H + c->Hkv) * c->dh, heads = c->H + c->Hkv;
    for (size_t r = 0; r < N; r++) {
        float *raw = a->qk_raw + r * width, *row = a->qkv + r * lane->E;
        float *rstd = a->rstd_qk + r * heads;
        memcpy(raw, row, width * sizeof *raw);
        lq_kernels()->rmsnorm_fwd(row, rstd, raw, t[LQ_Q_NORM], c->H, c->dh, (float)c->eps);
        lq_kernels()->rmsnorm_fwd(row + c->H * c->dh, rstd + c->H, raw + c->H * c->dh, t[LQ_K_NORM],
                                  c->Hkv, c->dh, (float)c->eps);
    }
}

/* softmax(q k' / sqrt(dh)) v for every sequence and head. */
static void attend(const lq_lane *lane, lq_layer_acts *a, size_t B)
{
    const lq_config *c = &lane->config;
    const size_t T = lane->T, E = lane->E, dh = c->dh, width = c->H * dh;
    const float scale = (float)(1.0 / sqrt((double)dh));
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < c->H; h++) {
            const size_t kv = h / (c->H / c->Hkv);
            const float *q = a->qkv + b * T * E + h * dh;
            const float *k = a->qkv + b * T * E + (c->H + kv) * dh;
            const float *v = a->qkv + b * T * E + (c->H + c->Hkv + kv) * dh;
            float *p = a->p + (b * c->H + h) * T * T;
            lq_gemm_nt(T, T, dh, 1, q, E, k, E, 0, p, T);
            lq_kernels()->softmax_causal_fwd(p, T, scale);
            lq_gemm_nn(T, dh, T, 1, p, T, v, E, 0, a->o + b * T * width + h * dh, width);
        }
}

void lq_block_forward(const lq_weights *w, lq_lane *lane, size_t layer, const float *x, size_t B,
                      float *y)
{
    const lq_config *c = &lane->config;
    lq_layer_acts *a = &lane->layer[layer];
    float *const *t = w->layer[layer];
    const size_t N = B * lane->T, D = c->D, E = lane->E, F = c->F, HD = c->H * c->dh;
    const lq_kernel_table *k = lq_kernels();
    LQ_ASSERT(B <= lane->B_max);

    if (x != a->x)
        memcpy(a->x, x, N * D * sizeof *x);
    k->rmsnorm_fwd(a->h1, a->rstd1, a->x, t[LQ_INPUT_NORM], N, D, (float)c->eps);
    lq_gemm_nt(N, E, D, 1, a->h1, D, t[LQ_Q], D, 0, a->qkv, E);
    add_bias(a->qkv, t[LQ_Q_BIAS], N, E, E); /* q, k, v biases are neighbours, too */
    if (c->qk_norm)
        norm_heads(lane, a, t, N);
    k->rope(a->qkv, E, lane->cosine, lane->sine, N, lane->T, c->H + c->Hkv, c->dh, 1.0f);
    attend(lane, a, B);
    memcpy(a->x2, a->x, N * D * sizeof *x);
    lq_gemm_nt(N, D, HD, 1, a->o, HD, t[LQ_O], HD, 1, a->x2, D);
    k->rmsnorm_fwd(a->h2, a->rstd2, a->x2, t[LQ_POST_NORM], N, D, (float)c->eps);
    lq_gemm_nt(N, 2 * F, D, 1, a->h2, D, t[LQ_GATE], D, 0, a->gu, 2 * F);
    for (size_t r = 0; r < N; r++)
        k->swiglu_fwd(a->act + r * F, a->gu + r * 2 * F, a->gu + r * 2 * F + F, F);
    memcpy(y, a->x2, N * D * sizeof *x);
    lq_gemm_nt(N, D, F, 1, a->act, F, t[LQ_DOWN], F, 1, y, D);
}

void lq_forward(const lq_weights *w, lq_lane *lane, const uint32_t *tokens, size_t B)
{
    const lq_config *c = &lane->config;
    const size_t N = B * lane->T;
    lane->B = B;
    lq_embed(w, tokens, N, lane->layer[0].x);
    for (size_t l = 0; l < c->L; l++)
        lq_block_forward(w, lane, l, lane->layer[l].x, B,
                         l + 1 < c->L ? lane->layer[l + 1].x : lane->x_final);
    lq_kernels()->rmsnorm_fwd(lane->h_final, lane->rstd_final, lane->x_final, w->final_norm, N,
                              c->D, (float)c->eps);
}

const float *lq_linear_input(const lq_lane *lane, size_t layer, lq_layer_tensor linear)
{
    const lq_layer_acts *a = &lane->layer[layer];
    if (linear == LQ_O)
        return a->o;
    if (linear == LQ_DOWN)
        return a->act;
    return linear == LQ_GATE || linear == LQ_UP ? a->h2 : a->h1;
}

void lq_logits(const lq_weights *w, const lq_lane *lane, size_t first, size_t n, float *logits)
{
    const size_t D = lane->config.D, V = lane->config.V;
    lq_gemm_nt(n, V, D, 1, lane->h_final + first * D, D, w->head, D, 0, logits, V);
}

double lq_forward_flops(const lq_config *c, size_t T)
{
    const double D = (double)c->D, HD = (double)(c->H * c->dh), KV = (double)(c->Hkv * c->dh);
    const double linear = D * (2 * HD + 2 * KV) + 3 * D * (double)c->F;
    const double attention =
        HD * (double)(T + 1); /* q k' and p v, over the mean of T/2 positions */
    return 2 * ((double)c->L * (linear + attention) + (double)c->V * D);
}
