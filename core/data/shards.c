#include "core/data/shards.h"

#include "core/base/json.h"
#include "core/data/safetensors_header.h"

#include <stdlib.h>
#include <string.h>

#define INDEX "model.safetensors.index.json"

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A plain name beside the index, nothing that leads elsewhere. */
static bool is_plain(const char *name)
{
    static const char end[] = ".safetensors";
    const size_t n = strlen(name), n_end = sizeof end - 1;
    return n > n_end && name[0] != '.' && strchr(name, '/') == NULL &&
           strcmp(name + n - n_end, end) == 0;
}

/* The files that weight_map names, each once, sorted, in the arena; their count in n. */
static lq_status list_files(const lq_json *map, const char *index, lq_arena *arena,
                            const char ***files, size_t *n)
{
    size_t count = 0;
    if (map == NULL || lq_json_type(map) != LQ_JSON_OBJECT || lq_json_count(map) == 0)
        return lq_fail(LQ_E_FORMAT, "%s: no weight_map", index);
    LQ_TRY(lq_arena_new(arena, files, lq_json_count(map)));
    for (const lq_json *m = lq_json_first(map); m != NULL; m = lq_json_next(m)) {
        const char *name = lq_json_string(m);
        if (name == NULL || !is_plain(name))
            return lq_fail(LQ_E_FORMAT, "%s: %.200s lies in '%.200s', which is no shard's name",
                           index, lq_json_key(m), name ? name : "");
        (*files)[count++] = lq_arena_printf(arena, "%s", name);
    }
    qsort(*files, count, sizeof **files, by_bytes);
    *n = 0;
    for (size_t i = 0; i < count; i++)
        if (*n == 0 || strcmp((*files)[i], (*files)[*n - 1]) != 0)
            (*files)[(*n)++] = (*files)[i];
    return LQ_OK;
}

static lq_status read_index(const char *index, lq_arena *arena, lq_json **json, const char ***files,
                            size_t *n)
{
    LQ_TRY(lq_json_read(index, json));
    const lq_status status = list_files(lq_json_get(*json, "weight_map"), index, arena, files, n);
    if (status != LQ_OK) {
        lq_json_free(*json);
        *json = NULL;
    }
    return status;
}

/* Every tensor is in the shard that the map says, and in no other. */
static lq_status check_map(const lq_shards *s, const lq_json *map, const char *const *names,
                           lq_arena *scratch)
{
    size_t n = 0, at = 0;
    const char **list;
    for (size_t i = 0; i < s->n; i++)
        n += s->file[i].n_tensors;
    LQ_TRY(lq_arena_new(scratch, &list, n));
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = 0; j < s->file[i].n_tensors; j++)
            list[at++] = s->file[i].tensor[j].name;
    const char *twice = lq_first_duplicate(list, n); /* sorts the list */
    if (twice != NULL)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s is in two shards", s->path, twice);
    for (const lq_json *m = lq_json_first(map); m != NULL; m = lq_json_next(m)) {
        const char *name = lq_json_string(m);
        const char *const *at_name = bsearch(&name, names, s->n, sizeof *names, by_bytes);
        LQ_ASSERT(at_name != NULL);
        if (lq_safetensors_find(&s->file[at_name - names], lq_json_key(m)) == NULL)
            return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s is not in %s", s->path, lq_json_key(m),
                           name);
    }
    if (lq_json_count(map) != n)
        return lq_fail(LQ_E_FORMAT, "%s: lists %zu tensors, the shards hold %zu", s->path,
                       lq_json_count(map), n);
    return LQ_OK;
}

static lq_status open_all(const char *dir, const char *const *names, size_t n, lq_arena *arena,
                          lq_shards *out)
{
    LQ_TRY(lq_arena_new(arena, &out->file, n));
    for (; out->n < n; out->n++)
        LQ_TRY(lq_safetensors_open(lq_arena_printf(arena, "%s/%s", dir, names[out->n]), arena,
                                   &out->file[out->n]));
    return LQ_OK;
}

lq_status lq_shards_open(const char *dir, lq_arena *arena, lq_shards *out)
{
    static const char *const single[] = {"model.safetensors"};
    *out = (lq_shards){.path = lq_arena_printf(arena, "%s/%s", dir, single[0])};
    const char *index = lq_arena_printf(arena, "%s/" INDEX, dir);
    lq_json *json = NULL;
    lq_status status;
    if (lq_path_exists(out->path) || !lq_path_exists(index)) {
        status = open_all(dir, single, 1, arena, out);
    } else {
        const char **names;
        size_t n;
        out->path = index;
        LQ_TRY(read_index(index, arena, &json, &names, &n));
        status = open_all(dir, names, n, arena, out);
        if (status == LQ_OK)
            status = check_map(out, lq_json_get(json, "weight_map"), names, arena);
    }
    lq_json_free(json);
    if (status != LQ_OK)
        lq_shards_close(out);
    return status;
}

void lq_shards_close(lq_shards *shards)
{
    for (size_t i = 0; i < shards->n; i++)
        lq_safetensors_close(&shards->file[i]);
    shards->n = 0;
}

const lq_tensor *lq_shards_find(const lq_shards *shards, const char *name)
{
    for (size_t i = 0; i < shards->n; i++) {
        const lq_tensor *found = lq_safetensors_find(&shards->file[i], name);
        if (found != NULL)
            return found;
    }
    return NULL;
}

lq_status lq_shards_digest(const char *dir, lq_arena *scratch, lq_digest *out)
{
    const char *path = lq_arena_printf(scratch, "%s/model.safetensors", dir);
    const char *index = lq_arena_printf(scratch, "%s/" INDEX, dir), **names;
    lq_json *json;
    lq_sha256 *sum;
    size_t n;
    if (lq_path_exists(path) || !lq_path_exists(index))
        return lq_sha256_file(path, out);
    LQ_TRY(read_index(index, scratch, &json, &names, &n));
    lq_json_free(json);
    LQ_TRY(lq_sha256_open(&sum));
    lq_status status = LQ_OK;
    for (size_t i = 0; i < n && status == LQ_OK; i++) {
        status = lq_sha256_file(lq_arena_printf(scratch, "%s/%s", dir, names[i]), out);
        if (status == LQ_OK)
            lq_sha256_add(sum, out->byte, sizeof out->byte);
    }
    lq_sha256_close(sum, status == LQ_OK ? out : NULL);
    return status;
}
