#include "core/data/pypi.h"

#include "core/base/file.h"
#include "core/base/json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PAGE_BYTES = 64 << 20 };

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* --- pip's configuration ---------------------------------------------------------------------- */

static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    for (size_t n = strlen(text); n > 0 && strchr(" \t\r", text[n - 1]) != NULL; n--)
        text[n - 1] = '\0';
    return text;
}

/* index-url of the sections [global] and [download], which goes before. NULL: not in this file. */
static const char *index_in(const char *path, lq_arena *arena)
{
    char *text, *save = NULL;
    size_t n;
    const char *global = NULL, *download = NULL;
    bool in_global = false, in_download = false;
    if (path == NULL || !lq_path_exists(path) || lq_file_read(path, arena, &text, &n) != LQ_OK)
        return NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *key = trim(line), *equal = strpbrk(key, "=:");
        if (key[0] == '[') {
            in_global = strcmp(key, "[global]") == 0;
            in_download = strcmp(key, "[download]") == 0;
        } else if (equal != NULL && key[0] != '#' && key[0] != ';') {
            *equal = '\0';
            const char *value = trim(equal + 1);
            key = trim(key);
            if (strcasecmp(key, "index-url") != 0 && strcasecmp(key, "index_url") != 0)
                continue;
            global = in_global ? value : global;
            download = in_download ? value : download;
        }
    }
    return download ? download : global;
}

/* Files in the order of pip: what a later one says goes before. */
static const char *configured(lq_arena *arena)
{
    const char *home = environment("HOME"), *xdg = environment("XDG_CONFIG_HOME"),
               *venv = environment("VIRTUAL_ENV"), *own = environment("PIP_CONFIG_FILE");
    const char *path[6] = {"/etc/xdg/pip/pip.conf", "/etc/pip.conf"};
    const char *found = NULL;
    if (own != NULL && strcmp(own, "/dev/null") == 0)
        return NULL; /* pip reads no file at all then */
    if (home != NULL)
        path[2] = lq_arena_printf(arena, "%s/.pip/pip.conf", home);
    if (xdg != NULL)
        path[3] = lq_arena_printf(arena, "%s/pip/pip.conf", xdg);
    else if (home != NULL)
        path[3] = lq_arena_printf(arena, "%s/.config/pip/pip.conf", home);
    if (venv != NULL)
        path[4] = lq_arena_printf(arena, "%s/pip.conf", venv);
    path[5] = own;
    for (size_t i = 0; i < 6; i++) {
        const char *value = index_in(path[i], arena);
        found = value ? value : found;
    }
    return found;
}

lq_status lq_pypi_index(lq_arena *arena, const char **out)
{
    const char *none = environment("PIP_NO_INDEX"), *url = environment("PIP_INDEX_URL");
    if (none != NULL && strcmp(none, "0") != 0 && strcasecmp(none, "false") != 0)
        return lq_fail(LQ_E_MISSING, "Python's package index: PIP_NO_INDEX forbids to ask it");
    if (url == NULL)
        url = configured(arena);
    char *text = lq_arena_printf(arena, "%s", url ? url : "https://pypi.org/simple");
    for (size_t n = strlen(text); n > 0 && text[n - 1] == '/'; n--)
        text[n - 1] = '\0';
    *out = text;
    return LQ_OK;
}

/* --- the page of a package -------------------------------------------------------------------- */

/* Runs of "-", "_", "." become one `joint`, letters lower case (PEP 503 with '-', wheels with '_'). */
static const char *normalize(const char *name, char joint, lq_arena *arena)
{
    char *out = lq_arena_printf(arena, "%s", name), *end = out;
    for (const char *c = name; *c != '\0'; c++) {
        if (strchr("-_.", *c) == NULL)
            *end++ = (char)tolower((unsigned char)*c);
        else if (end > out && end[-1] != joint)
            *end++ = joint;
    }
    *end = '\0';
    return out;
}

static lq_status read_wheel(const lq_json *file, const char *page, const char *package,
                            lq_arena *arena, lq_wheel *out)
{
    const char *url = lq_json_string(lq_json_get(file, "url")),
               *sha256 = lq_json_string(lq_json_get(lq_json_get(file, "hashes"), "sha256"));
    size_t bytes;
    LQ_TRY(lq_json_size(file, package, "size", 0, (size_t)1 << 46, 0, &bytes));
    if (url == NULL || sha256 == NULL || strlen(sha256) != 64 ||
        strspn(sha256, "0123456789abcdef") != 64)
        return lq_fail(LQ_E_FORMAT, "%s: the index tells no URL or no sha256 of %s", package,
                       out->name);
    out->sha256 = lq_arena_printf(arena, "%s", sha256);
    out->bytes = bytes;
    return lq_fetch_resolve(page, url, arena, &out->url);
}

static lq_status search(const lq_json *root, const char *page, const char *package,
                        const char *version, lq_arena *arena, lq_wheel *out)
{
    const char *name =
        lq_arena_printf(arena, "%s-%s-py3-none-any.whl", normalize(package, '_', arena), version);
    const lq_json *files = lq_json_get(root, "files");
    if (lq_json_type(files) != LQ_JSON_ARRAY)
        return lq_fail(LQ_E_FORMAT, "%s: the index lists no files", package);
    for (const lq_json *f = lq_json_first(files); f != NULL; f = lq_json_next(f)) {
        const char *its = lq_json_string(lq_json_get(f, "filename"));
        if (its == NULL || strcasecmp(its, name) != 0)
            continue;
        out->name = name;
        return read_wheel(f, page, package, arena, out);
    }
    return lq_fail(LQ_E_MISSING, "%s: the index has no %s", package, name);
}

lq_status lq_pypi_find(const char *package, const char *version, const lq_fetch_pace *pace,
                       lq_arena *arena, lq_wheel *out)
{
    const char *index;
    char *text;
    size_t n;
    lq_reply reply;
    lq_json *root;
    *out = (lq_wheel){0};
    LQ_TRY(lq_pypi_index(arena, &index));
    const lq_fetch want = {
        .what = package,
        .url = lq_arena_printf(arena, "%s/%s/", index,
                               lq_fetch_escape(normalize(package, '-', arena), arena)),
        .accept = "application/vnd.pypi.simple.v1+json",
        .pace = pace};
    LQ_TRY(lq_fetch_text(&want, PAGE_BYTES, arena, &text, &n, &reply));
    if (strstr(reply.type, "json") == NULL)
        return lq_fail(LQ_E_FORMAT,
                       "%s: the package index answers %s and no JSON (PEP 691); set PIP_INDEX_URL "
                       "to one that does",
                       package, reply.type[0] ? reply.type : "without a type");
    LQ_TRY(lq_json_parse(text, n, package, &root));
    const lq_status status = search(root, want.url, package, version, arena, out);
    lq_json_free(root);
    return status;
}
