/* The command line: positional arguments and --options, declared by the command that reads them.
 *
 *     static const lq_arg_spec spec[] = {
 *         {"method", 'm', LQ_ARG_TEXT, "NAME", "the method"},
 *         {"set", 0, LQ_ARG_LIST, "KEY=VALUE", "an option of the method"}, ...};
 *     lq_args *args;
 *     LQ_TRY(lq_args_parse(argc, argv, spec, n_spec, 1, 1, &args));   // one positional argument
 *
 * An unknown option, a missing value, a value twice, or a wrong count of positionals is LQ_E_OPTION,
 * with a note that names the nearest known option. "--name=value" and "--name value" both work; "--"
 * ends the options. */
#ifndef LQ_BASE_ARGS_H
#define LQ_BASE_ARGS_H

#include "core/base/status.h"

#include <stdint.h>

typedef enum lq_arg_type {
    LQ_ARG_FLAG, /* no value */
    LQ_ARG_TEXT, /* one value */
    LQ_ARG_LIST  /* may be given many times */
} lq_arg_type;
typedef struct lq_arg_spec {
    const char *name; /* without dashes */
    char letter;      /* short form, or 0 */
    lq_arg_type type;
    const char *value; /* what the value is called in help; NULL for a flag */
    const char *help;
} lq_arg_spec;
typedef struct lq_args lq_args;

/* argv[0] is the first argument after the command's name. Strings are borrowed from argv. */
lq_status lq_args_parse(int argc, char **argv, const lq_arg_spec *spec, size_t n_spec,
                        size_t lowest_positionals, size_t highest_positionals, lq_args **out);
void lq_args_free(lq_args *args);
size_t lq_args_count(const lq_args *args); /* positionals */
const char *lq_args_at(const lq_args *args, size_t i);
bool lq_args_flag(const lq_args *args, const char *name);
const char *lq_args_text(const lq_args *args, const char *name, const char *fallback);
size_t lq_args_list(const lq_args *args, const char *name, const char *const **values);
/* Numbers, whole ("4000000", "4M", "512k"; k and M are thousands and millions) and real. Absent:
 * fallback. LQ_E_OPTION: no number, trailing text, outside the range. */
lq_status lq_args_size(const lq_args *args, const char *name, size_t lowest, size_t highest,
                       size_t fallback, size_t *out);
lq_status lq_args_real(const lq_args *args, const char *name, double lowest, double highest,
                       double fallback, double *out);
lq_status lq_text_size(const char *text, const char *where, size_t lowest, size_t highest,
                       size_t *out);
lq_status lq_text_real(const char *text, const char *where, double lowest, double highest,
                       double *out);
/* The nearest of n names by edit distance (<= 3), or NULL: for "did you mean". */
const char *lq_text_nearest(const char *text, const char *const *names, size_t n);
void lq_args_help(const lq_arg_spec *spec, size_t n_spec); /* a line an option, to stdout */

#endif
