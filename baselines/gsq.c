/* GSQ: which of four levels a weight takes is a distribution, sampled with Gumbel noise while a block is
 * tuned and sharpened until it is a choice. With levels v = -2, -1, 0, 1, four logits l_k a weight and a
 * learned step s a group:
 *
 *     y = softmax((kappa l + n) / tau),   n_k = -log(-log u_k),   What = s sum_k v_k y_k
 *
 * tau falls from 2 to 0.05 and kappa rises from 100 to 500 along the stage (lq_when.progress); the noise is
 * drawn from lq_when.seed, so backward sees what the forward saw. When the stage is done, What = s v_k for
 * the largest l_k, the first of equals. With vbar = sum_k v_k y_k,
 *
 *     dL/dl_k = dL/dWhat s (kappa / tau) y_k (v_k - vbar),   dL/ds = sum over the group of dL/dWhat vbar
 *
 * The start is GPTQ's codes q on the symmetric grid with a clip search:
 *     l = std (N(0,1) + strength centred(-(q - v_k)^2 / 2)). */
#include "core/quant/gptq.h"

#include <math.h>

extern const lq_method lq_method_gsq;

enum { LOGITS, STEP };
enum { LEVELS = 4 };

typedef struct opts {
    lq_common_opts common;
    size_t group;
    double sigma_reg, std, strength, tau_first, tau_last, kappa_first, kappa_last;
} opts;

static const lq_option options[] = {
    LQ_BITS_OPTION(2),
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 1 << 20, NULL,
     "weights of a row that share a step; 0: the whole row; the last group may be shorter"},
    {"sigma_reg", LQ_OPTION_REAL, offsetof(opts, sigma_reg), 0.1, 0, 1, NULL,
     "damping of the GPTQ that it starts from"},
    {"std", LQ_OPTION_REAL, offsetof(opts, std), 0.01, 0, 10, NULL, "size of the first logits"},
    {"strength", LQ_OPTION_REAL, offsetof(opts, strength), 6, 0, 1000, NULL,
     "how much the first logits favour GPTQ's code over noise"},
    {"tau_first", LQ_OPTION_REAL, offsetof(opts, tau_first), 2, 1e-3, 100, NULL,
     "temperature, at first"},
    {"tau_last", LQ_OPTION_REAL, offsetof(opts, tau_last), 0.05, 1e-3, 100, NULL, "and at the end"},
    {"kappa_first", LQ_OPTION_REAL, offsetof(opts, kappa_first), 100, 0, 1e5, NULL,
     "factor of the logits, at first"},
    {"kappa_last", LQ_OPTION_REAL, offsetof(opts, kappa_last), 500, 0, 1e5, NULL, "and at the end"},
};

/* Its start: the symmetric grid of GPTQ's repository, whose zero is level 2 of 0..3. */
static lq_grid_rule rule_of(const opts *o)
{
    return (lq_grid_rule){
        .scheme = LQ_GRID_SYM, .mse = true, .q_max = LEVELS - 1, .group = o->group};
}

/* What ships: the same levels, but a learned step may have changed its sign. */
static lq_grid_rule shipped_rule(const opts *o)
{
    return (lq_grid_rule){.scheme = LQ_GRID_FULLRANGE, .q_max = LEVELS - 1, .group = o->group};
}

static lq_status check(const void *options_read)
{
    const opts *o = options_read;
    if (lq_levels_of_bits(o->common.bits) != LEVELS)
        return lq_fail(LQ_E_OPTION, "gsq: bits = %g; it has 2", o->common.bits);
    return LQ_OK;
}

static lq_status layout(const void *options_read, size_t out, size_t in, lq_slot *slot,
                        size_t *n_slots)
{
    const lq_grid_rule rule = rule_of(options_read);
    size_t wide;
    if (__builtin_mul_overflow(in, (size_t)LEVELS, &wide))
        return lq_fail(LQ_E_SHAPE, "gsq: a row of %zu weights is too long", in);
    slot[LOGITS] = (lq_slot){
        .name = "logits", .kind = LQ_KIND_CONTINUOUS, .rows = out, .cols = wide, .grad_scale = 1};
    slot[STEP] = (lq_slot){.name = "step",
                           .kind = LQ_KIND_CONTINUOUS,
                           .rows = out,
                           .cols = lq_grid_groups(&rule, in),
                           .grad_scale = 1};
    *n_slots = STEP + 1;
    return LQ_OK;
}

static lq_status start(lq_theta *th, const float *w, const double *gram, const lq_rng *rng,
                       lq_arena *scratch)
{
    const opts *o = th->opts;
    const lq_gptq_how how = {.rule = rule_of(o), .sigma_reg = o->sigma_reg};
    lq_theta gptq;
    LQ_TRY(lq_grid_theta(&how.rule, th->out, th->in, scratch, &gptq));
    LQ_TRY(lq_gptq(&gptq, w, gram, &how, NULL, scratch));
    lq_rng noise = lq_rng_split(rng, "logits", 0);
    const uint8_t *code = lq_theta_codes(&gptq, "codes");
    float *logit = th->data[LOGITS], *step = th->data[STEP];
    for (size_t i = 0; i < th->out * th->in; i++)
        for (int k = 0; k < LEVELS; k++) {
            double mean = 0;
            for (int l = 0; l < LEVELS; l++)
                mean -= 0.5 * (code[i] - l) * (code[i] - l) / LEVELS;
            const double favour = -0.5 * (code[i] - k) * (code[i] - k) - mean;
            *logit++ = (float)(o->std * (lq_rng_normal(&noise) + o->strength * favour));
        }
    for (size_t i = 0; i < th->out * th->slot[STEP].cols; i++)
        step[i] =
            lq_grid_get(&gptq, &how.rule, i / th->slot[STEP].cols, i % th->slot[STEP].cols).step;
    return LQ_OK;
}

static lq_status init(lq_theta *th, const float *w, const lq_calib *calib, const lq_rng *rng,
                      lq_arena *scratch)
{
    if (calib == NULL || calib->gram == NULL)
        return lq_fail(LQ_E_MISSING, "gsq: needs the gram of the layer's inputs; run `lcqat "
                                     "calibrate` and pass its file");
    LQ_TRY(lq_check_finite("gsq", w, th->out, th->in));
    const lq_mark mark = lq_arena_mark(scratch);
    const lq_status status = start(th, w, calib->gram, rng, scratch);
    lq_arena_release(scratch, mark);
    return status;
}

typedef struct sampler { /* of the soft levels, in the order of the weights */
    double kappa, tau;
    lq_rng noise;
} sampler;

static sampler sampler_of(const lq_theta *th)
{
    const opts *o = th->opts;
    const double along = th->now.progress;
    return (sampler){.kappa = o->kappa_first + (o->kappa_last - o->kappa_first) * along,
                     .tau = o->tau_first + (o->tau_last - o->tau_first) * along,
                     .noise = lq_rng_seed(th->now.seed)};
}

/* y of one weight, and vbar. A draw has the 24 bits of two u; the released code keeps the logarithms finite
 * with 1e-10. */
static float soft_level(sampler *s, const float *logit, float y[LEVELS])
{
    float top = -INFINITY, sum = 0, level = 0;
    uint64_t bits = 0;
    for (size_t k = 0; k < LEVELS; k++) {
        bits = k % 2 == 0 ? lq_rng_u64(&s->noise) : bits << 32;
        const float u = (float)(bits >> 40) * 0x1p-24f;
        const float gumbel = -logf(-logf(u + 1e-10f) + 1e-10f);
        y[k] = ((float)s->kappa * logit[k] + gumbel) / (float)s->tau;
        top = y[k] > top ? y[k] : top;
    }
    for (size_t k = 0; k < LEVELS; k++)
        sum += y[k] = expf(y[k] - top);
    for (size_t k = 0; k < LEVELS; k++) {
        y[k] /= sum;
        level += y[k] * (float)((int)k - 2);
    }
    return level;
}

static int hard_code(const float *logit)
{
    int best = 0;
    for (int k = 1; k < LEVELS; k++)
        best = logit[k] > logit[best] ? k : best;
    return best;
}

/* The step of a group: what ships, once the stage is done. */
static float step_of(const lq_theta *th, size_t row, size_t group)
{
    const float step = ((const float *)th->data[STEP])[row * th->slot[STEP].cols + group];
    return th->now.stage == LQ_STAGE_DONE ? lq_grid_round_step(step) : step;
}

static void effective(const lq_theta *th, float *w_eff, lq_arena *scratch)
{
    (void)scratch;
    const lq_grid_rule rule = rule_of(th->opts);
    const float *logit = th->data[LOGITS];
    const bool done = th->now.stage == LQ_STAGE_DONE;
    sampler s = sampler_of(th);
    float y[LEVELS];
    for (size_t i = 0; i < th->out; i++)
        for (size_t g = 0; g < th->slot[STEP].cols; g++) {
            const float step = step_of(th, i, g);
            size_t j, end;
            for (lq_grid_span(&rule, th->in, g, &j, &end); j < end; j++, logit += LEVELS)
                w_eff[i * th->in + j] =
                    step * (done ? (float)(hard_code(logit) - 2) : soft_level(&s, logit, y));
        }
}

static void backward(const lq_theta *th, const float *dw_eff, float *const *grad, lq_arena *scratch)
{
    (void)scratch;
    const lq_grid_rule rule = rule_of(th->opts);
    const bool done =
        th->now.stage == LQ_STAGE_DONE; /* then the logits are a choice, without slope */
    const float *logit = th->data[LOGITS];
    sampler s = sampler_of(th);
    const float slope = (float)(s.kappa / s.tau);
    float y[LEVELS], *dlogit = done ? NULL : grad[LOGITS];
    for (size_t i = 0; i < th->out; i++)
        for (size_t g = 0; g < th->slot[STEP].cols; g++) {
            const float step = step_of(th, i, g);
            double dstep = 0;
            size_t j, end;
            for (lq_grid_span(&rule, th->in, g, &j, &end); j < end; j++, logit += LEVELS) {
                const float dw = dw_eff[i * th->in + j];
                const float level = done ? (float)(hard_code(logit) - 2) : soft_level(&s, logit, y);
                dstep += (double)dw * (double)level;
                for (size_t k = 0; k < LEVELS && dlogit != NULL; k++)
                    dlogit[(i * th->in + j) * LEVELS + k] +=
                        dw * step * slope * y[k] * ((float)((int)k - 2) - level);
            }
            if (grad[STEP] != NULL)
                grad[STEP][i * th->slot[STEP].cols + g] += (float)dstep;
        }
}

static lq_status pack(const lq_theta *th, lq_sink *bytes)
{
    const lq_grid_rule rule = shipped_rule(th->opts);
    const float *logit = th->data[LOGITS];
    lq_theta ship;
    LQ_TRY(lq_check_finite("gsq: logits", logit, th->out, th->in * LEVELS));
    LQ_TRY(lq_check_finite("gsq: step", th->data[STEP], th->out, th->slot[STEP].cols));
    LQ_TRY(lq_grid_theta(&rule, th->out, th->in, bytes->arena, &ship));
    uint8_t *code = lq_theta_codes(&ship, "codes");
    for (size_t i = 0; i < th->out * th->in; i++)
        code[i] = (uint8_t)hard_code(logit + LEVELS * i);
    for (size_t i = 0; i < th->out; i++)
        for (size_t g = 0; g < th->slot[STEP].cols; g++) {
            const float step = ((const float *)th->data[STEP])[i * th->slot[STEP].cols + g];
            lq_grid_set(&ship, &rule, i, g, (lq_grid){.step = lq_grid_round_step(step)});
        }
    return lq_grid_pack(&ship, &rule, bytes);
}

/* Logits of 1 for the code and 0 for the others. */
static lq_status unpack(lq_theta *th, lq_source *bytes)
{
    const lq_grid_rule rule = shipped_rule(th->opts);
    lq_arena room = {0};
    lq_theta ship;
    lq_status status = lq_grid_theta(&rule, th->out, th->in, &room, &ship);
    if (status == LQ_OK)
        status = lq_grid_unpack(&ship, &rule, bytes);
    const size_t groups = th->slot[STEP].cols;
    float *logit = th->data[LOGITS], *step = th->data[STEP];
    for (size_t i = 0; status == LQ_OK && i < th->out * th->in; i++)
        for (size_t k = 0; k < LEVELS; k++)
            *logit++ = k == lq_theta_codes(&ship, "codes")[i] ? 1.0f : 0.0f;
    for (size_t i = 0; status == LQ_OK && i < th->out * groups; i++)
        step[i] = lq_grid_get(&ship, &rule, i / groups, i % groups).step;
    lq_arena_close(&room);
    return status;
}

/* 10 passes over 4096 sequences, 64 a step; rates 2e-4 (logits) and 1e-4 (steps) over those 640 steps. */
static const char *blockwise(const void *options_read)
{
    (void)options_read;
    return "iterations=640 batch=64 feed=quant target=block slots=all norms=false optimizer=lion "
           "beta1=0.9 beta2=0.95 lr_unit=stage lr_latent=0.128 lr_scales=0.064 decay_latent=1 "
           "schedule=cosine lr_floor=0.1 keep=last";
}

const lq_method lq_method_gsq = {
    .name = "gsq",
    .source =
        "GSQ, arXiv:2604.18556, and IST-DASLab/GSQ 03fc164 gumbel_quantizer_2bit.py, trainer.py; "
        "all linears of a block at once; docs/decisions/0050, 0052",
    .family = LQ_FAMILY_SCALAR,
    .needs = LQ_NEEDS_GRAM | LQ_NEEDS_QUANT_PREFIX,
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .opts_bytes = sizeof(opts),
    .check = check,
    .layout = layout,
    .init = init,
    .blockwise = blockwise,
    .effective = effective,
    .backward = backward,
    .pack = pack,
    .unpack = unpack,
};
