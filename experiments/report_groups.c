/* Quantizer and recipe are two axes: the trained rows by one, then by the other. */
#include "experiments/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MODEL, LEFT, RIGHT, SETTINGS, BITS, TRUE_BITS, SHARE, PERPLEXITY, RATIO, SEEDS, RUNS, N };
static const lq_column column[2][N] = {
    [LQ_BY_METHOD] = {[LEFT] = {"Method", "label", 'l', true, false},
                      [RIGHT] = {"Recipe", "recipe", 'l', true, false}},
    [LQ_BY_RECIPE] = {[LEFT] = {"Recipe", "recipe", 'l', true, false},
                      [RIGHT] = {"Method", "label", 'l', true, false}},
};
static const lq_column shared[N] = {
    [MODEL] = {"Model", "model", 'l', true, false},
    [SETTINGS] = {"Settings", "settings", 'l', true, false},
    [BITS] = {"Bits", "bits_nominal", 'r', true, false},
    [TRUE_BITS] = {"True bits", "bits_per_weight", 'r', true, false},
    [SHARE] = {"Data", "fraction", 'r', true, false},
    [PERPLEXITY] = {"Perplexity", "perplexity_mean", 'r', true, false},
    [RATIO] = {"Ratio to full", "ratio_to_full", 'r', true, false},
    [SEEDS] = {"Seeds", "seeds", 'r', true, false},
    [RUNS] = {"Runs", "run_ids", 'l', false, true},
};

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool was_searched(const lq_report *r, const lq_cell *c)
{
    for (size_t i = 0; i < r->n_records; i++)
        if (strcmp(r->record[i].purpose, "search") == 0 &&
            strcmp(r->record[i].variant, c->variant) == 0)
            return true;
    return false;
}

const char *lq_report_settings(const lq_report *r, const lq_cell *c)
{
    const bool common = strcmp(c->named, "common") == 0;
    const char *word = common                              ? "the spec's"
                       : ends_with(c->named, "/published") ? "published"
                                                           : "the recipe's";
    if (common && was_searched(r, c))
        return "tuned";
    return *c->changed ? lq_arena_printf(r->arena, "%s but %s%s", word, c->changed,
                                         was_searched(r, c) ? " (tuned)" : "")
                       : word;
}

/* ---- order ---- */

static const lq_report *sorting; /* qsort has no context */
static lq_grouping grouping;

static int by_index(const char *a, const char *b, const char *(*key)(const lq_cell *))
{
    for (size_t i = 0; strcmp(a, b) != 0 && i < sorting->n_cells; i++) {
        const char *here = key(&sorting->cell[i]);
        if (strcmp(here, a) == 0 || strcmp(here, b) == 0)
            return strcmp(here, a) == 0 ? -1 : 1;
    }
    return 0;
}

static const char *model_of(const lq_cell *c) { return c->model; }
static const char *eval_of(const lq_cell *c) { return c->eval; }
static const char *method_of(const lq_cell *c) { return c->method; }

/* Recipes by name, common first: each stands beside the tuned rows. */
static int by_recipe(const lq_cell *a, const lq_cell *b)
{
    const bool left = strcmp(a->named, "common") == 0, right = strcmp(b->named, "common") == 0;
    return left != right ? (left ? -1 : 1) : strcmp(a->named, b->named);
}

static double or_zero(double x) { return isnan(x) ? 0 : x; }

static int by_group(const void *left, const void *right)
{
    const lq_cell *a = *(const lq_cell *const *)left, *b = *(const lq_cell *const *)right;
    int order = by_index(a->eval, b->eval, eval_of);
    order = order ? order : by_index(a->model, b->model, model_of);
    const int method = by_index(a->method, b->method, method_of), recipe = by_recipe(a, b);
    const int first = grouping == LQ_BY_METHOD ? method : recipe;
    const int second = grouping == LQ_BY_METHOD ? recipe : method;
    order = order ? order : first ? first : second;
    if (order)
        return order;
    if (or_zero(a->bits) != or_zero(b->bits))
        return or_zero(a->bits) < or_zero(b->bits) ? -1 : 1;
    if (a->fraction != b->fraction)
        return a->fraction < b->fraction ? -1 : 1;
    return a < b ? -1 : 1; /* as in the main table */
}

static bool same_group(const lq_cell *a, const lq_cell *b)
{
    if (strcmp(a->eval, b->eval) != 0 || strcmp(a->model, b->model) != 0)
        return false;
    return grouping == LQ_BY_METHOD ? strcmp(a->method, b->method) == 0
                                    : strcmp(a->named, b->named) == 0;
}

/* ---- rows ---- */

static void fill(const lq_report *r, const lq_cell *c, lq_grouping by, lq_text_cell *row)
{
    lq_arena *a = r->arena;
    const char *none = c->n == 0 ? "not run" : c->count[LQ_DIVERGED] > 0 ? "diverged" : "–";
    row[MODEL].raw = lq_show_model(r, c->model);
    row[by == LQ_BY_METHOD ? LEFT : RIGHT].raw = c->label;
    row[by == LQ_BY_METHOD ? RIGHT : LEFT].raw = c->named;
    row[SETTINGS].raw = lq_report_settings(r, c);
    row[BITS] = (lq_text_cell){isnan(c->bits) ? "–" : lq_arena_printf(a, "%.4g", c->bits),
                               lq_show_exact(a, c->bits)};
    row[TRUE_BITS] = (lq_text_cell){
        isnan(c->bits_per_weight) ? "–" : lq_arena_printf(a, "%.3f", c->bits_per_weight),
        lq_show_exact(a, c->bits_per_weight)};
    row[SHARE] = (lq_text_cell){lq_show_share(a, c->fraction), lq_show_exact(a, c->fraction)};
    row[PERPLEXITY] = (lq_text_cell){
        isnan(c->mean) ? none : lq_show_perplexity(a, c->mean, c->half), lq_show_exact(a, c->mean)};
    row[RATIO] = (lq_text_cell){isnan(c->ratio) ? "–" : lq_arena_printf(a, "%.3f", c->ratio),
                                lq_show_exact(a, c->ratio)};
    row[SEEDS].raw = lq_arena_printf(a, "%zu", c->n);
    if (c->n < c->wanted)
        row[SEEDS].shown = lq_arena_printf(a, "%zu of %zu", c->n, c->wanted);
    const char *ids = "";
    for (size_t i = 0; i < c->n; i++)
        ids = lq_arena_printf(a, "%s%s%.8s", ids, i ? " " : "", c->run[i]->id);
    row[RUNS] = (lq_text_cell){ids, lq_show_ids(a, c->run, c->n)};
}

lq_status lq_report_grouped_table(const lq_report *r, const char *eval, lq_grouping by,
                                  lq_table *out)
{
    const lq_cell **list;
    lq_column *columns;
    size_t n = 0;
    LQ_TRY(lq_arena_new(r->arena, &list, r->n_cells + 1));
    LQ_TRY(lq_arena_new(r->arena, &columns, N));
    for (size_t i = 0; i < N; i++)
        columns[i] = i == LEFT || i == RIGHT ? column[by][i] : shared[i];
    for (size_t i = 0; i < r->n_cells; i++)
        if (r->cell[i].kind == LQ_CELL_QAT && (eval == NULL || strcmp(r->cell[i].eval, eval) == 0))
            list[n++] = &r->cell[i];
    sorting = r;
    grouping = by;
    if (n > 1)
        qsort(list, n, sizeof *list, by_group);
    lq_table_start(out, columns, N, r->arena);
    for (size_t i = 0; i < n; i++)
        fill(r, list[i], by, lq_table_row(out, i > 0 && !same_group(list[i - 1], list[i])));
    return LQ_OK;
}
