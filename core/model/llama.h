/* Forward and backward of the Llama-family transformer: pre-norm RMSNorm, rotate-half RoPE, grouped
 * query attention, SwiGLU. Weights come in, a loss and gradients come out; nothing here knows of
 * quantization.
 *
 *     lq_lane *lane;                                        // activations of B sequences of T tokens
 *     LQ_TRY(lq_lane_new(&w.config, B, T, LQ_KEEP_ALL, arena, &lane));
 *     lq_forward(&w, lane, tokens, B);
 *     nats = lq_loss(&w, lane, targets, 1.0f / n_targets, &grad, NULL);
 *     lq_backward(&w, lane, tokens, &grad);                 // adds to grad
 *
 * A lane belongs to one thread at a time; lanes run side by side. */
#ifndef LQ_MODEL_LLAMA_H
#define LQ_MODEL_LLAMA_H

#include "core/math/gemm_bf16.h"
#include "core/model/weights.h"

typedef struct lq_layer_acts { /* N = B T rows; E = (H + 2 Hkv) dh */
    float *x;                  /* (N,D) the residual stream entering the layer */
    float *h1, *rstd1;         /* (N,D), (N): the normed input of q, k, v */
    float *qkv;                /* (N,E) after norm and rotation: q heads, k heads, v heads */
    float *qk_raw, *rstd_qk;   /* (N,(H+Hkv)dh), (N,H+Hkv): before the norm; NULL without qk_norm */
    float *p;                  /* (B,H,T,T) attention probabilities */
    float *o;                  /* (N,H dh) context: the input of o_proj */
    float *x2;                 /* (N,D) the stream after attention */
    float *h2, *rstd2;         /* (N,D), (N): the normed input of gate and up */
    float *gu;                 /* (N,2F) gate, then up */
    float *act;                /* (N,F) silu(gate) up: the input of down_proj */
} lq_layer_acts;

/* What of the activations stays until the backward. The gradients are the same bits either way. */
typedef enum lq_keep {
    LQ_KEEP_NOTHING, /* no backward: all layers share one set */
    LQ_KEEP_ALL,
    LQ_KEEP_INPUTS /* each layer's x; the rest is shared, and computed again by the backward */
} lq_keep;

typedef struct lq_lane {
    lq_config config;
    size_t B_max, T, B, E;
    lq_keep for_backward;
    lq_bf16 *bf16;        /* products of linears, head, attention; NULL: in float */
    size_t computed;      /* the layer whose activations a shared set holds */
    size_t head_rows;     /* rows of logits that exist at once */
    float *cosine, *sine; /* (T,dh/2) */
    lq_layer_acts *layer; /* (L) */
    float *x_final;       /* (N,D) the stream after the last layer */
    float *h_final, *rstd_final;
    float *logits;                            /* (head_rows,V) scratch of the loss */
    float *dx, *dh, *dwide, *dqkv, *dp, *nll; /* scratch of the backward */
} lq_lane;

/* Bytes of a lane: the plan that the memory test holds the program to. */
size_t lq_lane_bytes(const lq_config *config, size_t B, size_t T, lq_keep keep);
lq_status lq_lane_new(const lq_config *config, size_t B, size_t T, lq_keep keep, lq_arena *arena,
                      lq_lane **out);
/* From here on the products of the linears, the head and attention round their operands to bfloat16; softmax,
 * norms and sums stay in float. LQ_E_UNAVAILABLE: lq_bf16_check. The lane then wants lq_lane_close. */
lq_status lq_lane_use_bf16(lq_lane *lane);
size_t lq_lane_bf16_bytes(const lq_config *config, size_t B,
                          size_t T); /* on top of lq_lane_bytes */
void lq_lane_close(lq_lane *lane);   /* what lies outside the arena; NULL is fine */

/* tokens (B,T), each < V. Fills the activations up to h_final. */
void lq_forward(const lq_weights *w, lq_lane *lane, const uint32_t *tokens, size_t B);
/* Pieces of lq_forward, for work that goes block by block. x, y: (B T, D); may be the same array;
 * y may be NULL. */
void lq_embed(const lq_weights *w, const uint32_t *tokens, size_t n, float *x);
void lq_block_forward(const lq_weights *w, lq_lane *lane, size_t layer, const float *x, size_t B,
                      float *y);
/* The two halves of that: x -> x2 of the layer's activations; x2 -> y. */
void lq_attention_forward(const lq_weights *w, lq_lane *lane, size_t layer, const float *x,
                          size_t B);
void lq_mlp_forward(const lq_weights *w, lq_lane *lane, size_t layer, size_t B, float *y);
/* After lq_block_forward of B sequences on a lane for backward (a shared set: of this block last): dx, dy
 * (B T, D); may be the same array,
 * dx may be NULL. grad (LQ_N_LAYER_TENSORS) points to the gradients of the block's tensors as
 * w->layer[layer] does to the tensors, with the same neighbours; they are added to. */
void lq_block_backward(const lq_weights *w, lq_lane *lane, size_t layer, const float *dy, size_t B,
                       float *dx, float *const *grad);
/* The input of a linear layer in the last forward (shared sets: of the last block): (B T, in); its width is
 * the linear's cols. */
const float *lq_linear_input(const lq_lane *lane, size_t layer, lq_layer_tensor linear);

/* After lq_forward: sum of nats over targets (B,T); a target of UINT32_MAX is skipped. nll (B T), if
 * not NULL, receives each position's nats. With grad, d(weight * sum)/d(head, h_final) is kept for
 * lq_backward. */
double lq_loss(const lq_weights *w, lq_lane *lane, const uint32_t *targets, float weight,
               lq_weights *grad, float *nll);
/* Logits (n,V) of rows [first, first+n) of the last forward. */
void lq_logits(const lq_weights *w, const lq_lane *lane, size_t first, size_t n, float *logits);
/* A loss of one's own: takes dlogits (n,V) = dL/d(logits of rows [first, first+n)), adds to the head's
 * gradient and keeps d(h_final). Each row once, then lq_backward. */
void lq_logits_backward(const lq_weights *w, lq_lane *lane, size_t first, size_t n,
                        const float *dlogits, lq_weights *grad);
/* After lq_loss with grad, or lq_logits_backward: adds the gradient of every weight to grad. */
void lq_backward(const lq_weights *w, lq_lane *lane, const uint32_t *tokens, lq_weights *grad);

/* Multiply-adds times two of one token in matrix products, forward only: linears, head, attention over
 * T tokens counted causally (half). The backward costs twice as much. */
double lq_forward_flops(const lq_config *config, size_t T);

#endif
