/* LC-QAT, the studied method: a linear-constrained codebook behind block Hadamard transforms.
 *
 *     What = diag(SV) Q_m C Q_n diag(SU),   C = s_c clip(rint(u), 0, q_max) + o_c
 *
 * Codes start at LDLQ's rounding; then u, SU, SV and (s_c, o_c) are trained, u through DGE. */
#include "core/quant/lcqat.h"
#include "core/math/kernels.h"
#include "core/quant/hadamard.h"
#include "core/quant/method.h"

#include <math.h>
#include <string.h>

enum { U, SU, SV, AFFINE, N_SLOTS }; /* slots in the order of layout */
enum { START_LDLQ, START_RTN };
enum { CODEBOOK_EXACT, CODEBOOK_BF16 };
enum { ESTIMATOR_DGE, ESTIMATOR_STE };

typedef struct lcqat_opts {
    lq_common_opts common;
    int start, codebook, estimator;
    size_t hadamard_cap, ldl_block, sweeps, sweep_block;
    bool guard, balance, train_scales, train_affine;
    double scale_override, sigma_reg;
    double lr_u, lr_scales, weight_decay, dge_k, dge_ceiling;
} lcqat_opts;

#define AT(member) offsetof(lcqat_opts, member)
static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"start", LQ_OPTION_CHOICE, AT(start), START_LDLQ, 0, 0, "ldlq|rtn",
     "first codes: LDLQ under the calibrated gram, or each weight for itself"},
    {"hadamard_cap", LQ_OPTION_SIZE, AT(hadamard_cap), 128, 1, LQ_HADAMARD_LARGEST, NULL,
     "largest Hadamard block; a dimension takes the largest power of two that divides it"},
    {"scale_override", LQ_OPTION_REAL, AT(scale_override), 0.83, 0.1, 10, NULL,
     "g: rms of the rotated weight on the unit-variance grid"},
    {"ldl_block", LQ_OPTION_SIZE, AT(ldl_block), 4, 1, 4, NULL,
     "columns rounded together by LDLQ: 4 (released code), 2 or 1"},
    {"sweeps", LQ_OPTION_SIZE, AT(sweeps), 10, 0, 100, NULL, "coordinate-descent passes at most"},
    {"sweep_block", LQ_OPTION_SIZE, AT(sweep_block), 4, 1, 4, NULL,
     "columns refined together: 4 (released code), 2 or 1 (cannot raise the proxy error)"},
    {"guard", LQ_OPTION_BOOL, AT(guard), 1, 0, 1, NULL,
     "keep the sweep of least proxy error; false: the last, as the released code"},
    {"sigma_reg", LQ_OPTION_REAL, AT(sigma_reg), 0.01, 0, 10, NULL,
     "added to the diagonal of the gram, in units of its mean diagonal"},
    {"codebook", LQ_OPTION_CHOICE, AT(codebook), CODEBOOK_EXACT, 0, 0, "exact|bf16",
     "bf16: the released code's rounded grid and norms, 2 bits only"},
    {"balance", LQ_OPTION_BOOL, AT(balance), 1, 0, 1, NULL,
     "give SU and SV one 2-norm before training"},
    {"lr_u", LQ_OPTION_REAL, AT(lr_u), 3e-3, 0, 1, NULL,
     "peak learning rate of the latent, in code units a step; 0: the run's"},
    {"lr_scales", LQ_OPTION_REAL, AT(lr_scales), 0, 0, 1, NULL,
     "peak learning rate of SU, SV and the affine map; 0: the run's"},
    {"weight_decay", LQ_OPTION_REAL, AT(weight_decay), 0, 0, 10, NULL,
     "of the latent, towards the middle of the codes"},
    {"train_scales", LQ_OPTION_BOOL, AT(train_scales), 1, 0, 1, NULL, "train SU and SV"},
    {"train_affine", LQ_OPTION_BOOL, AT(train_affine), 1, 0, 1, NULL, "train s_c and o_c"},
    {"estimator", LQ_OPTION_CHOICE, AT(estimator), ESTIMATOR_DGE, 0, 0, "dge|ste",
     "derivative of the rounding: DGE's, or 1 everywhere"},
    {"dge_k", LQ_OPTION_REAL, AT(dge_k), 5, 1, 50, NULL, "k of DGE"},
    {"dge_ceiling", LQ_OPTION_REAL, AT(dge_ceiling), 3, 0.1, 1e6, NULL,
     "largest derivative that DGE gives"},
};

static size_t levels_of(const lcqat_opts *o) { return lq_levels_of_bits(o->common.bits); }

static lq_status check(const void *opts)
{
    const lcqat_opts *o = opts;
    const size_t levels = levels_of(o);
    if (levels < 3 || levels > 16)
        return lq_fail(LQ_E_OPTION, "lcqat: bits %g: 1.58, 2, 3 and 4 are possible",
                       o->common.bits);
    if (o->ldl_block == 3 || o->sweep_block == 3)
        return lq_fail(LQ_E_OPTION, "lcqat: ldl_block and sweep_block are 1, 2 or 4, not 3");
    if (o->codebook == CODEBOOK_BF16 &&
        (levels != 4 || o->ldl_block != LQ_LCQAT_D || o->sweep_block != LQ_LCQAT_D))
        return lq_fail(LQ_E_OPTION,
                       "lcqat: codebook bf16 needs bits 2, ldl_block 4 and sweep_block 4");
    return LQ_OK;
}

static lq_status layout(const void *opts, size_t out, size_t in, lq_slot *slot, size_t *n_slots)
{
    const lcqat_opts *o = opts;
    if (o->codebook == CODEBOOK_BF16 && in % LQ_LCQAT_D != 0)
        return lq_fail(LQ_E_SHAPE,
                       "lcqat: codebook bf16 has words of 4 weights, a row has %zu; "
                       "take codebook=exact",
                       in);
    const lq_slot scales = {.kind = LQ_KIND_CONTINUOUS,
                            .rows = 1,
                            .cols = 1,
                            .train = o->train_scales,
                            .grad_scale = 1,
                            .lr = o->lr_scales};
    slot[U] = (lq_slot){.name = "u",
                        .kind = LQ_KIND_CONTINUOUS,
                        .rows = out,
                        .cols = in,
                        .train = true,
                        .grad_scale = 1,
                        .lr = o->lr_u,
                        .weight_decay = o->weight_decay,
                        .decay_centre = (double)(levels_of(o) - 1) / 2};
    slot[SU] = slot[SV] = slot[AFFINE] = scales;
    slot[SU].name = "su";
    slot[SU].cols = in;
    slot[SV].name = "sv";
    slot[SV].rows = out;
    slot[AFFINE].name = "affine"; /* s_c, o_c */
    slot[AFFINE].cols = 2;
    slot[AFFINE].train = o->train_affine;
    *n_slots = N_SLOTS;
    return LQ_OK;
}

/* ---- From a weight to theta -------------------------------------------------------------------- */

/* The largest of 4, 2, 1 that is at most `asked` and divides the width. */
static size_t block_of(size_t in, size_t asked)
{
    while (in % asked != 0)
        asked /= 2;
    return asked;
}

static lq_lcqat_rounding rounding_of(const lcqat_opts *o, size_t in)
{
    return (lq_lcqat_rounding){.levels = levels_of(o),
                               .bf16_grid = o->codebook == CODEBOOK_BF16,
                               .g = o->scale_override,
                               .hadamard_cap = o->hadamard_cap,
                               .sigma = o->sigma_reg,
                               .ldlq = {.block = block_of(in, o->ldl_block),
                                        .sweeps = o->sweeps,
                                        .sweep_block = block_of(in, o->sweep_block),
                                        .guard = o->guard}};
}

static void draw_signs(const lq_rng *rng, const char *name, float *sign, size_t n)
{
    lq_rng stream = lq_rng_split(rng, name, 0);
    for (size_t i = 0; i < n; i++)
        sign[i] = lq_rng_sign(&stream);
}

/* unit (m,n) = w / rms(w); returns the rms, 0 for a zero matrix (unit is then zero). */
static double normalize(const float *w, size_t m, size_t n, float *unit)
{
    const double rms = sqrt(lq_sum_squares(w, m * n) / (double)(m * n));
    for (size_t i = 0; i < m * n; i++)
        unit[i] = rms > 0 ? (float)((double)w[i] / rms) : 0;
    return rms;
}

static bool is_zero_row(const float *row, size_t n)
{
    for (size_t j = 0; j < n; j++)
        if (row[j] != 0)
            return false;
    return true;
}

/* SV = D_m Wscale rms(w). A row of zeros (pruned) gets SV = 0 and so stays what it was. */
static lq_status set_output_scales(float *sv, const float *w, size_t m, size_t n, double scale)
{
    for (size_t i = 0; i < m; i++) {
        sv[i] = is_zero_row(w + i * n, n) ? 0 : (float)((double)sv[i] * scale);
        if (!isfinite(sv[i]))
            return lq_fail(LQ_E_NUMERIC, "lcqat: weights of rms %g are too large for a float scale",
                           scale);
    }
    return LQ_OK;
}

static lq_status init_in(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                         lq_arena *scratch)
{
    const lcqat_opts *o = th->opts;
    const size_t m = th->out, n = th->in;
    float *u = th->data[U], *su = th->data[SU], *sv = th->data[SV];
    float *unit = lq_arena_f32(scratch, m * n);
    double *h = NULL;
    LQ_TRY(lq_check_finite("lcqat", w, m, n));
    const double rms = normalize(w, m, n, unit);
    if (calib != NULL && calib->gram != NULL && o->start == START_LDLQ) {
        h = lq_arena_f64(scratch, n * n);
        memcpy(h, calib->gram, n * n * sizeof *h);
        LQ_TRY(lq_lcqat_regularize(h, n, o->sigma_reg));
    }
    draw_signs(rng, "su", su, n);
    draw_signs(rng, "sv", sv, m);
    const lq_lcqat_rounding how = rounding_of(o, n);
    lq_lcqat_rounded rounded;
    LQ_TRY(lq_lcqat_round_matrix(&how, unit, h, m, n, sv, su, scratch, &rounded, scratch));
    for (size_t i = 0; i < m * n; i++)
        u[i] = (float)rounded.code[i];
    LQ_TRY(set_output_scales(sv, w, m, n, rounded.scale * rms));
    if (o->balance)
        lq_lcqat_balance(su, n, sv, m, 0);
    lq_lcqat_affine(how.levels, how.bf16_grid, th->data[AFFINE]);
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status = init_in(th, w, calib, rng, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

/* ---- theta -> What and back -------------------------------------------------------------------- */

static float q_max_of(const lq_theta *th) { return (float)(levels_of(th->opts) - 1); }

/* In place: C becomes Q_m C Q_n. */
static void rotate(const lq_theta *th, float *C)
{
    const size_t cap = ((const lcqat_opts *)th->opts)->hadamard_cap;
    lq_hadamard_both(C, th->out, th->in, lq_hadamard_block(th->out, cap),
                     lq_hadamard_block(th->in, cap));
}

static void decode(const lq_theta *th, const float *q, float *C)
{
    const float *affine = th->data[AFFINE];
    const float step = affine[0], offset = affine[1];
    for (size_t i = 0; i < th->out * th->in; i++)
        C[i] = step * q[i] + offset;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    lq_kernels()->dge_fwd(w_eff, th->data[U], th->out * th->in, q_max_of(th));
    decode(th, w_eff, w_eff);
    rotate(th, w_eff);
    lq_scale_both(w_eff, th->out, th->in, th->data[SV], th->data[SU]);
}

/* dSV_i += sum_j G_ij M_ij SU_j, dSU_j += sum_i G_ij M_ij SV_i with M = Q_m C Q_n. */
static void scales_backward(const lq_theta *th, const float *G, const float *M, float *d_su,
                            float *d_sv, lq_arena *scratch)
{
    const size_t m = th->out, n = th->in;
    const float *su = th->data[SU], *sv = th->data[SV];
    double *columns = lq_arena_f64(scratch, n);
    memset(columns, 0, n * sizeof *columns);
    for (size_t i = 0; i < m; i++) {
        double row = 0;
        for (size_t j = 0; j < n; j++) {
            float gm = G[i * n + j] * M[i * n + j];
            row += (double)(gm * su[j]);
            columns[j] += (double)(gm * sv[i]);
        }
        if (d_sv != NULL)
            d_sv[i] += (float)row;
    }
    for (size_t j = 0; d_su != NULL && j < n; j++)
        d_su[j] += (float)columns[j];
}

/* ds_c += sum dC q, do_c += sum dC. */
static void affine_backward(const float *dC, const float *q, size_t count, float *d_affine)
{
    double step = 0, offset = 0;
    for (size_t i = 0; i < count; i++) {
        step += (double)(dC[i] * q[i]);
        offset += (double)dC[i];
    }
    d_affine[0] += (float)step;
    d_affine[1] += (float)offset;
}

static void latent_backward(const lq_theta *th, const float *dC, float *d_u)
{
    const lcqat_opts *o = th->opts;
    const size_t count = th->out * th->in;
    const float step = ((const float *)th->data[AFFINE])[0];
    if (o->estimator == ESTIMATOR_DGE)
        lq_kernels()->dge_bwd(d_u, dC, th->data[U], count, q_max_of(th), (float)o->dge_k,
                              (float)o->dge_ceiling, step);
    else
        for (size_t i = 0; i < count; i++)
            d_u[i] += step * dC[i];
}

/* dC = Q_m diag(SV) G diag(SU) Q_n, since Q is symmetric; du = s_c dC phi(u): u is in code units, so the
 * release's factor kappa is absent. */
static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    const size_t count = th->out * th->in;
    lq_mark mark = lq_arena_mark(scratch);
    float *dC = lq_arena_f32(scratch, count), *q = lq_arena_f32(scratch, count);
    memcpy(dC, dw_eff, count * sizeof *dC);
    lq_scale_both(dC, th->out, th->in, th->data[SV], th->data[SU]);
    rotate(th, dC);
    if (grad[U] != NULL)
        latent_backward(th, dC, grad[U]);
    lq_kernels()->dge_fwd(q, th->data[U], count, q_max_of(th));
    if (grad[AFFINE] != NULL)
        affine_backward(dC, q, count, grad[AFFINE]);
    if (grad[SU] != NULL || grad[SV] != NULL) {
        decode(th, q, q);
        rotate(th, q);
        scales_backward(th, dw_eff, q, grad[SU], grad[SV], scratch);
    }
    lq_arena_release(scratch, mark);
}

/* What backward's gradient is the gradient of: rounding replaced by its tangent at `base`,
 * q = q(base) + phi(base) (u - u(base)). */
static void surrogate(const lq_theta *at, const lq_theta *base, float *w, lq_arena *scratch)
{
    const lcqat_opts *o = at->opts;
    const size_t count = at->out * at->in;
    const float *u = at->data[U], *u_base = base->data[U];
    lq_mark mark = lq_arena_mark(scratch);
    float *moved = lq_arena_f32(scratch, count), *q = lq_arena_f32(scratch, count);
    for (size_t i = 0; i < count; i++)
        moved[i] = u[i] - u_base[i];
    lq_kernels()->dge_fwd(q, u_base, count, q_max_of(base));
    if (o->estimator == ESTIMATOR_DGE)
        lq_kernels()->dge_bwd(q, moved, u_base, count, q_max_of(base), (float)o->dge_k,
                              (float)o->dge_ceiling, 1);
    else
        lq_kernels()->add(q, moved, count);
    decode(at, q, w);
    rotate(at, w);
    lq_scale_both(w, at->out, at->in, at->data[SV], at->data[SU]);
    lq_arena_release(scratch, mark);
}

/* ---- Bytes ------------------------------------------------------------------------------------- */

/* codes (rows padded to whole bytes) | SU bf16 (in) | SV bf16 (out) | s_c, o_c bf16. At 2 bits and a
 * width that 4 divides: 2 + 16 (m+n)/(mn) + 32/(mn) bits a weight. */
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
    LQ_TRY(lq_sink_codes(bytes, code, th->out, th->in, levels_of(th->opts)));
    LQ_TRY(lq_sink_bf16(bytes, th->data[SU], th->in));
    LQ_TRY(lq_sink_bf16(bytes, th->data[SV], th->out));
    return lq_sink_bf16(bytes, th->data[AFFINE], 2);
}

static lq_status read_codes(lq_theta *th, lq_source *bytes, uint8_t *code)
{
    float *u = th->data[U];
    LQ_TRY(lq_source_codes(bytes, code, th->out, th->in, levels_of(th->opts)));
    for (size_t i = 0; i < th->out * th->in; i++)
        u[i] = (float)code[i];
    return LQ_OK;
}

static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    lq_arena own = {0};
    uint8_t *code;
    lq_status status = lq_arena_new(&own, &code, th->out * th->in);
    if (status == LQ_OK)
        status = read_codes(th, bytes, code);
    lq_arena_close(&own);
    LQ_TRY(status);
    LQ_TRY(lq_source_bf16(bytes, th->data[SU], th->in));
    LQ_TRY(lq_source_bf16(bytes, th->data[SV], th->out));
    return lq_source_bf16(bytes, th->data[AFFINE], 2);
}

const lq_method lq_method_lcqat = {
    .name = "lcqat",
    .source = "LC-QAT, arXiv:2606.10531, initialized by UniSVQ, arXiv:2606.10520; where they "
              "differ we follow "
              "the released code (AI9Stars/UniSVQ 449e8e4): G = I, one scale and one offset a "
              "matrix, Hadamard "
              "blocks of 128, DGE clamped at 3 and not cut off outside the range, affine map "
              "trained; ours: "
              "smaller blocks for other widths, latent in code units, guarded sweeps, exact grid",
    .family = LQ_FAMILY_VECTOR,
    .needs = LQ_NEEDS_GRAM | LQ_TRAINS,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(lcqat_opts),
    .check = check,
    .layout = layout,
    .init = init,
    .effective = effective,
    .backward = backward,
    .pack = pack,
    .unpack = unpack,
    .surrogate = surrogate,
};
