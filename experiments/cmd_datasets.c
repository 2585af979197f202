/* lcqat datasets: the catalog's datasets. */
#include "experiments/catalog.h"
#include "experiments/command.h"

static lq_status run(const lq_args *args, lq_arena *arena)
{
    (void)arena;
    return lq_catalog_print("datasets", lq_args_flag(args, "json"));
}

static const lq_arg_spec spec[] = {LQ_ARG_JSON};
const lq_command lq_command_datasets = {
    .name = "datasets",
    .summary = "lists the datasets of the catalog and whether they are here",
    .positionals = "",
    .lowest = 0,
    .highest = 0,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
