/* UniSVQ, the PTQ method that LC-QAT starts from: codes of a linear-constrained codebook behind Hadamard
 * transforms, chosen once by LDLQ. What is continuous (SU, SV, A, B) can be tuned block by block. */
#include "core/quant/lcqat_theta.h"

#include <string.h>

static const lq_option options[] = {LQ_LCQAT_OPTIONS};
static const lq_preset presets[] = {{"ours", ""},
                                    {"paper", LQ_LCQAT_PAPER},
                                    {"release", LQ_LCQAT_RELEASE},
                                    {"scalar", LQ_LCQAT_SCALAR}};

static lq_status check(const void *opts) { return lq_lcqat_check(opts, "unisvq"); }

static lq_status layout(const void *opts, size_t out, size_t in, lq_slot *slot, size_t *n_slots)
{
    slot[LQ_LCQAT_CODES] = (lq_slot){
        .name = "codes", .kind = LQ_KIND_DISCRETE, .rows = out, .cols = in, .grad_scale = 1};
    return lq_lcqat_layout(opts, "unisvq", out, in, slot, n_slots);
}

/* Scales ship in 16 bits; they are what they ship as from the start. */
static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status = lq_lcqat_start(th, w, calib, rng, th->data[LQ_LCQAT_CODES], scratch);
    lq_arena_release(scratch, mark);
    if (status == LQ_OK)
        lq_lcqat_round_scales(th);
    return status;
}

static void levels_of_codes(const lq_theta *th, float *q)
{
    const uint8_t *code = th->data[LQ_LCQAT_CODES];
    for (size_t i = 0; i < th->out * th->in; i++)
        q[i] = (float)code[i];
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    levels_of_codes(th, w_eff);
    lq_lcqat_decode(th, w_eff, w_eff);
    lq_lcqat_assemble(th, w_eff, scratch);
}

/* The codes stand; everything else may be tuned. */
static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    const size_t count = th->out * th->in;
    lq_mark mark = lq_arena_mark(scratch);
    float *dC = lq_arena_f32(scratch, count), *q = lq_arena_f32(scratch, count);
    memcpy(dC, dw_eff, count * sizeof *dC);
    lq_lcqat_disassemble(th, dC, scratch);
    levels_of_codes(th, q);
    lq_lcqat_backward(th, dw_eff, q, dC, grad, scratch);
    lq_arena_release(scratch, mark);
}

/* The bytes of core/quant/lcqat_theta.h. At 2 bits and a width that 4 divides: 2 + 16 (m+n)/(mn) bits a
 * weight, and 32/(mn) for the affine map or 16 (d^2+d)/(mn) for A and B. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    return lq_lcqat_pack(th, th->data[LQ_LCQAT_CODES], bytes);
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    return lq_lcqat_unpack(th, bytes, th->data[LQ_LCQAT_CODES]);
}

const lq_method lq_method_unisvq = {
    .name = "unisvq",
    .source =
        "UniSVQ, arXiv:2606.10520, in three presets beside ours: paper (full rotation, random "
        "orthogonal A), release (AI9Stars/UniSVQ 449e8e4: A = I in bfloat16, Hadamard blocks of "
        "128), scalar (the paper's with a scalar grid); docs/decisions/0030 to 0035",
    .family = LQ_FAMILY_VECTOR,
    .needs = LQ_NEEDS_GRAM,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(lq_lcqat_opts),
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .check = check,
    .layout = layout,
    .init = init,
    .effective = effective,
    .backward = backward,
    .pack = pack,
    .unpack = unpack,
};
