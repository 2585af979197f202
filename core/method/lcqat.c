/* LC-QAT, the studied method: a linear-constrained codebook behind Hadamard transforms.
 *
 *     What = diag(SV) Q_m C Q_n' diag(SU),   C = A clip(rint(u), 0, q_max) + B
 *
 * Codes start at UniSVQ's; then u, SU, SV and A, B are trained, u through an estimator of rounding's slope. */
#include "core/math/kernels.h"
#include "core/quant/gate.h"
#include "core/quant/lcqat_theta.h"

#include <math.h>
#include <string.h>

enum { U = LQ_LCQAT_CODES };
enum { KAPPA_NONE, KAPPA_CODE, KAPPA_PAPER };
enum { ESTIMATOR_DGE, ESTIMATOR_STE, ESTIMATOR_STABLE };
enum { OOB_OFFICIAL, OOB_MIRRORED, OOB_ZERO };

typedef struct lcqat_opts {
    lq_lcqat_opts base;
    int kappa, estimator, dge_oob;
    bool train_u, train_su, train_sv, train_affine;
    double lr_u, lr_scales, lr_affine, weight_decay, decay_scales;
    double dge_k, dge_ceiling, stable_a, sgm_keep;
} lcqat_opts;

#define AT(member) offsetof(lcqat_opts, member)
static const lq_option options[] = {
    LQ_LCQAT_OPTIONS,
    {"kappa", LQ_OPTION_CHOICE, AT(kappa), KAPPA_NONE, 0, 0, "none|code|paper",
     "what lr_u moves: the codes, or the proxy weight P = (u - mu) / kappa of code or paper"},
    {"lr_u", LQ_OPTION_REAL, AT(lr_u), 3e-3, 0, 1, NULL,
     "peak learning rate of the latent, in the unit that kappa names, a step; 0: the run's"},
    {"lr_scales", LQ_OPTION_REAL, AT(lr_scales), 0, 0, 1, NULL,
     "peak learning rate of SU and SV; 0: the run's"},
    {"lr_affine", LQ_OPTION_REAL, AT(lr_affine), 0, 0, 1, NULL,
     "peak learning rate of A and B; 0: the run's"},
    {"weight_decay", LQ_OPTION_REAL, AT(weight_decay), 0, 0, 10, NULL,
     "of the latent, towards the middle of the codes"},
    {"decay_scales", LQ_OPTION_REAL, AT(decay_scales), 0, 0, 10, NULL, "of SU, SV, A and B"},
    {"train_u", LQ_OPTION_BOOL, AT(train_u), 1, 0, 1, NULL, "train the latent: codes may change"},
    {"train_su", LQ_OPTION_BOOL, AT(train_su), 1, 0, 1, NULL, "train SU"},
    {"train_sv", LQ_OPTION_BOOL, AT(train_sv), 1, 0, 1, NULL, "train SV"},
    {"train_affine", LQ_OPTION_BOOL, AT(train_affine), 1, 0, 1, NULL, "train A and B"},
    {"estimator", LQ_OPTION_CHOICE, AT(estimator), ESTIMATOR_DGE, 0, 0, "dge|ste|stable",
     "derivative of the rounding: DGE's, 1 everywhere, or StableQAT's"},
    {"dge_k", LQ_OPTION_REAL, AT(dge_k), 5, 1, 50, NULL, "k of DGE"},
    {"dge_ceiling", LQ_OPTION_REAL, AT(dge_ceiling), 3, 0.1, 1e6, NULL,
     "largest derivative that DGE gives"},
    {"dge_oob", LQ_OPTION_CHOICE, AT(dge_oob), OOB_OFFICIAL, 0, 0, "official|mirrored|zero",
     "DGE beyond the last code: as released, as before the first one, or nothing on either side"},
    {"stable_a", LQ_OPTION_REAL, AT(stable_a), 0.21, 0, 0.22, NULL,
     "amplitude of StableQAT's gate; 0: STE inside the range"},
    {"sgm_keep", LQ_OPTION_REAL, AT(sgm_keep), 1, 0, 1, NULL,
     "share of 128 chunks of the latent that a step moves"},
};
static const lq_preset presets[] = {
    {"ours", ""},
    {"paper", LQ_LCQAT_PAPER " kappa=paper lr_u=1e-4"},
    {"release", LQ_LCQAT_RELEASE " kappa=code lr_u=1e-4 weight_decay=0.1 decay_scales=0.1"},
    {"scalar", LQ_LCQAT_SCALAR " kappa=paper lr_u=1e-4"},
};

static lq_status check(const void *opts)
{
    const lcqat_opts *o = opts;
    LQ_TRY(lq_lcqat_check(&o->base, "lcqat"));
    if (o->kappa != KAPPA_NONE && !(o->lr_u > 0))
        return lq_fail(LQ_E_OPTION,
                       "lcqat: with kappa=code or paper lr_u is the rate of the proxy weight; "
                       "give one above 0");
    if (!(o->train_u || o->train_su || o->train_sv || o->train_affine))
        return lq_fail(LQ_E_OPTION, "lcqat: nothing is left to train; take unisvq");
    return LQ_OK;
}

/* P = (u - mu) / kappa. A step of P moves u by kappa times as much; decay shrinks both by one factor,
 * 1 - lr decay. */
static double kappa_of(const lcqat_opts *o, size_t out, size_t in)
{
    if (o->kappa == KAPPA_NONE)
        return 1;
    return o->kappa == KAPPA_CODE ? lq_lcqat_kappa(out, in)
                                  : lq_lcqat_kappa_paper(lq_lcqat_levels(&o->base), out, in);
}

static lq_status layout(const void *opts, size_t out, size_t in, lq_slot *slot, size_t *n_slots)
{
    const lcqat_opts *o = opts;
    const double kappa = kappa_of(o, out, in);
    LQ_TRY(lq_lcqat_layout(&o->base, "lcqat", out, in, slot, n_slots));
    slot[U] = (lq_slot){.name = "u",
                        .kind = LQ_KIND_CONTINUOUS,
                        .rows = out,
                        .cols = in,
                        .train = o->train_u,
                        .grad_scale = 1,
                        .lr = kappa * o->lr_u,
                        .weight_decay = o->weight_decay / kappa,
                        .decay_centre = (double)(lq_lcqat_levels(&o->base) - 1) / 2};
    slot[LQ_LCQAT_SU].train = o->train_su;
    slot[LQ_LCQAT_SV].train = o->train_sv;
    slot[LQ_LCQAT_SU].lr = slot[LQ_LCQAT_SV].lr = o->lr_scales;
    for (size_t s = LQ_LCQAT_A; s < *n_slots; s++) {
        slot[s].train = o->train_affine;
        slot[s].lr = o->lr_affine;
    }
    for (size_t s = LQ_LCQAT_SU; s < *n_slots; s++)
        slot[s].weight_decay = o->decay_scales;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    float *u = th->data[U];
    uint8_t *code;
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status = lq_arena_new(scratch, &code, th->out * th->in);
    if (status == LQ_OK)
        status = lq_lcqat_start(th, w, calib, rng, code, scratch);
    for (size_t i = 0; status == LQ_OK && i < th->out * th->in; i++)
        u[i] = (float)code[i];
    lq_arena_release(scratch, mark);
    return status;
}

/* ---- theta -> What and back -------------------------------------------------------------------- */

static float q_max_of(const lq_theta *th) { return (float)(lq_lcqat_levels(th->opts) - 1); }

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    lq_kernels()->dge_fwd(w_eff, th->data[U], th->out * th->in, q_max_of(th));
    lq_lcqat_decode(th, w_eff, w_eff);
    lq_lcqat_assemble(th, w_eff, scratch);
}

/* du += dq phi(u), phi the released code's DGE. Inside the range phi is even about the middle of an
 * interval, so that q_max - u < 0 is the mirror image of u > q_max. */
static void add_dge(const lcqat_opts *o, float *du, const float *dq, const float *u, size_t count,
                    float q_max, lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    if (o->dge_oob != OOB_OFFICIAL) {
        float *x = lq_arena_f32(scratch, count), *g = lq_arena_f32(scratch, count);
        const bool zero = o->dge_oob == OOB_ZERO;
        for (size_t i = 0; i < count; i++) {
            x[i] = u[i] > q_max ? q_max - u[i] : u[i];
            g[i] = zero && x[i] < 0 ? 0 : dq[i];
        }
        u = x;
        dq = g;
    }
    lq_kernels()->dge_bwd(du, dq, u, count, q_max, (float)o->dge_k, (float)o->dge_ceiling, 1);
    lq_arena_release(scratch, mark);
}

/* StableQAT's slope (core/quant/gate.h) inside the range, nothing beyond. */
static void add_stable(const lcqat_opts *o, float *du, const float *dq, const float *u,
                       size_t count, float q_max)
{
    const lq_stable_gate gate = lq_stable_gate_of(o->stable_a);
    for (size_t i = 0; i < count; i++)
        if (!(u[i] < 0 || u[i] > q_max)) /* a NaN stays one */
            du[i] += dq[i] * lq_stable_slope(gate, u[i]);
}

/* du += dq times the estimator's slope of rounding at u. */
static void add_slopes(const lq_theta *th, float *du, const float *dq, const float *u,
                       lq_arena *scratch)
{
    const lcqat_opts *o = th->opts;
    const size_t count = th->out * th->in;
    if (o->estimator == ESTIMATOR_DGE)
        add_dge(o, du, dq, u, count, q_max_of(th), scratch);
    else if (o->estimator == ESTIMATOR_STABLE)
        add_stable(o, du, dq, u, count, q_max_of(th));
    else
        lq_kernels()->add(du, dq, count);
}

/* Stochastic gradient masking: of 128 contiguous chunks, about sgm_keep are left. The released code draws
 * such a mask and never uses it (docs/decisions/0034). Each step has its own draw. */
static void mask_chunks(const lq_theta *th, float *dq, size_t count)
{
    enum { CHUNKS = 128 };
    const lcqat_opts *o = th->opts;
    if (o->sgm_keep >= 1)
        return;
    lq_rng rng = lq_rng_seed(th->now.seed);
    for (size_t c = 0; c < CHUNKS; c++) {
        const size_t from = c * count / CHUNKS, to = (c + 1) * count / CHUNKS;
        if (lq_rng_uniform(&rng) >= o->sgm_keep)
            memset(dq + from, 0, (to - from) * sizeof *dq);
    }
}

/* dC = Q_m' diag(SV) G diag(SU) Q_n, dq = A' dC, du = dq phi(u): u is in code units, so the release's
 * factor kappa is absent. */
static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    const size_t count = th->out * th->in;
    lq_mark mark = lq_arena_mark(scratch);
    float *dC = lq_arena_f32(scratch, count), *q = lq_arena_f32(scratch, count);
    memcpy(dC, dw_eff, count * sizeof *dC);
    lq_lcqat_disassemble(th, dC, scratch);
    lq_kernels()->dge_fwd(q, th->data[U], count, q_max_of(th));
    lq_lcqat_backward(th, dw_eff, q, dC, grad, scratch);
    if (grad[U] != NULL) {
        lq_lcqat_code_gradient(th, dC, dC);
        mask_chunks(th, dC, count);
        add_slopes(th, grad[U], dC, th->data[U], scratch);
    }
    lq_arena_release(scratch, mark);
}

/* What backward's gradient is the gradient of: rounding replaced by its tangent at `base`,
 * q = q(base) + phi(base) (u - u(base)). */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch)
{
    const size_t count = at->out * at->in;
    const float *u = at->data[U], *u_base = base->data[U];
    lq_mark mark = lq_arena_mark(scratch);
    float *moved = lq_arena_f32(scratch, count), *q = lq_arena_f32(scratch, count);
    for (size_t i = 0; i < count; i++)
        moved[i] = u[i] - u_base[i];
    lq_kernels()->dge_fwd(q, u_base, count, q_max_of(base));
    add_slopes(base, q, moved, u_base, scratch);
    lq_lcqat_decode(at, q, w);
    lq_lcqat_assemble(at, w, scratch);
    lq_arena_release(scratch, mark);
}

/* ---- Bytes ------------------------------------------------------------------------------------- */

/* The codes that the latents round to, then as core/quant/lcqat_theta.h says. At 2 bits and a width that 4
 * divides: 2 + 16 (m+n)/(mn) + 32/(mn) bits a weight, or 16 (d^2+d)/(mn) for A and B. */
static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const size_t count = th->out * th->in;
    const float *u = th->data[U];
    uint8_t *code;
    float *q;
    LQ_TRY(lq_arena_new(bytes->arena, &code, count));
    LQ_TRY(lq_arena_new(bytes->arena, &q, count));
    lq_kernels()->dge_fwd(q, u, count, q_max_of(th));
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(u[i]))
            return lq_fail(LQ_E_NUMERIC, "lcqat: latent (%zu,%zu) is not finite; nothing to pack",
                           i / th->in, i % th->in);
        code[i] = (uint8_t)q[i];
    }
    return lq_lcqat_pack(th, code, bytes);
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    float *u = th->data[U];
    lq_arena own = {0};
    uint8_t *code;
    lq_status status = lq_arena_new(&own, &code, th->out * th->in);
    if (status == LQ_OK)
        status = lq_lcqat_unpack(th, bytes, code);
    for (size_t i = 0; status == LQ_OK && i < th->out * th->in; i++)
        u[i] = (float)code[i];
    lq_arena_close(&own);
    return status;
}

const lq_method lq_method_lcqat = {
    .name = "lcqat",
    .source =
        "LC-QAT, arXiv:2606.10531, from UniSVQ's start (method unisvq), in three presets beside "
        "ours: paper, release (AI9Stars/UniSVQ 449e8e4), scalar (the control without a vector "
        "codebook). DGE follows the released code: clamped at 3 and not cut off outside the "
        "range; A and B are trained; ours: latent in code units, guarded sweeps, exact grid; "
        "docs/decisions/0020 to 0035",
    .family = LQ_FAMILY_VECTOR,
    .needs = LQ_NEEDS_GRAM | LQ_TRAINS,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(lcqat_opts),
    .presets = presets,
    .n_presets = sizeof presets / sizeof presets[0],
    .check = check,
    .layout = layout,
    .init = init,
    .effective = effective,
    .backward = backward,
    .pack = pack,
    .unpack = unpack,
    .surrogate = surrogate,
};
