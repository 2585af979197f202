/* Records out of the stores, and the order of everything. */
#include "experiments/report.h"

#include "core/base/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *text_or(const lq_json *object, const char *key, const char *fallback)
{
    const char *text = lq_json_string(lq_json_get(object, key));
    return text ? text : fallback;
}

static double number_or(const lq_json *object, const char *key, double fallback)
{
    const double x = lq_json_number(lq_json_get(object, key));
    return isnan(x) ? fallback : x;
}

static lq_json *copy_of(const lq_json *node)
{
    lq_json *copy = lq_json_copy(node);
    LQ_ASSERT(copy); /* small documents, as in core/base/json.h */
    return copy;
}

/* Settings and data of the evaluation: runs with the same text may be compared. */
static const char *eval_of(const lq_json *config, lq_arena *arena)
{
    const lq_json *eval = lq_json_get(config, "eval");
    lq_json *key = eval ? copy_of(eval) : lq_json_object();
    const char *name = lq_arena_printf(arena, "data %s", text_or(key, "data", ""));
    const char *digest = text_or(lq_json_get(config, "sha256"), name, NULL);
    if (digest)
        lq_json_set_string(key, "data_sha256", digest);
    const char *text = lq_json_canonical(key, arena);
    lq_json_free(key);
    return text;
}

static const char *recipe_of(const lq_json *config, lq_arena *arena)
{
    lq_json *copy = copy_of(config);
    lq_json_set_number(copy, "seed", 0);
    const char *text = lq_json_canonical(copy, arena);
    lq_json_free(copy);
    return text;
}

/* A model is its weights: two of one name are told apart when both occur (name_models). */
static const char *model_of(const lq_json *config, lq_arena *arena)
{
    const char *name = text_or(config, "model", "?");
    const char *digest = text_or(lq_json_get(config, "sha256"), "model", "");
    return lq_arena_printf(arena, "%s@%.12s", name, digest);
}

static lq_record describe(lq_json *json, lq_arena *arena)
{
    const lq_json *config = lq_json_get(json, "config"), *method = lq_json_get(config, "method");
    lq_record r = {.json = json, .outcome = lq_store_outcome(json)};
    r.id = lq_json_string(lq_json_get(json, "id"));
    r.experiment = text_or(config, "experiment", "");
    r.method = text_or(method, "name", "?");
    r.variant = text_or(config, "variant", "");
    if (!r.variant[0]) /* of `lcqat train` and the like */
        r.variant = r.method;
    r.purpose = text_or(config, "purpose", "result");
    r.model = model_of(config, arena);
    r.eval = eval_of(config, arena);
    r.recipe = recipe_of(config, arena);
    r.named = text_or(config, "recipe", "common");
    r.changed = text_or(config, "recipe_changed", "");
    r.bits = number_or(method, "bits", (double)NAN);
    r.fraction = number_or(config, "fraction", 0);
    const double seed = number_or(config, "seed", 0);
    r.seed = seed >= 0 && seed < 0x1p53 ? (size_t)seed : 0;
    const double ppl = lq_store_metric(json, "perplexity");
    r.perplexity = r.outcome == LQ_FINISHED && isfinite(ppl) ? ppl : (double)NAN;
    r.beside = (double)NAN;
    return r;
}

static lq_record *find(const lq_report *r, const char *id)
{
    for (size_t i = 0; i < r->n_records; i++)
        if (strcmp(r->record[i].id, id) == 0)
            return &r->record[i];
    return NULL;
}

/* The same run from another machine, or a copy: the first counts, the agreement is reported. */
static void compare(lq_report *r, const lq_record *first, const lq_json *again)
{
    const double a = first->perplexity, b = lq_store_metric(again, "perplexity");
    const double apart = fabs(a - b) / fabs(a);
    r->n_again++;
    if (apart > r->worst_again)
        r->worst_again = apart;
}

static lq_status append(lq_report *r, lq_json *json)
{
    if (r->n_records == r->room) {
        lq_record *larger;
        const size_t room = r->room ? 2 * r->room : 64;
        LQ_TRY(lq_arena_new(r->arena, &larger, room));
        if (r->n_records > 0)
            memcpy(larger, r->record, r->n_records * sizeof *larger);
        r->record = larger;
        r->room = room;
    }
    r->record[r->n_records++] = describe(json, r->arena);
    return LQ_OK;
}

static lq_status add_store(lq_report *r, const lq_store *store)
{
    char **ids;
    size_t n;
    LQ_TRY(lq_store_list(store, r->arena, &ids, &n));
    for (size_t i = 0; i < n; i++) {
        lq_json *json;
        const lq_record *first = find(r, ids[i]);
        LQ_TRY(lq_store_read(store, ids[i], &json));
        lq_status status = LQ_OK;
        if (first)
            compare(r, first, json);
        else
            status = append(r, json);
        if (first || status != LQ_OK)
            lq_json_free(json);
        LQ_TRY(status);
    }
    return LQ_OK;
}

static lq_status add_published(lq_report *r, const char *path)
{
    if (r->published)
        return lq_fail(LQ_E_OPTION, "%s: %s was given already; one file of published numbers", path,
                       r->published_path);
    r->published_path = lq_arena_printf(r->arena, "%s", path);
    return lq_json_read(path, &r->published);
}

static lq_status read_beside(lq_report *r, const lq_store *store)
{
    char **ids;
    size_t n;
    LQ_TRY(lq_store_list(store, r->arena, &ids, &n));
    for (size_t i = 0; i < n; i++) {
        lq_json *json;
        lq_record *own = find(r, ids[i]);
        if (own == NULL)
            continue;
        LQ_TRY(lq_store_read(store, ids[i], &json));
        own->beside = lq_store_outcome(json) == LQ_FINISHED ? lq_store_metric(json, "perplexity")
                                                            : (double)NAN;
        r->n_beside++;
        lq_json_free(json);
    }
    return LQ_OK;
}

static lq_status open_store(const char *path, lq_arena *arena, lq_store **store)
{
    if (!lq_path_is_dir(path))
        return lq_fail(LQ_E_MISSING,
                       "%s: neither a directory of results nor published.json; "
                       "`lcqat sweep` makes results",
                       path);
    const char *runs = lq_arena_printf(arena, "%s/runs", path);
    return lq_store_open(lq_path_is_dir(runs) ? runs : path, store);
}

lq_status lq_report_add(lq_report *r, const char *path)
{
    lq_store *store;
    if (lq_path_exists(path) && !lq_path_is_dir(path))
        return add_published(r, path);
    LQ_TRY(open_store(path, r->arena, &store));
    lq_status status = add_store(r, store);
    lq_store_close(store);
    return status;
}

lq_status lq_report_add_beside(lq_report *r, const char *path)
{
    lq_store *store;
    LQ_TRY(open_store(path, r->arena, &store));
    lq_status status = read_beside(r, store);
    lq_store_close(store);
    return status;
}

void lq_report_close(lq_report *r)
{
    for (size_t i = 0; i < r->n_records; i++)
        lq_json_free(r->record[i].json);
    lq_json_free(r->published);
    r->n_records = 0;
    r->published = NULL;
}

/* ---- order ---- */

static size_t place(const lq_names *names, const char *name)
{
    size_t i = 0;
    while (i < names->n && strcmp(names->at[i], name) != 0)
        i++;
    return i;
}

static lq_status add_name(lq_names *names, const char *name, lq_arena *arena)
{
    if (place(names, name) < names->n)
        return LQ_OK;
    if (names->n == names->room) {
        const char **larger;
        const size_t room = names->room ? 2 * names->room : 16;
        LQ_TRY(lq_arena_new(arena, &larger, room));
        if (names->n > 0)
            memcpy(larger, names->at, names->n * sizeof *larger);
        names->at = larger;
        names->room = room;
    }
    names->at[names->n++] = name;
    return LQ_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "tiny-llama@<digest>" becomes "tiny-llama" where no other model of that name occurs. */
static void name_models(lq_report *r)
{
    lq_names full = {0};
    for (size_t i = 0; i < r->n_records; i++)
        LQ_ASSERT(add_name(&full, r->record[i].model, r->arena) == LQ_OK);
    for (size_t i = 0; i < r->n_records; i++) {
        const char *at = strrchr(r->record[i].model, '@');
        const size_t length = (size_t)(at - r->record[i].model) + 1;
        size_t same = 0;
        for (size_t j = 0; j < full.n; j++)
            same += strncmp(full.at[j], r->record[i].model, length) == 0;
        if (same == 1 || at[1] == '\0')
            r->record[i].model =
                lq_arena_printf(r->arena, "%.*s", (int)length - 1, r->record[i].model);
    }
}

/* Names of the spec in its order, then the others by name. */
static lq_status order_names(lq_report *r, const lq_points *wanted)
{
    for (size_t i = 0; r->spec && i < lq_spec_variants(r->spec); i++)
        LQ_TRY(add_name(&r->variants, lq_spec_variant(r->spec, i), r->arena));
    for (size_t i = 0; i < wanted->n; i++)
        LQ_TRY(
            add_name(&r->models, lq_arena_printf(r->arena, "%s", wanted->at[i].model), r->arena));
    const size_t variants = r->variants.n, models = r->models.n;
    for (size_t i = 0; i < r->n_records; i++) {
        const lq_record *one = &r->record[i];
        LQ_TRY(add_name(&r->variants, one->variant, r->arena));
        LQ_TRY(add_name(&r->models, one->model, r->arena));
        if (strcmp(one->purpose, "search") != 0)
            LQ_TRY(add_name(&r->evals, one->eval, r->arena));
    }
    if (r->variants.n > variants)
        qsort(r->variants.at + variants, r->variants.n - variants, sizeof *r->variants.at, by_text);
    if (r->models.n > models)
        qsort(r->models.at + models, r->models.n - models, sizeof *r->models.at, by_text);
    if (r->evals.n > 1)
        qsort(r->evals.at, r->evals.n, sizeof *r->evals.at, by_text);
    return LQ_OK;
}

/* The evaluation with the most results: where the spec's runs are looked for. */
static const char *main_eval(const lq_report *r)
{
    size_t most = 0;
    const char *best = "";
    for (size_t e = 0; e < r->evals.n; e++) {
        size_t n = 0;
        for (size_t i = 0; i < r->n_records; i++)
            n += strcmp(r->record[i].eval, r->evals.at[e]) == 0 &&
                 strcmp(r->record[i].purpose, "search") != 0;
        if (n > most) {
            most = n;
            best = r->evals.at[e];
        }
    }
    return best;
}

/* ---- cells ---- */

static bool same_cell(const lq_cell *c, const char *eval, const char *model, const char *variant,
                      double fraction)
{
    return c->fraction == fraction && strcmp(c->variant, variant) == 0 &&
           strcmp(c->model, model) == 0 && strcmp(c->eval, eval) == 0;
}

/* Grows by doubling: a cell's address lasts until the next one is added. */
static lq_cell *new_cell(lq_report *r, const char *eval, const char *model, const char *variant,
                         double fraction)
{
    if ((r->n_cells & (r->n_cells - 1)) == 0) { /* 0, 1, 2, 4, 8 ...: full */
        lq_cell *larger;
        LQ_ASSERT(lq_arena_new(r->arena, &larger, r->n_cells ? 2 * r->n_cells : 1) == LQ_OK);
        if (r->n_cells > 0)
            memcpy(larger, r->cell, r->n_cells * sizeof *larger);
        r->cell = larger;
    }
    lq_cell *c = &r->cell[r->n_cells++];
    *c = (lq_cell){.eval = eval, .model = model, .variant = variant, .recipe = ""};
    c->method = "?";
    c->named = "common";
    c->changed = "";
    c->fraction = fraction;
    c->kind = fraction > 0 ? LQ_CELL_QAT : LQ_CELL_PTQ;
    c->bits = (double)NAN;
    return c;
}

static lq_status add_record(lq_report *r, const lq_record *one)
{
    lq_cell *c = NULL;
    for (size_t i = 0; i < r->n_cells && !c; i++)
        if (same_cell(&r->cell[i], one->eval, one->model, one->variant, one->fraction) &&
            strcmp(r->cell[i].recipe, one->recipe) == 0)
            c = &r->cell[i];
    if (!c) {
        c = new_cell(r, one->eval, one->model, one->variant, one->fraction);
        c->recipe = one->recipe;
        c->method = one->method;
        c->named = one->named;
        c->changed = one->changed;
        c->bits = one->bits;
        if (strcmp(one->method, "none") == 0)
            c->kind = LQ_CELL_FULL;
        LQ_TRY(lq_arena_new(r->arena, &c->run, r->n_records)); /* at most all of them */
    }
    size_t at = c->n++;
    for (; at > 0 && c->run[at - 1]->seed > one->seed; at--)
        c->run[at] = c->run[at - 1];
    c->run[at] = one;
    c->count[one->outcome]++;
    return LQ_OK;
}

static bool has_cell(const lq_report *r, const char *eval, const char *model, const char *variant,
                     double fraction)
{
    return lq_report_cell(r, eval, model, variant, fraction) != NULL;
}

/* What is known of a cell without runs: from the spec's point. */
static void describe_wanted(lq_cell *c, const lq_json *point, lq_arena *arena)
{
    const lq_json *method = lq_json_get(point, "method");
    c->bits = number_or(method, "bits", (double)NAN);
    c->method = lq_arena_printf(arena, "%s", text_or(method, "name", "?"));
    c->named = lq_arena_printf(arena, "%s", text_or(point, "recipe", "common"));
    if (strcmp(text_or(method, "name", ""), "none") == 0)
        c->kind = LQ_CELL_FULL;
}

static void add_wanted(lq_report *r, const lq_points *wanted)
{
    const char *eval = main_eval(r);
    for (size_t i = 0; i < wanted->n; i++) {
        const lq_point *p = &wanted->at[i];
        const char *model = r->models.at[place(&r->models, p->model)];
        const char *variant = r->variants.at[place(&r->variants, p->variant)];
        if (!has_cell(r, eval, model, variant, p->fraction))
            describe_wanted(new_cell(r, eval, model, variant, p->fraction), p->json, r->arena);
        for (size_t j = 0; j < r->n_cells; j++)
            if (same_cell(&r->cell[j], eval, model, variant, p->fraction))
                r->cell[j].wanted++;
    }
    if (r->evals.n == 0 && wanted->n > 0) /* nothing was run: one table that says so */
        LQ_ASSERT(add_name(&r->evals, eval, r->arena) == LQ_OK);
}

/* What others have and this one lacks is shown as not run: every variant on every model of the
 * evaluation, trained ones at every fraction that any of them has there. */
static void add_missing(lq_report *r)
{
    const size_t n = r->n_cells;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            const lq_cell a = r->cell[i], b = r->cell[j]; /* copies: the list grows */
            const bool trained = a.fraction > 0;
            if (strcmp(a.eval, b.eval) != 0 || trained != (b.fraction > 0))
                continue;
            if (has_cell(r, a.eval, b.model, a.variant, b.fraction))
                continue;
            lq_cell *c = new_cell(r, a.eval, b.model, a.variant, b.fraction);
            c->kind = a.kind;
            c->bits = a.bits;
            c->method = a.method;
            c->named = a.named;
        }
}

static const lq_report *sorting; /* qsort has no context */

static int by_place(const void *a, const void *b)
{
    const lq_cell *x = a, *y = b;
    const lq_names *names[] = {&sorting->evals, &sorting->models, &sorting->variants};
    const char *const left[] = {x->eval, x->model, x->variant};
    const char *const right[] = {y->eval, y->model, y->variant};
    for (size_t i = 0; i < 3; i++) {
        const size_t p = place(names[i], left[i]), q = place(names[i], right[i]);
        if (p != q)
            return p < q ? -1 : 1;
    }
    if (x->fraction != y->fraction)
        return x->fraction < y->fraction ? -1 : 1;
    return strcmp(x->recipe, y->recipe);
}

/* Cells of one variant and fraction whose settings differ carry a digest of their settings. */
static lq_status label_cells(lq_report *r)
{
    for (size_t i = 0; i < r->n_cells; i++) {
        lq_cell *c = &r->cell[i];
        bool twin = false;
        for (size_t j = 0; j < r->n_cells; j++)
            twin = twin ||
                   (j != i && same_cell(&r->cell[j], c->eval, c->model, c->variant, c->fraction));
        lq_digest digest = {.hex = ""};
        if (twin)
            LQ_TRY(lq_sha256_of(c->recipe, strlen(c->recipe), &digest));
        c->label = lq_report_label(r, c->variant);
        if (twin)
            c->label = lq_arena_printf(r->arena, "%s [%.6s]", c->label, digest.hex);
    }
    return LQ_OK;
}

static void choose_reference(lq_report *r)
{
    if (!r->reference && r->spec)
        r->reference = lq_spec_reference(r->spec);
    for (size_t i = 0; !r->reference && i < r->n_cells; i++)
        if (r->cell[i].kind == LQ_CELL_QAT)
            r->reference = r->cell[i].variant;
}

static lq_status arrange(lq_report *r, const lq_points *wanted)
{
    name_models(r);
    LQ_TRY(order_names(r, wanted));
    for (size_t i = 0; i < r->n_records; i++)
        if (strcmp(r->record[i].purpose, "search") != 0)
            LQ_TRY(add_record(r, &r->record[i]));
    add_wanted(r, wanted);
    add_missing(r);
    sorting = r;
    if (r->n_cells > 1)
        qsort(r->cell, r->n_cells, sizeof *r->cell, by_place);
    LQ_TRY(label_cells(r));
    for (size_t i = 0; i < r->n_cells; i++)
        r->has_recipes = r->has_recipes || strcmp(r->cell[i].named, "common") != 0;
    choose_reference(r);
    lq_report_measure(r);
    return LQ_OK;
}

lq_status lq_report_arrange(lq_report *r)
{
    lq_points wanted = {0};
    if (r->spec)
        LQ_TRY(lq_spec_results(r->spec, NULL, 0, &wanted));
    lq_status status = arrange(r, &wanted);
    lq_points_free(&wanted);
    return status;
}
