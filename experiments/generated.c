#include "experiments/generated.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/data/batch.h"
#include "core/data/corpus.h"
#include "core/data/safetensors.h"
#include "core/eval/generate.h"

#include <string.h>

enum { AT_ONCE = 32, GREEDY_LENGTHS = 3, LEAST_GREEDY = 2 };

typedef struct author {
    const lq_model *model;
    const lq_train_opts *train;
    const lq_data *text;
    const lq_rng *rng;
    lq_written *out;
    lq_arena *arena;
} author;

static lq_sampling sampling_of(const lq_train_opts *t)
{
    return (lq_sampling){.temperature = t->sample_temperature, .top_p = t->sample_top_p};
}

/* Sequence i is number i / 3 of those with 2 + i mod 3 greedy tokens. */
static lq_status write_freely(author *a)
{
    const size_t T = a->out->T + 1, n = a->out->n_sequences;
    const uint32_t end = lq_tokenizer_end_of_text(a->model->tok);
    uint32_t *part;
    LQ_TRY(lq_arena_new(a->arena, &part, (n / GREEDY_LENGTHS + 1) * T));
    for (size_t k = 0; k < GREEDY_LENGTHS; k++) {
        const size_t count = (n + GREEDY_LENGTHS - 1 - k) / GREEDY_LENGTHS;
        const lq_rng stream = lq_rng_split(a->rng, "greedy", k);
        const lq_generate_tokens_how how = {.sampling = sampling_of(a->train),
                                            .T = T,
                                            .at_once = AT_ONCE,
                                            .stop = &end,
                                            .n_stop = end == UINT32_MAX ? 0 : 1,
                                            .n_greedy = LEAST_GREEDY + k};
        LQ_TRY(lq_generate_tokens(&a->model->q.w, &how, &stream, count, part));
        for (size_t i = 0; i < count; i++)
            memcpy(a->out->token + (GREEDY_LENGTHS * i + k) * T, part + i * T, T * sizeof *part);
    }
    return LQ_OK;
}

typedef struct sheet { /* where a continuation is put */
    uint32_t *at;
} sheet;

static lq_status put_token(void *context, uint32_t token)
{
    *((sheet *)context)->at++ = token;
    return LQ_OK;
}

/* An end of text ends nothing: a sequence has its length, and what follows it is another text. */
static lq_status continue_text(author *a)
{
    const size_t T = a->out->T + 1, n = a->out->n_sequences, P = a->train->prompt;
    const lq_rng order = lq_rng_split(a->rng, "prompts", 0);
    const lq_generate_how how = {.sampling = sampling_of(a->train), .n = T - P};
    lq_batches windows;
    uint32_t *targets;
    LQ_TRY(lq_batches_new(a->text->token, a->text->n, a->out->T, &order, a->arena, &windows));
    LQ_TRY(lq_arena_new(a->arena, &targets, T));
    lq_progress progress = lq_progress_start("generating", n, "text");
    for (size_t i = 0; i < n; i++) {
        lq_generated result;
        uint32_t *token = a->out->token + i * T;
        sheet rest = {token + P};
        lq_rng stream = lq_rng_split(a->rng, "continuation", i);
        lq_batches_get(&windows, i, token, targets);
        LQ_TRY(lq_generate(&a->model->q.w, token, P, &how, &stream, put_token, &rest, &result));
        lq_progress_update(&progress, i + 1, "%s", "");
    }
    lq_progress_end(&progress);
    return LQ_OK;
}

/* ---- the cache --------------------------------------------------------------------------------- */

static lq_status fingerprint(const author *a)
{
    const lq_train_opts *t = a->train;
    const char *text = lq_arena_printf(
        a->arena, "generated 1 model %s tokenizer %s from %d n %zu T %zu key %016llx %016llx",
        a->model->digest.hex, lq_tokenizer_digest(a->model->tok)->hex, t->data_from,
        a->out->n_sequences, a->out->T, (unsigned long long)a->rng->key,
        (unsigned long long)a->rng->counter);
    text = lq_arena_printf(a->arena, "%s temperature %.17g top_p %.17g", text,
                           t->sample_temperature, t->sample_top_p);
    if (a->text != NULL)
        text = lq_arena_printf(a->arena, "%s text %s prompt %zu", text, a->text->digest.hex,
                               t->prompt);
    return lq_sha256_of(text, strlen(text), &a->out->digest);
}

static lq_status read_cached(const author *a, const char *path)
{
    lq_safetensors file;
    lq_written *out = a->out;
    const size_t n = out->n_sequences * (out->T + 1);
    LQ_TRY(lq_safetensors_open(path, a->arena, &file));
    const lq_tensor *t = lq_safetensors_find(&file, "tokens");
    const char *have = lq_safetensors_metadata(&file, "fingerprint");
    lq_status status = LQ_OK;
    if (t == NULL || t->dtype != LQ_DTYPE_U32 || t->elements != n || have == NULL ||
        strcmp(have, out->digest.hex) != 0)
        status = lq_fail(LQ_E_FORMAT, "%s: not the texts it should hold; remove it", path);
    if (status == LQ_OK)
        memcpy(out->token, t->data, t->bytes);
    for (size_t i = 0; status == LQ_OK && i < n; i++)
        if (out->token[i] >= a->model->q.w.config.V)
            status =
                lq_fail(LQ_E_FORMAT, "%s: token %zu is outside the vocabulary; remove it", path, i);
    lq_safetensors_close(&file);
    return status;
}

static lq_status write_cached(const author *a, const char *path)
{
    const lq_written *out = a->out;
    const lq_tensor t = {.name = "tokens",
                         .dtype = LQ_DTYPE_U32,
                         .rank = 2,
                         .shape = {out->n_sequences, out->T + 1},
                         .elements = out->n_sequences * (out->T + 1),
                         .bytes = 4 * out->n_sequences * (out->T + 1),
                         .data = out->token};
    const char *const metadata[] = {"fingerprint", out->digest.hex};
    return lq_safetensors_write(path, &t, 1, metadata, 1);
}

static lq_status get(author *a)
{
    const char *cache;
    lq_written *out = a->out;
    LQ_TRY(lq_cache_dir(a->arena, &cache));
    LQ_TRY(fingerprint(a));
    const char *dir = lq_arena_printf(a->arena, "%s/generated", cache);
    const char *path = lq_arena_printf(a->arena, "%s/%.32s.safetensors", dir, out->digest.hex);
    if (lq_path_exists(path))
        return read_cached(a, path);
    LQ_TRY(lq_path_make_dirs(dir));
    LQ_TRY(a->train->data_from == LQ_DATA_TEACHER ? write_freely(a) : continue_text(a));
    return write_cached(a, path);
}

lq_status lq_written_get(const lq_model *model, const lq_recipe *recipe, const lq_data *text,
                         const lq_rng *rng, size_t n_sequences, lq_arena *arena, lq_written *out)
{
    const size_t T = recipe->train.context;
    lq_arena scratch = {0};
    author a = {model, &recipe->train, text, rng, out, &scratch};
    LQ_ASSERT(recipe->train.data_from != LQ_DATA_TEXT && n_sequences > 0);
    LQ_ASSERT((recipe->train.data_from == LQ_DATA_CONTINUATION) == (text != NULL));
    *out = (lq_written){.n_sequences = n_sequences, .T = T};
    size_t n;
    if (__builtin_mul_overflow(n_sequences, T + 1, &n))
        return lq_fail(LQ_E_SHAPE, "%zu sequences of %zu tokens are too many", n_sequences, T + 1);
    LQ_TRY(lq_arena_new(arena, &out->token, n));
    const lq_status status = get(&a);
    lq_arena_close(&scratch);
    return status;
}
