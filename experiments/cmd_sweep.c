/* lcqat sweep: the runs of a specification that the store does not have yet, as child processes.
 *
 * First the search; then the results, which take over its winners. --shard divides the results only: each
 * shard needs all winners, so each sees to the whole search. Shards may share a store: `run` locks a run
 * and looks again, so nothing is computed twice. */
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/store/store.h"
#include "experiments/command.h"
#include "experiments/cost.h"
#include "experiments/pool.h"
#include "experiments/run.h"
#include "experiments/sources.h"
#include "experiments/spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SHORT_ID = 12 };

typedef struct item { /* a point of the spec on its way through the sweep */
    const lq_point *point;
    lq_digest id;
    double cost;
    lq_job_part part[LQ_JOB_PARTS];
    bool twin;   /* the same run stands earlier in the spec */
    bool mine;   /* of this shard */
    bool stored; /* in the store, before or now */
    bool ran;    /* by this sweep */
} item;

typedef struct phase {
    const char *name;
    lq_points points;
    item *item;          /* (points.n) */
    size_t unique, had;  /* points: distinct; stored before */
    size_t ran, pending; /* run by this sweep; waiting for the search */
    size_t others;       /* not stored, of other shards */
    size_t diverged;     /* of those in the store now */
} phase;

typedef struct sweep {
    lq_spec *spec;
    lq_store *store; /* NULL: a dry run where there is none */
    const char *root, *work;
    size_t jobs, shard, shards;
    bool dry, json;
    lq_arena *arena;
    lq_json *failed; /* [{id, variant, model, message}] */
    lq_winner *winner;
    size_t n_winners;
    phase search, results;
} sweep;

static bool is_stored(const sweep *s, const lq_json *resolved, lq_digest *id)
{
    if (s->store)
        return lq_store_has(s->store, resolved, id);
    return lq_store_id(resolved, id) != LQ_OK; /* of a valid configuration: false, and the id */
}

static lq_status resolve(const sweep *s, phase *f, size_t i)
{
    item *it = &f->item[i];
    lq_json *resolved;
    it->point = &f->points.at[i];
    lq_status status = lq_run_resolve(it->point->json, &resolved);
    if (status != LQ_OK)
        return lq_fail(status, "%s of %s on %s: %s", f->name, it->point->variant, it->point->model,
                       lq_status_note());
    it->stored = is_stored(s, resolved, &it->id);
    it->cost = lq_cost_of(resolved, lq_cost_parameters(it->point->model), it->part);
    lq_json_free(resolved);
    return LQ_OK;
}

/* Models that the catalog knows and this machine does not have yet. */
static lq_status bring_models(const phase *f)
{
    const char *last = NULL;
    for (size_t i = 0; i < f->points.n; i++) {
        const char *model = f->points.at[i].model;
        if (last == NULL || strcmp(model, last) != 0)
            LQ_TRY(lq_source_bring_model(model));
        last = model;
    }
    return LQ_OK;
}

static lq_status prepare(const sweep *s, phase *f, bool sharded)
{
    if (!s->dry)
        LQ_TRY(bring_models(f));
    LQ_TRY(lq_arena_new(s->arena, &f->item, f->points.n + 1));
    for (size_t i = 0; i < f->points.n; i++) {
        item *it = &f->item[i];
        it->point = &f->points.at[i];
        if (it->point->pending) {
            f->pending++;
            continue;
        }
        LQ_TRY(resolve(s, f, i));
        for (size_t j = 0; j < i && !it->twin; j++)
            it->twin = strcmp(f->item[j].id.hex, it->id.hex) == 0;
        if (it->twin)
            continue;
        it->mine = !sharded || i % s->shards == s->shard;
        f->unique++;
        f->had += it->stored;
        f->others += !it->mine && !it->stored;
    }
    return LQ_OK;
}

static const char *file_of(const sweep *s, const item *it, const char *end)
{
    return lq_arena_printf(s->arena, "%s/%s.%s", s->work, it->id.hex, end);
}

static lq_status write_job(const sweep *s, const item *it, lq_job *job)
{
    const char *path = file_of(s, it, "point.json");
    const char *text = lq_json_pretty(it->point->json, s->arena);
    LQ_TRY(lq_file_write_all(path, text, strlen(text)));
    const char *argv[] = {"lcqat", "run", path, "--store", s->root, "--work", s->work};
    const size_t n = sizeof argv / sizeof argv[0];
    LQ_TRY(lq_arena_new(s->arena, &job->argv, n + 1));
    for (size_t i = 0; i < n; i++)
        job->argv[i] = lq_arena_printf(s->arena, "%s", argv[i]);
    job->log = file_of(s, it, "log");
    job->cost = it->cost;
    memcpy(job->part, it->part, sizeof job->part);
    return LQ_OK;
}

static void name_failure(const sweep *s, const item *it, const char *message)
{
    lq_json *one = lq_json_object();
    lq_json_set_string(one, "id", it->id.hex);
    lq_json_set_string(one, "variant", it->point->variant);
    lq_json_set_string(one, "model", it->point->model);
    lq_json_set_string(one, "message", message);
    lq_json_append(s->failed, one);
}

/* What a job left: the record, or a failure and its log. */
static void settle(const sweep *s, phase *f, item *it, const lq_job *job, bool stopped)
{
    lq_json *record;
    it->stored = lq_store_read(s->store, it->id.hex, &record) == LQ_OK;
    lq_json_free(record);
    if (it->stored) {
        it->ran = true;
        f->ran++;
        lq_run_clear(s->work, it->id.hex);
    } else if (!stopped) {
        name_failure(s, it, job->done ? "it ended well but stored no record" : job->ending);
    }
}

static lq_status run_phase(const sweep *s, phase *f)
{
    lq_job *job;
    size_t *which, n = 0;
    LQ_TRY(lq_arena_new(s->arena, &job, f->points.n + 1));
    LQ_TRY(lq_arena_new(s->arena, &which, f->points.n + 1));
    for (size_t i = 0; i < f->points.n; i++) {
        const item *it = &f->item[i];
        if (it->point->pending || it->twin)
            continue;
        if (it->stored)
            lq_run_clear(s->work, it->id.hex); /* of a sweep that was killed */
        if (it->stored || !it->mine)
            continue;
        LQ_TRY(write_job(s, it, &job[n]));
        which[n++] = i;
    }
    lq_log_info("%s: %zu runs, %zu stored, %zu to run%s", f->name, f->unique, f->had, n,
                f->others > 0 ? " in this shard" : "");
    /* the file that runs now, even when a new build took its name meanwhile */
    const lq_pool pool = {"/proc/self/exe", f->name, s->jobs};
    lq_status status = n > 0 ? lq_pool_run(&pool, job, n) : LQ_OK;
    for (size_t k = 0; k < n; k++)
        settle(s, f, &f->item[which[k]], &job[k], status != LQ_OK);
    if (status != LQ_OK) /* settle looked into the store, which writes its own notes */
        return status == LQ_E_STOPPED
                   ? lq_fail(status, "%s: stopped, %zu of %zu runs done; the same command goes on",
                             f->name, f->ran, n)
                   : lq_fail(status, "%s: no process could be started for a run", f->name);
    return LQ_OK;
}

/* Infinite when it diverged, NaN when there is no record. */
static double perplexity_of(const sweep *s, const item *it)
{
    lq_json *record;
    if (!s->store || lq_store_read(s->store, it->id.hex, &record) != LQ_OK)
        return (double)NAN;
    const double ppl = lq_store_metric(record, "perplexity");
    const bool usable = lq_store_outcome(record) == LQ_FINISHED && !isnan(ppl);
    lq_json_free(record);
    return usable ? ppl : (double)INFINITY;
}

static lq_status find_winners(sweep *s)
{
    double *ppl;
    const phase *f = &s->search;
    LQ_TRY(lq_arena_new(s->arena, &ppl, f->points.n + 1));
    for (size_t i = 0; i < f->points.n; i++)
        ppl[i] = perplexity_of(s, &f->item[i]);
    LQ_TRY(lq_spec_winners(s->spec, &f->points, ppl, s->arena, &s->winner, &s->n_winners));
    for (size_t i = 0; i < s->n_winners; i++)
        if (isinf(s->winner[i].perplexity))
            lq_log_warn("every setting of %s on %s diverged; the results take the first",
                        s->winner[i].variant, s->winner[i].model);
    return LQ_OK;
}

static void count_diverged(const sweep *s, phase *f)
{
    for (size_t i = 0; i < f->points.n; i++) {
        const item *it = &f->item[i];
        lq_json *record;
        if (!it->stored || it->twin || lq_store_read(s->store, it->id.hex, &record) != LQ_OK)
            continue;
        f->diverged += lq_store_outcome(record) == LQ_DIVERGED;
        lq_json_free(record);
    }
}

static void print_points(const phase *f)
{
    for (size_t i = 0; i < f->points.n; i++) {
        const item *it = &f->item[i];
        const char *state = it->point->pending ? "waits for the search"
                            : it->twin         ? "as above"
                            : it->stored       ? "stored"
                            : it->mine         ? "to run"
                                               : "of another shard";
        printf("%-8s %-*.*s  %-20s %-16s fraction %-8g seed %-4zu grid %zu  %s\n", f->name,
               SHORT_ID, SHORT_ID, it->point->pending ? "-" : it->id.hex, it->point->variant,
               it->point->model, it->point->fraction, it->point->seed, it->point->grid, state);
    }
}

static void print_summary(const sweep *s, const phase *f)
{
    const size_t to_run = f->unique - f->had - f->others - f->ran;
    printf("%s: %zu runs, %zu stored before, %zu run now", f->name, f->unique, f->had, f->ran);
    if (to_run > 0)
        printf(s->dry ? ", %zu to run" : ", %zu without a record", to_run);
    if (f->others > 0)
        printf(", %zu of other shards", f->others);
    if (f->pending > 0)
        printf(", %zu wait for the search", f->pending);
    if (f->diverged > 0)
        printf(", %zu diverged", f->diverged);
    printf("\n");
}

static lq_json *phase_to_json(const phase *f)
{
    lq_json *json = lq_json_object(), *points = lq_json_array();
    for (size_t i = 0; i < f->points.n; i++) {
        const item *it = &f->item[i];
        if (it->twin)
            continue;
        lq_json *one = lq_json_object();
        if (!it->point->pending)
            lq_json_set_string(one, "id", it->id.hex);
        lq_json_set_string(one, "variant", it->point->variant);
        lq_json_set_string(one, "model", it->point->model);
        lq_json_set_bool(one, "stored", it->stored);
        lq_json_set_bool(one, "ran", it->ran);
        lq_json_append(points, one);
    }
    lq_json_set_number(json, "runs", (double)f->unique);
    lq_json_set_number(json, "stored_before", (double)f->had);
    lq_json_set_number(json, "run_now", (double)f->ran);
    lq_json_set_number(json, "pending", (double)f->pending);
    lq_json_set_number(json, "diverged", (double)f->diverged);
    lq_json_set(json, "points", points);
    return json;
}

static lq_json *winners_to_json(const sweep *s)
{
    lq_json *list = lq_json_array();
    for (size_t i = 0; i < s->n_winners; i++) {
        const lq_winner *w = &s->winner[i];
        lq_json *one = lq_json_object();
        lq_json_set_string(one, "variant", w->variant);
        lq_json_set_string(one, "model", w->model);
        lq_json *settings = w->settings ? lq_json_copy(w->settings) : NULL;
        if (settings) {
            lq_json_set_number(one, "grid", (double)w->grid);
            lq_json_set_number(one, "perplexity", w->perplexity);
            lq_json_set(one, "settings", settings);
        }
        lq_json_append(list, one);
    }
    return list;
}

static void print_all(const sweep *s)
{
    if (s->json) {
        lq_json *json = lq_json_object();
        lq_json_set_string(json, "experiment", lq_spec_experiment(s->spec));
        lq_json_set_string(json, "store", s->root);
        lq_json_set(json, "search", phase_to_json(&s->search));
        lq_json_set(json, "winners", winners_to_json(s));
        lq_json_set(json, "results", phase_to_json(&s->results));
        lq_json *failed = lq_json_copy(s->failed);
        if (failed)
            lq_json_set(json, "failed", failed);
        lq_print_json(json);
        return;
    }
    if (s->dry) {
        print_points(&s->search);
        print_points(&s->results);
    }
    for (size_t i = 0; i < s->n_winners; i++) {
        const lq_winner *w = &s->winner[i];
        if (w->settings)
            printf("search: %s on %s: setting %zu of %zu, perplexity %.4f: %s\n", w->variant,
                   w->model, w->grid + 1, w->n_grid, w->perplexity,
                   lq_json_canonical(w->settings, s->arena));
    }
    print_summary(s, &s->search);
    print_summary(s, &s->results);
}

/* Both phases. A run that failed in the search leaves its variant's results pending, and the rest go on. */
static lq_status drive(sweep *s)
{
    s->search.name = "search";
    s->results.name = "results";
    LQ_TRY(lq_spec_search(s->spec, &s->search.points));
    LQ_TRY(prepare(s, &s->search, false));
    if (!s->dry)
        LQ_TRY(run_phase(s, &s->search));
    LQ_TRY(find_winners(s));
    LQ_TRY(lq_spec_results(s->spec, s->winner, s->n_winners, &s->results.points));
    LQ_TRY(prepare(s, &s->results, true));
    if (!s->dry)
        LQ_TRY(run_phase(s, &s->results));
    count_diverged(s, &s->search);
    count_diverged(s, &s->results);
    print_all(s);
    const size_t n = lq_json_count(s->failed);
    if (n == 0)
        return LQ_OK;
    for (const lq_json *f = lq_json_first(s->failed); f; f = lq_json_next(f))
        lq_log_warn("%s of %s on %s failed: %s", lq_json_string(lq_json_get(f, "id")),
                    lq_json_string(lq_json_get(f, "variant")),
                    lq_json_string(lq_json_get(f, "model")),
                    lq_json_string(lq_json_get(f, "message")));
    return lq_fail(LQ_E_MISSING,
                   "%s: %zu run%s failed and left no record (named above; logs in %s); "
                   "the same command tries again",
                   lq_spec_experiment(s->spec), n, n == 1 ? "" : "s", s->work);
}

/* DIR/../work, written without the dots where the text allows. */
static const char *work_beside(const char *root, lq_arena *arena)
{
    size_t n = strlen(root);
    while (n > 1 && root[n - 1] == '/')
        n--;
    const char *trimmed = lq_arena_printf(arena, "%.*s", (int)n, root),
               *base = lq_path_base(trimmed);
    if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || *base == '\0')
        return lq_arena_printf(arena, "%s/../work", trimmed);
    return lq_arena_printf(arena, "%.*swork", (int)(base - trimmed), trimmed);
}

static lq_status read_shard(const char *text, sweep *s)
{
    char first[24];
    const char *slash = strchr(text, '/');
    s->shard = 0;
    s->shards = 1;
    if (!*text)
        return LQ_OK;
    if (!slash || (size_t)(slash - text) >= sizeof first)
        return lq_fail(LQ_E_OPTION, "--shard: expected I/N, such as 1/4, got %.40s", text);
    snprintf(first, sizeof first, "%.*s", (int)(slash - text), text);
    LQ_TRY(lq_text_size(slash + 1, "--shard", 1, 100000, &s->shards));
    LQ_TRY(lq_text_size(first, "--shard", 1, s->shards, &s->shard));
    s->shard--;
    return LQ_OK;
}

static lq_status open_all(sweep *s, const lq_args *args)
{
    const char *fallback =
        lq_arena_printf(s->arena, "results/%s/runs", lq_spec_experiment(s->spec));
    s->root = lq_args_text(args, "store", fallback);
    s->work = work_beside(s->root, s->arena);
    if (s->dry && !lq_path_is_dir(s->root))
        return LQ_OK;
    LQ_TRY(lq_store_open(s->root, &s->store));
    return s->dry ? LQ_OK : lq_path_make_dirs(s->work);
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    sweep s = {.arena = arena, .failed = lq_json_array()};
    s.dry = lq_args_flag(args, "dry-run");
    s.json = lq_args_flag(args, "json");
    lq_status status = lq_args_size(args, "jobs", 1, 1024, 1, &s.jobs);
    if (status == LQ_OK)
        status = read_shard(lq_args_text(args, "shard", ""), &s);
    if (status == LQ_OK)
        status = lq_spec_read(lq_args_at(args, 0), &s.spec);
    if (status == LQ_OK)
        status = open_all(&s, args);
    if (status == LQ_OK)
        status = drive(&s);
    lq_points_free(&s.search.points);
    lq_points_free(&s.results.points);
    lq_store_close(s.store);
    lq_spec_free(s.spec);
    lq_json_free(s.failed);
    return status;
}

static const lq_arg_spec spec[] = {
    {"jobs", 'j', LQ_ARG_TEXT, "JOBS", "runs at once (1: a single one with all threads)"},
    {"shard", 0, LQ_ARG_TEXT, "I/N",
     "every Nth of the results, from the Ith; the search is done by all"},
    {"dry-run", 0, LQ_ARG_FLAG, NULL, "lists the runs and what the store has of them"},
    {"store", 0, LQ_ARG_TEXT, "DIR",
     "where records go (results/EXPERIMENT/runs); work lies beside"},
    LQ_ARG_JSON,
};
const lq_command lq_command_sweep = {
    .name = "sweep",
    .summary = "runs a grid of experiments, skipping what the store has",
    .positionals = "SPEC.json",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
