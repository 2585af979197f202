/* Which keys of config.json may stand there, and which architectures have a name. */
#include "core/model/config.h"

#include "core/model/config_parts.h"

#include <string.h>

/* What the computation follows from: read, or refused by value, in config.c. */
static const char *const read_keys[] = {
    "architectures",
    "attention_bias",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_window_layers",
    "max_position_embeddings",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "partial_rotary_factor",
    "quantization_config",
    "rms_norm_eps",
    "rope_interleaved",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_mrope",
    "use_sliding_window",
    "vocab_size",
};

/* What changes no logit: text, bookkeeping, dropout, defaults of sampling. */
static const char *const ignored_keys[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "add_cross_attention",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "max_sequence_length",
    "min_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
};

static bool one_of(const char *key, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(key, list[i]) == 0)
            return true;
    return false;
}
#define ONE_OF(key, list) one_of((key), (list), sizeof(list) / sizeof(list)[0])

lq_status lq_config_check_keys(const lq_json *json, const char *where)
{
    for (const lq_json *m = lq_json_first(json); m != NULL; m = lq_json_next(m)) {
        const char *key = lq_json_key(m);
        if (!ONE_OF(key, read_keys) && !ONE_OF(key, ignored_keys) &&
            lq_json_type(m) != LQ_JSON_NULL)
            return lq_fail(LQ_E_FORMAT,
                           "%s: key %.100s is unknown and may change the forward pass; take it out "
                           "if it does not",
                           where, key);
    }
    return LQ_OK;
}

/* Models that users are likely to bring, and what in them is not computed. */
static const struct {
    const char *type, *what;
} others[] = {
    {"mistral", "sliding-window attention in its first releases"},
    {"mixtral", "experts"},
    {"phi3", "fused projections, partial rotary embedding"},
    {"phi", "LayerNorm, parallel blocks, partial rotary embedding"},
    {"olmo", "LayerNorm without weights"},
    {"olmo2", "norms after attention and feed-forward, norms over all of q and k"},
    {"qwen2_moe", "experts"},
    {"qwen3_moe", "experts"},
    {"qwen3_next", "linear attention, experts"},
    {"qwen2_vl", "images, sections of the rotary embedding"},
    {"qwen2_5_vl", "images, sections of the rotary embedding"},
    {"gpt2", "LayerNorm, learned positions, fused qkv with biases"},
    {"gptj", "LayerNorm, parallel blocks"},
    {"gpt_neox", "LayerNorm, parallel blocks, partial rotary embedding"},
    {"gpt_oss", "experts, attention sinks"},
    {"bitnet", "norms before o_proj and down_proj, squared ReLU"},
    {"falcon", "LayerNorm, parallel blocks"},
    {"gemma", "norms with 1 + weight, GELU, a scale on the embedding"},
    {"gemma2", "norms with 1 + weight, soft caps, windows"},
    {"gemma3", "norms with 1 + weight, windows"},
    {"gemma3_text", "norms with 1 + weight, windows"},
    {"granite", "scales on embedding, residuals, attention and logits"},
    {"smollm3", "layers without rotary embedding"},
    {"llama4", "experts, layers without rotary embedding"},
    {"cohere", "LayerNorm, parallel blocks"},
    {"stablelm", "LayerNorm, partial rotary embedding"},
    {"starcoder2", "LayerNorm, biases"},
    {"deepseek_v2", "latent attention, experts"},
    {"deepseek_v3", "latent attention, experts"},
    {"mamba", "no attention"},
};

lq_status lq_arch_find(const char *type, const char *where, const char *key, lq_arch *out)
{
    for (int i = LQ_ARCH_LLAMA; i <= (int)LQ_ARCH_QWEN3; i++) {
        *out = (lq_arch)i;
        if (strcmp(type, lq_arch_name(*out)) == 0)
            return LQ_OK;
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(type, others[i].type) == 0)
            return lq_fail(LQ_E_FORMAT,
                           "%s: %s '%s' is not computed (%s); computed are llama qwen2 qwen3",
                           where, key, type, others[i].what);
    return lq_fail(LQ_E_FORMAT, "%s: %s '%.60s' is not known; computed are llama qwen2 qwen3",
                   where, key, type);
}
