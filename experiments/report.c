/* The files of a report. */
#include "experiments/report.h"

#include <string.h>

typedef lq_status (*writer)(const lq_table *t, lq_file *file);

static lq_status write_table(const lq_report *r, const char *out, const char *name,
                             const lq_table *t, writer write)
{
    lq_file *file;
    LQ_TRY(lq_file_create(lq_arena_printf(r->arena, "%s/%s", out, name), &file));
    lq_status status = write(t, file);
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}

/* Markdown, CSV and LaTeX of one table. */
static lq_status write_forms(const lq_report *r, const char *out, const char *name,
                             const lq_table *t)
{
    static const char *const end[] = {"md", "csv", "tex"};
    static const writer form[] = {lq_table_markdown, lq_table_csv, lq_table_tex};
    for (size_t i = 0; i < 3; i++)
        LQ_TRY(write_table(r, out, lq_arena_printf(r->arena, "%s.%s", name, end[i]), t, form[i]));
    return LQ_OK;
}

/* table.md: one table an evaluation, each under its heading. */
static lq_status write_sections(const lq_report *r, lq_file *file)
{
    for (size_t e = 0; e < r->evals.n; e++) {
        lq_table t;
        LQ_TRY(lq_file_printf(file, "%s## %s\n\n", e ? "\n" : "",
                              lq_report_eval_title(r, r->evals.at[e])));
        lq_report_main_table(r, r->evals.at[e], &t);
        LQ_TRY(lq_table_markdown(&t, file));
    }
    return LQ_OK;
}

/* table.csv holds all; table.tex the first evaluation, table-2.tex the second, and so on: a `tabular` is
 * one table, and evaluations are not compared. */
static lq_status write_main(const lq_report *r, const char *out)
{
    lq_table t;
    lq_file *file;
    lq_report_main_table(r, NULL, &t);
    LQ_TRY(write_table(r, out, "table.csv", &t, lq_table_csv));
    for (size_t e = 0; e < r->evals.n; e++) {
        const char *name = e == 0 ? "table.tex" : lq_arena_printf(r->arena, "table-%zu.tex", e + 1);
        lq_report_main_table(r, r->evals.at[e], &t);
        LQ_TRY(write_table(r, out, name, &t, lq_table_tex));
    }
    LQ_TRY(lq_file_create(lq_arena_printf(r->arena, "%s/table.md", out), &file));
    lq_status status = write_sections(r, file);
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}

/* by-method and by-recipe, of all evaluations one after another; LaTeX has the first. */
static lq_status write_grouped(const lq_report *r, const char *out, const char *name,
                               lq_grouping by)
{
    lq_table t;
    lq_file *file;
    LQ_TRY(lq_report_grouped_table(r, NULL, by, &t));
    LQ_TRY(write_table(r, out, lq_arena_printf(r->arena, "%s.csv", name), &t, lq_table_csv));
    if (r->evals.n > 0)
        LQ_TRY(lq_report_grouped_table(r, r->evals.at[0], by, &t));
    LQ_TRY(write_table(r, out, lq_arena_printf(r->arena, "%s.tex", name), &t, lq_table_tex));
    LQ_TRY(lq_file_create(lq_arena_printf(r->arena, "%s/%s.md", out, name), &file));
    lq_status status = LQ_OK;
    for (size_t e = 0; status == LQ_OK && e < r->evals.n; e++) {
        status = lq_file_printf(file, "%s## %s\n\n", e ? "\n" : "",
                                lq_report_eval_title(r, r->evals.at[e]));
        if (status == LQ_OK)
            status = lq_report_grouped_table(r, r->evals.at[e], by, &t);
        if (status == LQ_OK)
            status = lq_table_markdown(&t, file);
    }
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}

/* The records themselves, so that the links of the page work wherever the report is put. */
static lq_status write_records(const lq_report *r, const char *out)
{
    LQ_TRY(lq_path_make_dirs(lq_arena_printf(r->arena, "%s/runs", out)));
    for (size_t i = 0; i < r->n_records; i++) {
        const lq_mark mark = lq_arena_mark(r->arena);
        const char *text = lq_json_pretty(r->record[i].json, r->arena);
        LQ_TRY(lq_file_write_all(lq_arena_printf(r->arena, "%s/runs/%s.json", out, r->record[i].id),
                                 text, strlen(text)));
        lq_arena_release(r->arena, mark);
    }
    return LQ_OK;
}

lq_status lq_report_write(lq_report *r, const char *out, const char *plots)
{
    lq_table t;
    LQ_TRY(lq_path_make_dirs(out));
    LQ_TRY(write_main(r, out));
    if (r->has_recipes) {
        LQ_TRY(write_grouped(r, out, "by-method", LQ_BY_METHOD));
        LQ_TRY(write_grouped(r, out, "by-recipe", LQ_BY_RECIPE));
    }
    lq_report_search_table(r, &t);
    LQ_TRY(write_forms(r, out, "search", &t));
    if (r->published) {
        LQ_TRY(lq_report_claims_table(r, &t));
        LQ_TRY(write_forms(r, out, "claims", &t));
        LQ_TRY(lq_report_published_table(r, &t));
        LQ_TRY(write_forms(r, out, "published", &t));
    }
    LQ_TRY(lq_report_figures(r, out, plots));
    LQ_TRY(write_records(r, out));
    return lq_report_html(r, out);
}
