/* lcqat report: tables, figures, verdicts and a page out of stored runs. */
#include "core/base/file.h"
#include "experiments/command.h"
#include "experiments/report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --plots, else plots/ here, else beside the program's directory (build/lcqat -> plots). */
static const char *plots_dir(const lq_args *args, lq_arena *arena)
{
    char program[4096];
    const char *given = lq_args_text(args, "plots", NULL);
    if (given || lq_path_exists("plots/style.gp"))
        return given ? given : "plots";
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0)
        return "plots";
    program[n] = '\0';
    return lq_arena_printf(arena, "%.*s../plots", (int)(lq_path_base(program) - program), program);
}

static lq_json *summary(const lq_report *r, const char *out)
{
    size_t not_run = 0, drawn = 0;
    lq_json *json = lq_json_object();
    for (size_t i = 0; i < r->n_cells; i++)
        not_run += r->cell[i].n == 0;
    for (size_t i = 0; i < r->n_figures; i++)
        drawn += r->figure[i].drawn;
    lq_json_set_string(json, "out", out);
    lq_json_set_number(json, "runs", (double)r->n_records);
    lq_json_set_number(json, "rows", (double)r->n_cells);
    lq_json_set_number(json, "rows_not_run", (double)not_run);
    lq_json_set_number(json, "figures", (double)r->n_figures);
    lq_json_set_number(json, "figures_drawn", (double)drawn);
    return json;
}

static lq_status build(lq_report *r, const lq_args *args, const char *out)
{
    for (size_t i = 0; i < lq_args_count(args); i++)
        LQ_TRY(lq_report_add(r, lq_args_at(args, i)));
    const char *beside = lq_args_text(args, "beside", NULL);
    if (beside != NULL)
        LQ_TRY(lq_report_add_beside(r, beside));
    LQ_TRY(lq_report_arrange(r));
    LQ_TRY(lq_report_write(r, out, plots_dir(args, r->arena)));
    lq_json *json = summary(r, out);
    if (lq_args_flag(args, "json")) {
        lq_print_json(json);
        return LQ_OK;
    }
    printf("%s/index.html: %zu runs, %zu rows (%.0f not run), %.0f of %zu figures drawn\n", out,
           r->n_records, r->n_cells, lq_json_number(lq_json_get(json, "rows_not_run")),
           lq_json_number(lq_json_get(json, "figures_drawn")), r->n_figures);
    lq_json_free(json);
    return LQ_OK;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    const char *out = lq_args_text(args, "out", NULL), *path = lq_args_text(args, "spec", NULL);
    lq_spec *spec = NULL;
    if (out == NULL)
        return lq_fail(LQ_E_OPTION, "report: --out DIR is required");
    if (path != NULL)
        LQ_TRY(lq_spec_read(path, &spec));
    lq_report r = {.arena = arena, .spec = spec};
    r.reference = lq_args_text(args, "reference", NULL);
    lq_status status = build(&r, args, out);
    lq_report_close(&r);
    lq_spec_free(spec);
    return status;
}

static const lq_arg_spec spec_table[] = {
    {"out", 'o', LQ_ARG_TEXT, "DIR", "where the report goes"},
    {"spec", 0, LQ_ARG_TEXT, "SPEC.json", "labels, order, and which runs were to be there"},
    {"beside", 0, LQ_ARG_TEXT, "RESULTS", "results of another machine: a column of the same runs"},
    {"reference", 0, LQ_ARG_TEXT, "VARIANT", "the variant that others are paired with"},
    {"plots", 0, LQ_ARG_TEXT, "DIR", "the gnuplot scripts (plots)"},
    LQ_ARG_JSON,
};
const lq_command lq_command_report = {
    .name = "report",
    .summary = "writes tables, figures and a page from stored runs",
    .positionals = "RESULTS... [published.json] --out DIR",
    .lowest = 1,
    .highest = 1000,
    .spec = spec_table,
    .n_spec = sizeof spec_table / sizeof spec_table[0],
    .run = run,
};
