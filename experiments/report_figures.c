/* Which figures the runs allow, and what stands in them. */
#include "experiments/report_draw.h"

#include <math.h>
#include <string.h>

enum { LOSS_BINS = 60 }; /* per hundredfold of tokens */

static bool of_place(const lq_cell *c, const char *eval, const char *model)
{
    return strcmp(c->eval, eval) == 0 && strcmp(c->model, model) == 0;
}

static bool shows(const lq_report *r, const char *figure, const char *variant)
{
    return r->spec == NULL || lq_spec_shows(r->spec, figure, variant);
}

/* A variant's colour is its place among the trained ones that the figure shows: the same in every figure
 * that shows all. */
static size_t colour_of(const lq_report *r, const char *figure, const char *variant)
{
    size_t n = 0;
    for (size_t v = 0; v < r->variants.n; v++) {
        bool trained = false;
        if (!shows(r, figure, r->variants.at[v]))
            continue;
        for (size_t i = 0; i < r->n_cells && !trained; i++)
            trained = r->cell[i].kind == LQ_CELL_QAT &&
                      strcmp(r->cell[i].variant, r->variants.at[v]) == 0;
        if (strcmp(r->variants.at[v], variant) == 0)
            return trained ? n % LQ_COLOURS + 1 : LQ_GREY;
        n += trained;
    }
    return LQ_GREY;
}

static const char *slug(lq_arena *arena, const char *what, const lq_report *r, size_t e,
                        const char *model)
{
    char *name = lq_arena_printf(arena, r->evals.n > 1 ? "%s-%s-%zu" : "%s-%s", what, model, e + 1);
    for (char *c = name; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", *c))
            *c = '-';
    return name;
}

static lq_dot dot_of(const lq_cell *c, double x)
{
    const double half = isnan(c->half) ? 0 : c->half;
    return (lq_dot){x, c->mean, c->mean - half, c->mean + half, c->count[LQ_FINISHED]};
}

static void add_level(lq_drawing *d, const lq_cell *c, lq_arena *arena)
{
    lq_line *level = &d->level[d->n_levels++];
    level->label = c->label;
    level->colour = c->kind == LQ_CELL_FULL ? LQ_BLACK : LQ_GREY;
    level->n = 1;
    level->at = lq_draw_zeroed(arena, 1, sizeof *level->at);
    level->at[0] = dot_of(c, 0);
    level->at[0].low = level->at[0].high = c->mean;
}

/* Only the cell that lq_report_cell picks: a variant with two settings at one fraction is one line. */
static bool is_primary(const lq_report *r, const lq_cell *c)
{
    return lq_report_cell(r, c->eval, c->model, c->variant, c->fraction) == c;
}

static void start_drawing(lq_drawing *d, const char *figure, lq_report *r)
{
    *d = (lq_drawing){.script = figure};
    d->series = lq_draw_zeroed(r->arena, r->n_cells, sizeof *d->series);
    d->level = lq_draw_zeroed(r->arena, r->n_cells, sizeof *d->level);
    d->lost = lq_draw_zeroed(r->arena, r->n_cells, sizeof *d->lost);
}

static lq_line *series_of(lq_drawing *d, const lq_report *r, const char *variant, size_t room)
{
    const char *text = lq_report_label(r, variant);
    for (size_t s = 0; s < d->n_series; s++)
        if (strcmp(d->series[s].label, text) == 0)
            return &d->series[s];
    lq_line *one = &d->series[d->n_series++];
    one->label = text;
    one->colour = colour_of(r, d->script, variant);
    one->at = lq_draw_zeroed(r->arena, room, sizeof *one->at);
    return one;
}

static const char *eval_data(const lq_report *r, const char *eval)
{
    const char *title = lq_report_eval_title(r, eval);
    return lq_arena_printf(r->arena, "Perplexity on %.*s", (int)strcspn(title, ","), title);
}

static double budget_of(const lq_cell *c)
{
    return c->n == 0 ? (double)NAN
                     : lq_json_number(
                           lq_json_get(lq_json_get(c->run[0]->json, "config"), "budget_tokens"));
}

static bool data_efficiency(lq_report *r, size_t e, const char *model, lq_drawing *d)
{
    const char *eval = r->evals.at[e];
    double first = (double)NAN, budget = (double)NAN;
    bool several = false;
    start_drawing(d, "data-efficiency", r);
    for (size_t i = 0; i < r->n_cells; i++) {
        const lq_cell *c = &r->cell[i];
        if (!of_place(c, eval, model) || c->n == 0 || !is_primary(r, c) ||
            !shows(r, d->script, c->variant))
            continue;
        if (c->kind != LQ_CELL_QAT) {
            if (isfinite(c->mean))
                add_level(d, c, r->arena);
            continue;
        }
        if (isnan(c->mean)) {
            d->lost[d->n_lost++] =
                (lq_dot){.x = c->fraction, .tag = colour_of(r, d->script, c->variant)};
            continue;
        }
        lq_line *one = series_of(d, r, c->variant, r->n_cells);
        one->at[one->n++] = dot_of(c, c->fraction);
        several = several || (!isnan(first) && c->fraction != first);
        first = isnan(first) ? c->fraction : first;
        budget = isnan(budget) ? budget_of(c) : budget;
    }
    d->name = slug(r->arena, "data-efficiency", r, e, model);
    d->title = lq_show_model(r, model);
    d->x_label = lq_arena_printf(r->arena, "Share of the training tokens (100 %% = %s)",
                                 lq_show_count(r->arena, budget));
    d->y_label = eval_data(r, eval);
    d->caption = lq_arena_printf(
        r->arena,
        "%s: %s against the share of the training tokens. Points are means over seeds, bars "
        "their 95 %% intervals where there are two seeds or more; horizontal lines train "
        "nothing%s.",
        model, d->y_label, d->n_lost > 0 ? "; a cross at the upper edge diverged" : "");
    d->log_x = true;
    return several;
}

/* The cell of a variant with the most data that finished, on this model. */
static const lq_cell *longest(const lq_report *r, const char *eval, const char *model,
                              const char *variant)
{
    const lq_cell *best = NULL;
    for (size_t i = 0; i < r->n_cells; i++) {
        const lq_cell *c = &r->cell[i];
        if (of_place(c, eval, model) && strcmp(c->variant, variant) == 0 && isfinite(c->mean) &&
            is_primary(r, c) && (!best || c->fraction > best->fraction))
            best = c;
    }
    return best;
}

/* Means over bins of equal width in log x: what the eye can tell apart on this axis. */
static void bin_loss(const lq_record *run, lq_line *out)
{
    const lq_json *s = lq_json_get(lq_json_get(run->json, "series"), "train_loss");
    const lq_json *x = lq_json_first(lq_json_get(s, "x")),
                  *v = lq_json_first(lq_json_get(s, "value"));
    const double first = lq_store_number(x);
    double bin = -1, sum_x = 0, sum = 0;
    size_t n = 0;
    for (;; x = lq_json_next(x), v = lq_json_next(v)) {
        const double at = x ? floor(log10(lq_store_number(x) / first) * LOSS_BINS / 2) : -2;
        if (at != bin && n > 0) {
            const double mean = sum / (double)n;
            out->at[out->n++] = (lq_dot){sum_x / (double)n, mean, mean, mean, 1};
            sum_x = sum = 0;
            n = 0;
        }
        if (!x)
            break;
        bin = at;
        if (isfinite(lq_store_number(v)) && lq_store_number(x) > 0) {
            sum_x += lq_store_number(x);
            sum += lq_store_number(v);
            n++;
        }
    }
}

static bool training_loss(lq_report *r, size_t e, const char *model, lq_drawing *d)
{
    start_drawing(d, "training-loss", r);
    for (size_t v = 0; v < r->variants.n; v++) {
        const lq_cell *c = longest(r, r->evals.at[e], model, r->variants.at[v]);
        if (!c || c->kind != LQ_CELL_QAT || !shows(r, d->script, c->variant))
            continue;
        size_t k = 0;
        while (!isfinite(c->run[k]->perplexity)) /* the mean is finite: one of them is */
            k++;
        const lq_json *s = lq_json_get(lq_json_get(c->run[k]->json, "series"), "train_loss");
        lq_line *one = &d->series[d->n_series];
        one->at = lq_draw_zeroed(r->arena, lq_json_count(lq_json_get(s, "x")), sizeof *one->at);
        bin_loss(c->run[k], one);
        one->label =
            lq_arena_printf(r->arena, "%s, %s", c->label, lq_show_share(r->arena, c->fraction));
        one->colour = colour_of(r, d->script, c->variant);
        d->n_series += one->n > 0;
    }
    d->name = slug(r->arena, "training-loss", r, e, model);
    d->title = lq_show_model(r, model);
    d->x_label = "Training tokens seen";
    d->y_label = "Training loss (nats per token)";
    d->caption = lq_arena_printf(r->arena,
                                 "%s: training loss of the longest run of each trained "
                                 "variant (its first seed), averaged over bins of equal width.",
                                 model);
    d->log_x = true;
    bool several = false;
    for (size_t s = 0; s < d->n_series; s++)
        several = several || d->series[s].n > 1;
    return several;
}

/* What the names of two points have in common, without what trails: "GPTQ" of "GPTQ 2 bit", "GPTQ 3 bit". */
static const char *common_label(const char *a, const char *b, const char *otherwise,
                                lq_arena *arena)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    while (n > 0 && strchr(" ,-(_", a[n - 1]))
        n--;
    return n >= 3 ? lq_arena_printf(arena, "%.*s", (int)n, a) : otherwise;
}

/* One series a method and kind; a variant whose nominal bits the series has already starts its own. */
static void add_bits(const lq_report *r, const lq_cell *c, lq_drawing *d, const char **key)
{
    const char *own = lq_arena_printf(r->arena, "%s %d", c->run[0]->method, (int)c->kind);
    size_t s = 0;
    for (; s < d->n_series; s++) {
        bool taken = false;
        for (size_t i = 0; i < d->series[s].n; i++)
            taken = taken || d->series[s].at[i].tag == (size_t)(100 * c->bits);
        if (strcmp(key[s], own) == 0 && !taken)
            break;
    }
    lq_line *one = &d->series[s];
    if (s == d->n_series) {
        d->n_series++;
        key[s] = own;
        one->label = c->label;
        one->colour = colour_of(r, d->script, c->variant);
        one->at = lq_draw_zeroed(r->arena, r->n_cells, sizeof *one->at);
    }
    if (one->n > 0)
        one->label = common_label(one->label, c->label, c->run[0]->method, r->arena);
    lq_dot m = dot_of(c, c->bits_per_weight);
    m.tag = (size_t)(100 * c->bits);
    size_t at = one->n++; /* by true bits: the line runs from left to right */
    for (; at > 0 && one->at[at - 1].x > m.x; at--)
        one->at[at] = one->at[at - 1];
    one->at[at] = m;
}

static bool bits(lq_report *r, size_t e, const char *model, lq_drawing *d)
{
    double first = (double)NAN;
    bool several = false;
    const char **key = lq_draw_zeroed(r->arena, r->n_cells, sizeof *key);
    start_drawing(d, "bits", r);
    for (size_t v = 0; v < r->variants.n; v++) {
        const lq_cell *c = longest(r, r->evals.at[e], model, r->variants.at[v]);
        if (!c || !shows(r, d->script, c->variant))
            continue;
        if (c->kind == LQ_CELL_FULL) {
            add_level(d, c, r->arena);
            continue;
        }
        if (isnan(c->bits) || isnan(c->bits_per_weight))
            continue;
        several = several || (!isnan(first) && c->bits != first);
        first = isnan(first) ? c->bits : first;
        add_bits(r, c, d, key);
    }
    d->name = slug(r->arena, "bits", r, e, model);
    d->title = lq_show_model(r, model);
    d->x_label = "True bits per weight";
    d->y_label = eval_data(r, r->evals.at[e]);
    d->caption =
        lq_arena_printf(r->arena,
                        "%s: %s against the true bits per weight (codes, scales, "
                        "zeros, transforms), each variant with the most data it was given.",
                        model, d->y_label);
    return several;
}

/* Variants one below the other, where many were run on the same data: an ablation. One series a share of
 * the data, all with the same rows. */
static bool variants(lq_report *r, size_t e, const char *model, lq_drawing *d)
{
    enum { MANY = 8 };
    const char *eval = r->evals.at[e];
    size_t most = 0, n_trained = 0;
    double fraction[LQ_COLOURS];
    start_drawing(d, "variants", r);
    d->row = lq_draw_zeroed(r->arena, r->variants.n, sizeof *d->row);
    for (size_t v = 0; v < r->variants.n; v++) {
        bool there = false;
        if (!shows(r, d->script, r->variants.at[v]))
            continue;
        for (size_t i = 0; i < r->n_cells; i++) {
            const lq_cell *c = &r->cell[i];
            if (!of_place(c, eval, model) || strcmp(c->variant, r->variants.at[v]) != 0 ||
                !isfinite(c->mean) || !is_primary(r, c) || c->kind == LQ_CELL_FULL)
                continue;
            size_t s = 0;
            while (s < d->n_series && fraction[s] != c->fraction)
                s++;
            if (s == LQ_COLOURS)
                continue;
            if (s == d->n_series) {
                fraction[d->n_series++] = c->fraction;
                d->series[s].label = c->fraction > 0
                                         ? lq_arena_printf(r->arena, "after %s of the tokens",
                                                           lq_show_share(r->arena, c->fraction))
                                         : "nothing trained";
                d->series[s].colour = c->fraction > 0 ? ++n_trained : LQ_GREY;
                d->series[s].at = lq_draw_zeroed(r->arena, r->n_cells, sizeof(lq_dot));
            }
            lq_line *one = &d->series[s];
            one->at[one->n++] = dot_of(c, (double)d->n_rows);
            most = one->n > most ? one->n : most;
            there = true;
        }
        if (there)
            d->row[d->n_rows++] =
                (lq_label){.text = lq_report_label(r, r->variants.at[v]), .colour = LQ_BLACK};
    }
    d->name = slug(r->arena, "variants", r, e, model);
    d->title = lq_show_model(r, model);
    d->x_label = eval_data(r, eval);
    d->y_label = "";
    d->caption = lq_arena_printf(r->arena,
                                 "%s: %s of every variant. Points are means over seeds, bars their "
                                 "95 %% intervals where there are two seeds or more.",
                                 model, d->x_label);
    return most >= MANY;
}

lq_status lq_report_figures(lq_report *r, const char *out, const char *plots)
{
    static bool (*const kind[])(lq_report *, size_t, const char *,
                                lq_drawing *) = {data_efficiency, training_loss, bits, variants};
    const size_t kinds = sizeof kind / sizeof kind[0];
    lq_drawing *list = lq_draw_zeroed(r->arena, kinds * r->evals.n * r->models.n, sizeof *list);
    size_t n = 0;
    for (size_t k = 0; k < kinds; k++)
        for (size_t e = 0; e < r->evals.n; e++)
            for (size_t m = 0; m < r->models.n; m++)
                n += kind[k](r, e, r->models.at[m], &list[n]);
    return lq_draw_all(r, list, n, out, plots);
}
