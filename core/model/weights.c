#include "core/data/safetensors.h"
#include "core/model/weights_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Appends one tensor to the list; with tensor == NULL only counts. */
static void add(lq_weights *w, lq_arena *arena, lq_weight_kind kind, size_t layer,
                lq_layer_tensor id, const char *name, size_t rows, size_t cols)
{
    if (w->tensor != NULL) {
        lq_weight *t = &w->tensor[w->n_tensors];
        *t = (lq_weight){.kind = kind, .layer = layer, .id = id, .rows = rows, .cols = cols};
        t->offset = w->n;
        t->name =
            layer == SIZE_MAX ? name : lq_arena_printf(arena, "model.layers.%zu.%s", layer, name);
    }
    w->n_tensors++;
    if (__builtin_add_overflow(w->n, rows * cols, &w->n))
        w->n = SIZE_MAX; /* and so it stays: lq_weights_list says so */
}

static void list_tensors(lq_weights *w, lq_arena *arena)
{
    const lq_config *c = &w->config;
    w->n = w->n_tensors = 0;
    add(w, arena, LQ_WEIGHT_EMBED, SIZE_MAX, LQ_Q, "model.embed_tokens.weight", c->V, c->D);
    for (size_t l = 0; l < c->L; l++) {
#define X(id, name, kind, rows, cols, present) \
    if (present)                               \
        add(w, arena, LQ_WEIGHT_##kind, l, LQ_##id, name, rows, cols);
        LQ_LAYER_TENSORS(X)
#undef X
    }
    add(w, arena, LQ_WEIGHT_NORM, SIZE_MAX, LQ_Q, "model.norm.weight", 1, c->D);
    if (!c->tied)
        add(w, arena, LQ_WEIGHT_HEAD, SIZE_MAX, LQ_Q, "lm_head.weight", c->V, c->D);
}

lq_status lq_weights_list(const lq_config *config, lq_arena *arena, lq_weights *out)
{
    memset(out, 0, sizeof *out);
    out->config = *config;
    if (config->source != NULL) /* which may live in another arena */
        out->config.source = lq_arena_printf(arena, "%s", config->source);
    list_tensors(out, arena);
    if (out->n > SIZE_MAX / sizeof(float))
        return lq_fail(LQ_E_SHAPE,
                       "a model of %zu layers of width %zu and %zu does not fit in memory",
                       config->L, config->D, config->F);
    LQ_TRY(lq_arena_new(arena, &out->tensor, out->n_tensors));
    list_tensors(out, arena);
    return LQ_OK;
}

lq_status lq_weights_place(lq_weights *w, lq_arena *arena)
{
    LQ_TRY(lq_arena_new(arena, &w->flat, w->n));
    LQ_TRY(lq_arena_new(arena, &w->layer, w->config.L));
    for (size_t i = 0; i < w->n_tensors; i++) {
        lq_weight *t = &w->tensor[i];
        t->data = w->flat + t->offset;
        if (t->layer != SIZE_MAX)
            w->layer[t->layer][t->id] = t->data;
        else if (t->kind == LQ_WEIGHT_EMBED)
            w->embed = w->head = t->data;
        else if (t->kind == LQ_WEIGHT_HEAD)
            w->head = t->data;
        else
            w->final_norm = t->data;
    }
    return LQ_OK;
}

lq_status lq_weights_new(const lq_config *config, lq_arena *arena, lq_weights *out)
{
    LQ_TRY(lq_weights_list(config, arena, out));
    return lq_weights_place(out, arena);
}

size_t lq_rotate_half_row(size_t r, size_t dh)
{
    const size_t within = r % dh;
    return r - within + within % 2 * (dh / 2) + within / 2;
}

void lq_weights_init(lq_weights *w, const lq_rng *rng)
{
    const float residual = (float)(1.0 / sqrt(2.0 * (double)w->config.L));
    for (size_t i = 0; i < w->n_tensors; i++) {
        lq_weight *t = &w->tensor[i];
        lq_rng stream = lq_rng_split(rng, t->name, 0);
        const bool to_stream = t->kind == LQ_WEIGHT_LINEAR && (t->id == LQ_O || t->id == LQ_DOWN);
        const float scale = to_stream ? 0.02f * residual : 0.02f;
        for (size_t j = 0; j < t->rows * t->cols; j++)
            t->data[j] = t->kind == LQ_WEIGHT_NORM   ? 1.0f
                         : t->kind == LQ_WEIGHT_BIAS ? 0.0f
                                                     : scale * (float)lq_rng_normal(&stream);
    }
}

size_t lq_weights_count(const lq_weights *w) { return w->n; }

void lq_weights_round_bf16(lq_weights *w)
{
    for (size_t i = 0; i < w->n; i++)
        w->flat[i] = lq_bf16_to_f32(lq_f32_to_bf16(w->flat[i]));
}

/* ---- Writing ----------------------------------------------------------------------------------- */

/* dtype, or torch_dtype as it was called before, of what is written. */
static lq_status save_config(const lq_config *config, bool bf16, const char *path,
                             lq_arena *scratch)
{
    lq_json *json = lq_config_to_json(config);
    lq_json_set_string(json, lq_json_get(json, "dtype") != NULL ? "dtype" : "torch_dtype",
                       bf16 ? "bfloat16" : "float32");
    char *text = lq_json_pretty(json, scratch);
    lq_json_free(json);
    return lq_file_write_all(path, text, strlen(text));
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const lq_weight *const *)a)->name, (*(const lq_weight *const *)b)->name);
}

/* One tensor after the other, so that writing takes no second copy of the model. */
static lq_status put_all(lq_safetensors_stream *stream, const lq_weight *const *sorted, size_t n,
                         bool bf16, lq_arena *scratch)
{
    for (size_t i = 0; i < n; i++) {
        const lq_weight *t = sorted[i];
        const lq_mark mark = lq_arena_mark(scratch);
        const size_t values = t->rows * t->cols;
        uint16_t *half = NULL;
        if (bf16)
            LQ_TRY(lq_arena_new(scratch, &half, values));
        for (size_t j = 0; bf16 && j < values; j++)
            half[j] = lq_f32_to_bf16(t->data[j]);
        LQ_TRY(lq_safetensors_stream_put(stream, bf16 ? (const void *)half : t->data));
        lq_arena_release(scratch, mark);
    }
    return LQ_OK;
}

static lq_status save_tensors(const lq_weights *w, const char *path, bool bf16, lq_arena *scratch)
{
    static const char *const metadata[] = {"format", "pt"};
    const lq_weight **sorted;
    lq_tensor *list;
    lq_safetensors_stream *stream;
    LQ_TRY(lq_arena_new(scratch, &sorted, w->n_tensors));
    LQ_TRY(lq_arena_new(scratch, &list, w->n_tensors));
    for (size_t i = 0; i < w->n_tensors; i++)
        sorted[i] = &w->tensor[i];
    qsort(sorted, w->n_tensors, sizeof *sorted, by_name);
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = sorted[i];
        const bool vector = t->kind == LQ_WEIGHT_NORM || t->kind == LQ_WEIGHT_BIAS;
        list[i] = (lq_tensor){.name = t->name,
                              .dtype = bf16 ? LQ_DTYPE_BF16 : LQ_DTYPE_F32,
                              .rank = vector ? 1 : 2,
                              .shape = {vector ? t->cols : t->rows, vector ? 0 : t->cols}};
    }
    LQ_TRY(lq_safetensors_stream_open(path, list, w->n_tensors, metadata, 1, scratch, &stream));
    const lq_status status = put_all(stream, sorted, w->n_tensors, bf16, scratch);
    if (status == LQ_OK)
        return lq_safetensors_stream_close(stream);
    lq_safetensors_stream_abandon(stream);
    return status;
}

static lq_status save(const lq_weights *w, const char *dir, bool bf16, lq_arena *scratch)
{
    LQ_TRY(lq_path_make_dirs(dir));
    LQ_TRY(save_tensors(w, lq_arena_printf(scratch, "%s/model.safetensors", dir), bf16, scratch));
    return save_config(&w->config, bf16, lq_arena_printf(scratch, "%s/config.json", dir), scratch);
}

lq_status lq_weights_save(const lq_weights *w, const char *dir, bool bf16)
{
    lq_arena scratch = {0};
    lq_status status = save(w, dir, bf16, &scratch);
    lq_arena_close(&scratch);
    return status;
}
