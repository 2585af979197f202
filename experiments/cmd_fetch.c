/* lcqat fetch: brings what the catalog names into the cache. */
#include "core/data/corpus.h"
#include "experiments/catalog.h"
#include "experiments/command.h"

#include <stdio.h>
#include <string.h>

static lq_status fetch_one(const lq_json *catalog, const char *name)
{
    const lq_json *data = lq_catalog_find(catalog, "datasets", name);
    const lq_json *model = lq_catalog_find(catalog, "models", name);
    if (data == NULL && model == NULL)
        return lq_fail(LQ_E_OPTION,
                       "fetch: '%s' is not in the catalog; `lcqat models` and "
                       "`lcqat datasets` list it",
                       name);
    if (data != NULL)
        LQ_TRY(lq_techdocs_prepare());
    else if (!lq_catalog_here(model))
        return lq_fail(LQ_E_MISSING,
                       "fetch: %s belongs to the repository, and is not there; "
                       "`make teachers` trains it",
                       name);
    printf("%s: here\n", name);
    return LQ_OK;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    (void)arena;
    lq_json *catalog;
    LQ_TRY(lq_catalog_read(&catalog));
    lq_status status = LQ_OK;
    for (size_t i = 0; status == LQ_OK && i < lq_args_count(args); i++)
        status = fetch_one(catalog, lq_args_at(args, i));
    lq_json_free(catalog);
    return status;
}

const lq_command lq_command_fetch = {
    .name = "fetch",
    .summary = "brings models or data sets into the cache, verified",
    .positionals = "NAME...",
    .lowest = 1,
    .highest = 64,
    .run = run,
};
