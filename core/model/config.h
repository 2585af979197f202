/* The shape of a Llama-family transformer, as config.json of Hugging Face states it. */
#ifndef LQ_MODEL_CONFIG_H
#define LQ_MODEL_CONFIG_H

#include "core/base/arena.h"
#include "core/base/json.h"
#include "core/base/status.h"
#include "core/model/rope.h"

typedef enum lq_arch { LQ_ARCH_LLAMA, LQ_ARCH_QWEN2, LQ_ARCH_QWEN3 } lq_arch;

typedef struct lq_config {
    lq_arch arch;
    size_t D, F, L, H, Hkv, dh,
        V; /* width, feed-forward width, layers, heads, kv heads, head width, vocabulary */
    size_t max_positions;
    double eps;           /* of RMSNorm */
    double rope_theta;    /* base of the rotary angles */
    lq_rope_scaling rope; /* zeros: none */
    bool tied;            /* the head is the embedding */
    bool qk_norm;         /* Qwen3: RMSNorm on each head of q and k */
    bool qkv_bias;        /* Qwen2; the others with attention_bias, */
    bool o_bias;          /* and then here, too */
    bool mlp_bias;        /* Llama with mlp_bias */
    const char *source;   /* text of the config.json that it was read from, or NULL; borrowed */
} lq_config;

/* Reads config.json of a model that is to be computed as it stands. LQ_E_FORMAT, LQ_E_OPTION: an
 * architecture, activation, bias, rope scaling or window that this program does not compute, a key that it
 * does not know, or sizes that do not fit, each by name. The text stays in the arena, as `source`. */
lq_status lq_config_read(const char *path, lq_arena *arena, lq_config *out);
/* The same of a document, without its class and the keys that this program does not know: for recipes of
 * our own and for checkpoints that say more. */
lq_status lq_config_of_json(const lq_json *json, const char *where, lq_config *out);
/* Owned; loads in transformers. What it was read from, when it was read; every key of that stays. */
lq_json *lq_config_to_json(const lq_config *config);
const char *lq_arch_name(lq_arch arch); /* "llama", "qwen2", "qwen3" */
/* LQ_E_FORMAT naming `type`, what is known of it, and what is computed instead. `key` holds it in `where`. */
lq_status lq_arch_find(const char *type, const char *where, const char *key, lq_arch *out);

#endif
