/* Zero-shot tasks as lm-evaluation-harness 0.4 puts them: questions read from the files in which the data sets
 * are published, each a context with continuations that a model is to weigh. core/eval/choice.h weighs them;
 * docs/metrics.md says what the numbers mean.
 *
 *     const lq_task *task = lq_task_find("arc_easy");
 *     LQ_TRY(lq_task_read(task, "ARC-Easy-Test.jsonl", 0, arena, &questions)); */
#ifndef LQ_EVAL_TASK_H
#define LQ_EVAL_TASK_H

#include "core/base/arena.h"

enum { LQ_MOST_CHOICES = 16 };

typedef struct lq_question {
    size_t n, gold;            /* choices, and the right one; of a last word one */
    const char **context;      /* (n); one pointer where the choices share it */
    const char **continuation; /* (n) with the space before it */
    size_t *length;            /* (n) characters of the choice, without that space */
} lq_question;

typedef struct lq_task {
    const char *name; /* the harness's */
    bool normed;      /* acc_norm is reported beside acc */
    bool last_word;   /* one continuation, right when the model would have said it itself */
} lq_task;

/* In any case of letters, '-' for '_'; "lambada" is lambada_openai. NULL: none of that name. */
const lq_task *lq_task_find(const char *name);
size_t lq_task_count(void);
const lq_task *lq_task_at(size_t i);

typedef struct lq_questions {
    const lq_task *task;
    lq_question *question; /* (n) in the order of the file */
    size_t n;
    const char *remark; /* in what the texts are not the harness's; NULL: in nothing */
} lq_questions;

/* The first `most` questions of a file (0: all); it may be compressed.
 *   arc_*, openbookqa   JSON lines of AI2, or rows of the hub; openbookqa also AI2's .tsv
 *   hellaswag           JSON lines; or the text form of llama.cpp, six lines a question, said in `remark`
 *   piqa                JSON lines with "label", or with the labels in a file X-labels.lst beside X.jsonl
 *   winogrande          JSON lines
 *   boolq               JSON lines of SuperGLUE, or of BoolQ's authors: title and passage are then put together
 *   lambada_openai      JSON lines, "text"
 * LQ_E_MISSING; LQ_E_FORMAT: the line and what is wrong with it, or no question at all. */
lq_status lq_task_read(const lq_task *task, const char *path, size_t most, lq_arena *arena,
                       lq_questions *out);

#endif
