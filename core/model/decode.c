#include "core/model/decode.h"

#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/model/llama.h"
#include "core/model/llama_parts.h"

#include <math.h>
#include <string.h>

enum {
    PREFILL = LQ_DECODER_READ, /* tokens of a prompt that are read at once */
    BULK = 16,                 /* rows from which on a product is BLAS's affair */
    PANEL = 64,          /* outputs of one thread's part of a product; in bulk four times as many */
    WORTHWHILE = 1 << 17 /* multiply-adds from which on threads pay */
};

/* clang-format off */
/* X(field, type, count): R rows, all tables of a decoder; the plan and the allocation are made of it. */
#define DECODER_TABLES(X)                                   \
    X(length, size_t, B)                                    \
    X(sequence, uint32_t, R)                                \
    X(position, size_t, R)                                  \
    X(layer, lq_cache, c->L)                                \
    X(cosine, float, T_max * c->dh / 2)                     \
    X(sine, float, T_max * c->dh / 2)                       \
    X(x, float, R * c->D)                                   \
    X(h, float, R * c->D)                                   \
    X(rstd, float, R * c->H)                                \
    X(qkv, float, R * E)                                    \
    X(o, float, R * c->H * c->dh)                           \
    X(p, float, R * c->H * T_max)                           \
    X(gate_up, float, R * 2 * c->F)                         \
    X(act, float, R * c->F)                                 \
    X(wide, float, R * c->D)
/* clang-format on */

static size_t rows_of(size_t B, size_t T_max)
{
    const size_t prefill = T_max < PREFILL ? T_max : PREFILL;
    return B > prefill ? B : prefill;
}

size_t lq_decoder_bytes(const lq_config *c, size_t B, size_t T_max)
{
    const size_t R = rows_of(B, T_max), E = (c->H + 2 * c->Hkv) * c->dh;
    size_t bytes = sizeof(lq_decoder) + 2 * c->L * B * c->Hkv * T_max * c->dh * sizeof(float);
#define X(field, type, count) bytes += (count) * sizeof(type);
    DECODER_TABLES(X)
#undef X
    return bytes;
}

lq_status lq_decoder_new(const lq_config *c, size_t B, size_t T_max, lq_arena *arena,
                         lq_decoder **out)
{
    lq_decoder *d;
    const size_t R = rows_of(B, T_max), E = (c->H + 2 * c->Hkv) * c->dh;
    const size_t past = B * c->Hkv * T_max * c->dh;
    LQ_TRY(lq_arena_new(arena, &d, 1));
    d->config = *c;
    d->B = B;
    d->T_max = T_max;
    d->R = R;
    d->E = E;
#define X(field, type, count) LQ_TRY(lq_arena_new(arena, &d->field, (count)));
    DECODER_TABLES(X)
#undef X
    for (size_t l = 0; l < c->L; l++) {
        LQ_TRY(lq_arena_new(arena, &d->layer[l].k, past));
        LQ_TRY(lq_arena_new(arena, &d->layer[l].v, past));
    }
    lq_rope_fill(c, T_max, d->cosine, d->sine);
    *out = d;
    return LQ_OK;
}

void lq_decoder_reset(lq_decoder *d, size_t b) { lq_decoder_rewind(d, b, 0); }

void lq_decoder_rewind(lq_decoder *d, size_t b, size_t n)
{
    LQ_ASSERT(b < d->B && n <= d->length[b]);
    d->length[b] = n;
}

/* y (n,out) = x (n,in) W'. Parts are of fixed width, so threads do not show in the bits; a part in bulk
 * stays inside the parallel region, where BLAS keeps to one thread. */
static void product(float *y, const float *x, const float *W, size_t n, size_t out, size_t in,
                    bool bulk)
{
    const size_t width = bulk ? 4 * PANEL : PANEL;
#pragma omp parallel for schedule(static) if (bulk || n * out * in > WORTHWHILE)
    for (size_t at = 0; at < out; at += width) {
        const size_t part = out - at < width ? out - at : width;
        if (bulk)
            lq_gemm_nt(n, part, in, 1, x, in, W + at * in, in, 0, y + at, out);
        else
            lq_kernels()->project(y + at, out, x, in, n, W + at * in, in, part, in);
    }
}

static void add_bias(float *y, const float *bias, size_t n, size_t out)
{
    for (size_t r = 0; bias != NULL && r < n; r++)
        lq_kernels()->add(y + r * out, bias, out);
}

/* RMSNorm on each head of q and k of one row; o is free at this point. */
static void norm_heads(const lq_decoder *d, float *row, float *const *t)
{
    const lq_config *c = &d->config;
    const lq_kernel_table *k = lq_kernels();
    float *keys = row + c->H * c->dh;
    memcpy(d->o, row, c->H * c->dh * sizeof *row);
    k->rmsnorm_fwd(row, d->rstd, d->o, t[LQ_Q_NORM], c->H, c->dh, (float)c->eps);
    memcpy(d->o, keys, c->Hkv * c->dh * sizeof *row);
    k->rmsnorm_fwd(keys, d->rstd, d->o, t[LQ_K_NORM], c->Hkv, c->dh, (float)c->eps);
}

/* Where the keys, or values, of a sequence's kv head lie: (T_max,dh). */
static float *past_of(const lq_decoder *d, float *cache, size_t sequence, size_t kv)
{
    return cache + (sequence * d->config.Hkv + kv) * d->T_max * d->config.dh;
}

/* Norms and rotates q and k, and puts k and v where the later tokens find them. */
static void remember(const lq_decoder *d, const lq_cache *cache, float *const *t, size_t n)
{
    const lq_config *c = &d->config;
    const size_t half = c->dh / 2, dh = c->dh;
    for (size_t r = 0; r < n; r++) {
        float *row = d->qkv + r * d->E;
        const size_t at = d->position[r];
        if (c->qk_norm)
            norm_heads(d, row, t);
        lq_kernels()->rope(row, d->E, d->cosine + at * half, d->sine + at * half, 1, 1,
                           c->H + c->Hkv, dh, 1.0f);
        for (size_t kv = 0; kv < c->Hkv; kv++) {
            float *k = past_of(d, cache->k, d->sequence[r], kv) + at * dh;
            float *v = past_of(d, cache->v, d->sequence[r], kv) + at * dh;
            memcpy(k, row + (c->H + kv) * dh, dh * sizeof *k);
            memcpy(v, row + (c->H + c->Hkv + kv) * dh, dh * sizeof *v);
        }
    }
}

/* One token's heads that share a key/value head. */
static void attend_one(const lq_decoder *d, const lq_cache *cache, size_t r, size_t kv)
{
    const lq_config *c = &d->config;
    const size_t share = c->H / c->Hkv, dh = c->dh, n = d->position[r] + 1, first = kv * share;
    const float *k = past_of(d, cache->k, d->sequence[r], kv);
    const float *v = past_of(d, cache->v, d->sequence[r], kv);
    float *p = d->p + (r * c->H + first) * d->T_max;
    const lq_kernel_table *table = lq_kernels();
    table->project(p, d->T_max, d->qkv + r * d->E + first * dh, dh, share, k, dh, n, dh);
    for (size_t h = 0; h < share; h++) {
        float *row = p + h * d->T_max;
        table->softmax(row, n, (float)(1.0 / sqrt((double)dh)));
        table->mix(d->o + (r * c->H + first + h) * dh, row, v, dh, n, dh);
    }
}

/* One head of n consecutive tokens of one sequence. */
static void attend_bulk(const lq_decoder *d, const lq_cache *cache, size_t n, size_t h)
{
    const lq_config *c = &d->config;
    const size_t dh = c->dh, kv = h / (c->H / c->Hkv), width = c->H * dh;
    const size_t most = d->position[n - 1] + 1;
    const float *k = past_of(d, cache->k, d->sequence[0], kv);
    const float *v = past_of(d, cache->v, d->sequence[0], kv);
    float *p = d->p + h * d->R * d->T_max;
    lq_gemm_nt(n, most, dh, 1, d->qkv + h * dh, d->E, k, dh, 0, p, most);
    for (size_t r = 0; r < n; r++) {
        const size_t seen = d->position[r] + 1;
        lq_kernels()->softmax(p + r * most, seen, (float)(1.0 / sqrt((double)dh)));
        memset(p + r * most + seen, 0, (most - seen) * sizeof *p);
    }
    lq_gemm_nn(n, dh, most, 1, p, most, v, dh, 0, d->o + h * dh, width);
}

static void attend(const lq_decoder *d, const lq_cache *cache, size_t n, bool bulk)
{
    const lq_config *c = &d->config;
    if (bulk) {
#pragma omp parallel for schedule(dynamic, 1)
        for (size_t h = 0; h < c->H; h++)
            attend_bulk(d, cache, n, h);
        return;
    }
    size_t work = 0;
    for (size_t r = 0; r < n; r++)
        work += 2 * (d->position[r] + 1) * c->H * c->dh;
#pragma omp parallel for schedule(static) if (work > WORTHWHILE)
    for (size_t i = 0; i < n * c->Hkv; i++)
        attend_one(d, cache, i / c->Hkv, i % c->Hkv);
}

/* The stream x of n rows through block l: as lq_block_forward, but for where k and v lie. */
static void block(const lq_weights *w, const lq_decoder *d, size_t l, size_t n, bool bulk)
{
    const lq_config *c = &d->config;
    const lq_kernel_table *k = lq_kernels();
    float *const *t = w->layer[l];
    const size_t D = c->D, F = c->F;
    k->rmsnorm_fwd(d->h, d->rstd, d->x, t[LQ_INPUT_NORM], n, D, (float)c->eps);
    product(d->qkv, d->h, t[LQ_Q], n, d->E, D, bulk);
    add_bias(d->qkv, t[LQ_Q_BIAS], n, d->E); /* those of q, k, v are neighbours */
    remember(d, &d->layer[l], t, n);
    attend(d, &d->layer[l], n, bulk);
    product(d->wide, d->o, t[LQ_O], n, D, c->H * c->dh, bulk);
    add_bias(d->wide, t[LQ_O_BIAS], n, D);
    k->add(d->x, d->wide, n * D);
    k->rmsnorm_fwd(d->h, d->rstd, d->x, t[LQ_POST_NORM], n, D, (float)c->eps);
    product(d->gate_up, d->h, t[LQ_GATE], n, 2 * F, D, bulk);
    add_bias(d->gate_up, t[LQ_GATE_BIAS], n, 2 * F);
    for (size_t r = 0; r < n; r++)
        k->swiglu_fwd(d->act + r * F, d->gate_up + r * 2 * F, d->gate_up + r * 2 * F + F, F);
    product(d->wide, d->act, t[LQ_DOWN], n, D, F, bulk);
    add_bias(d->wide, t[LQ_DOWN_BIAS], n, D);
    k->add(d->x, d->wide, n * D);
}

/* The rows whose sequence and position are set, through all blocks. */
static void run(const lq_weights *w, lq_decoder *d, const uint32_t *token, size_t n, bool bulk)
{
    lq_embed(w, token, n, d->x);
    for (size_t l = 0; l < d->config.L; l++)
        block(w, d, l, n, bulk);
    for (size_t r = 0; r < n; r++)
        d->length[d->sequence[r]]++;
}

/* Logits (n,V) of n rows of the stream from x on. */
static void predict(const lq_weights *w, const lq_decoder *d, const float *x, size_t n, bool bulk,
                    float *logits)
{
    const lq_config *c = &d->config;
    lq_kernels()->rmsnorm_fwd(d->h, d->rstd, x, w->final_norm, n, c->D, (float)c->eps);
    product(logits, d->h, w->head, n, c->V, c->D, bulk);
}

/* n <= PREFILL tokens of one sequence. */
static void read_on(const lq_weights *w, lq_decoder *d, size_t b, const uint32_t *token, size_t n)
{
    for (size_t r = 0; r < n; r++) {
        d->sequence[r] = (uint32_t)b;
        d->position[r] = d->length[b] + r;
    }
    run(w, d, token, n, n >= BULK);
}

void lq_decoder_read(const lq_weights *w, lq_decoder *d, size_t b, const uint32_t *token, size_t n,
                     float *logits)
{
    LQ_ASSERT(b < d->B && n > 0 && n <= PREFILL && n <= d->T_max - d->length[b]);
    read_on(w, d, b, token, n);
    predict(w, d, d->x, n, n >= BULK, logits);
}

void lq_decoder_prefill(const lq_weights *w, lq_decoder *d, size_t b, const uint32_t *token,
                        size_t n, float *logits)
{
    LQ_ASSERT(b < d->B && n > 0 && n <= d->T_max - d->length[b]);
    size_t part = 0;
    for (size_t at = 0; at < n; at += part) {
        part = n - at < PREFILL ? n - at : PREFILL;
        read_on(w, d, b, token + at, part);
    }
    if (logits != NULL)
        predict(w, d, d->x + (part - 1) * d->config.D, 1, false, logits);
}

void lq_decoder_step(const lq_weights *w, lq_decoder *d, size_t n, const uint32_t *sequence,
                     const uint32_t *token, float *logits)
{
    LQ_ASSERT(n > 0 && n <= d->B);
    for (size_t r = 0; r < n; r++) {
        LQ_ASSERT(sequence[r] < d->B && d->length[sequence[r]] < d->T_max);
        d->sequence[r] = sequence[r];
        d->position[r] = d->length[sequence[r]];
    }
    run(w, d, token, n, false);
    predict(w, d, d->x, n, false, logits);
}
