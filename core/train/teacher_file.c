/* The file of a teacher's predictions: for every LQ_TEACHER_CHUNK sequences the tensors "logp/<chunk>",
 * "id/<chunk>" (sequences,T,k) and "rest/<chunk>" (sequences,T); metadata "fingerprint". */
#include "core/train/teacher.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/math/gemm.h"

#include <math.h>
#include <string.h>
#include <sys/statvfs.h>

enum { CHUNK = LQ_TEACHER_CHUNK, PARTS = 3 };
typedef enum part { LOGP, ID, REST } part;
static const char *const part_name[PARTS] = {"logp", "id", "rest"};

static size_t chunks_of(const lq_teacher_plan *plan)
{
    return (plan->n_sequences + CHUNK - 1) / CHUNK;
}

static size_t in_chunk(const lq_teacher_plan *plan, size_t chunk)
{
    const size_t left = plan->n_sequences - chunk * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

lq_status lq_teacher_file_bytes(const lq_teacher_plan *plan, size_t V, size_t *bytes)
{
    size_t positions, each;
    if (plan->k == 0 || plan->k > V)
        return lq_fail(LQ_E_SHAPE, "teacher: %zu tokens a position of a vocabulary of %zu", plan->k,
                       V);
    if (__builtin_mul_overflow(plan->k, (size_t)8, &each) ||
        __builtin_mul_overflow(plan->n_sequences, plan->T, &positions) ||
        __builtin_mul_overflow(positions, each + 4, bytes))
        return lq_fail(LQ_E_SHAPE, "teacher: %zu sequences of %zu tokens are too many",
                       plan->n_sequences, plan->T);
    return LQ_OK;
}

/* Is there room on the disk? Better asked than found out after an hour. */
static lq_status check_room(const char *path, size_t bytes)
{
    struct statvfs disk;
    lq_arena arena = {0};
    const size_t length = (size_t)(lq_path_base(path) - path);
    const char *dir = length > 0 ? lq_arena_printf(&arena, "%.*s", (int)length, path)
                                 : lq_arena_printf(&arena, ".");
    const bool known = statvfs(dir, &disk) == 0;
    lq_arena_close(&arena);
    const double room = known ? (double)disk.f_bavail * (double)disk.f_frsize : 0;
    if (known && (double)bytes > 0.95 * room)
        return lq_fail(LQ_E_IO,
                       "%s: the teacher's predictions need %.0f MB, the disk has %.0f MB free; "
                       "keep fewer tokens a position, or compute them beside the student",
                       path, (double)bytes * 1e-6, room * 1e-6);
    return LQ_OK;
}

/* ---- The likeliest tokens ---------------------------------------------------------------------- */

static bool before(const float *x, uint32_t a, uint32_t b)
{
    return x[a] > x[b] || (x[a] >= x[b] && a < b);
}

static void sift_down(const float *x, uint32_t *heap, size_t n, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(x, heap[child], heap[child + 1]))
            child++;
        if (before(x, heap[child], heap[at]))
            return; /* the last of the two stays above */
        const uint32_t id = heap[at];
        heap[at] = heap[child];
        heap[child] = id;
    }
}

/* id (k): the k largest of x (V), descending, equals by number. The heap has the least of them on top. */
static void largest_first(const float *x, size_t V, size_t k, uint32_t *id)
{
    for (size_t i = 0; i < k; i++)
        id[i] = (uint32_t)i;
    for (size_t i = k; i-- > 0;)
        sift_down(x, id, k, i);
    for (size_t j = k; j < V; j++)
        if (before(x, (uint32_t)j, id[0])) {
            id[0] = (uint32_t)j;
            sift_down(x, id, k, 0);
        }
    for (size_t n = k; n-- > 1;) { /* the least to the end, again and again */
        const uint32_t least = id[0];
        id[0] = id[n];
        id[n] = least;
        sift_down(x, id, n, 0);
    }
}

/* False: a logit is not finite. */
static bool keep_likeliest(const float *logits, size_t V, const lq_teacher_plan *plan, float *logp,
                           uint32_t *id, float *rest)
{
    const double inv_T = 1 / plan->temperature;
    double listed = 0, others = 0;
    for (size_t j = 0; j < V; j++)
        if (!isfinite(logits[j]))
            return false;
    largest_first(logits, V, plan->k, id);
    const double top = (double)logits[id[0]];
    const float last = logits[id[plan->k - 1]];
    for (size_t i = 0; i < plan->k; i++)
        listed += exp(inv_T * ((double)logits[id[i]] - top));
    for (size_t j = 0; j < V; j++) /* summed up themselves: 1 - listed would cancel */
        if (logits[j] < last || (logits[j] <= last && j > id[plan->k - 1]))
            others += exp(inv_T * ((double)logits[j] - top));
    const double log_sum = log(listed + others);
    for (size_t i = 0; i < plan->k; i++)
        logp[i] = (float)(inv_T * ((double)logits[id[i]] - top) - log_sum);
    *rest = (float)(others / (listed + others));
    return true;
}

/* ---- Writing ----------------------------------------------------------------------------------- */

typedef struct writer_lane {
    lq_lane *acts;
    float *logits; /* (LQ_TEACHER_ROWS,V) */
    bool finite;
} writer_lane;

typedef struct writer {
    const lq_weights *w;
    const lq_teacher_plan *plan;
    writer_lane *lane;
    uint32_t *tokens, *targets; /* (CHUNK,T) */
    float *logp, *rest;
    uint32_t *id;
} writer;

static lq_status writer_new(writer *o, lq_arena *arena)
{
    const lq_teacher_plan *p = o->plan;
    const size_t V = o->w->config.V;
    LQ_TRY(lq_arena_new(arena, &o->lane, p->lanes));
    for (size_t i = 0; i < p->lanes; i++) {
        LQ_TRY(
            lq_lane_new(&o->w->config, p->micro, p->T, LQ_KEEP_NOTHING, arena, &o->lane[i].acts));
        LQ_TRY(lq_arena_new(arena, &o->lane[i].logits, LQ_TEACHER_ROWS * V));
    }
    LQ_TRY(lq_arena_new(arena, &o->tokens, CHUNK * p->T));
    LQ_TRY(lq_arena_new(arena, &o->targets, CHUNK * p->T));
    LQ_TRY(lq_arena_new(arena, &o->logp, CHUNK * p->T * p->k));
    LQ_TRY(lq_arena_new(arena, &o->id, CHUNK * p->T * p->k));
    return lq_arena_new(arena, &o->rest, CHUNK * p->T);
}

static void walk_lane(writer *o, size_t index, size_t sequences)
{
    const lq_teacher_plan *p = o->plan;
    const size_t V = o->w->config.V;
    writer_lane *l = &o->lane[index];
    l->finite = true;
    for (size_t at = index * p->micro; at < sequences; at += p->lanes * p->micro) {
        const size_t B = sequences - at < p->micro ? sequences - at : p->micro, N = B * p->T;
        lq_forward(o->w, l->acts, o->tokens + at * p->T, B);
        for (size_t first = 0; first < N; first += LQ_TEACHER_ROWS) {
            const size_t n = N - first < LQ_TEACHER_ROWS ? N - first : LQ_TEACHER_ROWS;
            lq_logits(o->w, l->acts, first, n, l->logits);
            for (size_t i = 0; l->finite && i < n; i++) {
                const size_t row = at * p->T + first + i;
                l->finite = keep_likeliest(l->logits + i * V, V, p, o->logp + row * p->k,
                                           o->id + row * p->k, o->rest + row);
            }
        }
    }
}

static lq_status write_chunk(writer *o, lq_batches *data, size_t chunk, const char *path,
                             lq_safetensors_stream *stream)
{
    const lq_teacher_plan *p = o->plan;
    const size_t sequences = in_chunk(p, chunk);
    for (size_t b = 0; b < sequences; b++)
        lq_batches_get(data, chunk * CHUNK + b, o->tokens + b * p->T, o->targets + b * p->T);
#pragma omp parallel for schedule(static, 1) if (p->lanes > 1)
    for (size_t i = 0; i < p->lanes; i++)
        walk_lane(o, i, sequences);
    for (size_t i = 0; i < p->lanes; i++)
        if (!o->lane[i].finite)
            return lq_fail(LQ_E_NUMERIC, "%s: a logit of the teacher is not finite", path);
    LQ_TRY(lq_safetensors_stream_put(stream, o->logp));
    LQ_TRY(lq_safetensors_stream_put(stream, o->id));
    return lq_safetensors_stream_put(stream, o->rest);
}

static lq_status list_tensors(const lq_teacher_plan *p, lq_arena *arena, lq_tensor **out)
{
    LQ_TRY(lq_arena_new(arena, out, PARTS * chunks_of(p)));
    for (size_t i = 0; i < PARTS * chunks_of(p); i++) {
        const part which = (part)(i % PARTS);
        lq_tensor *t = &(*out)[i];
        t->name = lq_arena_printf(arena, "%s/%zu", part_name[which], i / PARTS);
        t->dtype = which == ID ? LQ_DTYPE_U32 : LQ_DTYPE_F32;
        t->rank = which == REST ? 2 : 3;
        t->shape[0] = in_chunk(p, i / PARTS);
        t->shape[1] = p->T;
        t->shape[2] = p->k;
        t->elements = t->shape[0] * p->T * (which == REST ? 1 : p->k);
        t->bytes = 4 * t->elements;
    }
    return LQ_OK;
}

static lq_status write_all(writer *o, lq_batches *data, const char *path, const char *fingerprint,
                           lq_arena *arena)
{
    lq_tensor *list;
    lq_safetensors_stream *stream;
    const size_t n = chunks_of(o->plan);
    const char *const metadata[] = {"fingerprint", fingerprint};
    LQ_TRY(writer_new(o, arena));
    LQ_TRY(list_tensors(o->plan, arena, &list));
    LQ_TRY(lq_safetensors_stream_open(path, list, PARTS * n, metadata, 1, arena, &stream));
    lq_progress progress = lq_progress_start("teacher", n, "chunk");
    lq_status status = LQ_OK;
    for (size_t i = 0; status == LQ_OK && i < n; i++) {
        status = lq_stop_asked() ? lq_fail(LQ_E_STOPPED, "%s: stopped, nothing is kept", path)
                                 : write_chunk(o, data, i, path, stream);
        lq_progress_update(&progress, i + 1, "%s", "");
    }
    lq_progress_end(&progress);
    if (status == LQ_OK)
        return lq_safetensors_stream_close(stream);
    lq_safetensors_stream_abandon(stream);
    return status;
}

lq_status lq_teacher_store(const lq_weights *w, lq_batches *data, const lq_teacher_plan *plan,
                           const char *path, const char *fingerprint)
{
    size_t bytes;
    lq_arena arena = {0};
    writer o = {.w = w, .plan = plan};
    LQ_ASSERT(plan->n_sequences > 0 && plan->micro > 0 && plan->lanes > 0 && plan->T == data->T);
    LQ_TRY(lq_teacher_file_bytes(plan, w->config.V, &bytes));
    LQ_TRY(check_room(path, bytes));
    const int threads = lq_blas_threads(1); /* as in training */
    if (plan->lanes > 1)
        lq_blas_threads(threads);
    const lq_status status = write_all(&o, data, path, fingerprint, &arena);
    lq_blas_threads(threads);
    lq_arena_close(&arena);
    return status;
}

/* ---- Reading ----------------------------------------------------------------------------------- */

static lq_status take(const lq_teacher_file *f, part which, size_t chunk, lq_arena *scratch,
                      const void **out)
{
    const lq_teacher_plan *p = &f->plan;
    const char *name = lq_arena_printf(scratch, "%s/%zu", part_name[which], chunk);
    const lq_tensor *t = lq_safetensors_find(&f->file, name);
    const lq_dtype want = which == ID ? LQ_DTYPE_U32 : LQ_DTYPE_F32;
    const size_t elements = in_chunk(p, chunk) * p->T * (which == REST ? 1 : p->k);
    if (t == NULL || t->dtype != want || t->elements != elements || (uintptr_t)t->data % 4 != 0)
        return lq_fail(LQ_E_FORMAT, "%s: tensor %s is missing or of another size; remove the file",
                       f->file.path, name);
    *out = t->data;
    return LQ_OK;
}

static lq_status check_chunk(const lq_teacher_file *f, size_t chunk)
{
    const size_t positions = in_chunk(&f->plan, chunk) * f->plan.T, n = positions * f->plan.k;
    bool good = true;
    for (size_t i = 0; i < n; i++)
        good = good && f->id[chunk][i] < f->V && f->logp[chunk][i] <= 1e-3f &&
               f->logp[chunk][i] > -1e30f;
    for (size_t i = 0; i < positions; i++)
        good = good && f->rest[chunk][i] >= 0 && f->rest[chunk][i] <= 1;
    return good ? LQ_OK
                : lq_fail(LQ_E_FORMAT,
                          "%s: chunk %zu has a token or a probability out of range; "
                          "remove the file",
                          f->file.path, chunk);
}

static lq_status read_chunks(lq_teacher_file *f, const char *fingerprint, lq_arena *arena)
{
    const char *have = lq_safetensors_metadata(&f->file, "fingerprint");
    if (have == NULL || strcmp(have, fingerprint) != 0)
        return lq_fail(LQ_E_FORMAT,
                       "%s: predictions of another teacher or of other data; remove it",
                       f->file.path);
    for (size_t i = 0; i < f->n_chunks; i++) {
        const void *data[PARTS];
        for (size_t which = 0; which < PARTS; which++)
            LQ_TRY(take(f, (part)which, i, arena, &data[which]));
        f->logp[i] = data[LOGP];
        f->id[i] = data[ID];
        f->rest[i] = data[REST];
        LQ_TRY(check_chunk(f, i));
    }
    return LQ_OK;
}

lq_status lq_teacher_open(const char *path, const char *fingerprint, const lq_teacher_plan *plan,
                          size_t V, lq_arena *arena, lq_teacher_file *out)
{
    size_t bytes;
    *out = (lq_teacher_file){.plan = *plan, .V = V, .n_chunks = chunks_of(plan)};
    LQ_TRY(lq_teacher_file_bytes(plan, V, &bytes));
    LQ_TRY(lq_arena_new(arena, &out->logp, out->n_chunks));
    LQ_TRY(lq_arena_new(arena, &out->id, out->n_chunks));
    LQ_TRY(lq_arena_new(arena, &out->rest, out->n_chunks));
    LQ_TRY(lq_safetensors_open(path, arena, &out->file));
    const lq_status status = read_chunks(out, fingerprint, arena);
    if (status != LQ_OK)
        lq_teacher_close(out);
    return status;
}

void lq_teacher_close(lq_teacher_file *file) { lq_safetensors_close(&file->file); }
