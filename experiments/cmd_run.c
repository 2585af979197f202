/* lcqat run: one point of a sweep, resolved, executed, stored. */
#include "core/base/file.h"
#include "core/base/lock.h"
#include "experiments/command.h"
#include "experiments/run.h"

#include <stdio.h>

static void print_record(const lq_json *record, const char *id)
{
    const lq_json *metrics = lq_json_get(record, "metrics");
    printf("%s %s\n", id, lq_json_string(lq_json_get(record, "outcome")));
    for (const lq_json *m = lq_json_first(metrics); m != NULL; m = lq_json_next(m))
        printf("%-24s %.6g %s\n", lq_json_key(m), lq_json_number(lq_json_get(m, "value")),
               lq_json_string(lq_json_get(m, "unit")));
}

static lq_status show(lq_store *store, const char *id, bool json)
{
    lq_json *record;
    LQ_TRY(lq_store_read(store, id, &record));
    if (json) {
        lq_print_json(record);
        return LQ_OK;
    }
    print_record(record, id);
    lq_json_free(record);
    return LQ_OK;
}

/* One process works on a run at a time; another that wanted it finds the record when its turn comes. */
static lq_status execute_alone(const lq_json *resolved, lq_store *store, const char *work,
                               const char *id, const char *out)
{
    lq_arena arena = {0};
    lq_lock lock;
    lq_digest again;
    lq_status status = lq_path_make_dirs(work);
    if (status == LQ_OK)
        status = lq_file_lock(lq_arena_printf(&arena, "%s/%s.lock", work, id), &lock);
    if (status == LQ_OK) {
        if (!lq_store_has(store, resolved, &again))
            status = lq_run_execute(resolved, store, work, out);
        lq_file_unlock(&lock);
    }
    lq_arena_close(&arena);
    return status;
}

static lq_status run_point(const lq_args *args, const char *root, lq_arena *arena)
{
    const char *path = lq_args_at(args, 0);
    const char *work = lq_args_text(args, "work", lq_arena_printf(arena, "%s/../work", root));
    lq_json *point, *resolved;
    lq_store *store;
    lq_digest id;
    LQ_TRY(lq_json_read(path, &point));
    lq_status status = lq_run_resolve(point, &resolved);
    lq_json_free(point);
    LQ_TRY(status);
    status = lq_store_open(root, &store);
    if (status == LQ_OK) {
        if (!lq_store_has(store, resolved, &id))
            status = execute_alone(resolved, store, work, id.hex, lq_args_text(args, "out", NULL));
        if (status == LQ_OK)
            status = show(store, id.hex, lq_args_flag(args, "json"));
        lq_store_close(store);
    }
    lq_json_free(resolved);
    return status;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    const char *root = lq_args_text(args, "store", NULL);
    if (root == NULL)
        return lq_fail(LQ_E_OPTION, "run: --store DIR is required");
    return run_point(args, root, arena);
}

static const lq_arg_spec spec[] = {
    {"store", 0, LQ_ARG_TEXT, "DIR", "where run records are kept"},
    {"work", 0, LQ_ARG_TEXT, "DIR", "checkpoints while it works (DIR of the store/../work)"},
    {"out", 'o', LQ_ARG_TEXT, "DIR", "keep the packed model there"},
    LQ_ARG_JSON,
};
const lq_command lq_command_run = {
    .name = "run",
    .summary = "executes one experiment of a spec and stores its record",
    .positionals = "POINT.json --store DIR",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
