#include "experiments/report_draw.h"

#include "core/base/log.h"
#include "experiments/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_ABOVE = 4 }; /* a wider range than this flattens what matters on a linear axis */
enum { ROWS_LOG_ABOVE = 2 };
static const double label_gap = 0.062; /* least distance of two labels, as a share of the height */

typedef struct gallery { /* one lq_draw_all */
    lq_report *r;
    const char *out, *plots;
    lq_drawing *at;
    size_t n;
} gallery;

void *lq_draw_zeroed(lq_arena *arena, size_t count, size_t size)
{
    void *memory;
    LQ_ASSERT(lq_arena_zeroed(arena, count + 1, size, &memory) == LQ_OK);
    return memory;
}

/* ---- scales and labels ---- */

static double to_share(const lq_drawing *d, double y)
{
    if (d->log_y)
        return log(y / d->y_low) / log(d->y_high / d->y_low);
    return (y - d->y_low) / (d->y_high - d->y_low);
}

static double from_share(const lq_drawing *d, double share)
{
    if (d->log_y)
        return d->y_low * pow(d->y_high / d->y_low, share);
    return d->y_low + share * (d->y_high - d->y_low);
}

static void widen(double *low, double *high, double x)
{
    if (isfinite(x) && x < *low)
        *low = x;
    if (isfinite(x) && x > *high)
        *high = x;
}

static void scale_y(lq_drawing *d)
{
    double low = (double)INFINITY, high = -(double)INFINITY;
    for (size_t s = 0; s < d->n_series + d->n_levels; s++) {
        const lq_line *one = s < d->n_series ? &d->series[s] : &d->level[s - d->n_series];
        for (size_t i = 0; i < one->n; i++) {
            widen(&low, &high, one->at[i].low);
            widen(&low, &high, one->at[i].high);
        }
    }
    d->log_y = low > 0 && high > (d->n_rows > 0 ? ROWS_LOG_ABOVE : LOG_ABOVE) * low;
    const double room = d->log_y ? pow(high / low, 0.06) : 0.06 * (high - low);
    const double least = room > 0 ? room : 0.05 * fabs(high) + 1e-9; /* all the same */
    d->y_low = d->log_y ? low / room : low - least;
    d->y_high = d->log_y ? high * room : high + least;
}

static void scale_x(lq_drawing *d)
{
    double low = (double)INFINITY, high = -(double)INFINITY;
    for (size_t s = 0; s < d->n_series; s++)
        for (size_t i = 0; i < d->series[s].n; i++)
            widen(&low, &high, d->series[s].at[i].x);
    for (size_t i = 0; i < d->n_lost; i++)
        widen(&low, &high, d->lost[i].x);
    const double span = d->log_x ? pow(high / low, 0.05) : 0.05 * (high - low);
    if (d->log_x) {
        d->x_low = low / span;
        d->x_last = high * pow(span, 0.6);
        d->x_high = d->x_last * pow(span, 0.9);
    } else {
        d->x_low = low - span;
        d->x_last = high + 0.6 * span;
        d->x_high = d->x_last + 0.9 * span;
    }
}

static int by_height(const void *a, const void *b)
{
    const lq_label *x = *(lq_label *const *)a, *y = *(lq_label *const *)b;
    if (x->y != y->y)
        return x->y < y->y ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Labels that would overlap, set evenly about the middle of where they belong. */
typedef struct cluster {
    double wish; /* mean of the shares of the height where its labels belong */
    size_t n;
} cluster;

static double middle_of(const cluster *c) /* inside the frame */
{
    const double half = label_gap * (double)c->n / 2;
    return fmin(fmax(c->wish, half), 1 - half);
}

static bool overlap(const cluster *lower, const cluster *upper)
{
    return middle_of(upper) - middle_of(lower) < label_gap * (double)(lower->n + upper->n) / 2;
}

/* Clusters grow until none overlap: the least movement in squares, and no order changes. */
static void spread(lq_drawing *d, lq_arena *arena)
{
    const size_t n = d->n_series + d->n_levels;
    lq_label **order = lq_draw_zeroed(arena, n, sizeof *order);
    cluster *c = lq_draw_zeroed(arena, n, sizeof *c);
    size_t clusters = 0;
    for (size_t i = 0; i < n; i++)
        order[i] = &d->label[i];
    if (n > 1)
        qsort(order, n, sizeof *order, by_height);
    for (size_t i = 0; i < n; i++) {
        c[clusters++] = (cluster){to_share(d, order[i]->y), 1};
        for (; clusters > 1 && overlap(&c[clusters - 2], &c[clusters - 1]); clusters--) {
            cluster *into = &c[clusters - 2];
            const size_t m = c[clusters - 1].n;
            into->wish = ((double)into->n * into->wish + (double)m * c[clusters - 1].wish) /
                         (double)(into->n + m);
            into->n += m;
        }
    }
    for (size_t k = 0, i = 0; k < clusters; k++)
        for (size_t m = 0; m < c[k].n; m++, i++)
            order[i]->shown_y = from_share(
                d, middle_of(&c[k]) + label_gap * ((double)m - ((double)c[k].n - 1) / 2));
}

static void place_labels(lq_drawing *d, lq_arena *arena)
{
    d->label = lq_draw_zeroed(arena, d->n_series + d->n_levels, sizeof *d->label);
    for (size_t s = 0; s < d->n_series; s++)
        d->label[s] = (lq_label){.text = d->series[s].label,
                                 .colour = d->series[s].colour,
                                 .y = d->series[s].at[d->series[s].n - 1].y};
    for (size_t l = 0; l < d->n_levels; l++)
        d->label[d->n_series + l] = (lq_label){
            .text = d->level[l].label, .colour = d->level[l].colour, .y = d->level[l].at[0].y};
    spread(d, arena);
}

/* Rows: y is what scale_y made of the means, but along x; the rows themselves run downwards. */
static void place_rows(lq_drawing *d)
{
    d->log_x = d->log_y;
    d->x_low = d->x_last = d->y_low;
    d->x_high = d->y_high;
    d->log_y = false;
    d->y_low = (double)d->n_rows - 0.4;
    d->y_high = -0.6;
    d->label = d->row;
}

static size_t n_labels(const lq_drawing *d)
{
    return d->n_rows > 0 ? d->n_rows : d->n_series + d->n_levels;
}

/* ---- the data file ---- */

/* gnuplot has no escape for a double quote that it reads everywhere: it is shown as a single one. */
static lq_status quoted(lq_file *file, const char *text)
{
    LQ_TRY(lq_file_write(file, "\"", 1));
    for (; *text; text++)
        LQ_TRY(lq_file_write(file, *text == '"' ? "'" : *text == '\n' ? " " : text, 1));
    return lq_file_write(file, "\"", 1);
}

static lq_status write_series(const lq_drawing *d, lq_file *file)
{
    for (size_t s = 0; s < d->n_series; s++) {
        const lq_line *one = &d->series[s];
        LQ_TRY(lq_file_printf(file, "# %s: x mean low high runs\n", one->label));
        for (size_t i = 0; i < one->n; i++)
            LQ_TRY(lq_file_printf(file, "%.10g %.10g %.10g %.10g %zu\n", one->at[i].x, one->at[i].y,
                                  one->at[i].low, one->at[i].high, one->at[i].tag));
        LQ_TRY(lq_file_write(file, "\n\n", 2));
    }
    return LQ_OK;
}

static lq_status write_rows(const lq_drawing *d, lq_file *file)
{
    LQ_TRY(lq_file_printf(file, "# rows: 0 row colour text\n"));
    for (size_t i = 0; i < d->n_rows; i++) {
        LQ_TRY(lq_file_printf(file, "0 %zu %zu ", i, d->row[i].colour));
        LQ_TRY(quoted(file, d->row[i].text));
        LQ_TRY(lq_file_write(file, "\n", 1));
    }
    return LQ_OK;
}

static lq_status write_ends(const lq_drawing *d, lq_file *file)
{
    if (d->n_rows > 0)
        return write_rows(d, file);
    for (size_t l = 0; l < d->n_levels; l++)
        LQ_TRY(lq_file_printf(file, "# %s\n%.10g %.10g\n%.10g %.10g\n\n\n", d->level[l].label,
                              d->x_low, d->level[l].at[0].y, d->x_last, d->level[l].at[0].y));
    for (size_t i = 0; i < d->n_series + d->n_levels; i++) {
        const lq_label *to = &d->label[i];
        const double from = i < d->n_series ? d->series[i].at[d->series[i].n - 1].x : d->x_last;
        LQ_TRY(lq_file_printf(file, "# to the label\n%.10g %.10g\n%.10g %.10g\n%.10g %.10g\n\n\n",
                              from, to->y, d->x_last, to->y, d->x_high, to->shown_y));
    }
    LQ_TRY(lq_file_printf(file, "# labels: x y colour text\n"));
    for (size_t i = 0; i < d->n_series + d->n_levels; i++) {
        LQ_TRY(lq_file_printf(file, "%.10g %.10g %zu ", d->x_high, d->label[i].shown_y,
                              d->label[i].colour));
        LQ_TRY(quoted(file, d->label[i].text));
        LQ_TRY(lq_file_write(file, "\n", 1));
    }
    LQ_TRY(lq_file_printf(file, "\n\n# lost: x y colour\n"));
    for (size_t i = 0; i < d->n_lost; i++)
        LQ_TRY(lq_file_printf(file, "%.10g %.10g %zu\n", d->lost[i].x, d->y_high, d->lost[i].tag));
    return LQ_OK;
}

static lq_status write_data(const gallery *g, const lq_drawing *d)
{
    lq_file *file;
    const char *path = lq_arena_printf(g->r->arena, "%s/figures/%s.dat", g->out, d->name);
    LQ_TRY(lq_file_create(path, &file));
    lq_status status = write_series(d, file);
    if (status == LQ_OK)
        status = write_ends(d, file);
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}

/* ---- gnuplot ---- */

/* 'text' as gnuplot reads it: a single quote is written twice. */
static const char *gnuplot_text(lq_arena *arena, const char *text)
{
    char *out = lq_arena_alloc(arena, 2 * strlen(text) + 3), *at = out;
    LQ_ASSERT(out);
    *at++ = '\'';
    for (; *text; text++) {
        if (*text == '\'')
            *at++ = '\'';
        *at++ = (unsigned char)*text < ' ' ? ' ' : *text;
    }
    *at++ = '\'';
    *at = '\0';
    return out;
}

/* The distinct x of the series and of what was lost, blank-separated: where a figure wants its tics. */
static const char *places(const lq_drawing *d, lq_arena *arena)
{
    const char *text = " ";
    for (size_t s = 0; s <= d->n_series; s++) {
        const lq_dot *at = s < d->n_series ? d->series[s].at : d->lost;
        const size_t n = s < d->n_series ? d->series[s].n : d->n_lost;
        for (size_t i = 0; i < n && strlen(text) < 400; i++) {
            const char *x = lq_arena_printf(arena, " %.10g ", at[i].x);
            if (!strstr(text, x))
                text = lq_arena_printf(arena, "%s%s", text, x + 1);
        }
    }
    return text;
}

static const char *variables(const gallery *g, const lq_drawing *d)
{
    lq_arena *a = g->r->arena;
    size_t longest = 0; /* characters, not bytes */
    const char *colours = "";
    for (size_t i = 0; i < n_labels(d); i++) {
        size_t n = 0;
        for (const char *c = d->label[i].text; *c; c++)
            n += ((unsigned char)*c & 0xc0) != 0x80;
        longest = n > longest ? n : longest;
        if (d->n_rows == 0)
            colours = lq_arena_printf(a, "%s%s%zu", colours, i ? " " : "", d->label[i].colour);
    }
    const char *titles = "";
    for (size_t s = 0; s < d->n_series && d->n_rows > 0; s++) {
        colours = lq_arena_printf(a, "%s%s%zu", colours, s ? " " : "", d->series[s].colour);
        titles = lq_arena_printf(a, "%s\"%s\" ", titles, d->series[s].label);
    }
    const char *base = lq_arena_printf(a, "%s/figures/%s", g->out, d->name);
    const char *text = lq_arena_printf(
        a, "base=%s; plots=%s; title=%s; x_label=%s; y_label=%s; colours='%s'; x_places='%s'",
        gnuplot_text(a, base), gnuplot_text(a, g->plots), gnuplot_text(a, d->title),
        gnuplot_text(a, d->x_label), gnuplot_text(a, d->y_label), colours, places(d, a));
    return lq_arena_printf(a,
                           "%s; n_series=%zu; n_levels=%zu; n_lost=%zu; label_chars=%zu; log_y=%d; "
                           "x_low=%.10g; x_last=%.10g; x_high=%.10g; y_low=%.10g; y_high=%.10g; "
                           "log_x=%d; n_rows=%zu; titles=%s",
                           text, d->n_series, d->n_levels, d->n_lost, longest, d->log_y, d->x_low,
                           d->x_last, d->x_high, d->y_low, d->y_high, d->log_x, d->n_rows,
                           gnuplot_text(a, titles));
}

static void prepare_job(const gallery *g, const lq_drawing *d, lq_job *job)
{
    lq_arena *a = g->r->arena;
    const char *argv[] = {"env", "gnuplot", "-e", variables(g, d),
                          lq_arena_printf(a, "%s/%s.gp", g->plots, d->script)};
    const size_t n = sizeof argv / sizeof argv[0];
    job->argv = lq_draw_zeroed(a, n + 1, sizeof *job->argv);
    for (size_t i = 0; i < n; i++)
        job->argv[i] = lq_arena_printf(a, "%s", argv[i]);
    job->log = lq_arena_printf(a, "%s/figures/%s.log", g->out, d->name);
    job->cost = 1;
}

/* The date in a PDF would make two reports of the same runs differ: its digits are overwritten in place,
 * so that no offset moves. */
static lq_status undate(const char *path, lq_arena *arena)
{
    static const char key[] = "/CreationDate (D:", date[] = "20000101000000";
    const lq_mark mark = lq_arena_mark(arena);
    char *data;
    size_t n;
    LQ_TRY(lq_file_read(path, arena, &data, &n));
    lq_status status = LQ_OK;
    for (size_t i = 0; i + sizeof key + sizeof date <= n; i++)
        if (memcmp(data + i, key, sizeof key - 1) == 0) {
            memcpy(data + i + sizeof key - 1, date, sizeof date - 1);
            status = lq_file_write_all(path, data, n);
            break;
        }
    lq_arena_release(arena, mark);
    return status;
}

static lq_status draw_all(gallery *g)
{
    lq_report *r = g->r;
    lq_job *job = lq_draw_zeroed(r->arena, g->n, sizeof *job);
    r->figure = lq_draw_zeroed(r->arena, g->n, sizeof *r->figure);
    r->n_figures = g->n;
    for (size_t i = 0; i < g->n; i++) {
        lq_drawing *d = &g->at[i];
        scale_y(d);
        if (d->n_rows > 0) {
            place_rows(d);
        } else {
            scale_x(d);
            place_labels(d, r->arena);
        }
        LQ_TRY(write_data(g, d));
        prepare_job(g, d, &job[i]);
        r->figure[i] = (lq_figure){.name = d->name, .caption = d->caption};
    }
    if (!lq_path_exists(lq_arena_printf(r->arena, "%s/style.gp", g->plots))) {
        lq_log_warn("%s: the gnuplot scripts are not there (--plots DIR): figures are left out",
                    g->plots);
        return LQ_OK;
    }
    const lq_pool pool = {"/usr/bin/env", "figures", 1};
    LQ_TRY(lq_pool_run(&pool, job, g->n));
    for (size_t i = 0; i < g->n; i++) {
        const char *base = lq_arena_printf(r->arena, "%s/figures/%s", g->out, r->figure[i].name);
        r->figure[i].drawn =
            job[i].done && lq_path_exists(lq_arena_printf(r->arena, "%s.svg", base));
        r->figure[i].pdf = lq_path_exists(lq_arena_printf(r->arena, "%s.pdf", base));
        if (!r->figure[i].drawn)
            lq_log_warn("figure %s was not drawn: %s (package gnuplot-nox)", r->figure[i].name,
                        job[i].ending);
        else
            LQ_TRY(lq_path_remove_tree(job[i].log));
        if (r->figure[i].pdf)
            LQ_TRY(undate(lq_arena_printf(r->arena, "%s.pdf", base), r->arena));
    }
    return LQ_OK;
}

lq_status lq_draw_all(lq_report *r, lq_drawing *drawing, size_t n, const char *out,
                      const char *plots)
{
    gallery g = {r, out, plots, drawing, n};
    LQ_TRY(lq_path_make_dirs(lq_arena_printf(r->arena, "%s/figures", out)));
    return n > 0 ? draw_all(&g) : LQ_OK;
}
