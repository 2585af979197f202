#include "experiments/spec.h"

#include "core/base/args.h"
#include "experiments/named_recipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_POINTS = 100000, MAX_VARIANTS = 1000 };

struct lq_spec {
    lq_arena arena;
    lq_json *document; /* owned */
    const char *where, *experiment, *reference;
    size_t n_variants;
    const char **variant, **label; /* (n_variants) */
};

static const char *const run_key[] = {"model",         "method", "fraction",  "seed",
                                      "train",         "calib",  "blockwise", "eval",
                                      "budget_tokens", "recipe", "start"};
enum { N_RUN_KEYS = sizeof run_key / sizeof run_key[0] };

/* A name that may stand in a path: letters, digits, "-", "_" and ".", not first. */
static bool is_name(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    return text[0] && text[0] != '.' && text[strspn(text, allowed)] == '\0' && strlen(text) <= 64;
}

static lq_status check_number(const lq_json *value, const char *where, const char *key,
                              double highest, bool whole)
{
    const double x = lq_json_number(value);
    if (!(x >= 0 && x <= highest) || (whole && floor(x) != x))
        return lq_fail(LQ_E_OPTION, "%s: %s: expected a %snumber from 0 to %.15g", where, key,
                       whole ? "whole " : "", highest);
    return LQ_OK;
}

static lq_status check_value(const lq_json *value, const char *where, const char *key)
{
    if (strcmp(key, "fraction") == 0)
        return check_number(value, where, key, 1, false);
    if (strcmp(key, "seed") == 0 || strcmp(key, "budget_tokens") == 0)
        return check_number(value, where, key, 0x1p53, true);
    if (strcmp(key, "model") == 0 || strcmp(key, "variant") == 0 || strcmp(key, "recipe") == 0) {
        if (!lq_json_string(value))
            return lq_fail(LQ_E_OPTION, "%s: %s: expected a string", where, key);
    } else if (lq_json_type(value) != LQ_JSON_OBJECT) {
        return lq_fail(LQ_E_OPTION, "%s: %s: expected an object", where, key);
    }
    return LQ_OK;
}

/* The run keys of a part of a run; what else may stand there has been seen to by the caller. */
static lq_status check_part(const lq_json *part, const char *where)
{
    for (size_t i = 0; i < N_RUN_KEYS; i++) {
        const lq_json *value = lq_json_get(part, run_key[i]);
        if (value)
            LQ_TRY(check_value(value, where, run_key[i]));
    }
    return LQ_OK;
}

static lq_status known_variant(const lq_spec *spec, const char *name, const char *where)
{
    for (size_t i = 0; i < spec->n_variants; i++)
        if (strcmp(spec->variant[i], name) == 0)
            return LQ_OK;
    const char *near = lq_text_nearest(name, spec->variant, spec->n_variants);
    return lq_fail(LQ_E_OPTION, "%s: no variant \"%.64s\" in \"variants\"%s%s%s", where, name,
                   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* variant, model, fraction, seed of an entry: one value, or an array of at least one. */
static lq_status check_axes(const lq_spec *spec, const lq_json *entry, const char *where)
{
    static const char *const axis[] = {"variant", "model", "fraction", "seed"};
    for (size_t i = 0; i < 4; i++) {
        const lq_json *values = lq_json_get(entry, axis[i]);
        if (!values && i == 0)
            return lq_fail(LQ_E_OPTION, "%s: variant is missing", where);
        if (!values)
            continue;
        const bool many = lq_json_type(values) == LQ_JSON_ARRAY;
        if (many && lq_json_count(values) == 0)
            return lq_fail(LQ_E_OPTION, "%s: %s: an empty array", where, axis[i]);
        for (const lq_json *v = many ? lq_json_first(values) : values; v;
             v = many ? lq_json_next(v) : NULL) {
            LQ_TRY(check_value(v, where, axis[i]));
            if (i == 0)
                LQ_TRY(known_variant(spec, lq_json_string(v), where));
        }
    }
    return LQ_OK;
}

static lq_status check_rest(const lq_json *entry, const char *where)
{
    for (size_t i = 0; i < N_RUN_KEYS; i++) {
        const lq_json *value = lq_json_get(entry, run_key[i]);
        const bool axis = i == 0 || i == 2 || i == 3; /* model, fraction, seed: check_axes */
        if (value && !axis)
            LQ_TRY(check_value(value, where, run_key[i]));
    }
    return LQ_OK;
}

static lq_status check_grid(const lq_json *entry, const char *where, lq_arena *arena)
{
    const lq_json *grid = lq_json_get(entry, "grid");
    if (!grid || lq_json_type(grid) != LQ_JSON_ARRAY || lq_json_count(grid) == 0)
        return lq_fail(LQ_E_OPTION, "%s: grid: expected an array of at least one object", where);
    size_t i = 0;
    for (const lq_json *g = lq_json_first(grid); g; g = lq_json_next(g), i++) {
        const char *at = lq_arena_printf(arena, "%s.grid[%zu]", where, i);
        LQ_TRY(lq_json_only_keys(g, at, "method", "train", "calib", "blockwise", "budget_tokens",
                                 NULL));
        LQ_TRY(check_part(g, at));
    }
    return LQ_OK;
}

static lq_status check_entries(lq_spec *spec, const char *key)
{
    const lq_json *list = lq_json_get(spec->document, key);
    const bool search = strcmp(key, "search") == 0;
    if (list && lq_json_type(list) != LQ_JSON_ARRAY)
        return lq_fail(LQ_E_OPTION, "%s: %s: expected an array", spec->where, key);
    size_t i = 0;
    for (const lq_json *e = lq_json_first(list); e; e = lq_json_next(e), i++) {
        const char *where = lq_arena_printf(&spec->arena, "%s: %s[%zu]", spec->where, key, i);
        LQ_TRY(lq_json_only_keys(e, where, "variant", "model", "fraction", "seed", "method",
                                 "train", "calib", "blockwise", "eval", "budget_tokens", "recipe",
                                 "start", search ? "grid" : NULL, NULL));
        LQ_TRY(check_axes(spec, e, where));
        LQ_TRY(check_rest(e, where));
        if (search)
            LQ_TRY(check_grid(e, where, &spec->arena));
    }
    return LQ_OK;
}

static lq_status read_variants(lq_spec *spec)
{
    const lq_json *variants = lq_json_get(spec->document, "variants");
    const size_t n = variants ? lq_json_count(variants) : 0;
    if (n == 0 || n > MAX_VARIANTS || lq_json_type(variants) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "%s: variants: expected an object of 1 to %d members",
                       spec->where, MAX_VARIANTS);
    LQ_TRY(lq_arena_new(&spec->arena, &spec->variant, n));
    LQ_TRY(lq_arena_new(&spec->arena, &spec->label, n));
    for (const lq_json *v = lq_json_first(variants); v; v = lq_json_next(v)) {
        const char *name = lq_json_key(v);
        const char *where = lq_arena_printf(&spec->arena, "%s: variants.%s", spec->where, name);
        if (!is_name(name))
            return lq_fail(LQ_E_OPTION, "%s: a name has letters, digits, '-', '_', '.'", where);
        LQ_TRY(lq_json_only_keys(v, where, "label", "model", "method", "fraction", "seed", "train",
                                 "calib", "blockwise", "eval", "budget_tokens", "recipe", "start",
                                 NULL));
        LQ_TRY(check_part(v, where));
        spec->variant[spec->n_variants] = name;
        LQ_TRY(lq_json_text(v, where, "label", name, &spec->label[spec->n_variants]));
        spec->n_variants++;
    }
    return LQ_OK;
}

/* "figures": {"bits": ["rtn", ...]}: what a figure shows, where that is not everything. */
static lq_status check_figures(lq_spec *spec)
{
    static const char *const kind[] = {"data-efficiency", "training-loss", "bits", "variants"};
    const lq_json *figures = lq_json_get(spec->document, "figures");
    const char *where = lq_arena_printf(&spec->arena, "%s: figures", spec->where);
    if (figures == NULL)
        return LQ_OK;
    if (lq_json_type(figures) != LQ_JSON_OBJECT)
        return lq_fail(LQ_E_OPTION, "%s: expected an object", where);
    LQ_TRY(lq_json_only_keys(figures, where, kind[0], kind[1], kind[2], kind[3], NULL));
    for (const lq_json *f = lq_json_first(figures); f; f = lq_json_next(f)) {
        if (lq_json_type(f) != LQ_JSON_ARRAY || lq_json_count(f) == 0)
            return lq_fail(LQ_E_OPTION, "%s: %s: expected an array of variants", where,
                           lq_json_key(f));
        for (const lq_json *v = lq_json_first(f); v; v = lq_json_next(v)) {
            if (lq_json_string(v) == NULL)
                return lq_fail(LQ_E_OPTION, "%s: %s: expected names of variants", where,
                               lq_json_key(f));
            LQ_TRY(known_variant(spec, lq_json_string(v), where));
        }
    }
    return LQ_OK;
}

bool lq_spec_shows(const lq_spec *spec, const char *figure, const char *variant)
{
    const lq_json *list = lq_json_get(lq_json_get(spec->document, "figures"), figure);
    for (const lq_json *v = lq_json_first(list); v; v = lq_json_next(v))
        if (strcmp(lq_json_string(v), variant) == 0)
            return true;
    return list == NULL;
}

static lq_status read_document(lq_spec *spec)
{
    const lq_json *d = spec->document, *defaults = lq_json_get(d, "defaults");
    const lq_json *search_eval = lq_json_get(d, "search_eval");
    const char *about;
    LQ_TRY(lq_json_only_keys(d, spec->where, "experiment", "about", "reference", "defaults",
                             "variants", "search_eval", "search", "runs", "figures", NULL));
    LQ_TRY(lq_json_text(d, spec->where, "experiment", NULL, &spec->experiment));
    LQ_TRY(lq_json_text(d, spec->where, "about", "", &about));
    if (!is_name(spec->experiment))
        return lq_fail(LQ_E_OPTION, "%s: experiment: a name has letters, digits, '-', '_', '.'",
                       spec->where);
    if (defaults) {
        const char *where = lq_arena_printf(&spec->arena, "%s: defaults", spec->where);
        LQ_TRY(lq_json_only_keys(defaults, where, "model", "method", "fraction", "seed", "train",
                                 "calib", "blockwise", "eval", "budget_tokens", "recipe", "start",
                                 NULL));
        LQ_TRY(check_part(defaults, where));
    }
    if (search_eval)
        LQ_TRY(check_value(search_eval, spec->where, "search_eval"));
    LQ_TRY(read_variants(spec));
    if (lq_json_get(d, "reference")) {
        LQ_TRY(lq_json_text(d, spec->where, "reference", NULL, &spec->reference));
        LQ_TRY(known_variant(spec, spec->reference, spec->where));
    }
    LQ_TRY(check_figures(spec));
    LQ_TRY(check_entries(spec, "search"));
    return check_entries(spec, "runs");
}

lq_status lq_spec_of_json(const lq_json *document, const char *where, lq_spec **out)
{
    *out = NULL;
    lq_spec *spec = calloc(1, sizeof *spec);
    if (!spec)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory for a spec", where);
    spec->document = lq_json_copy(document);
    spec->where = lq_arena_printf(&spec->arena, "%s", where);
    lq_status status =
        spec->document ? read_document(spec) : lq_fail(LQ_E_MEMORY, "%s: out of memory", where);
    if (status != LQ_OK) {
        lq_spec_free(spec);
        return status;
    }
    *out = spec;
    return LQ_OK;
}

lq_status lq_spec_read(const char *path, lq_spec **out)
{
    lq_json *document;
    *out = NULL;
    LQ_TRY(lq_json_read(path, &document));
    lq_status status = lq_spec_of_json(document, path, out);
    lq_json_free(document);
    return status;
}

void lq_spec_free(lq_spec *spec)
{
    if (!spec)
        return;
    lq_json_free(spec->document);
    lq_arena_close(&spec->arena);
    free(spec);
}

const char *lq_spec_experiment(const lq_spec *spec) { return spec->experiment; }
const char *lq_spec_reference(const lq_spec *spec) { return spec->reference; }
size_t lq_spec_variants(const lq_spec *spec) { return spec->n_variants; }
const char *lq_spec_variant(const lq_spec *spec, size_t i) { return spec->variant[i]; }
const char *lq_spec_label(const lq_spec *spec, size_t i) { return spec->label[i]; }

void lq_points_free(lq_points *points)
{
    for (size_t i = 0; i < points->n; i++)
        lq_json_free(points->at[i].json);
    free(points->at);
    *points = (lq_points){0};
}

static lq_json *copy_of(const lq_json *node)
{
    lq_json *copy = lq_json_copy(node);
    LQ_ASSERT(copy); /* as the other builders: small documents */
    return copy;
}

/* Only the run keys of `from`. */
static void merge_run_keys(lq_json *into, const lq_json *from)
{
    for (size_t i = 0; i < N_RUN_KEYS; i++) {
        const lq_json *value = lq_json_get(from, run_key[i]);
        if (!value)
            continue;
        lq_json *one = lq_json_object();
        lq_json_set(one, run_key[i], copy_of(value));
        lq_json_merge(into, one);
        lq_json_free(one);
    }
}

/* One expansion of one entry. */
typedef struct expansion {
    const lq_spec *spec;
    const lq_json *entry;
    const char *where, *purpose;
    size_t index;
    const lq_winner *winner; /* of results */
    size_t n_winners;
    lq_points *out;
} expansion;

static const lq_winner *winner_of(const expansion *e, const char *variant, const char *model)
{
    const lq_winner *first = NULL;
    for (size_t i = 0; i < e->n_winners; i++) {
        const lq_winner *w = &e->winner[i];
        if (strcmp(w->variant, variant) != 0)
            continue;
        if (strcmp(w->model, model) == 0)
            return w;
        first = first ? first : w;
    }
    return first;
}

static lq_status append(lq_points *list, const lq_point *point)
{
    if (list->n == MAX_POINTS)
        return lq_fail(LQ_E_OPTION, "a spec of more than %d points", MAX_POINTS);
    if (list->n == list->room) {
        const size_t room = list->room ? 2 * list->room : 64;
        lq_point *larger = realloc(list->at, room * sizeof *larger);
        if (!larger)
            return lq_fail(LQ_E_MEMORY, "out of memory for %zu points", room);
        list->at = larger;
        list->room = room;
    }
    list->at[list->n++] = *point;
    return LQ_OK;
}

/* The last that names one: defaults, variant, entry. */
static const char *recipe_of(const expansion *e, const lq_json *variant)
{
    const lq_json *const part[] = {lq_json_get(e->spec->document, "defaults"), variant, e->entry};
    const char *name = NULL;
    for (size_t i = 0; i < 3; i++)
        if (lq_json_get(part[i], "recipe"))
            name = lq_json_string(lq_json_get(part[i], "recipe"));
    return name;
}

static lq_status fill(const expansion *e, const lq_json *const axis[4], const lq_json *grid,
                      lq_point *p)
{
    static const char *const axis_key[] = {"variant", "model", "fraction", "seed"};
    const char *variant = lq_json_string(axis[0]);
    lq_json *json = p->json;
    lq_json_set_string(json, "experiment", e->spec->experiment);
    lq_json_set_string(json, "variant", variant);
    lq_json_set_string(json, "purpose", e->purpose);
    merge_run_keys(json, lq_json_get(e->spec->document, "defaults"));
    const lq_json *own = lq_json_get(lq_json_get(e->spec->document, "variants"), variant);
    const char *recipe = recipe_of(e, own);
    if (recipe)
        LQ_TRY(lq_recipe_make_way(recipe, json));
    merge_run_keys(json, own);
    merge_run_keys(json, e->entry);
    for (size_t i = 1; i < 4; i++)
        if (axis[i])
            lq_json_set(json, axis_key[i], copy_of(axis[i]));
    const lq_json *search_eval = lq_json_get(e->spec->document, "search_eval");
    if (grid && search_eval) {
        lq_json *over = lq_json_object();
        lq_json_set(over, "eval", copy_of(search_eval));
        lq_json_merge(json, over);
        lq_json_free(over);
    }
    return LQ_OK;
}

static lq_status add(const expansion *e, const lq_json *const axis[4], const lq_json *grid,
                     size_t grid_index)
{
    lq_point p = {.json = lq_json_object(), .entry = e->index, .grid = grid_index};
    lq_status status = fill(e, axis, grid, &p);
    p.model = lq_json_string(lq_json_get(p.json, "model"));
    if (status == LQ_OK && !p.model)
        status =
            lq_fail(LQ_E_OPTION, "%s: model is missing, here, in the variant and in the defaults",
                    e->where);
    const lq_winner *winner =
        grid || !p.model ? NULL : winner_of(e, lq_json_string(axis[0]), p.model);
    p.pending = winner && !winner->settings;
    if (grid || winner)
        lq_json_merge(p.json, grid ? grid : winner->settings);
    p.variant = lq_json_string(lq_json_get(p.json, "variant"));
    const double fraction = lq_json_number(lq_json_get(p.json, "fraction"));
    const double seed = lq_json_number(lq_json_get(p.json, "seed"));
    p.fraction = fraction > 0 ? fraction : 0;
    p.seed = seed > 0 ? (size_t)seed : 0;
    if (status == LQ_OK)
        status = append(e->out, &p);
    if (status != LQ_OK)
        lq_json_free(p.json);
    return status;
}

/* The values of one axis: a single NULL when the entry has no such key. */
static size_t axis_values(const lq_json *entry, const char *key, const lq_json **first, bool *many)
{
    const lq_json *values = lq_json_get(entry, key);
    *many = values && lq_json_type(values) == LQ_JSON_ARRAY;
    *first = *many ? lq_json_first(values) : values;
    return *many ? lq_json_count(values) : 1;
}

static lq_status expand(const expansion *e)
{
    static const char *const key[] = {"variant", "model", "fraction", "seed"};
    const lq_json *values[4], *axis[4];
    bool many[4];
    size_t count[4], total = 1;
    for (size_t i = 0; i < 4; i++) {
        count[i] = axis_values(e->entry, key[i], &values[i], &many[i]);
        total *= count[i];
        if (total > MAX_POINTS)
            return lq_fail(LQ_E_OPTION, "%s: more than %d points", e->where, MAX_POINTS);
    }
    const lq_json *grid = lq_json_get(e->entry, "grid");
    for (size_t k = 0; k < total; k++) {
        for (size_t i = 4, rest = k; i-- > 0; rest /= count[i]) /* the seed turns fastest */
            axis[i] =
                many[i] ? lq_json_at(lq_json_get(e->entry, key[i]), rest % count[i]) : values[i];
        if (!grid)
            LQ_TRY(add(e, axis, NULL, 0));
        size_t g = 0;
        for (const lq_json *one = lq_json_first(grid); one; one = lq_json_next(one))
            LQ_TRY(add(e, axis, one, g++));
    }
    return LQ_OK;
}

static lq_status expand_all(const lq_spec *spec, const char *key, const lq_winner *winner,
                            size_t n_winners, lq_points *out)
{
    lq_arena scratch = {0};
    lq_status status = LQ_OK;
    expansion e = {.spec = spec, .winner = winner, .n_winners = n_winners, .out = out};
    *out = (lq_points){0};
    e.purpose = strcmp(key, "search") == 0 ? "search" : "result";
    e.entry = lq_json_first(lq_json_get(spec->document, key));
    for (; e.entry && status == LQ_OK; e.entry = lq_json_next(e.entry), e.index++) {
        e.where = lq_arena_printf(&scratch, "%s: %s[%zu]", spec->where, key, e.index);
        status = expand(&e);
    }
    lq_arena_close(&scratch);
    if (status != LQ_OK)
        lq_points_free(out);
    return status;
}

static bool same_search(const lq_point *a, const lq_point *b)
{
    return strcmp(a->variant, b->variant) == 0 && strcmp(a->model, b->model) == 0;
}

lq_status lq_spec_search(const lq_spec *spec, lq_points *out)
{
    LQ_TRY(expand_all(spec, "search", NULL, 0, out));
    size_t i = 0, before = 0; /* `before`: points of earlier entries */
    for (; i < out->n; i++) {
        const lq_point *p = &out->at[i];
        if (i > 0 && out->at[i - 1].entry != p->entry)
            before = i;
        for (size_t j = 0; j < before; j++)
            if (same_search(p, &out->at[j])) {
                lq_status status =
                    lq_fail(LQ_E_OPTION,
                            "%s: search[%zu]: %s on %s is searched already, in "
                            "search[%zu]",
                            spec->where, p->entry, p->variant, p->model, out->at[j].entry);
                lq_points_free(out);
                return status;
            }
    }
    return LQ_OK;
}

/* Mean perplexity of one grid entry over the fractions and seeds of one (variant, model). */
static double score(const lq_points *points, const double *perplexity, const lq_point *of,
                    size_t grid)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < points->n; i++)
        if (points->at[i].grid == grid && same_search(&points->at[i], of)) {
            sum += perplexity[i];
            n++;
        }
    return n ? sum / (double)n : (double)NAN;
}

static void decide(const lq_spec *spec, const lq_points *points, const double *perplexity,
                   const lq_point *of, lq_winner *w)
{
    const lq_json *entry = lq_json_at(lq_json_get(spec->document, "search"), of->entry);
    const lq_json *grid = lq_json_get(entry, "grid");
    *w = (lq_winner){.variant = of->variant, .model = of->model, .n_grid = lq_json_count(grid)};
    w->perplexity = (double)NAN;
    for (size_t g = 0; g < w->n_grid; g++) {
        const double now = score(points, perplexity, of, g);
        if (isnan(now)) {
            w->perplexity = (double)NAN;
            return; /* undecided */
        }
        if (g == 0 || now < w->perplexity) {
            w->perplexity = now;
            w->grid = g;
        }
    }
    w->settings = lq_json_at(grid, w->grid);
}

lq_status lq_spec_winners(const lq_spec *spec, const lq_points *points, const double *perplexity,
                          lq_arena *arena, lq_winner **out, size_t *n)
{
    *n = 0;
    LQ_TRY(lq_arena_new(arena, out, points->n + 1));
    for (size_t i = 0; i < points->n; i++) {
        bool first = true;
        for (size_t j = 0; j < i && first; j++)
            first = !same_search(&points->at[i], &points->at[j]);
        if (first)
            decide(spec, points, perplexity, &points->at[i], &(*out)[(*n)++]);
    }
    return LQ_OK;
}

lq_status lq_spec_results(const lq_spec *spec, const lq_winner *winner, size_t n_winners,
                          lq_points *out)
{
    return expand_all(spec, "runs", winner, n_winners, out);
}
