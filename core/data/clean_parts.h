/* Private to the cleaners: the passage in hand and the prose so far. */
#ifndef LQ_DATA_CLEAN_PARTS_H
#define LQ_DATA_CLEAN_PARTS_H

#include "core/base/status.h"

typedef enum lq_passage {
    LQ_PASSAGE_HEADING, /* also a term or a signature: short, may be one word, need not be a sentence */
    LQ_PASSAGE_PARAGRAPH, /* must look like prose */
    LQ_PASSAGE_LITERAL    /* from a literal block: must look like sentences */
} lq_passage;

/* Both buffers are sized for the whole document by lq_clean and never grow; see ROOM there. */
typedef struct lq_prose {
    char *text; /* what was accepted */
    size_t bytes, room;
    char *passage; /* the passage being gathered, its lines joined by blanks */
    size_t passage_bytes, passage_room;
} lq_prose;

/* A document's lines: text without indent and trailing blanks; the indent in columns (tab = 8). */
typedef struct lq_line {
    const char *text;
    size_t bytes, indent;
} lq_line;

void lq_prose_gather(lq_prose *prose, const char *text,
                     size_t bytes);                     /* a line joins the passage */
void lq_prose_finish(lq_prose *prose, lq_passage kind); /* judge the passage, keep or drop it */

void lq_clean_rst(lq_prose *prose, const lq_line *lines, size_t n);
void lq_clean_pod(lq_prose *prose, const lq_line *lines, size_t n);
void lq_clean_man(lq_prose *prose, const lq_line *lines, size_t n);
void lq_clean_abi(lq_prose *prose, lq_line *lines, size_t n); /* changes the lines */

/* Removes inline markup in place; returns the new length (never longer). */
size_t lq_clean_rst_inline(char *text, size_t bytes);
size_t lq_clean_pod_inline(char *text, size_t bytes);

static inline bool lq_is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static inline bool lq_is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool lq_is_alnum(char c) { return lq_is_letter(c) || lq_is_digit(c); }

#endif
