/* From the markup of a documentation source to its prose.
 *
 *     char *prose;
 *     size_t n;
 *     LQ_TRY(lq_clean(LQ_MARKUP_RST, text, bytes, arena, &prose, &n));
 *
 * The prose is valid UTF-8 without control characters: one line a heading, paragraph, list item or
 * term, a blank line between two, "\n" at the end; empty when the source holds no prose. Code, tables,
 * comments, directives and inline markup are gone. What counts as prose is judged a passage at a
 * time, by its share of letters, code characters and words. Broken markup is ordinary input: nothing
 * in the text can make this fail but a lack of memory. */
#ifndef LQ_DATA_CLEAN_H
#define LQ_DATA_CLEAN_H

#include "core/base/arena.h"

typedef enum lq_markup {
    LQ_MARKUP_NONE, /* not a source that we read */
    LQ_MARKUP_RST,  /* reStructuredText, and plain text laid out like it */
    LQ_MARKUP_POD,  /* Perl's Plain Old Documentation */
    LQ_MARKUP_MAN,  /* a manual page as pod2man writes it */
    LQ_MARKUP_ABI   /* the tagged records of the kernel's Documentation/ABI */
} lq_markup;

/* The prose of `bytes` of text, NUL-terminated, in the arena. LQ_E_MEMORY. */
lq_status lq_clean(lq_markup markup, const char *text, size_t bytes, lq_arena *arena, char **prose,
                   size_t *n);

#endif
