/* Weights of a GGUF file: names, sizes and rotary order of llama.cpp to ours. Layout: docs/formats.md. */
#include "core/data/gguf.h"
#include "core/model/weights_parts.h"

#include <string.h>

/* After "blk.N.". */
static const char *const layer_name[LQ_N_LAYER_TENSORS] = {
    [LQ_Q] = "attn_q.weight",           [LQ_K] = "attn_k.weight",
    [LQ_V] = "attn_v.weight",           [LQ_O] = "attn_output.weight",
    [LQ_GATE] = "ffn_gate.weight",      [LQ_UP] = "ffn_up.weight",
    [LQ_DOWN] = "ffn_down.weight",      [LQ_INPUT_NORM] = "attn_norm.weight",
    [LQ_POST_NORM] = "ffn_norm.weight", [LQ_Q_NORM] = "attn_q_norm.weight",
    [LQ_K_NORM] = "attn_k_norm.weight", [LQ_Q_BIAS] = "attn_q.bias",
    [LQ_K_BIAS] = "attn_k.bias",        [LQ_V_BIAS] = "attn_v.bias",
    [LQ_O_BIAS] = "attn_output.bias",   [LQ_GATE_BIAS] = "ffn_gate.bias",
    [LQ_UP_BIAS] = "ffn_up.bias",       [LQ_DOWN_BIAS] = "ffn_down.bias",
};
static const char embed_name[] = "token_embd.weight", head_name[] = "output.weight",
                  norm_name[] = "output_norm.weight", rope_name[] = "rope_freqs.weight";

static const char *their_name(const lq_weight *t, lq_arena *arena)
{
    if (t->layer != SIZE_MAX)
        return lq_arena_printf(arena, "blk.%zu.%s", t->layer, layer_name[t->id]);
    return t->kind == LQ_WEIGHT_EMBED  ? embed_name
           : t->kind == LQ_WEIGHT_HEAD ? head_name
                                       : norm_name;
}

/* ---- Metadata ---------------------------------------------------------------------------------- */

typedef struct reader {
    const lq_gguf *file;
    lq_arena *arena;
    const char *arch; /* the prefix of its keys */
    lq_config c;
} reader;

static const char *key(const reader *r, const char *rest)
{
    return lq_arena_printf(r->arena, "%s.%s", r->arch, rest);
}

static lq_status take_size(const reader *r, const char *rest, size_t most, size_t fallback,
                           size_t *out)
{
    LQ_TRY(lq_gguf_size(r->file, key(r, rest), 1, most, fallback, out));
    return *out > 0 ? LQ_OK
                    : lq_fail(LQ_E_MISSING, "%s: %s is missing", r->file->path, key(r, rest));
}

/* `rest` is absent or says `want`: the only value that is computed. */
static lq_status expect_size(const reader *r, const char *rest, size_t want)
{
    size_t value;
    LQ_TRY(lq_gguf_size(r->file, key(r, rest), 0, SIZE_MAX, want, &value));
    return value == want ? LQ_OK
                         : lq_fail(LQ_E_FORMAT, "%s: %s is %zu; only %zu is computed",
                                   r->file->path, key(r, rest), value, want);
}

/* Keys of the architecture: all that could change the forward pass are read or refused. */
static lq_status refuse_unknown_keys(const reader *r)
{
    static const char *const known[] = {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_epsilon",
        "attention.layer_norm_rms_epsilon",
        "attention.sliding_window",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "expert_count",
        "expert_used_count",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scale_linear",
        "rope.scaling.factor",
        "rope.scaling.finetuned",
        "rope.scaling.original_context_length",
        "rope.scaling.type",
        "tensor_data_layout",
        "use_parallel_residual",
        "vocab_size",
    };
    const size_t n = strlen(r->arch);
    for (size_t i = 0; i < r->file->n_values; i++) {
        const char *name = r->file->value[i].key;
        bool fine = strncmp(name, r->arch, n) != 0 || name[n] != '.';
        for (size_t k = 0; k < sizeof known / sizeof known[0] && !fine; k++)
            fine = strcmp(name + n + 1, known[k]) == 0;
        if (!fine)
            return lq_fail(LQ_E_FORMAT, "%s: key %.200s is unknown and may change the forward pass",
                           r->file->path, name);
    }
    return LQ_OK;
}

/* Scaling by metadata or, as llama3's is stored, by a tensor of divisors, which wins. */
static lq_status read_rope(reader *r)
{
    lq_rope_scaling *s = &r->c.rope;
    const lq_gguf_tensor *divisors = lq_gguf_tensor_find(r->file, rope_name);
    const char *type;
    LQ_TRY(lq_gguf_real(r->file, key(r, "rope.freq_base"), 1, 1e12, 10000, &r->c.rope_theta));
    LQ_TRY(lq_gguf_real(r->file, key(r, "rope.scale_linear"), 1, 1e6, 0, &s->factor));
    const char *fallback = s->factor > 0 ? "linear" : "none";
    LQ_TRY(lq_gguf_text(r->file, key(r, "rope.scaling.type"), fallback, r->arena, &type));
    LQ_TRY(lq_gguf_real(r->file, key(r, "rope.scaling.factor"), 0, 1e6, s->factor, &s->factor));
    if (divisors != NULL) {
        float *row;
        if (divisors->rows != 1 || divisors->cols != r->c.dh / 2)
            return lq_fail(LQ_E_SHAPE, "%s: %s does not hold %zu values", r->file->path, rope_name,
                           r->c.dh / 2);
        LQ_TRY(lq_arena_new(r->arena, &row, divisors->cols));
        lq_gguf_row(divisors, 0, row);
        if (lq_rope_of_divisors(row, r->c.rope_theta, r->c.dh, s) != LQ_OK)
            return lq_fail(LQ_E_FORMAT, "%s: %s is neither linear nor llama3 scaling",
                           r->file->path, rope_name);
        return LQ_OK;
    }
    if (strcmp(type, "none") == 0 || (strcmp(type, "linear") == 0 && s->factor <= 1)) {
        *s = (lq_rope_scaling){.kind = LQ_ROPE_PLAIN}; /* a factor of 0 or 1 means none */
        return LQ_OK;
    }
    if (strcmp(type, "linear") != 0)
        return lq_fail(LQ_E_FORMAT, "%s: %s '%.40s' is not computed; none and linear are",
                       r->file->path, key(r, "rope.scaling.type"), type);
    s->kind = LQ_ROPE_LINEAR;
    return LQ_OK;
}

static lq_status read_heads(reader *r)
{
    lq_config *c = &r->c;
    LQ_TRY(take_size(r, "attention.head_count", 65536, 0, &c->H));
    LQ_TRY(take_size(r, "attention.head_count_kv", 65536, c->H, &c->Hkv));
    LQ_TRY(take_size(r, "attention.key_length", 65536, c->D / c->H, &c->dh));
    if (c->dh % 2 != 0 || c->H % c->Hkv != 0)
        return lq_fail(LQ_E_FORMAT, "%s: %zu heads of %zu over %zu key/value heads do not fit",
                       r->file->path, c->H, c->dh, c->Hkv);
    LQ_TRY(expect_size(r, "attention.value_length", c->dh));
    LQ_TRY(expect_size(r, "rope.dimension_count", c->dh));
    LQ_TRY(expect_size(r, "attention.sliding_window", 0));
    return expect_size(r, "expert_count", 0);
}

/* No key says whether there are biases: those of the first block do. */
static void read_biases(reader *r)
{
    lq_config *c = &r->c;
    const bool attention = lq_gguf_tensor_find(r->file, "blk.0.attn_q.bias") != NULL;
    c->qkv_bias = attention || c->arch == LQ_ARCH_QWEN2;
    c->o_bias = attention && c->arch != LQ_ARCH_QWEN2;
    c->mlp_bias =
        c->arch == LQ_ARCH_LLAMA && lq_gguf_tensor_find(r->file, "blk.0.ffn_gate.bias") != NULL;
}

static lq_status read_config(reader *r)
{
    enum { MOST = 1 << 24 };
    lq_config *c = &r->c;
    const char *file = r->file->path, *type;
    size_t parts;
    LQ_TRY(lq_gguf_text(r->file, "general.type", "model", r->arena, &type));
    LQ_TRY(lq_gguf_size(r->file, "split.count", 0, SIZE_MAX, 1, &parts));
    if (strcmp(type, "model") != 0)
        return lq_fail(LQ_E_FORMAT, "%s: general.type is '%.40s', not model", file, type);
    if (parts > 1)
        return lq_fail(LQ_E_UNAVAILABLE,
                       "%s: one of %zu parts; join them with `llama-gguf-split --merge`", file,
                       parts);
    LQ_TRY(lq_gguf_text(r->file, "general.architecture", NULL, r->arena, &r->arch));
    LQ_TRY(lq_arch_find(r->arch, file, "general.architecture", &c->arch));
    LQ_TRY(refuse_unknown_keys(r));
    const lq_gguf_tensor *embed = lq_gguf_tensor_find(r->file, embed_name);
    if (embed == NULL)
        return lq_fail(LQ_E_MISSING, "%s: tensor %s is missing%s", file, embed_name,
                       r->file->n_tensors == 0 ? "; the file is a vocabulary, no model" : "");
    LQ_TRY(take_size(r, "embedding_length", MOST, 0, &c->D));
    LQ_TRY(take_size(r, "feed_forward_length", MOST, 0, &c->F));
    LQ_TRY(take_size(r, "block_count", 4096, 0, &c->L));
    LQ_TRY(take_size(r, "context_length", MOST, 2048, &c->max_positions));
    LQ_TRY(take_size(r, "vocab_size", MOST, embed->rows, &c->V));
    LQ_TRY(read_heads(r));
    LQ_TRY(read_rope(r));
    LQ_TRY(lq_gguf_real(r->file, key(r, "attention.layer_norm_rms_epsilon"), 0, 1, -1, &c->eps));
    if (c->eps < 0)
        return lq_fail(LQ_E_MISSING, "%s: %s is missing", file,
                       key(r, "attention.layer_norm_rms_epsilon"));
    c->tied = lq_gguf_tensor_find(r->file, head_name) == NULL;
    c->qk_norm = c->arch == LQ_ARCH_QWEN3;
    read_biases(r);
    return LQ_OK;
}

/* What the file says of its special tokens, for those who read the config of an export. */
static lq_status keep_token_ids(reader *r)
{
    static const char *const ids[][2] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                                         {"tokenizer.ggml.eos_token_id", "eos_token_id"}};
    lq_json *json = lq_config_to_json(&r->c);
    lq_status status = LQ_OK;
    for (size_t i = 0; i < 2 && status == LQ_OK; i++) {
        size_t id;
        status = lq_gguf_size(r->file, ids[i][0], 0, UINT32_MAX, SIZE_MAX, &id);
        if (status == LQ_OK && id != SIZE_MAX)
            lq_json_set_number(json, ids[i][1], (double)id);
    }
    r->c.source = lq_json_pretty(json, r->arena);
    lq_json_free(json);
    return status;
}

/* ---- Tensors ----------------------------------------------------------------------------------- */

static lq_status check_tensors(const reader *r, const lq_weights *w, const lq_gguf_tensor **found)
{
    size_t n_read = lq_gguf_tensor_find(r->file, rope_name) != NULL;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        const char *name = their_name(t, r->arena);
        found[i] = lq_gguf_tensor_find(r->file, name);
        if (found[i] == NULL)
            return lq_fail(LQ_E_MISSING, "%s: tensor %s is missing", r->file->path, name);
        if (found[i]->rows != t->rows || found[i]->cols != t->cols)
            return lq_fail(
                LQ_E_SHAPE,
                "%s: tensor %s holds %zu rows of %zu, not %zu of %zu as its metadata say",
                r->file->path, name, found[i]->rows, found[i]->cols, t->rows, t->cols);
        n_read++;
    }
    if (n_read == r->file->n_tensors)
        return LQ_OK;
    for (size_t i = 0; i < r->file->n_tensors; i++) { /* somewhere is one that nobody asked for */
        const lq_gguf_tensor *t = &r->file->tensor[i];
        bool known = strcmp(t->name, rope_name) == 0;
        for (size_t j = 0; j < w->n_tensors && !known; j++)
            known = found[j] == t;
        if (!known)
            return lq_fail(LQ_E_FORMAT, "%s: tensor %s does not belong to a %s model",
                           r->file->path, t->name, r->arch);
    }
    return LQ_OK;
}

/* The rows of q and k of a Llama, and their biases, stand in the order of adjacent rotary pairs; all else as
 * it is. */
static lq_status copy_tensor(const lq_weights *w, const lq_weight *to, const lq_gguf_tensor *from,
                             lq_arena *arena)
{
    const size_t dh = w->config.dh;
    const bool llama = w->config.arch == LQ_ARCH_LLAMA && to->layer != SIZE_MAX;
    const bool pairs = llama && (to->id == LQ_Q || to->id == LQ_K);
    if (llama && (to->id == LQ_Q_BIAS || to->id == LQ_K_BIAS)) {
        float *bias;
        LQ_TRY(lq_arena_new(arena, &bias, to->cols));
        lq_gguf_row(from, 0, bias);
        for (size_t i = 0; i < to->cols; i++)
            to->data[lq_rotate_half_row(i, dh)] = bias[i];
        return LQ_OK;
    }
    for (size_t row = 0; row < to->rows; row++)
        lq_gguf_row(from, row, to->data + (pairs ? lq_rotate_half_row(row, dh) : row) * to->cols);
    return LQ_OK;
}

static lq_status load(const lq_gguf *file, lq_arena *arena, lq_weights *out)
{
    reader r = {.file = file, .arena = arena};
    const lq_gguf_tensor **found;
    LQ_TRY(read_config(&r));
    LQ_TRY(keep_token_ids(&r));
    LQ_TRY(lq_weights_list(&r.c, arena, out));
    LQ_TRY(lq_arena_new(arena, &found, out->n_tensors));
    LQ_TRY(check_tensors(&r, out, found));
    LQ_TRY(lq_weights_place(out, arena));
    for (size_t i = 0; i < out->n_tensors; i++)
        LQ_TRY(copy_tensor(out, &out->tensor[i], found[i], arena));
    return LQ_OK;
}

lq_status lq_weights_load_gguf(const char *path, lq_arena *arena, lq_weights *out)
{
    lq_gguf file;
    LQ_TRY(lq_gguf_open(path, arena, &file));
    const lq_status status = load(&file, arena, out);
    lq_gguf_close(&file);
    return status;
}
