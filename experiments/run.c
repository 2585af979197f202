#include "experiments/run.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/eval/perplexity.h"
#include "experiments/methods.h"
#include "experiments/model.h"
#include "experiments/recipe.h"
#include "experiments/version.h"

#include <stdio.h>
#include <string.h>

enum { CURVE_POINTS = 200 }; /* a stored loss curve has at most so many points */

/* ---- resolving ---- */

static lq_status resolve_method(const lq_json *point, lq_arena *arena, lq_json *out,
                                const lq_method **method)
{
    const lq_json *given = lq_json_get(point, "method");
    const char *name;
    void *opts;
    if (given == NULL || lq_json_type(given) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "run: the object \"method\" is missing");
    LQ_TRY(lq_json_text(given, "run: method", "name", NULL, &name));
    LQ_TRY(lq_method_find(name, method));
    lq_json *options = lq_json_object();
    for (const lq_json *m = lq_json_first(given); m != NULL; m = lq_json_next(m))
        if (strcmp(lq_json_key(m), "name") != 0)
            lq_json_set(options, lq_json_key(m), lq_json_copy(m));
    lq_status status = lq_method_options(*method, options, "run: method", arena, &opts);
    lq_json_free(options);
    LQ_TRY(status);
    lq_json *resolved = lq_options_write((*method)->options, (*method)->n_options, opts);
    lq_json_set_string(resolved, "name", name);
    lq_json_set(out, "method", resolved);
    return LQ_OK;
}

static void set_digest(lq_json *digests, const char *name, const char *hex)
{
    lq_json_set_string(digests, name, hex);
}

/* The directory of another tokenizer than the model's own; NULL: none was asked for. */
static const char *tokenizer_of(const lq_json *config)
{
    return lq_json_string(lq_json_get(config, "tokenizer"));
}

/* Digests of the model, its tokenizer, and every text that the run reads. */
static lq_status resolve_digests(const char *model_name, const char *tokenizer, const lq_recipe *r,
                                 bool trains, bool calibrates, lq_arena *arena, lq_json *out)
{
    lq_model model;
    lq_data data = {0};
    lq_eval_data scored;
    lq_json *digests = lq_json_object();
    const char *names[] = {r->eval_data, trains ? r->train_data : NULL,
                           calibrates ? r->calib_data : NULL};
    lq_digest hessians;
    lq_status status = lq_model_peek_with(model_name, tokenizer, arena, &model);
    if (status == LQ_OK) {
        set_digest(digests, "model", model.digest.hex);
        if (model.tok != NULL)
            set_digest(digests, "tokenizer", lq_tokenizer_digest(model.tok)->hex);
    }
    for (size_t i = 0; status == LQ_OK && i < 3; i++) {
        if (names[i] == NULL || strcmp(names[i], "none") == 0)
            continue;
        status = i == 0 ? lq_model_eval_data(&model, names[i], r->eval.context, arena, &scored)
                        : lq_model_data(&model, names[i], arena, &data);
        data = status == LQ_OK && i == 0 ? scored.data : data;
        if (status == LQ_OK)
            set_digest(digests, lq_arena_printf(arena, "data %s", names[i]), data.digest.hex);
        if (status == LQ_OK)
            set_digest(digests, "corpus", data.whole.hex);
    }
    if (status == LQ_OK && r->hessians != NULL)
        status = lq_sha256_file(r->hessians, &hessians);
    if (status == LQ_OK && r->hessians != NULL)
        set_digest(digests, "hessians", hessians.hex);
    lq_model_close(&model);
    if (status == LQ_OK)
        lq_json_set(out, "sha256", digests);
    else
        lq_json_free(digests);
    return status;
}

static lq_status resolve_into(const lq_json *point, lq_arena *arena, lq_json *out)
{
    static const char *const text_key[] = {"experiment", "variant", "purpose", "model"};
    static const char *const text_fallback[] = {"single", "", "result", NULL};
    const lq_method *method;
    lq_recipe recipe;
    double fraction, budget;
    size_t seed;
    const char *text = NULL;
    LQ_TRY(lq_json_only_keys(point, "run", "experiment", "variant", "purpose", "model", "method",
                             "fraction", "budget_tokens", "seed", "train", "calib", "blockwise",
                             "eval", "sha256", "tokenizer", NULL));
    for (size_t i = 0; i < 4; i++) {
        LQ_TRY(lq_json_text(point, "run", text_key[i], text_fallback[i], &text));
        lq_json_set_string(out, text_key[i], text);
    }
    LQ_TRY(resolve_method(point, arena, out, &method));
    LQ_TRY(lq_json_real(point, "run", "fraction", 0, 1, 0, &fraction));
    LQ_TRY(lq_json_real(point, "run", "budget_tokens", 0, 1e15, 0, &budget));
    LQ_TRY(lq_json_size(point, "run", "seed", 0, 1ul << 31, 1, &seed));
    LQ_TRY(lq_recipe_read(point, "run", arena, &recipe));
    const bool trains = fraction > 0 && (method->needs & LQ_TRAINS) != 0;
    if (fraction > 0 && !trains)
        return lq_fail(LQ_E_OPTION, "run: %s trains nothing, fraction must be 0", method->name);
    if (trains && budget <= 0)
        return lq_fail(LQ_E_OPTION, "run: budget_tokens is missing");
    if (recipe.hessians != NULL && (method->needs & LQ_NEEDS_GRAM) == 0)
        return lq_fail(LQ_E_OPTION, "run: calib: hessians: %s does not look at Hessians",
                       method->name);
    lq_json_set_number(out, "fraction", fraction);
    lq_json_set_number(out, "budget_tokens", trains ? budget : 0);
    lq_json_set_number(out, "seed", (double)seed);
    lq_recipe_write(&recipe, out);
    if (tokenizer_of(point) != NULL)
        lq_json_set_string(out, "tokenizer", tokenizer_of(point));
    return resolve_digests(text, tokenizer_of(point), &recipe, trains,
                           lq_recipe_calibrates(&recipe, method->needs), arena, out);
}

lq_status lq_run_resolve(const lq_json *point, lq_json **resolved)
{
    lq_arena arena = {0};
    lq_json *out = lq_json_object();
    lq_status status = resolve_into(point, &arena, out);
    lq_arena_close(&arena);
    if (status == LQ_OK)
        *resolved = out;
    else
        lq_json_free(out);
    return status;
}

/* ---- executing ---- */

typedef struct job {
    const lq_json *config;
    const char *work, *keep_dir, *id;
    lq_recipe recipe;
    const lq_method *method;
    void *opts;
    lq_rng rng;
    lq_model model;
    lq_qmodel q;
    lq_run *run;
    double tokens; /* budget of the training; 0: none */
    lq_arena *arena;
} job;

static lq_status read_job(const lq_json *config, lq_arena *arena, job *j)
{
    size_t seed;
    double fraction, budget;
    const char *name, *model;
    const lq_json *method = lq_json_get(config, "method");
    *j = (job){.config = config, .arena = arena};
    LQ_TRY(lq_json_text(method, "run: method", "name", NULL, &name));
    LQ_TRY(lq_method_find(name, &j->method));
    lq_json *options = lq_json_object();
    for (const lq_json *m = lq_json_first(method); m != NULL; m = lq_json_next(m))
        if (strcmp(lq_json_key(m), "name") != 0)
            lq_json_set(options, lq_json_key(m), lq_json_copy(m));
    lq_status status = lq_method_options(j->method, options, "run: method", arena, &j->opts);
    lq_json_free(options);
    LQ_TRY(status);
    LQ_TRY(lq_json_size(config, "run", "seed", 0, 1ul << 31, 1, &seed));
    LQ_TRY(lq_json_real(config, "run", "fraction", 0, 1, 0, &fraction));
    LQ_TRY(lq_json_real(config, "run", "budget_tokens", 0, 1e15, 0, &budget));
    LQ_TRY(lq_json_text(config, "run", "model", NULL, &model));
    LQ_TRY(lq_recipe_read(config, "run", arena, &j->recipe));
    j->rng = lq_rng_seed(seed);
    j->tokens = fraction * budget;
    return lq_model_open_with(model, tokenizer_of(config), arena, &j->model);
}

static void store_block(void *context, size_t layer, const lq_blockwise_result *r)
{
    job *j = context;
    lq_run_point(j->run, "blockwise_mse_before", (double)layer, r->mse_before);
    lq_run_point(j->run, "blockwise_mse_after", (double)layer, r->mse_after);
    lq_run_point(j->run, "blockwise_epochs", (double)layer, (double)r->epochs);
}

static lq_status quantize(job *j)
{
    lq_calib_data calib = {0};
    if (lq_recipe_calibrates(&j->recipe, j->method->needs)) {
        lq_data data;
        LQ_TRY(lq_model_data(&j->model, j->recipe.calib_data, j->arena, &data));
        LQ_TRY(lq_recipe_calib(&j->recipe, &data, &j->rng, j->arena, &calib));
    }
    if (j->model.q.method != NULL)
        return lq_fail(LQ_E_OPTION, "run: %s is quantized already", j->model.dir);
    const lq_rng init = lq_rng_split(&j->rng, "init", 0);
    const lq_quantize_how how = {.blockwise = &j->recipe.blockwise,
                                 .grams = j->recipe.hessians,
                                 .model_sha256 = j->model.digest.hex,
                                 .on_block = store_block,
                                 .context = j};
    LQ_TRY(lq_qmodel_new(&j->model.q.w, j->method, j->opts, j->arena, &j->q));
    return lq_quantize_with(&j->q, &j->model.q.w, &calib, &init, &how);
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

static lq_status train(job *j)
{
    lq_data data;
    lq_batches batches;
    lq_train_result result = {0};
    lq_train_config c = lq_recipe_train(&j->recipe, lq_recipe_steps(&j->recipe, j->tokens));
    const lq_rng order = lq_rng_split(&j->rng, "data", 0);
    LQ_TRY(lq_model_data(&j->model, j->recipe.train_data, j->arena, &data));
    LQ_TRY(lq_batches_new(data.token, data.n, c.T, &order, j->arena, &batches));
    c.checkpoint = lq_arena_printf(j->arena, "%s/%s.checkpoint", j->work, j->id);
    c.checkpoint_s = 15;
    c.fingerprint = j->id;
    c.noise = lq_rng_split(&j->rng, "noise", 0);
    const lq_status status = lq_train(&j->q, &batches, &c, j->arena, NULL, NULL, &result);
    store_curve(j, &result, &c);
    lq_run_metric(j->run, "tokens_seen", "token", (double)result.tokens);
    if (status == LQ_OK)
        lq_run_metric(j->run, "train_loss_final", "nat/token", result.final_loss);
    return status;
}

/* Packs, reads the bytes back into a fresh model, and measures that. */
static lq_status measure(job *j)
{
    const char *dir = j->keep_dir != NULL
                          ? j->keep_dir
                          : lq_arena_printf(j->arena, "%s/%s.packed", j->work, j->id);
    lq_qmodel shipped;
    lq_packed_size size;
    lq_eval_data data;
    lq_perplexity ppl;
    LQ_TRY(lq_artifact_write(&j->q, dir));
    LQ_TRY(lq_artifact_read(dir, lq_method_find, j->arena, &shipped, &size));
    LQ_TRY(j->keep_dir != NULL ? lq_model_copy_tokenizer(&j->model, dir)
                               : lq_path_remove_tree(dir));
    lq_run_metric(j->run, "bits_per_weight", "bit", size.bits_per_weight);
    lq_run_metric(j->run, "bits_per_weight_model", "bit", size.bits_per_weight_model);
    if (strcmp(j->recipe.eval_data, "none") == 0)
        return LQ_OK;
    LQ_TRY(lq_model_eval_data(&j->model, j->recipe.eval_data, j->recipe.eval.context, j->arena,
                              &data));
    data.windows.limit = j->recipe.eval.windows;
    LQ_TRY(lq_perplexity_windows(&shipped.w, &data.windows, j->arena, &ppl));
    lq_run_metric(j->run, "perplexity", "1", ppl.ppl);
    lq_run_metric(j->run, "nats_per_token", "nat/token", ppl.nats_per_token);
    lq_run_metric(j->run, "predicted_tokens", "token", (double)ppl.n_predicted);
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

static lq_status execute(const lq_json *resolved, lq_store *store, const char *work,
                         const char *keep_dir, lq_arena *arena)
{
    job j;
    lq_digest id;
    LQ_TRY(lq_store_id(resolved, &id));
    LQ_TRY(lq_path_make_dirs(work));
    LQ_TRY(read_job(resolved, arena, &j));
    j.work = work;
    j.keep_dir = keep_dir;
    j.id = id.hex;
    lq_status status = lq_run_begin(store, resolved, &j.run);
    if (status == LQ_OK) {
        lq_run_attach(j.run, "program", lq_program_to_json());
        lq_run_attach(j.run, "machine", lq_machine_to_json());
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
    if (status == LQ_OK)
        LQ_TRY(lq_path_remove_tree(lq_arena_printf(arena, "%s/%s.checkpoint", work, id.hex)));
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
