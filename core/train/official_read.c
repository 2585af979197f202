#include "core/base/file.h"
#include "core/data/safetensors.h"
#include "core/quant/lcqat.h"
#include "core/train/official.h"
#include "core/train/official_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    lq_safetensors file;
    lq_qmodel *q;
    size_t levels;
    const char **known; /* names of tensors that were read, or may be passed over */
    size_t n_known, linear_bytes;
    lq_arena *arena;
} reader;

const char *lq_official_file(const char *dir, lq_arena *arena)
{
    static const char *const names[] = {"model.safetensors", "model.compressed.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        const char *path = lq_arena_printf(arena, "%s/%s", dir, names[i]);
        lq_safetensors file;
        if (!lq_path_exists(path) || lq_safetensors_open(path, arena, &file) != LQ_OK)
            continue;
        const bool yes = lq_safetensors_find(&file, "model.layers.0.self_attn.q_proj.SU") != NULL;
        lq_safetensors_close(&file);
        if (yes)
            return path;
    }
    return NULL;
}

/* ---- config.json ------------------------------------------------------------------------------- */

/* A number of levels that is said in bits: 1.5 (or 1.58) is three of them. */
static lq_status levels_of(const lq_json *json, const char *where, size_t *levels)
{
    const lq_json *ptq = lq_json_get(json, "quip_params");
    double bits;
    if (ptq != NULL)
        LQ_TRY(lq_json_real(ptq, where, "codebook_bit", 1, 4, 2, &bits));
    else
        LQ_TRY(lq_json_real(json, where, "vec_bit", 1, 4, 2, &bits));
    *levels = bits == 1.5 || bits == 1.58 ? 3 : lq_levels_of_bits(bits);
    if (*levels != 3 && *levels != 4 && *levels != 8)
        return lq_fail(LQ_E_OPTION, "%s: codes of %g bits; 1.5, 2 and 3 are known", where, bits);
    return LQ_OK;
}

/* `key` of object is absent or true. */
static lq_status must_be_true(const lq_json *object, const char *where, const char *key)
{
    const lq_json *node = lq_json_get(object, key);
    if (node == NULL || lq_json_true(node))
        return LQ_OK;
    return lq_fail(LQ_E_OPTION, "%s: %s is not true: full-dimension transforms are not read", where,
                   key);
}

static lq_status check_variant(const lq_json *json, const char *where)
{
    const char *type, *projection;
    LQ_TRY(lq_json_text(json, where, "model_type", "qwen3", &type));
    LQ_TRY(lq_json_text(json, where, "proj_type", "hadamard_identical", &projection));
    if (strncmp(type, "qwen3", 5) != 0)
        return lq_fail(LQ_E_OPTION, "%s: model_type '%s': LC-QAT checkpoints are Qwen3's", where,
                       type);
    if (strcmp(projection, "hadamard_identical") != 0)
        return lq_fail(LQ_E_OPTION, "%s: proj_type '%s'; only hadamard_identical is read", where,
                       projection);
    LQ_TRY(must_be_true(json, where, "block_hadamard"));
    return must_be_true(lq_json_get(json, "quip_params"), where, "blockwise_hadamard");
}

/* The shape of the Qwen3 model beneath. Its head is the embedding, whatever the file says: so the
 * released loader has it. */
static lq_status read_config(const lq_json *json, const char *where, lq_config *out)
{
    LQ_TRY(check_variant(json, where));
    lq_json *plain = lq_json_copy(json);
    if (plain == NULL)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory", where);
    lq_json_set_string(plain, "model_type", "qwen3");
    lq_json_set_bool(plain, "tie_word_embeddings", true);
    const lq_status status = lq_config_of_json(plain, where, out);
    lq_json_free(plain);
    return status;
}

/* ---- Tensors ----------------------------------------------------------------------------------- */

static const lq_tensor *find(reader *r, const char *name)
{
    const lq_tensor *t = lq_safetensors_find(&r->file, name);
    if (t != NULL)
        r->known[r->n_known++] = name;
    return t;
}

/* n finite floats of a tensor of this rank into out. */
static lq_status take(reader *r, const char *name, size_t rank, size_t n, float *out)
{
    const lq_tensor *t = find(r, name);
    if (t == NULL)
        return lq_fail(LQ_E_MISSING, "%s: tensor %s is missing", r->file.path, name);
    if (t->rank != rank || t->elements != n)
        return lq_fail(LQ_E_SHAPE, "%s: tensor %s has rank %zu and %zu values, not %zu and %zu",
                       r->file.path, name, t->rank, t->elements, rank, n);
    LQ_TRY(lq_tensor_to_f32(t, out));
    for (size_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return lq_fail(LQ_E_FORMAT, "%s: tensor %s: value %zu is not finite", r->file.path,
                           name, i);
    r->linear_bytes += t->bytes;
    return LQ_OK;
}

/* A scalar: of rank 0, or one value in a vector, as PyTorch saves either. */
static lq_status take_scalar(reader *r, const char *name, float *out)
{
    const lq_tensor *t = lq_safetensors_find(&r->file, name);
    return take(r, name, t != NULL && t->rank == 1 ? 1 : 0, 1, out);
}

static lq_status wrong_shape(const reader *r, const lq_tensor *t, const lq_weight *w)
{
    return lq_fail(LQ_E_SHAPE,
                   "%s: tensor %s does not hold (%zu,%zu) codes of %zu levels, as "
                   "config.json says",
                   r->file.path, t->name, w->rows, w->cols, r->levels);
}

static lq_status read_packed(reader *r, const lq_weight *w, const lq_tensor *t, float *u)
{
    const size_t n = w->rows * w->cols;
    if (t->rank != 2 || t->shape[0] != w->rows || r->levels == 8 ||
        t->bytes != lq_codes_bytes(w->rows, w->cols, r->levels))
        return wrong_shape(r, t, w);
    lq_source source = {.data = t->data, .bytes = t->bytes, .where = w->name};
    const lq_mark mark = lq_arena_mark(r->arena);
    uint8_t *code;
    LQ_TRY(lq_arena_new(r->arena, &code, n));
    LQ_TRY(lq_source_codes(&source, code, w->rows, w->cols, r->levels));
    for (size_t i = 0; i < n; i++)
        u[i] = (float)code[i];
    lq_arena_release(r->arena, mark);
    r->linear_bytes += t->bytes;
    return lq_source_end(&source);
}

/* The proxy of a trainable checkpoint: u = kappa P + mu. */
static lq_status read_proxy(reader *r, const lq_weight *w, float *u)
{
    const double mu = (double)(r->levels - 1) / 2;
    LQ_TRY(take(r, w->name, 2, w->rows * w->cols, u));
    lq_lcqat_u_of_proxy(u, u, w->rows * w->cols, lq_lcqat_kappa(w->rows, w->cols), mu);
    return LQ_OK;
}

/* Indices of words of four codes, the first code most significant: U8, or I16 where a byte is too
 * small. */
static lq_status read_indices(reader *r, const lq_weight *w, const lq_tensor *t, float *u)
{
    const size_t L = r->levels, words = L * L * L * L;
    const lq_dtype dtype = words > 256 ? LQ_DTYPE_I16 : LQ_DTYPE_U8;
    if (t->rank != 2 || t->shape[0] != w->rows || t->shape[1] * 4 != w->cols || t->dtype != dtype)
        return wrong_shape(r, t, w);
    for (size_t i = 0; i < t->elements; i++) {
        size_t index = ((const uint8_t *)t->data)[dtype == LQ_DTYPE_I16 ? 2 * i : i];
        if (dtype == LQ_DTYPE_I16)
            index |= (size_t)((const uint8_t *)t->data)[2 * i + 1] << 8;
        if (index >= words)
            return lq_fail(LQ_E_FORMAT, "%s: tensor %s: index %zu at %zu, there are %zu words",
                           r->file.path, t->name, index, i, words);
        for (size_t j = 4; j-- > 0; index /= L)
            u[4 * i + j] = (float)(index % L);
    }
    r->linear_bytes += t->bytes;
    return LQ_OK;
}

/* A = s I and B = o 1 of the PTQ start's codebook. */
static lq_status read_codebook(reader *r, const lq_weight *w, float *affine)
{
    static const char *const unread[] = {".codebook_id", ".codebook_class.codebook.grid",
                                         ".codebook_class.codebook.grid_norm"};
    float A[16], B[4];
    LQ_TRY(take(r, lq_official_name(w, ".codebook_class.codebook.linear_proj_weight", r->arena), 2,
                16, A));
    LQ_TRY(take(r, lq_official_name(w, ".codebook_class.codebook.linear_proj_bias", r->arena), 1, 4,
                B));
    for (size_t i = 0; i < 16; i++)
        if (A[i] != (i % 5 == 0 ? A[0] : 0) || B[i / 4] != B[0])
            return lq_fail(LQ_E_OPTION,
                           "%s: the codebook of %s is no multiple of the identity; "
                           "only such are read",
                           r->file.path, w->name);
    for (size_t i = 0; i < 3; i++) /* what they say follows from A, B and the levels */
        find(r, lq_official_name(w, unread[i], r->arena));
    affine[0] = A[0];
    affine[1] = B[0];
    return LQ_OK;
}

static lq_status read_ptq(reader *r, const lq_weight *w, const lq_tensor *indices,
                          const lq_official_theta *o)
{
    float scale;
    LQ_TRY(read_indices(r, w, indices, o->u));
    LQ_TRY(read_codebook(r, w, o->affine));
    LQ_TRY(take_scalar(r, lq_official_name(w, ".Wscale", r->arena), &scale));
    for (size_t i = 0; i < w->rows; i++)
        o->sv[i] *= scale;
    return LQ_OK;
}

/* Mixed precision keeps a number of levels beside each matrix; it may say what the model says. */
static lq_status check_max_var(reader *r, const lq_weight *w)
{
    const char *name = lq_official_name(w, ".code_generator.max_var", r->arena);
    float most;
    if (lq_safetensors_find(&r->file, name) == NULL)
        return LQ_OK;
    LQ_TRY(take_scalar(r, name, &most));
    if (most != (float)(r->levels - 1))
        return lq_fail(LQ_E_OPTION,
                       "%s: %s has codes up to %g, the model up to %zu; mixed bits are "
                       "not read",
                       r->file.path, w->name, (double)most, r->levels - 1);
    return LQ_OK;
}

static lq_status read_linear(reader *r, const lq_weight *w, const lq_theta *th)
{
    const char *indices_name = lq_official_name(w, ".Qidxs", r->arena);
    lq_official_theta o;
    LQ_TRY(lq_official_theta_of(th, w->name, &o));
    LQ_TRY(take(r, lq_official_name(w, ".SU", r->arena), 1, w->cols, o.su));
    LQ_TRY(take(r, lq_official_name(w, ".SV", r->arena), 1, w->rows, o.sv));
    const lq_tensor *indices = find(r, indices_name);
    if (indices != NULL)
        return read_ptq(r, w, indices, &o);
    const lq_tensor *t = find(r, w->name);
    if (t == NULL)
        return lq_fail(LQ_E_MISSING, "%s: neither %s nor %s is there", r->file.path, w->name,
                       indices_name);
    LQ_TRY(t->dtype == LQ_DTYPE_U8 ? read_packed(r, w, t, o.u) : read_proxy(r, w, o.u));
    LQ_TRY(check_max_var(r, w));
    LQ_TRY(take_scalar(r, lq_official_name(w, ".code_generator.codebook_scale", r->arena),
                       &o.affine[0]));
    return take_scalar(r, lq_official_name(w, ".code_generator.codebook_zero_point", r->arena),
                       &o.affine[1]);
}

/* The file's head, if any, is the embedding once more. */
static lq_status check_head(reader *r)
{
    const lq_tensor *head = find(r, "lm_head.weight");
    const lq_tensor *embed = lq_safetensors_find(&r->file, "model.embed_tokens.weight");
    if (head == NULL ||
        (embed != NULL && head->dtype == embed->dtype && head->bytes == embed->bytes &&
         memcmp(head->data, embed->data, head->bytes) == 0))
        return LQ_OK;
    return lq_fail(LQ_E_OPTION,
                   "%s: lm_head.weight differs from the embedding, which the released "
                   "loader would put in its place: not read",
                   r->file.path);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static lq_status refuse_unknown(reader *r)
{
    qsort(r->known, r->n_known, sizeof *r->known, by_text);
    for (size_t i = 0; i < r->file.n_tensors; i++)
        if (bsearch(&r->file.tensor[i].name, r->known, r->n_known, sizeof *r->known, by_text) ==
            NULL)
            return lq_fail(LQ_E_FORMAT, "%s: tensor %s belongs to no LC-QAT checkpoint",
                           r->file.path, r->file.tensor[i].name);
    return LQ_OK;
}

static lq_status fill(reader *r, lq_packed_size *size)
{
    lq_qmodel *q = r->q;
    size_t weights = 0, bytes = 0;
    LQ_TRY(lq_arena_new(r->arena, &r->known, q->w.n_tensors + 12 * q->n_theta + 1));
    for (size_t i = 0; i < q->w.n_tensors; i++) {
        const lq_weight *w = &q->w.tensor[i];
        const bool linear = w->kind == LQ_WEIGHT_LINEAR;
        r->linear_bytes = 0;
        LQ_TRY(linear ? read_linear(r, w, &q->theta[w->layer * LQ_N_LINEARS + w->id])
                      : take(r, w->name, w->kind == LQ_WEIGHT_EMBED ? 2 : 1, w->rows * w->cols,
                             w->data));
        weights += linear ? w->rows * w->cols : 0;
        bytes += linear ? r->linear_bytes : 0;
    }
    LQ_TRY(check_head(r));
    LQ_TRY(refuse_unknown(r));
    LQ_TRY(lq_official_check(q));
    *size = (lq_packed_size){.linear_bytes = bytes, .linear_weights = weights};
    size->bits_per_weight = 8.0 * (double)bytes / (double)weights;
    size->bits_per_weight_model =
        (8.0 * (double)bytes + 16.0 * (double)(q->w.n - weights)) / (double)q->w.n;
    lq_qmodel_refresh(q);
    return LQ_OK;
}

static lq_status find_method(lq_method_lookup find_by_name, size_t levels, lq_arena *arena,
                             const lq_method **method, void **opts)
{
    lq_json *spec = lq_json_object();
    lq_json_set_number(spec, "bits", levels == 3 ? 1.58 : levels == 4 ? 2 : 3);
    lq_json_set_number(spec, "hadamard_cap", LQ_OFFICIAL_BLOCK);
    lq_status status = find_by_name("lcqat", method);
    if (status == LQ_OK)
        status = lq_method_options(*method, spec, "lcqat checkpoint", arena, opts);
    lq_json_free(spec);
    return status;
}

static lq_status read_from(const char *path, const lq_json *json, const char *where,
                           lq_method_lookup find_by_name, lq_arena *arena, lq_qmodel *out,
                           lq_packed_size *size)
{
    const lq_method *method;
    void *opts;
    lq_config config;
    lq_weights empty;
    reader r = {.q = out, .arena = arena};
    LQ_TRY(levels_of(json, where, &r.levels));
    LQ_TRY(read_config(json, where, &config));
    LQ_TRY(find_method(find_by_name, r.levels, arena, &method, &opts));
    LQ_TRY(lq_weights_new(&config, arena, &empty));
    LQ_TRY(lq_qmodel_new(&empty, method, opts, arena, out));
    LQ_TRY(lq_safetensors_open(path, arena, &r.file));
    const lq_status status = fill(&r, size);
    lq_safetensors_close(&r.file);
    return status;
}

lq_status lq_official_read(const char *dir, lq_method_lookup find_by_name, lq_arena *arena,
                           lq_qmodel *out, lq_packed_size *size)
{
    const char *path = lq_official_file(dir, arena);
    const char *where = lq_arena_printf(arena, "%s/config.json", dir);
    lq_json *json;
    if (path == NULL)
        return lq_fail(LQ_E_MISSING, "%s: no LC-QAT checkpoint is there", dir);
    LQ_TRY(lq_json_read(where, &json));
    const lq_status status = read_from(path, json, where, find_by_name, arena, out, size);
    lq_json_free(json);
    return status;
}
