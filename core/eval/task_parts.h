/* Private to the files of the tasks: a question in the making. */
#ifndef LQ_EVAL_TASK_PARTS_H
#define LQ_EVAL_TASK_PARTS_H

#include "core/base/json.h"
#include "core/eval/task.h"

typedef struct lq_task_reader lq_task_reader;

typedef struct lq_task_entry {
    lq_task task; /* first: a task is known by its address */
    /* A question of one JSON object. */
    lq_status (*row)(lq_task_reader *r, const lq_json *row);
    /* One line of the other form that the set is published in; NULL: there is none. */
    lq_status (*line)(lq_task_reader *r, char *line, size_t bytes);
} lq_task_entry;

struct lq_task_reader {
    const lq_task_entry *entry;
    const char *path;
    size_t line; /* the one at hand, from 1 */
    size_t most;
    bool enough, is_json;
    lq_arena *arena;
    lq_questions out;
    size_t room;
    /* piqa: what stands in the file beside; NULL: "label" in each row */
    const char *labels;
    size_t n_labels;
    /* hellaswag's text form: the lines of the question so far */
    const char *part[6];
    size_t n_parts;
};

/* LQ_E_FORMAT with file and line. */
lq_status lq_task_wrong(const lq_task_reader *r, const char *what);
/* A question of n choices, whose texts `choice` follow a space after the context they share. Texts are kept
 * (in the arena) or copied by the caller. LQ_E_FORMAT: none or too many choices, no gold one among them, an
 * empty context. */
lq_status lq_task_add(lq_task_reader *r, const char *context, const char *const *choice, size_t n,
                      size_t gold);
/* One whose contexts and continuations are given; `length` counts characters of `choice`. */
lq_status lq_task_add_pairs(lq_task_reader *r, const char *const *context,
                            const char *const *continuation, const char *const *choice, size_t n,
                            size_t gold);

/* What Python's str.isspace() says. */
bool lq_python_space(uint32_t code);
/* The text without such characters at its ends, in the arena. */
const char *lq_python_strip(const char *text, lq_arena *arena);

lq_status lq_hellaswag_row(lq_task_reader *r, const lq_json *row);
lq_status lq_hellaswag_line(lq_task_reader *r, char *line, size_t bytes);
/* The harness's cleaning of HellaSwag: white space off both ends, " [title]" to ". ", bracketed words out,
 * two spaces to one in a single pass. In the arena. Source: lm_eval/tasks/hellaswag/utils.py. */
const char *lq_hellaswag_clean(const char *text, lq_arena *arena);
/* Python's str.capitalize(): the first character in title case, all others in lower case. */
lq_status lq_python_capitalize(const char *text, lq_arena *arena, const char **out);

#endif
