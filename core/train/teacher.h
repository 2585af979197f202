/* What a full-precision teacher predicts at every position that a student trains on: computed beside the
 * student (online), or read from a file made before, which keeps the likeliest tokens of each position and
 * the probability of all others together.
 *
 *     lq_teacher_plan plan = {.n_sequences = n, .T = T, .k = 64, .temperature = 1, .micro = 4, .lanes = 2};
 *     LQ_TRY(lq_teacher_store(&full, &batches, &plan, path, fingerprint));       // once
 *     LQ_TRY(lq_teacher_open(path, fingerprint, &plan, V, arena, &file));
 *     lq_teacher_source teacher = {.file = &file};                                      // or {.w = &full}
 *
 * Of the tokens that a file does not list, the student's own ratios are taken: all of them together are then
 * one event, whose share is known. A divergence of p and q becomes the one of these coarser distributions,
 * gradient included: not more than the whole one, and the same where k is the vocabulary. */
#ifndef LQ_TRAIN_TEACHER_H
#define LQ_TRAIN_TEACHER_H

#include "core/data/batch.h"
#include "core/data/safetensors.h"
#include "core/model/llama.h"

typedef struct lq_teacher_plan {
    size_t n_sequences,
        T;    /* the first of the run's, in its order (core/data/batch.h); tokens of one */
    size_t k; /* tokens a position */
    double temperature;  /* of the stored probabilities */
    size_t micro, lanes; /* of the forward passes: part of the arithmetic, as in training */
} lq_teacher_plan;

enum { LQ_TEACHER_CHUNK = 64 }; /* sequences of one tensor in the file */
typedef struct lq_teacher_file {
    lq_safetensors file;
    lq_teacher_plan plan;
    size_t V, n_chunks;
    const float **logp, **rest; /* (n_chunks) -> (sequences,T,k) descending, (sequences,T) */
    const uint32_t **id;        /* (n_chunks) -> (sequences,T,k) */
} lq_teacher_file;

typedef struct lq_teacher_source { /* one of the two */
    const lq_weights *w;           /* borrowed */
    const lq_teacher_file *file;
} lq_teacher_source;

/* Bytes of such a file. LQ_E_SHAPE: k is 0 or above V, or the size overflows. */
lq_status lq_teacher_file_bytes(const lq_teacher_plan *plan, size_t V, size_t *bytes);
/* Writes the file. LQ_E_IO: the disk has no room for it, said before anything is computed; LQ_E_NUMERIC: a
 * logit is not finite; LQ_E_STOPPED. data is read at sequences 0, 1, ... */
lq_status lq_teacher_store(const lq_weights *w, lq_batches *data, const lq_teacher_plan *plan,
                           const char *path, const char *fingerprint);
/* LQ_E_FORMAT: of another fingerprint or plan, a tensor missing, an id or a number out of range. */
lq_status lq_teacher_open(const char *path, const char *fingerprint, const lq_teacher_plan *plan,
                          size_t V, lq_arena *arena, lq_teacher_file *out);
void lq_teacher_close(lq_teacher_file *file);

typedef struct lq_teacher_lane { /* of one thread */
    const lq_teacher_source *teacher;
    double temperature;
    lq_lane *acts; /* NULL: from a file */
    size_t T, sequence, B;
} lq_teacher_lane;
size_t lq_teacher_lane_bytes(const lq_teacher_source *teacher, const lq_config *config, size_t B,
                             size_t T);
lq_status lq_teacher_lane_new(const lq_teacher_source *teacher, const lq_config *config, size_t B,
                              size_t T, double temperature, lq_arena *arena, lq_teacher_lane *out);
/* tokens (B,T): sequences `sequence` and the B - 1 after it. */
void lq_teacher_read(lq_teacher_lane *lane, const uint32_t *tokens, size_t sequence, size_t B);
/* An lq_teacher_logits (core/train/loss.h) of the sequences read last; lane: lq_teacher_lane. */
void lq_teacher_rows(void *lane, size_t first, size_t n, const float *student, float *out);
/* Sum over their positions of the largest probability. rows: scratch for LQ_TEACHER_ROWS rows of V. */
enum { LQ_TEACHER_ROWS = 128 };
double lq_teacher_confidence(lq_teacher_lane *lane, float *rows);

#endif
