/* Tokens to text: the decoders of tokenizer.json, one after the other, each of which makes of a list of
 * strings another. Private to core/text. */
#ifndef LQ_TEXT_DECODE_H
#define LQ_TEXT_DECODE_H

#include "core/text/steps.h"

typedef enum lq_decode_kind {
    LQ_DECODE_BYTE_LEVEL, /* strings of the byte-level alphabet become their bytes; all one string */
    LQ_DECODE_REPLACE_ALL, /* the matches of `pattern` by `content`, in each string */
    LQ_DECODE_BYTES,       /* "<0x0A>" becomes its byte */
    LQ_DECODE_FUSE,        /* all become one string */
    LQ_DECODE_STRIP,       /* up to `start` and `stop` times `content` from the ends of each */
    LQ_DECODE_METASPACE, /* `content` becomes a space; in the first string, nothing, when `start` */
    LQ_DECODE_JOIN       /* with a space between: what no decoder means */
} lq_decode_kind;

typedef struct lq_decode_op {
    lq_decode_kind kind;
    lq_pattern *pattern; /* owned by whoever holds the op */
    const char *content;
    size_t content_bytes, start, stop;
} lq_decode_op;

enum { LQ_DECODE_OPS = 8 };
typedef struct lq_decoder {
    lq_decode_op op[LQ_DECODE_OPS];
    size_t n;
} lq_decoder;

typedef struct lq_strings { /* {0} is empty */
    lq_buffer text;         /* one after the other */
    size_t *end;            /* (n) where each ends */
    size_t n, room;
} lq_strings;
lq_status lq_strings_add(lq_strings *strings, const char *text, size_t bytes); /* LQ_E_MEMORY */
void lq_strings_free(lq_strings *strings);

/* Runs the decoders over the list, which becomes the result. `replace`: bytes that make no character
 * become U+FFFD, one each where they come from byte tokens. LQ_E_MEMORY. */
lq_status lq_decoder_run(const lq_decoder *decoder, bool replace, lq_strings *strings);

#endif
