#include "core/model/weights.h"

#include "core/data/safetensors.h"

#include <math.h>
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
    w->n += rows * cols;
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

lq_status lq_weights_new(const lq_config *config, lq_arena *arena, lq_weights *out)
{
    memset(out, 0, sizeof *out);
    out->config = *config;
    list_tensors(out, arena);
    LQ_TRY(lq_arena_new(arena, &out->tensor, out->n_tensors));
    list_tensors(out, arena);
    LQ_TRY(lq_arena_new(arena, &out->flat, out->n));
    LQ_TRY(lq_arena_new(arena, &out->layer, config->L));
    for (size_t i = 0; i < out->n_tensors; i++) {
        lq_weight *t = &out->tensor[i];
        t->data = out->flat + t->offset;
        if (t->layer != SIZE_MAX)
            out->layer[t->layer][t->id] = t->data;
        else if (t->kind == LQ_WEIGHT_EMBED)
            out->embed = out->head = t->data;
        else if (t->kind == LQ_WEIGHT_HEAD)
            out->head = t->data;
        else
            out->final_norm = t->data;
    }
    return LQ_OK;
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

static const lq_weight *find(const lq_weights *w, const char *name)
{
    for (size_t i = 0; i < w->n_tensors; i++)
        if (strcmp(w->tensor[i].name, name) == 0)
            return &w->tensor[i];
    return NULL;
}

/* Tensors that a checkpoint may carry and that hold nothing of their own. */
static bool ignorable(const lq_weights *w, const char *name)
{
    return (w->config.tied && strcmp(name, "lm_head.weight") == 0) ||
           strstr(name, "rotary_emb.inv_freq") != NULL;
}

static lq_status fill(lq_weights *w, const lq_safetensors *file)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        if (find(w, file->tensor[i].name) == NULL && !ignorable(w, file->tensor[i].name))
            return lq_fail(LQ_E_FORMAT, "%s: tensor %s does not belong to a %s model", file->path,
                           file->tensor[i].name, lq_arch_name(w->config.arch));
    for (size_t i = 0; i < w->n_tensors; i++) {
        lq_weight *t = &w->tensor[i];
        const lq_tensor *found = lq_safetensors_find(file, t->name);
        if (found == NULL)
            return lq_fail(LQ_E_MISSING, "%s: tensor %s is missing", file->path, t->name);
        const size_t n = t->rows * t->cols;
        const bool vector = found->rank == 1 && t->rows == 1 && found->shape[0] == t->cols;
        const bool matrix =
            found->rank == 2 && found->shape[0] == t->rows && found->shape[1] == t->cols;
        if (found->elements != n || (!vector && !matrix))
            return lq_fail(LQ_E_SHAPE, "%s: tensor %s is not (%zu,%zu), as config.json says",
                           file->path, t->name, t->rows, t->cols);
        LQ_TRY(lq_tensor_to_f32(found, t->data));
    }
    return LQ_OK;
}

lq_status lq_weights_load(const char *dir, lq_arena *arena, lq_weights *out, lq_digest *digest)
{
    lq_config config;
    LQ_TRY(lq_config_read(lq_arena_printf(arena, "%s/config.json", dir), &config));
    const char *path = lq_arena_printf(arena, "%s/model.safetensors", dir);
    LQ_TRY(lq_weights_new(&config, arena, out));
    lq_safetensors file;
    LQ_TRY(lq_safetensors_open(path, arena, &file));
    lq_status status = fill(out, &file);
    lq_safetensors_close(&file);
    if (status == LQ_OK && digest != NULL)
        status = lq_sha256_file(path, digest);
    return status;
}

static lq_status save_config(const lq_config *config, const char *path, lq_arena *scratch)
{
    lq_json *json = lq_config_to_json(config);
    char *text = lq_json_pretty(json, scratch);
    lq_json_free(json);
    return lq_file_write_all(path, text, strlen(text));
}

static lq_status save(const lq_weights *w, const char *dir, bool bf16, lq_arena *scratch)
{
    lq_tensor *list;
    uint16_t *half = NULL;
    LQ_TRY(lq_path_make_dirs(dir));
    LQ_TRY(lq_arena_new(scratch, &list, w->n_tensors));
    if (bf16)
        LQ_TRY(lq_arena_new(scratch, &half, w->n));
    for (size_t i = 0; bf16 && i < w->n; i++)
        half[i] = lq_f32_to_bf16(w->flat[i]);
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        const bool vector = t->kind == LQ_WEIGHT_NORM || t->kind == LQ_WEIGHT_BIAS;
        const size_t n = t->rows * t->cols;
        list[i] = (lq_tensor){.name = t->name,
                              .dtype = bf16 ? LQ_DTYPE_BF16 : LQ_DTYPE_F32,
                              .rank = vector ? 1 : 2,
                              .shape = {vector ? t->cols : t->rows, vector ? 0 : t->cols},
                              .elements = n,
                              .bytes = n * (bf16 ? 2 : 4),
                              .data = bf16 ? (const void *)(half + t->offset) : t->data};
    }
    static const char *const metadata[] = {"format", "pt"};
    LQ_TRY(lq_safetensors_write(lq_arena_printf(scratch, "%s/model.safetensors", dir), list,
                                w->n_tensors, metadata, 1));
    return save_config(&w->config, lq_arena_printf(scratch, "%s/config.json", dir), scratch);
}

lq_status lq_weights_save(const lq_weights *w, const char *dir, bool bf16)
{
    lq_arena scratch = {0};
    lq_status status = save(w, dir, bf16, &scratch);
    lq_arena_close(&scratch);
    return status;
}
