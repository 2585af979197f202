/* The container: header, metadata, tensor list. */
#include "core/data/gguf.h"

#include "core/data/safetensors_header.h"

#include <stdio.h>
#include <string.h>

enum {
    DEFAULT_ALIGNMENT = 32,
    MAX_NAME = 63, /* the reference keeps a name in 64 bytes */
    MAX_RANK = 4,
    /* The fewest bytes that one entry takes: what a count promises must fit the file. */
    VALUE_BYTES = 8 + 1 + 4 + 1,
    TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8
};

static const size_t value_bytes[LQ_GGUF_N_TYPES] = {
    [LQ_GGUF_U8] = 1,  [LQ_GGUF_I8] = 1,  [LQ_GGUF_U16] = 2, [LQ_GGUF_I16] = 2,
    [LQ_GGUF_U32] = 4, [LQ_GGUF_I32] = 4, [LQ_GGUF_F32] = 4, [LQ_GGUF_BOOL] = 1,
    [LQ_GGUF_U64] = 8, [LQ_GGUF_I64] = 8, [LQ_GGUF_F64] = 8};

/* Reads forward through the map; what is promised past the end is an error. */
typedef struct cursor {
    const char *path;
    const uint8_t *data;
    size_t at, bytes;
    lq_arena *arena;
} cursor;

static lq_status need(const cursor *c, uint64_t n, const char *what)
{
    if (n > c->bytes - c->at)
        return lq_fail(LQ_E_FORMAT, "%s: %s needs %llu bytes at %zu, %zu are left", c->path, what,
                       (unsigned long long)n, c->at, c->bytes - c->at);
    return LQ_OK;
}

static uint64_t little_endian(const uint8_t *data, size_t n)
{
    uint64_t x = 0;
    while (n-- > 0)
        x = x << 8 | data[n];
    return x;
}

static lq_status take_u32(cursor *c, const char *what, uint32_t *out)
{
    LQ_TRY(need(c, 4, what));
    *out = (uint32_t)little_endian(c->data + c->at, 4);
    c->at += 4;
    return LQ_OK;
}

static lq_status take_u64(cursor *c, const char *what, uint64_t *out)
{
    LQ_TRY(need(c, 8, what));
    *out = little_endian(c->data + c->at, 8);
    c->at += 8;
    return LQ_OK;
}

static lq_status skip_string(cursor *c, const char *what)
{
    uint64_t n;
    LQ_TRY(take_u64(c, what, &n));
    LQ_TRY(need(c, n, what));
    c->at += (size_t)n;
    return LQ_OK;
}

/* A name: not empty, no NUL inside. In the arena with a NUL after it. */
static lq_status take_name(cursor *c, const char *what, size_t longest, const char **out)
{
    uint64_t n;
    char *copy;
    LQ_TRY(take_u64(c, what, &n));
    LQ_TRY(need(c, n, what));
    if (n == 0 || n > longest || memchr(c->data + c->at, '\0', (size_t)n))
        return lq_fail(LQ_E_FORMAT, "%s: %s at %zu of %llu bytes is %s", c->path, what, c->at,
                       (unsigned long long)n,
                       n == 0        ? "empty"
                       : n > longest ? "too long"
                                     : "broken by a NUL");
    LQ_TRY(lq_arena_new(c->arena, &copy, (size_t)n + 1));
    memcpy(copy, c->data + c->at, (size_t)n);
    c->at += (size_t)n;
    *out = copy;
    return LQ_OK;
}

/* ---- Metadata ---------------------------------------------------------------------------------- */

static lq_status bad_type(const cursor *c, const lq_gguf_value *v, uint32_t type)
{
    return lq_fail(LQ_E_FORMAT, "%s: %.200s: %s %lu", c->path, v->key,
                   type == LQ_GGUF_ARRAY ? "arrays of arrays are not read: element type"
                                         : "unknown type of value",
                   (unsigned long)type);
}

/* Steps over n strings, or n numbers of one type. */
static lq_status skip_elements(cursor *c, const lq_gguf_value *v)
{
    uint64_t bytes;
    if (v->type == LQ_GGUF_STRING) {
        LQ_TRY(need(c, (uint64_t)v->n > UINT64_MAX / 8 ? UINT64_MAX : 8 * (uint64_t)v->n, v->key));
        for (size_t i = 0; i < v->n; i++)
            LQ_TRY(skip_string(c, v->key));
        return LQ_OK;
    }
    if (__builtin_mul_overflow((uint64_t)v->n, (uint64_t)value_bytes[v->type], &bytes))
        bytes = UINT64_MAX;
    LQ_TRY(need(c, bytes, v->key));
    for (size_t i = 0; v->type == LQ_GGUF_BOOL && i < v->n; i++)
        if (c->data[c->at + i] > 1)
            return lq_fail(LQ_E_FORMAT, "%s: %.200s: a bool of %u", c->path, v->key,
                           c->data[c->at + i]);
    c->at += (size_t)bytes;
    return LQ_OK;
}

static lq_status take_value(cursor *c, lq_gguf_value *v)
{
    uint32_t type;
    LQ_TRY(take_name(c, "a key", 65535, &v->key)); /* the longest that the format allows */
    LQ_TRY(take_u32(c, v->key, &type));
    v->n = 1;
    v->is_array = type == LQ_GGUF_ARRAY;
    if (v->is_array) {
        uint64_t n;
        LQ_TRY(take_u32(c, v->key, &type));
        LQ_TRY(take_u64(c, v->key, &n));
        LQ_TRY(need(c, n, v->key)); /* no element takes less than a byte */
        v->n = (size_t)n;
    }
    if (type >= LQ_GGUF_N_TYPES || type == LQ_GGUF_ARRAY)
        return bad_type(c, v, type);
    v->type = (lq_gguf_type)type;
    v->data = c->data + c->at;
    return skip_elements(c, v);
}

static lq_status take_values(cursor *c, uint64_t n, lq_gguf *out)
{
    LQ_TRY(need(c, n > UINT64_MAX / VALUE_BYTES ? UINT64_MAX : n * VALUE_BYTES, "the metadata"));
    LQ_TRY(lq_arena_new(c->arena, &out->value, (size_t)n));
    for (size_t i = 0; i < (size_t)n; i++)
        LQ_TRY(take_value(c, &out->value[i]));
    out->n_values = (size_t)n;
    return LQ_OK;
}

/* ---- Tensors ----------------------------------------------------------------------------------- */

static lq_status bad_tensor(const cursor *c, const lq_gguf_tensor *t, const char *what)
{
    return lq_fail(LQ_E_FORMAT, "%s: tensor %s %s", c->path, t->name, what);
}

static lq_status unknown_type(const cursor *c, const lq_gguf_tensor *t)
{
    const char *name = lq_gguf_type_name(t->type);
    if (name == NULL)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %s has the unknown type %lu", c->path, t->name,
                       (unsigned long)t->type);
    return lq_fail(LQ_E_UNAVAILABLE,
                   "%s: tensor %s is of type %s, which this program does not compute; convert the "
                   "model to another type, say Q8_0",
                   c->path, t->name, name);
}

static lq_status take_tensor(cursor *c, lq_gguf_tensor *t, uint64_t *offset)
{
    uint32_t rank;
    size_t block, block_bytes, elements;
    LQ_TRY(take_name(c, "the name of a tensor", MAX_NAME, &t->name));
    LQ_TRY(take_u32(c, t->name, &rank));
    if (rank < 1 || rank > MAX_RANK)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %s has %lu dimensions, not 1 to 4", c->path,
                       t->name, (unsigned long)rank);
    t->rank = rank;
    t->rows = 1;
    for (uint32_t i = 0; i < rank; i++) {
        uint64_t dim;
        LQ_TRY(take_u64(c, t->name, &dim));
        if (dim == 0)
            return bad_tensor(c, t, "has a dimension of zero");
        if (i == 0)
            t->cols = (size_t)dim;
        else if (__builtin_mul_overflow(t->rows, (size_t)dim, &t->rows))
            return bad_tensor(c, t, "has more elements than can be counted");
    }
    LQ_TRY(take_u32(c, t->name, &t->type));
    LQ_TRY(take_u64(c, t->name, offset));
    if (!lq_gguf_type_known(t->type, &block, &block_bytes))
        return unknown_type(c, t);
    if (t->cols % block != 0)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %s has rows of %zu, no multiple of %zu as %s asks",
                       c->path, t->name, t->cols, block, lq_gguf_type_name(t->type));
    if (__builtin_mul_overflow(t->rows, t->cols, &elements) ||
        __builtin_mul_overflow(elements / block, block_bytes, &t->bytes))
        return bad_tensor(c, t, "has more elements than can be counted");
    return LQ_OK;
}

/* The data of the tensors lie in the order of the list, each at the next multiple of the alignment: nothing
 * overlaps, nothing is left out. */
static lq_status place_tensors(cursor *c, lq_gguf *out, const uint64_t *offset)
{
    const size_t mask = out->alignment - 1;
    size_t start = c->at, at = 0;
    if (out->n_tensors == 0)
        return LQ_OK;
    start += -start & mask;
    if (start > c->bytes)
        return lq_fail(LQ_E_FORMAT, "%s: the file ends before its tensors", c->path);
    for (size_t i = 0; i < out->n_tensors; i++) {
        lq_gguf_tensor *t = &out->tensor[i];
        if (offset[i] != at)
            return lq_fail(LQ_E_FORMAT, "%s: tensor %s lies at %llu, not at %zu after the last",
                           c->path, t->name, (unsigned long long)offset[i], at);
        if (at > c->bytes - start || t->bytes > c->bytes - start - at)
            return bad_tensor(c, t, "ends past the file; fetch it again");
        t->data = c->data + start + at;
        at += t->bytes; /* no overflow: both lie within the file, and the alignment is checked */
        at += -at & mask;
    }
    return LQ_OK;
}

static lq_status refuse_duplicates(const cursor *c, const lq_gguf *file)
{
    const lq_mark mark = lq_arena_mark(c->arena);
    const size_t n = file->n_values > file->n_tensors ? file->n_values : file->n_tensors;
    const char **list;
    LQ_TRY(lq_arena_new(c->arena, &list, n));
    for (size_t i = 0; i < file->n_values; i++)
        list[i] = file->value[i].key;
    const char *twice = lq_first_duplicate(list, file->n_values);
    for (size_t i = 0; twice == NULL && i < file->n_tensors; i++)
        list[i] = file->tensor[i].name;
    if (twice == NULL)
        twice = lq_first_duplicate(list, file->n_tensors);
    lq_arena_release(c->arena, mark);
    return twice ? lq_fail(LQ_E_FORMAT, "%s: %.200s stands twice", c->path, twice) : LQ_OK;
}

static lq_status take_tensors(cursor *c, uint64_t n, lq_gguf *out)
{
    uint64_t *offset;
    LQ_TRY(need(c, n > UINT64_MAX / TENSOR_BYTES ? UINT64_MAX : n * TENSOR_BYTES,
                "the list of tensors"));
    LQ_TRY(lq_arena_new(c->arena, &out->tensor, (size_t)n));
    LQ_TRY(lq_arena_new(c->arena, &offset, (size_t)n));
    for (size_t i = 0; i < (size_t)n; i++)
        LQ_TRY(take_tensor(c, &out->tensor[i], &offset[i]));
    out->n_tensors = (size_t)n;
    return place_tensors(c, out, offset);
}

/* ---- The file ---------------------------------------------------------------------------------- */

static lq_status read_alignment(lq_gguf *out)
{
    const lq_gguf_value *v = lq_gguf_find(out, "general.alignment");
    out->alignment = DEFAULT_ALIGNMENT;
    if (v == NULL)
        return LQ_OK;
    const size_t value = v->type == LQ_GGUF_U32 && !v->is_array ? little_endian(v->data, 4) : 0;
    if (value == 0 || (value & (value - 1)) != 0)
        return lq_fail(LQ_E_FORMAT, "%s: general.alignment is no power of two of type U32",
                       out->path);
    out->alignment = value;
    return LQ_OK;
}

static lq_status read_all(cursor *c, lq_gguf *out)
{
    uint64_t n_tensors, n_values;
    if (c->bytes < 4 || memcmp(c->data, "GGUF", 4) != 0)
        return lq_fail(LQ_E_FORMAT, "%s: no GGUF file: it does not begin with GGUF", c->path);
    c->at = 4;
    LQ_TRY(take_u32(c, "the version", &out->version));
    if (out->version != 2 && out->version != 3)
        return lq_fail(LQ_E_FORMAT, "%s: GGUF %s; versions 2 and 3 are read", c->path,
                       out->version != 0 && (out->version & 0xffff) == 0 ? "of big-endian numbers"
                                                                         : "of an unknown version");
    LQ_TRY(take_u64(c, "the count of tensors", &n_tensors));
    LQ_TRY(take_u64(c, "the count of values", &n_values));
    out->values_at = c->at;
    LQ_TRY(take_values(c, n_values, out));
    out->values_end = c->at;
    LQ_TRY(read_alignment(out));
    LQ_TRY(take_tensors(c, n_tensors, out));
    return refuse_duplicates(c, out);
}

lq_status lq_gguf_open(const char *path, lq_arena *arena, lq_gguf *out)
{
    lq_gguf file = {0};
    *out = file;
    LQ_TRY(lq_file_map(path, &file.map));
    const lq_mark mark = lq_arena_mark(arena);
    char *own_path;
    lq_status status = lq_arena_new(arena, &own_path, strlen(path) + 1);
    if (status == LQ_OK) {
        memcpy(own_path, path, strlen(path));
        file.path = own_path;
        cursor c = {own_path, file.map.data, 0, file.map.bytes, arena};
        status = read_all(&c, &file);
    }
    if (status != LQ_OK) {
        lq_file_unmap(&file.map);
        lq_arena_release(arena, mark);
        return status;
    }
    *out = file;
    return LQ_OK;
}

static void put_little_endian(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

lq_status lq_gguf_write_values(const lq_gguf *file, const char *path)
{
    uint8_t head[24] = "GGUF";
    lq_file *out;
    put_little_endian(head + 4, file->version, 4);
    put_little_endian(head + 8, 0, 8);
    put_little_endian(head + 16, file->n_values, 8);
    LQ_TRY(lq_file_create(path, &out));
    lq_status status = lq_file_write(out, head, sizeof head);
    if (status == LQ_OK)
        status = lq_file_write(out, file->map.data + file->values_at,
                               file->values_end - file->values_at);
    if (status == LQ_OK)
        return lq_file_commit(out);
    lq_file_abandon(out);
    return status;
}

void lq_gguf_close(lq_gguf *file)
{
    lq_file_unmap(&file->map);
    *file = (lq_gguf){0};
}

bool lq_gguf_is_one(const char *path)
{
    char magic[4];
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return false;
    const bool yes = fread(magic, 1, sizeof magic, f) == 4 && memcmp(magic, "GGUF", 4) == 0;
    fclose(f);
    return yes;
}

const lq_gguf_value *lq_gguf_find(const lq_gguf *file, const char *key)
{
    for (size_t i = 0; i < file->n_values; i++)
        if (strcmp(file->value[i].key, key) == 0)
            return &file->value[i];
    return NULL;
}

const lq_gguf_tensor *lq_gguf_tensor_find(const lq_gguf *file, const char *name)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        if (strcmp(file->tensor[i].name, name) == 0)
            return &file->tensor[i];
    return NULL;
}
