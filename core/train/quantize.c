#include "core/train/quantize.h"

#include "core/base/clock.h"

#include <string.h>

/* Streams of activations, all (n_sequences T, D); NULL where nobody looks. */
typedef struct walk {
    const lq_calib_data *calib;
    const lq_quantize_how *how;
    bool tunes, collects, from_quant; /* grams are collected; behind the quantized prefix */
    lq_passage passage;
    lq_grams grams;
    lq_gram_file file;
    float *full;   /* of the full-precision model, entering the block; leaving it after its pass */
    float *before; /* fine-tuning with feed full: what entered the block */
    float *quant;  /* behind the quantized prefix */
} walk;

/* Theta of the seven linears of a block, side by side on threads. */
static lq_status init_block(lq_qmodel *q, const lq_weights *full, const lq_grams *grams, size_t l,
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
            calib = (lq_calib){grams->gram[lq_site_of(t->id)], grams->n_tokens};
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

static lq_status walk_new(walk *s, const lq_weights *full, lq_arena *arena)
{
    const bool feeds_quant = s->tunes && s->how->blockwise->feed == LQ_FEED_QUANT;
    LQ_TRY(lq_grams_new(&full->config, arena, &s->grams));
    if (!s->collects && !s->tunes)
        return LQ_OK;
    LQ_TRY(lq_passage_new(&full->config, s->calib, arena, &s->passage));
    if (s->tunes || !s->from_quant)
        LQ_TRY(lq_passage_stream(full, s->calib, arena, &s->full));
    if (s->tunes && !feeds_quant)
        LQ_TRY(lq_passage_stream(full, s->calib, arena, &s->before));
    if (s->from_quant || feeds_quant)
        LQ_TRY(lq_passage_stream(full, s->calib, arena, &s->quant));
    return LQ_OK;
}

/* The block's grams, and what the full-precision model makes of the sequences. */
static lq_status enter_block(walk *s, const lq_weights *full, size_t l)
{
    lq_grams *grams = s->collects ? &s->grams : NULL;
    if (s->how->grams != NULL && s->file.n_tokens > 0)
        LQ_TRY(lq_gram_file_read(&s->file, full, l, &s->grams));
    if (s->from_quant)
        lq_passage_block(&s->passage, full, l, s->quant, NULL, grams);
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
    const lq_blockwise_data data = {.input = s->before != NULL ? s->before : s->quant,
                                    .target = s->full,
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
        LQ_TRY(enter_block(s, full, l));
        LQ_TRY(init_block(q, full, needs_gram ? &s->grams : NULL, l, rng));
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
    s->tunes = s->how->blockwise != NULL && s->how->blockwise->epochs > 0;
    s->collects = (needs & LQ_NEEDS_GRAM) != 0 && s->how->grams == NULL;
    s->from_quant = s->collects && (needs & LQ_NEEDS_QUANT_PREFIX) != 0;
    if ((s->collects || s->tunes) && (s->calib == NULL || s->calib->n_sequences == 0))
        return lq_fail(LQ_E_SHAPE, "%s needs calibration data", q->method->name);
    if (s->tunes)
        LQ_TRY(lq_blockwise_check(s->how->blockwise, q));
    LQ_TRY(walk_new(s, full, arena));
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
