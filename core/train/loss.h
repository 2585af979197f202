/* Training objectives on logits: cross-entropy of the next token, and divergences between what the
 * full-precision teacher predicts (p) and what the student does (q), both at a temperature:
 *
 *     ce          -log q(target)
 *     kl          KL(p||q)                         LLM-QAT, arXiv:2305.17888
 *     reverse_kl  KL(q||p)
 *     cakld       beta KL(q||p) + (1 - beta) KL(p||q), beta measured on the teacher or given
 *                                                  BitDistiller, arXiv:2402.10631, as released
 *     jsd         beta KL(p||m) + (1 - beta) KL(q||m), m = beta p + (1 - beta) q
 *                                                  generalized Jensen-Shannon, arXiv:2306.13649, eq. 1
 *
 *     L = weight temperature^2 divergence(p, q) + ce_weight ce,   ce at temperature 1
 *
 * The square keeps the gradient's size as the temperature changes (arXiv:1503.02531, sec. 2). The kernels
 * (core/math/kernels.h) have the gradients. */
#ifndef LQ_TRAIN_LOSS_H
#define LQ_TRAIN_LOSS_H

#include "core/model/llama.h"

typedef enum lq_loss_kind {
    LQ_LOSS_CE,
    LQ_LOSS_KL,
    LQ_LOSS_REVERSE_KL,
    LQ_LOSS_CAKLD,
    LQ_LOSS_JSD
} lq_loss_kind;
#define LQ_LOSS_WORDS "ce|kl|reverse_kl|cakld|jsd"

typedef struct lq_loss_config { /* all zeros: plain cross-entropy, which reads `kind` alone */
    int kind;                   /* lq_loss_kind */
    double weight, ce_weight;
    double temperature; /* > 0 */
    double beta;        /* cakld: 0 is "measure it"; jsd: in (0,1) */
} lq_loss_config;

bool lq_loss_has_teacher(const lq_loss_config *loss);

enum { LQ_LOSS_ROWS = 128 };  /* rows of logits at once */
typedef struct lq_loss_rows { /* scratch of one lane */
    float *student, *teacher; /* (LQ_LOSS_ROWS,V) */
    float nats[LQ_LOSS_ROWS];
} lq_loss_rows;
size_t lq_loss_bytes(size_t V);
lq_status lq_loss_rows_new(size_t V, lq_arena *arena, lq_loss_rows *out);

/* The teacher's logits (n,V) of rows [first, first+n), for the student's; a teacher of whom only the
 * likeliest tokens are known completes the others by the student's. */
typedef void (*lq_teacher_logits)(void *teacher, size_t first, size_t n, const float *student,
                                  float *out);

/* After lq_forward, for a loss with a teacher: the sum of L over the lane's rows whose target (B,T) is
 * below V. d(scale * sum) is added to the head's gradient and kept for lq_backward. */
double lq_loss_distill(const lq_loss_config *loss, const lq_weights *w, lq_lane *lane,
                       const uint32_t *targets, lq_teacher_logits logits, void *teacher,
                       lq_loss_rows *rows, float scale, lq_weights *grad);

#endif
