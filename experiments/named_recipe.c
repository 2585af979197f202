#include "experiments/named_recipe.h"

#include "core/base/file.h"
#include "core/quant/method.h"
#include "experiments/catalog.h"
#include "experiments/methods.h"

#include <math.h>
#include <string.h>

static const char *const common = "common";

bool lq_recipe_is_common(const char *name) { return strcmp(name, common) == 0; }

/* ---- trees ------------------------------------------------------------------------------------- */

static bool is_object(const lq_json *node)
{
    return node != NULL && lq_json_type(node) == LQ_JSON_OBJECT;
}

static lq_json *copy_of(const lq_json *node)
{
    lq_json *copy = lq_json_copy(node);
    LQ_ASSERT(copy); /* as the other builders: small documents */
    return copy;
}

void lq_json_merge(lq_json *into, const lq_json *from)
{
    for (const lq_json *m = lq_json_first(from); m; m = lq_json_next(m)) {
        const char *key = lq_json_key(m);
        lq_json *old = lq_json_member(into, key);
        if (is_object(old) && is_object(m))
            lq_json_merge(old, m);
        else
            lq_json_set(into, key, copy_of(m));
    }
}

/* A copy of `tree` without the leaves that `stated` has. */
static lq_json *without(const lq_json *tree, const lq_json *stated)
{
    lq_json *rest = lq_json_object();
    for (const lq_json *m = lq_json_first(tree); m; m = lq_json_next(m)) {
        const lq_json *there = lq_json_get(stated, lq_json_key(m));
        if (is_object(m) && is_object(there))
            lq_json_set(rest, lq_json_key(m), without(m, there));
        else if (there == NULL)
            lq_json_set(rest, lq_json_key(m), copy_of(m));
    }
    return rest;
}

/* Paths of the leaves of `stated` that `tree` has otherwise. */
static const char *differing(const lq_json *stated, const lq_json *tree, const char *path,
                             const char *found, lq_arena *arena)
{
    for (const lq_json *m = lq_json_first(stated); m; m = lq_json_next(m)) {
        const char *key = lq_json_key(m);
        const lq_json *other = lq_json_get(tree, key);
        const char *at = *path ? lq_arena_printf(arena, "%s.%s", path, key) : key;
        if (is_object(m) && (other == NULL || is_object(other)))
            found = differing(m, other, at, found, arena);
        else if (other == NULL ||
                 strcmp(lq_json_canonical(m, arena), lq_json_canonical(other, arena)) != 0)
            found = lq_arena_printf(arena, "%s%s%s", found, *found ? " " : "", at);
    }
    return found;
}

/* ---- files ------------------------------------------------------------------------------------- */

/* Letters, digits, '-', '_' and single slashes between them: nothing that leaves the folder. */
static bool is_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/";
    const size_t n = strlen(name);
    return n > 0 && n <= 64 && name[strspn(name, allowed)] == '\0' && name[0] != '/' &&
           name[n - 1] != '/' && strstr(name, "//") == NULL;
}

static const char *add_names(const char *dir, const char *prefix, const char *list, lq_arena *arena)
{
    char **names;
    size_t n;
    if (lq_path_list(dir, arena, &names, &n) != LQ_OK)
        return list;
    for (size_t i = 0; i < n; i++) {
        const char *path = lq_arena_printf(arena, "%s/%s", dir, names[i]);
        const size_t length = strlen(names[i]);
        if (lq_path_is_dir(path))
            list = add_names(path, lq_arena_printf(arena, "%s%s/", prefix, names[i]), list, arena);
        else if (length > 5 && strcmp(names[i] + length - 5, ".json") == 0)
            list = lq_arena_printf(arena, "%s %s%.*s", list, prefix, (int)length - 5, names[i]);
    }
    return list;
}

static lq_status check_overlays(const lq_json *recipe, const char *where, const char *key,
                                lq_arena *arena)
{
    const lq_json *overlays = lq_json_get(recipe, key);
    if (overlays != NULL && !is_object(overlays))
        return lq_fail(LQ_E_OPTION, "%s: %s must be an object", where, key);
    for (const lq_json *m = lq_json_first(overlays); m; m = lq_json_next(m)) {
        const char *at = lq_arena_printf(arena, "%s: %s.%s", where, key, lq_json_key(m));
        if (!is_object(m))
            return lq_fail(LQ_E_OPTION, "%s must be an object", at);
        LQ_TRY(lq_json_only_keys(m, at, "train", "calib", "blockwise", "start",
                                 strcmp(key, "methods") == 0 ? "method" : NULL, NULL));
    }
    return LQ_OK;
}

static lq_status check(const lq_json *recipe, const char *where, lq_arena *arena)
{
    const char *text;
    const lq_json *run = lq_json_get(recipe, "run"), *scaling = lq_json_get(recipe, "scaling");
    LQ_TRY(lq_json_only_keys(recipe, where, "about", "source", "authors", "run", "bits", "methods",
                             "scaling", NULL));
    LQ_TRY(lq_json_text(recipe, where, "about", NULL, &text));
    LQ_TRY(lq_json_text(recipe, where, "source", "", &text));
    if (!is_object(run))
        return lq_fail(LQ_E_OPTION, "%s: the object \"run\" is missing", where);
    LQ_TRY(lq_json_only_keys(run, where, "train", "calib", "blockwise", "start", NULL));
    LQ_TRY(check_overlays(recipe, where, "bits", arena));
    LQ_TRY(check_overlays(recipe, where, "methods", arena));
    return scaling == NULL
               ? LQ_OK
               : lq_json_only_keys(scaling, where, "context", "least_steps", "calib_tokens", NULL);
}

lq_status lq_recipe_load(const char *name, lq_json **out)
{
    lq_arena arena = {0};
    lq_status status = LQ_OK;
    const char *dir = lq_repository_path("experiments/recipes", &arena), *path = NULL;
    *out = NULL;
    if (!is_name(name))
        status = lq_fail(LQ_E_OPTION, "recipe '%.64s': no name of a recipe", name);
    else if (dir != NULL)
        path = lq_arena_printf(&arena, "%s/%s.json", dir, name);
    if (status == LQ_OK && (path == NULL || !lq_path_exists(path)))
        status = lq_fail(LQ_E_MISSING, "recipe '%s': not in experiments/recipes; there are:%s",
                         name, dir != NULL ? add_names(dir, "", "", &arena) : " none");
    if (status == LQ_OK)
        status = lq_json_read(path, out);
    if (status == LQ_OK)
        status = check(*out, path, &arena);
    if (status != LQ_OK) {
        lq_json_free(*out);
        *out = NULL;
    }
    lq_arena_close(&arena);
    return status;
}

lq_status lq_recipe_make_way(const char *name, lq_json *run)
{
    lq_json *recipe;
    LQ_TRY(lq_recipe_load(name, &recipe));
    lq_json *stated = copy_of(lq_json_get(recipe, "run"));
    const lq_json *bits = lq_json_get(recipe, "bits"), *methods = lq_json_get(recipe, "methods");
    for (const lq_json *m = lq_json_first(bits); m; m = lq_json_next(m))
        lq_json_merge(stated, m);
    for (const lq_json *m = lq_json_first(methods); m; m = lq_json_next(m))
        lq_json_merge(stated, m);
    lq_json *rest = without(run, stated);
    for (const lq_json *m = lq_json_first(rest); m; m = lq_json_next(m))
        lq_json_set(run, lq_json_key(m), copy_of(m));
    lq_json_free(rest);
    lq_json_free(stated);
    lq_json_free(recipe);
    return LQ_OK;
}

/* ---- one run ----------------------------------------------------------------------------------- */

/* Bits of the point's method, its own default where it says nothing. */
static lq_status bits_of(const lq_json *point, lq_arena *arena, const char **name, double *bits)
{
    const lq_json *given = lq_json_get(point, "method");
    const lq_method *method;
    void *opts;
    if (!is_object(given))
        return lq_fail(LQ_E_OPTION, "run: the object \"method\" is missing");
    LQ_TRY(lq_json_text(given, "run: method", "name", NULL, name));
    LQ_TRY(lq_method_find(*name, &method));
    *bits = lq_json_number(lq_json_get(given, "bits"));
    if (!isnan(*bits))
        return LQ_OK;
    LQ_TRY(lq_method_options(method, NULL, "run: method", arena, &opts));
    *bits = ((const lq_common_opts *)opts)->bits;
    return LQ_OK;
}

static double number_or(const lq_json *object, const char *member, const char *key, double fallback)
{
    const double x = lq_json_number(lq_json_get(lq_json_get(object, member), key));
    return isnan(x) ? fallback : x;
}

static void set_number(lq_json *object, const char *member, const char *key, double value)
{
    if (lq_json_get(object, member) == NULL)
        lq_json_set(object, member, lq_json_object());
    lq_json_set_number(lq_json_member(object, member), key, value);
}

/* What a small model and a small budget force; what the point says itself stays as it says.
 *     context       no longer than the windows of the evaluation
 *     least_steps   the authors' batch is halved until the budget gives so many steps, down to 8
 *     calib_tokens  no more than the budget of the training, at least 128 sequences */
static lq_status scale(const lq_json *rules, const lq_json *point, lq_json *stated)
{
    bool context, calib;
    size_t least_steps;
    LQ_TRY(lq_json_bool(rules, "scaling", "context", false, &context));
    LQ_TRY(lq_json_size(rules, "scaling", "least_steps", 0, 1000000, 0, &least_steps));
    LQ_TRY(lq_json_bool(rules, "scaling", "calib_tokens", false, &calib));
    const double window = number_or(point, "eval", "context", 128);
    const char *const member[] = {"train", "calib"};
    for (size_t i = 0; context && i < 2; i++)
        if (number_or(stated, member[i], "context", 0) > window)
            set_number(stated, member[i], "context", window);
    const double fraction = lq_json_number(lq_json_get(point, "fraction"));
    const double budget = lq_json_number(lq_json_get(point, "budget_tokens"));
    const double tokens = fraction > 0 && budget > 0 ? fraction * budget : 0;
    double T = number_or(point, "train", "context", 0);
    T = T > 0 ? T : number_or(stated, "train", "context", 128);
    double batch = number_or(stated, "train", "batch", 0);
    while (least_steps > 0 && batch >= 16 && tokens < (double)least_steps * batch * T)
        batch = floor(batch / 2);
    if (least_steps > 0 && batch > 0)
        set_number(stated, "train", "batch", batch);
    const double least = 128 * number_or(stated, "calib", "context", 128);
    double kept = number_or(stated, "calib", "tokens", 0);
    if (calib && kept > tokens)
        kept = tokens > least ? tokens : kept > least ? least : kept;
    if (calib && kept > 0)
        set_number(stated, "calib", "tokens", floor(kept));
    return LQ_OK;
}

/* What the recipe says about this point. */
static lq_status state(const lq_json *recipe, const lq_json *point, lq_arena *arena,
                       lq_json *stated)
{
    const char *method;
    double bits = 0;
    LQ_TRY(bits_of(point, arena, &method, &bits));
    lq_json_merge(stated, lq_json_get(recipe, "run"));
    const char *word = lq_arena_printf(arena, "%.4g", bits);
    const lq_json *of_bits = lq_json_get(lq_json_get(recipe, "bits"), word);
    const lq_json *methods = lq_json_get(recipe, "methods");
    const lq_json *own = lq_json_get(methods, method);
    if (of_bits != NULL)
        lq_json_merge(stated, of_bits);
    if (own == NULL)
        own = lq_json_get(methods, "*");
    if (own != NULL)
        lq_json_merge(stated, own);
    const lq_json *rules = lq_json_get(recipe, "scaling");
    return rules != NULL ? scale(rules, point, stated) : LQ_OK;
}

lq_status lq_recipe_expand(const lq_json *point, lq_arena *arena, lq_json **expanded,
                           const char **changed)
{
    const char *name;
    lq_json *recipe;
    *expanded = NULL;
    *changed = "";
    LQ_TRY(lq_json_text(point, "run", "recipe", common, &name));
    if (lq_json_get(point, "recipe") == NULL) {
        *expanded = copy_of(point);
        return LQ_OK;
    }
    LQ_TRY(lq_recipe_load(name, &recipe));
    lq_json *stated = lq_json_object();
    const lq_status status = state(recipe, point, arena, stated);
    lq_json_free(recipe);
    if (status == LQ_OK) {
        *expanded = copy_of(stated);
        lq_json_merge(*expanded, point);
        *changed = differing(stated, *expanded, "", "", arena);
    }
    lq_json_free(stated);
    return status;
}
