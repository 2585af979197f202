#include "core/store/store.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ID_LENGTH = 64 };

struct lq_store {
    char *root;
};

struct lq_run {
    const lq_store *store;
    lq_digest id;
    lq_json *config, *metrics, *series, *attached; /* owned */
    char started[32];
    double wall_s, cpu_s; /* clocks when the run began */
};

static const char *const outcome_name[] = {
    [LQ_FINISHED] = "FINISHED", [LQ_DIVERGED] = "DIVERGED", [LQ_STOPPED] = "STOPPED"};
/* What commit writes itself, in the order of the file; attached keys stand between series and started. */
static const char *const own_key[] = {"id",     "outcome", "note",   "config", "metrics",
                                      "series", "started", "wall_s", "cpu_s",  "peak_bytes"};

lq_status lq_store_open(const char *root, lq_store **out)
{
    *out = NULL;
    LQ_TRY(lq_path_make_dirs(root));
    lq_store *store = malloc(sizeof *store);
    char *copy = strdup(root);
    if (!store || !copy) {
        free(store);
        free(copy);
        return lq_fail(LQ_E_MEMORY, "%s: out of memory for a store", root);
    }
    store->root = copy;
    *out = store;
    return LQ_OK;
}

void lq_store_close(lq_store *store)
{
    if (!store)
        return;
    free(store->root);
    free(store);
}

const char *lq_store_root(const lq_store *store) { return store->root; }

lq_status lq_store_id(const lq_json *resolved, lq_digest *id)
{
    lq_arena scratch = {0};
    const char *text = lq_json_canonical(resolved, &scratch);
    lq_status status = lq_sha256_of(text, strlen(text), id);
    lq_arena_close(&scratch);
    return status;
}

static bool is_id(const char *text, size_t length)
{
    if (length != ID_LENGTH)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isdigit((unsigned char)text[i]) && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    return true;
}

static const char *path_of(const lq_store *store, const char *id, lq_arena *arena)
{
    return lq_arena_printf(arena, "%s/%s.json", store->root, id);
}

static lq_status check_metrics(const lq_json *metrics, const char *path)
{
    for (const lq_json *m = lq_json_first(metrics); m; m = lq_json_next(m))
        if (!lq_json_get(m, "value") || !lq_json_string(lq_json_get(m, "unit")))
            return lq_fail(LQ_E_FORMAT, "%s: metric \"%.60s\" has no value or no unit", path,
                           lq_json_key(m));
    return LQ_OK;
}

static lq_status check_series(const lq_json *series, const char *path)
{
    for (const lq_json *s = lq_json_first(series); s; s = lq_json_next(s)) {
        const lq_json *x = lq_json_get(s, "x"), *value = lq_json_get(s, "value");
        if (!x || !value || lq_json_type(x) != LQ_JSON_ARRAY ||
            lq_json_type(value) != LQ_JSON_ARRAY || lq_json_count(x) != lq_json_count(value))
            return lq_fail(LQ_E_FORMAT,
                           "%s: series \"%.60s\": x and value are no arrays of one "
                           "length",
                           path, lq_json_key(s));
    }
    return LQ_OK;
}

/* A record proves itself: its name is the digest of the configuration it holds. */
static lq_status check_record(const lq_json *record, const char *id, const char *path)
{
    static const char *const object[] = {"config", "metrics", "series"};
    for (size_t i = 0; i < 3; i++) {
        const lq_json *part = lq_json_get(record, object[i]);
        if (!part || lq_json_type(part) != LQ_JSON_OBJECT)
            return lq_fail(LQ_E_FORMAT, "%s: no record of a run: object \"%s\" is missing", path,
                           object[i]);
    }
    const char *outcome = lq_json_string(lq_json_get(record, "outcome"));
    bool known = false;
    for (size_t i = 0; outcome && i < 3; i++)
        known = known || strcmp(outcome, outcome_name[i]) == 0;
    if (!known)
        return lq_fail(LQ_E_FORMAT, "%s: outcome is none of FINISHED, DIVERGED, STOPPED", path);
    const char *named = lq_json_string(lq_json_get(record, "id"));
    lq_digest digest;
    LQ_TRY(lq_store_id(lq_json_get(record, "config"), &digest));
    if (!named || strcmp(named, id) != 0 || strcmp(digest.hex, id) != 0)
        return lq_fail(LQ_E_FORMAT,
                       "%s: the configuration's digest is %s: not the run of this name", path,
                       digest.hex);
    LQ_TRY(check_metrics(lq_json_get(record, "metrics"), path));
    return check_series(lq_json_get(record, "series"), path);
}

lq_status lq_store_read(const lq_store *store, const char *id, lq_json **record)
{
    *record = NULL;
    if (!is_id(id, strlen(id)))
        return lq_fail(LQ_E_MISSING, "%s: no run %.80s: an id is 64 lower-case hex digits",
                       store->root, id);
    lq_arena scratch = {0};
    const char *path = path_of(store, id, &scratch);
    lq_status status = lq_json_read(path, record);
    if (status == LQ_OK)
        status = check_record(*record, id, path);
    if (status != LQ_OK) {
        lq_json_free(*record);
        *record = NULL;
    }
    lq_arena_close(&scratch);
    return status;
}

bool lq_store_has(const lq_store *store, const lq_json *resolved, lq_digest *id)
{
    lq_json *record;
    if (lq_store_id(resolved, id) != LQ_OK)
        return false;
    lq_status status = lq_store_read(store, id->hex, &record);
    if (status != LQ_OK && status != LQ_E_MISSING)
        lq_log_warn("%s; the run counts as not done", lq_status_note());
    lq_json_free(record);
    return status == LQ_OK;
}

lq_status lq_store_list(const lq_store *store, lq_arena *arena, char ***ids, size_t *n)
{
    char **names;
    size_t n_names;
    *ids = NULL;
    *n = 0;
    LQ_TRY(lq_path_list(store->root, arena, &names, &n_names));
    LQ_TRY(lq_arena_new(arena, ids, n_names + 1));
    for (size_t i = 0; i < n_names; i++) {
        const size_t length = strlen(names[i]);
        if (length < 5 || strcmp(names[i] + length - 5, ".json") != 0)
            continue; /* side files of runs that are being written */
        lq_json *record;
        char *id = lq_arena_printf(arena, "%.*s", (int)(length - 5), names[i]);
        if (lq_store_read(store, id, &record) != LQ_OK)
            lq_log_warn("%s; skipped", lq_status_note());
        else
            (*ids)[(*n)++] = id;
        lq_json_free(record);
    }
    return LQ_OK;
}

double lq_store_number(const lq_json *value)
{
    const char *spelt = lq_json_string(value);
    if (!spelt)
        return lq_json_number(value);
    return strcmp(spelt, "Infinity") == 0    ? (double)INFINITY
           : strcmp(spelt, "-Infinity") == 0 ? -(double)INFINITY
                                             : (double)NAN;
}

double lq_store_metric(const lq_json *record, const char *metric)
{
    return lq_store_number(
        lq_json_get(lq_json_get(lq_json_get(record, "metrics"), metric), "value"));
}

lq_outcome lq_store_outcome(const lq_json *record)
{
    const char *outcome = lq_json_string(lq_json_get(record, "outcome"));
    for (int i = 0; outcome && i < 3; i++)
        if (strcmp(outcome, outcome_name[i]) == 0)
            return (lq_outcome)i;
    return LQ_STOPPED; /* nothing to go by: counts as no result */
}

lq_status lq_run_begin(lq_store *store, const lq_json *resolved, lq_run **out)
{
    lq_digest id;
    *out = NULL;
    if (lq_json_type(resolved) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "%s: a run's configuration is no object", store->root);
    if (lq_store_has(store, resolved, &id))
        return lq_fail(LQ_E_IO, "%s: run %s is there and is never rewritten", store->root, id.hex);
    lq_run *run = calloc(1, sizeof *run);
    lq_json *config = lq_json_copy(resolved);
    if (!run || !config) {
        free(run);
        lq_json_free(config);
        return lq_fail(LQ_E_MEMORY, "%s: out of memory for a run", store->root);
    }
    *run = (lq_run){.store = store,
                    .id = id,
                    .config = config,
                    .metrics = lq_json_object(),
                    .series = lq_json_object(),
                    .attached = lq_json_object(),
                    .wall_s = lq_clock_wall_s(),
                    .cpu_s = lq_clock_cpu_s()};
    lq_clock_utc(run->started);
    *out = run;
    return LQ_OK;
}

void lq_run_point(lq_run *run, const char *series, double x, double value)
{
    lq_json *s = lq_json_member(run->series, series);
    if (!s) {
        s = lq_json_object();
        lq_json_set(s, "x", lq_json_array());
        lq_json_set(s, "value", lq_json_array());
        lq_json_set(run->series, series, s);
    }
    lq_json_append(lq_json_member(s, "x"), lq_json_of_number(x));
    lq_json_append(lq_json_member(s, "value"), lq_json_of_number(value));
}

void lq_run_metric(lq_run *run, const char *metric, const char *unit, double value)
{
    lq_json *m = lq_json_object();
    lq_json_set_number(m, "value", value);
    lq_json_set_string(m, "unit", unit);
    lq_json_set(run->metrics, metric, m);
}

void lq_run_attach(lq_run *run, const char *key, lq_json *value)
{
    LQ_ASSERT(key[0] && key[strspn(key, "abcdefghijklmnopqrstuvwxyz_0123456789")] == '\0');
    for (size_t i = 0; i < sizeof own_key / sizeof own_key[0]; i++)
        LQ_ASSERT(strcmp(key, own_key[i]) != 0);
    lq_json_set(run->attached, key, value);
}

static lq_status put(lq_file *file, const char *before, const char *key, const lq_json *value,
                     lq_arena *scratch)
{
    return lq_file_printf(file, "%s  \"%s\": %s", before, key, lq_json_canonical(value, scratch));
}

/* One line a member: loss curves stay on one line, and a diff shows which part differs. */
static lq_status write_record(const lq_run *run, const lq_json *head, const lq_json *tail,
                              lq_file *file, lq_arena *scratch)
{
    const char *before = "{\n";
    for (const lq_json *m = lq_json_first(head); m; m = lq_json_next(m), before = ",\n")
        LQ_TRY(put(file, before, lq_json_key(m), m, scratch));
    LQ_TRY(put(file, before, "config", run->config, scratch));
    LQ_TRY(put(file, before, "metrics", run->metrics, scratch));
    LQ_TRY(put(file, before, "series", run->series, scratch));
    for (const lq_json *m = lq_json_first(run->attached); m; m = lq_json_next(m))
        LQ_TRY(put(file, before, lq_json_key(m), m, scratch));
    for (const lq_json *m = lq_json_first(tail); m; m = lq_json_next(m))
        LQ_TRY(put(file, before, lq_json_key(m), m, scratch));
    return lq_file_write(file, "\n}\n", 3);
}

static lq_status write_file(const lq_run *run, const lq_json *head, const lq_json *tail,
                            lq_arena *scratch)
{
    lq_file *file;
    LQ_TRY(lq_file_create(path_of(run->store, run->id.hex, scratch), &file));
    lq_status status = write_record(run, head, tail, file, scratch);
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}

lq_status lq_run_commit(lq_run *run, lq_outcome outcome, const char *note)
{
    lq_digest id;
    lq_arena scratch = {0};
    lq_status status;
    lq_json *head = lq_json_object(), *tail = lq_json_object();
    lq_json_set_string(head, "id", run->id.hex);
    lq_json_set_string(head, "outcome", outcome_name[outcome]);
    lq_json_set_string(head, "note", note);
    lq_json_set_string(tail, "started", run->started);
    lq_json_set_number(tail, "wall_s", lq_clock_wall_s() - run->wall_s);
    lq_json_set_number(tail, "cpu_s", lq_clock_cpu_s() - run->cpu_s);
    lq_json_set_number(tail, "peak_bytes", (double)lq_clock_peak_bytes());
    if (lq_store_has(run->store, run->config, &id))
        status = lq_fail(LQ_E_IO, "%s: run %s was stored meanwhile and is never rewritten",
                         run->store->root, run->id.hex);
    else
        status = write_file(run, head, tail, &scratch);
    lq_json_free(head);
    lq_json_free(tail);
    lq_arena_close(&scratch);
    lq_run_abandon(run);
    return status;
}

void lq_run_abandon(lq_run *run)
{
    if (!run)
        return;
    lq_json_free(run->config);
    lq_json_free(run->metrics);
    lq_json_free(run->series);
    lq_json_free(run->attached);
    free(run);
}
