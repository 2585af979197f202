#include "core/base/file.h"
#include "core/data/safetensors.h"
#include "core/math/kernels.h"
#include "core/quant/hadamard.h"
#include "core/train/official.h"
#include "core/train/official_parts.h"

#include <math.h>
#include <string.h>

/* ---- What the layout can hold ------------------------------------------------------------------ */

const char *lq_official_name(const lq_weight *linear, const char *suffix, lq_arena *arena)
{
    const int stem = (int)(strlen(linear->name) - strlen(".weight"));
    return lq_arena_printf(arena, "%.*s%s", stem, linear->name, suffix);
}

static float *slot_of(const lq_theta *th, const char *name, size_t values)
{
    const size_t i = lq_theta_find(th, name);
    if (i == SIZE_MAX || th->slot[i].kind != LQ_KIND_CONTINUOUS ||
        th->slot[i].rows * th->slot[i].cols != values)
        return NULL;
    return th->data[i];
}

lq_status lq_official_theta_of(const lq_theta *th, const char *name, lq_official_theta *out)
{
    *out = (lq_official_theta){.u = slot_of(th, "u", th->out * th->in),
                               .su = slot_of(th, "su", th->in),
                               .sv = slot_of(th, "sv", th->out),
                               .affine = slot_of(th, "affine", 2)};
    if (out->u == NULL || out->su == NULL || out->sv == NULL || out->affine == NULL)
        return lq_fail(LQ_E_OPTION,
                       "%s: the unisvq layout holds codes, SU, SV, one scale and one offset a "
                       "matrix; %s has other parameters",
                       name, th->method->name);
    if (th->out % LQ_OFFICIAL_BLOCK != 0 || th->in % LQ_OFFICIAL_BLOCK != 0)
        return lq_fail(LQ_E_OPTION,
                       "%s is (%zu,%zu): the unisvq layout transforms blocks of %d, both sides "
                       "must be multiples",
                       name, th->out, th->in, LQ_OFFICIAL_BLOCK);
    return LQ_OK;
}

/* The largest difference between theta's effective weight and the layout's decode, over the largest
 * weight. */
static double disagreement(const lq_theta *th, const lq_official_theta *o, lq_arena *scratch)
{
    const size_t n = th->out * th->in;
    const double bits = ((const lq_common_opts *)th->opts)->bits;
    const lq_mark mark = lq_arena_mark(scratch);
    float *ours = lq_arena_f32(scratch, n), *theirs = lq_arena_f32(scratch, n);
    double worst = 0, largest = 0;
    th->method->effective(th, ours, scratch);
    lq_kernels()->dge_fwd(theirs, o->u, n, (float)(lq_levels_of_bits(bits) - 1));
    for (size_t i = 0; i < n; i++)
        theirs[i] = o->affine[0] * theirs[i] + o->affine[1];
    lq_hadamard_both(theirs, th->out, th->in, LQ_OFFICIAL_BLOCK, LQ_OFFICIAL_BLOCK);
    lq_scale_both(theirs, th->out, th->in, o->sv, o->su);
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)ours[i] - (double)theirs[i]));
        largest = fmax(largest, fabs((double)ours[i]));
    }
    lq_arena_release(scratch, mark);
    return largest > 0 ? worst / largest : worst;
}

lq_status lq_official_check(const lq_qmodel *q)
{
    size_t odd = SIZE_MAX; /* the first linear that disagrees */
    for (size_t i = 0; i < q->n_theta; i++) {
        lq_official_theta o;
        LQ_TRY(lq_official_theta_of(&q->theta[i], lq_qmodel_weight(q, i)->name, &o));
    }
#pragma omp parallel
    {
        lq_arena scratch = {0};
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < q->n_theta; i++) {
            lq_official_theta o;
            lq_official_theta_of(&q->theta[i], "", &o);
            if (disagreement(&q->theta[i], &o, &scratch) < 1e-5)
                continue;
#pragma omp critical(lq_official)
            odd = i < odd ? i : odd;
        }
        lq_arena_close(&scratch);
    }
    if (odd == SIZE_MAX)
        return LQ_OK;
    return lq_fail(LQ_E_OPTION,
                   "%s: the unisvq layout decodes it to another weight; it holds identity "
                   "codebooks behind Hadamard blocks of %d (hadamard_cap=128)",
                   lq_qmodel_weight(q, odd)->name, LQ_OFFICIAL_BLOCK);
}

static lq_status check(const lq_qmodel *q)
{
    const lq_config *c = &q->w.config;
    if (q->method == NULL)
        return lq_fail(LQ_E_OPTION,
                       "the unisvq layout holds lcqat models; this one is not quantized");
    const double bits = ((const lq_common_opts *)q->opts)->bits;
    if (c->arch != LQ_ARCH_QWEN3)
        return lq_fail(LQ_E_OPTION,
                       "the unisvq layout is Qwen3's: its loader norms each head of q and k, which "
                       "a %s model does not do",
                       lq_arch_name(c->arch));
    if (c->qkv_bias)
        return lq_fail(LQ_E_OPTION, "the unisvq layout has no biases, and this model has");
    if (!c->tied)
        return lq_fail(LQ_E_OPTION,
                       "the unisvq layout has no head: its loader takes the embedding, "
                       "and this model has a head of its own");
    if (bits != 2 && bits != 1.58)
        return lq_fail(LQ_E_OPTION,
                       "the unisvq layout packs 2 bits, or five trits a byte, not %g "
                       "bits",
                       bits);
    return lq_official_check(q);
}

/* ---- Tensors ----------------------------------------------------------------------------------- */

typedef struct list {
    lq_tensor *tensor;
    size_t n;
    lq_arena *arena;
} list;

static lq_status add_bf16(list *l, const char *name, const float *x, size_t rank, size_t rows,
                          size_t cols)
{
    const size_t n = (rank > 1 ? rows : 1) * (rank > 0 ? cols : 1);
    lq_sink sink = {.arena = l->arena};
    LQ_TRY(lq_sink_bf16(&sink, x, n));
    l->tensor[l->n++] = (lq_tensor){.name = name,
                                    .dtype = LQ_DTYPE_BF16,
                                    .rank = rank,
                                    .shape = {rank > 1 ? rows : cols, rank > 1 ? cols : 0},
                                    .data = sink.data};
    return LQ_OK;
}

static lq_status add_codes(list *l, const lq_weight *w, const float *u, size_t levels)
{
    const size_t n = w->rows * w->cols;
    lq_sink sink = {.arena = l->arena};
    uint8_t *code;
    float *q;
    LQ_TRY(lq_arena_new(l->arena, &code, n));
    LQ_TRY(lq_arena_new(l->arena, &q, n));
    lq_kernels()->dge_fwd(q, u, n, (float)(levels - 1));
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(u[i]))
            return lq_fail(LQ_E_NUMERIC, "%s: latent (%zu,%zu) is not finite; nothing to pack",
                           w->name, i / w->cols, i % w->cols);
        code[i] = (uint8_t)q[i];
    }
    LQ_TRY(lq_sink_codes(&sink, code, w->rows, w->cols, levels));
    l->tensor[l->n++] = (lq_tensor){.name = w->name,
                                    .dtype = LQ_DTYPE_U8,
                                    .rank = 2,
                                    .shape = {w->rows, sink.bytes / w->rows},
                                    .data = sink.data};
    return LQ_OK;
}

static lq_status add_linear(list *l, const lq_weight *w, const lq_theta *th, size_t levels)
{
    lq_official_theta o;
    LQ_TRY(lq_official_theta_of(th, w->name, &o));
    LQ_TRY(add_codes(l, w, o.u, levels));
    LQ_TRY(add_bf16(l, lq_official_name(w, ".SU", l->arena), o.su, 1, 1, w->cols));
    LQ_TRY(add_bf16(l, lq_official_name(w, ".SV", l->arena), o.sv, 1, 1, w->rows));
    LQ_TRY(add_bf16(l, lq_official_name(w, ".code_generator.codebook_scale", l->arena), o.affine, 0,
                    1, 1));
    return add_bf16(l, lq_official_name(w, ".code_generator.codebook_zero_point", l->arena),
                    o.affine + 1, 0, 1, 1);
}

/* ---- config.json ------------------------------------------------------------------------------- */

/* Keys of a PTQ checkpoint that would be wrong beside packed weights. */
static bool is_left_behind(const char *key)
{
    return strcmp(key, "quip_params") == 0 || strcmp(key, "quantization_config") == 0;
}

static bool is_packed_type(const char *type)
{
    return type != NULL && (strcmp(type, "qwen3_lcqat_compression") == 0 ||
                            strcmp(type, "qwen3_cuda_lcqat") == 0); /* loaders of one file */
}

static lq_json *shapes_of(const lq_weights *w)
{
    lq_json *shapes = lq_json_object();
    for (size_t i = 0; i < w->n_tensors; i++) {
        if (w->tensor[i].kind != LQ_WEIGHT_LINEAR)
            continue;
        lq_json *shape = lq_json_array();
        lq_json_append(shape, lq_json_of_number((double)w->tensor[i].rows));
        lq_json_append(shape, lq_json_of_number((double)w->tensor[i].cols));
        lq_json_set(shapes, w->tensor[i].name, shape);
    }
    return shapes;
}

static lq_json *describe(const lq_qmodel *q, const lq_json *base, size_t levels)
{
    lq_json *json = lq_json_object();
    for (const lq_json *m = lq_json_first(base); m != NULL; m = lq_json_next(m))
        if (!is_left_behind(lq_json_key(m)))
            lq_json_set(json, lq_json_key(m), lq_json_copy(m));
    if (!is_packed_type(lq_json_string(lq_json_get(json, "model_type")))) {
        lq_json *classes = lq_json_array();
        lq_json_append(classes, lq_json_of_string("Qwen3LCQATForCompression"));
        lq_json_set(json, "architectures", classes);
        lq_json_set_string(json, "model_type", "qwen3_lcqat_compression");
    }
    lq_json_set_bool(json, "tie_word_embeddings", true);
    lq_json_set_bool(json, "attention_bias", false);
    lq_json_set_number(json, "vec_size", 4);
    lq_json_set_number(json, "vec_bit", levels == 3 ? 1.5 : 2);
    lq_json_set_string(json, "proj_type", "hadamard_identical");
    lq_json_set_bool(json, "mixed_percision", false); /* so spelt */
    lq_json_set_bool(json, "block_hadamard", true);
    lq_json_set_bool(json, "is_packed", true);
    lq_json_set(json, "original_shapes", shapes_of(&q->w));
    return json;
}

/* What says the same already is copied as it stands. */
static lq_status write_config(const lq_qmodel *q, const char *base_path, const char *path,
                              size_t levels, lq_arena *arena)
{
    char *text = NULL;
    size_t bytes = 0;
    lq_json *base = NULL;
    if (base_path != NULL) {
        LQ_TRY(lq_file_read(base_path, arena, &text, &bytes));
        LQ_TRY(lq_json_parse(text, bytes, base_path, &base));
    } else {
        base = lq_config_to_json(&q->w.config);
    }
    lq_json *json = describe(q, base, levels);
    if (text == NULL ||
        strcmp(lq_json_canonical(json, arena), lq_json_canonical(base, arena)) != 0) {
        text = lq_json_pretty(json, arena);
        bytes = strlen(text);
    }
    lq_json_free(json);
    lq_json_free(base);
    return lq_file_write_all(path, text, bytes);
}

static lq_status write_with(const lq_qmodel *q, const char *base, const char *dir, lq_arena *arena)
{
    static const char *const metadata[] = {"format", "pt"};
    list l = {.arena = arena};
    LQ_TRY(check(q));
    const size_t levels = lq_levels_of_bits(((const lq_common_opts *)q->opts)->bits);
    LQ_TRY(lq_path_make_dirs(dir));
    LQ_TRY(lq_arena_new(arena, &l.tensor, q->w.n_tensors + 4 * q->n_theta));
    for (size_t i = 0; i < q->w.n_tensors; i++) {
        const lq_weight *w = &q->w.tensor[i];
        if (w->kind == LQ_WEIGHT_LINEAR)
            LQ_TRY(add_linear(&l, w, &q->theta[w->layer * LQ_N_LINEARS + w->id], levels));
        else
            LQ_TRY(add_bf16(&l, w->name, w->data, w->kind == LQ_WEIGHT_EMBED ? 2 : 1, w->rows,
                            w->cols));
    }
    LQ_TRY(lq_safetensors_write(lq_arena_printf(arena, "%s/model.safetensors", dir), l.tensor, l.n,
                                metadata, 1));
    return write_config(q, base, lq_arena_printf(arena, "%s/config.json", dir), levels, arena);
}

lq_status lq_official_write(const lq_qmodel *q, const char *base, const char *dir)
{
    lq_arena arena = {0};
    lq_status status = write_with(q, base, dir, &arena);
    lq_arena_close(&arena);
    return status;
}
