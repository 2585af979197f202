/* Full precision: the weight itself, rounded once to the 16 bits in which it ships. */
#include "core/quant/method.h"

#include "core/data/safetensors.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_none;

static const lq_option options[] = {LQ_BITS_OPTION(16)};

static lq_status check(const void *opts)
{
    const lq_common_opts *o = opts;
    if (o->bits != 16)
        return lq_fail(LQ_E_OPTION, "none: bits = %g; full precision ships 16", o->bits);
    return LQ_OK;
}

static lq_status layout(const void *opts, size_t out, size_t in, lq_slot *slot, size_t *n_slots)
{
    (void)opts;
    slot[0] = (lq_slot){"weight", LQ_KIND_FIXED, .rows = out, .cols = in, .grad_scale = 1};
    *n_slots = 1;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    (void)scratch;
    LQ_TRY(lq_check_finite("none", w, th->out, th->in));
    float *weight = th->data[0];
    for (size_t i = 0; i < th->out * th->in; i++) {
        weight[i] = lq_bf16_to_f32(lq_f32_to_bf16(w[i]));
        if (!isfinite(weight[i]))
            return lq_fail(LQ_E_NUMERIC, "none: weight %zu, %g, overflows bf16", i, (double)w[i]);
    }
    return LQ_OK;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    memcpy(w_eff, th->data[0], th->out * th->in * sizeof *w_eff);
}

static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    return lq_sink_bf16(bytes, th->data[0], th->out * th->in);
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    return lq_source_bf16(bytes, th->data[0], th->out * th->in);
}

const lq_method lq_method_none = {
    .name = "none",
    .source = "full precision, bf16: the ceiling of every table",
    .family = LQ_FAMILY_NONE,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(lq_common_opts),
    .check = check,
    .layout = layout,
    .init = init,
    .effective = effective,
    .backward = lq_backward_none,
    .pack = pack,
    .unpack = unpack,
};
