/* The packed model on disk. Layout and versions: docs/formats.md. */
#include "core/base/file.h"
#include "core/base/sha256.h"
#include "core/data/safetensors.h"
#include "core/train/qmodel.h"

#include <string.h>

enum { FORMAT_VERSION = 2, OLDEST_VERSION = 1 }; /* 1 had no sha256 */

bool lq_artifact_is_one(const char *dir)
{
    lq_arena scratch = {0};
    const bool yes = lq_path_exists(lq_arena_printf(&scratch, "%s/quantization.json", dir));
    lq_arena_close(&scratch);
    return yes;
}

static lq_status write_json(lq_json *json, const char *path, lq_arena *scratch)
{
    const char *text = lq_json_pretty(json, scratch);
    lq_json_free(json);
    return lq_file_write_all(path, text, strlen(text));
}

static lq_json *describe(const lq_qmodel *q, const lq_digest *packed)
{
    lq_json *json = lq_json_object();
    lq_json_set_string(json, "format", "lcqat-packed");
    lq_json_set_number(json, "version", FORMAT_VERSION);
    lq_json_set_string(json, "sha256", packed->hex);
    lq_json_set_string(json, "method", q->method->name);
    lq_json_set(json, "options",
                lq_options_write(q->method->options, q->method->n_options, q->opts));
    return json;
}

/* The packed bytes of one linear, or the bf16 values of any other tensor. */
static lq_status tensor_bytes(const lq_qmodel *q, const lq_weight *w, lq_arena *arena,
                              lq_tensor *out)
{
    const size_t n = w->rows * w->cols;
    if (w->kind == LQ_WEIGHT_LINEAR) {
        lq_sink sink = {.arena = arena};
        LQ_TRY(q->method->pack(&q->theta[w->layer * LQ_N_LINEARS + w->id], &sink));
        *out = (lq_tensor){.dtype = LQ_DTYPE_U8, .rank = 1, .shape = {sink.bytes}};
        out->elements = out->bytes = sink.bytes;
        out->data = sink.data;
    } else {
        uint16_t *half;
        LQ_TRY(lq_arena_new(arena, &half, n));
        for (size_t i = 0; i < n; i++)
            half[i] = lq_f32_to_bf16(w->data[i]);
        *out = (lq_tensor){.dtype = LQ_DTYPE_BF16, .rank = 2, .shape = {w->rows, w->cols}};
        out->elements = n;
        out->bytes = 2 * n;
        out->data = half;
    }
    out->name = w->name;
    return LQ_OK;
}

static lq_status write_with(const lq_qmodel *q, const char *dir, lq_arena *arena)
{
    const char *packed = lq_arena_printf(arena, "%s/packed.safetensors", dir);
    lq_tensor *list;
    lq_digest digest;
    LQ_TRY(lq_path_make_dirs(dir));
    LQ_TRY(lq_arena_new(arena, &list, q->w.n_tensors));
    for (size_t i = 0; i < q->w.n_tensors; i++)
        LQ_TRY(tensor_bytes(q, &q->w.tensor[i], arena, &list[i]));
    LQ_TRY(lq_safetensors_write(packed, list, q->w.n_tensors, NULL, 0));
    LQ_TRY(lq_sha256_file(packed, &digest));
    LQ_TRY(write_json(lq_config_to_json(&q->w.config),
                      lq_arena_printf(arena, "%s/config.json", dir), arena));
    return write_json(describe(q, &digest), lq_arena_printf(arena, "%s/quantization.json", dir),
                      arena);
}

lq_status lq_artifact_write(const lq_qmodel *q, const char *dir)
{
    lq_arena arena = {0};
    lq_status status = write_with(q, dir, &arena);
    lq_arena_close(&arena);
    return status;
}

/* packed.safetensors is the file that was written with this quantization.json, byte for byte. */
static lq_status check_digest(const char *dir, const char *want, lq_arena *arena)
{
    const char *packed = lq_arena_printf(arena, "%s/packed.safetensors", dir);
    lq_digest got;
    LQ_TRY(lq_sha256_file(packed, &got));
    if (strcmp(got.hex, want) == 0)
        return LQ_OK;
    return lq_fail(LQ_E_FORMAT,
                   "%s: its SHA-256 is %.16s, quantization.json says %.16s: damaged, or of another "
                   "model; copy it again",
                   packed, got.hex, want);
}

static lq_status read_digest(const lq_json *json, const char *path, const char *dir, size_t version,
                             lq_arena *arena)
{
    const char *want;
    if (version == 0)
        return lq_fail(LQ_E_FORMAT, "%s: version is missing", path);
    if (version == OLDEST_VERSION)
        return LQ_OK;
    LQ_TRY(lq_json_text(json, path, "sha256", NULL, &want));
    return check_digest(dir, want, arena);
}

static lq_status read_method(const char *dir, lq_method_lookup find, lq_arena *arena,
                             const lq_method **method, void **opts)
{
    const char *path = lq_arena_printf(arena, "%s/quantization.json", dir);
    lq_json *json;
    const char *format, *name;
    size_t version;
    LQ_TRY(lq_json_read(path, &json));
    lq_status status =
        lq_json_only_keys(json, path, "format", "version", "sha256", "method", "options", NULL);
    if (status == LQ_OK)
        status = lq_json_text(json, path, "format", NULL, &format);
    if (status == LQ_OK && strcmp(format, "lcqat-packed") != 0)
        status = lq_fail(LQ_E_FORMAT, "%s: format '%s' is not lcqat-packed", path, format);
    if (status == LQ_OK)
        status = lq_json_size(json, path, "version", OLDEST_VERSION, FORMAT_VERSION, 0, &version);
    if (status == LQ_OK)
        status = read_digest(json, path, dir, version, arena);
    if (status == LQ_OK)
        status = lq_json_text(json, path, "method", NULL, &name);
    if (status == LQ_OK)
        status = find(name, method);
    if (status == LQ_OK)
        status = lq_method_options(*method, lq_json_get(json, "options"), path, arena, opts);
    lq_json_free(json);
    return status;
}

static lq_status read_tensor(lq_qmodel *q, const lq_weight *w, const lq_safetensors *file,
                             lq_packed_size *size)
{
    const lq_tensor *t = lq_safetensors_find(file, w->name);
    if (t == NULL)
        return lq_fail(LQ_E_MISSING, "%s: tensor %s is missing", file->path, w->name);
    if (w->kind != LQ_WEIGHT_LINEAR) {
        if (t->elements != w->rows * w->cols)
            return lq_fail(LQ_E_SHAPE, "%s: tensor %s is not (%zu,%zu)", file->path, w->name,
                           w->rows, w->cols);
        return lq_tensor_to_f32(t, w->data);
    }
    if (t->dtype != LQ_DTYPE_U8)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %s is not packed bytes", file->path, w->name);
    lq_source source = {.data = t->data, .bytes = t->bytes, .where = w->name};
    LQ_TRY(q->method->unpack(&q->theta[w->layer * LQ_N_LINEARS + w->id], &source));
    LQ_TRY(lq_source_end(&source));
    size->linear_bytes += t->bytes;
    size->linear_weights += w->rows * w->cols;
    return LQ_OK;
}

static lq_status fill(lq_qmodel *q, const lq_safetensors *file, lq_packed_size *size)
{
    memset(size, 0, sizeof *size);
    for (size_t i = 0; i < q->w.n_tensors; i++)
        LQ_TRY(read_tensor(q, &q->w.tensor[i], file, size));
    const double bits = 8.0 * (double)size->linear_bytes;
    const double rest = 16.0 * (double)(q->w.n - size->linear_weights);
    size->bits_per_weight = bits / (double)size->linear_weights;
    size->bits_per_weight_model = (bits + rest) / (double)q->w.n;
    lq_qmodel_refresh(q);
    return LQ_OK;
}

lq_status lq_artifact_read(const char *dir, lq_method_lookup find, lq_arena *arena, lq_qmodel *out,
                           lq_packed_size *size)
{
    const lq_method *method;
    void *opts;
    lq_config config;
    lq_weights empty;
    LQ_TRY(lq_config_read(lq_arena_printf(arena, "%s/config.json", dir), arena, &config));
    LQ_TRY(read_method(dir, find, arena, &method, &opts));
    LQ_TRY(lq_weights_new(&config, arena, &empty));
    LQ_TRY(lq_qmodel_new(&empty, method, opts, arena, out));
    lq_safetensors file;
    LQ_TRY(lq_safetensors_open(lq_arena_printf(arena, "%s/packed.safetensors", dir), arena, &file));
    lq_status status = fill(out, &file, size);
    lq_safetensors_close(&file);
    return status;
}
