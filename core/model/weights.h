/* The tensors of a transformer: listed once, stored in one flat array, so that weights, gradients and
 * optimizer state share one layout. q, k, v lie side by side, and so do gate and up: each group is one
 * matrix product. */
#ifndef LQ_MODEL_WEIGHTS_H
#define LQ_MODEL_WEIGHTS_H

#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/model/config.h"

/* X(id, name in the checkpoint after "model.layers.N.", kind, rows, cols, present), c: the config.
 * The order matters: Q, K, V, and GATE, UP, and the biases of either, must stay neighbours. */
#define LQ_LAYER_TENSORS(X)                                                  \
    X(Q, "self_attn.q_proj.weight", LINEAR, c->H * c->dh, c->D, true)        \
    X(K, "self_attn.k_proj.weight", LINEAR, c->Hkv * c->dh, c->D, true)      \
    X(V, "self_attn.v_proj.weight", LINEAR, c->Hkv * c->dh, c->D, true)      \
    X(O, "self_attn.o_proj.weight", LINEAR, c->D, c->H * c->dh, true)        \
    X(GATE, "mlp.gate_proj.weight", LINEAR, c->F, c->D, true)                \
    X(UP, "mlp.up_proj.weight", LINEAR, c->F, c->D, true)                    \
    X(DOWN, "mlp.down_proj.weight", LINEAR, c->D, c->F, true)                \
    X(INPUT_NORM, "input_layernorm.weight", NORM, 1, c->D, true)             \
    X(POST_NORM, "post_attention_layernorm.weight", NORM, 1, c->D, true)     \
    X(Q_NORM, "self_attn.q_norm.weight", NORM, 1, c->dh, c->qk_norm)         \
    X(K_NORM, "self_attn.k_norm.weight", NORM, 1, c->dh, c->qk_norm)         \
    X(Q_BIAS, "self_attn.q_proj.bias", BIAS, 1, c->H * c->dh, c->qkv_bias)   \
    X(K_BIAS, "self_attn.k_proj.bias", BIAS, 1, c->Hkv * c->dh, c->qkv_bias) \
    X(V_BIAS, "self_attn.v_proj.bias", BIAS, 1, c->Hkv * c->dh, c->qkv_bias) \
    X(O_BIAS, "self_attn.o_proj.bias", BIAS, 1, c->D, c->o_bias)             \
    X(GATE_BIAS, "mlp.gate_proj.bias", BIAS, 1, c->F, c->mlp_bias)           \
    X(UP_BIAS, "mlp.up_proj.bias", BIAS, 1, c->F, c->mlp_bias)               \
    X(DOWN_BIAS, "mlp.down_proj.bias", BIAS, 1, c->D, c->mlp_bias)

typedef enum lq_layer_tensor {
#define X(id, name, kind, rows, cols, present) LQ_##id,
    LQ_LAYER_TENSORS(X)
#undef X
        LQ_N_LAYER_TENSORS
} lq_layer_tensor;
enum { LQ_N_LINEARS = LQ_DOWN + 1 }; /* the first seven are the quantized linears */

typedef enum lq_weight_kind {
    LQ_WEIGHT_LINEAR,
    LQ_WEIGHT_NORM,
    LQ_WEIGHT_BIAS,
    LQ_WEIGHT_EMBED,
    LQ_WEIGHT_HEAD
} lq_weight_kind;

typedef struct lq_weight { /* one tensor */
    const char *name;      /* full name in the checkpoint */
    lq_weight_kind kind;
    size_t layer; /* SIZE_MAX: of no layer */
    lq_layer_tensor id;
    size_t rows, cols, offset; /* in floats, from the start of the flat array */
    float *data;
} lq_weight;

typedef struct lq_weights {
    lq_config config;
    size_t n; /* floats in flat */
    float *flat;
    size_t n_tensors;
    lq_weight *tensor;                   /* (n_tensors), in order of offset */
    float *embed, *final_norm, *head;    /* head is embed when tied */
    float *(*layer)[LQ_N_LAYER_TENSORS]; /* (L) pointers into flat; NULL when absent */
} lq_weights;

/* Zeroed weights of this shape in the arena. LQ_E_MEMORY. */
lq_status lq_weights_new(const lq_config *config, lq_arena *arena, lq_weights *out);
/* N(0, 0.02^2), residual outputs scaled by 1/sqrt(2L), norms one, biases zero (GPT-2's recipe). */
void lq_weights_init(lq_weights *w, const lq_rng *rng);
/* Parameters, the tied head counted once. */
size_t lq_weights_count(const lq_weights *w);
/* Weights of a file that others made, as floats in the arena. Everything is checked before memory is asked
 * for: LQ_E_MISSING, LQ_E_FORMAT, LQ_E_SHAPE, LQ_E_UNAVAILABLE: a tensor that is missing, unknown, or of
 * another shape or type, by name.
 * A Hugging Face directory: config.json, and model.safetensors or the shards of its index (F32, F16, BF16). */
lq_status lq_weights_load(const char *dir, lq_arena *arena, lq_weights *out);
/* A GGUF file of architecture llama, qwen2 or qwen3. */
lq_status lq_weights_load_gguf(const char *path, lq_arena *arena, lq_weights *out);
/* A checkpoint of llama2.c, version 0 (stories*.bin). */
lq_status lq_weights_load_llama2c(const char *path, lq_arena *arena, lq_weights *out);
/* Only the size of its vocabulary: the checkpoint does not say which tokens those are. */
lq_status lq_llama2c_vocab(const char *path, size_t *V);
/* Writes DIR/config.json (with all the keys that were read, lq_config.source) and DIR/model.safetensors, as
 * bf16 (rounded to nearest even) or float. */
lq_status lq_weights_save(const lq_weights *w, const char *dir, bool bf16);
/* Rounds every value to the nearest bf16, in place: what a saved and loaded model computes with. */
void lq_weights_round_bf16(lq_weights *w);

#endif
