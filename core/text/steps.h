/* What a normalizer or a pre-tokenizer does to a piece of text, as elementary steps: most write it anew,
 * a split cuts it. The components of tokenizer.json are sequences of these (tokenizer_components.c). */
#ifndef LQ_TEXT_STEPS_H
#define LQ_TEXT_STEPS_H

#include "core/text/pattern.h"
#include "core/text/utf8.h"

typedef enum lq_step_kind {
    LQ_STEP_SPLIT,   /* at the matches of `pattern` */
    LQ_STEP_REPLACE, /* the matches of `pattern` by `content` */
    LQ_STEP_PREPEND, /* `content`, to a piece that is not empty */
    LQ_STEP_NFC,
    LQ_STEP_NFD,
    LQ_STEP_NFKC,
    LQ_STEP_NFKD,
    LQ_STEP_LOWERCASE,
    LQ_STEP_STRIP_ACCENTS,
    LQ_STEP_STRIP,    /* white space, at the `left` and the `right` end */
    LQ_STEP_ALPHABET, /* each byte becomes its character of the byte-level alphabet */
    LQ_STEP_BYTES     /* and back */
} lq_step_kind;

typedef enum lq_behavior { /* what a split does with its matches, as in Hugging Face tokenizers */
                           LQ_SPLIT_ISOLATED, /* a piece each */
                           LQ_SPLIT_REMOVED,
                           LQ_SPLIT_MERGED_WITH_PREVIOUS, /* end the piece before them */
                           LQ_SPLIT_MERGED_WITH_NEXT,     /* begin the piece after them */
                           LQ_SPLIT_CONTIGUOUS            /* neighbours are one piece */
} lq_behavior;

typedef enum lq_when { /* LQ_STEP_PREPEND */
                       LQ_WHEN_ALWAYS,
                       LQ_WHEN_MISSING,      /* the piece does not begin with it */
                       LQ_WHEN_MISSING_FIRST /* and it is where the whole text begins */
} lq_when;

typedef struct lq_step {
    lq_step_kind kind;
    lq_pattern *pattern; /* SPLIT, REPLACE; owned by whoever holds the step */
    lq_behavior behavior;
    bool invert; /* SPLIT: matches are what lies between the matches */
    const char *content;
    size_t content_bytes; /* REPLACE, PREPEND */
    lq_when when;
    bool left, right;
    bool one_character; /* REPLACE: the pattern is one character, so any cut of the text is safe */
} lq_step;

/* The byte-level alphabet of GPT-2: a printable character for each byte. */
uint32_t lq_byte_character(unsigned char byte);
/* Bytes of a string in that alphabet; false when a character is not in it. out: room for n bytes. */
bool lq_byte_string(const char *text, size_t n, char *out, size_t *out_bytes);

/* A rewriting step (not SPLIT, not PREPEND's conditions): appends the new text to `out`. LQ_E_MEMORY. */
lq_status lq_step_rewrite(const lq_step *step, lq_pattern_run *run, const char *text, size_t bytes,
                          lq_buffer *out);

#endif
