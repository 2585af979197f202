#include "core/model/config.h"

#include <string.h>

/* model_type in config.json, class name, in the order of lq_arch. */
static const char *const arch_name[] = {"llama", "qwen2", "qwen3"};
static const char *const class_name[] = {"LlamaForCausalLM", "Qwen2ForCausalLM",
                                         "Qwen3ForCausalLM"};
enum { N_ARCH = sizeof arch_name / sizeof arch_name[0] };

const char *lq_arch_name(lq_arch arch) { return arch_name[arch]; }

static lq_status read_arch(const lq_json *json, const char *where, lq_arch *out)
{
    const char *type;
    LQ_TRY(lq_json_text(json, where, "model_type", "", &type));
    for (size_t i = 0; i < N_ARCH; i++)
        if (strcmp(type, arch_name[i]) == 0) {
            *out = (lq_arch)i;
            return LQ_OK;
        }
    return lq_fail(LQ_E_FORMAT, "%s: model_type '%s' is not supported; known: llama qwen2 qwen3",
                   where, type);
}

/* A key that must be absent, null, false or `allowed`: anything else would change the forward pass. */
static lq_status refuse(const lq_json *json, const char *where, const char *key,
                        const char *allowed)
{
    const lq_json *node = lq_json_get(json, key);
    if (node == NULL || lq_json_type(node) == LQ_JSON_NULL)
        return LQ_OK;
    if (lq_json_type(node) == LQ_JSON_BOOL && !lq_json_true(node))
        return LQ_OK;
    const char *text = lq_json_string(node);
    if (allowed != NULL && text != NULL && strcmp(text, allowed) == 0)
        return LQ_OK;
    return lq_fail(LQ_E_FORMAT, "%s: %s has a value that this version does not compute", where,
                   key);
}

/* Both forms: rope_theta beside rope_scaling, and the newer object rope_parameters. */
static lq_status read_rope(const lq_json *json, const char *where, double *theta)
{
    LQ_TRY(lq_json_real(json, where, "rope_theta", 1, 1e12, 10000, theta));
    static const char *const places[] = {"rope_scaling", "rope_parameters"};
    for (size_t i = 0; i < 2; i++) {
        const lq_json *rope = lq_json_get(json, places[i]);
        if (rope == NULL || lq_json_type(rope) != LQ_JSON_OBJECT)
            continue;
        LQ_TRY(lq_json_real(rope, where, "rope_theta", 1, 1e12, *theta, theta));
        LQ_TRY(refuse(rope, where, "rope_type", "default"));
        LQ_TRY(refuse(rope, where, "type", "default"));
    }
    return LQ_OK;
}

static lq_status read_sizes(const lq_json *json, const char *where, lq_config *c)
{
    enum { MOST = 1 << 24, NONE = 0 };
    LQ_TRY(lq_json_size(json, where, "hidden_size", 1, MOST, NONE, &c->D));
    LQ_TRY(lq_json_size(json, where, "intermediate_size", 1, MOST, NONE, &c->F));
    LQ_TRY(lq_json_size(json, where, "num_hidden_layers", 1, 4096, NONE, &c->L));
    LQ_TRY(lq_json_size(json, where, "num_attention_heads", 1, 65536, NONE, &c->H));
    LQ_TRY(lq_json_size(json, where, "num_key_value_heads", 1, 65536, c->H, &c->Hkv));
    LQ_TRY(lq_json_size(json, where, "vocab_size", 1, MOST, NONE, &c->V));
    LQ_TRY(lq_json_size(json, where, "max_position_embeddings", 1, MOST, 2048, &c->max_positions));
    LQ_TRY(lq_json_size(json, where, "head_dim", 2, 65536, c->H > 0 ? c->D / c->H : 0, &c->dh));
    if (c->D == 0 || c->F == 0 || c->L == 0 || c->H == 0 || c->V == 0)
        return lq_fail(LQ_E_FORMAT,
                       "%s: hidden_size, intermediate_size, num_hidden_layers, "
                       "num_attention_heads and vocab_size are all required",
                       where);
    if (c->dh == 0 || c->dh % 2 != 0 || c->Hkv == 0 || c->H % c->Hkv != 0)
        return lq_fail(LQ_E_FORMAT, "%s: %zu heads of %zu over %zu key/value heads do not fit",
                       where, c->H, c->dh, c->Hkv);
    return LQ_OK;
}

lq_status lq_config_of_json(const lq_json *json, const char *where, lq_config *out)
{
    memset(out, 0, sizeof *out);
    LQ_TRY(read_arch(json, where, &out->arch));
    LQ_TRY(read_sizes(json, where, out));
    LQ_TRY(read_rope(json, where, &out->rope_theta));
    LQ_TRY(lq_json_real(json, where, "rms_norm_eps", 0, 1, 1e-6, &out->eps));
    LQ_TRY(lq_json_bool(json, where, "tie_word_embeddings", false, &out->tied));
    LQ_TRY(refuse(json, where, "hidden_act", "silu"));
    LQ_TRY(refuse(json, where, "attention_bias", NULL));
    LQ_TRY(refuse(json, where, "mlp_bias", NULL));
    LQ_TRY(refuse(json, where, "use_sliding_window", NULL));
    LQ_TRY(refuse(json, where, "quantization_config", NULL));
    out->qk_norm = out->arch == LQ_ARCH_QWEN3;
    out->qkv_bias = out->arch == LQ_ARCH_QWEN2;
    return LQ_OK;
}

lq_status lq_config_read(const char *path, lq_config *out)
{
    lq_json *json;
    LQ_TRY(lq_json_read(path, &json));
    lq_status status = lq_config_of_json(json, path, out);
    lq_json_free(json);
    return status;
}

lq_json *lq_config_to_json(const lq_config *c)
{
    lq_json *json = lq_json_object();
    lq_json *classes = lq_json_array();
    lq_json_append(classes, lq_json_of_string(class_name[c->arch]));
    lq_json_set(json, "architectures", classes);
    lq_json_set_string(json, "model_type", arch_name[c->arch]);
    lq_json_set_number(json, "hidden_size", (double)c->D);
    lq_json_set_number(json, "intermediate_size", (double)c->F);
    lq_json_set_number(json, "num_hidden_layers", (double)c->L);
    lq_json_set_number(json, "num_attention_heads", (double)c->H);
    lq_json_set_number(json, "num_key_value_heads", (double)c->Hkv);
    lq_json_set_number(json, "head_dim", (double)c->dh);
    lq_json_set_number(json, "vocab_size", (double)c->V);
    lq_json_set_number(json, "max_position_embeddings", (double)c->max_positions);
    lq_json_set_number(json, "rms_norm_eps", c->eps);
    lq_json_set_number(json, "rope_theta", c->rope_theta);
    lq_json_set_string(json, "hidden_act", "silu");
    lq_json_set_bool(json, "tie_word_embeddings", c->tied);
    lq_json_set_string(json, "torch_dtype", "bfloat16");
    return json;
}
