#include "core/model/config.h"

#include "core/base/file.h"
#include "core/model/config_parts.h"

#include <string.h>

/* model_type in config.json, class name, in the order of lq_arch. */
static const char *const arch_name[] = {"llama", "qwen2", "qwen3"};
static const char *const class_name[] = {"LlamaForCausalLM", "Qwen2ForCausalLM",
                                         "Qwen3ForCausalLM"};
enum { N_ARCH = sizeof arch_name / sizeof arch_name[0], QWEN3_HEAD_WIDTH = 128 };

const char *lq_arch_name(lq_arch arch) { return arch_name[arch]; }

/* The class of the model, when the file states one. */
static const char *class_of(const lq_json *json)
{
    return lq_json_string(lq_json_at(lq_json_get(json, "architectures"), 0));
}

/* model_type; the class where that is missing. */
static lq_status read_arch(const lq_json *json, const char *where, lq_arch *out)
{
    const char *type, *class = class_of(json);
    LQ_TRY(lq_json_text(json, where, "model_type", "", &type));
    for (size_t i = 0; type[0] == '\0' && class != NULL && i < N_ARCH; i++)
        if (strcmp(class, class_name[i]) == 0)
            type = arch_name[i];
    return lq_arch_find(type, where, "model_type", out);
}

/* A model with another head (for classification, for embeddings) has other weights and no logits. */
static lq_status check_class(const lq_json *json, const char *where, lq_arch arch)
{
    const char *class = class_of(json);
    if (class == NULL || strcmp(class, class_name[arch]) == 0)
        return LQ_OK;
    return lq_fail(LQ_E_FORMAT,
                   "%s: architectures: '%.80s' is not computed; %s of model_type %s is", where,
                   class, class_name[arch], arch_name[arch]);
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
    return lq_fail(LQ_E_FORMAT, "%s: %s has a value that this version does not compute%s%s", where,
                   key, allowed ? "; it computes " : "", allowed ? allowed : "");
}

/* ---- Rotary embedding -------------------------------------------------------------------------- */

static lq_status read_llama3(const lq_json *rope, const char *where, lq_rope_scaling *s)
{
    s->kind = LQ_ROPE_LLAMA3;
    LQ_TRY(lq_json_real(rope, where, "low_freq_factor", 1e-6, 1e6, 0, &s->low));
    LQ_TRY(lq_json_real(rope, where, "high_freq_factor", 1e-6, 1e6, 0, &s->high));
    LQ_TRY(lq_json_real(rope, where, "original_max_position_embeddings", 1, 1e9, 0, &s->original));
    if (s->factor == 0 || s->low == 0 || s->original == 0 || s->high <= s->low)
        return lq_fail(LQ_E_FORMAT,
                       "%s: llama3 rope scaling needs factor, low_freq_factor < high_freq_factor, "
                       "original_max_position_embeddings",
                       where);
    return LQ_OK;
}

/* transformers, _compute_yarn_parameters, whose defaults these are. */
static lq_status read_yarn(const lq_json *rope, const char *where, lq_config *c)
{
    lq_rope_scaling *s = &c->rope;
    double mscale, mscale_all;
    bool truncate;
    s->kind = LQ_ROPE_YARN;
    LQ_TRY(lq_json_real(rope, where, "beta_fast", 1e-6, 1e6, 32, &s->high));
    LQ_TRY(lq_json_real(rope, where, "beta_slow", 1e-6, 1e6, 1, &s->low));
    LQ_TRY(lq_json_real(rope, where, "original_max_position_embeddings", 1, 1e9,
                        (double)c->max_positions, &s->original));
    LQ_TRY(lq_json_real(rope, where, "mscale", 0, 1e6, 0, &mscale));
    LQ_TRY(lq_json_real(rope, where, "mscale_all_dim", 0, 1e6, 0, &mscale_all));
    LQ_TRY(lq_json_bool(rope, where, "truncate", true, &truncate));
    s->between = !truncate;
    if (s->factor == 0 || s->low > s->high || c->rope_theta <= 1)
        return lq_fail(LQ_E_FORMAT,
                       "%s: yarn rope scaling needs factor, beta_slow <= beta_fast, rope_theta > 1",
                       where);
    return lq_json_real(rope, where, "attention_factor", 1e-6, 1e6,
                        lq_rope_yarn_gain(s->factor, mscale, mscale_all), &s->gain);
}

/* Keys that only one type of scaling has. */
static lq_status check_rope_keys(const lq_json *rope, const char *where, const char *type)
{
    if (strcmp(type, "yarn") == 0)
        return lq_json_only_keys(rope, where, "rope_type", "type", "factor",
                                 "original_max_position_embeddings", "rope_theta",
                                 "partial_rotary_factor", "beta_fast", "beta_slow", "mscale",
                                 "mscale_all_dim", "truncate", "attention_factor", NULL);
    return lq_json_only_keys(rope, where, "rope_type", "type", "factor", "low_freq_factor",
                             "high_freq_factor", "original_max_position_embeddings", "rope_theta",
                             "partial_rotary_factor", NULL);
}

/* One of the two objects: {"rope_type" or, older, "type", the numbers of that type, "rope_theta"}. */
static lq_status read_rope_object(const lq_json *rope, const char *where, lq_config *c)
{
    const char *type, *older;
    LQ_TRY(lq_json_text(rope, where, "type", "default", &older));
    LQ_TRY(lq_json_text(rope, where, "rope_type", older, &type));
    LQ_TRY(check_rope_keys(rope, where, type));
    LQ_TRY(lq_json_real(rope, where, "rope_theta", 1, 1e12, c->rope_theta, &c->rope_theta));
    LQ_TRY(lq_json_real(rope, where, "factor", 1, 1e6, 0, &c->rope.factor));
    if (strcmp(type, "default") == 0) {
        c->rope = (lq_rope_scaling){.kind = LQ_ROPE_PLAIN};
        return LQ_OK;
    }
    if (strcmp(type, "llama3") == 0)
        return read_llama3(rope, where, &c->rope);
    if (strcmp(type, "yarn") == 0)
        return read_yarn(rope, where, c);
    if (strcmp(type, "linear") != 0)
        return lq_fail(
            LQ_E_FORMAT,
            "%s: rope scaling of type '%.40s' is not computed; default linear llama3 yarn are",
            where, type);
    c->rope.kind = LQ_ROPE_LINEAR;
    return c->rope.factor != 0
               ? LQ_OK
               : lq_fail(LQ_E_FORMAT, "%s: linear rope scaling needs factor", where);
}

static bool whole_rotary(const lq_json *object)
{
    const lq_json *part = lq_json_get(object, "partial_rotary_factor");
    return part == NULL || lq_json_type(part) == LQ_JSON_NULL || lq_json_number(part) == 1.0;
}

/* Both forms: rope_theta beside rope_scaling, and the newer object rope_parameters, which wins. */
static lq_status read_rope(const lq_json *json, const char *where, lq_config *c)
{
    static const char *const places[] = {"rope_scaling", "rope_parameters"};
    LQ_TRY(lq_json_real(json, where, "rope_theta", 1, 1e12, 10000, &c->rope_theta));
    bool whole = whole_rotary(json);
    for (size_t i = 0; i < 2; i++) {
        const lq_json *rope = lq_json_get(json, places[i]);
        if (rope == NULL)
            continue;
        if (lq_json_type(rope) != LQ_JSON_OBJECT)
            return lq_fail(LQ_E_FORMAT, "%s: %s is no object", where, places[i]);
        LQ_TRY(read_rope_object(rope, where, c));
        whole = whole && whole_rotary(rope);
    }
    if (!whole)
        return lq_fail(LQ_E_FORMAT, "%s: partial_rotary_factor: only 1 is computed", where);
    return LQ_OK;
}

/* ---- Attention --------------------------------------------------------------------------------- */

/* Whether a layer attends to a window. Qwen: with use_sliding_window, the layers from max_window_layers
 * on; layer_types, where it stands, says it layer by layer. Llama has none, and no key for it. */
static lq_status refuse_windows(const lq_json *json, const char *where, const lq_config *c)
{
    size_t first;
    bool used;
    const lq_json *types = lq_json_get(json, "layer_types");
    LQ_TRY(lq_json_bool(json, where, "use_sliding_window", false, &used));
    LQ_TRY(lq_json_size(json, where, "max_window_layers", 0, 1 << 20, 0, &first));
    if (used && first < c->L)
        return lq_fail(LQ_E_FORMAT, "%s: use_sliding_window: attention to a window is not computed",
                       where);
    if (c->arch == LQ_ARCH_LLAMA && lq_json_get(json, "sliding_window") != NULL)
        return lq_fail(LQ_E_FORMAT, "%s: sliding_window: attention to a window is not computed",
                       where);
    for (size_t i = 0; i < lq_json_count(types); i++) {
        const char *type = lq_json_string(lq_json_at(types, i));
        if (type == NULL || strcmp(type, "full_attention") != 0)
            return lq_fail(LQ_E_FORMAT,
                           "%s: layer_types: '%.40s' is not computed; full_attention is", where,
                           type ? type : "what is no string");
    }
    return LQ_OK;
}

static lq_status read_head_width(const lq_json *json, const char *where, lq_config *c)
{
    const size_t fallback = c->arch == LQ_ARCH_QWEN3 ? QWEN3_HEAD_WIDTH : c->D / c->H;
    LQ_TRY(lq_json_size(json, where, "head_dim", 2, 65536, fallback, &c->dh));
    if (lq_json_get(json, "head_dim") == NULL && c->arch != LQ_ARCH_QWEN3 && c->D % c->H != 0)
        return lq_fail(LQ_E_FORMAT,
                       "%s: %zu heads do not divide the width %zu, and head_dim is "
                       "missing",
                       where, c->H, c->D);
    if (c->dh == 0 || c->dh % 2 != 0 || c->Hkv == 0 || c->H % c->Hkv != 0)
        return lq_fail(LQ_E_FORMAT, "%s: %zu heads of %zu over %zu key/value heads do not fit",
                       where, c->H, c->dh, c->Hkv);
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
    if (c->D == 0 || c->F == 0 || c->L == 0 || c->H == 0 || c->V == 0)
        return lq_fail(LQ_E_FORMAT,
                       "%s: hidden_size, intermediate_size, num_hidden_layers, "
                       "num_attention_heads and vocab_size are all required",
                       where);
    return read_head_width(json, where, c);
}

/* Qwen2's q, k and v have biases, and nothing else, whatever it says; only a Llama's MLP may have any. */
static lq_status read_biases(const lq_json *json, const char *where, lq_config *c)
{
    bool attention;
    LQ_TRY(lq_json_bool(json, where, "attention_bias", false, &attention));
    c->qkv_bias = attention || c->arch == LQ_ARCH_QWEN2;
    c->o_bias = attention && c->arch != LQ_ARCH_QWEN2;
    if (c->arch != LQ_ARCH_LLAMA)
        return refuse(json, where, "mlp_bias", NULL);
    return lq_json_bool(json, where, "mlp_bias", false, &c->mlp_bias);
}

/* json without nulls, which stand for absent keys. */
static lq_status read_all(const lq_json *json, const char *where, lq_config *out)
{
    LQ_TRY(read_arch(json, where, &out->arch));
    LQ_TRY(read_sizes(json, where, out));
    LQ_TRY(read_rope(json, where, out));
    LQ_TRY(lq_json_real(json, where, "rms_norm_eps", 0, 1, 1e-6, &out->eps));
    LQ_TRY(lq_json_bool(json, where, "tie_word_embeddings", false, &out->tied));
    LQ_TRY(refuse(json, where, "hidden_act", "silu"));
    LQ_TRY(read_biases(json, where, out));
    LQ_TRY(refuse(json, where, "rope_interleaved", NULL));
    LQ_TRY(refuse(json, where, "use_mrope", NULL));
    LQ_TRY(refuse(json, where, "quantization_config", NULL));
    out->qk_norm = out->arch == LQ_ARCH_QWEN3;
    return refuse_windows(json, where, out);
}

lq_status lq_config_of_json(const lq_json *json, const char *where, lq_config *out)
{
    memset(out, 0, sizeof *out);
    if (lq_json_type(json) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_FORMAT, "%s: the config is no object", where);
    lq_json *plain = lq_json_object();
    lq_status status = LQ_OK;
    for (const lq_json *m = lq_json_first(json); m != NULL && status == LQ_OK;
         m = lq_json_next(m)) {
        lq_json *copy = lq_json_type(m) != LQ_JSON_NULL ? lq_json_copy(m) : NULL;
        if (copy != NULL)
            lq_json_set(plain, lq_json_key(m), copy);
        else if (lq_json_type(m) != LQ_JSON_NULL)
            status = lq_fail(LQ_E_MEMORY, "%s: out of memory", where);
    }
    if (status == LQ_OK)
        status = read_all(plain, where, out);
    lq_json_free(plain);
    return status;
}

lq_status lq_config_read(const char *path, lq_arena *arena, lq_config *out)
{
    char *text;
    size_t bytes;
    lq_json *json;
    LQ_TRY(lq_file_read(path, arena, &text, &bytes));
    LQ_TRY(lq_json_parse(text, bytes, path, &json));
    lq_status status = lq_config_of_json(json, path, out);
    if (status == LQ_OK)
        status = check_class(json, path, out->arch);
    if (status == LQ_OK)
        status = lq_config_check_keys(json, path);
    lq_json_free(json);
    out->source = text;
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------- */

static lq_json *rope_to_json(const lq_rope_scaling *s)
{
    lq_json *rope = lq_json_object();
    static const char *const name[] = {
        [LQ_ROPE_LINEAR] = "linear", [LQ_ROPE_LLAMA3] = "llama3", [LQ_ROPE_YARN] = "yarn"};
    const char *type = name[s->kind];
    lq_json_set_string(rope, "rope_type", type);
    lq_json_set_string(rope, "type", type); /* as older readers have it */
    lq_json_set_number(rope, "factor", s->factor);
    if (s->kind == LQ_ROPE_LLAMA3) {
        lq_json_set_number(rope, "low_freq_factor", s->low);
        lq_json_set_number(rope, "high_freq_factor", s->high);
        lq_json_set_number(rope, "original_max_position_embeddings", s->original);
    }
    if (s->kind == LQ_ROPE_YARN) {
        lq_json_set_number(rope, "beta_slow", s->low);
        lq_json_set_number(rope, "beta_fast", s->high);
        lq_json_set_number(rope, "original_max_position_embeddings", s->original);
        lq_json_set_bool(rope, "truncate", !s->between);
        lq_json_set_number(rope, "attention_factor", s->gain);
    }
    return rope;
}

lq_json *lq_config_to_json(const lq_config *c)
{
    lq_json *json = NULL;
    if (c->source != NULL && lq_json_parse(c->source, strlen(c->source), "config", &json) == LQ_OK)
        return json;
    json = lq_json_object();
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
    if (c->rope.kind != LQ_ROPE_PLAIN)
        lq_json_set(json, "rope_scaling", rope_to_json(&c->rope));
    lq_json_set_string(json, "hidden_act", "silu");
    if (c->o_bias)
        lq_json_set_bool(json, "attention_bias", true);
    if (c->mlp_bias)
        lq_json_set_bool(json, "mlp_bias", true);
    lq_json_set_bool(json, "tie_word_embeddings", c->tied);
    lq_json_set_string(json, "torch_dtype", "bfloat16");
    return json;
}
