/* The training loop: cross-entropy of the next token, AdamW, gradient accumulation over micro-batches.
 * Effective weights are made once per optimizer step and their gradient is pulled back to theta once.
 *
 * A step's sequences are split into micro-batches, dealt in turn to `lanes`, each with its own
 * activations and gradients; lanes run side by side on threads, and their gradients are added in order.
 * The split depends on the configuration alone, so one thread and two give the same bits. */
#ifndef LQ_TRAIN_TRAINER_H
#define LQ_TRAIN_TRAINER_H

#include "core/data/batch.h"
#include "core/train/optimizer.h"
#include "core/train/qmodel.h"
#include "core/train/schedule.h"

typedef struct lq_train_config {
    size_t batch, T;     /* sequences per step, tokens per sequence */
    size_t micro, lanes; /* sequences per micro-batch; lanes of activations */
    size_t steps;        /* optimizer steps of the whole run */
    double lr;           /* peak, of every tensor without one of its own */
    double weight_decay; /* of matrices that are not parametrized (pretraining) */
    bool train_rest;     /* norms, embeddings, head, biases move, too */
    lq_schedule schedule;
    lq_adamw adamw;
    lq_rng noise;           /* of methods that draw some (lq_when.seed) */
    const char *checkpoint; /* file, or NULL: none */
    double checkpoint_s;    /* seconds between checkpoints */
    const char
        *fingerprint; /* of all that shapes the run: a checkpoint of another one is refused */
} lq_train_config;

typedef struct lq_train_result {
    double *loss;      /* (steps) mean nats per token of each step's batch, before its update */
    size_t steps_done; /* < steps: stopped by the user */
    size_t tokens;     /* seen, all of them in this run or before the resume */
    double final_loss; /* mean over the last tenth of the steps */
} lq_train_result;

/* Trains q in place. Resumes from config->checkpoint when it is there, and removes it when done.
 * LQ_E_NUMERIC: loss or gradient not finite (step and value in the note); LQ_E_STOPPED: the user asked
 * to stop, the checkpoint is written; LQ_E_FORMAT: a checkpoint of another run. on_step may be NULL;
 * it is called after each step. */
typedef lq_status (*lq_on_step)(void *context, size_t step, double loss, double lr_factor);
lq_status lq_train(lq_qmodel *q, lq_batches *data, const lq_train_config *config, lq_arena *arena,
                   lq_on_step on_step, void *context, lq_train_result *out);

/* Bytes that lq_train plans for: parameters, gradients, optimizer state, activations. */
size_t lq_train_bytes(const lq_qmodel *q, const lq_train_config *config);

/* One gradient, for tests and golden cases: adds d(mean nats)/d(...) over `n` sequences into grad (as
 * the weights) and returns the mean nats. */
double lq_gradient(const lq_weights *w, lq_lane *lane, const uint32_t *tokens,
                   const uint32_t *targets, size_t n, lq_weights *grad);

#endif
