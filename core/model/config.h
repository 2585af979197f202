/* The shape of a Llama-family transformer, as config.json of Hugging Face states it. */
#ifndef LQ_MODEL_CONFIG_H
#define LQ_MODEL_CONFIG_H

#include "core/base/json.h"
#include "core/base/status.h"

typedef enum lq_arch { LQ_ARCH_LLAMA, LQ_ARCH_QWEN2, LQ_ARCH_QWEN3 } lq_arch;

typedef struct lq_config {
    lq_arch arch;
    size_t D, F, L, H, Hkv, dh,
        V; /* width, feed-forward width, layers, heads, kv heads, head width, vocabulary */
    size_t max_positions;
    double eps;        /* of RMSNorm */
    double rope_theta; /* base of the rotary angles */
    bool tied;         /* the head is the embedding */
    bool qk_norm;      /* Qwen3: RMSNorm on each head of q and k */
    bool qkv_bias;     /* Qwen2 */
} lq_config;

/* Reads the keys that shape the forward pass. LQ_E_FORMAT: an architecture, activation, rope scaling or
 * window that this program does not compute, or sizes that do not fit, each by name. */
lq_status lq_config_read(const char *path, lq_config *out);
lq_status lq_config_of_json(const lq_json *json, const char *where, lq_config *out);
lq_json *lq_config_to_json(const lq_config *config); /* owned; loads in transformers */
const char *lq_arch_name(lq_arch arch);              /* "llama", "qwen2", "qwen3" */

#endif
