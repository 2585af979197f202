/* The training loop: a loss on logits (core/train/loss.h), an optimizer, gradient accumulation over
 * micro-batches. Effective weights are made once per optimizer step and their gradient is pulled back to theta once.
 *
 * A step's sequences are split into micro-batches, dealt in turn to `lanes`, each with its own
 * activations and gradients; lanes run side by side on threads, and their gradients are added in order.
 * The split depends on the configuration alone, so one thread and two give the same bits. */
#ifndef LQ_TRAIN_TRAINER_H
#define LQ_TRAIN_TRAINER_H

#include "core/data/batch.h"
#include "core/train/loss.h"
#include "core/train/optimizer.h"
#include "core/train/qmodel.h"
#include "core/train/schedule.h"
#include "core/train/teacher.h"

/* Activation checkpointing: keep each block's input alone and compute the rest again in the backward. A
 * third more arithmetic, the same bits. */
typedef enum lq_checkpointing {
    LQ_CHECKPOINTING_AUTO, /* on where the plan without it is more than half of the machine's memory */
    LQ_CHECKPOINTING_ON,
    LQ_CHECKPOINTING_OFF
} lq_checkpointing;

typedef struct lq_train_config {
    size_t batch, T;     /* sequences per step, tokens per sequence */
    size_t micro, lanes; /* sequences per micro-batch; lanes of activations */
    size_t steps;        /* optimizer steps of the whole run */
    double lr;           /* peak, of every tensor without one of its own */
    double
        weight_decay; /* of matrices, and of slots of a weight's shape that say none of their own */
    bool train_rest;  /* norms, embeddings, head, biases move, too */
    const char *slots; /* of those that the method trains, which (core/train/slots.h); NULL: all */
    lq_checkpointing checkpointing;
    lq_compute compute; /* of the model's matrix products; everything else is fp32 */
    lq_schedule schedule;
    lq_adamw adamw;
    int optimizer; /* lq_optimizer_kind */
    lq_loss_config loss;
    lq_teacher_source teacher; /* of a loss that has one; both members NULL otherwise */
    bool sum_per_sequence; /* the gradient is that of the mean over sequences of sums over tokens: T
                              times that of the mean over tokens. Losses are reported per token */
    lq_rng noise;          /* of methods that draw some (lq_when.seed) */
    const char *checkpoint; /* file, or NULL: none */
    double checkpoint_s;    /* at least between checkpoints; < 0: at every step */
    const char
        *fingerprint; /* of all that shapes the run: a checkpoint of another one is refused */
} lq_train_config;

typedef struct lq_train_result {
    double *loss;      /* (steps) mean nats per token of each step's batch, before its update */
    double beta;       /* of the loss, measured or given */
    size_t steps_done; /* < steps: stopped by the user */
    size_t tokens;     /* seen, all of them in this run or before the resume */
    double final_loss; /* mean over the last tenth of the steps */
} lq_train_result;

/* Trains q in place. A beta that is to be measured (cakld) is, as released, 1.1 times the mean over the
 * first LQ_BETA_BATCHES batches of the teacher's largest probability: docs/decisions/0085. Resumes from
 * config->checkpoint when it is there, and removes it when done.
 * LQ_E_NUMERIC: loss or gradient not finite (step and value in the note); LQ_E_STOPPED: the user asked
 * to stop, the checkpoint is written; LQ_E_FORMAT: a checkpoint of another run; LQ_E_OPTION: slots that
 * are not there, or nothing that moves; LQ_E_UNAVAILABLE: compute is bf16 where that is not to be had.
 * on_step may be NULL; it is called after each step. */
enum { LQ_BETA_BATCHES = 11 };
typedef lq_status (*lq_on_step)(void *context, size_t step, double loss, double lr_factor);
lq_status lq_train(lq_qmodel *q, lq_batches *data, const lq_train_config *config, lq_arena *arena,
                   lq_on_step on_step, void *context, lq_train_result *out);

/* Sequences of the run that the teacher is asked about: what a file of predictions must hold. */
size_t lq_train_sequences(const lq_train_config *config);

/* Bytes that lq_train plans for: effective weights, parameters, gradients, optimizer state, activations, the
 * teacher's weights and activations. The full-precision weights, where the caller still holds them for
 * another reason, come on top; predictions in a file are not memory. */
size_t lq_train_bytes(const lq_qmodel *q, const lq_train_config *config);
/* What the lanes will keep: AUTO decided. */
lq_keep lq_train_keep(const lq_qmodel *q, const lq_train_config *config);

/* One gradient, for tests and golden cases: adds d(mean nats)/d(...) over `n` sequences into grad (as
 * the weights) and returns the mean nats. */
double lq_gradient(const lq_weights *w, lq_lane *lane, const uint32_t *tokens,
                   const uint32_t *targets, size_t n, lq_weights *grad);

#endif
