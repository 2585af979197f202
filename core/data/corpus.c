#include "core/data/corpus.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/data/techdocs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char corpus_name[] = "techdocs";

/* Where the cache is, whether or not it exists. LQ_E_IO: no environment variable says. */
static lq_status cache_path(lq_arena *arena, const char **out)
{
    const char *own = getenv("LCQAT_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (own && *own)
        *out = lq_arena_printf(arena, "%s", own);
    else if (xdg && *xdg)
        *out = lq_arena_printf(arena, "%s/lcqat", xdg);
    else if (home && *home)
        *out = lq_arena_printf(arena, "%s/.cache/lcqat", home);
    else
        return lq_fail(LQ_E_IO, "no place for the cache: set LCQAT_CACHE to a folder");
    return LQ_OK;
}

lq_status lq_cache_dir(lq_arena *arena, const char **out)
{
    LQ_TRY(cache_path(arena, out));
    if (lq_path_make_dirs(*out) != LQ_OK)
        return lq_fail(LQ_E_IO, "%s: cannot make the cache folder; set LCQAT_CACHE to another",
                       *out);
    if (access(*out, W_OK | X_OK) != 0)
        return lq_fail(LQ_E_IO,
                       "%s: cannot write to the cache folder (%s); set LCQAT_CACHE to another",
                       *out, strerror(errno));
    return LQ_OK;
}

/* --- what the manifest says ------------------------------------------------------------------- */

typedef struct manifest {
    size_t bytes[LQ_SPLITS];
    lq_digest digest[LQ_SPLITS], whole;
} manifest;

static lq_status read_digest(const lq_json *node, const char *where, const char *key,
                             lq_digest *out)
{
    const char *hex;
    LQ_TRY(lq_json_text(node, where, key, NULL, &hex));
    if (strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64)
        return lq_fail(LQ_E_FORMAT, "%s: %s is no digest", where, key);
    memcpy(out->hex, hex, 65);
    for (size_t i = 0; i < 32; i++) {
        const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        out->byte[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return LQ_OK;
}

static lq_status parse_manifest(const lq_json *root, const char *where, manifest *out)
{
    size_t recipe;
    LQ_TRY(lq_json_size(root, where, "recipe", 0, SIZE_MAX, 0, &recipe));
    if (recipe != LQ_TECHDOCS_RECIPE)
        return lq_fail(LQ_E_FORMAT, "%s: made by recipe %zu, this program's is %d", where, recipe,
                       LQ_TECHDOCS_RECIPE);
    LQ_TRY(read_digest(root, where, "whole", &out->whole));
    for (size_t s = 0; s < LQ_SPLITS; s++) {
        const lq_json *split = lq_json_get(lq_json_get(root, "splits"), lq_split_names[s]);
        if (!split)
            return lq_fail(LQ_E_FORMAT, "%s: no split %s", where, lq_split_names[s]);
        LQ_TRY(lq_json_size(split, where, "bytes", 0, SIZE_MAX, SIZE_MAX, &out->bytes[s]));
        LQ_TRY(read_digest(split, where, "sha256", &out->digest[s]));
    }
    lq_digest whole;
    LQ_TRY(lq_techdocs_whole(out->digest, &whole));
    if (strcmp(whole.hex, out->whole.hex) != 0)
        return lq_fail(LQ_E_FORMAT, "%s: its digests contradict each other", where);
    return LQ_OK;
}

/* Reads DIR/manifest.json and compares the sizes of the splits with it; no work, no digests. */
static lq_status check_sizes(const char *dir, lq_arena *arena, manifest *out)
{
    const char *path = lq_arena_printf(arena, "%s/manifest.json", dir);
    lq_json *root;
    LQ_TRY(lq_json_read(path, &root));
    lq_status status = parse_manifest(root, path, out);
    lq_json_free(root);
    for (size_t s = 0; status == LQ_OK && s < LQ_SPLITS; s++) {
        const char *split = lq_arena_printf(arena, "%s/%s.txt", dir, lq_split_names[s]);
        struct stat about;
        if (stat(split, &about) != 0)
            status = lq_fail(LQ_E_MISSING, "%s: not there", split);
        else if ((uint64_t)about.st_size != out->bytes[s])
            status = lq_fail(LQ_E_FORMAT, "%s: %lld bytes, its manifest says %zu", split,
                             (long long)about.st_size, out->bytes[s]);
    }
    return status;
}

static lq_status check_digests(const char *dir, lq_arena *arena)
{
    manifest m;
    LQ_TRY(check_sizes(dir, arena, &m));
    for (size_t s = 0; s < LQ_SPLITS; s++) {
        const char *split = lq_arena_printf(arena, "%s/%s.txt", dir, lq_split_names[s]);
        lq_digest found;
        LQ_TRY(lq_sha256_file(split, &found));
        if (strcmp(found.hex, m.digest[s].hex) != 0)
            return lq_fail(LQ_E_FORMAT, "%s: its digest is not that of the manifest", split);
    }
    return LQ_OK;
}

/* --- making it -------------------------------------------------------------------------------- */

/* Holds the lock until the descriptor is closed. flock and not fcntl: the lock is the descriptor's,
 * so another close of the file in this process does not drop it. */
static lq_status lock(const char *path, int *fd)
{
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0)
        return lq_fail(LQ_E_IO, "%s: cannot open the lock: %s", path, strerror(errno));
    int failed = flock(*fd, LOCK_EX | LOCK_NB);
    if (failed && errno == EWOULDBLOCK) {
        lq_log_info("another lcqat prepares techdocs; waiting for it");
        do
            failed = flock(*fd, LOCK_EX);
        while (failed && errno == EINTR && !lq_stop_asked());
    }
    if (!failed)
        return LQ_OK;
    int error = errno;
    close(*fd);
    if (error == EINTR)
        return lq_fail(LQ_E_STOPPED, "techdocs: stopped while waiting for another lcqat");
    return lq_fail(LQ_E_IO, "%s: cannot lock: %s", path, strerror(error));
}

/* Under the lock: builds in a side folder, which takes its name when it is whole. */
static lq_status prepare(const char *cache, lq_arena *arena)
{
    const char *dir = lq_arena_printf(arena, "%s/%s", cache, corpus_name);
    const char *side = lq_arena_printf(arena, "%s/%s.part", cache, corpus_name);
    const char *debs = lq_arena_printf(arena, "%s/debs", cache);
    if (check_digests(dir, arena) == LQ_OK)
        return LQ_OK;
    if (lq_path_exists(dir))
        lq_log_warn("%s; making techdocs again", lq_status_note());
    LQ_TRY(lq_path_make_dirs(debs));
    LQ_TRY(lq_path_remove_tree(side));
    LQ_TRY(lq_path_make_dirs(side));
    lq_status status = lq_techdocs_build(debs, side);
    if (status != LQ_OK) {
        char note[1024]; /* the clean-up may fail too, and must not hide the first story */
        snprintf(note, sizeof note, "%s", lq_status_note());
        (void)lq_path_remove_tree(side);
        return lq_fail(status, "%s", note);
    }
    LQ_TRY(lq_path_remove_tree(dir));
    if (rename(side, dir) != 0)
        return lq_fail(LQ_E_IO, "%s: cannot rename to %s: %s", side, dir, strerror(errno));
    return LQ_OK;
}

lq_status lq_techdocs_prepare(void)
{
    lq_arena arena = {0};
    const char *cache;
    int fd = -1;
    lq_status status = lq_cache_dir(&arena, &cache);
    if (status == LQ_OK)
        status = lock(lq_arena_printf(&arena, "%s/%s.lock", cache, corpus_name), &fd);
    if (status == LQ_OK) {
        status = prepare(cache, &arena);
        close(fd);
    }
    lq_arena_close(&arena);
    return status;
}

bool lq_techdocs_ready(void)
{
    lq_arena arena = {0};
    const char *cache;
    manifest m;
    lq_status status = cache_path(&arena, &cache);
    if (status == LQ_OK)
        status = check_sizes(lq_arena_printf(&arena, "%s/%s", cache, corpus_name), &arena, &m);
    lq_arena_close(&arena);
    return status == LQ_OK;
}

/* --- loading ---------------------------------------------------------------------------------- */

static lq_status load_split(const char *split_name, lq_arena *arena, lq_corpus *out)
{
    size_t s = 0;
    while (s < LQ_SPLITS && strcmp(lq_split_names[s], split_name) != 0)
        s++;
    if (s == LQ_SPLITS)
        return lq_fail(LQ_E_OPTION,
                       "techdocs:%s: no such split; there are train, calib, valid, test",
                       split_name);
    const char *cache;
    LQ_TRY(cache_path(arena, &cache));
    const char *dir = lq_arena_printf(arena, "%s/%s", cache, corpus_name);
    manifest m;
    if (check_sizes(dir, arena, &m) != LQ_OK) {
        char note[512];
        snprintf(note, sizeof note, "%s", lq_status_note());
        return lq_fail(LQ_E_MISSING,
                       "techdocs is not in the cache, or not whole (%s); type "
                       "`lcqat fetch techdocs`",
                       note);
    }
    LQ_TRY(lq_file_read(lq_arena_printf(arena, "%s/%s.txt", dir, lq_split_names[s]), arena,
                        &out->text, &out->bytes));
    if (out->bytes != m.bytes[s])
        return lq_fail(LQ_E_FORMAT, "%s/%s.txt: changed while it was read", dir, lq_split_names[s]);
    out->name = lq_arena_printf(arena, "techdocs:%s", lq_split_names[s]);
    out->digest = m.digest[s];
    out->whole = m.whole;
    return LQ_OK;
}

lq_status lq_corpus_load(const char *data, lq_arena *arena, lq_corpus *out)
{
    size_t n = sizeof corpus_name - 1;
    if (strcmp(data, corpus_name) == 0)
        return load_split(lq_split_names[LQ_SPLIT_TRAIN], arena, out);
    if (strncmp(data, corpus_name, n) == 0 && data[n] == ':')
        return load_split(data + n + 1, arena, out);
    LQ_TRY(lq_file_read(data, arena, &out->text, &out->bytes));
    LQ_TRY(lq_sha256_of(out->text, out->bytes, &out->digest));
    out->whole = out->digest;
    out->name = lq_arena_printf(arena, "%s", data);
    return LQ_OK;
}
