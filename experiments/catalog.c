#include "experiments/catalog.h"

#include "core/base/args.h"
#include "core/base/file.h"
#include "core/data/corpus.h"
#include "experiments/command.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

const char *lq_repository_path(const char *relative, lq_arena *arena)
{
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (lq_path_exists(relative))
        return relative;
    self[n > 0 ? n : 0] = '\0';
    for (char *slash = strrchr(self, '/'); slash != NULL; slash = strrchr(self, '/')) {
        *slash = '\0';
        const char *path = lq_arena_printf(arena, "%s/%s", self, relative);
        if (lq_path_exists(path))
            return path;
    }
    return NULL;
}

lq_status lq_catalog_read(lq_json **out)
{
    lq_arena arena = {0};
    const char *path = lq_repository_path("datasets/catalog.json", &arena);
    lq_status status = path == NULL ? lq_fail(LQ_E_MISSING, "datasets/catalog.json: not found; run "
                                                            "lcqat from its repository")
                                    : lq_json_read(path, out);
    lq_arena_close(&arena);
    return status;
}

/* By its name, or by one of those under "also". */
static bool is_called(const lq_json *entry, const char *name)
{
    const char *its = lq_json_string(lq_json_get(entry, "name"));
    if (its != NULL && strcasecmp(its, name) == 0)
        return true;
    for (const lq_json *a = lq_json_first(lq_json_get(entry, "also")); a; a = lq_json_next(a)) {
        its = lq_json_string(a);
        if (its != NULL && strcasecmp(its, name) == 0)
            return true;
    }
    return false;
}

const lq_json *lq_catalog_find(const lq_json *catalog, const char *list, const char *name)
{
    const lq_json *entries = lq_json_get(catalog, list);
    for (const lq_json *e = lq_json_first(entries); e != NULL; e = lq_json_next(e))
        if (is_called(e, name))
            return e;
    return NULL;
}

bool lq_plain_name(const char *name)
{
    const size_t n = strlen(name);
    return n > 0 && n < 200 && name[0] != '.' &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static const char *text_of(const lq_json *node, const char *key)
{
    const char *text = lq_json_string(lq_json_get(node, key));
    return text != NULL ? text : "";
}

lq_status lq_catalog_place(const char *list, const lq_json *entry, lq_arena *arena,
                           const char **place)
{
    const char *cache, *name = text_of(entry, "name");
    if (!lq_plain_name(name))
        return lq_fail(LQ_E_FORMAT, "datasets/catalog.json: '%.100s' is no name", name);
    LQ_TRY(lq_cache_dir(arena, &cache));
    *place = lq_arena_printf(arena, "%s/%s/%s", cache, list, name);
    return LQ_OK;
}

/* The one source that is no download: NULL when the entry has another. */
static const lq_json *source_of_kind(const lq_json *entry, const char *kind)
{
    for (const lq_json *s = lq_json_first(lq_json_get(entry, "sources")); s; s = lq_json_next(s))
        if (strcmp(text_of(s, "kind"), kind) == 0)
            return s;
    return NULL;
}

lq_json *lq_catalog_manifest(const char *list, const lq_json *entry, lq_arena *arena)
{
    const char *place;
    lq_json *manifest;
    if (lq_catalog_place(list, entry, arena, &place) != LQ_OK)
        return NULL;
    const char *path = lq_arena_printf(arena, "%s/manifest.json", place);
    return lq_path_exists(path) && lq_json_read(path, &manifest) == LQ_OK ? manifest : NULL;
}

/* Every file of the manifest is in the folder and as long as it was. */
static bool is_whole(const lq_json *manifest, const char *dir, lq_arena *arena)
{
    const lq_json *files = lq_json_get(manifest, "files");
    for (const lq_json *f = lq_json_first(files); f != NULL; f = lq_json_next(f)) {
        struct stat about;
        const char *name = text_of(f, "name");
        if (!lq_plain_name(name) || stat(lq_arena_printf(arena, "%s/%s", dir, name), &about) != 0 ||
            (double)about.st_size != lq_json_number(lq_json_get(f, "bytes")))
            return false;
    }
    return lq_json_count(files) > 0;
}

static const char *fetched_dir(const char *list, const lq_json *entry, lq_arena *arena)
{
    const char *place;
    lq_json *manifest = lq_catalog_manifest(list, entry, arena);
    if (manifest == NULL || lq_catalog_place(list, entry, arena, &place) != LQ_OK)
        return NULL;
    const char *elsewhere = lq_json_string(lq_json_get(manifest, "directory"));
    const char *dir = elsewhere != NULL ? lq_arena_printf(arena, "%s", elsewhere) : place;
    const bool whole = is_whole(manifest, dir, arena);
    lq_json_free(manifest);
    return whole ? dir : NULL;
}

const char *lq_catalog_dir(const char *list, const lq_json *entry, lq_arena *arena)
{
    const lq_json *file = source_of_kind(entry, "file");
    if (file == NULL)
        return source_of_kind(entry, "apt") ? NULL : fetched_dir(list, entry, arena);
    const char *path = text_of(file, "path");
    const char *weights =
        lq_repository_path(lq_arena_printf(arena, "%s/model.safetensors", path), arena);
    return weights != NULL ? lq_repository_path(path, arena) : NULL;
}

bool lq_catalog_here(const char *list, const lq_json *entry)
{
    if (source_of_kind(entry, "apt") != NULL)
        return lq_techdocs_ready();
    lq_arena arena = {0};
    const bool here = lq_catalog_dir(list, entry, &arena) != NULL;
    lq_arena_close(&arena);
    return here;
}

static lq_status unknown(const lq_json *catalog, const char *list, const char *name,
                         lq_arena *arena)
{
    const lq_json *entries = lq_json_get(catalog, list);
    const char **names;
    size_t n = 0;
    LQ_TRY(lq_arena_new(arena, &names, lq_json_count(entries) + 1));
    for (const lq_json *e = lq_json_first(entries); e != NULL; e = lq_json_next(e))
        names[n++] = text_of(e, "name");
    const char *nearest = lq_text_nearest(name, names, n);
    return lq_fail(LQ_E_MISSING, "'%s' is not in the catalog%s%s%s; `lcqat %s` lists them", name,
                   nearest ? ", '" : "", nearest ? nearest : "", nearest ? "' is" : "", list);
}

lq_status lq_catalog_locate(const char *list, const char *name, lq_arena *arena, const char **dir)
{
    lq_json *catalog;
    LQ_TRY(lq_catalog_read(&catalog));
    const lq_json *entry = lq_catalog_find(catalog, list, name);
    lq_status status = LQ_OK;
    *dir = entry != NULL ? lq_catalog_dir(list, entry, arena) : NULL;
    if (entry == NULL)
        status = unknown(catalog, list, name, arena);
    else if (*dir == NULL)
        status = lq_fail(LQ_E_MISSING, "%s is not on this machine yet; type `lcqat fetch %s`", name,
                         name);
    lq_json_free(catalog);
    return status;
}

const char *lq_catalog_model_label(const char *name, const char *dir, lq_arena *arena)
{
    lq_json *catalog, *manifest = NULL;
    const char *label = NULL;
    if (lq_catalog_read(&catalog) != LQ_OK)
        return NULL;
    const lq_json *entry = lq_catalog_find(catalog, "models", name);
    const char *own = entry != NULL ? lq_catalog_dir("models", entry, arena) : NULL;
    if (own != NULL && strncmp(dir, own, strlen(own)) == 0 && source_of_kind(entry, "file") == NULL)
        manifest = lq_catalog_manifest("models", entry, arena);
    if (manifest != NULL)
        label = lq_json_string(lq_json_get(lq_json_get(manifest, "source"), "label"));
    label = label != NULL ? lq_arena_printf(arena, "%s", label) : NULL;
    lq_json_free(manifest);
    lq_json_free(catalog);
    return label;
}

/* --- listing ---------------------------------------------------------------------------------- */

static void print_size(const lq_json *entry)
{
    const double bytes = lq_json_number(lq_json_get(entry, "bytes"));
    if (!(bytes > 0))
        printf("%8s", "? MB");
    else if (bytes < 999.5e6)
        printf("%5.*f MB", bytes < 99.95e6 ? 1 : 0, bytes * 1e-6);
    else
        printf("%5.1f GB", bytes * 1e-9);
}

/* "hf, pypi": the kinds of its sources, each once, in their order. */
static const char *kinds_of(const lq_json *entry, lq_arena *arena)
{
    const char *text = "", *before = "";
    for (const lq_json *s = lq_json_first(lq_json_get(entry, "sources")); s; s = lq_json_next(s)) {
        const char *kind = text_of(s, "kind");
        if (strcmp(kind, before) != 0)
            text = lq_arena_printf(arena, "%s%s%s", text, *text ? ", " : "", kind);
        before = kind;
    }
    return text;
}

static void print_entry(const char *list, const lq_json *e)
{
    lq_arena arena = {0};
    printf("%-14s %-7s", text_of(e, "name"), lq_catalog_here(list, e) ? "here" : "absent");
    print_size(e);
    printf("  %-9s %s\n%32s  licence: %s\n", kinds_of(e, &arena), text_of(e, "what"), "",
           text_of(e, "licence"));
    lq_json *manifest = lq_catalog_manifest(list, e, &arena);
    const char *note = text_of(lq_json_get(manifest, "source"), "note");
    if (*note != '\0')
        printf("%32s  here: %s\n", "", note);
    lq_json_free(manifest);
    lq_arena_close(&arena);
}

/* The entry, whether it is here, and where; with what was fetched. */
static lq_json *entry_to_json(const char *list, const lq_json *e)
{
    lq_arena arena = {0};
    lq_json *copy = lq_json_copy(e);
    lq_json *manifest = lq_catalog_manifest(list, e, &arena);
    const char *dir = lq_catalog_dir(list, e, &arena);
    lq_json_set_bool(copy, "here", lq_catalog_here(list, e));
    if (dir != NULL)
        lq_json_set_string(copy, "directory", dir);
    if (manifest != NULL && dir != NULL)
        lq_json_set(copy, "fetched", manifest);
    else
        lq_json_free(manifest);
    lq_arena_close(&arena);
    return copy;
}

lq_status lq_catalog_print(const char *list, bool json)
{
    lq_json *catalog;
    LQ_TRY(lq_catalog_read(&catalog));
    lq_json *out = lq_json_object(), *array = lq_json_array();
    const lq_json *entries = lq_json_get(catalog, list);
    for (const lq_json *e = lq_json_first(entries); e != NULL; e = lq_json_next(e)) {
        if (json)
            lq_json_append(array, entry_to_json(list, e));
        else
            print_entry(list, e);
    }
    lq_json_set(out, list, array);
    if (json)
        lq_print_json(out);
    else
        lq_json_free(out);
    lq_json_free(catalog);
    return LQ_OK;
}
