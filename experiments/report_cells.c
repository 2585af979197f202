/* The arithmetic of the report: means, intervals, ratios, paired differences; and how numbers look. */
#include "experiments/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 0.975 quantiles of Student's t for 1..30 degrees of freedom (any table, e.g. NIST handbook 1.3.6.7.2). */
static const double t975[] = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060,
                              2.2622,  2.2281, 2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199,
                              2.1098,  2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639,
                              2.0595,  2.0555, 2.0518, 2.0484, 2.0452, 2.0423};
enum { IN_TABLE = sizeof t975 / sizeof t975[0] };

double lq_student_t95(double df)
{
    LQ_ASSERT(df >= 1);
    if (df < IN_TABLE + 1)
        return t975[(size_t)df - 1]; /* a fraction is cut: the wider interval */
    /* Cornish-Fisher in 1/df (Abramowitz and Stegun 26.7.5): right to 1e-4 beyond the table. */
    const double z = 1.959963985, z3 = z * z * z, z5 = z3 * z * z;
    return z + (z3 + z) / (4 * df) + (5 * z5 + 16 * z3 + 3 * z) / (96 * df * df);
}

double lq_student_half(double sd, size_t n)
{
    return n < 2 ? (double)NAN : lq_student_t95((double)n - 1) * sd / sqrt((double)n);
}

void lq_mean_sd(const double *x, size_t n, double *mean, double *sd)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    *mean = n > 0 ? sum / (double)n : (double)NAN;
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - *mean) * (x[i] - *mean);
    *sd = n > 1 ? sqrt(squares / ((double)n - 1)) : (double)NAN;
}

const lq_cell *lq_report_cell(const lq_report *r, const char *eval, const char *model,
                              const char *variant, double fraction)
{
    const lq_cell *best = NULL;
    for (size_t i = 0; i < r->n_cells; i++) {
        const lq_cell *c = &r->cell[i];
        if (c->fraction != fraction || strcmp(c->variant, variant) != 0 ||
            strcmp(c->model, model) != 0 || strcmp(c->eval, eval) != 0)
            continue;
        if (!best || c->count[LQ_FINISHED] > best->count[LQ_FINISHED])
            best = c;
    }
    return best;
}

static void measure_alone(lq_cell *c, lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    double *x = lq_arena_f64(scratch, c->n + 1), bits = 0, tokens = 0, beside = 0, also = 0;
    size_t n = 0, with_bits = 0, with_tokens = 0;
    for (size_t i = 0; i < c->n; i++) {
        const double b = lq_store_metric(c->run[i]->json, "bits_per_weight");
        const double t = lq_store_metric(c->run[i]->json, "tokens_seen");
        if (isfinite(c->run[i]->perplexity)) {
            x[n++] = c->run[i]->perplexity;
            beside += c->run[i]->beside; /* NaN when one is missing there */
            also += lq_store_metric(c->run[i]->json, "perplexity_also");
        }
        if (isfinite(b))
            bits += (with_bits++, b);
        if (isfinite(t) && c->run[i]->outcome == LQ_FINISHED)
            tokens += (with_tokens++, t);
    }
    lq_mean_sd(x, n, &c->mean, &c->sd);
    c->beside = n > 0 ? beside / (double)n : (double)NAN;
    c->also = n > 0 ? also / (double)n : (double)NAN;
    c->half = n < 2 ? (double)NAN : lq_student_half(c->sd, n);
    c->bits_per_weight = with_bits ? bits / (double)with_bits : (double)NAN;
    c->tokens = with_tokens ? tokens / (double)with_tokens : (double)NAN;
    lq_arena_release(scratch, mark);
}

static double full_precision(const lq_report *r, const lq_cell *of)
{
    for (size_t i = 0; i < r->n_cells; i++) {
        const lq_cell *c = &r->cell[i];
        if (c->kind == LQ_CELL_FULL && strcmp(c->model, of->model) == 0 &&
            strcmp(c->eval, of->eval) == 0 && isfinite(c->mean))
            return c->mean;
    }
    return (double)NAN;
}

static double of_seed(const lq_cell *c, size_t seed)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->run[i]->seed == seed)
            return c->run[i]->perplexity;
    return (double)NAN;
}

/* Differences seed by seed: what both share (data order, calibration) falls out. */
static void measure_pair(const lq_report *r, lq_cell *c, lq_arena *scratch)
{
    c->diff = c->diff_half = (double)NAN;
    c->n_paired = 0;
    if (!r->reference || c->kind == LQ_CELL_FULL || strcmp(c->variant, r->reference) == 0)
        return;
    const lq_cell *other = lq_report_cell(r, c->eval, c->model, r->reference, c->fraction);
    if (!other)
        return;
    lq_mark mark = lq_arena_mark(scratch);
    double *d = lq_arena_f64(scratch, c->n + 1), sd;
    for (size_t i = 0; i < c->n; i++) {
        const double apart = c->run[i]->perplexity - of_seed(other, c->run[i]->seed);
        if (isfinite(apart))
            d[c->n_paired++] = apart;
    }
    if (c->n_paired >= 2) {
        lq_mean_sd(d, c->n_paired, &c->diff, &sd);
        c->diff_half = lq_student_half(sd, c->n_paired);
    }
    lq_arena_release(scratch, mark);
}

void lq_report_measure(lq_report *r)
{
    for (size_t i = 0; i < r->n_cells; i++)
        measure_alone(&r->cell[i], r->arena);
    for (size_t i = 0; i < r->n_cells; i++) {
        r->cell[i].ratio = r->cell[i].mean / full_precision(r, &r->cell[i]);
        measure_pair(r, &r->cell[i], r->arena);
    }
}

/* ---- how things look ---- */

const char *lq_report_label(const lq_report *r, const char *variant)
{
    for (size_t i = 0; r->spec && i < lq_spec_variants(r->spec); i++)
        if (strcmp(lq_spec_variant(r->spec, i), variant) == 0)
            return lq_spec_label(r->spec, i);
    return variant;
}

const char *lq_report_eval_title(const lq_report *r, const char *eval)
{
    lq_json *json;
    if (lq_json_parse(eval, strlen(eval), "evaluation", &json) != LQ_OK)
        return "no runs yet";
    const char *data = lq_json_string(lq_json_get(json, "data"));
    const char *digest = lq_json_string(lq_json_get(json, "data_sha256"));
    const double context = lq_json_number(lq_json_get(json, "context"));
    const double windows = lq_json_number(lq_json_get(json, "windows"));
    const char *title = lq_arena_printf(r->arena, "%s", data ? data : "unnamed data");
    if (context > 0)
        title = lq_arena_printf(r->arena, "%s, windows of %.0f tokens", title, context);
    if (windows > 0)
        title = lq_arena_printf(r->arena, "%s, the first %.0f", title, windows);
    if (digest)
        title = lq_arena_printf(r->arena, "%s, data %.8s", title, digest);
    lq_json_free(json);
    return title;
}

/* As many decimals as leave four digits, or one of the interval if that is finer; four at most. */
const char *lq_show_model(const lq_report *r, const char *model)
{
    for (size_t i = 0; i < r->n_records; i++) {
        const lq_json *about = lq_json_get(r->record[i].json, "model");
        const char *label = lq_json_string(lq_json_get(about, "label"));
        if (label != NULL && strcmp(r->record[i].model, model) == 0)
            return lq_arena_printf(r->arena, "%s (%s)", model, label);
    }
    return model;
}

const char *lq_show_perplexity(lq_arena *arena, double mean, double half)
{
    if (isnan(mean))
        return "–";
    if (!(mean < 1e5))
        return lq_arena_printf(arena, "%.2e", mean);
    int decimals = mean < 10 ? 3 : mean < 100 ? 2 : mean < 1000 ? 1 : 0;
    if (isnan(half))
        return lq_arena_printf(arena, "%.*f", decimals, mean);
    /* Seeds that agree but for rounding have no interval worth digits. */
    const int finer = half > 1e-9 * mean ? (int)-floor(log10(half)) : 0;
    if (finer > decimals)
        decimals = finer < 4 ? finer : 4;
    return lq_arena_printf(arena, "%.*f ± %.*f", decimals, mean, decimals, half);
}

const char *lq_show_share(lq_arena *arena, double fraction)
{
    return fraction > 0 ? lq_arena_printf(arena, "%.6g %%", 100 * fraction) : "–";
}

const char *lq_show_count(lq_arena *arena, double n)
{
    if (isnan(n))
        return "–";
    const char *unit = n >= 1e9 ? "G" : n >= 1e6 ? "M" : n >= 1e4 ? "k" : "";
    const double scale = n >= 1e9 ? 1e9 : n >= 1e6 ? 1e6 : n >= 1e4 ? 1e3 : 1;
    return lq_arena_printf(arena, "%.4g%s", n / scale, unit);
}

const char *lq_show_exact(lq_arena *arena, double x)
{
    if (!isfinite(x))
        return "";
    for (int digits = 6; digits < 17; digits++) {
        const char *text = lq_arena_printf(arena, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            return text;
    }
    return lq_arena_printf(arena, "%.17g", x);
}

const char *lq_show_ids(lq_arena *arena, const lq_record *const *run, size_t n)
{
    const char *ids = "";
    for (size_t i = 0; i < n; i++)
        ids = lq_arena_printf(arena, "%s%s%s", ids, i ? " " : "", run[i]->id);
    return ids;
}
