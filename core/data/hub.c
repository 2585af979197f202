#include "core/data/hub.h"

#include "core/base/file.h"
#include "core/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LISTING_BYTES = 32 << 20, PAGES = 1000 };

/* --- the environment -------------------------------------------------------------------------- */

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool says_yes(const char *name)
{
    const char *value = environment(name);
    return value != NULL && (strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0 ||
                             strcasecmp(value, "yes") == 0 || strcasecmp(value, "on") == 0);
}

static const char *endpoint(lq_arena *arena)
{
    const char *value = environment("HF_ENDPOINT");
    char *text = lq_arena_printf(arena, "%s", value ? value : "https://huggingface.co");
    for (size_t n = strlen(text); n > 0 && text[n - 1] == '/'; n--)
        text[n - 1] = '\0';
    return text;
}

static const char *home(lq_arena *arena)
{
    const char *own = environment("HF_HOME"), *xdg = environment("XDG_CACHE_HOME"),
               *user = environment("HOME");
    return own    ? own
           : xdg  ? lq_arena_printf(arena, "%s/huggingface", xdg)
           : user ? lq_arena_printf(arena, "%s/.cache/huggingface", user)
                  : NULL;
}

/* The first word, if all of it is printable: a token goes into a header. NULL: none. */
static const char *clean_token(const char *text, lq_arena *arena)
{
    text += strspn(text, " \t\r\n");
    const size_t n = strcspn(text, " \t\r\n");
    for (size_t i = 0; i < n; i++)
        if (text[i] < '!' || text[i] > '~')
            return NULL;
    return n > 0 && n < 512 ? lq_arena_printf(arena, "%.*s", (int)n, text) : NULL;
}

static const char *token(lq_arena *arena)
{
    const char *value = environment("HF_TOKEN"), *path = environment("HF_TOKEN_PATH"),
               *dir = home(arena);
    char *text;
    size_t n;
    if (value == NULL)
        value = environment("HUGGING_FACE_HUB_TOKEN");
    if (value != NULL)
        return clean_token(value, arena);
    if (says_yes("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
        return NULL;
    if (path == NULL && dir != NULL)
        path = lq_arena_printf(arena, "%s/token", dir);
    if (path == NULL || !lq_path_exists(path) || lq_file_read(path, arena, &text, &n) != LQ_OK)
        return NULL;
    return clean_token(text, arena);
}

static lq_status refuse_offline(const char *what)
{
    if (says_yes("HF_HUB_OFFLINE"))
        return lq_fail(LQ_E_MISSING,
                       "%s: not here, and HF_HUB_OFFLINE forbids to fetch it; unset that", what);
    return LQ_OK;
}

/* A refusal for want of rights becomes advice. */
static lq_status advise(lq_status status, const lq_reply *reply, const char *id)
{
    if (status == LQ_E_MISSING && (reply->http == 401 || reply->http == 403))
        return lq_fail(status,
                       "%s: the hub wants to know who asks (%ld%s%s); accept the licence on its "
                       "page, then set HF_TOKEN",
                       id, reply->http, reply->error[0] ? " " : "", reply->error);
    return status;
}

/* --- listings --------------------------------------------------------------------------------- */

static bool is_hex(const char *text, size_t n)
{
    return text != NULL && strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

/* "owner/name" of harmless letters: it becomes part of URLs and of paths. */
static bool good_id(const char *id)
{
    const size_t n = strlen(id);
    const char *slash = strchr(id, '/');
    return n < 200 && slash != NULL && strchr(slash + 1, '/') == NULL && id[0] != '.' &&
           slash[1] != '.' && slash != id && slash[1] != '\0' &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/") == n;
}

/* A revision as one segment of a path: its slashes become %2F. */
static const char *escape_revision(const char *revision, lq_arena *arena)
{
    const char *text = lq_fetch_escape(revision, arena);
    char *out = lq_arena_printf(arena, "%*s", (int)(3 * strlen(text)), ""), *end = out;
    for (; *text != '\0'; text++) {
        if (*text == '/')
            end += snprintf(end, 4, "%%2F");
        else
            *end++ = *text;
    }
    *end = '\0';
    return out;
}

static lq_status ask(const char *url, const lq_hub_repo *repo, const lq_fetch_pace *pace,
                     lq_arena *arena, lq_json **out, lq_reply *reply)
{
    char *text;
    size_t n;
    const lq_fetch want = {.what = repo->id,
                           .url = url,
                           .token = token(arena),
                           .accept = "application/json",
                           .pace = pace};
    const lq_status status = lq_fetch_text(&want, LISTING_BYTES, arena, &text, &n, reply);
    if (status != LQ_OK)
        return advise(status, reply, repo->id);
    return lq_json_parse(text, n, repo->id, out);
}

static lq_status find_commit(const lq_hub_repo *repo, const lq_fetch_pace *pace, lq_arena *arena,
                             const char **commit)
{
    lq_json *about;
    lq_reply reply;
    *commit = repo->revision;
    if (is_hex(repo->revision, 40))
        return LQ_OK;
    const char *url = lq_arena_printf(arena, "%s/api/%s/%s/revision/%s", endpoint(arena),
                                      repo->dataset ? "datasets" : "models", repo->id,
                                      escape_revision(repo->revision, arena));
    LQ_TRY(ask(url, repo, pace, arena, &about, &reply));
    const char *sha = lq_json_string(lq_json_get(about, "sha"));
    const bool good = is_hex(sha, 40);
    if (good)
        *commit = lq_arena_printf(arena, "%s", sha);
    lq_json_free(about);
    return good ? LQ_OK
                : lq_fail(LQ_E_FORMAT, "%s: the hub names no commit of %s", repo->id,
                          repo->revision);
}

/* One member of the listing; folders and what no digest proves are left out. */
static lq_status read_file_entry(const lq_json *node, const char *where, lq_arena *arena,
                                 lq_hub_file *out, bool *is_file)
{
    const lq_json *lfs = lq_json_get(node, "lfs");
    const char *type = lq_json_string(lq_json_get(node, "type")),
               *path = lq_json_string(lq_json_get(node, "path")),
               *git = lq_json_string(lq_json_get(node, "oid")),
               *sha256 = lq_json_string(lq_json_get(lfs, "oid"));
    size_t bytes;
    *is_file = type != NULL && strcmp(type, "file") == 0;
    if (!*is_file)
        return LQ_OK;
    LQ_TRY(lq_json_size(lfs ? lfs : node, where, "size", 0, (size_t)1 << 46, SIZE_MAX, &bytes));
    if (path == NULL || bytes == SIZE_MAX || !is_hex(lfs ? sha256 : git, lfs ? 64 : 40))
        return lq_fail(LQ_E_FORMAT, "%s: the hub's listing lacks a path, a size or a digest",
                       where);
    *out = (lq_hub_file){.path = lq_arena_printf(arena, "%s", path), .bytes = bytes};
    if (lfs != NULL)
        out->sha256 = lq_arena_printf(arena, "%s", sha256);
    else
        out->git = lq_arena_printf(arena, "%s", git);
    return LQ_OK;
}

static lq_status add_page(const lq_json *page, const char *where, lq_arena *arena,
                          lq_hub_listing *out)
{
    if (lq_json_type(page) != LQ_JSON_ARRAY)
        return lq_fail(LQ_E_FORMAT, "%s: the hub's listing is no list", where);
    lq_hub_file *all;
    LQ_TRY(lq_arena_new(arena, &all, out->n + lq_json_count(page) + 1));
    if (out->n > 0)
        memcpy(all, out->file, out->n * sizeof *all);
    out->file = all;
    for (const lq_json *node = lq_json_first(page); node != NULL; node = lq_json_next(node)) {
        bool is_file;
        LQ_TRY(read_file_entry(node, where, arena, &all[out->n], &is_file));
        out->n += is_file;
    }
    return LQ_OK;
}

lq_status lq_hub_list(const lq_hub_repo *repo, const lq_fetch_pace *pace, lq_arena *arena,
                      lq_hub_listing *out)
{
    lq_json *page;
    lq_reply reply;
    *out = (lq_hub_listing){0};
    if (!good_id(repo->id))
        return lq_fail(LQ_E_OPTION, "%.100s: no name of a repository, as owner/name", repo->id);
    LQ_TRY(refuse_offline(repo->id));
    LQ_TRY(find_commit(repo, pace, arena, &out->commit));
    const char *url = lq_arena_printf(arena, "%s/api/%s/%s/tree/%s?recursive=true", endpoint(arena),
                                      repo->dataset ? "datasets" : "models", repo->id, out->commit);
    for (size_t i = 0; url != NULL; i++) {
        if (i == PAGES)
            return lq_fail(LQ_E_FORMAT, "%s: the hub's listing has no end", repo->id);
        LQ_TRY(ask(url, repo, pace, arena, &page, &reply));
        const lq_status status = add_page(page, repo->id, arena, out);
        lq_json_free(page);
        LQ_TRY(status);
        if (reply.next[0] == '\0')
            break;
        LQ_TRY(lq_fetch_resolve(url, reply.next, arena, &url));
    }
    return LQ_OK;
}

lq_status lq_hub_fetch(const lq_hub_repo *repo, const lq_hub_listing *listing,
                       const lq_hub_file *file, const char *sha256, const lq_fetch_pace *pace,
                       const char *path)
{
    lq_arena arena = {0};
    lq_reply reply;
    if (sha256 != NULL && file->sha256 != NULL && strcmp(sha256, file->sha256) != 0)
        return lq_fail(LQ_E_FORMAT, "%s: %s is not the file it was: its sha256 is %s, not %s",
                       repo->id, file->path, file->sha256, sha256);
    const lq_fetch want = {.what = lq_path_base(path),
                           .url = lq_arena_printf(&arena, "%s/%s%s/resolve/%s/%s", endpoint(&arena),
                                                  repo->dataset ? "datasets/" : "", repo->id,
                                                  listing->commit,
                                                  lq_fetch_escape(file->path, &arena)),
                           .token = token(&arena),
                           .bytes = file->bytes,
                           .sha256 = sha256 ? sha256 : file->sha256,
                           .git = file->git,
                           .pace = pace};
    const lq_status status = advise(lq_fetch_file(&want, path, &reply), &reply, repo->id);
    lq_arena_close(&arena);
    return status;
}

/* HUB/models--OWNER--NAME/snapshots/COMMIT; refs/REVISION holds the commit of a branch or tag. */
const char *lq_hub_cached(const lq_hub_repo *repo, lq_arena *arena)
{
    const char *hub = environment("HF_HUB_CACHE"), *dir = home(arena), *commit = repo->revision;
    char *text;
    size_t n;
    if (hub == NULL)
        hub = environment("HUGGINGFACE_HUB_CACHE");
    if (hub == NULL && dir != NULL)
        hub = lq_arena_printf(arena, "%s/hub", dir);
    if (hub == NULL || !good_id(repo->id) || strstr(repo->revision, "..") != NULL)
        return NULL;
    const char *slash = strchr(repo->id, '/');
    const char *base =
        lq_arena_printf(arena, "%s/%s--%.*s--%s", hub, repo->dataset ? "datasets" : "models",
                        (int)(slash - repo->id), repo->id, slash + 1);
    if (!is_hex(commit, 40)) {
        const char *ref = lq_arena_printf(arena, "%s/refs/%s", base, commit);
        if (!lq_path_exists(ref) || lq_file_read(ref, arena, &text, &n) != LQ_OK)
            return NULL;
        text[strcspn(text, " \r\n")] = '\0';
        commit = text;
    }
    const char *snapshot = lq_arena_printf(arena, "%s/snapshots/%s", base, commit);
    return is_hex(commit, 40) && lq_path_is_dir(snapshot) ? snapshot : NULL;
}
