#include "experiments/catalog.h"

#include "core/base/file.h"
#include "core/data/corpus.h"
#include "experiments/command.h"

#include <stdio.h>
#include <string.h>
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

const lq_json *lq_catalog_find(const lq_json *catalog, const char *list, const char *name)
{
    const lq_json *entries = lq_json_get(catalog, list);
    for (const lq_json *e = lq_json_first(entries); e != NULL; e = lq_json_next(e)) {
        const char *its = lq_json_string(lq_json_get(e, "name"));
        if (its != NULL && strcmp(its, name) == 0)
            return e;
    }
    return NULL;
}

bool lq_catalog_here(const lq_json *entry)
{
    const char *source = lq_json_string(lq_json_get(entry, "source"));
    const char *path = lq_json_string(lq_json_get(entry, "path"));
    if (source != NULL && strcmp(source, "apt") == 0)
        return lq_techdocs_ready();
    lq_arena arena = {0};
    const char *place =
        path == NULL
            ? NULL
            : lq_repository_path(lq_arena_printf(&arena, "%s/model.safetensors", path), &arena);
    lq_arena_close(&arena);
    return place != NULL;
}

static void print_entry(const lq_json *e)
{
    static const char *const key[] = {"name", "source", "licence", "what"};
    const char *text[4];
    for (size_t i = 0; i < 4; i++) {
        text[i] = lq_json_string(lq_json_get(e, key[i]));
        text[i] = text[i] == NULL ? "?" : text[i];
    }
    const double bytes = lq_json_number(lq_json_get(e, "bytes"));
    printf("%-12s %-8s %-11s %6.1f MB  %s\n%33s licence: %s\n", text[0],
           lq_catalog_here(e) ? "here" : "absent", text[1], bytes * 1e-6, text[3], "", text[2]);
}

lq_status lq_catalog_print(const char *list, bool json)
{
    lq_json *catalog;
    LQ_TRY(lq_catalog_read(&catalog));
    lq_json *out = lq_json_object(), *array = lq_json_array();
    const lq_json *entries = lq_json_get(catalog, list);
    for (const lq_json *e = lq_json_first(entries); e != NULL; e = lq_json_next(e)) {
        if (!json)
            print_entry(e);
        lq_json *copy = lq_json_copy(e);
        lq_json_set_bool(copy, "here", lq_catalog_here(e));
        lq_json_append(array, copy);
    }
    lq_json_set(out, list, array);
    if (json)
        lq_print_json(out);
    else
        lq_json_free(out);
    lq_json_free(catalog);
    return LQ_OK;
}
