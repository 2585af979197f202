/* The model card of a teacher: how it was trained and what it scores, as README.md and training.json. */
#ifndef LQ_EXPERIMENTS_TEACHER_CARD_H
#define LQ_EXPERIMENTS_TEACHER_CARD_H

#include "core/eval/perplexity.h"
#include "core/train/trainer.h"
#include "experiments/data.h"

typedef struct lq_teacher {
    const char *name, *recipe; /* recipe: canonical JSON of the training configuration */
    lq_config config;
    const lq_data *data;
    size_t context, tokens, parameters;
    double seconds; /* of the last stretch, when training was resumed */
    lq_train_result result;
    lq_perplexity score[2]; /* valid, test; ppl 0: not measured */
} lq_teacher;

lq_status lq_teacher_card(const lq_teacher *teacher, const char *dir, lq_arena *arena);

#endif
