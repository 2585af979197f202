/* The report: what the stored runs say, as tables, figures, verdicts and a page. Nothing here computes a
 * perplexity; every number is a stored metric, or arithmetic on stored metrics, with the run ids beside.
 *
 *     lq_report r = {.arena = arena, .spec = spec};           // spec may be NULL
 *     LQ_TRY(lq_report_add(&r, "results/mini"));              // any number of stores; published.json
 *     LQ_TRY(lq_report_arrange(&r));
 *     LQ_TRY(lq_report_write(&r, "out", "plots"));
 *     lq_report_close(&r);
 *
 * Runs are compared only within one model (by digest) and one evaluation (settings and data digest).
 * Runs whose configurations differ in nothing but the seed are one cell. Order is the spec's, else by
 * name; there is no time stamp in anything written but the copies of the records. */
#ifndef LQ_EXPERIMENTS_REPORT_H
#define LQ_EXPERIMENTS_REPORT_H

#include "core/store/store.h"
#include "experiments/report_table.h"
#include "experiments/spec.h"

typedef struct lq_record { /* one stored run; strings live in the report's arena or in json */
    lq_json *json;         /* owned by the report */
    const char *id, *experiment, *variant, *model, *method, *purpose;
    const char *eval;    /* canonical text of the evaluation's settings, and the data's digest */
    const char *recipe;  /* canonical text of the configuration without its seed */
    const char *named;   /* the recipe that it names; "common" for none */
    const char *changed; /* "train.lr": what it has otherwise than that recipe; "" for nothing */
    double bits, fraction, perplexity; /* perplexity: NaN unless FINISHED and finite */
    double
        beside; /* perplexity of the same run on the other machine (lq_report_add_beside); NaN: none */
    size_t seed;
    lq_outcome outcome;
} lq_record;

typedef enum lq_cell_kind { LQ_CELL_FULL, LQ_CELL_PTQ, LQ_CELL_QAT } lq_cell_kind;

typedef struct lq_cell { /* a row of the table: runs that differ in the seed alone, or none */
    const char *eval, *model, *variant, *label;
    const char *recipe;          /* "" when nothing was run */
    const char *method;          /* registry name */
    const char *named, *changed; /* as of its runs */
    lq_cell_kind kind;
    double fraction, bits;
    const lq_record **run; /* (n) by seed */
    size_t n, count[3];    /* runs; of each lq_outcome */
    size_t wanted;         /* runs that the spec asks for; 0: not known */
    /* Of the finished runs; NaN when there are none (half, sd: fewer than two). */
    double mean, sd, half; /* perplexity; half: of the 95 % interval, Student's t over the seeds */
    double bits_per_weight, tokens;
    double also; /* mean perplexity of the second text; NaN: not measured by each of them */
    double
        beside;   /* mean of the same runs on the other machine, when all finished runs are there */
    double ratio; /* mean over that of full precision */
    double diff,
        diff_half;   /* paired with the reference variant at this fraction, over common seeds */
    size_t n_paired; /* common seeds; diff is NaN below two */
} lq_cell;

typedef struct lq_names { /* distinct names in order */
    const char **at;
    size_t n, room;
} lq_names;

typedef struct lq_figure { /* files OUT/figures/<name>.svg, .png, .pdf, drawn from <name>.dat */
    const char *name, *caption;
    bool drawn, pdf;
} lq_figure;

typedef enum lq_verdict {
    LQ_REPRODUCED,
    LQ_SAME_ORDERING,
    LQ_NOT_REPRODUCED,
    LQ_NOT_RUN
} lq_verdict;

typedef struct lq_report {
    lq_arena *arena;
    const lq_spec *spec; /* or NULL */
    const char *
        reference; /* variant that others are paired with; NULL: the spec's, else the first trained */
    lq_record *record;
    size_t n_records, room;
    size_t n_beside;    /* records that another machine's store has, too */
    size_t n_again;     /* records found in more than one store */
    double worst_again; /* largest relative difference of their perplexities */
    lq_names variants, models, evals;
    bool has_recipes; /* a run names another recipe than common: tables say which */
    lq_cell *cell;
    size_t n_cells;
    lq_json *published; /* or NULL; owned */
    const char *published_path;
    lq_figure *figure;
    size_t n_figures;
} lq_report;

/* A directory: a store, or one with a store in runs/. A file: published.json. Of a run in two stores the
 * first counts. LQ_E_MISSING: neither; LQ_E_OPTION: two published files. */
lq_status lq_report_add(lq_report *r, const char *path);
/* Results of another machine, in the same forms, for a column of their own: of a run that is in the report
 * the perplexity there. What is in no other store makes no row. Call it after all lq_report_add. */
lq_status lq_report_add_beside(lq_report *r, const char *path);
lq_status lq_report_arrange(lq_report *r);
void lq_report_measure(lq_report *r); /* the last part of arranging: the numbers of every cell */
/* Makes DIR with table.{md,csv}, table*.tex, search.{md,csv}, claims.{md,csv,tex}, published.{md,csv},
 * figures/, runs/ and index.html; where there are recipes, by-method.{md,csv,tex} and by-recipe.*, too. A missing gnuplot costs the figures and is said. */
lq_status lq_report_write(lq_report *r, const char *out, const char *plots);
void lq_report_close(lq_report *r);

const char *lq_report_label(const lq_report *r, const char *variant);
const char *lq_report_eval_title(const lq_report *r,
                                 const char *eval); /* "techdocs:test, context 128, ..." */
/* Of several cells of these names the one with most finished runs; NULL: none. */
const lq_cell *lq_report_cell(const lq_report *r, const char *eval, const char *model,
                              const char *variant, double fraction);
/* Half the width of the 95 % interval of a mean of n values with standard deviation sd; NaN for n < 2. */
double lq_student_half(double sd, size_t n);
double lq_student_t95(double df); /* the 0.975 quantile; df >= 1 */
/* Mean and standard deviation (n - 1) of n values; NaN where not defined. */
void lq_mean_sd(const double *x, size_t n, double *mean, double *sd);

/* Formatting, in the arena. */
/* A model's name for tables: with what stands in for it, where something does. */
const char *lq_show_model(const lq_report *r, const char *model);
const char *lq_show_perplexity(lq_arena *arena, double mean, double half); /* "12.34 ± 0.05" */
const char *lq_show_share(lq_arena *arena, double fraction); /* "0.1 %", "–" for 0 */
const char *lq_show_count(lq_arena *arena, double n);        /* "40k", "1.2M" */
const char *lq_show_exact(lq_arena *arena,
                          double x); /* shortest decimal that reads back; "" for NaN */
const char *lq_show_ids(lq_arena *arena, const lq_record *const *run, size_t n);

/* Tables. `eval` picks one evaluation; NULL takes all (the CSV files). */
void lq_report_main_table(const lq_report *r, const char *eval, lq_table *out);
void lq_report_search_table(const lq_report *r, lq_table *out);
/* The trained rows alone, quantizer by quantizer with their recipes, or the other way round. */
typedef enum lq_grouping { LQ_BY_METHOD, LQ_BY_RECIPE } lq_grouping;
lq_status lq_report_grouped_table(const lq_report *r, const char *eval, lq_grouping by,
                                  lq_table *out);
/* "published", "published but train.lr", "tuned", ... of a trained row. */
const char *lq_report_settings(const lq_report *r, const lq_cell *c);
lq_status lq_report_claims_table(const lq_report *r,
                                 lq_table *out); /* LQ_E_OPTION: published.json */
lq_status lq_report_published_table(const lq_report *r, lq_table *out);

/* Draws all figures that the runs allow into DIR/figures; fills r->figure. */
lq_status lq_report_figures(lq_report *r, const char *out, const char *plots);
lq_status lq_report_html(const lq_report *r, const char *out);

#endif
