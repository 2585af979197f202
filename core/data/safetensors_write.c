#include "core/base/json.h"
#include "core/data/safetensors_header.h"

#include <stdlib.h>
#include <string.h>

static int by_alignment_then_name(const void *a, const void *b)
{
    const lq_tensor *x = a, *y = b;
    size_t x_bytes = lq_dtype_bytes(x->dtype), y_bytes = lq_dtype_bytes(y->dtype);
    if (x_bytes != y_bytes)
        return x_bytes > y_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The header's text while it grows: two passes over the same code, the first only counts. */
typedef struct sink {
    char *to; /* NULL while counting */
    size_t n;
} sink;

static void put(sink *s, const char *text, size_t n)
{
    if (s->to)
        memcpy(s->to + s->n, text, n);
    s->n += n;
}

static void put_text(sink *s, const char *text) { put(s, text, strlen(text)); }

static void put_size(sink *s, size_t value)
{
    char digits[24], *at = digits + sizeof digits;
    do
        *--at = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    put(s, at, (size_t)(digits + sizeof digits - at));
}

static void put_string(sink *s, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    put(s, "\"", 1);
    for (const char *c = text; *c; c++) {
        unsigned byte = (unsigned char)*c;
        char escape[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
        if (byte < 0x20)
            put(s, escape, sizeof escape);
        else if (byte == '"' || byte == '\\')
            put(s, (char[]){'\\', *c}, 2);
        else
            put(s, c, 1);
    }
    put(s, "\"", 1);
}

static void put_header(sink *s, const lq_tensor *tensor, size_t n, const char *const *metadata,
                       size_t n_metadata)
{
    size_t at = 0;
    put_text(s, "{");
    for (size_t i = 0; i < n_metadata; i++) {
        put_text(s, i ? "," : "\"" LQ_SAFETENSORS_METADATA "\":{");
        put_string(s, metadata[2 * i]);
        put_text(s, ":");
        put_string(s, metadata[2 * i + 1]);
    }
    put_text(s, n_metadata ? n ? "}," : "}" : "");
    for (size_t i = 0; i < n; i++) {
        const lq_tensor *t = &tensor[i];
        put_text(s, i ? "," : "");
        put_string(s, t->name);
        put_text(s, ":{\"dtype\":\"");
        put_text(s, lq_dtype_name(t->dtype));
        put_text(s, "\",\"shape\":[");
        for (size_t d = 0; d < t->rank; d++) {
            put_text(s, d ? "," : "");
            put_size(s, t->shape[d]);
        }
        put_text(s, "],\"data_offsets\":[");
        put_size(s, at);
        put_text(s, ",");
        put_size(s, at += t->bytes);
        put_text(s, "]}");
    }
    put_text(s, "}");
    while (s->n % LQ_SAFETENSORS_PREFIX != 0) /* so that the data is aligned to eight bytes */
        put_text(s, " ");
}

/* What we write, we must be able to read: the names and keys are checked by the reader's rules. */
static lq_status check(const char *path, const lq_tensor *tensor, size_t n,
                       const char *const *metadata, size_t n_metadata, lq_arena *scratch)
{
    const char **list;
    LQ_TRY(lq_arena_new(scratch, &list, n + 2 * n_metadata));
    for (size_t i = 0; i < n; i++)
        list[i] = tensor[i].name;
    for (size_t i = 0; i < 2 * n_metadata; i++)
        list[n + i] = metadata[i];
    for (size_t i = 0; i < n + 2 * n_metadata; i++)
        if (!lq_utf8_valid(list[i], strlen(list[i])) ||
            (i < n && (strlen(list[i]) > LQ_SAFETENSORS_MAX_NAME ||
                       strcmp(list[i], LQ_SAFETENSORS_METADATA) == 0)))
            return lq_fail(LQ_E_FORMAT, "%s: %.100s cannot be a name in a safetensors file", path,
                           list[i]);
    const char *twice = lq_first_duplicate(list, n);
    for (size_t i = 0; i < n_metadata; i++)
        list[i] = metadata[2 * i];
    if (!twice)
        twice = lq_first_duplicate(list, n_metadata);
    return twice ? lq_fail(LQ_E_FORMAT, "%s: two entries are called %.200s", path, twice) : LQ_OK;
}

struct lq_safetensors_stream {
    lq_file *file;
    const lq_tensor *tensor; /* (n) with `bytes` filled in */
    size_t n, done;
};

static lq_status put_prefix(lq_file *file, const sink *header)
{
    unsigned char length[LQ_SAFETENSORS_PREFIX];
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (unsigned char)(header->n >> 8 * i);
    LQ_TRY(lq_file_write(file, length, sizeof length));
    return lq_file_write(file, header->to, header->n);
}

/* The tensors of the list in its order, their sizes filled in. */
static lq_status open_with(const char *path, lq_tensor *tensor, size_t n,
                           const char *const *metadata, size_t n_metadata, lq_arena *arena,
                           lq_safetensors_stream **out)
{
    lq_safetensors_stream *stream;
    sink header = {0};
    LQ_TRY(check(path, tensor, n, metadata, n_metadata, arena));
    for (size_t i = 0; i < n; i++) {
        LQ_ASSERT(tensor[i].rank <= LQ_TENSOR_MAX_RANK);
        bool fits = lq_tensor_sizes(&tensor[i]); /* `elements` and `bytes` follow from the shape */
        LQ_ASSERT(fits);
    }
    put_header(&header, tensor, n, metadata, n_metadata);
    if (header.n > LQ_SAFETENSORS_MAX_HEADER)
        return lq_fail(LQ_E_FORMAT, "%s: a header of %zu bytes is over the format's limit", path,
                       header.n);
    LQ_TRY(lq_arena_new(arena, &header.to, header.n));
    header.n = 0;
    put_header(&header, tensor, n, metadata, n_metadata);
    LQ_TRY(lq_arena_new(arena, &stream, 1));
    *stream = (lq_safetensors_stream){.tensor = tensor, .n = n};
    LQ_TRY(lq_file_create(path, &stream->file));
    lq_status status = put_prefix(stream->file, &header);
    if (status != LQ_OK)
        lq_safetensors_stream_abandon(stream);
    *out = stream;
    return status;
}

lq_status lq_safetensors_stream_open(const char *path, const lq_tensor *tensor, size_t n,
                                     const char *const *metadata, size_t n_metadata,
                                     lq_arena *arena, lq_safetensors_stream **out)
{
    lq_tensor *list;
    LQ_TRY(lq_arena_new(arena, &list, n));
    if (n > 0)
        memcpy(list, tensor, n * sizeof *list);
    return open_with(path, list, n, metadata, n_metadata, arena, out);
}

lq_status lq_safetensors_stream_put(lq_safetensors_stream *stream, const void *data)
{
    LQ_ASSERT(stream->done < stream->n);
    const size_t bytes = stream->tensor[stream->done++].bytes;
    LQ_ASSERT(data || bytes == 0);
    return bytes > 0 ? lq_file_write(stream->file, data, bytes) : LQ_OK;
}

lq_status lq_safetensors_stream_close(lq_safetensors_stream *stream)
{
    LQ_ASSERT(stream->done == stream->n);
    return lq_file_commit(stream->file);
}

void lq_safetensors_stream_abandon(lq_safetensors_stream *stream) { lq_file_abandon(stream->file); }

static lq_status write_sorted(const char *path, const lq_tensor *tensor, size_t n,
                              const char *const *metadata, size_t n_metadata, lq_arena *scratch)
{
    lq_tensor *sorted;
    lq_safetensors_stream *stream;
    LQ_TRY(lq_arena_new(scratch, &sorted, n));
    if (n > 0)
        memcpy(sorted, tensor, n * sizeof *sorted);
    if (n > 1)
        qsort(sorted, n, sizeof *sorted, by_alignment_then_name);
    LQ_TRY(open_with(path, sorted, n, metadata, n_metadata, scratch, &stream));
    lq_status status = LQ_OK;
    for (size_t i = 0; i < n && status == LQ_OK; i++)
        status = lq_safetensors_stream_put(stream, sorted[i].data);
    if (status == LQ_OK)
        return lq_safetensors_stream_close(stream);
    lq_safetensors_stream_abandon(stream);
    return status;
}

lq_status lq_safetensors_write(const char *path, const lq_tensor *tensor, size_t n,
                               const char *const *metadata, size_t n_metadata)
{
    lq_arena scratch = {0};
    lq_status status = write_sorted(path, tensor, n, metadata, n_metadata, &scratch);
    lq_arena_close(&scratch);
    return status;
}
