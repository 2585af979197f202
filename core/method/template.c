/* A method to copy: the smallest one that trains, packs and passes the contract suite. It is compiled, so
 * that it cannot rot, but not registered. docs/add-a-method.md says what to do with your copy.
 *
 * This one keeps a dense "latent" weight, (out,in), which training moves, and one "step" a row, which
 * ->init fixes. The effective weight is the latent, rounded to a symmetric grid:
 *     w_eff = step * clip(rint(latent / step), lo, hi),   lo = -2^(bits-1), hi = 2^(bits-1) - 1
 * and its gradient is handed to the latent as if nothing had been rounded. */
#include "core/quant/grid.h" /* for lq_grid_round_step; core/quant/method.h comes with it */

#include <math.h>
#include <string.h>

extern const lq_method lq_method_template;

/* 1. Options: a struct that begins with lq_common_opts, and a table with a line for each member. The
 *    table reads specs and --set, checks ranges, fills in defaults and prints the help. */
typedef struct opts {
    lq_common_opts common;
    double width; /* of the first step, relative to LSQ's */
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"width", LQ_OPTION_REAL, offsetof(opts, width), 1, 0.01, 100, NULL,
     "step of a row = width * 2 mean|w| / sqrt(highest code)"},
};

/* What a range in the table cannot say. `lcqat methods` asks this for the bits that you support. */
static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    size_t levels = lq_levels_of_bits(o->common.bits);
    if (levels < 4 || levels > 16)
        return lq_fail(LQ_E_OPTION, "template: bits = %g; it has 2, 3 and 4", o->common.bits);
    return LQ_OK;
}

/* 2. Layout: the tensors of theta. CONTINUOUS slots with `train` get a gradient and an optimizer state;
 *    DISCRETE ones are uint8_t; FIXED ones are floats that nobody moves after ->init. */
enum { LATENT, STEP };

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    (void)options_read;
    slot[LATENT] = (lq_slot){.name = "latent",
                             .kind = LQ_KIND_CONTINUOUS,
                             .rows = out,
                             .cols = in,
                             .train = true,
                             .grad_scale = 1};
    slot[STEP] =
        (lq_slot){.name = "step", .kind = LQ_KIND_FIXED, .rows = out, .cols = 1, .grad_scale = 1};
    *n_slots = 2;
    return LQ_OK;
}

/* 3. Init: from the full-precision w. Ask for E[x' x] with .needs = LQ_NEEDS_GRAM and find it in
 *    calib->gram; draw random numbers from rng alone. Expect rows of zeros. */
static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    (void)calib;
    (void)rng;
    (void)scratch;
    const opts *o = th->opts;
    double highest = (double)(lq_levels_of_bits(o->common.bits) / 2 - 1);
    float *step = th->data[STEP];
    LQ_TRY(lq_check_finite("template", w, th->out, th->in));
    memcpy(th->data[LATENT], w, th->out * th->in * sizeof *w);
    for (size_t i = 0; i < th->out; i++) {
        double mean = 0;
        for (size_t j = 0; j < th->in; j++)
            mean += fabs((double)w[i * th->in + j]) / (double)th->in;
        /* The step ships as fp16, so it is an fp16 number from the start, and never 0. */
        step[i] = lq_grid_round_step((float)(o->width * 2 * mean / sqrt(highest)));
        if (!isfinite(step[i]))
            return lq_fail(LQ_E_NUMERIC, "template: the step of row %zu overflows fp16", i);
    }
    return LQ_OK;
}

/* 4. Effective: the definition, theta -> w_eff. It runs on every training step and is all that the model
 *    ever sees. Pure: it may use scratch, but changes nothing and cannot fail. */
static float code_of(const lq_theta *th, float latent, float step)
{
    const opts *o = th->opts;
    float half = (float)(lq_levels_of_bits(o->common.bits) / 2);
    float code = rintf(latent / step);
    return code < -half ? -half : code > half - 1 ? half - 1 : code;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const float *latent = th->data[LATENT], *step = th->data[STEP];
    for (size_t i = 0; i < th->out; i++)
        for (size_t j = i * th->in; j < (i + 1) * th->in; j++)
            w_eff[j] = step[i] * code_of(th, latent[j], step[i]);
}

/* 5. Backward: given dL/dw_eff, add dL/d(slot). A NULL means that the slot is frozen. */
static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    float *dlatent = grad[LATENT];
    for (size_t i = 0; i < th->out * th->in && dlatent != NULL; i++)
        dlatent[i] += dw_eff[i];
}

/* ... and the function whose derivative that is, if ->effective jumps: rounding at `base` is taken as
 * adding what it added there. The contract suite compares ->backward with differences of this. */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch)
{
    const float *moved = at->data[LATENT], *latent = base->data[LATENT];
    effective(base, w, scratch);
    for (size_t i = 0; i < base->out * base->in; i++)
        w[i] += moved[i] - latent[i];
}

/* 6. Pack: all that ships, and hence what "bits per weight" counts. Unpack: theta again, from bytes that
 *    may be damaged; the helpers check lengths and codes. Packing what was unpacked gives the same bytes. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const opts *o = th->opts;
    const float *latent = th->data[LATENT], *step = th->data[STEP];
    size_t levels = lq_levels_of_bits(o->common.bits);
    uint8_t *codes = lq_arena_alloc(bytes->arena, th->out * th->in);
    if (codes == NULL)
        return LQ_E_MEMORY;
    LQ_TRY(lq_check_finite("template", latent, th->out, th->in)); /* a diverged run gets a reason */
    for (size_t i = 0; i < th->out * th->in; i++)
        codes[i] = (uint8_t)((int)code_of(th, latent[i], step[i / th->in]) + (int)(levels / 2));
    LQ_TRY(lq_sink_f16(bytes, step, th->out));
    return lq_sink_codes(bytes, codes, th->out, th->in, levels);
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    const opts *o = th->opts;
    float *latent = th->data[LATENT], *step = th->data[STEP];
    size_t levels = lq_levels_of_bits(o->common.bits);
    lq_arena room = {0};
    uint8_t *codes = lq_arena_alloc(&room, th->out * th->in);
    lq_status status = codes != NULL ? lq_source_f16(bytes, step, th->out) : LQ_E_MEMORY;
    if (status == LQ_OK)
        status = lq_source_codes(bytes, codes, th->out, th->in, levels);
    for (size_t i = 0; i < th->out && status == LQ_OK; i++)
        if (!(step[i] > 0.0f))
            status = lq_fail(LQ_E_FORMAT, "%s: step %zu is %g", bytes->where, i, (double)step[i]);
    for (size_t i = 0; i < th->out * th->in && status == LQ_OK; i++)
        latent[i] = step[i / th->in] * (float)((int)codes[i] - (int)(levels / 2));
    lq_arena_close(&room);
    return status;
}

/* 7. The table: what the rest of the program knows of the method. */
const lq_method lq_method_template = {
    .name = "template",
    .source = "an example: symmetric grid, first step of LSQ (arXiv:1902.08153, sec. 2.1), "
              "straight-through gradient",
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
