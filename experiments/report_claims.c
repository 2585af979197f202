/* Verdicts on claims, by rules that stand in published.json, over the stored runs.
 *
 *     {"id": "...", "text": "...", "left": {"variant": "lcqat", "fraction": 0.01},
 *      "right": {"variant": "paretoq", "fraction": 1}, "metric": "perplexity", "rule": "lower"}
 *
 * rule "lower": the left cell's metric is below the right one's.
 *     reproduced       so by more than the 95 % interval of the difference
 *     same ordering    so, but within it, or with one seed on both sides, or with a diverged run on the left
 *     not reproduced   otherwise
 * rule "ratio": left/right comes to `published`, within the share `tolerance`.
 *     reproduced       it does;  same ordering: on the same side of 1;  not reproduced: otherwise
 * A side's "or" names the variant to take where the first has no runs: the same thing under the name that
 * another experiment gives it. A claim with a "model" is judged on that model alone, any other on each model
 * with results. Where a side has no runs: not run at that scale. */
#include "experiments/report.h"

#include <math.h>
#include <string.h>

static const char *const verdict_name[] = {[LQ_REPRODUCED] = "reproduced",
                                           [LQ_SAME_ORDERING] = "same ordering",
                                           [LQ_NOT_REPRODUCED] = "not reproduced",
                                           [LQ_NOT_RUN] = "not run at that scale"};

typedef struct side {
    const char *variant, *other; /* other: "or"; "" is none */
    double fraction;
    const lq_cell *cell; /* NULL: none */
    double *x;           /* (n) the metric of its finished runs */
    size_t n, failed;    /* failed: diverged */
    double mean, sd;
} side;

typedef struct claim {
    const char *id, *text, *metric, *rule, *model, *source;
    side left, right;
    double published, tolerance;
    lq_verdict verdict;
    const char *evidence;
} claim;

static lq_status read_side(const lq_json *claim_json, const char *key, const char *where, side *out)
{
    const lq_json *json = lq_json_get(claim_json, key);
    if (!json)
        return lq_fail(LQ_E_OPTION, "%s: %s is missing", where, key);
    LQ_TRY(lq_json_only_keys(json, where, "variant", "or", "fraction", NULL));
    LQ_TRY(lq_json_text(json, where, "variant", NULL, &out->variant));
    LQ_TRY(lq_json_text(json, where, "or", "", &out->other));
    return lq_json_real(json, where, "fraction", 0, 1, 0, &out->fraction);
}

static lq_status read_claim(const lq_report *r, const lq_json *json, claim *c)
{
    const char *where = lq_arena_printf(r->arena, "%s: claims", r->published_path);
    *c = (claim){0};
    LQ_TRY(lq_json_only_keys(json, where, "id", "text", "left", "right", "metric", "rule", "model",
                             "published", "tolerance", "source", NULL));
    LQ_TRY(lq_json_text(json, where, "id", NULL, &c->id));
    where = lq_arena_printf(r->arena, "%s: claim %s", r->published_path, c->id);
    LQ_TRY(lq_json_text(json, where, "text", NULL, &c->text));
    LQ_TRY(lq_json_text(json, where, "metric", "perplexity", &c->metric));
    LQ_TRY(lq_json_text(json, where, "rule", NULL, &c->rule));
    LQ_TRY(lq_json_text(json, where, "model", "", &c->model));
    LQ_TRY(lq_json_text(json, where, "source", "", &c->source));
    LQ_TRY(lq_json_real(json, where, "published", 1e-9, 1e9, (double)NAN, &c->published));
    LQ_TRY(lq_json_real(json, where, "tolerance", 0, 1, 0, &c->tolerance));
    const bool ratio = strcmp(c->rule, "ratio") == 0;
    if (!ratio && strcmp(c->rule, "lower") != 0)
        return lq_fail(LQ_E_OPTION, "%s: rule: lower or ratio", where);
    if (ratio && isnan(c->published))
        return lq_fail(LQ_E_OPTION, "%s: a ratio needs \"published\"", where);
    LQ_TRY(read_side(json, "left", where, &c->left));
    return read_side(json, "right", where, &c->right);
}

static void gather(const lq_report *r, const char *eval, const char *model, const char *metric,
                   side *s)
{
    s->cell = lq_report_cell(r, eval, model, s->variant, s->fraction);
    if ((s->cell == NULL || s->cell->n == 0) && *s->other != '\0')
        s->cell = lq_report_cell(r, eval, model, s->other, s->fraction);
    s->n = s->failed = 0;
    s->x = lq_arena_f64(r->arena, s->cell ? s->cell->n + 1 : 1);
    for (size_t i = 0; s->cell && i < s->cell->n; i++) {
        const lq_record *run = s->cell->run[i];
        const double x = lq_store_metric(run->json, metric);
        if (run->outcome == LQ_FINISHED && isfinite(x))
            s->x[s->n++] = x;
        else if (run->outcome == LQ_DIVERGED)
            s->failed++;
    }
    lq_mean_sd(s->x, s->n, &s->mean, &s->sd);
}

/* Seed by seed when both sides ran the same seeds on the same data; every run finished. */
static bool paired(const claim *c)
{
    const side *a = &c->left, *b = &c->right;
    bool same = a->n >= 2 && a->n == b->n && a->fraction == b->fraction && a->n == a->cell->n &&
                b->n == b->cell->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = a->cell->run[i]->seed == b->cell->run[i]->seed;
    return same;
}

/* Half of the 95 % interval of mean(left) - mean(right); NaN when neither side has two runs. One run
 * against several is judged as one more draw from the several. */
static double half_of_difference(const claim *c, lq_arena *arena)
{
    const side *a = &c->left, *b = &c->right;
    if (paired(c)) {
        double *d = lq_arena_f64(arena, a->n), mean, sd;
        for (size_t i = 0; i < a->n; i++)
            d[i] = a->x[i] - b->x[i];
        lq_mean_sd(d, a->n, &mean, &sd);
        return lq_student_half(sd, a->n);
    }
    if (a->n >= 2 && b->n >= 2) { /* Welch; Satterthwaite's degrees of freedom */
        const double va = a->sd * a->sd / (double)a->n, vb = b->sd * b->sd / (double)b->n;
        const double below = va * va / ((double)a->n - 1) + vb * vb / ((double)b->n - 1);
        return below > 0 ? lq_student_t95((va + vb) * (va + vb) / below) * sqrt(va + vb) : 0;
    }
    const side *many = a->n >= 2 ? a : b;
    if (many->n < 2)
        return (double)NAN;
    return lq_student_t95((double)many->n - 1) * many->sd * sqrt(1 + 1 / (double)many->n);
}

static lq_verdict judge_lower(claim *c, lq_arena *arena)
{
    const double diff = c->left.mean - c->right.mean, half = half_of_difference(c, arena);
    c->evidence =
        lq_arena_printf(arena, "difference %s%.4g%s", diff < 0 ? "−" : "+", fabs(diff),
                        isnan(half) ? ", one seed each" : lq_arena_printf(arena, " ± %.2g", half));
    if (diff >= 0)
        return LQ_NOT_REPRODUCED;
    return diff + half < 0 && c->left.failed == 0 ? LQ_REPRODUCED : LQ_SAME_ORDERING;
}

static lq_verdict judge_ratio(claim *c, lq_arena *arena)
{
    const double ratio = c->left.mean / c->right.mean;
    c->evidence = lq_arena_printf(arena, "ratio %.4g, published %.4g", ratio, c->published);
    if (fabs(ratio / c->published - 1) <= c->tolerance)
        return LQ_REPRODUCED;
    return (ratio < 1) == (c->published < 1) ? LQ_SAME_ORDERING : LQ_NOT_REPRODUCED;
}

static const char *show_side(const side *s, lq_arena *arena)
{
    const char *value = s->n > 0 ? lq_show_perplexity(arena, s->mean, (double)NAN) : "diverged";
    const char *lost =
        s->failed > 0 && s->n > 0 ? lq_arena_printf(arena, ", %zu diverged", s->failed) : "";
    return lq_arena_printf(arena, "%s (%zu run%s%s)", value, s->n + s->failed,
                           s->n + s->failed == 1 ? "" : "s", lost);
}

static void judge(const lq_report *r, const char *eval, const char *model, claim *c)
{
    gather(r, eval, model, c->metric, &c->left);
    gather(r, eval, model, c->metric, &c->right);
    c->verdict = LQ_NOT_RUN;
    c->evidence = "";
    if (c->left.n + c->left.failed == 0 || c->right.n + c->right.failed == 0)
        return;
    if (c->left.n == 0)
        c->verdict = LQ_NOT_REPRODUCED;
    else if (c->right.n == 0)
        c->verdict = strcmp(c->rule, "lower") == 0 ? LQ_REPRODUCED : LQ_NOT_REPRODUCED;
    else if (strcmp(c->rule, "lower") == 0)
        c->verdict = judge_lower(c, r->arena);
    else
        c->verdict = judge_ratio(c, r->arena);
    c->evidence =
        lq_arena_printf(r->arena, "%s against %s%s%s", show_side(&c->left, r->arena),
                        show_side(&c->right, r->arena), *c->evidence ? "; " : "", c->evidence);
}

enum { C_ID, C_TEXT, C_MODEL, C_EVAL, C_VERDICT, C_EVIDENCE, C_SOURCE, C_RUNS, N_COLUMNS };
static const lq_column column[N_COLUMNS] = {
    [C_ID] = {NULL, "claim", 'l', false, false},
    [C_TEXT] = {"Claim", "text", 'l', true, false},
    [C_MODEL] = {"Model", "model", 'l', true, false},
    [C_EVAL] = {NULL, "eval", 'l', false, false},
    [C_VERDICT] = {"Verdict", "verdict", 'l', true, false},
    [C_EVIDENCE] = {"Evidence", "evidence", 'l', false, false},
    [C_SOURCE] = {"Source", "source", 'l', false, false},
    [C_RUNS] = {"Runs", "run_ids", 'l', false, true},
};

static void fill(const lq_report *r, const char *eval, const char *model, claim *c, lq_table *out)
{
    lq_text_cell *row = lq_table_row(out, false);
    judge(r, eval, model, c);
    row[C_ID].raw = c->id;
    row[C_TEXT].raw = c->text;
    row[C_MODEL].raw = model;
    row[C_EVAL].raw = eval;
    row[C_VERDICT].raw = verdict_name[c->verdict];
    row[C_EVIDENCE].raw = c->evidence;
    row[C_SOURCE].raw = c->source;
    const side *const both[] = {&c->left, &c->right};
    const char *ids = "", *brief = "";
    for (size_t i = 0; i < 2 && c->verdict != LQ_NOT_RUN; i++)
        for (size_t k = 0; k < both[i]->cell->n; k++) {
            const char *blank = *ids ? " " : "", *id = both[i]->cell->run[k]->id;
            ids = lq_arena_printf(r->arena, "%s%s%s", ids, blank, id);
            brief = lq_arena_printf(r->arena, "%s%s%.8s", brief, blank, id);
        }
    row[C_RUNS] = (lq_text_cell){brief, ids};
}

static bool has_results(const lq_report *r, const char *eval, const char *model)
{
    for (size_t i = 0; i < r->n_cells; i++)
        if (r->cell[i].n > 0 && strcmp(r->cell[i].model, model) == 0 &&
            strcmp(r->cell[i].eval, eval) == 0)
            return true;
    return false;
}

lq_status lq_report_claims_table(const lq_report *r, lq_table *out)
{
    const lq_json *claims = lq_json_get(r->published, "claims");
    lq_table_start(out, column, N_COLUMNS, r->arena);
    for (const lq_json *json = lq_json_first(claims); json; json = lq_json_next(json)) {
        claim c;
        size_t judged = 0;
        LQ_TRY(read_claim(r, json, &c));
        for (size_t e = 0; e < r->evals.n; e++)
            for (size_t m = 0; m < r->models.n; m++) {
                const char *eval = r->evals.at[e], *model = r->models.at[m];
                if (!has_results(r, eval, model) || (*c.model && strcmp(c.model, model) != 0))
                    continue;
                fill(r, eval, model, &c, out);
                judged++;
            }
        if (judged == 0)
            fill(r, "", *c.model ? c.model : "–", &c, out);
    }
    return LQ_OK;
}
