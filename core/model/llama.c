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
/* X(field, floats): what a lane has once; back: a backward follows. */
#define LANE_ACTS(X)                                        \
    X(cosine, T * c->dh / 2)                                \
    X(sine, T * c->dh / 2)                                  \
    X(x_final, N * c->D)                                    \
    X(h_final, N * c->D)                                    \
    X(rstd_final, N)                                        \
    X(logits, head_rows(c, N) * c->V)                       \
    X(nll, head_rows(c, N))                                 \
    X(dx, back ? N * c->D : 0)                              \
    X(dh, back ? N * lq_max(c->D, c->H * c->dh) : 0)        \
    X(dwide, back ? N * 3 * c->F : 0)                       \
    X(dqkv, back ? N * E : 0)                               \
    X(dp, back ? lq_max(T * T, (c->H + c->Hkv) * c->dh) : 0)
/* clang-format on */

static size_t lq_max(size_t a, size_t b) { return a > b ? a : b; }

/* Rows of logits at once: by the configuration alone, for the gradients of the chunks are added up. */
static size_t head_rows(const lq_config *c, size_t N)
{
    enum { MOST = 256, LEAST = 32, FLOATS = 1 << 24 };
    const size_t fit = FLOATS / c->V;
    const size_t rows = fit > MOST ? MOST : lq_max(fit, LEAST);
    return rows < N ? rows : N;
}

size_t lq_lane_bytes(const lq_config *c, size_t B, size_t T, lq_keep keep)
{
    const size_t N = B * T, E = (c->H + 2 * c->Hkv) * c->dh, inputs = N * c->D;
    const bool back = keep != LQ_KEEP_NOTHING;
    size_t layer = 0, lane = 0;
#define X(field, floats) layer += (floats);
    LAYER_ACTS(X)
#undef X
#define X(field, floats) lane += (floats);
    LANE_ACTS(X)
#undef X
    if (keep == LQ_KEEP_INPUTS)
        return sizeof(float) * (lane + layer + inputs * (c->L - 1));
    return sizeof(float) * (lane + layer * (back ? c->L : 1));
}

/* Angles in float, as the Hugging Face code computes them. */
void lq_rope_fill(const lq_config *c, size_t T, float *cosine, float *sine)
{
    const size_t half = c->dh / 2;
    const double gain = lq_rope_gain(&c->rope);
    for (size_t i = 0; i < half; i++) {
        const float inv = lq_rope_frequency(c->rope_theta, &c->rope, c->dh, i);
        for (size_t t = 0; t < T; t++) {
            const float angle = (float)t * inv;
            cosine[t * half + i] = (float)(gain * cos((double)angle));
            sine[t * half + i] = (float)(gain * sin((double)angle));
        }
    }
}

static lq_status layers_new(lq_lane *lane, size_t N, lq_arena *arena)
{
    const lq_config *c = &lane->config;
    const size_t T = lane->T, E = lane->E;
    LQ_TRY(lq_arena_new(arena, &lane->layer, c->L));
    for (size_t l = 0; l < c->L; l++) {
        lq_layer_acts *a = &lane->layer[l];
        if (l > 0 && lane->for_backward != LQ_KEEP_ALL) {
            *a = lane->layer[0];
            if (lane->for_backward == LQ_KEEP_INPUTS)
                LQ_TRY(lq_arena_new(arena, &a->x, N * c->D));
            continue;
        }
#define X(field, floats) LQ_TRY(lq_arena_new(arena, &a->field, (floats)));
        LAYER_ACTS(X)
#undef X
    }
    return LQ_OK;
}

lq_status lq_lane_new(const lq_config *c, size_t B, size_t T, lq_keep keep, lq_arena *arena,
                      lq_lane **out)
{
    lq_lane *lane;
    LQ_TRY(lq_arena_new(arena, &lane, 1));
    const size_t N = B * T, E = (c->H + 2 * c->Hkv) * c->dh;
    const bool back = keep != LQ_KEEP_NOTHING;
    lane->config = *c;
    lane->B_max = lane->B = B;
    lane->T = T;
    lane->E = E;
    lane->for_backward = keep;
    lane->computed = SIZE_MAX;
    lane->head_rows = head_rows(c, N);
    LQ_TRY(layers_new(lane, N, arena));
#define X(field, floats) LQ_TRY(lq_arena_new(arena, &lane->field, (floats)));
    LANE_ACTS(X)
#undef X
    lq_rope_fill(c, T, lane->cosine, lane->sine);
    *out = lane;
    return LQ_OK;
}

/* The largest operand of a product: an activation, a weight, or logits. */
static size_t largest_operand(const lq_config *c, size_t B, size_t T)
{
    const size_t N = B * T, E = (c->H + 2 * c->Hkv) * c->dh, HD = c->H * c->dh;
    const size_t wide = lq_max(lq_max(2 * c->F, E), lq_max(c->D, HD));
    return lq_max(lq_max(wide * lq_max(N, c->D), T * T), c->V * lq_max(head_rows(c, N), c->D));
}

size_t lq_lane_bf16_bytes(const lq_config *config, size_t B, size_t T)
{
    return lq_bf16_bytes(largest_operand(config, B, T));
}

lq_status lq_lane_use_bf16(lq_lane *lane)
{
    return lq_bf16_open(largest_operand(&lane->config, lane->B_max, lane->T), &lane->bf16);
}

void lq_lane_close(lq_lane *lane)
{
    if (lane == NULL)
        return;
    lq_bf16_close(lane->bf16);
    lane->bf16 = NULL;
}

void lq_lane_product(const lq_lane *lane, lq_gemm_form form, size_t m, size_t n, size_t k,
                     const float *A, size_t lda, const float *B, size_t ldb, float beta, float *C,
                     size_t ldc)
{
    if (lane->bf16 != NULL)
        lq_bf16_gemm(lane->bf16, form, m, n, k, A, lda, B, ldb, beta, C, ldc);
    else if (form == LQ_GEMM_NN)
        lq_gemm_nn(m, n, k, 1, A, lda, B, ldb, beta, C, ldc);
    else if (form == LQ_GEMM_NT)
        lq_gemm_nt(m, n, k, 1, A, lda, B, ldb, beta, C, ldc);
    else
        lq_gemm_tn(m, n, k, 1, A, lda, B, ldb, beta, C, ldc);
}

void lq_embed(const lq_weights *w, const uint32_t *tokens, size_t n, float *x)
{
    const size_t D = w->config.D;
    for (size_t i = 0; i < n; i++) {
        LQ_ASSERT(tokens[i] < w->config.V);
        memcpy(x + i * D, w->embed + tokens[i] * D, D * sizeof *x);
    }
}

static void add_bias(float *x, const float *bias, size_t n, size_t cols)
{
    for (size_t r = 0; bias != NULL && r < n; r++)
        lq_kernels()->add(x + r * cols, bias, cols);
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
            lq_lane_product(lane, LQ_GEMM_NT, T, T, dh, q, E, k, E, 0, p, T);
            lq_kernels()->softmax_causal_fwd(p, T, scale);
            lq_lane_product(lane, LQ_GEMM_NN, T, dh, T, p, T, v, E, 0,
                            a->o + b * T * width + h * dh, width);
        }
}

void lq_attention_forward(const lq_weights *w, lq_lane *lane, size_t layer, const float *x,
                          size_t B)
{
    const lq_config *c = &lane->config;
    lq_layer_acts *a = &lane->layer[layer];
    float *const *t = w->layer[layer];
    const size_t N = B * lane->T, D = c->D, E = lane->E, HD = c->H * c->dh;
    const lq_kernel_table *k = lq_kernels();
    LQ_ASSERT(B <= lane->B_max);
    lane->computed = layer;

    if (x != a->x)
        memcpy(a->x, x, N * D * sizeof *x);
    k->rmsnorm_fwd(a->h1, a->rstd1, a->x, t[LQ_INPUT_NORM], N, D, (float)c->eps);
    lq_lane_product(lane, LQ_GEMM_NT, N, E, D, a->h1, D, t[LQ_Q], D, 0, a->qkv, E);
    add_bias(a->qkv, t[LQ_Q_BIAS], N, E); /* q, k, v biases are neighbours, too */
    if (c->qk_norm)
        norm_heads(lane, a, t, N);
    k->rope(a->qkv, E, lane->cosine, lane->sine, N, lane->T, c->H + c->Hkv, c->dh, 1.0f);
    attend(lane, a, B);
    memcpy(a->x2, a->x, N * D * sizeof *x);
    lq_lane_product(lane, LQ_GEMM_NT, N, D, HD, a->o, HD, t[LQ_O], HD, 1, a->x2, D);
    add_bias(a->x2, t[LQ_O_BIAS], N, D);
}

void lq_mlp_forward(const lq_weights *w, lq_lane *lane, size_t layer, size_t B, float *y)
{
    const lq_config *c = &lane->config;
    lq_layer_acts *a = &lane->layer[layer];
    float *const *t = w->layer[layer];
    const size_t N = B * lane->T, D = c->D, F = c->F;
    const lq_kernel_table *k = lq_kernels();

    k->rmsnorm_fwd(a->h2, a->rstd2, a->x2, t[LQ_POST_NORM], N, D, (float)c->eps);
    lq_lane_product(lane, LQ_GEMM_NT, N, 2 * F, D, a->h2, D, t[LQ_GATE], D, 0, a->gu, 2 * F);
    add_bias(a->gu, t[LQ_GATE_BIAS], N, 2 * F); /* gate's and up's */
    for (size_t r = 0; r < N; r++)
        k->swiglu_fwd(a->act + r * F, a->gu + r * 2 * F, a->gu + r * 2 * F + F, F);
    if (y == NULL)
        return;
    memcpy(y, a->x2, N * D * sizeof *y);
    lq_lane_product(lane, LQ_GEMM_NT, N, D, F, a->act, F, t[LQ_DOWN], F, 1, y, D);
    add_bias(y, t[LQ_DOWN_BIAS], N, D);
}

void lq_block_forward(const lq_weights *w, lq_lane *lane, size_t layer, const float *x, size_t B,
                      float *y)
{
    lq_attention_forward(w, lane, layer, x, B);
    lq_mlp_forward(w, lane, layer, B, y);
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
    lq_lane_product(lane, LQ_GEMM_NT, n, V, D, lane->h_final + first * D, D, w->head, D, 0, logits,
                    V);
}

double lq_forward_flops(const lq_config *c, size_t T)
{
    const double D = (double)c->D, HD = (double)(c->H * c->dh), KV = (double)(c->Hkv * c->dh);
    const double linear = D * (2 * HD + 2 * KV) + 3 * D * (double)c->F;
    const double attention =
        HD * (double)(T + 1); /* q k' and p v, over the mean of T/2 positions */
    return 2 * ((double)c->L * (linear + attention) + (double)c->V * D);
}
