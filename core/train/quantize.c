#include "core/train/quantize.h"

#include "core/base/clock.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"

#include <string.h>

/* What a method sees of a block (lq_block): the full-precision block, in which some weights may be
 * replaced by candidates. */
typedef struct probe {
    const lq_weights *full;
    lq_qmodel *q;
    lq_passage *passage;
    size_t layer;
    lq_weights view;             /* a model of this one block, its linears copied: */
    float *linear[LQ_N_LINEARS]; /* neighbours as in lq_weights */
    float *tensor[LQ_N_LAYER_TENSORS];
    float *x2;      /* (n_sequences T, D) full precision's stream after attention */
    const float *y; /* (n_sequences T, D) and after the block */
} probe;

/* Streams of activations, all (n_sequences T, D); NULL where nobody looks. */
typedef struct walk {
    const lq_calib_data *calib;
    const lq_quantize_how *how;
    bool tunes, collects, from_quant; /* grams are collected; behind the quantized prefix */
    probe *probe;                     /* NULL: nobody asks for errors */
    lq_passage passage;
    lq_grams grams;
    lq_gram_file file;
    float *full;   /* of the full-precision model, entering the block; leaving it after its pass */
    float *before; /* fine-tuning with feed full, or errors: what entered the block */
    float *quant;  /* behind the quantized prefix */
    float *own;    /* what the full-precision block makes of that */
} walk;

static lq_calib calib_of(const lq_grams *grams, lq_layer_tensor linear)
{
    const lq_site site = lq_site_of(linear);
    return (lq_calib){
        .gram = grams->gram[site], .n_tokens = grams->n_tokens, .mean_abs = grams->mean_abs[site]};
}

/* Theta of the seven linears of a block, side by side on threads. */
static lq_status init_linears(lq_qmodel *q, const lq_weights *full, const lq_grams *grams, size_t l,
                              const lq_rng *rng)
{
    lq_status status[LQ_N_LINEARS] = {LQ_OK};
    char note[LQ_N_LINEARS][512];
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < LQ_N_LINEARS; i++) {
        const size_t index = l * LQ_N_LINEARS + i;
        const lq_weight *t = lq_qmodel_weight(q, index);
        lq_calib calib = {0};
        if (grams != NULL)
            calib = calib_of(grams, t->id);
        lq_arena scratch = {0};
        const lq_rng stream = lq_rng_split(rng, t->name, 0);
        status[i] =
            q->method->init(&q->theta[index], full->flat + t->offset, &calib, &stream, &scratch);
        if (status[i] == LQ_OK)
            q->method->effective(&q->theta[index], t->data, &scratch);
        else /* notes belong to a thread: carry it home */
            lq_fail(status[i], "%.200s: %.300s", t->name, lq_status_note());
        memcpy(note[i], lq_status_note(), sizeof note[i]);
        note[i][sizeof note[i] - 1] = '\0';
        lq_arena_close(&scratch);
    }
    for (size_t i = 0; i < LQ_N_LINEARS; i++)
        if (status[i] != LQ_OK)
            return lq_fail(status[i], "%s", note[i]);
    return LQ_OK;
}

/* ---- A block as a whole ------------------------------------------------------------------------ */

static lq_status probe_new(const lq_weights *full, lq_qmodel *q, lq_passage *passage,
                           lq_arena *arena, probe **out)
{
    probe *p;
    const lq_config *c = &full->config;
    const size_t tokens = passage->calib->n_sequences * passage->calib->T;
    const size_t size[LQ_N_LINEARS] = {
        c->H * c->dh * c->D, c->Hkv * c->dh * c->D, c->Hkv * c->dh * c->D,
        c->H * c->dh * c->D, c->F * c->D,           c->F * c->D,
        c->F * c->D};
    size_t all = 0;
    LQ_TRY(lq_arena_new(arena, &p, 1));
    *p = (probe){.full = full, .q = q, .passage = passage, .view = *full};
    for (size_t i = 0; i < LQ_N_LINEARS; i++)
        all += size[i];
    LQ_TRY(lq_arena_new(arena, &p->linear[0], all));
    for (size_t i = 1; i < LQ_N_LINEARS; i++)
        p->linear[i] = p->linear[i - 1] + size[i - 1];
    LQ_TRY(lq_arena_new(arena, &p->x2, tokens * c->D));
    p->view.config.L = 1;
    p->view.layer = &p->tensor;
    *out = p;
    return LQ_OK;
}

/* One half of the block, for all sequences in chunks: the half that reads `input`. error NULL: x2 is
 * filled; else the squares of what differs from full precision's are added up. */
static void walk_half(probe *p, const float *x, bool attention, double *error)
{
    lq_lane *lane = p->passage->lane;
    const size_t T = lane->T, D = p->full->config.D, total = p->passage->calib->n_sequences;
    const int threads = lq_blas_threads(1);
    for (size_t at = 0; at < total; at += lane->B_max) {
        const size_t B = total - at < lane->B_max ? total - at : lane->B_max, n = B * T * D;
        float *got = attention ? lane->layer[0].x2 : lane->x_final, *x2 = p->x2 + at * T * D;
        const float *want = attention ? x2 : p->y + at * T * D;
        if (attention) {
            lq_attention_forward(&p->view, lane, 0, x + at * T * D, B);
        } else {
            memcpy(lane->layer[0].x2, x2, n * sizeof *x2);
            lq_mlp_forward(&p->view, lane, 0, B, lane->x_final);
        }
        if (error == NULL) {
            memcpy(x2, got, n * sizeof *x2);
            continue;
        }
        for (size_t i = 0; i < n; i++)
            got[i] -= want[i];
        *error += lq_sum_squares(got, n);
    }
    lq_blas_threads(threads);
}

typedef struct asked { /* context of an lq_block */
    probe *probe;
    const float *x; /* entering the block */
} asked;

static void place_weights(probe *p, const float *const *candidate)
{
    for (size_t i = 0; i < LQ_N_LINEARS; i++) {
        const lq_weight *t = lq_qmodel_weight(p->q, p->layer * LQ_N_LINEARS + i);
        const float *from = candidate != NULL ? candidate[i] : NULL;
        memcpy(p->linear[i], from != NULL ? from : p->full->flat + t->offset,
               t->rows * t->cols * sizeof *from);
    }
}

static double module_error(void *context, size_t input, const float *const *candidate)
{
    const asked *a = context;
    const lq_calib_data *calib = a->probe->passage->calib;
    double squares = 0;
    place_weights(a->probe, candidate);
    walk_half(a->probe, a->x, input == LQ_SITE_QKV || input == LQ_SITE_O, &squares);
    return squares / (double)(calib->n_sequences * calib->T * a->probe->full->config.D);
}

static void divide_input(void *context, size_t input, const float *t)
{
    const probe *p = ((const asked *)context)->probe;
    const lq_config *c = &p->full->config;
    float *const *tensor = p->q->w.layer[p->layer];
    static const lq_layer_tensor divided[LQ_N_SITES] = {LQ_INPUT_NORM, LQ_V_BIAS, LQ_POST_NORM,
                                                        LQ_UP_BIAS};
    const size_t n = input == LQ_SITE_O ? c->Hkv * c->dh : input == LQ_SITE_DOWN ? c->F : c->D;
    for (size_t j = 0; tensor[divided[input]] != NULL && j < n; j++)
        tensor[divided[input]][j] /= t[j];
}

static lq_status init_whole(lq_qmodel *q, walk *s, const lq_weights *full, size_t l,
                            const lq_rng *rng)
{
    static const char *const name[LQ_N_LINEARS] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                   "gate_proj", "up_proj", "down_proj"};
    probe *p = s->probe;
    asked a = {p, s->before};
    lq_block block = {.n = LQ_N_LINEARS,
                      .n_inputs = LQ_N_SITES,
                      .error = module_error,
                      .divide = divide_input,
                      .context = &a};
    for (size_t i = 0; i < LQ_N_LINEARS; i++) {
        block.theta[i] = &q->theta[l * LQ_N_LINEARS + i];
        block.name[i] = name[i];
        block.w[i] = full->layer[l][i];
        block.calib[i] = calib_of(&s->grams, (lq_layer_tensor)i);
        block.input[i] = lq_site_of((lq_layer_tensor)i);
    }
    block.fed_by[LQ_SITE_QKV] = block.fed_by[LQ_SITE_GATE_UP] = LQ_FED_BY_NORM;
    block.fed_by[LQ_SITE_O] = full->config.H == full->config.Hkv ? (int)LQ_V : LQ_FED_BY_MANY;
    block.fed_by[LQ_SITE_DOWN] = LQ_UP;
    p->layer = l;
    p->y = s->full;
    for (size_t i = 0; i < LQ_N_LAYER_TENSORS; i++)
        p->tensor[i] = i < LQ_N_LINEARS ? p->linear[i] : full->layer[l][i];
    place_weights(p, NULL);
    walk_half(p, s->before, true, NULL);
    lq_arena scratch = {0};
    const lq_rng stream = lq_rng_split(rng, "block", l);
    const lq_status status = q->method->init_block(&block, &stream, &scratch);
    for (size_t i = 0; status == LQ_OK && i < LQ_N_LINEARS; i++)
        q->method->effective(block.theta[i], q->w.layer[l][i], &scratch);
    lq_arena_close(&scratch);
    return status == LQ_OK ? LQ_OK : lq_fail(status, "block %zu: %.400s", l, lq_status_note());
}

/* ---- The walk ---------------------------------------------------------------------------------- */

static lq_status walk_new(walk *s, const lq_weights *full, lq_qmodel *q, lq_arena *arena)
{
    const lq_blockwise_config *tune = s->how->blockwise;
    const bool feeds_quant = s->tunes && tune->feed == LQ_FEED_QUANT;
    const bool probes = (q->method->needs & LQ_NEEDS_FEATURES) != 0;
    LQ_TRY(lq_grams_new(&full->config, arena, &s->grams));
    if (!s->collects && !s->tunes && !probes)
        return LQ_OK;
    LQ_TRY(lq_passage_new(&full->config, s->calib, arena, &s->passage));
    if (s->tunes || probes || !s->from_quant)
        LQ_TRY(lq_passage_stream(full, s->calib, arena, &s->full));
    if ((s->tunes && !feeds_quant) || probes)
        LQ_TRY(lq_passage_stream(full, s->calib, arena, &s->before));
    if (s->from_quant || feeds_quant)
        LQ_TRY(lq_passage_stream(full, s->calib, arena, &s->quant));
    if (feeds_quant && tune->target != LQ_TARGET_MODEL)
        LQ_TRY(lq_passage_stream(full, s->calib, arena, &s->own));
    return probes ? probe_new(full, q, &s->passage, arena, &s->probe) : LQ_OK;
}

/* The block's grams, and what the full-precision model makes of the sequences. */
static lq_status enter_block(walk *s, const lq_weights *full, size_t l, unsigned needs)
{
    lq_grams *grams = s->collects ? &s->grams : NULL;
    if (s->how->grams != NULL && s->file.n_tokens > 0)
        LQ_TRY(lq_gram_file_read(&s->file, full, l, (needs & LQ_NEEDS_MEAN_ABS) != 0, &s->grams));
    if (s->from_quant || s->own != NULL)
        lq_passage_block(&s->passage, full, l, s->quant, s->own, s->from_quant ? grams : NULL);
    if (s->before != NULL) {
        float *entering = s->full;
        s->full = s->before;
        s->before = entering;
    }
    if (s->full != NULL)
        lq_passage_block(&s->passage, full, l, s->before != NULL ? s->before : s->full, s->full,
                         s->from_quant ? NULL : grams);
    return LQ_OK;
}

static lq_status tune_block(lq_qmodel *q, walk *s, size_t l, const lq_rng *rng,
                            lq_blockwise_progress progress)
{
    lq_blockwise_result result;
    const bool feeds_quant = s->how->blockwise->feed == LQ_FEED_QUANT;
    const lq_blockwise_data data = {.input = feeds_quant ? s->quant : s->before,
                                    .target = s->full,
                                    .block_target = feeds_quant ? s->own : s->full,
                                    .n_sequences = s->calib->n_sequences,
                                    .T = s->calib->T};
    LQ_TRY(lq_blockwise_tune(q, l, &data, s->how->blockwise, rng, progress, &result));
    if (s->how->on_block != NULL)
        s->how->on_block(s->how->context, l, &result);
    return LQ_OK;
}

static lq_status walk_blocks(lq_qmodel *q, const lq_weights *full, walk *s, const lq_rng *rng)
{
    const size_t L = full->config.L;
    const bool needs_gram = (q->method->needs & LQ_NEEDS_GRAM) != 0;
    const size_t each =
        s->tunes ? 1 + lq_blockwise_steps(s->how->blockwise, s->calib->n_sequences) : 1;
    lq_progress progress = lq_progress_start("quantizing", L * each, each > 1 ? "step" : "block");
    for (size_t l = 0; l < L; l++) {
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "quantization stopped at block %zu", l);
        LQ_TRY(enter_block(s, full, l, q->method->needs));
        if (s->probe != NULL)
            LQ_TRY(init_whole(q, s, full, l, rng));
        else
            LQ_TRY(init_linears(q, full, needs_gram ? &s->grams : NULL, l, rng));
        if (s->tunes)
            LQ_TRY(tune_block(q, s, l, rng, (lq_blockwise_progress){&progress, l * each + 1}));
        if (s->quant != NULL)
            lq_passage_block(&s->passage, &q->w, l, s->quant, s->quant, NULL);
        lq_progress_update(&progress, (l + 1) * each, "%s", "");
    }
    lq_progress_end(&progress);
    return LQ_OK;
}

static lq_status quantize_in(lq_qmodel *q, const lq_weights *full, walk *s, const lq_rng *rng,
                             lq_arena *arena)
{
    const unsigned needs = q->method->needs;
    s->tunes = s->how->blockwise != NULL && lq_blockwise_is_on(s->how->blockwise);
    s->collects = (needs & LQ_NEEDS_GRAM) != 0 && s->how->grams == NULL;
    s->from_quant = s->collects && (needs & LQ_NEEDS_QUANT_PREFIX) != 0;
    if ((s->collects || s->tunes || (needs & LQ_NEEDS_FEATURES) != 0) &&
        (s->calib == NULL || s->calib->n_sequences == 0))
        return lq_fail(LQ_E_SHAPE, "%s needs calibration data", q->method->name);
    if (s->tunes)
        LQ_TRY(lq_blockwise_check(s->how->blockwise, q));
    LQ_TRY(walk_new(s, full, q, arena));
    if (s->how->grams == NULL || (needs & LQ_NEEDS_GRAM) == 0)
        return walk_blocks(q, full, s, rng);
    if ((needs & LQ_NEEDS_QUANT_PREFIX) != 0)
        lq_log_warn(
            "%s takes its inputs from the quantized prefix; those of %s are full precision's",
            q->method->name, s->how->grams);
    LQ_TRY(lq_gram_file_open(s->how->grams, s->how->model_sha256, arena, &s->file));
    const lq_status status = walk_blocks(q, full, s, rng);
    lq_gram_file_close(&s->file);
    return status;
}

lq_status lq_quantize_with(lq_qmodel *q, const lq_weights *full, const lq_calib_data *calib,
                           const lq_rng *rng, const lq_quantize_how *how)
{
    lq_arena arena = {0};
    walk s = {.calib = calib, .how = how};
    lq_status status = quantize_in(q, full, &s, rng, &arena);
    lq_arena_close(&arena);
    return status;
}

lq_status lq_quantize(lq_qmodel *q, const lq_weights *full, const lq_calib_data *calib,
                      const lq_rng *rng)
{
    const lq_quantize_how plain = {0};
    return lq_quantize_with(q, full, calib, rng, &plain);
}
