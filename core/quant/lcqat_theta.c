#include "core/quant/lcqat_theta.h"

#include "core/data/safetensors.h"
#include "core/math/kernels.h"
#include "core/quant/hadamard.h"

#include <math.h>
#include <string.h>

enum { D_MAX = LQ_LATTICE_LARGEST };

size_t lq_lcqat_levels(const lq_lcqat_opts *o) { return lq_levels_of_bits(o->common.bits); }

/* Does A have numbers of its own, or is it a multiple of the identity? */
static bool is_general(const lq_lcqat_opts *o) { return o->lattice != LQ_LATTICE_IDENTITY; }

/* Must vectors be rounded as a whole? */
static bool is_searched(const lq_lcqat_opts *o)
{
    return o->codebook != 0 || o->lattice == LQ_LATTICE_LEARNED;
}

/* ---- Options ------------------------------------------------------------------------------------ */

static size_t block_asked(const lq_lcqat_opts *o, size_t asked)
{
    if (asked != 0)
        return asked;
    return is_searched(o) ? o->vector : 1;
}

static lq_status check_block(const lq_lcqat_opts *o, const char *who, const char *name,
                             size_t block)
{
    if ((block & (block - 1)) != 0)
        return lq_fail(LQ_E_OPTION, "%s: %s %zu: 1, 2, 4 and 8 are possible", who, name, block);
    if (is_searched(o) && block != o->vector)
        return lq_fail(LQ_E_OPTION,
                       "%s: %s %zu: a learned lattice and the bf16 codebook round whole words of "
                       "%zu; set it to 0 or to %zu",
                       who, name, block, o->vector, o->vector);
    return LQ_OK;
}

lq_status lq_lcqat_check(const lq_lcqat_opts *o, const char *who)
{
    const size_t levels = lq_lcqat_levels(o);
    if (levels < 3 || levels > 16)
        return lq_fail(LQ_E_OPTION, "%s: bits %g: 1.58, 2, 3 and 4 are possible", who,
                       o->common.bits);
    if ((o->vector & (o->vector - 1)) != 0)
        return lq_fail(LQ_E_OPTION, "%s: vector %zu: 1, 2, 4 and 8 are possible", who, o->vector);
    if (o->codebook != 0 && pow((double)levels, (double)o->vector) > 65536)
        return lq_fail(LQ_E_OPTION,
                       "%s: codebook bf16 lists its words, and %zu levels in words of %zu are more "
                       "than 65536; take a smaller vector",
                       who, levels, o->vector);
    if (o->codebook != 0 && o->lattice == LQ_LATTICE_LEARNED)
        return lq_fail(LQ_E_OPTION, "%s: codebook bf16 is a fixed list; lattice=learned is not",
                       who);
    if (o->scale_override > 0 && o->scale_override < 0.1)
        return lq_fail(LQ_E_OPTION, "%s: scale_override %g: 0, or 0.1 to 10", who,
                       o->scale_override);
    LQ_TRY(check_block(o, who, "ldl_block", block_asked(o, o->ldl_block)));
    return check_block(o, who, "sweep_block", block_asked(o, o->sweep_block));
}

static lq_slot scales_slot(const char *name, size_t rows, size_t cols)
{
    return (lq_slot){
        .name = name, .kind = LQ_KIND_CONTINUOUS, .rows = rows, .cols = cols, .grad_scale = 1};
}

lq_status lq_lcqat_layout(const lq_lcqat_opts *o, const char *who, size_t out, size_t in,
                          lq_slot *slot, size_t *n_slots)
{
    const size_t dimension[] = {out, in};
    if ((is_general(o) || is_searched(o)) && in % o->vector != 0)
        return lq_fail(LQ_E_SHAPE,
                       "%s: words of %zu weights do not fit a row of %zu; take a smaller vector, "
                       "or lattice=identity and codebook=exact",
                       who, o->vector, in);
    for (size_t i = 0; i < 2 && o->rotation == LQ_ROTATION_FULL; i++)
        if (lq_rotation_factor(dimension[i]) == 0)
            return lq_fail(LQ_E_SHAPE,
                           "%s: no Hadamard matrix is known for the full dimension %zu of a "
                           "%zu x %zu weight; take rotation=block, with blocks of %zu here",
                           who, dimension[i], out, in, lq_hadamard_block(dimension[i], 128));
    slot[LQ_LCQAT_SU] = scales_slot("su", 1, in);
    slot[LQ_LCQAT_SV] = scales_slot("sv", out, 1);
    if (!is_general(o)) {
        slot[LQ_LCQAT_A] = scales_slot("affine", 1, 2); /* s_c, o_c */
        *n_slots = LQ_LCQAT_A + 1;
        return LQ_OK;
    }
    slot[LQ_LCQAT_A] = scales_slot("A", o->vector, o->vector);
    slot[LQ_LCQAT_B] = scales_slot("B", 1, o->vector);
    *n_slots = LQ_LCQAT_B + 1;
    return LQ_OK;
}

/* ---- From a weight to codes --------------------------------------------------------------------- */

/* The largest power of two that is at most `asked` and divides the width. */
static size_t block_of(size_t in, size_t asked)
{
    while (in % asked != 0)
        asked /= 2;
    return asked;
}

static lq_lcqat_rounding rounding_of(const lq_lcqat_opts *o, size_t in, const float *G)
{
    const size_t ldl = block_asked(o, o->ldl_block), given = o->sweep_block;
    const size_t sweep = given != 0 ? given : ldl;
    return (lq_lcqat_rounding){
        .levels = lq_lcqat_levels(o),
        .d = o->vector,
        .lattice = (lq_lattice_kind)o->lattice,
        .G = G,
        .bf16 = o->codebook != 0,
        .rotation = (lq_rotation_kind)o->rotation,
        .hadamard_cap = o->hadamard_cap,
        .g = o->scale_override,
        .candidates = o->scale_search,
        .sigma = o->sigma_reg,
        .ldlq = {.block = is_searched(o) ? o->vector : block_of(in, ldl),
                 .sweeps = o->sweeps,
                 .sweep_block = is_searched(o) ? o->vector : block_of(in, sweep),
                 .guard = o->guard}};
}

static bool is_zero(const float *x, size_t n)
{
    for (size_t j = 0; j < n; j++)
        if (x[j] != 0)
            return false;
    return true;
}

/* Random signs, unless the slot holds some to begin from. */
static void draw_signs(const lq_lcqat_opts *o, const lq_rng *rng, const char *name, float *sign,
                       size_t n)
{
    lq_rng stream = lq_rng_split(rng, name, 0);
    const bool given = !is_zero(sign, n);
    for (size_t i = 0; i < n; i++)
        sign[i] = given ? copysignf(1, sign[i]) : o->signs ? lq_rng_sign(&stream) : 1;
}

/* G (d,d) in the buffer, or NULL where the identity is meant. */
static const float *draw_lattice(const lq_theta *th, const lq_rng *rng, float G[LQ_LATTICE_NUMBERS])
{
    const lq_lcqat_opts *o = th->opts;
    const bool learned = o->lattice == LQ_LATTICE_LEARNED;
    if (o->lattice == LQ_LATTICE_IDENTITY || (learned && o->lattice_start == 0))
        return NULL;
    const lq_rng shared = lq_rng_seed(o->lattice_seed);
    lq_rng stream = lq_rng_split(o->lattice_shared ? &shared : rng, "lattice", o->vector);
    if (is_zero(th->data[LQ_LCQAT_A], o->vector * o->vector))
        lq_random_orthogonal(o->vector, &stream, G);
    else
        memcpy(G, th->data[LQ_LCQAT_A], o->vector * o->vector * sizeof *G);
    return G;
}

/* unit (m,n) = w / rms(w); returns the rms, 0 for a zero matrix (unit is then zero). */
static double normalize(const float *w, size_t m, size_t n, float *unit)
{
    const double rms = sqrt(lq_sum_squares(w, m * n) / (double)(m * n));
    for (size_t i = 0; i < m * n; i++)
        unit[i] = rms > 0 ? (float)((double)w[i] / rms) : 0;
    return rms;
}

/* SV = D_m Wscale rms(w). A row of zeros (pruned) gets SV = 0 and so stays what it was. */
static lq_status set_output_scales(const lq_theta *th, float *sv, const float *w, double scale)
{
    for (size_t i = 0; i < th->out; i++) {
        sv[i] = is_zero(w + i * th->in, th->in) ? 0 : (float)((double)sv[i] * scale);
        if (!isfinite(sv[i]))
            return lq_fail(LQ_E_NUMERIC, "%s: weights of rms %g are too large for a float scale",
                           th->method->name, scale);
    }
    return LQ_OK;
}

static void set_affine(lq_theta *th, const lq_lattice *lattice)
{
    const lq_lcqat_opts *o = th->opts;
    float *A = th->data[LQ_LCQAT_A];
    if (!is_general(o)) {
        lq_lattice_affine(lq_lcqat_levels(o), o->codebook != 0, A);
        return;
    }
    memcpy(A, lattice->A, o->vector * o->vector * sizeof *A);
    memcpy(th->data[LQ_LCQAT_B], lattice->B, o->vector * sizeof *A);
}

lq_status lq_lcqat_start(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                         uint8_t *code, lq_arena *scratch)
{
    const lq_lcqat_opts *o = th->opts;
    const size_t m = th->out, n = th->in;
    float *su = th->data[LQ_LCQAT_SU], *sv = th->data[LQ_LCQAT_SV];
    float *unit = lq_arena_f32(scratch, m * n), G[LQ_LATTICE_NUMBERS];
    double *h = NULL;
    LQ_TRY(lq_check_finite(th->method->name, w, m, n));
    const double rms = normalize(w, m, n, unit);
    if (calib != NULL && calib->gram != NULL && o->start == LQ_LCQAT_START_LDLQ) {
        h = lq_arena_f64(scratch, n * n);
        memcpy(h, calib->gram, n * n * sizeof *h);
        LQ_TRY(lq_lcqat_regularize(h, n, o->sigma_reg));
    }
    draw_signs(o, rng, "su", su, n);
    draw_signs(o, rng, "sv", sv, m);
    lq_lcqat_rounding how = rounding_of(o, n, draw_lattice(th, rng, G));
    how.laps = th->laps;
    lq_lcqat_rounded rounded;
    LQ_TRY(lq_lcqat_round_matrix(&how, unit, h, m, n, sv, su, scratch, &rounded, scratch));
    memcpy(code, rounded.code, m * n);
    LQ_TRY(set_output_scales(th, sv, w, rounded.scale * rms));
    if (o->balance)
        lq_lcqat_balance(su, n, sv, m, 0);
    set_affine(th, &rounded.lattice);
    return LQ_OK;
}

/* ---- theta -> What and back --------------------------------------------------------------------- */

/* The loops over d unroll where d is known; 4 is what is trained. */
static inline void decode_words(const float *A, const float *B, size_t d, const float *q,
                                size_t count, float *C)
{
    for (size_t v = 0; v < count; v += d) {
        float word[D_MAX] = {0};
        for (size_t i = 0; i < d; i++) {
            word[i] = B[i];
            for (size_t j = 0; j < d; j++)
                word[i] += A[i * d + j] * q[v + j];
        }
        memcpy(C + v, word, d * sizeof *C);
    }
}

static inline void pull_back_words(const float *A, size_t d, const float *dC, size_t count,
                                   float *dq)
{
    for (size_t v = 0; v < count; v += d) {
        float sum[D_MAX] = {0};
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < d; j++)
                sum[j] += A[i * d + j] * dC[v + i];
        memcpy(dq + v, sum, d * sizeof *dq);
    }
}

void lq_lcqat_decode(const lq_theta *th, const float *q, float *C)
{
    const lq_lcqat_opts *o = th->opts;
    const size_t count = th->out * th->in, d = o->vector;
    const float *A = th->data[LQ_LCQAT_A];
    if (!is_general(o)) {
        const float step = A[0], offset = A[1];
        for (size_t i = 0; i < count; i++)
            C[i] = step * q[i] + offset;
        return;
    }
    if (d == 4)
        decode_words(A, th->data[LQ_LCQAT_B], 4, q, count, C);
    else
        decode_words(A, th->data[LQ_LCQAT_B], d, q, count, C);
}

void lq_lcqat_code_gradient(const lq_theta *th, const float *dC, float *dq)
{
    const lq_lcqat_opts *o = th->opts;
    const size_t count = th->out * th->in, d = o->vector;
    const float *A = th->data[LQ_LCQAT_A];
    if (!is_general(o)) {
        for (size_t i = 0; i < count; i++)
            dq[i] = A[0] * dC[i];
        return;
    }
    if (d == 4)
        pull_back_words(A, 4, dC, count, dq);
    else
        pull_back_words(A, d, dC, count, dq);
}

/* The layout has looked whether they exist, so that memory is all that can be missing. */
static void rotations(const lq_theta *th, lq_rotation *qm, lq_rotation *qn, lq_arena *scratch)
{
    const lq_lcqat_opts *o = th->opts;
    const lq_rotation_kind kind = (lq_rotation_kind)o->rotation;
    const bool done = lq_rotation_new(kind, th->out, o->hadamard_cap, scratch, qm) == LQ_OK &&
                      lq_rotation_new(kind, th->in, o->hadamard_cap, scratch, qn) == LQ_OK;
    LQ_ASSERT(done);
}

static void rotate_out(const lq_theta *th, float *C, lq_arena *scratch)
{
    lq_rotation qm, qn;
    lq_mark mark = lq_arena_mark(scratch);
    rotations(th, &qm, &qn, scratch);
    lq_rotate_out(C, th->out, th->in, &qm, &qn);
    lq_arena_release(scratch, mark);
}

void lq_lcqat_assemble(const lq_theta *th, float *C, lq_arena *scratch)
{
    rotate_out(th, C, scratch);
    lq_scale_both(C, th->out, th->in, th->data[LQ_LCQAT_SV], th->data[LQ_LCQAT_SU]);
}

/* dC = Q_m' diag(SV) dW diag(SU) Q_n. */
void lq_lcqat_disassemble(const lq_theta *th, float *dw, lq_arena *scratch)
{
    lq_rotation qm, qn;
    lq_mark mark = lq_arena_mark(scratch);
    rotations(th, &qm, &qn, scratch);
    lq_scale_both(dw, th->out, th->in, th->data[LQ_LCQAT_SV], th->data[LQ_LCQAT_SU]);
    lq_rotate_in(dw, th->out, th->in, &qm, &qn);
    lq_arena_release(scratch, mark);
}

/* dSV_i += sum_j G_ij M_ij SU_j, dSU_j += sum_i G_ij M_ij SV_i with M = Q_m C Q_n'. */
static void scales_backward(const lq_theta *th, const float *G, const float *M, float *d_su,
                            float *d_sv, lq_arena *scratch)
{
    const size_t m = th->out, n = th->in;
    const float *su = th->data[LQ_LCQAT_SU], *sv = th->data[LQ_LCQAT_SV];
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

/* dA += sum over vectors of dC q', dB += sum of dC. */
static void lattice_backward(const float *dC, const float *q, size_t count, size_t d, float *d_A,
                             float *d_B)
{
    double A[LQ_LATTICE_NUMBERS] = {0}, B[D_MAX] = {0};
    for (size_t v = 0; v < count; v += d)
        for (size_t i = 0; i < d; i++) {
            B[i] += (double)dC[v + i];
            for (size_t j = 0; j < d; j++)
                A[i * d + j] += (double)(dC[v + i] * q[v + j]);
        }
    for (size_t i = 0; d_A != NULL && i < d * d; i++)
        d_A[i] += (float)A[i];
    for (size_t i = 0; d_B != NULL && i < d; i++)
        d_B[i] += (float)B[i];
}

void lq_lcqat_backward(const lq_theta *th, const float *dw, const float *q, const float *dC,
                       float *const *grad, lq_arena *scratch)
{
    const lq_lcqat_opts *o = th->opts;
    const size_t count = th->out * th->in;
    float *d_A = grad[LQ_LCQAT_A], *d_B = is_general(o) ? grad[LQ_LCQAT_B] : NULL;
    if (is_general(o) && (d_A != NULL || d_B != NULL))
        lattice_backward(dC, q, count, o->vector, d_A, d_B);
    else if (d_A != NULL)
        affine_backward(dC, q, count, d_A);
    if (grad[LQ_LCQAT_SU] == NULL && grad[LQ_LCQAT_SV] == NULL)
        return;
    lq_mark mark = lq_arena_mark(scratch);
    float *M = lq_arena_f32(scratch, count);
    lq_lcqat_decode(th, q, M);
    rotate_out(th, M, scratch);
    scales_backward(th, dw, M, grad[LQ_LCQAT_SU], grad[LQ_LCQAT_SV], scratch);
    lq_arena_release(scratch, mark);
}

/* ---- Bytes -------------------------------------------------------------------------------------- */

/* What the released layout has ships as there, in bf16; A and B of a lattice in fp16 (docs/decisions/0036). */
static bool ships_as_bf16(const lq_theta *th, size_t slot)
{
    return slot < LQ_LCQAT_A || !is_general(th->opts);
}

lq_status lq_lcqat_pack(const lq_theta *th, const uint8_t *code, lq_sink *bytes)
{
    LQ_TRY(lq_sink_codes(bytes, code, th->out, th->in, lq_lcqat_levels(th->opts)));
    for (size_t s = LQ_LCQAT_SU; s < th->n_slots; s++) {
        const size_t n = th->slot[s].rows * th->slot[s].cols;
        LQ_TRY((ships_as_bf16(th, s) ? lq_sink_bf16 : lq_sink_f16)(bytes, th->data[s], n));
    }
    return LQ_OK;
}

lq_status lq_lcqat_unpack(lq_theta *th, lq_source *bytes, uint8_t *code)
{
    LQ_TRY(lq_source_codes(bytes, code, th->out, th->in, lq_lcqat_levels(th->opts)));
    for (size_t s = LQ_LCQAT_SU; s < th->n_slots; s++) {
        const size_t n = th->slot[s].rows * th->slot[s].cols;
        LQ_TRY((ships_as_bf16(th, s) ? lq_source_bf16 : lq_source_f16)(bytes, th->data[s], n));
    }
    return LQ_OK;
}

void lq_lcqat_round_scales(lq_theta *th)
{
    for (size_t s = LQ_LCQAT_SU; s < th->n_slots; s++) {
        float *x = th->data[s];
        const bool bf16 = ships_as_bf16(th, s);
        for (size_t i = 0; i < th->slot[s].rows * th->slot[s].cols; i++)
            x[i] = bf16 ? lq_bf16_to_f32(lq_f32_to_bf16(x[i])) : lq_f16_to_f32(lq_f32_to_f16(x[i]));
    }
}
