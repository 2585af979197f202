/* Resolving: every default written out, digests beside names, what cannot be refused. */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/train/slots.h"
#include "experiments/methods.h"
#include "experiments/model.h"
#include "experiments/named_recipe.h"
#include "experiments/run.h"
#include "experiments/run_parts.h"

#include <string.h>

lq_status lq_run_method(const lq_json *run, const char *where, lq_arena *arena,
                        const lq_method **method, void **opts)
{
    const lq_json *given = lq_json_get(run, "method");
    const char *name, *place = lq_arena_printf(arena, "%s: method", where);
    if (given == NULL || lq_json_type(given) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "%s: the object \"method\" is missing", where);
    LQ_TRY(lq_json_text(given, place, "name", NULL, &name));
    LQ_TRY(lq_method_find(name, method));
    lq_json *options = lq_json_object();
    for (const lq_json *m = lq_json_first(given); m != NULL; m = lq_json_next(m))
        if (strcmp(lq_json_key(m), "name") != 0)
            lq_json_set(options, lq_json_key(m), lq_json_copy(m));
    lq_status status = lq_method_options(*method, options, place, arena, opts);
    lq_json_free(options);
    return status;
}

lq_status lq_run_start_read(const lq_json *run, lq_arena *arena, lq_run_start *out)
{
    const lq_json *start = lq_json_get(run, "start");
    memset(out, 0, sizeof *out);
    if (start == NULL)
        return LQ_OK;
    if (lq_json_type(start) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "run: start must be an object");
    LQ_TRY(lq_json_only_keys(start, "run: start", "method", "blockwise", NULL));
    LQ_TRY(lq_run_method(start, "run: start", arena, &out->method, &out->opts));
    return lq_recipe_read(start, "run: start", arena, &out->recipe);
}

static void write_method(const lq_method *method, const void *opts, lq_json *out)
{
    lq_json *resolved = lq_options_write(method->options, method->n_options, opts);
    lq_json_set_string(resolved, "name", method->name);
    lq_json_set(out, "method", resolved);
}

static void write_start(const lq_run_start *start, lq_json *out)
{
    lq_json *resolved = lq_json_object(), *members = lq_json_object();
    write_method(start->method, start->opts, resolved);
    lq_recipe_write(&start->recipe, members);
    const lq_json *blockwise = lq_json_get(members, "blockwise");
    if (blockwise != NULL)
        lq_json_set(resolved, "blockwise", lq_json_copy(blockwise));
    lq_json_free(members);
    lq_json_set(out, "start", resolved);
}

const char *lq_run_tokenizer(const lq_json *run)
{
    return lq_json_string(lq_json_get(run, "tokenizer"));
}

static void set_digest(lq_json *digests, const char *name, const char *hex)
{
    lq_json_set_string(digests, name, hex);
}

/* The second text is measured where it is at hand; where it is not, the run is one without it. */
static lq_status resolve_also(const lq_model *model, lq_recipe *r, lq_arena *arena,
                              lq_json *digests)
{
    lq_eval_data scored;
    if (r->eval_also == NULL)
        return LQ_OK;
    const lq_status status =
        lq_model_eval_data(model, r->eval_also, r->eval.context, arena, &scored);
    if (status == LQ_E_MISSING) {
        static bool said; /* once, not for each run of a sweep */
        if (!said)
            lq_log_info("eval: %s is left out: %s", r->eval_also, lq_status_note());
        said = true;
        r->eval_also = NULL;
        return LQ_OK;
    }
    LQ_TRY(status);
    set_digest(digests, lq_arena_printf(arena, "data %s", r->eval_also), scored.data.digest.hex);
    return LQ_OK;
}

/* Digests of the model, its tokenizer, and every text that the run reads. */
static lq_status resolve_digests(const char *model_name, const char *tokenizer, lq_recipe *r,
                                 bool trains, bool calibrates, lq_arena *arena, lq_json *out)
{
    lq_model model;
    lq_data data = {0};
    lq_eval_data scored;
    lq_json *digests = lq_json_object();
    const bool reads = trains && r->train.data_from != LQ_DATA_TEACHER;
    const char *names[] = {r->eval_data, reads ? r->train_data : NULL,
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
    if (status == LQ_OK)
        status = resolve_also(&model, r, arena, digests);
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

typedef struct point { /* what is being resolved */
    const lq_method *method;
    void *opts;
    lq_recipe recipe;
    lq_run_start start;
    const char *model,
        *tokenizer; /* tokenizer: NULL, or the directory of another than the model's */
    double fraction, budget;
    size_t seed;
    bool trains;
} point;

static lq_status refuse_combinations(const point *p, const char *named)
{
    const char *name = p->method->name;
    if (named != NULL && (p->method->needs & LQ_TRAINS) == 0)
        return lq_fail(LQ_E_OPTION, "run: recipe %s trains, %s does not", named, name);
    if (p->fraction > 0 && !p->trains)
        return lq_fail(LQ_E_OPTION, "run: %s trains nothing, fraction must be 0", name);
    if (p->trains && p->budget <= 0)
        return lq_fail(LQ_E_OPTION, "run: budget_tokens is missing");
    if (p->recipe.hessians != NULL && (p->method->needs & LQ_NEEDS_GRAM) == 0)
        return lq_fail(LQ_E_OPTION, "run: calib: hessians: %s does not look at Hessians", name);
    if (p->recipe.hessians != NULL && p->start.method != NULL)
        return lq_fail(LQ_E_OPTION, "run: calib: hessians are the full model's, start has another");
    return LQ_OK;
}

/* Is there anything to train, before an hour of calibration? Seen on a weight of the model's q_proj. */
static lq_status check_slots(const point *p, lq_arena *arena)
{
    lq_config c;
    const char *dir, *slots = p->recipe.train_slots;
    size_t moving = 0;
    const bool own = strcmp(slots, "method") == 0;
    if (!p->trains || (own && p->recipe.train.rest))
        return LQ_OK;
    LQ_TRY(lq_model_dir(p->model, arena, &dir));
    const char *path = lq_arena_printf(arena, "%s/config.json", dir);
    if (!lq_path_exists(path)) /* a file of weights and all: training says it later */
        return LQ_OK;
    LQ_TRY(lq_config_read(path, arena, &c));
    lq_theta th = {.method = p->method, .opts = p->opts, .out = c.H * c.dh, .in = c.D};
    LQ_TRY(p->method->layout(p->opts, th.out, th.in, th.slot, &th.n_slots));
    if (!own)
        LQ_TRY(lq_slots_check(slots, "run: train", &th));
    for (size_t s = 0; s < th.n_slots; s++)
        moving += th.slot[s].train && th.slot[s].kind == LQ_KIND_CONTINUOUS &&
                  (own || lq_slots_select(slots, &th, &th.slot[s]));
    if (moving == 0 && !p->recipe.train.rest)
        return lq_fail(LQ_E_OPTION,
                       "run: train: nothing moves: %s trains no slot among '%s', and rest is false",
                       p->method->name, slots);
    return LQ_OK;
}

static lq_status read_point(const lq_json *json, lq_arena *arena, point *p)
{
    LQ_TRY(lq_json_only_keys(json, "run", "experiment", "variant", "purpose", "model", "method",
                             "fraction", "budget_tokens", "seed", "recipe", "recipe_changed",
                             "train", "calib", "blockwise", "start", "eval", "sha256", "tokenizer",
                             NULL));
    p->tokenizer = lq_run_tokenizer(json);
    LQ_TRY(lq_json_text(json, "run", "model", NULL, &p->model));
    LQ_TRY(lq_run_method(json, "run", arena, &p->method, &p->opts));
    LQ_TRY(lq_json_real(json, "run", "fraction", 0, 1, 0, &p->fraction));
    LQ_TRY(lq_json_real(json, "run", "budget_tokens", 0, 1e15, 0, &p->budget));
    LQ_TRY(lq_json_size(json, "run", "seed", 0, 1ul << 31, 1, &p->seed));
    LQ_TRY(lq_recipe_read(json, "run", arena, &p->recipe));
    LQ_TRY(lq_run_start_read(json, arena, &p->start));
    p->trains = p->fraction > 0 && (p->method->needs & LQ_TRAINS) != 0;
    return LQ_OK;
}

/* json: the point over its recipe, of that name; changed: the recipe's settings that it has otherwise. */
static lq_status resolve_into(const lq_json *json, const char *changed, lq_arena *arena,
                              lq_json *out)
{
    static const char *const text_key[] = {"experiment", "variant", "purpose", "model"};
    static const char *const text_fallback[] = {"single", "", "result", NULL};
    point p = {0};
    const char *text, *named = lq_json_string(lq_json_get(json, "recipe"));
    named = named != NULL && lq_recipe_is_common(named) ? NULL : named;
    LQ_TRY(read_point(json, arena, &p));
    for (size_t i = 0; i < 4; i++) {
        LQ_TRY(lq_json_text(json, "run", text_key[i], text_fallback[i], &text));
        lq_json_set_string(out, text_key[i], text);
    }
    LQ_TRY(refuse_combinations(&p, named));
    LQ_TRY(check_slots(&p, arena));
    write_method(p.method, p.opts, out);
    if (named != NULL)
        lq_json_set_string(out, "recipe", named);
    if (named != NULL && *changed)
        lq_json_set_string(out, "recipe_changed", changed);
    if (p.start.method != NULL)
        write_start(&p.start, out);
    lq_json_set_number(out, "fraction", p.fraction);
    lq_json_set_number(out, "budget_tokens", p.trains ? p.budget : 0);
    lq_json_set_number(out, "seed", (double)p.seed);
    bool calibrates = lq_recipe_calibrates(&p.recipe, p.method->needs);
    if (p.start.method != NULL)
        calibrates = calibrates || lq_recipe_calibrates(&p.start.recipe, p.start.method->needs);
    if (p.tokenizer != NULL)
        lq_json_set_string(out, "tokenizer", p.tokenizer);
    LQ_TRY(resolve_digests(p.model, p.tokenizer, &p.recipe, p.trains, calibrates, arena, out));
    lq_recipe_write(&p.recipe, out);
    return LQ_OK;
}

lq_status lq_run_resolve(const lq_json *given, lq_json **resolved)
{
    lq_arena arena = {0};
    const char *changed;
    lq_json *out = lq_json_object(), *expanded = NULL;
    lq_status status = lq_recipe_expand(given, &arena, &expanded, &changed);
    if (status == LQ_OK)
        status = resolve_into(expanded, changed, &arena, out);
    lq_json_free(expanded);
    lq_arena_close(&arena);
    if (status == LQ_OK)
        *resolved = out;
    else
        lq_json_free(out);
    return status;
}
