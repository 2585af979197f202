/* Regular expressions of pre-tokenizers: the only door to PCRE2.
 *
 * tokenizer.json files are written for Oniguruma (Ruby syntax). What the known files use means the same
 * to both engines, but for three things handled here: \s is spelt out as Unicode White_Space (PCRE2
 * adds U+180E), ^ and $ are those of lines, and constructs that the engines read differently are
 * refused by name.
 *
 *     lq_pattern *p;
 *     lq_pattern_run *run;                        // a thread has its own
 *     LQ_TRY(lq_pattern_open("\\p{N}", "tokenizer.json", &p));
 *     LQ_TRY(lq_pattern_run_open(&run));
 *     for (size_t at = 0, end; ; at = end) {
 *         LQ_TRY(lq_pattern_next(p, run, text, n, at, &start, &end));
 *         if (start == n) break; ... } */
#ifndef LQ_TEXT_PATTERN_H
#define LQ_TEXT_PATTERN_H

#include "core/base/status.h"

typedef struct lq_pattern lq_pattern;
typedef struct lq_pattern_run lq_pattern_run;

/* LQ_E_FORMAT: no regular expression, or one that we do not read as Oniguruma does. Owned. */
lq_status lq_pattern_open(const char *regex, const char *where, lq_pattern **out);
void lq_pattern_close(lq_pattern *pattern); /* NULL is fine */
lq_status lq_pattern_run_open(lq_pattern_run **out);
void lq_pattern_run_close(lq_pattern_run *run); /* NULL is fine */

/* The first match in text[from, bytes) that is not empty: [*start, *end), or *start = *end = bytes.
 * The text must be valid UTF-8 and `from` a boundary. LQ_E_MEMORY: the expression needs too much. */
lq_status lq_pattern_next(const lq_pattern *pattern, lq_pattern_run *run, const char *text,
                          size_t bytes, size_t from, size_t *start, size_t *end);

#endif
