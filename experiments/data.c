#include "experiments/data.h"

#include "core/base/file.h"
#include "core/data/corpus.h"
#include "core/data/safetensors.h"

#include <string.h>

static lq_status read_cached(const char *path, lq_arena *arena, lq_data *out)
{
    lq_safetensors file;
    LQ_TRY(lq_safetensors_open(path, arena, &file));
    const lq_tensor *t = lq_safetensors_find(&file, "tokens");
    lq_status status = LQ_OK;
    if (t == NULL || t->dtype != LQ_DTYPE_U32 || t->rank != 1)
        status = lq_fail(LQ_E_FORMAT, "%s: holds no tokens; remove it", path);
    if (status == LQ_OK)
        status = lq_arena_new(arena, &out->token, t->elements);
    if (status == LQ_OK) {
        memcpy(out->token, t->data, t->bytes);
        out->n = t->elements;
    }
    lq_safetensors_close(&file);
    return status;
}

static lq_status write_cached(const char *path, const lq_data *data)
{
    const lq_tensor t = {.name = "tokens",
                         .dtype = LQ_DTYPE_U32,
                         .rank = 1,
                         .shape = {data->n},
                         .elements = data->n,
                         .bytes = 4 * data->n,
                         .data = data->token};
    return lq_safetensors_write(path, &t, 1, NULL, 0);
}

lq_status lq_data_load(const char *name, const lq_tokenizer *tok, lq_arena *arena, lq_data *out)
{
    const char *cache;
    lq_corpus corpus;
    memset(out, 0, sizeof *out);
    LQ_TRY(lq_cache_dir(arena, &cache));
    lq_arena text = {0};
    lq_status status = lq_corpus_load(name, &text, &corpus);
    if (status != LQ_OK) {
        lq_arena_close(&text);
        return status;
    }
    *out = (lq_data){.name = name, .bytes = corpus.bytes};
    out->digest = corpus.digest;
    out->whole = corpus.whole;
    const char *dir = lq_arena_printf(arena, "%s/tokens", cache);
    const char *path = lq_arena_printf(arena, "%s/%.16s-%.16s.safetensors", dir, corpus.digest.hex,
                                       lq_tokenizer_digest(tok)->hex);
    if (lq_path_exists(path)) {
        status = read_cached(path, arena, out);
    } else {
        status = lq_tokenizer_encode(tok, corpus.text, corpus.bytes, arena, &out->token, &out->n);
        if (status == LQ_OK)
            status = lq_path_make_dirs(dir);
        if (status == LQ_OK)
            status = write_cached(path, out);
    }
    lq_arena_close(&text);
    return status;
}
