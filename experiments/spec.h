/* A sweep's specification: named variants, a search of their settings, and the runs of the tables.
 *
 *     { "experiment": "mini", "about": "...", "reference": "lcqat",
 *       "defaults": { run keys },                        merged under everything
 *       "variants": { "lcqat": {"label": "LC-QAT", "method": {"name": "lcqat", "bits": 2}}, ... },
 *       "search_eval": {"data": "techdocs:valid"},       merged over "eval" of the search's points
 *       "search": [ {"variant": "lcqat", "model": "m", "fraction": 0.01, "seed": 1,
 *                    "grid": [ {"train": {"lr": 1e-4}}, ... ]} ],
 *       "runs": [ {"variant": ["none", "rtn"], "model": ["m", "n"]},
 *                 {"variant": "lcqat", "model": "m", "fraction": [0.01, 0.1], "seed": [1, 2]} ] }
 *
 * Run keys: model, method, fraction, seed, recipe, train, calib, blockwise, start, eval, budget_tokens.
 * Arrays of variant, model, fraction and seed in an entry form a grid. Objects merge member by member, later
 * over earlier: defaults < the recipe that is named < variant < entry < grid entry or winner. What stands
 * inside method, train, calib, blockwise, start and eval is for lq_run_resolve to judge. */
#ifndef LQ_EXPERIMENTS_SPEC_H
#define LQ_EXPERIMENTS_SPEC_H

#include "core/base/json.h"

#include <stdint.h>

typedef struct lq_spec lq_spec;

/* LQ_E_OPTION: an unknown key, a wrong type, an unknown variant; the note begins with the path of the
 * file and of the key. Also what lq_json_read says. */
lq_status lq_spec_read(const char *path, lq_spec **out);
/* The same of a document in memory, which is copied; `where` stands for the path. */
lq_status lq_spec_of_json(const lq_json *document, const char *where, lq_spec **out);
void lq_spec_free(lq_spec *spec);

const char *lq_spec_experiment(const lq_spec *spec);
const char *
lq_spec_reference(const lq_spec *spec);       /* the variant others are paired with, or NULL */
size_t lq_spec_variants(const lq_spec *spec); /* in the order of the file: */
const char *lq_spec_variant(const lq_spec *spec, size_t i);
/* Does a figure (data-efficiency, training-loss, bits, variants) show this variant? "figures" names what a
 * figure shows; one that it does not name shows all. */
bool lq_spec_shows(const lq_spec *spec, const char *figure, const char *variant);
const char *lq_spec_label(const lq_spec *spec, size_t i);

/* One point, as lq_run_resolve takes it: experiment, variant, purpose ("search" or "result") and the run
 * keys. Strings are borrowed from json. */
typedef struct lq_point {
    lq_json *json; /* owned by the list */
    const char *variant, *model;
    double fraction; /* 0 when absent: nothing is trained */
    size_t seed;     /* 0 when absent */
    size_t entry;    /* of "search" or "runs" */
    size_t grid;     /* entry of the grid; 0 in "runs" */
    bool pending;    /* its variant was searched, but the winner is not known yet */
} lq_point;
typedef struct lq_points {
    lq_point *at;
    size_t n, room;
} lq_points;
void lq_points_free(lq_points *points);

/* The settings that won a search. A search over several fractions or seeds of one model is decided by
 * the mean perplexity; each (variant, model) is searched once. */
typedef struct lq_winner {
    const char *variant, *model; /* borrowed from the points */
    const lq_json *settings;     /* borrowed from the spec; NULL: a run of the search is missing */
    size_t grid, n_grid;
    double perplexity; /* infinite when all diverged: then the first wins */
} lq_winner;

/* Expansion, in the order of the file. LQ_E_OPTION: no model, a (variant, model) searched twice, more
 * than 100000 points. On failure the list is empty. */
lq_status lq_spec_search(const lq_spec *spec, lq_points *out);
/* perplexity[i] of points->at[i]: infinite when it diverged, NaN when it is not stored. The list is in
 * the arena; ties go to the first. */
lq_status lq_spec_winners(const lq_spec *spec, const lq_points *points, const double *perplexity,
                          lq_arena *arena, lq_winner **out, size_t *n);
/* A run takes the winner of its variant and model, else that of the variant's first searched model. */
lq_status lq_spec_results(const lq_spec *spec, const lq_winner *winner, size_t n_winners,
                          lq_points *out);

#endif
