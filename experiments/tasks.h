/* Zero-shot tasks of a model: `--tasks LIST` of the command line, where the questions are, how they become
 * tokens, and what is printed. core/eval/task.h and choice.h do the work. */
#ifndef LQ_EXPERIMENTS_TASKS_H
#define LQ_EXPERIMENTS_TASKS_H

#include "core/base/json.h"
#include "core/eval/choice.h"
#include "experiments/model.h"

typedef struct lq_task_run {
    const char *path; /* of the questions */
    lq_digest digest; /* of that file */
    lq_questions questions;
    lq_answers answers;
    lq_choice_result result;
} lq_task_run;

typedef struct lq_task_runs {
    lq_task_run *run; /* (n) */
    size_t n, limit;
    const char *bos; /* "tokenizer", "never", "always" */
    uint32_t bos_id; /* UINT32_MAX: none */
} lq_task_runs;

/* LIST: names, or NAME:FILE, with commas between; a name alone is that of a fetched data set of the catalog.
 * All files are read before any work begins. bos: what stands before a text: what the tokenizer puts there,
 * nothing, or the model's BOS in any case. limit: the first so many questions of each (0: all).
 * LQ_E_OPTION: no such task, twice the same, or a BOS that there is none of; LQ_E_MISSING: not fetched. */
lq_status lq_tasks_read(const lq_model *model, const char *list, const char *bos, size_t limit,
                        lq_arena *arena, lq_task_runs *out);
lq_status lq_tasks_weigh(const lq_model *model, lq_task_runs *runs, lq_arena *arena);
/* A line of JSON a question: what each choice weighs. */
lq_status lq_tasks_write_samples(const lq_task_runs *runs, const char *path);
void lq_tasks_print(const lq_task_runs *runs);
lq_json *lq_tasks_to_json(const lq_task_runs *runs); /* owned */

#endif
