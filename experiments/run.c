#include "experiments/run.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/data/corpus.h"
#include "core/eval/perplexity.h"
#include "experiments/catalog.h"
#include "experiments/generated.h"
#include "experiments/methods.h"
#include "experiments/model.h"
#include "experiments/run_parts.h"
#include "experiments/version.h"

#include <stdio.h>
#include <string.h>

enum { CURVE_POINTS = 200 }; /* a stored loss curve has at most so many points */

typedef struct job {
    const lq_json *config;
    const char *work, *keep_dir, *id;
    lq_recipe recipe;
    const lq_method *method;
    void *opts;
    lq_run_start start;
    lq_rng rng;
    lq_model model;
    lq_qmodel q;
    lq_run *run;
    double tokens; /* budget of the training; 0: none */
    lq_arena *arena;
    lq_arena large; /* model, theta, training: closed before the packed model is read back */
} job;

static lq_status read_job(const lq_json *config, lq_arena *arena, job *j)
{
    size_t seed;
    double fraction, budget;
    const char *model;
    *j = (job){.config = config, .arena = arena};
    LQ_TRY(lq_run_method(config, "run", arena, &j->method, &j->opts));
    LQ_TRY(lq_run_start_read(config, arena, &j->start));
    LQ_TRY(lq_json_size(config, "run", "seed", 0, 1ul << 31, 1, &seed));
    LQ_TRY(lq_json_real(config, "run", "fraction", 0, 1, 0, &fraction));
    LQ_TRY(lq_json_real(config, "run", "budget_tokens", 0, 1e15, 0, &budget));
    LQ_TRY(lq_json_text(config, "run", "model", NULL, &model));
    LQ_TRY(lq_recipe_read(config, "run", arena, &j->recipe));
    j->rng = lq_rng_seed(seed);
    j->tokens = fraction * budget;
    if (j->tokens > 0 && j->recipe.train.compute == LQ_COMPUTE_BF16)
        LQ_TRY(lq_bf16_check()); /* before the hours of quantization */
    return lq_model_open_with(model, lq_run_tokenizer(config), &j->large, &j->model);
}

static void store_block(void *context, size_t layer, const lq_blockwise_result *r)
{
    job *j = context;
    lq_run_point(j->run, "blockwise_mse_before", (double)layer, r->mse_before);
    lq_run_point(j->run, "blockwise_mse_after", (double)layer, r->mse_after);
    lq_run_point(j->run, "blockwise_epochs", (double)layer, (double)r->epochs);
}

/* The weights that the method begins from: the model's own, or those that the start makes of them. */
static lq_status begin_from(job *j, const lq_calib_data *calib, lq_arena *arena,
                            const lq_weights **out)
{
    lq_qmodel *first;
    const lq_rng init = lq_rng_split(&j->rng, "start", 0);
    const lq_quantize_how how = {.blockwise = &j->start.recipe.blockwise};
    *out = &j->model.q.w;
    if (j->start.method == NULL)
        return LQ_OK;
    LQ_TRY(lq_arena_new(arena, &first, 1));
    LQ_TRY(lq_qmodel_new(&j->model.q.w, j->start.method, j->start.opts, arena, first));
    LQ_TRY(lq_quantize_with(first, &j->model.q.w, calib, &init, &how));
    *out = &first->w;
    return LQ_OK;
}

static bool calibrates(const job *j)
{
    return lq_recipe_calibrates(&j->recipe, j->method->needs) ||
           (j->start.method != NULL &&
            lq_recipe_calibrates(&j->start.recipe, j->start.method->needs));
}

static lq_status quantize_in(job *j, lq_arena *scratch)
{
    lq_calib_data calib = {0};
    const lq_weights *from;
    if (calibrates(j)) {
        lq_data data;
        LQ_TRY(lq_model_data(&j->model, j->recipe.calib_data, j->arena, &data));
        LQ_TRY(lq_recipe_calib(&j->recipe, &data, &j->rng, j->arena, &calib));
    }
    if (j->model.q.method != NULL)
        return lq_fail(LQ_E_OPTION, "run: %s is quantized already", j->model.dir);
    LQ_TRY(begin_from(j, &calib, scratch, &from));
    const lq_rng init = lq_rng_split(&j->rng, "init", 0);
    const lq_quantize_how how = {.blockwise = &j->recipe.blockwise,
                                 .grams = j->recipe.hessians,
                                 .model_sha256 = j->model.digest.hex,
                                 .on_block = store_block,
                                 .context = j};
    /* A training may still want the full weights, a search over a whole block compares with them while it
     * writes, and a start's are gone soon; else they make room. */
    if (j->tokens > 0 || j->start.method != NULL || j->method->init_block != NULL)
        LQ_TRY(lq_qmodel_new(from, j->method, j->opts, &j->large, &j->q));
    else
        LQ_TRY(lq_qmodel_take(&j->model.q.w, j->method, j->opts, &j->large, &j->q));
    return lq_quantize_with(&j->q, from, &calib, &init, &how);
}

static lq_status quantize(job *j)
{
    lq_arena scratch = {0}; /* the start is gone when the method has begun */
    const lq_status status = quantize_in(j, &scratch);
    lq_arena_close(&scratch);
    return status;
}

static void store_curve(job *j, const lq_train_result *r, const lq_train_config *c)
{
    const size_t n = r->steps_done < CURVE_POINTS ? r->steps_done : CURVE_POINTS;
    for (size_t i = 0; i < n; i++) {
        const size_t from = i * r->steps_done / n, to = (i + 1) * r->steps_done / n;
        double sum = 0;
        for (size_t s = from; s < to; s++)
            sum += r->loss[s];
        lq_run_point(j->run, "train_loss", (double)(to * c->batch * c->T),
                     sum / (double)(to - from));
    }
}

/* ---- training ---- */

/* What the run trains on, and the digest of it. */
static lq_status get_batches(job *j, const lq_train_config *c, lq_batches *out, lq_digest *digest)
{
    const lq_rng order = lq_rng_split(&j->rng, "data", 0);
    const lq_rng writing = lq_rng_split(&j->rng, "written", 0);
    const int from = j->recipe.train.data_from;
    lq_data data;
    lq_written written;
    if (from != LQ_DATA_TEACHER)
        LQ_TRY(lq_model_data(&j->model, j->recipe.train_data, j->arena, &data));
    if (from == LQ_DATA_TEXT) {
        *digest = data.digest;
        return lq_batches_new(data.token, data.n, c->T, &order, j->arena, out);
    }
    LQ_TRY(lq_written_get(&j->model, &j->recipe, from == LQ_DATA_CONTINUATION ? &data : NULL,
                          &writing, c->steps * c->batch, j->arena, &written));
    *digest = written.digest;
    return lq_batches_of_sequences(written.token, written.n_sequences, c->T, &order, j->arena, out);
}

/* Predictions of the full model on what the run reads: in the cache, made when they are not there. */
static lq_status get_predictions(job *j, const lq_train_config *c, lq_batches *data,
                                 const lq_digest *digest, lq_teacher_file *file)
{
    const lq_teacher_plan plan = {.n_sequences = lq_train_sequences(c),
                                  .T = c->T,
                                  .k = j->recipe.train.teacher_topk,
                                  .temperature = c->loss.temperature,
                                  .micro = c->micro,
                                  .lanes = c->lanes};
    const char *cache;
    lq_digest id;
    const char *text = lq_arena_printf(
        j->arena, "teacher 1 model %s data %s order %016llx n %zu T %zu k %zu temperature %.17g",
        j->model.digest.hex, digest->hex, (unsigned long long)data->rng.key, plan.n_sequences,
        plan.T, plan.k, plan.temperature);
    text = lq_arena_printf(j->arena, "%s micro %zu", text, plan.micro);
    LQ_TRY(lq_sha256_of(text, strlen(text), &id));
    LQ_TRY(lq_cache_dir(j->arena, &cache));
    const char *dir = lq_arena_printf(j->arena, "%s/teacher", cache);
    const char *path = lq_arena_printf(j->arena, "%s/%.32s.safetensors", dir, id.hex);
    LQ_TRY(lq_path_make_dirs(dir));
    if (!lq_path_exists(path))
        LQ_TRY(lq_teacher_store(&j->model.q.w, data, &plan, path, id.hex));
    return lq_teacher_open(path, id.hex, &plan, j->model.q.w.config.V, j->arena, file);
}

static lq_status train_with(job *j, lq_train_config *c, lq_batches *data)
{
    lq_train_result result = {0};
    c->checkpoint = lq_arena_printf(j->arena, "%s/%s.checkpoint", j->work, j->id);
    c->checkpoint_s = 15;
    c->fingerprint = j->id;
    c->noise = lq_rng_split(&j->rng, "noise", 0);
    const lq_status status = lq_train(&j->q, data, c, &j->large, NULL, NULL, &result);
    store_curve(j, &result, c);
    lq_run_metric(j->run, "tokens_seen", "token", (double)result.tokens);
    if (c->loss.kind == LQ_LOSS_CAKLD)
        lq_run_metric(j->run, "cakld_beta", "1", result.beta);
    if (status == LQ_OK)
        lq_run_metric(j->run, "train_loss_final", "nat/token", result.final_loss);
    return status;
}

static lq_status train(job *j)
{
    lq_batches batches;
    lq_digest digest;
    lq_teacher_file file;
    lq_train_config c = lq_recipe_train(&j->recipe, lq_recipe_steps(&j->recipe, j->tokens));
    LQ_TRY(get_batches(j, &c, &batches, &digest));
    if (!lq_loss_has_teacher(&c.loss) || j->recipe.train.teacher_topk == 0) {
        c.teacher.w = lq_loss_has_teacher(&c.loss) ? &j->model.q.w : NULL;
        return train_with(j, &c, &batches);
    }
    LQ_TRY(get_predictions(j, &c, &batches, &digest, &file));
    c.teacher.file = &file;
    const lq_status status = train_with(j, &c, &batches);
    lq_teacher_close(&file);
    return status;
}

/* suffix: what sets the metrics of a second text apart. */
static lq_status measure_text(job *j, const lq_weights *w, const char *text, size_t windows,
                              const char *suffix)
{
    lq_eval_data data;
    lq_perplexity ppl;
    LQ_TRY(lq_model_eval_data(&j->model, text, j->recipe.eval.context, j->arena, &data));
    data.windows.limit = windows;
    LQ_TRY(lq_perplexity_windows(w, &data.windows, j->arena, &ppl));
    const char *const name[] = {lq_arena_printf(j->arena, "perplexity%s", suffix),
                                lq_arena_printf(j->arena, "nats_per_token%s", suffix),
                                lq_arena_printf(j->arena, "predicted_tokens%s", suffix)};
    lq_run_metric(j->run, name[0], "1", ppl.ppl);
    lq_run_metric(j->run, name[1], "nat/token", ppl.nats_per_token);
    lq_run_metric(j->run, name[2], "token", (double)ppl.n_predicted);
    return LQ_OK;
}

/* Packs, reads the bytes back into a fresh model, and measures that. */
static lq_status measure(job *j)
{
    const char *dir = j->keep_dir != NULL
                          ? j->keep_dir
                          : lq_arena_printf(j->arena, "%s/%s.packed", j->work, j->id);
    lq_qmodel shipped;
    lq_packed_size size;
    const lq_recipe *r = &j->recipe;
    LQ_TRY(lq_artifact_write(&j->q, dir));
    if (j->keep_dir != NULL)
        LQ_TRY(lq_model_copy_tokenizer(&j->model, dir));
    lq_arena_close(&j->large); /* from here on there is only what ships */
    LQ_TRY(lq_artifact_read(dir, lq_method_find, j->arena, &shipped, &size));
    if (j->keep_dir == NULL)
        LQ_TRY(lq_path_remove_tree(dir));
    lq_run_metric(j->run, "bits_per_weight", "bit", size.bits_per_weight);
    lq_run_metric(j->run, "bits_per_weight_model", "bit", size.bits_per_weight_model);
    if (strcmp(r->eval_data, "none") != 0)
        LQ_TRY(measure_text(j, &shipped.w, r->eval_data, r->eval.windows, ""));
    if (r->eval_also != NULL)
        LQ_TRY(measure_text(j, &shipped.w, r->eval_also, r->eval.also_windows, "_also"));
    return LQ_OK;
}

static lq_status work_through(job *j)
{
    LQ_TRY(quantize(j));
    if (j->tokens > 0)
        LQ_TRY(train(j));
    else
        lq_run_metric(j->run, "tokens_seen", "token", 0);
    return measure(j);
}

/* What stands in for the model where its first source could not be reached: every table shall say so. */
static void attach_label(job *j)
{
    const char *label = lq_catalog_model_label(j->model.name, j->model.path, j->arena);
    if (label == NULL)
        return;
    lq_json *about = lq_json_object();
    lq_json_set_string(about, "label", label);
    lq_run_attach(j->run, "model", about);
}

static lq_status execute(const lq_json *resolved, lq_store *store, const char *work,
                         const char *keep_dir, lq_arena *arena)
{
    job j;
    lq_digest id;
    LQ_TRY(lq_store_id(resolved, &id));
    LQ_TRY(lq_path_make_dirs(work));
    lq_status status = read_job(resolved, arena, &j);
    j.work = work;
    j.keep_dir = keep_dir;
    j.id = id.hex;
    if (status == LQ_OK)
        status = lq_run_begin(store, resolved, &j.run);
    if (status == LQ_OK) {
        lq_run_attach(j.run, "program", lq_program_to_json());
        lq_run_attach(j.run, "machine", lq_machine_to_json());
        attach_label(&j);
        status = work_through(&j);
        /* Arithmetic that fails is a result, with its reason; anything else is not. */
        if (status == LQ_OK || status == LQ_E_NUMERIC) {
            char note[1024];
            snprintf(note, sizeof note, "%s", status == LQ_OK ? "" : lq_status_note());
            status = lq_run_commit(j.run, status == LQ_OK ? LQ_FINISHED : LQ_DIVERGED, note);
        } else {
            lq_run_abandon(j.run);
        }
    }
    lq_model_close(&j.model);
    lq_arena_close(&j.large);
    return status == LQ_OK ? lq_run_clear(work, id.hex) : status;
}

lq_status lq_run_clear(const char *work, const char *id)
{
    static const char *const ends[] = {"checkpoint", "packed", "point.json", "log", "lock"};
    lq_arena arena = {0};
    lq_status status = LQ_OK;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0] && status == LQ_OK; i++)
        status = lq_path_remove_tree(lq_arena_printf(&arena, "%s/%s.%s", work, id, ends[i]));
    lq_arena_close(&arena);
    return status;
}

lq_status lq_run_execute(const lq_json *resolved, lq_store *store, const char *work,
                         const char *keep_dir)
{
    lq_arena arena = {0};
    lq_status status = execute(resolved, store, work, keep_dir, &arena);
    lq_arena_close(&arena);
    return status;
}
