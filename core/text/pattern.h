/* Regular expressions of pre-tokenizers: the only door to PCRE2.
 *
 * tokenizer.json files are written for Oniguruma (Ruby syntax); pattern_translate.c says what is read
 * differently, and refuses by name what has no counterpart.
 *
 *     lq_pattern *p;
 *     lq_pattern_run *run;                        // a thread has its own
 *     LQ_TRY(lq_pattern_open("\\p{N}", "tokenizer.json", &p));
 *     LQ_TRY(lq_pattern_run_open(&run));
 *     lq_match m = {0};
 *     for (;;) {
 *         LQ_TRY(lq_pattern_next(p, run, text, n, false, &m));
 *         if (m.kind != LQ_MATCH_FOUND) break;    // text[m.start, m.end) matches
 *     } */
#ifndef LQ_TEXT_PATTERN_H
#define LQ_TEXT_PATTERN_H

#include "core/base/status.h"

typedef struct lq_pattern lq_pattern;
typedef struct lq_pattern_run lq_pattern_run;

/* LQ_E_FORMAT: no regular expression, or one that we do not read as Oniguruma does. Owned. */
lq_status lq_pattern_open(const char *regex, const char *where, lq_pattern **out);
/* Matches just this text. */
lq_status lq_pattern_open_literal(const char *text, size_t bytes, const char *where,
                                  lq_pattern **out);
void lq_pattern_close(lq_pattern *pattern);              /* NULL is fine */
bool lq_pattern_looks_behind(const lq_pattern *pattern); /* at what is before a match */
lq_status lq_pattern_run_open(lq_pattern_run **out);
void lq_pattern_run_close(lq_pattern_run *run); /* NULL is fine */

typedef enum lq_match_kind {
    LQ_MATCH_FOUND,
    LQ_MATCH_NONE, /* to the end of the text */
    LQ_MATCH_OPEN  /* what follows the text decides */
} lq_match_kind;
typedef struct lq_match { /* {0}: at the start of a text */
    lq_match_kind kind;
    size_t start, end;
    size_t from; /* where the search goes on */
    bool later;  /* there was a match before */
} lq_match;

/* The next match, perhaps an empty one, as the iterator of Rust's `onig` has them: an empty match right
 * after a match is none. The text must be valid UTF-8. `more`: it goes on after `bytes`, unseen; then
 * what is found is what would be found in the whole, or LQ_MATCH_OPEN. LQ_E_MEMORY: the expression
 * needs too much. */
lq_status lq_pattern_next(const lq_pattern *pattern, lq_pattern_run *run, const char *text,
                          size_t bytes, bool more, lq_match *match);

#endif
