#include "core/train/calibrate.h"

#include "core/base/args.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/math/gemm.h"

#include <math.h>
#include <string.h>

enum { SEQUENCES_AT_ONCE = 8 };
/* The first linear that reads each site. */
static const lq_layer_tensor reader[LQ_N_SITES] = {LQ_Q, LQ_O, LQ_GATE, LQ_DOWN};

lq_site lq_site_of(lq_layer_tensor linear)
{
    if (linear == LQ_O)
        return LQ_SITE_O;
    if (linear == LQ_DOWN)
        return LQ_SITE_DOWN;
    return linear == LQ_GATE || linear == LQ_UP ? LQ_SITE_GATE_UP : LQ_SITE_QKV;
}

lq_status lq_grams_new(const lq_config *c, lq_arena *arena, lq_grams *out)
{
    const size_t width[LQ_N_SITES] = {c->D, c->H * c->dh, c->D, c->F};
    *out = (lq_grams){0};
    for (size_t i = 0; i < LQ_N_SITES; i++) {
        out->width[i] = width[i];
        LQ_TRY(lq_arena_new(arena, &out->gram[i], width[i] * width[i]));
        LQ_TRY(lq_arena_new(arena, &out->mean_abs[i], width[i]));
    }
    return LQ_OK;
}

lq_status lq_passage_new(const lq_config *c, const lq_calib_data *calib, lq_arena *arena,
                         lq_passage *out)
{
    const size_t width[LQ_N_SITES] = {c->D, c->H * c->dh, c->D, c->F};
    *out = (lq_passage){.calib = calib};
    for (size_t i = 0; i < LQ_N_SITES; i++)
        LQ_TRY(lq_arena_new(arena, &out->wide[i], SEQUENCES_AT_ONCE * calib->T * width[i]));
    return lq_lane_new(c, SEQUENCES_AT_ONCE, calib->T, LQ_KEEP_NOTHING, arena, &out->lane);
}

lq_status lq_passage_stream(const lq_weights *w, const lq_calib_data *calib, lq_arena *arena,
                            float **out)
{
    const size_t n = calib->n_sequences * calib->T;
    LQ_TRY(lq_arena_new(arena, out, n * w->config.D));
    lq_embed(w, calib->token, n, *out);
    return LQ_OK;
}

/* Adds E[x' x] and E|x| of the chunk that is in the lane: a site a thread, each product on one. */
static void add_grams(lq_passage *p, size_t layer, size_t rows, lq_grams *grams)
{
    const double share = 1.0 / (double)grams->n_tokens;
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < LQ_N_SITES; i++) {
        const size_t n = grams->width[i];
        double *wide = p->wide[i];
        const float *in = lq_linear_input(p->lane, layer, reader[i]);
        for (size_t j = 0; j < rows * n; j++)
            wide[j] = (double)in[j];
        lq_gemm_tn_f64(n, n, rows, share, wide, n, wide, n, 1, grams->gram[i], n);
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < n; j++)
                grams->mean_abs[i][j] += share * fabs(wide[r * n + j]);
    }
}

void lq_passage_block(lq_passage *p, const lq_weights *w, size_t layer, const float *from,
                      float *to, lq_grams *grams)
{
    const size_t T = p->calib->T, D = w->config.D, total = p->calib->n_sequences;
    const int threads = lq_blas_threads(1); /* the result shall not depend on how many there are */
    for (size_t i = 0; grams != NULL && i < LQ_N_SITES; i++) {
        memset(grams->gram[i], 0, grams->width[i] * grams->width[i] * sizeof(double));
        memset(grams->mean_abs[i], 0, grams->width[i] * sizeof(double));
    }
    if (grams != NULL)
        grams->n_tokens = total * T;
    for (size_t at = 0; at < total; at += SEQUENCES_AT_ONCE) {
        const size_t B = total - at < SEQUENCES_AT_ONCE ? total - at : SEQUENCES_AT_ONCE;
        lq_block_forward(w, p->lane, layer, from + at * T * D, B,
                         to != NULL ? to + at * T * D : p->lane->x_final);
        if (grams != NULL)
            add_grams(p, layer, B * T, grams);
    }
    lq_blas_threads(threads);
}

/* ---- The file ---------------------------------------------------------------------------------- */

static const char *name_of(const lq_weight *t, const char *what, lq_arena *arena)
{
    const int n = (int)(strlen(t->name) - strlen(".weight"));
    return lq_arena_printf(arena, "%.*s.%s", n, t->name, what);
}

/* Names and shapes of all tensors, in the order of the blocks. */
static lq_status list_grams(const lq_weights *w, lq_arena *arena, lq_tensor **out, size_t *n)
{
    LQ_TRY(lq_arena_new(arena, out, 2 * w->config.L * LQ_N_LINEARS));
    *n = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        if (t->kind != LQ_WEIGHT_LINEAR)
            continue;
        (*out)[(*n)++] = (lq_tensor){.name = name_of(t, "gram", arena),
                                     .dtype = LQ_DTYPE_F32,
                                     .rank = 2,
                                     .shape = {t->cols, t->cols}};
        (*out)[(*n)++] = (lq_tensor){.name = name_of(t, "mean_abs", arena),
                                     .dtype = LQ_DTYPE_F32,
                                     .rank = 1,
                                     .shape = {t->cols}};
    }
    return LQ_OK;
}

static lq_status put(lq_safetensors_stream *stream, const double *x, size_t n, float *narrow)
{
    for (size_t j = 0; j < n; j++)
        narrow[j] = (float)x[j];
    return lq_safetensors_stream_put(stream, narrow);
}

/* One block's grams, once for every linear that reads them. */
static lq_status put_block(lq_safetensors_stream *stream, const lq_grams *grams, float *narrow)
{
    for (size_t i = 0; i < LQ_N_LINEARS; i++) {
        const lq_site site = lq_site_of((lq_layer_tensor)i);
        const size_t n = grams->width[site];
        LQ_TRY(put(stream, grams->gram[site], n * n, narrow));
        LQ_TRY(put(stream, grams->mean_abs[site], n, narrow));
    }
    return LQ_OK;
}

static lq_status put_blocks(const lq_weights *full, const lq_calib_data *calib,
                            lq_safetensors_stream *stream, lq_arena *arena)
{
    lq_passage p;
    lq_grams grams;
    float *x, *narrow;
    size_t most = 0;
    LQ_TRY(lq_grams_new(&full->config, arena, &grams));
    LQ_TRY(lq_passage_new(&full->config, calib, arena, &p));
    LQ_TRY(lq_passage_stream(full, calib, arena, &x));
    for (size_t i = 0; i < LQ_N_SITES; i++)
        most = grams.width[i] > most ? grams.width[i] : most;
    LQ_TRY(lq_arena_new(arena, &narrow, most * most));
    lq_progress progress = lq_progress_start("calibrating", full->config.L, "block");
    for (size_t l = 0; l < full->config.L; l++) {
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "calibration stopped at block %zu", l);
        lq_passage_block(&p, full, l, x, x, &grams);
        LQ_TRY(put_block(stream, &grams, narrow));
        lq_progress_update(&progress, l + 1, "%s", "");
    }
    lq_progress_end(&progress);
    return LQ_OK;
}

static lq_status calibrate(const lq_weights *full, const lq_calib_data *calib,
                           const char *model_sha256, const char *path, lq_arena *arena)
{
    lq_tensor *list;
    size_t n;
    lq_safetensors_stream *stream;
    const char *metadata[] = {"tokens",
                              lq_arena_printf(arena, "%zu", calib->n_sequences * calib->T), "model",
                              model_sha256};
    LQ_TRY(list_grams(full, arena, &list, &n));
    LQ_TRY(lq_safetensors_stream_open(path, list, n, metadata, model_sha256 != NULL ? 2 : 1, arena,
                                      &stream));
    lq_status status = put_blocks(full, calib, stream, arena);
    if (status == LQ_OK)
        return lq_safetensors_stream_close(stream);
    lq_safetensors_stream_abandon(stream);
    return status;
}

lq_status lq_calibrate_to_file(const lq_weights *full, const lq_calib_data *calib,
                               const char *model_sha256, const char *path)
{
    lq_arena arena = {0};
    lq_status status = calibrate(full, calib, model_sha256, path, &arena);
    lq_arena_close(&arena);
    return status;
}

lq_status lq_gram_file_open(const char *path, const char *model_sha256, lq_arena *arena,
                            lq_gram_file *out)
{
    LQ_TRY(lq_safetensors_open(path, arena, &out->file));
    const char *tokens = lq_safetensors_metadata(&out->file, "tokens");
    const char *model = lq_safetensors_metadata(&out->file, "model");
    lq_status status = LQ_OK;
    if (tokens == NULL)
        status = lq_fail(LQ_E_FORMAT,
                         "%s: no \"tokens\" in the metadata: not written by `lcqat "
                         "calibrate`",
                         path);
    else if (lq_text_size(tokens, path, 1, (size_t)1 << 53, &out->n_tokens) != LQ_OK)
        status = lq_fail(LQ_E_FORMAT, "%s: \"tokens\" of the metadata is '%.40s', must be a count",
                         path, tokens);
    else if (model != NULL && model_sha256 != NULL && strcmp(model, model_sha256) != 0)
        status = lq_fail(LQ_E_FORMAT,
                         "%s: collected on another model (%.16s, this one is %.16s); "
                         "run `lcqat calibrate` on this one",
                         path, model, model_sha256);
    if (status != LQ_OK)
        lq_safetensors_close(&out->file);
    return status;
}

/* One tensor of a linear into out (n); the linears after the first that read this input must agree. */
static lq_status read_one(const lq_gram_file *g, const lq_weight *t, const char *what, size_t rank,
                          double *out, lq_arena *arena)
{
    const char *name = name_of(t, what, arena);
    const size_t shape[] = {t->cols, t->cols}, n = rank == 2 ? t->cols * t->cols : t->cols;
    float *narrow;
    LQ_TRY(lq_safetensors_f32(&g->file, name, rank, shape, arena, &narrow));
    const bool first = reader[lq_site_of(t->id)] == t->id;
    for (size_t i = 0; i < n; i++)
        if (first)
            out[i] = (double)narrow[i];
        else if (!(out[i] == (double)narrow[i]))
            return lq_fail(LQ_E_FORMAT,
                           "%s: tensor %s differs from that of a linear with the same "
                           "input",
                           g->file.path, name);
    return LQ_OK;
}

lq_status lq_gram_file_read(const lq_gram_file *g, const lq_weights *w, size_t layer, bool mean_abs,
                            lq_grams *out)
{
    lq_arena arena = {0};
    lq_status status = LQ_OK;
    out->n_tokens = g->n_tokens;
    for (size_t i = 0; status == LQ_OK && i < w->n_tensors; i++) {
        const lq_weight *t = &w->tensor[i];
        if (t->kind != LQ_WEIGHT_LINEAR || t->layer != layer)
            continue;
        const lq_mark mark = lq_arena_mark(&arena);
        const lq_site site = lq_site_of(t->id);
        status = read_one(g, t, "gram", 2, out->gram[site], &arena);
        if (status == LQ_OK && mean_abs)
            status = read_one(g, t, "mean_abs", 1, out->mean_abs[site], &arena);
        lq_arena_release(&arena, mark);
    }
    lq_arena_close(&arena);
    return status;
}

void lq_gram_file_close(lq_gram_file *g) { lq_safetensors_close(&g->file); }
