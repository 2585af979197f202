/* LLM-QAT: the scale of a row follows its weights, and is no parameter. As released:
 *
 *     bits 3 up  k = Qp / (max|w| + 1e-6), Qp = 2^(bits-1) - 1;  w_eff = rint(w k) / (k + 1e-6)
 *     bits 2     a = 2 mean|w|;  w_eff = a (rint(2 clip(w/a, +-0.99) - 0.5) + 0.5) / 2
 *     bits 1     a = mean|w|;    w_eff = a sign(w)
 *
 *     dL/dw = dL/dw_eff; with 3 bits and more 0 where |w| >= 2. Nothing flows through the scales.
 *
 * From 3 bits on the lowest code is never used: 7 levels at 3 bits. docs/decisions/0065. */
#include "core/math/kernels.h"
#include "core/quant/grid.h" /* lq_grid_round_step */
#include "core/quant/step.h"

#include <math.h>
#include <string.h>

extern const lq_method lq_method_llmqat;

/* Slots. STEP is 0 while steps are computed from the latents; unpacked, it holds those that shipped and
 * the latents are the effective weights themselves. */
enum { LATENT, STEP, N_SLOTS };

typedef struct opts {
    lq_common_opts common;
} opts;

static const lq_option options[] = {LQ_BITS_OPTION(2)};

static size_t levels_of(const lq_theta *th)
{
    const opts *o = th->opts;
    return lq_levels_of_bits(o->common.bits);
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    const size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels == 0 || levels == 3)
        return lq_fail(LQ_E_OPTION, "llmqat: bits = %g; it has 1, 2, 3, 4 and 8", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    (void)options_read;
    slot[LATENT] = lq_latent_slot(out, in);
    slot[STEP] =
        (lq_slot){.name = "step", .kind = LQ_KIND_FIXED, .rows = out, .cols = 1, .grad_scale = 1};
    *n_slots = N_SLOTS;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    (void)scratch;
    LQ_TRY(lq_check_finite("llmqat", w, th->out, th->in));
    memcpy(th->data[LATENT], w, th->out * th->in * sizeof *w);
    return LQ_OK;
}

/* ---- a row ---- */

typedef struct row {
    lq_step_grid grid;
    float alpha;   /* what the levels of the grid are multiplied by; 0: a row of zeros */
    float inverse; /* 3 bits up: k; levels are rint(w k) */
} row;

static row row_of(const float *w, size_t n, size_t levels)
{
    const lq_step_size size = lq_step_measure(w, n);
    if (levels <= 4)
        return (row){.grid = levels == 2 ? lq_step_sign() : lq_step_stretched(4),
                     .alpha = (float)(levels == 2 ? 1 : 2) * (float)size.mean};
    row r = {.grid = lq_step_integer(levels)};
    r.inverse = r.grid.hi / (size.top + 1e-6f);
    r.alpha = 1 / (r.inverse + 1e-6f);
    return r;
}

static void quantize_row(const row *r, const float *w, size_t n, float *w_eff)
{
    if (r->inverse > 0)
        for (size_t j = 0; j < n; j++)
            w_eff[j] = rintf(w[j] * r->inverse) / (r->inverse + 1e-6f);
    else if (r->alpha > 0)
        lq_step_forward(&r->grid, w, n, r->alpha, w_eff);
    else /* 0 / 0 in the released code */
        memset(w_eff, 0, n * sizeof *w_eff);
}

static bool is_shipped(const lq_theta *th) { return ((const float *)th->data[STEP])[0] > 0; }

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const float *w = th->data[LATENT];
    if (is_shipped(th)) {
        memcpy(w_eff, w, th->out * th->in * sizeof *w_eff);
        return;
    }
    for (size_t i = 0; i < th->out; i++, w += th->in, w_eff += th->in) {
        const row r = row_of(w, th->in, levels_of(th));
        quantize_row(&r, w, th->in, w_eff);
    }
}

static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    const size_t n = th->out * th->in;
    const float *w = th->data[LATENT];
    float *dw = grad[LATENT];
    if (dw == NULL)
        return;
    if (levels_of(th) <= 4) {
        lq_kernels()->add(dw, dw_eff, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        dw[i] += fabsf(w[i]) >= 2 ? 0 : dw_eff[i];
}

/* Rounding at `base` is taken as adding what it added there, and scales as constants. */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w_eff, lq_arena *scratch)
{
    const float *moved = at->data[LATENT], *w = base->data[LATENT];
    effective(base, w_eff, scratch);
    for (size_t i = 0; i < base->out * base->in; i++)
        w_eff[i] += levels_of(base) > 4 && fabsf(w[i]) >= 2 ? 0 : moved[i] - w[i];
}

/* ---- bytes ---- */

static uint8_t code_of(const row *r, float w)
{
    if (r->inverse > 0)
        return (uint8_t)((int)rintf(w * r->inverse) - r->grid.first);
    return r->alpha > 0 ? lq_step_code(&r->grid, w, r->alpha) : (uint8_t)(r->grid.levels / 2);
}

/* Steps as fp16, a row each, then codes: bits + 16 / in a weight. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const float *w = th->data[LATENT], *shipped = th->data[STEP];
    uint8_t *code;
    float *step;
    LQ_TRY(lq_check_finite("llmqat", w, th->out, th->in));
    LQ_TRY(lq_arena_new(bytes->arena, &code, th->out * th->in));
    LQ_TRY(lq_arena_new(bytes->arena, &step, th->out));
    for (size_t i = 0; i < th->out; i++) {
        row r = row_of(w + i * th->in, th->in, levels_of(th));
        step[i] = lq_grid_round_step(r.alpha);
        if (is_shipped(th)) { /* its latents are levels */
            r.alpha = step[i] = shipped[i];
            r.inverse = r.inverse > 0 ? 1 / shipped[i] : 0;
        }
        for (size_t j = i * th->in; j < (i + 1) * th->in; j++)
            code[j] = code_of(&r, w[j]);
    }
    LQ_TRY(lq_sink_f16(bytes, step, th->out));
    return lq_sink_codes(bytes, code, th->out, th->in, levels_of(th));
}

static lq_status unpack_row(lq_theta *th, size_t i, const lq_step_grid *grid, uint8_t *code,
                            lq_source *bytes)
{
    float *w = (float *)th->data[LATENT] + i * th->in;
    const float step = ((const float *)th->data[STEP])[i];
    LQ_TRY(lq_source_codes(bytes, code, 1, th->in, grid->levels));
    for (size_t j = 0; j < th->in; j++) {
        if (grid->levels > 4 && code[j] == 0)
            return lq_fail(LQ_E_FORMAT, "%s: weight (%zu,%zu) has the code that is never used",
                           bytes->where, i, j);
        w[j] = step * lq_step_level(grid, code[j]);
    }
    return LQ_OK;
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    const float *step = th->data[STEP];
    const lq_step_grid grid = row_of((const float[]){1}, 1, levels_of(th)).grid;
    LQ_TRY(lq_source_f16(bytes, th->data[STEP], th->out));
    for (size_t i = 0; i < th->out; i++)
        if (!(step[i] > 0))
            return lq_fail(LQ_E_FORMAT, "%s: step %zu is %g", bytes->where, i, (double)step[i]);
    lq_arena room = {0};
    uint8_t *code;
    lq_status status = lq_arena_new(&room, &code, th->in);
    for (size_t i = 0; i < th->out && status == LQ_OK; i++)
        status = unpack_row(th, i, &grid, code, bytes);
    lq_arena_close(&room);
    return status;
}

const lq_method lq_method_llmqat = {
    .name = "llmqat",
    .source = "LLM-QAT, arXiv:2305.17888, and facebookresearch/LLM-QAT 5ef1289 "
              "models/utils_quant.py, weights only: docs/decisions/0065",
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
