/* BitNet b1.58: three levels with one dynamic scale a weight matrix, the absolute mean, and identity
 * gradients; from a pretrained weight the quantized part is blended in.
 *
 *     a = max(mean |w|, 1e-5),  q(w) = clip(rint(w (1/a)), -1, 1) / (1/a)      bits 1.58
 *     q(w) = a sign(w - mean w), a = mean |w|                                  bits 1: BitNet b1
 *     w_eff = w + lambda (q(w) - w),   dL/dw = dL/dw_eff whatever lambda is
 *
 * lambda is 1 in what ships and, while training end to end, a function of the progress x: the published
 * min(step/1000, 1) of 5000 steps is the ramp min(x / 0.2, 1). docs/decisions/0064. */
#include "core/math/kernels.h"
#include "core/quant/grid.h" /* lq_grid_round_step */
#include "core/quant/step.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_bitnet;

/* Slots. SCALE is 0 while the scale is computed from the latents; unpacked, it is the one that shipped and
 * the latents are the effective weights themselves. */
enum { LATENT, SCALE, N_SLOTS };
enum { RAMP_LINEAR, RAMP_POWER, RAMP_SIGMOID };

typedef struct opts {
    lq_common_opts common;
    double warmup, ramp_k;
    int ramp;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(1.58),
    {"warmup", LQ_OPTION_REAL, offsetof(opts, warmup), 0.2, 0, 1, NULL,
     "share of the training over which quantization is blended in; 0: none, as from scratch"},
    {"ramp", LQ_OPTION_CHOICE, offsetof(opts, ramp), RAMP_LINEAR, 0, 0, "linear|power|sigmoid",
     "lambda over the warm-up t in 0..1: t, 1 - (1-t)^k, or 1 / (1 + exp(-k (t - 1/2)))"},
    {"ramp_k", LQ_OPTION_REAL, offsetof(opts, ramp_k), 0, 0, 1000, NULL,
     "k of the ramp; 0: the best published, 4 for power and 100 for sigmoid"},
};

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    const size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels != 2 && levels != 3)
        return lq_fail(LQ_E_OPTION, "bitnet: bits = %g; it has 1 and 1.58", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    (void)options_read;
    slot[LATENT] = lq_latent_slot(out, in);
    slot[SCALE] =
        (lq_slot){.name = "scale", .kind = LQ_KIND_FIXED, .rows = 1, .cols = 1, .grad_scale = 1};
    *n_slots = N_SLOTS;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    (void)scratch;
    LQ_TRY(lq_check_finite("bitnet", w, th->out, th->in));
    memcpy(th->data[LATENT], w, th->out * th->in * sizeof *w);
    return LQ_OK;
}

static float shipped_scale(const lq_theta *th) { return ((const float *)th->data[SCALE])[0]; }
static bool is_binary(const lq_theta *th)
{
    const opts *o = th->opts;
    return lq_levels_of_bits(o->common.bits) == 2;
}

typedef struct quantizer {
    float inverse; /* 1 / a: the released code multiplies by it and divides by it again */
    float middle;  /* mean w, for b1 */
    bool binary;
} quantizer;

static quantizer quantizer_of(const lq_theta *th)
{
    const float *w = th->data[LATENT];
    const size_t n = th->out * th->in;
    const float a = (float)lq_step_measure(w, n).mean;
    quantizer q = {.inverse = 1.0f / (a < 1e-5f ? 1e-5f : a), .binary = is_binary(th)};
    double sum = 0;
    for (size_t i = 0; i < n && q.binary; i++)
        sum += (double)w[i];
    q.middle = (float)(sum / (double)n);
    return q;
}

/* -1, 0, 1; ties of rint go to 0, b1's sign of 0 is -1. */
static float level_of(const quantizer *q, float w)
{
    if (q->binary)
        return w - q->middle > 0 ? 1 : -1;
    const float r = rintf(w * q->inverse);
    return r < -1 ? -1 : r > 1 ? 1 : r;
}

static float lambda_of(const opts *o, lq_when now)
{
    if (now.stage != LQ_STAGE_END_TO_END || now.progress >= o->warmup)
        return 1;
    const double t = now.progress / o->warmup;
    if (o->ramp == RAMP_POWER)
        return (float)(1 - pow(1 - t, o->ramp_k > 0 ? o->ramp_k : 4));
    if (o->ramp == RAMP_SIGMOID)
        return (float)(1 / (1 + exp(-(o->ramp_k > 0 ? o->ramp_k : 100) * (t - 0.5))));
    return (float)t;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const float *w = th->data[LATENT];
    const size_t n = th->out * th->in;
    if (shipped_scale(th) > 0) {
        memcpy(w_eff, w, n * sizeof *w_eff);
        return;
    }
    const quantizer q = quantizer_of(th);
    const float lambda = lambda_of(th->opts, th->now);
    for (size_t i = 0; i < n; i++) {
        const float value = level_of(&q, w[i]) / q.inverse;
        w_eff[i] = lambda == 1 ? value : w[i] + lambda * (value - w[i]);
    }
}

static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    if (grad[LATENT] != NULL)
        lq_kernels()->add(grad[LATENT], dw_eff, th->out * th->in);
}

static void surrogate(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch)
{
    const float *moved = at->data[LATENT], *latent = base->data[LATENT];
    effective(base, w, scratch);
    for (size_t i = 0; i < base->out * base->in; i++)
        w[i] += moved[i] - latent[i];
}

/* The scale as fp16, then trits, five a byte, or bits: 1.6 (or 1) + 16 / (out in) a weight. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const size_t n = th->out * th->in, levels = is_binary(th) ? 2 : 3;
    const float *w = th->data[LATENT];
    uint8_t *code;
    LQ_TRY(lq_check_finite("bitnet", w, th->out, th->in));
    LQ_TRY(lq_arena_new(bytes->arena, &code, n));
    quantizer q = quantizer_of(th);
    float scale = lq_grid_round_step(1 / q.inverse);
    if (shipped_scale(th) > 0) { /* its latents are levels */
        scale = shipped_scale(th);
        q = (quantizer){.inverse = 1 / scale, .binary = q.binary};
    }
    for (size_t i = 0; i < n; i++) {
        const float level = level_of(&q, w[i]);
        code[i] = (uint8_t)(levels == 2 ? level > 0 : (int)level + 1);
    }
    LQ_TRY(lq_sink_f16(bytes, &scale, 1));
    return lq_sink_codes(bytes, code, th->out, th->in, levels);
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    const size_t n = th->out * th->in;
    float *w = th->data[LATENT], *scale = th->data[SCALE];
    LQ_TRY(lq_source_f16(bytes, scale, 1));
    if (!(scale[0] > 0))
        return lq_fail(LQ_E_FORMAT, "%s: the scale is %g", bytes->where, (double)scale[0]);
    lq_arena room = {0};
    uint8_t *code;
    lq_status status = lq_arena_new(&room, &code, n);
    if (status == LQ_OK)
        status = lq_source_codes(bytes, code, th->out, th->in, is_binary(th) ? 2 : 3);
    for (size_t i = 0; i < n && status == LQ_OK; i++)
        w[i] = scale[0] * (float)(is_binary(th) ? 2 * code[i] - 1 : code[i] - 1);
    lq_arena_close(&room);
    return status;
}

const lq_method lq_method_bitnet = {
    .name = "bitnet",
    .source = "BitNet b1.58, arXiv:2402.17764, with microsoft/unilm's FAQ code; the warm-up of "
              "huggingface/blog 1_58_llm_extreme_quantization.md; bits 1: BitNet, "
              "arXiv:2310.11453. Weights only: docs/decisions/0064",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_TRAINS,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .effective = effective,
    .backward = backward,
    .pack = pack,
    .unpack = unpack,
    .surrogate = surrogate,
};
