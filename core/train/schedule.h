/* Learning-rate schedules: a factor in [0,1] of the peak rate, by step. */
#ifndef LQ_TRAIN_SCHEDULE_H
#define LQ_TRAIN_SCHEDULE_H

#include <stddef.h>

typedef enum lq_schedule_kind {
    LQ_SCHEDULE_CONSTANT,
    LQ_SCHEDULE_COSINE, /* to zero at the end */
    LQ_SCHEDULE_WSD,    /* warm up, stay, decay over the last share of the steps */
    LQ_SCHEDULE_LINEAR  /* to zero at the end */
} lq_schedule_kind;
#define LQ_SCHEDULE_WORDS "constant|cosine|wsd|linear"

typedef struct lq_schedule {
    lq_schedule_kind kind;
    size_t warmup; /* steps with a linear rise from 0 */
    size_t decay;  /* WSD: steps of the final decay (cosine shaped to 0) */
} lq_schedule;

/* Factor for step (0-based) of `total`. With warm-up, step i of w has
 * (i + 1) / w. */
double lq_schedule_factor(const lq_schedule *schedule, size_t step, size_t total);

#endif
