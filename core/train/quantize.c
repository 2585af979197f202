#include "core/train/quantize.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/data/safetensors.h"
#include "core/math/gemm.h"

#include <string.h>

enum { SEQUENCES_AT_ONCE = 8 };

typedef struct walk { /* through the blocks, with the stream of all calibration sequences */
    const lq_calib_data *calib;
    lq_lane *lane;
    float *x;                 /* (n_sequences T, D) entering the block */
    double *wide[LQ_N_SITES]; /* one chunk of each site's inputs in double */
    double *gram[LQ_N_SITES]; /* (in,in) of the block */
    size_t width[LQ_N_SITES];
} walk;

lq_site lq_site_of(lq_layer_tensor linear)
{
    if (linear == LQ_O)
        return LQ_SITE_O;
    if (linear == LQ_DOWN)
        return LQ_SITE_DOWN;
    return linear == LQ_GATE || linear == LQ_UP ? LQ_SITE_GATE_UP : LQ_SITE_QKV;
}

static lq_status walk_new(walk *s, const lq_weights *w, const lq_calib_data *calib, lq_arena *arena)
{
    const lq_config *c = &w->config;
    const size_t width[] = {c->D, c->H * c->dh, c->D, c->F};
    *s = (walk){.calib = calib};
    for (size_t i = 0; i < LQ_N_SITES; i++) {
        s->width[i] = width[i];
        LQ_TRY(lq_arena_new(arena, &s->gram[i], width[i] * width[i]));
        LQ_TRY(lq_arena_new(arena, &s->wide[i], SEQUENCES_AT_ONCE * calib->T * width[i]));
    }
    LQ_TRY(lq_arena_new(arena, &s->x, calib->n_sequences * calib->T * c->D));
    LQ_TRY(lq_lane_new(c, SEQUENCES_AT_ONCE, calib->T, false, arena, &s->lane));
    lq_embed(w, calib->token, calib->n_sequences * calib->T, s->x);
    return LQ_OK;
}

/* Adds x' x / total of a chunk of `rows` inputs to each site's Gram matrix, in double. */
static void add_grams(walk *s, size_t l, size_t rows, size_t total)
{
    static const lq_layer_tensor reader[] = {LQ_Q, LQ_O, LQ_GATE, LQ_DOWN};
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < LQ_N_SITES; i++) {
        const size_t n = s->width[i];
        const float *in = lq_linear_input(s->lane, l, reader[i]);
        for (size_t j = 0; j < rows * n; j++)
            s->wide[i][j] = (double)in[j];
        lq_gemm_tn_f64(n, n, rows, 1.0 / (double)total, s->wide[i], n, s->wide[i], n, 1, s->gram[i],
                       n);
    }
}

/* One pass of all sequences through block l of w. With grams, the inputs of its linears are summed up,
 * E[x' x] over all tokens; with move, the stream goes on to the next block. Products stay on one thread:
 * the result shall not depend on how many there are. */
static void pass_block(walk *s, const lq_weights *w, size_t l, bool grams, bool move)
{
    const size_t T = s->calib->T, D = w->config.D, total = s->calib->n_sequences;
    const int threads = lq_blas_threads(1);
    for (size_t i = 0; grams && i < LQ_N_SITES; i++)
        memset(s->gram[i], 0, s->width[i] * s->width[i] * sizeof(double));
    for (size_t at = 0; at < total; at += SEQUENCES_AT_ONCE) {
        const size_t B = total - at < SEQUENCES_AT_ONCE ? total - at : SEQUENCES_AT_ONCE;
        float *x = s->x + at * T * D;
        lq_block_forward(w, s->lane, l, x, B, move ? x : s->lane->x_final);
        if (grams)
            add_grams(s, l, B * T, total * T);
    }
    lq_blas_threads(threads);
}

/* Theta of the seven linears of a block, side by side on threads. */
static lq_status init_block(lq_qmodel *q, const lq_weights *full, const walk *s, size_t l,
                            const lq_rng *rng)
{
    lq_status status[LQ_N_LINEARS] = {LQ_OK};
    char note[LQ_N_LINEARS][512];
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < LQ_N_LINEARS; i++) {
        const size_t index = l * LQ_N_LINEARS + i;
        const lq_weight *t = lq_qmodel_weight(q, index);
        lq_calib calib = {0};
        if (s != NULL)
            calib = (lq_calib){s->gram[lq_site_of(t->id)], s->calib->n_sequences * s->calib->T};
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

static lq_status quantize_calibrated(lq_qmodel *q, const lq_weights *full,
                                     const lq_calib_data *calib, const lq_rng *rng, lq_arena *arena)
{
    const bool from_quant = (q->method->needs & LQ_NEEDS_QUANT_PREFIX) != 0;
    walk s;
    if (calib == NULL || calib->n_sequences == 0)
        return lq_fail(LQ_E_SHAPE, "%s needs calibration data", q->method->name);
    LQ_TRY(walk_new(&s, full, calib, arena));
    lq_progress progress = lq_progress_start("quantizing", full->config.L, "block");
    for (size_t l = 0; l < full->config.L; l++) {
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "quantization stopped at block %zu", l);
        pass_block(&s, full, l, true, !from_quant);
        LQ_TRY(init_block(q, full, &s, l, rng));
        if (from_quant)
            pass_block(&s, &q->w, l, false, true);
        lq_progress_update(&progress, l + 1, "%s", "");
    }
    lq_progress_end(&progress);
    return LQ_OK;
}

lq_status lq_quantize(lq_qmodel *q, const lq_weights *full, const lq_calib_data *calib,
                      const lq_rng *rng)
{
    if ((q->method->needs & LQ_NEEDS_GRAM) != 0) {
        lq_arena arena = {0};
        lq_status status = quantize_calibrated(q, full, calib, rng, &arena);
        lq_arena_close(&arena);
        return status;
    }
    for (size_t l = 0; l < full->config.L; l++)
        LQ_TRY(init_block(q, full, NULL, l, rng));
    return LQ_OK;
}

/* Adds block l's four Gram matrices, once for every linear, to the list. */
static lq_status collect(const walk *s, const lq_weights *w, size_t l, lq_arena *arena,
                         lq_tensor *list, size_t *n)
{
    float *narrow[LQ_N_SITES];
    for (size_t i = 0; i < LQ_N_SITES; i++) {
        const size_t count = s->width[i] * s->width[i];
        LQ_TRY(lq_arena_new(arena, &narrow[i], count));
        for (size_t j = 0; j < count; j++)
            narrow[i][j] = (float)s->gram[i][j];
    }
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        if (t->kind != LQ_WEIGHT_LINEAR || t->layer != l)
            continue;
        const lq_site site = lq_site_of(t->id);
        const size_t in = s->width[site], stem = strlen(t->name) - strlen(".weight");
        list[(*n)++] = (lq_tensor){.name = lq_arena_printf(arena, "%.*s.gram", (int)stem, t->name),
                                   .dtype = LQ_DTYPE_F32,
                                   .rank = 2,
                                   .shape = {in, in},
                                   .elements = in * in,
                                   .bytes = 4 * in * in,
                                   .data = narrow[site]};
    }
    return LQ_OK;
}

static lq_status calibrate(const lq_weights *full, const lq_calib_data *calib, const char *path,
                           lq_arena *arena)
{
    walk s;
    lq_tensor *list;
    size_t n = 0;
    LQ_TRY(walk_new(&s, full, calib, arena));
    LQ_TRY(lq_arena_new(arena, &list, full->config.L * LQ_N_LINEARS));
    lq_progress progress = lq_progress_start("calibrating", full->config.L, "block");
    for (size_t l = 0; l < full->config.L; l++) {
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "calibration stopped at block %zu", l);
        pass_block(&s, full, l, true, true);
        LQ_TRY(collect(&s, full, l, arena, list, &n));
        lq_progress_update(&progress, l + 1, "%s", "");
    }
    lq_progress_end(&progress);
    const char *metadata[] = {"tokens",
                              lq_arena_printf(arena, "%zu", calib->n_sequences * calib->T)};
    return lq_safetensors_write(path, list, n, metadata, 1);
}

lq_status lq_calibrate_to_file(const lq_weights *full, const lq_calib_data *calib, const char *path)
{
    lq_arena arena = {0};
    lq_status status = calibrate(full, calib, path, &arena);
    lq_arena_close(&arena);
    return status;
}
