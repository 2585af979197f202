/* index.html: the whole report on one page, and where its numbers come from. */
#include "experiments/report.h"

#include <stdlib.h>
#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>lcqat "
    "report</title>\n<style>\n"
    "body{font:16px/1.5 system-ui,sans-serif;color:#222;max-width:88rem;margin:2rem auto;"
    "padding:0 1rem}\n"
    "h1{font-size:1.7rem}h2{font-size:1.25rem;margin-top:2.5rem}h3{font-size:1rem}\n"
    "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;"
    "display:block;overflow-x:auto}\n"
    "thead{border-top:2px solid #222;border-bottom:1px solid #222}\n"
    "tbody{border-bottom:2px solid #222}tr.rule td{border-top:1px solid #999}\n"
    "td,th{padding:.2rem .5rem;text-align:left;white-space:nowrap;vertical-align:top}\n"
    "th{white-space:normal;vertical-align:bottom}\n"
    "td.r,th.r{text-align:right}tbody tr:hover{background:#f4f4f4}\n"
    "td.w{white-space:normal;min-width:9rem}.note,figcaption,dl{max-width:60rem}\n"
    "code{font-size:.8rem}figure{margin:1.5rem 0}figure img{max-width:100%;height:auto}\n"
    "figcaption,.note{color:#555;font-size:.85rem}dt{font-weight:600}\n"
    "</style></head><body>\n";

static lq_status paragraph(lq_file *file, const char *open, const char *text, const char *close)
{
    LQ_TRY(lq_file_printf(file, "%s", open));
    LQ_TRY(lq_html_text(file, text));
    return lq_file_printf(file, "%s\n", close);
}

static lq_status tables(const lq_report *r, lq_file *file)
{
    lq_table t;
    for (size_t e = 0; e < r->evals.n; e++) {
        const char *title =
            lq_arena_printf(r->arena, "Evaluated on %s", lq_report_eval_title(r, r->evals.at[e]));
        LQ_TRY(paragraph(file, "<h3>", title, "</h3>"));
        lq_report_main_table(r, r->evals.at[e], &t);
        LQ_TRY(lq_table_html(&t, file));
    }
    const char *reference = r->reference ? lq_report_label(r, r->reference) : "none";
    return paragraph(
        file, "<p class=\"note\">",
        lq_arena_printf(
            r->arena,
            "Perplexity: mean over the finished seeds, ± half of the 95 %% interval (Student's t) "
            "where there are two or more. True bits: packed bytes of the quantized weights, with "
            "scales, zeros and transforms. Paired difference: perplexity less that of %s at the "
            "same share of the data, seed by seed. Diverged runs are counted, not averaged. Runs "
            "that differ in anything but the seed stand in different rows.",
            reference),
        "</p>");
}

static lq_status groups(const lq_report *r, lq_file *file)
{
    static const char *const title[] = {
        [LQ_BY_METHOD] = "Method by method", [LQ_BY_RECIPE] = "Recipe by recipe"};
    for (int by = LQ_BY_METHOD; r->has_recipes && by <= LQ_BY_RECIPE; by++)
        for (size_t e = 0; e < r->evals.n; e++) {
            lq_table t;
            LQ_TRY(paragraph(file, "<h3>",
                             lq_arena_printf(r->arena, "%s, on %s", title[by],
                                             lq_report_eval_title(r, r->evals.at[e])),
                             "</h3>"));
            LQ_TRY(lq_report_grouped_table(r, r->evals.at[e], (lq_grouping)by, &t));
            LQ_TRY(lq_table_html(&t, file));
        }
    if (!r->has_recipes)
        return LQ_OK;
    return paragraph(file, "<p class=\"note\">",
                     "A recipe is how a run trains: data, loss, learning rates, stages. Published: "
                     "the authors' settings, scaled only as docs/recipes.md says. Tuned: chosen by "
                     "the search.",
                     "</p>");
}

static lq_status figures(const lq_report *r, lq_file *file)
{
    for (size_t i = 0; i < r->n_figures; i++) {
        const lq_figure *f = &r->figure[i];
        LQ_TRY(lq_file_printf(file, "<figure>"));
        if (f->drawn)
            LQ_TRY(
                lq_file_printf(file, "<img src=\"figures/%s.svg\" alt=\"%s\">", f->name, f->name));
        else
            LQ_TRY(lq_file_printf(file, "<p>Not drawn: gnuplot or its scripts were missing.</p>"));
        LQ_TRY(paragraph(file, "<figcaption>", f->caption, ""));
        LQ_TRY(lq_file_printf(file, "<a href=\"figures/%s.dat\">numbers</a>", f->name));
        if (f->drawn)
            LQ_TRY(lq_file_printf(file, ", <a href=\"figures/%s.png\">PNG</a>", f->name));
        if (f->pdf)
            LQ_TRY(lq_file_printf(file, ", <a href=\"figures/%s.pdf\">PDF</a>", f->name));
        LQ_TRY(lq_file_printf(file, "</figcaption></figure>\n"));
    }
    if (r->n_figures == 0)
        return lq_file_printf(file,
                              "<p>No figure: nothing was trained on two shares of the data.</p>\n");
    return LQ_OK;
}

static lq_status claims(const lq_report *r, lq_file *file)
{
    lq_table t;
    if (!r->published)
        return lq_file_printf(file, "<p>No published.json was given.</p>\n");
    LQ_TRY(lq_report_claims_table(r, &t));
    LQ_TRY(lq_table_html(&t, file));
    LQ_TRY(lq_file_printf(
        file,
        "<p class=\"note\"><em>Reproduced</em>: the claimed ordering holds by more than the 95 %% "
        "interval of the difference. <em>Same ordering</em>: it holds, but within the noise of "
        "the seeds. <em>Not reproduced</em>: it does not hold. The rules stand in "
        "published.json; these are small models, not the paper's.</p>\n<h3>Published "
        "numbers</h3>\n"));
    LQ_TRY(lq_report_published_table(r, &t));
    LQ_TRY(lq_table_html(&t, file));
    const lq_json *sources = lq_json_get(r->published, "sources");
    LQ_TRY(lq_file_printf(file, "<dl class=\"note\">\n"));
    for (const lq_json *s = lq_json_first(sources); s; s = lq_json_next(s)) {
        const char *title = lq_json_string(lq_json_get(s, "title"));
        LQ_TRY(paragraph(file, "<dt>", lq_json_key(s), "</dt>"));
        LQ_TRY(paragraph(file, "<dd>", title ? title : "", "</dd>"));
    }
    return lq_file_printf(file, "</dl>\n");
}

/* ---- provenance ---- */

typedef struct count { /* distinct texts, and how many runs have each */
    const char *text;
    size_t runs;
} count;

static int by_text(const void *a, const void *b)
{
    return strcmp(((const count *)a)->text, ((const count *)b)->text);
}

static void tally(count *list, size_t *n, const char *text)
{
    size_t i = 0;
    while (i < *n && strcmp(list[i].text, text) != 0)
        i++;
    if (i == *n)
        list[(*n)++] = (count){text, 0};
    list[i].runs++;
}

static lq_status show_tally(lq_file *file, const char *title, count *list, size_t n)
{
    if (n > 1)
        qsort(list, n, sizeof *list, by_text);
    LQ_TRY(lq_file_printf(file, "<h3>%s</h3>\n<ul>\n", title));
    for (size_t i = 0; i < n; i++) {
        LQ_TRY(lq_file_printf(file, "<li><code>"));
        LQ_TRY(lq_html_text(file, list[i].text));
        LQ_TRY(lq_file_printf(file, "</code>: %zu run%s</li>\n", list[i].runs,
                              list[i].runs == 1 ? "" : "s"));
    }
    return lq_file_printf(file, n == 0 ? "<li>nothing stored</li></ul>\n" : "</ul>\n");
}

/* "processor Xeon, cores 2, ..." of an attached object. */
static const char *flat(const lq_json *object, lq_arena *arena)
{
    const char *text = "";
    for (const lq_json *m = lq_json_first(object); m; m = lq_json_next(m)) {
        const char *value = lq_json_string(m);
        text = lq_arena_printf(arena, "%s%s%s %s", text, *text ? ", " : "", lq_json_key(m),
                               value ? value : lq_json_canonical(m, arena));
    }
    return text;
}

static lq_status provenance(const lq_report *r, lq_file *file)
{
    static const char *const attached[] = {"program", "machine"};
    static const char *const title[] = {"Programs", "Machines"};
    count *list;
    const size_t most = 64 * (r->n_records + 1); /* a configuration names at most so many digests */
    LQ_TRY(lq_arena_new(r->arena, &list, most));
    for (size_t k = 0; k < 2; k++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n_records; i++) {
            const lq_json *object = lq_json_get(r->record[i].json, attached[k]);
            if (object)
                tally(list, &n, flat(object, r->arena));
        }
        LQ_TRY(show_tally(file, title[k], list, n));
    }
    size_t n = 0;
    for (size_t i = 0; i < r->n_records; i++) {
        const lq_json *config = lq_json_get(r->record[i].json, "config");
        const lq_json *digest = lq_json_first(lq_json_get(config, "sha256"));
        for (size_t k = 0; digest && k < 64 && n < most; k++, digest = lq_json_next(digest)) {
            const char *hex = lq_json_string(digest), *key = lq_json_key(digest);
            const bool of_model = strcmp(key, "model") == 0 || strcmp(key, "tokenizer") == 0;
            tally(list, &n,
                  lq_arena_printf(r->arena, "%s%s%s sha256 %s", of_model ? r->record[i].model : "",
                                  of_model ? " " : "", key, hex ? hex : "?"));
        }
    }
    LQ_TRY(show_tally(file, "Models, tokenizers and data", list, n));
    if (r->n_again == 0)
        return LQ_OK;
    return lq_file_printf(file,
                          "<p>%zu runs are stored more than once; the first counts. Largest "
                          "relative difference of their perplexities: %.2g.</p>\n",
                          r->n_again, r->worst_again);
}

static lq_status reproduce(const lq_report *r, lq_file *file)
{
    const char *name = r->spec            ? lq_spec_experiment(r->spec)
                       : r->n_records > 0 ? r->record[0].experiment
                                          : "mini";
    LQ_TRY(paragraph(file,
                     "<p>In the repository, at the commit of the program named above:</p>\n<pre>",
                     lq_arena_printf(r->arena,
                                     "make reproduce PROFILE=%s\n\n# or, step by step\nmake\n"
                                     "build/lcqat sweep experiments/specs/%s.json\n"
                                     "build/lcqat report results/%s results/published.json --spec "
                                     "experiments/specs/%s.json --out report",
                                     name, name, name, name),
                     "</pre>"));
    return lq_file_printf(
        file,
        "<p>One run again: take <code>config</code> out of its record, then <code>lcqat run "
        "CONFIG.json --store DIR</code>. Its id is the SHA-256 of that configuration's canonical "
        "text, so the record of the same name must appear.</p>\n");
}

static lq_status page(const lq_report *r, lq_file *file)
{
    lq_table search;
    const char *name = r->spec ? lq_spec_experiment(r->spec) : "stored runs";
    LQ_TRY(lq_file_printf(file, "%s", head));
    LQ_TRY(paragraph(file, "<h1>lcqat: ", name, "</h1>"));
    LQ_TRY(
        lq_file_printf(file,
                       "<p>%zu stored runs. Tables as files: <a href=\"table.csv\">CSV</a>, "
                       "<a href=\"table.md\">Markdown</a>, <a href=\"table.tex\">LaTeX</a>.</p>\n"
                       "<h2>Results</h2>\n",
                       r->n_records));
    LQ_TRY(tables(r, file));
    LQ_TRY(groups(r, file));
    LQ_TRY(lq_file_printf(file, "<h2>Figures</h2>\n"));
    LQ_TRY(figures(r, file));
    LQ_TRY(lq_file_printf(file, "<h2>Claims</h2>\n"));
    LQ_TRY(claims(r, file));
    LQ_TRY(lq_file_printf(
        file, "<h2>Search</h2>\n<p>Settings were chosen on the validation data; the "
              "lowest perplexity wins, a diverged run loses. (<a href=\"search.csv\">CSV"
              "</a>)</p>\n"));
    lq_report_search_table(r, &search);
    LQ_TRY(lq_table_html(&search, file));
    LQ_TRY(lq_file_printf(file, "<h2>Provenance</h2>\n"));
    LQ_TRY(provenance(r, file));
    LQ_TRY(lq_file_printf(file, "<h2>How to reproduce</h2>\n"));
    LQ_TRY(reproduce(r, file));
    return lq_file_printf(file, "</body></html>\n");
}

lq_status lq_report_html(const lq_report *r, const char *out)
{
    lq_file *file;
    LQ_TRY(lq_file_create(lq_arena_printf(r->arena, "%s/index.html", out), &file));
    lq_status status = page(r, file);
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}
