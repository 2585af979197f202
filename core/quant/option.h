/* Options declared as a table: one list that reads a spec, writes the resolved defaults out, and prints
 * the help. The values live in a plain struct at the declared offsets. */
#ifndef LQ_QUANT_OPTION_H
#define LQ_QUANT_OPTION_H

#include "core/base/json.h"
#include "core/base/status.h"

#include <stddef.h>

typedef enum lq_option_type {
    LQ_OPTION_SIZE,  /* size_t */
    LQ_OPTION_REAL,  /* double */
    LQ_OPTION_BOOL,  /* bool */
    LQ_OPTION_CHOICE /* int: the index of the word in `choices` */
} lq_option_type;
typedef struct lq_option {
    const char *name;
    lq_option_type type;
    size_t offset;          /* offsetof(struct, member) */
    double fallback;        /* for a choice: its index */
    double lowest, highest; /* of a number, inclusive */
    const char *choices;    /* "sgd|adamw" of a choice, else NULL */
    const char *help;       /* one line, with the unit */
} lq_option;

/* Reads object (NULL = all defaults) into *opts. LQ_E_OPTION: unknown key ("did you mean"), wrong type,
 * outside the range, unknown word; the note begins with `where`. */
lq_status lq_options_read(const lq_option *option, size_t n, const lq_json *object,
                          const char *where, void *opts);
/* A named set of defaults: the option "preset" picks one, and what is given explicitly stays. */
typedef struct lq_preset {
    const char *name;     /* a word of the option "preset"; the first one is its default */
    const char *settings; /* "key=value key=value"; "" leaves the defaults of the table */
} lq_preset;
/* *merged: a copy of object (NULL: empty) in which the settings of its preset fill what is missing. Owned
 * by the caller. A word that is no preset changes nothing: lq_options_read refuses it. */
lq_status lq_options_preset(const lq_preset *preset, size_t n, const lq_json *object,
                            lq_json **merged);
/* The resolved values as a new JSON object, in the order of the table. Owned by the caller. */
lq_json *lq_options_write(const lq_option *option, size_t n, const void *opts);
/* Sets `key` of object from the text of a command line ("--set key=value"): a number, true/false or
 * a word, whichever it reads as. LQ_E_OPTION: no '='. */
lq_status lq_option_set_text(lq_json *object, const char *key_value);

#endif
