#include "experiments/tokenizer.h"

#include "core/base/file.h"
#include "core/data/gguf.h"

#include <string.h>

/* Lists of one length: scores and types, where they are there, are as many as the tokens. */
static lq_status read_lists(const lq_gguf *file, lq_arena *arena, lq_tokenizer_parts *p)
{
    lq_gguf_string *token, *merge;
    float *score;
    int32_t *type;
    size_t n, n_score, n_type, n_merges;
    LQ_TRY(lq_gguf_strings(file, "tokenizer.ggml.tokens", arena, &token, &n));
    LQ_TRY(lq_gguf_strings(file, "tokenizer.ggml.merges", arena, &merge, &n_merges));
    LQ_TRY(lq_gguf_f32s(file, "tokenizer.ggml.scores", arena, &score, &n_score));
    LQ_TRY(lq_gguf_i32s(file, "tokenizer.ggml.token_type", arena, &type, &n_type));
    if (n == 0)
        return lq_fail(LQ_E_MISSING, "%s: holds no tokenizer (tokenizer.ggml.tokens)", file->path);
    if ((score && n_score != n) || (type && n_type != n))
        return lq_fail(LQ_E_FORMAT, "%s: %zu tokens, %zu scores, %zu types", file->path, n, n_score,
                       n_type);
    lq_bytes *texts, *merges;
    LQ_TRY(lq_arena_new(arena, &texts, n));
    LQ_TRY(lq_arena_new(arena, &merges, n_merges));
    for (size_t i = 0; i < n; i++)
        texts[i] = (lq_bytes){token[i].data, token[i].bytes};
    for (size_t i = 0; i < n_merges; i++)
        merges[i] = (lq_bytes){merge[i].data, merge[i].bytes};
    p->n = n;
    p->token = texts;
    p->score = score;
    p->type = type;
    p->merge = merges;
    p->n_merges = n_merges;
    return LQ_OK;
}

/* Defaults where a key is absent are llama.cpp's (src/llama-vocab.cpp). */
static lq_status read_ends(const lq_gguf *file, lq_tokenizer_parts *p)
{
    const bool scores = p->kind == LQ_PARTS_SCORES;
    size_t bos, eos;
    bool prefix;
    LQ_TRY(lq_gguf_size(file, "tokenizer.ggml.bos_token_id", 0, UINT32_MAX, scores ? 1 : UINT32_MAX,
                        &bos));
    LQ_TRY(lq_gguf_size(file, "tokenizer.ggml.eos_token_id", 0, UINT32_MAX, scores ? 2 : UINT32_MAX,
                        &eos));
    const bool llama3 = p->pre && (strcmp(p->pre, "llama-bpe") == 0 ||
                                   strcmp(p->pre, "llama3") == 0 || strcmp(p->pre, "tekken") == 0);
    p->bos = (uint32_t)bos;
    p->eos = (uint32_t)eos;
    LQ_TRY(lq_gguf_bool(file, "tokenizer.ggml.add_bos_token", (scores || llama3) && bos < p->n,
                        &p->add_bos));
    LQ_TRY(lq_gguf_bool(file, "tokenizer.ggml.add_eos_token", false, &p->add_eos));
    LQ_TRY(lq_gguf_bool(file, "tokenizer.ggml.add_space_prefix", true, &prefix));
    LQ_TRY(
        lq_gguf_bool(file, "tokenizer.ggml.remove_extra_whitespaces", false, &p->squeeze_spaces));
    p->no_space_prefix = !prefix;
    return LQ_OK;
}

static lq_status read_parts(const lq_gguf *file, lq_arena *arena, lq_tokenizer **out)
{
    lq_tokenizer_parts parts = {.where = file->path};
    const char *model;
    LQ_TRY(lq_gguf_text(file, "tokenizer.ggml.model", "", arena, &model));
    LQ_TRY(lq_gguf_text(file, "tokenizer.ggml.pre", "", arena, &parts.pre));
    if (strcmp(model, "llama") != 0 && strcmp(model, "gpt2") != 0)
        return lq_fail(LQ_E_FORMAT, "%s: tokenizer.ggml.model \"%.60s\" is not supported",
                       file->path, model);
    parts.kind = strcmp(model, "llama") == 0 ? LQ_PARTS_SCORES : LQ_PARTS_MERGES;
    LQ_TRY(read_lists(file, arena, &parts));
    LQ_TRY(read_ends(file, &parts));
    return lq_tokenizer_from_parts(&parts, out);
}

/* A few files carry the whole tokenizer.json: it says more than the keys. */
static lq_status read_gguf(const char *path, lq_arena *arena, lq_tokenizer **out)
{
    lq_gguf file;
    const char *json;
    LQ_TRY(lq_gguf_open(path, arena, &file));
    lq_status status = lq_gguf_text(&file, "tokenizer.huggingface.json", "", arena, &json);
    if (status == LQ_OK)
        status = *json ? lq_tokenizer_parse(json, strlen(json), path, out)
                       : read_parts(&file, arena, out);
    lq_gguf_close(&file);
    return status;
}

lq_status lq_open_tokenizer(const char *path, lq_tokenizer **out)
{
    *out = NULL;
    lq_arena arena = {0};
    const char *kept = lq_arena_printf(&arena, "%s/" LQ_KEPT_TOKENIZER, path);
    const bool is_dir = lq_path_is_dir(path);
    if (is_dir && lq_path_exists(kept))
        path = kept;
    lq_status status = path != kept && (is_dir || !lq_gguf_is_one(path))
                           ? lq_tokenizer_open(path, out)
                           : read_gguf(path, &arena, out);
    lq_arena_close(&arena);
    return status;
}
