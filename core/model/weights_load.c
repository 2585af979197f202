/* Weights of a Hugging Face directory. */
#include "core/data/shards.h"
#include "core/model/weights_parts.h"

#include <string.h>

static const char head[] = "lm_head.weight", embed[] = "model.embed_tokens.weight";

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
    return (w->config.tied && strcmp(name, head) == 0) ||
           strstr(name, "rotary_emb.inv_freq") != NULL;
}

static lq_status refuse_unknown(const lq_weights *w, const lq_safetensors *file)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        if (find(w, file->tensor[i].name) == NULL && !ignorable(w, file->tensor[i].name))
            return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s does not belong to a %s model",
                           file->path, file->tensor[i].name, lq_arch_name(w->config.arch));
    return LQ_OK;
}

/* A head beside tied embeddings is the embedding once more, or the file means something else. */
static lq_status check_tied_head(const lq_weights *w, const lq_shards *s)
{
    const lq_tensor *h = lq_shards_find(s, head), *e = lq_shards_find(s, embed);
    if (!w->config.tied || h == NULL || e == NULL ||
        (h->dtype == e->dtype && h->bytes == e->bytes && memcmp(h->data, e->data, h->bytes) == 0))
        return LQ_OK;
    return lq_fail(LQ_E_FORMAT,
                   "%s: %s differs from the embedding, which config.json ties it to; set "
                   "tie_word_embeddings to what is meant, or take the tensor out",
                   s->path, head);
}

static lq_status check_one(const lq_weight *t, const lq_shards *s)
{
    const lq_tensor *found = lq_shards_find(s, t->name);
    if (found == NULL)
        return lq_fail(LQ_E_MISSING, "%s: tensor %s is missing", s->path, t->name);
    const bool vector = found->rank == 1 && t->rows == 1 && found->shape[0] == t->cols;
    const bool matrix =
        found->rank == 2 && found->shape[0] == t->rows && found->shape[1] == t->cols;
    if (!vector && !matrix)
        return lq_fail(LQ_E_SHAPE, "%s: tensor %s is not (%zu,%zu), as config.json says", s->path,
                       t->name, t->rows, t->cols);
    if (found->dtype != LQ_DTYPE_F32 && found->dtype != LQ_DTYPE_F16 &&
        found->dtype != LQ_DTYPE_BF16)
        return lq_fail(LQ_E_UNAVAILABLE, "%s: tensor %s is of type %s; F32, F16 and BF16 are read",
                       s->path, t->name, lq_dtype_name(found->dtype));
    return LQ_OK;
}

/* Everything is checked before memory is asked for: the sizes in config.json may be lies. */
static lq_status load(lq_weights *w, const lq_shards *s, lq_arena *arena)
{
    for (size_t i = 0; i < s->n; i++)
        LQ_TRY(refuse_unknown(w, &s->file[i]));
    LQ_TRY(check_tied_head(w, s));
    for (size_t i = 0; i < w->n_tensors; i++)
        LQ_TRY(check_one(&w->tensor[i], s));
    LQ_TRY(lq_weights_place(w, arena));
    for (size_t i = 0; i < w->n_tensors; i++)
        LQ_TRY(lq_tensor_to_f32(lq_shards_find(s, w->tensor[i].name), w->tensor[i].data));
    return LQ_OK;
}

lq_status lq_weights_load(const char *dir, lq_arena *arena, lq_weights *out)
{
    lq_config config;
    lq_shards shards;
    LQ_TRY(lq_config_read(lq_arena_printf(arena, "%s/config.json", dir), arena, &config));
    LQ_TRY(lq_weights_list(&config, arena, out));
    LQ_TRY(lq_shards_open(dir, arena, &shards));
    const lq_status status = load(out, &shards, arena);
    lq_shards_close(&shards);
    return status;
}
