/* lcqat pretrain: a small full-precision teacher from nothing, with its tokenizer and model card. */
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/eval/perplexity.h"
#include "core/train/trainer.h"
#include "experiments/command.h"
#include "experiments/data.h"
#include "experiments/teacher_card.h"
#include "experiments/version.h"

#include "core/data/corpus.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct job {
    lq_teacher t; /* what the card is written from */
    size_t batch, micro, lanes, warmup;
    double lr, weight_decay, decay;
    size_t seed;
} job;

static lq_status read_train(const lq_json *json, const char *where, job *j)
{
    const lq_json *train = lq_json_get(json, "train");
    if (train == NULL)
        return lq_fail(LQ_E_OPTION, "%s: the object \"train\" is missing", where);
    LQ_TRY(lq_json_only_keys(train, where, "context", "batch", "micro", "lanes", "lr",
                             "weight_decay", "warmup_steps", "decay", "seed", NULL));
    LQ_TRY(lq_json_size(train, where, "context", 8, 65536, 128, &j->t.context));
    LQ_TRY(lq_json_size(train, where, "batch", 1, 65536, 32, &j->batch));
    LQ_TRY(lq_json_size(train, where, "micro", 1, 65536, 2, &j->micro));
    LQ_TRY(lq_json_size(train, where, "lanes", 1, 64, 2, &j->lanes));
    LQ_TRY(lq_json_real(train, where, "lr", 0, 1, 1e-3, &j->lr));
    LQ_TRY(lq_json_real(train, where, "weight_decay", 0, 1, 0.1, &j->weight_decay));
    LQ_TRY(lq_json_size(train, where, "warmup_steps", 0, 1000000, 200, &j->warmup));
    LQ_TRY(lq_json_real(train, where, "decay", 0, 1, 0.2, &j->decay));
    return lq_json_size(train, where, "seed", 0, 1u << 31, 1, &j->seed);
}

static lq_status read_config(const char *path, lq_arena *arena, job *j)
{
    lq_json *json;
    const char *name;
    LQ_TRY(lq_json_read(path, &json));
    lq_status status = lq_json_only_keys(json, path, "name", "model", "train", NULL);
    const lq_json *model = lq_json_get(json, "model");
    if (status == LQ_OK && model == NULL)
        status = lq_fail(LQ_E_OPTION, "%s: the object \"model\" is missing", path);
    if (status == LQ_OK)
        status = lq_json_text(json, path, "name", NULL, &name);
    if (status == LQ_OK)
        j->t.name = lq_arena_printf(arena, "%s", name);
    if (status == LQ_OK)
        status = lq_config_of_json(model, path, &j->t.config);
    if (status == LQ_OK)
        status = read_train(json, path, j);
    if (status == LQ_OK)
        j->t.recipe = lq_json_canonical(json, arena);
    lq_json_free(json);
    return status;
}

/* The tokenizer in DIR, or a new one trained on the data. */
static lq_status tokenizer(const char *dir, const char *data, size_t n_vocab, lq_arena *arena,
                           lq_tokenizer **out)
{
    const char *path = lq_arena_printf(arena, "%s/tokenizer.json", dir);
    if (lq_path_exists(path))
        return lq_tokenizer_read(path, out);
    lq_arena text = {0};
    lq_corpus corpus;
    lq_status status = lq_corpus_load(data, &text, &corpus);
    if (status == LQ_OK) {
        lq_log_info("training the tokenizer: %zu tokens, %.1f MB", n_vocab,
                    (double)corpus.bytes / 1e6);
        status = lq_tokenizer_train(corpus.text, corpus.bytes, n_vocab, out);
    }
    lq_arena_close(&text);
    LQ_TRY(status);
    status = lq_tokenizer_write(*out, path);
    if (status == LQ_OK) { /* read back: what later commands will use */
        lq_tokenizer_free(*out);
        return lq_tokenizer_read(path, out);
    }
    lq_tokenizer_free(*out);
    return status;
}

static lq_status train(job *j, const lq_data *data, const char *dir, lq_arena *arena, lq_qmodel *q)
{
    const lq_rng root = lq_rng_seed(j->seed), init = lq_rng_split(&root, "init", 0);
    const lq_rng order = lq_rng_split(&root, "data", 0);
    lq_batches batches;
    LQ_TRY(lq_weights_new(&j->t.config, arena, &q->w));
    lq_weights_init(&q->w, &init);
    j->t.parameters = lq_weights_count(&q->w);
    LQ_TRY(lq_batches_new(data->token, data->n, j->t.context, &order, arena, &batches));
    const size_t steps = (j->t.tokens + j->batch * j->t.context - 1) / (j->batch * j->t.context);
    lq_train_config c = {.batch = j->batch,
                         .T = j->t.context,
                         .micro = j->micro,
                         .lanes = j->lanes,
                         .steps = steps,
                         .lr = j->lr,
                         .weight_decay = j->weight_decay,
                         .train_rest = true};
    c.schedule = (lq_schedule){LQ_SCHEDULE_WSD, j->warmup < steps / 4 ? j->warmup : steps / 4,
                               (size_t)(j->decay * (double)steps)};
    c.adamw = (lq_adamw){0.9, 0.95, 1e-8, 1.0};
    c.checkpoint = lq_arena_printf(arena, "%s/training.checkpoint", dir);
    c.checkpoint_s = 60;
    c.fingerprint = lq_arena_printf(arena, "%s %s %zu", j->t.recipe, data->digest.hex, steps);
    const double started = lq_clock_wall_s();
    LQ_TRY(lq_train(q, &batches, &c, arena, NULL, NULL, &j->t.result));
    j->t.seconds = lq_clock_wall_s() - started;
    j->t.tokens = j->t.result.tokens;
    lq_weights_round_bf16(&q->w);
    LQ_TRY(lq_weights_save(&q->w, dir, true));
    return LQ_OK;
}

static lq_status score(job *j, const lq_weights *w, const char *data, const lq_tokenizer *tok,
                       lq_arena *arena)
{
    static const char *const split[] = {"valid", "test"};
    const char *colon = strchr(data, ':');
    if (lq_path_exists(data))
        return LQ_OK; /* a plain text file has no other splits to score on */
    for (size_t i = 0; i < 2; i++) {
        lq_data held_out;
        const int n = (int)(colon != NULL ? colon - data : (long)strlen(data));
        LQ_TRY(lq_data_load(lq_arena_printf(arena, "%.*s:%s", n, data, split[i]), tok, arena,
                            &held_out));
        LQ_TRY(lq_perplexity_of(w, held_out.token, held_out.n, j->t.context, 0, arena,
                                &j->t.score[i]));
    }
    return LQ_OK;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    job j = {0};
    lq_data data;
    lq_tokenizer *tok;
    lq_qmodel q = {0};
    const char *dir = lq_args_text(args, "out", NULL), *name = lq_args_text(args, "data", NULL);
    if (dir == NULL || name == NULL)
        return lq_fail(LQ_E_OPTION, "pretrain: --data and --out are required");
    LQ_TRY(read_config(lq_args_at(args, 0), arena, &j));
    LQ_TRY(lq_args_size(args, "tokens", 1, (size_t)1 << 50, 0, &j.t.tokens));
    if (j.t.tokens == 0)
        return lq_fail(LQ_E_OPTION, "pretrain: --tokens is required");
    LQ_TRY(lq_path_make_dirs(dir));
    LQ_TRY(tokenizer(dir, name, j.t.config.V, arena, &tok));
    lq_status status = lq_data_load(name, tok, arena, &data);
    j.t.data = &data;
    if (status == LQ_OK)
        status = train(&j, &data, dir, arena, &q);
    if (status == LQ_OK)
        status = score(&j, &q.w, name, tok, arena);
    if (status == LQ_OK)
        status = lq_teacher_card(&j.t, dir, arena);
    lq_tokenizer_free(tok);
    LQ_TRY(status);
    printf("%s: %zu parameters, %zu tokens, final training loss %.4f, valid ppl %.3f\n", j.t.name,
           j.t.parameters, j.t.tokens, j.t.result.final_loss, j.t.score[0].ppl);
    remove(lq_arena_printf(arena, "%s/training.checkpoint", dir));
    return LQ_OK;
}

static const lq_arg_spec spec[] = {
    {"data", 0, LQ_ARG_TEXT, "DATA", "training text: techdocs, techdocs:SPLIT or a text file"},
    {"tokens", 0, LQ_ARG_TEXT, "N", "tokens to train on (123M, 4000000)"},
    {"out", 'o', LQ_ARG_TEXT, "DIR", "where the model goes; a training that stopped there goes on"},
};
const lq_command lq_command_pretrain = {
    .name = "pretrain",
    .summary = "trains a small full-precision teacher and its tokenizer",
    .positionals = "CONFIG.json --data DATA --tokens N --out DIR",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
