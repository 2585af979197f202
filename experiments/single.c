#include "experiments/single.h"

#include "core/base/file.h"
#include "core/store/store.h"
#include "experiments/run.h"

#include <stdio.h>
#include <string.h>

/* The member object `key` of a point, made when it is not there. */
static lq_json *member(lq_json *point, const char *key)
{
    if (lq_json_get(point, key) == NULL)
        lq_json_set(point, key, lq_json_object());
    return lq_json_member(point, key);
}

/* "train.lr" or "blockwise.epochs" goes to the member of that name, anything else to the method. */
static lq_status place_options(const lq_args *args, lq_json *point)
{
    lq_json *given;
    LQ_TRY(lq_set_options(args, &given));
    for (const lq_json *m = lq_json_first(given); m != NULL; m = lq_json_next(m)) {
        static const char *const groups[] = {"train.", "calib.", "blockwise.", "eval."};
        const char *key = lq_json_key(m), *group = "method";
        char name[16];
        for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
            if (strncmp(key, groups[i], strlen(groups[i])) == 0) {
                snprintf(name, sizeof name, "%.*s", (int)strlen(groups[i]) - 1, groups[i]);
                group = name;
                key += strlen(groups[i]);
                break;
            }
        lq_json_set(member(point, group), key, lq_json_copy(m));
    }
    lq_json_free(given);
    return LQ_OK;
}

static lq_status make_point(const lq_args *args, const char *train_data, double tokens,
                            lq_json *point)
{
    const char *method = lq_args_text(args, "method", NULL);
    const char *calib = lq_args_text(args, "calib", NULL);
    const char *hessians = lq_args_text(args, "hessians", NULL);
    const char *tokenizer = lq_args_text(args, "tokenizer", NULL);
    double bits;
    size_t seed;
    if (method == NULL)
        return lq_fail(LQ_E_OPTION, "--method is required; `lcqat methods` lists them");
    LQ_TRY(lq_args_real(args, "bits", 1, 16, strcmp(method, "none") == 0 ? 16 : 2, &bits));
    LQ_TRY(lq_args_size(args, "seed", 0, 1ul << 31, 1, &seed));
    lq_json_set_string(point, "model", lq_args_at(args, 0));
    if (tokenizer != NULL)
        lq_json_set_string(point, "tokenizer", tokenizer);
    lq_json_set_number(point, "seed", (double)seed);
    lq_json_set_string(member(point, "method"), "name", method);
    lq_json_set_number(member(point, "method"), "bits", bits);
    lq_json_set_string(member(point, "eval"), "data", lq_args_text(args, "ppl", "none"));
    if (calib != NULL)
        lq_json_set_string(member(point, "calib"), "data", calib);
    if (hessians != NULL)
        lq_json_set_string(member(point, "calib"), "hessians", hessians);
    if (tokens > 0) {
        lq_json_set_string(member(point, "train"), "data", train_data);
        lq_json_set_number(point, "fraction", 1);
        lq_json_set_number(point, "budget_tokens", tokens);
    }
    return place_options(args, point);
}

static lq_status print_record(lq_store *store, const char *id, const char *out, bool json)
{
    lq_json *record;
    LQ_TRY(lq_store_read(store, id, &record));
    if (json) {
        lq_print_json(record);
        return LQ_OK;
    }
    const char *outcome = lq_json_string(lq_json_get(record, "outcome"));
    const char *note = lq_json_string(lq_json_get(record, "note"));
    printf("%s %s%s%s\n", outcome, out, note[0] ? ": " : "", note);
    const lq_json *metrics = lq_json_get(record, "metrics");
    for (const lq_json *m = lq_json_first(metrics); m != NULL; m = lq_json_next(m))
        printf("%-22s %.6g %s\n", lq_json_key(m), lq_json_number(lq_json_get(m, "value")),
               lq_json_string(lq_json_get(m, "unit")));
    lq_json_free(record);
    return LQ_OK;
}

static lq_status execute(const lq_json *resolved, const char *out, bool json, lq_arena *arena)
{
    lq_store *store;
    lq_digest id;
    LQ_TRY(lq_store_open(lq_arena_printf(arena, "%s/runs", out), &store));
    lq_status status = LQ_OK;
    if (!lq_store_has(store, resolved, &id) ||
        !lq_path_exists(lq_arena_printf(arena, "%s/packed.safetensors", out)))
        status = lq_run_execute(resolved, store, out, out);
    if (status == LQ_OK)
        status = print_record(store, id.hex, out, json);
    lq_store_close(store);
    return status;
}

lq_status lq_single_run(const lq_args *args, const char *train_data, double tokens, lq_arena *arena)
{
    const char *out = lq_args_text(args, "out", NULL);
    lq_json *resolved = NULL;
    if (out == NULL)
        return lq_fail(LQ_E_OPTION, "--out DIR is required");
    lq_json *point = lq_json_object();
    lq_status status = make_point(args, train_data, tokens, point);
    if (status == LQ_OK)
        status = lq_run_resolve(point, &resolved);
    lq_json_free(point);
    if (status == LQ_OK)
        status = execute(resolved, out, lq_args_flag(args, "json"), arena);
    lq_json_free(resolved);
    return status;
}
