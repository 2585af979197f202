/* A command of the program: `lcqat NAME ...`. One file cmd_<name>.c and one line in commands.def each;
 * help, option parsing and the list in `lcqat help` come from the same struct. */
#ifndef LQ_EXPERIMENTS_COMMAND_H
#define LQ_EXPERIMENTS_COMMAND_H

#include "core/base/arena.h"
#include "core/base/args.h"
#include "core/base/json.h"

typedef struct lq_command {
    const char *name, *summary; /* one line */
    const char *positionals;    /* "MODEL --method M --bits B --out DIR", as the usage shows it */
    size_t lowest, highest;     /* count of positionals */
    const lq_arg_spec *spec;
    size_t n_spec;
    lq_status (*run)(const lq_args *args, lq_arena *arena);
} lq_command;

extern const lq_command *const lq_command_table[];
extern const size_t lq_command_count;

#define LQ_ARG_JSON                                               \
    {                                                             \
        "json", 0, LQ_ARG_FLAG, NULL, "one JSON object on stdout" \
    }
/* Prints the object on stdout, frees it. */
void lq_print_json(lq_json *object);
/* "--set key=value ..." of the arguments as a JSON object; bits and others may be added. Owned. */
lq_status lq_set_options(const lq_args *args, lq_json **out);

#endif
