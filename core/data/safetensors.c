#include "core/data/safetensors.h"

#include "core/data/safetensors_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By place in the buffer. Empty tensors share places with their neighbours: the name decides. */
static int by_offset(const void *a, const void *b)
{
    const lq_header_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->tensor.name, y->tensor.name);
}

/* The tensors tile the buffer: no gap where something could hide, no byte that is two tensors'. */
static lq_status check_tiling(const lq_header *h, size_t buffer_bytes, const char *path)
{
    size_t at = 0;
    for (size_t i = 0; i < h->n_entries; i++) {
        const lq_header_entry *e = &h->entry[i];
        if (e->begin != at)
            return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s begins at %zu, %s", path, e->tensor.name,
                           e->begin, e->begin < at ? "inside another one" : "after a gap");
        if (e->end > buffer_bytes)
            return lq_fail(LQ_E_FORMAT, "%s: tensor %.200s ends past the file; fetch it again",
                           path, e->tensor.name);
        at = e->end;
    }
    if (at != buffer_bytes)
        return lq_fail(LQ_E_FORMAT, "%s: %zu bytes after the last tensor", path, buffer_bytes - at);
    return LQ_OK;
}

static lq_status read_header(const char *path, const lq_map *map, lq_arena *arena,
                             lq_safetensors *out)
{
    if (map->bytes < LQ_SAFETENSORS_PREFIX)
        return lq_fail(LQ_E_FORMAT, "%s: %zu bytes are too few for a safetensors file", path,
                       map->bytes);
    uint64_t n = 0;
    for (size_t i = LQ_SAFETENSORS_PREFIX; i-- > 0;)
        n = n << 8 | map->data[i];
    if (n > LQ_SAFETENSORS_MAX_HEADER || n > map->bytes - LQ_SAFETENSORS_PREFIX)
        return lq_fail(LQ_E_FORMAT, "%s: a header of %llu bytes is promised, %zu follow%s", path,
                       (unsigned long long)n, map->bytes - LQ_SAFETENSORS_PREFIX,
                       n > LQ_SAFETENSORS_MAX_HEADER ? ", and 100000000 is the limit" : "");
    lq_header h;
    LQ_TRY(lq_safetensors_parse_header((const char *)map->data + LQ_SAFETENSORS_PREFIX, (size_t)n,
                                       path, arena, &h));
    if (h.n_entries > 1)
        qsort(h.entry, h.n_entries, sizeof *h.entry, by_offset);
    const uint8_t *buffer = map->data + LQ_SAFETENSORS_PREFIX + n;
    LQ_TRY(check_tiling(&h, map->bytes - LQ_SAFETENSORS_PREFIX - (size_t)n, path));
    LQ_TRY(lq_arena_new(arena, &out->tensor, h.n_entries));
    for (size_t i = 0; i < h.n_entries; i++) {
        out->tensor[i] = h.entry[i].tensor;
        out->tensor[i].data = buffer + h.entry[i].begin;
    }
    out->n_tensors = h.n_entries;
    out->n_metadata = h.n_metadata;
    out->metadata_key = h.metadata_key;
    out->metadata_value = h.metadata_value;
    return LQ_OK;
}

lq_status lq_safetensors_open(const char *path, lq_arena *arena, lq_safetensors *out)
{
    *out = (lq_safetensors){0};
    lq_safetensors file = {0};
    LQ_TRY(lq_file_map(path, &file.map));
    lq_mark mark = lq_arena_mark(arena);
    char *own_path = NULL;
    lq_status status = lq_arena_new(arena, &own_path, strlen(path) + 1);
    if (status == LQ_OK) {
        memcpy(own_path, path, strlen(path));
        file.path = own_path;
        status = read_header(path, &file.map, arena, &file);
    }
    if (status != LQ_OK) {
        lq_file_unmap(&file.map);
        lq_arena_release(arena, mark);
        return status;
    }
    *out = file;
    return LQ_OK;
}

void lq_safetensors_close(lq_safetensors *file)
{
    lq_file_unmap(&file->map);
    *file = (lq_safetensors){0};
}

const lq_tensor *lq_safetensors_find(const lq_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        if (strcmp(file->tensor[i].name, name) == 0)
            return &file->tensor[i];
    return NULL;
}

const char *lq_safetensors_metadata(const lq_safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->n_metadata; i++)
        if (strcmp(file->metadata_key[i], key) == 0)
            return file->metadata_value[i];
    return NULL;
}

/* "[8,64]" */
static void shape_text(size_t rank, const size_t *shape, char *text, size_t room)
{
    size_t used = 0;
    for (size_t i = 0; i < rank && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%c%zu", i ? ',' : '[', shape[i]);
    if (used < room)
        snprintf(text + used, room - used, rank ? "]" : "[]");
}

lq_status lq_safetensors_f32(const lq_safetensors *file, const char *name, size_t rank,
                             const size_t *shape, lq_arena *arena, float **out)
{
    const lq_tensor *t = lq_safetensors_find(file, name);
    if (!t)
        return lq_fail(LQ_E_MISSING, "%s: there is no tensor %s", file->path, name);
    bool same = t->rank == rank;
    for (size_t i = 0; same && i < rank; i++)
        same = t->shape[i] == shape[i];
    if (!same) {
        char got[192], want[192];
        shape_text(t->rank, t->shape, got, sizeof got);
        shape_text(rank, shape, want, sizeof want);
        return lq_fail(LQ_E_SHAPE, "%s: tensor %s has shape %s, expected %s", file->path, name, got,
                       want);
    }
    lq_mark mark = lq_arena_mark(arena);
    LQ_TRY(lq_arena_new(arena, out, t->elements));
    lq_status status = lq_tensor_to_f32(t, *out);
    if (status != LQ_OK) {
        lq_arena_release(arena, mark);
        *out = NULL;
    }
    return status;
}
