/* Checkpoints of llama2.c, version 0: seven 32-bit integers, then float32 without a gap.
 *
 *     dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size (negative: a head of its own), seq_len
 *     embedding; then for all layers together: attention norms, wq, wk, wv, wo, feed-forward norms,
 *     w1 (gate), w2 (down), w3 (up); the final norm; two rotary tables (seq_len, dh/2) that nobody reads;
 *     the head, if it is its own
 *
 * Rotary pairs lie side by side, theta is 10000 and epsilon 1e-5 (karpathy/llama2.c, run.c, model.py). */
#include "core/base/file.h"
#include "core/model/weights_parts.h"

#include <string.h>

enum { N_HEADER = 7, LATER_MAGIC = 0x616b3432 }; /* "ak42": versions 1 and 2 begin with it */

static lq_status read_header(const char *path, const lq_map *map, lq_config *c, size_t *rotary)
{
    enum { MOST = 1 << 24 };
    int32_t h[N_HEADER];
    if (map->bytes < sizeof h)
        return lq_fail(LQ_E_FORMAT, "%s: %zu bytes are too few for a llama2.c checkpoint", path,
                       map->bytes);
    memcpy(h, map->data, sizeof h);
    if (h[0] == LATER_MAGIC)
        return lq_fail(LQ_E_UNAVAILABLE,
                       "%s: a llama2.c checkpoint of version 1 or later; version 0 is read", path);
    const int64_t V = h[5] < 0 ? -(int64_t)h[5] : h[5];
    for (size_t i = 0; i < N_HEADER; i++)
        if (i != 5 && (h[i] < 1 || h[i] > MOST))
            return lq_fail(LQ_E_FORMAT,
                           "%s: no llama2.c checkpoint: number %zu of its header is %ld", path, i,
                           (long)h[i]);
    if (V < 1 || V > MOST || h[2] > 4096 || h[0] % h[3] != 0 || h[0] / h[3] % 2 != 0 ||
        h[4] > h[3] || h[3] % h[4] != 0)
        return lq_fail(LQ_E_FORMAT,
                       "%s: no llama2.c checkpoint: width %ld, %ld layers, heads %ld and %ld, %ld "
                       "tokens do not fit",
                       path, (long)h[0], (long)h[2], (long)h[3], (long)h[4], (long)V);
    *c = (lq_config){.arch = LQ_ARCH_LLAMA,
                     .D = (size_t)h[0],
                     .F = (size_t)h[1],
                     .L = (size_t)h[2],
                     .H = (size_t)h[3],
                     .Hkv = (size_t)h[4],
                     .dh = (size_t)(h[0] / h[3]),
                     .V = (size_t)V,
                     .max_positions = (size_t)h[6],
                     .eps = 1e-5,
                     .rope_theta = 10000,
                     .tied = h[5] > 0};
    *rotary = (size_t)h[6] * c->dh; /* both tables */
    return LQ_OK;
}

/* The file has exactly the bytes that its header asks for. */
static lq_status check_size(const char *path, const lq_map *map, const lq_config *c, size_t rotary)
{
    /* In the widest case 2^24 * 2^24 * 2^12 * a few: beyond 64 bits, so the sum is made in doubles first. */
    const double D = (double)c->D, F = (double)c->F, KV = (double)(c->Hkv * c->dh);
    const double layer = 2 * D + 2 * D * D + 2 * KV * D + 3 * D * F;
    const double floats =
        (double)c->V * D * (c->tied ? 1 : 2) + (double)c->L * layer + D + (double)rotary;
    if (floats > 0x1p60 || 4 * floats + 4 * N_HEADER != (double)map->bytes)
        return lq_fail(
            LQ_E_FORMAT,
            "%s: no llama2.c checkpoint, or cut off: the header asks for %.0f bytes, the "
            "file has %zu",
            path, 4 * floats + 4 * N_HEADER, map->bytes);
    return LQ_OK;
}

/* The next rows of the file into a tensor; rows of q and k in the order of our rotary pairs. */
static void take(const uint8_t **at, const lq_weight *t, size_t dh)
{
    const size_t bytes = t->cols * sizeof(float);
    const bool pairs = t->layer != SIZE_MAX && (t->id == LQ_Q || t->id == LQ_K);
    for (size_t row = 0; row < t->rows; row++, *at += bytes)
        memcpy(t->data + (pairs ? lq_rotate_half_row(row, dh) : row) * t->cols, *at, bytes);
}

static void take_kind(const uint8_t **at, const lq_weights *w, lq_weight_kind kind,
                      lq_layer_tensor id, bool of_layers)
{
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        if (t->kind == kind && t->id == id && (t->layer != SIZE_MAX) == of_layers)
            take(at, t, w->config.dh);
    }
}

static lq_status load(const char *path, const lq_map *map, lq_arena *arena, lq_weights *out)
{
    static const lq_layer_tensor order[] = {LQ_INPUT_NORM, LQ_Q,    LQ_K,    LQ_V, LQ_O,
                                            LQ_POST_NORM,  LQ_GATE, LQ_DOWN, LQ_UP};
    lq_config c;
    size_t rotary = 0;
    LQ_TRY(read_header(path, map, &c, &rotary));
    LQ_TRY(check_size(path, map, &c, rotary));
    LQ_TRY(lq_weights_new(&c, arena, out));
    const uint8_t *at = map->data + sizeof(int32_t) * N_HEADER;
    take_kind(&at, out, LQ_WEIGHT_EMBED, LQ_Q, false);
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        take_kind(&at, out, (size_t)order[i] < LQ_N_LINEARS ? LQ_WEIGHT_LINEAR : LQ_WEIGHT_NORM,
                  order[i], true);
    take_kind(&at, out, LQ_WEIGHT_NORM, LQ_Q, false);
    at += rotary * sizeof(float);
    take_kind(&at, out, LQ_WEIGHT_HEAD, LQ_Q, false);
    LQ_ASSERT(at == map->data + map->bytes);
    return LQ_OK;
}

lq_status lq_weights_load_llama2c(const char *path, lq_arena *arena, lq_weights *out)
{
    lq_map map;
    LQ_TRY(lq_file_map(path, &map));
    const lq_status status = load(path, &map, arena, out);
    lq_file_unmap(&map);
    return status;
}

lq_status lq_llama2c_vocab(const char *path, size_t *V)
{
    lq_map map;
    lq_config c;
    size_t rotary = 0;
    *V = 0;
    LQ_TRY(lq_file_map(path, &map));
    const lq_status status = read_header(path, &map, &c, &rotary);
    lq_file_unmap(&map);
    if (status == LQ_OK)
        *V = c.V;
    return status;
}
