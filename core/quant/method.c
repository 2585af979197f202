#include "core/quant/method.h"

#include "core/data/safetensors.h"

#include <math.h>
#include <string.h>

size_t lq_levels_of_bits(double bits)
{
    static const struct {
        double bits;
        size_t levels;
    } known[] = {{1, 2}, {1.58, 3}, {2, 4}, {3, 8}, {4, 16}, {8, 256}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (bits == known[i].bits)
            return known[i].levels;
    return 0;
}

lq_status lq_method_options(const lq_method *method, const lq_json *spec, const char *where,
                            lq_arena *keep, void **opts)
{
    uint8_t *memory;
    LQ_ASSERT(method->opts_bytes >= sizeof(lq_common_opts));
    LQ_TRY(lq_arena_new(keep, &memory, method->opts_bytes));
    lq_json *merged = NULL;
    if (method->presets != NULL && (spec == NULL || lq_json_type(spec) == LQ_JSON_OBJECT)) {
        LQ_TRY(lq_options_preset(method->presets, method->n_presets, spec, &merged));
        spec = merged;
    }
    lq_status status = lq_options_read(method->options, method->n_options, spec, where, memory);
    lq_json_free(merged);
    LQ_TRY(status);
    if (method->check != NULL)
        LQ_TRY(method->check(memory));
    *opts = memory;
    return LQ_OK;
}

lq_status lq_theta_new(const lq_method *method, const void *opts, size_t out, size_t in,
                       lq_arena *keep, lq_theta *th)
{
    if (out == 0 || in == 0)
        return lq_fail(LQ_E_SHAPE, "%s: a weight of shape (%zu,%zu) is empty", method->name, out,
                       in);
    *th = (lq_theta){.method = method, .opts = opts, .out = out, .in = in};
    LQ_TRY(method->layout(opts, out, in, th->slot, &th->n_slots));
    LQ_ASSERT(th->n_slots <= LQ_MAX_SLOTS);
    for (size_t i = 0; i < th->n_slots; i++) {
        const lq_slot *slot = &th->slot[i];
        size_t n;
        if (__builtin_mul_overflow(slot->rows, slot->cols, &n))
            return lq_fail(LQ_E_SHAPE, "%s: slot '%s' of (%zu,%zu) does not fit in memory",
                           method->name, slot->name, slot->rows, slot->cols);
        size_t each = slot->kind == LQ_KIND_DISCRETE ? sizeof(uint8_t) : sizeof(float);
        LQ_TRY(lq_arena_zeroed(keep, n, each, &th->data[i]));
    }
    return LQ_OK;
}

size_t lq_theta_find(const lq_theta *th, const char *slot)
{
    for (size_t i = 0; i < th->n_slots; i++)
        if (strcmp(th->slot[i].name, slot) == 0)
            return i;
    return SIZE_MAX;
}

float *lq_theta_f32(const lq_theta *th, const char *slot)
{
    size_t i = lq_theta_find(th, slot);
    LQ_ASSERT(i != SIZE_MAX && th->slot[i].kind != LQ_KIND_DISCRETE);
    return th->data[i];
}

uint8_t *lq_theta_codes(const lq_theta *th, const char *slot)
{
    size_t i = lq_theta_find(th, slot);
    LQ_ASSERT(i != SIZE_MAX && th->slot[i].kind == LQ_KIND_DISCRETE);
    return th->data[i];
}

lq_status lq_theta_through_bytes(const lq_theta *th, lq_arena *arena, lq_theta *shipped,
                                 size_t *bytes)
{
    lq_sink sink = {.arena = arena};
    LQ_TRY(th->method->pack(th, &sink));
    LQ_TRY(lq_theta_new(th->method, th->opts, th->out, th->in, arena, shipped));
    lq_source source = {.data = sink.data, .bytes = sink.bytes, .where = th->method->name};
    LQ_TRY(th->method->unpack(shipped, &source));
    LQ_TRY(lq_source_end(&source));
    *bytes = sink.bytes;
    return LQ_OK;
}

lq_status lq_sink_put(lq_sink *sink, const void *data, size_t bytes)
{
    if (bytes > sink->room - sink->bytes) {
        size_t room = sink->room == 0 ? 4096 : sink->room;
        while (room - sink->bytes < bytes)
            if (__builtin_mul_overflow(room, (size_t)2, &room))
                return lq_fail(LQ_E_MEMORY, "packing: more bytes than memory can hold");
        uint8_t *grown = lq_arena_alloc(sink->arena, room);
        if (grown == NULL)
            return LQ_E_MEMORY;
        if (sink->bytes > 0)
            memcpy(grown, sink->data, sink->bytes);
        sink->data = grown;
        sink->room = room;
    }
    if (bytes > 0)
        memcpy(sink->data + sink->bytes, data, bytes);
    sink->bytes += bytes;
    return LQ_OK;
}

static lq_status put_halves(lq_sink *sink, const float *x, size_t n, uint16_t (*narrow)(float),
                            float (*widen)(uint16_t), const char *what)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half = narrow(x[i]);
        if (!isfinite(widen(half)))
            return lq_fail(LQ_E_NUMERIC, "packing: value %zu of %zu, %g, is no finite %s", i, n,
                           (double)x[i], what);
        uint8_t byte[2] = {(uint8_t)(half & 255), (uint8_t)(half >> 8)};
        LQ_TRY(lq_sink_put(sink, byte, sizeof byte));
    }
    return LQ_OK;
}

lq_status lq_sink_bf16(lq_sink *sink, const float *x, size_t n)
{
    return put_halves(sink, x, n, lq_f32_to_bf16, lq_bf16_to_f32, "bf16");
}

lq_status lq_sink_f16(lq_sink *sink, const float *x, size_t n)
{
    return put_halves(sink, x, n, lq_f32_to_f16, lq_f16_to_f32, "fp16");
}

lq_status lq_source_take(lq_source *source, void *data, size_t bytes)
{
    if (bytes > source->bytes - source->at)
        return lq_fail(LQ_E_FORMAT, "%s: %zu bytes wanted at %zu, but it ends at %zu",
                       source->where, bytes, source->at, source->bytes);
    if (bytes > 0)
        memcpy(data, source->data + source->at, bytes);
    source->at += bytes;
    return LQ_OK;
}

static lq_status take_halves(lq_source *source, float *x, size_t n, float (*widen)(uint16_t))
{
    for (size_t i = 0; i < n; i++) {
        uint8_t byte[2];
        LQ_TRY(lq_source_take(source, byte, sizeof byte));
        x[i] = widen((uint16_t)(byte[0] | byte[1] << 8));
        if (!isfinite(x[i]))
            return lq_fail(LQ_E_FORMAT, "%s: the value before byte %zu is not finite",
                           source->where, source->at);
    }
    return LQ_OK;
}

lq_status lq_source_bf16(lq_source *source, float *x, size_t n)
{
    return take_halves(source, x, n, lq_bf16_to_f32);
}

lq_status lq_source_f16(lq_source *source, float *x, size_t n)
{
    return take_halves(source, x, n, lq_f16_to_f32);
}

lq_status lq_source_end(const lq_source *source)
{
    if (source->at != source->bytes)
        return lq_fail(LQ_E_FORMAT, "%s: %zu bytes are left over after %zu", source->where,
                       source->bytes - source->at, source->at);
    return LQ_OK;
}

lq_status lq_check_finite(const char *who, const float *w, size_t out, size_t in)
{
    for (size_t i = 0; i < out; i++)
        for (size_t j = 0; j < in; j++)
            if (!isfinite(w[i * in + j]))
                return lq_fail(LQ_E_NUMERIC, "%s: value (%zu,%zu) is %g, must be finite", who, i, j,
                               (double)w[i * in + j]);
    return LQ_OK;
}

void lq_backward_none(const lq_theta *th, const float *dw_eff, float *const *grad,
                      lq_arena *scratch)
{
    (void)th;
    (void)dw_eff;
    (void)grad;
    (void)scratch;
}
