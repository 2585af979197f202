/* The rows of the report's tables: results, the search, the papers' numbers. */
#include "experiments/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_name[] = {
    [LQ_CELL_FULL] = "full", [LQ_CELL_PTQ] = "PTQ", [LQ_CELL_QAT] = "QAT"};

/* ---- the main table ---- */

enum {
    EVAL,
    MODEL,
    VARIANT,
    LABEL,
    RECIPE,
    SETTINGS,
    KIND,
    BITS,
    TRUE_BITS,
    SHARE,
    TOKENS,
    PERPLEXITY,
    CI,
    SD,
    ALSO,
    BESIDE,
    RATIO,
    SEEDS,
    DIFF,
    DIFF_CI,
    OUTCOME,
    FINISHED,
    DIVERGED,
    STOPPED,
    RUNS,
    N_MAIN
};
static const lq_column main_column[N_MAIN] = {
    [EVAL] = {NULL, "eval", 'l', false, false},
    [MODEL] = {"Model", "model", 'l', true, false},
    [VARIANT] = {NULL, "variant", 'l', false, false},
    [LABEL] = {"Method", "label", 'l', true, false},
    [RECIPE] = {NULL, NULL, 'l', false, false}, /* where there are recipes: columns() */
    [SETTINGS] = {NULL, NULL, 'l', false, false},
    [KIND] = {"Kind", "kind", 'l', true, false},
    [BITS] = {"Bits", "bits_nominal", 'r', false, false},
    [TRUE_BITS] = {"True bits", "bits_per_weight", 'r', true, false},
    [SHARE] = {"Data", "fraction", 'r', true, false},
    [TOKENS] = {"Tokens", "tokens_seen", 'r', false, false},
    [PERPLEXITY] = {"Perplexity", "perplexity_mean", 'r', true, false},
    [CI] = {NULL, "perplexity_ci95", 'r', false, false},
    [SD] = {NULL, "perplexity_sd", 'r', false, false},
    [ALSO] = {NULL, NULL, 'r', false, false}, /* where a second text was measured: columns() */
    [BESIDE] = {"Reference machine", "perplexity_beside", 'r', false, false},
    [RATIO] = {"Ratio to full", "ratio_to_full", 'r', true, false},
    [SEEDS] = {"Seeds", "seeds", 'r', true, false},
    [DIFF] = {"Paired difference", "paired_difference", 'r', true, false},
    [DIFF_CI] = {NULL, "paired_ci95", 'r', false, false},
    [OUTCOME] = {"Outcome", NULL, 'l', false, false},
    [FINISHED] = {NULL, "finished", 'r', false, false},
    [DIVERGED] = {NULL, "diverged", 'r', false, false},
    [STOPPED] = {NULL, "stopped", 'r', false, false},
    [RUNS] = {"Runs", "run_ids", 'l', false, true},
};

static const char *outcome_of(const lq_cell *c, lq_arena *arena)
{
    static const char *const word[] = {"finished", "diverged", "stopped"};
    const char *text = "";
    if (c->n == 0)
        return "not run";
    for (size_t i = 0; i < 3; i++)
        if (c->count[i] > 0)
            text =
                lq_arena_printf(arena, "%s%s%zu %s", text, *text ? ", " : "", c->count[i], word[i]);
    return c->n < c->wanted ? lq_arena_printf(arena, "%s, %zu not run", text, c->wanted - c->n)
                            : text;
}

static const char *short_ids(lq_arena *arena, const lq_record *const *run, size_t n)
{
    const char *ids = "";
    for (size_t i = 0; i < n; i++)
        ids = lq_arena_printf(arena, "%s%s%.8s", ids, i ? " " : "", run[i]->id);
    return ids;
}

static const char *signed_number(lq_arena *arena, double x, double half)
{
    const int decimals = half < 0.1 ? 3 : 2;
    return lq_arena_printf(arena, "%s%.*f ± %.*f", x < 0 ? "−" : "+", decimals, fabs(x), decimals,
                           half);
}

static lq_text_cell number(lq_arena *arena, const char *format_shown, double x)
{
    return (lq_text_cell){format_shown, lq_show_exact(arena, x)};
}

static void fill_numbers(const lq_report *r, const lq_cell *c, lq_text_cell *row)
{
    lq_arena *a = r->arena;
    const char *none = c->n > 0 ? "diverged" : "not run";
    if (c->n > 0 && c->count[LQ_DIVERGED] == 0)
        none = "–"; /* stopped, or measured without perplexity */
    row[BITS] = number(a, isnan(c->bits) ? "–" : lq_arena_printf(a, "%.4g", c->bits), c->bits);
    row[TRUE_BITS] =
        number(a, isnan(c->bits_per_weight) ? "–" : lq_arena_printf(a, "%.3f", c->bits_per_weight),
               c->bits_per_weight);
    row[SHARE] = number(a, lq_show_share(a, c->fraction), c->fraction);
    row[TOKENS] = number(a, c->kind == LQ_CELL_QAT ? lq_show_count(a, c->tokens) : "–", c->tokens);
    row[PERPLEXITY] =
        number(a, isnan(c->mean) ? none : lq_show_perplexity(a, c->mean, c->half), c->mean);
    row[CI].raw = lq_show_exact(a, c->half);
    row[SD].raw = lq_show_exact(a, c->sd);
    row[ALSO] =
        number(a, isnan(c->also) ? "–" : lq_show_perplexity(a, c->also, (double)NAN), c->also);
    row[BESIDE] = number(a, isnan(c->beside) ? "–" : lq_show_perplexity(a, c->beside, (double)NAN),
                         c->beside);
    row[RATIO] = number(a, isnan(c->ratio) ? "–" : lq_arena_printf(a, "%.3f", c->ratio), c->ratio);
    row[DIFF] = number(a, isnan(c->diff) ? "–" : signed_number(a, c->diff, c->diff_half), c->diff);
    row[DIFF_CI].raw = lq_show_exact(a, c->diff_half);
    if (r->reference && c->n > 0 && c->kind == LQ_CELL_QAT && strcmp(c->variant, r->reference) == 0)
        row[DIFF].shown = "reference";
}

static void fill_main(const lq_report *r, const lq_cell *c, lq_text_cell *row)
{
    lq_arena *a = r->arena;
    row[EVAL].raw = c->eval;
    row[MODEL].raw = lq_show_model(r, c->model);
    row[VARIANT].raw = c->variant;
    row[LABEL].raw = c->label;
    row[KIND].raw = kind_name[c->kind];
    if (c->kind == LQ_CELL_QAT) {
        row[RECIPE].raw = c->named;
        row[SETTINGS].raw = lq_report_settings(r, c);
    } else {
        row[RECIPE].shown = row[SETTINGS].shown = "–";
    }
    fill_numbers(r, c, row);
    row[SEEDS].raw = lq_arena_printf(a, "%zu", c->n);
    if (c->n < c->wanted)
        row[SEEDS].shown = lq_arena_printf(a, "%zu of %zu", c->n, c->wanted);
    row[OUTCOME].raw = outcome_of(c, a);
    row[FINISHED].raw = lq_arena_printf(a, "%zu", c->count[LQ_FINISHED]);
    row[DIVERGED].raw = lq_arena_printf(a, "%zu", c->count[LQ_DIVERGED]);
    row[STOPPED].raw = lq_arena_printf(a, "%zu", c->count[LQ_STOPPED]);
    row[RUNS] = (lq_text_cell){short_ids(a, c->run, c->n), lq_show_ids(a, c->run, c->n)};
}

/* The second text of the runs of an evaluation (NULL: of all); NULL: there is none. */
static const char *second_text(const lq_report *r, const char *eval)
{
    for (size_t i = 0; i < r->n_cells; i++) {
        const lq_cell *c = &r->cell[i];
        if (c->n == 0 || (eval != NULL && strcmp(c->eval, eval) != 0))
            continue;
        const lq_json *config = lq_json_get(c->run[0]->json, "config");
        const char *also = lq_json_string(lq_json_get(lq_json_get(config, "eval"), "also"));
        if (also != NULL)
            return also;
    }
    return NULL;
}

/* The columns of the main table; a report without recipes has none for them, and one without another
 * machine's results none for those. */
static const lq_column *columns(const lq_report *r, const char *eval)
{
    lq_column *with;
    const char *also = second_text(r, eval);
    LQ_ASSERT(lq_arena_new(r->arena, &with, N_MAIN) == LQ_OK);
    memcpy(with, main_column, sizeof main_column);
    if (r->n_beside == 0)
        with[BESIDE].title = with[BESIDE].csv = NULL;
    if (also != NULL)
        with[ALSO] = (lq_column){lq_arena_printf(r->arena, "Perplexity, %s", also),
                                 "perplexity_also", 'r', true, false};
    if (r->has_recipes) {
        with[RECIPE] = (lq_column){"Recipe", "recipe", 'l', true, false};
        with[SETTINGS] = (lq_column){"Settings", "settings", 'l', false, false};
    }
    return with;
}

void lq_report_main_table(const lq_report *r, const char *eval, lq_table *out)
{
    const lq_cell *before = NULL;
    lq_table_start(out, columns(r, eval), N_MAIN, r->arena);
    for (size_t i = 0; i < r->n_cells; i++) {
        const lq_cell *c = &r->cell[i];
        if (eval && strcmp(c->eval, eval) != 0)
            continue;
        fill_main(r, c, lq_table_row(out, before && strcmp(before->model, c->model) != 0));
        before = c;
    }
}

/* ---- the search ---- */

/* One setting that differs within a search: its path and its text in each run. */
typedef struct setting {
    const char *path, *value;
} setting;
typedef struct settings {
    setting *at;
    size_t n, room;
} settings;

static void flatten(const lq_json *node, const char *path, settings *out, lq_arena *arena)
{
    if (lq_json_type(node) == LQ_JSON_OBJECT) {
        for (const lq_json *m = lq_json_first(node); m; m = lq_json_next(m))
            flatten(m,
                    *path ? lq_arena_printf(arena, "%s.%s", path, lq_json_key(m)) : lq_json_key(m),
                    out, arena);
        return;
    }
    if (out->n == out->room) {
        const size_t room = out->room ? 2 * out->room : 64;
        setting *larger = lq_arena_alloc(arena, room * sizeof *larger);
        LQ_ASSERT(larger);
        if (out->n > 0)
            memcpy(larger, out->at, out->n * sizeof *larger);
        out->at = larger;
        out->room = room;
    }
    const char *text = lq_json_string(node);
    out->at[out->n++] = (setting){path, text ? text : lq_json_canonical(node, arena)};
}

static const char *value_of(const settings *s, const char *path)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->at[i].path, path) == 0)
            return s->at[i].value;
    return "absent";
}

typedef struct trial { /* one run of a search */
    const lq_record *run;
    settings all;
    const char *varied; /* "train.lr 0.001, method.lr_u 0.01" */
    double score; /* mean perplexity over the runs of these settings; infinite: one diverged */
    bool wins;
} trial;

static const lq_report *sorting; /* qsort has no context */

static size_t place(const lq_names *names, const char *name)
{
    size_t i = 0;
    while (i < names->n && strcmp(names->at[i], name) != 0)
        i++;
    return i;
}

/* Numbers as numbers, so that 3e-4 stands before 1e-3. */
static int by_value(const char *a, const char *b)
{
    char *end_a, *end_b;
    const double x = strtod(a, &end_a), y = strtod(b, &end_b);
    if (end_a != a && end_b != b && *end_a == '\0' && *end_b == '\0' && x != y)
        return x < y ? -1 : 1;
    return strcmp(a, b);
}

static bool same_search(const trial *a, const trial *b)
{
    return strcmp(a->run->variant, b->run->variant) == 0 &&
           strcmp(a->run->model, b->run->model) == 0 && strcmp(a->run->eval, b->run->eval) == 0;
}

static int by_setting(const void *a, const void *b)
{
    const trial *x = a, *y = b;
    const lq_names *names[] = {&sorting->variants, &sorting->models};
    const char *const left[] = {x->run->variant, x->run->model};
    const char *const right[] = {y->run->variant, y->run->model};
    for (size_t i = 0; i < 2; i++) {
        const size_t p = place(names[i], left[i]), q = place(names[i], right[i]);
        if (p != q)
            return p < q ? -1 : 1;
    }
    int order = strcmp(x->run->eval, y->run->eval);
    for (size_t i = 0; order == 0 && i < x->all.n; i++)
        order = by_value(x->all.at[i].value, value_of(&y->all, x->all.at[i].path));
    return order ? order : strcmp(x->run->id, y->run->id);
}

/* Paths that take more than one value within the search of this trial; seed and fraction apart. */
static const char *varied(const trial *of, const trial *list, size_t n, lq_arena *arena)
{
    const char *text = "";
    for (size_t s = 0; s < of->all.n; s++) {
        const setting *one = &of->all.at[s];
        bool differs = false;
        if (strcmp(one->path, "seed") == 0 || strcmp(one->path, "fraction") == 0)
            continue;
        for (size_t i = 0; i < n && !differs; i++)
            differs = same_search(of, &list[i]) &&
                      strcmp(value_of(&list[i].all, one->path), one->value) != 0;
        if (differs)
            text = lq_arena_printf(arena, "%s%s%s = %s", text, *text ? ", " : "", one->path,
                                   one->value);
    }
    return *text ? text : "the only one";
}

/* As lq_spec_winners decides: the lowest mean; a divergence is infinite; ties go to the first. */
static void judge(trial *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        size_t runs = 0;
        for (size_t j = 0; j < n; j++)
            if (same_search(&list[i], &list[j]) && strcmp(list[i].varied, list[j].varied) == 0) {
                const double ppl = list[j].run->perplexity;
                sum += isnan(ppl) ? (double)INFINITY : ppl;
                runs++;
            }
        list[i].score = sum / (double)runs;
    }
    for (size_t i = 0; i < n; i++) {
        const trial *best = &list[i];
        for (size_t j = n; j-- > 0;)
            if (same_search(best, &list[j]) && list[j].score <= best->score)
                best = &list[j];
        list[i].wins = isfinite(best->score) && strcmp(best->varied, list[i].varied) == 0;
    }
}

enum {
    S_MODEL,
    S_LABEL,
    S_EVAL,
    S_SHARE,
    S_SEED,
    S_SETTINGS,
    S_PERPLEXITY,
    S_WINNER,
    S_RUN,
    N_SEARCH
};
static const lq_column search_column[N_SEARCH] = {
    [S_MODEL] = {"Model", "model", 'l', true, false},
    [S_LABEL] = {"Method", "variant", 'l', true, false},
    [S_EVAL] = {"Judged on", "eval", 'l', false, false},
    [S_SHARE] = {"Data", "fraction", 'r', true, false},
    [S_SEED] = {"Seed", "seed", 'r', false, false},
    [S_SETTINGS] = {"Settings", "settings", 'l', true, false},
    [S_PERPLEXITY] = {"Perplexity", "perplexity", 'r', true, false},
    [S_WINNER] = {"Winner", "winner", 'l', true, false},
    [S_RUN] = {"Run", "run_id", 'l', false, true},
};

static void fill_search(const lq_report *r, const trial *t, lq_text_cell *row)
{
    lq_arena *a = r->arena;
    const lq_record *run = t->run;
    row[S_MODEL].raw = lq_show_model(r, run->model);
    row[S_LABEL] = (lq_text_cell){lq_report_label(r, run->variant), run->variant};
    row[S_EVAL] = (lq_text_cell){lq_report_eval_title(r, run->eval), run->eval};
    row[S_SHARE] = number(a, lq_show_share(a, run->fraction), run->fraction);
    row[S_SEED].raw = lq_arena_printf(a, "%zu", run->seed);
    row[S_SETTINGS].raw = t->varied;
    row[S_PERPLEXITY] = number(
        a,
        isnan(run->perplexity) ? "diverged" : lq_show_perplexity(a, run->perplexity, (double)NAN),
        run->perplexity);
    row[S_WINNER] = (lq_text_cell){t->wins ? "winner" : "", t->wins ? "1" : "0"};
    row[S_RUN] = (lq_text_cell){lq_arena_printf(a, "%.8s", run->id), run->id};
}

void lq_report_search_table(const lq_report *r, lq_table *out)
{
    trial *list;
    size_t n = 0;
    lq_table_start(out, search_column, N_SEARCH, r->arena);
    LQ_ASSERT(lq_arena_new(r->arena, &list, r->n_records + 1) == LQ_OK);
    for (size_t i = 0; i < r->n_records; i++)
        if (strcmp(r->record[i].purpose, "search") == 0) {
            list[n].run = &r->record[i];
            flatten(lq_json_get(r->record[i].json, "config"), "", &list[n].all, r->arena);
            n++;
        }
    sorting = r;
    if (n > 1)
        qsort(list, n, sizeof *list, by_setting);
    for (size_t i = 0; i < n; i++)
        list[i].varied = varied(&list[i], list, n, r->arena);
    judge(list, n);
    for (size_t i = 0; i < n; i++)
        fill_search(r, &list[i], lq_table_row(out, i > 0 && !same_search(&list[i - 1], &list[i])));
}

/* ---- the papers' numbers ---- */

static const lq_column published_column[] = {
    {"Model", "model", 'l', true, false},  {"Method", "method", 'l', true, false},
    {"Bits", "bits", 'r', true, false},    {"Metric", "metric", 'l', true, false},
    {"Value", "value", 'r', true, false},  {"Source", "source", 'l', true, false},
    {"Place", "place", 'l', false, false}, {"Read", "second_hand", 'l', true, false},
};

static lq_status fill_published(const lq_report *r, const lq_json *one, lq_text_cell *row)
{
    static const char *const text_key[] = {"model", "method", "metric", "source", "place"};
    static const size_t text_at[] = {0, 1, 3, 5, 6};
    const char *where = lq_arena_printf(r->arena, "%s: numbers", r->published_path);
    bool second_hand;
    LQ_TRY(lq_json_only_keys(one, where, "model", "method", "bits", "metric", "value", "tokens",
                             "source", "place", "second_hand", NULL));
    for (size_t i = 0; i < 5; i++)
        LQ_TRY(lq_json_text(one, where, text_key[i], i == 4 ? "" : NULL, &row[text_at[i]].raw));
    LQ_TRY(lq_json_bool(one, where, "second_hand", true, &second_hand));
    const double value = lq_json_number(lq_json_get(one, "value"));
    const double bits = lq_json_number(lq_json_get(one, "bits"));
    if (isnan(value))
        return lq_fail(LQ_E_OPTION, "%s: a value is no number", where);
    row[2] = number(r->arena, NULL, bits);
    row[4] = number(r->arena, NULL, value);
    row[7] = (lq_text_cell){second_hand ? "second-hand" : "at the source", second_hand ? "1" : "0"};
    return LQ_OK;
}

lq_status lq_report_published_table(const lq_report *r, lq_table *out)
{
    const lq_json *numbers = lq_json_get(r->published, "numbers"), *before = NULL;
    lq_table_start(out, published_column, sizeof published_column / sizeof published_column[0],
                   r->arena);
    if (r->published)
        LQ_TRY(lq_json_only_keys(r->published, r->published_path, "about", "sources", "numbers",
                                 "claims", NULL));
    for (const lq_json *n = lq_json_first(numbers); n; before = n, n = lq_json_next(n)) {
        const char *model = lq_json_string(lq_json_get(n, "model"));
        const char *last = lq_json_string(lq_json_get(before, "model"));
        LQ_TRY(fill_published(r, n, lq_table_row(out, model && last && strcmp(model, last) != 0)));
    }
    return LQ_OK;
}
