/* Text to pre-tokens: added tokens are cut out first; what lies between them is normalized, searched for
 * the added tokens that are looked for in normalized text, and passed through the steps of the
 * pre-tokenizer. A stretch of bytes that is no UTF-8 is a piece of its own, so that any bytes survive.
 *
 * A text may come in parts: the pieces are those of the whole text. */
#ifndef LQ_TEXT_PIECES_H
#define LQ_TEXT_PIECES_H

#include "core/text/added.h"
#include "core/text/steps.h"

enum { LQ_PIECE_STEPS = 24 };

/* GPT-2's pattern, from openai/gpt-2 src/encoder.py. */
#define LQ_PIECES_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef struct lq_pieces {
    lq_step step[LQ_PIECE_STEPS]; /* the patterns are owned by whoever fills them in */
    size_t n_steps, n_normal;     /* step[0, n_normal) is the normalizer */
    lq_added_set raw, normalized; /* indexed */
    /* Bytes at the start of a piece after which it may be cut without a change of its tokens; 0: none.
     * NULL: no piece may be cut. Only asked where the steps do not split. */
    size_t (*cut)(const void *model, const char *text, size_t bytes);
    const void *model;
} lq_pieces;

/* A piece: of an added token, or, when that is NULL, a pre-token. The text is valid during the call. */
typedef lq_status (*lq_on_piece)(void *self, const char *text, size_t bytes, const lq_added *added);

typedef struct lq_splitter lq_splitter;
/* `plain`: special tokens in the text are text. `pieces` is borrowed. Owned. LQ_E_MEMORY. */
lq_status lq_splitter_open(const lq_pieces *pieces, bool plain, lq_on_piece on_piece, void *self,
                           lq_splitter **out);
void lq_splitter_close(lq_splitter *splitter); /* NULL is fine */

/* What must stand before the text that follows: its first `done` bytes went through the first steps. */
typedef struct lq_rest {
    const char *text; /* borrowed until the next call */
    size_t bytes, from;
} lq_rest;
/* Calls on_piece for each piece of the text that no text to come can change; all of them when it is the
 * `last`. What is left goes before the text that follows: rest->text, of which lq_splitter_feed must be
 * told the size as `done`, then text[rest->from, bytes). A failure of on_piece ends it and is passed on.
 * LQ_E_MEMORY. */
lq_status lq_splitter_feed(lq_splitter *splitter, const char *text, size_t bytes, size_t done,
                           bool last, lq_rest *rest);
/* Appends what the normalizer makes of a whole text of valid UTF-8. LQ_E_MEMORY. */
lq_status lq_pieces_normalize(const lq_pieces *pieces, const char *text, size_t bytes,
                              lq_buffer *out);

#endif
