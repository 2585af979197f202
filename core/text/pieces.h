/* Text to pre-tokens: added tokens are cut out first (leftmost, then longest), then each valid stretch
 * of UTF-8 passes through the patterns one after the other, each of which isolates its matches. A
 * stretch of bytes that is no UTF-8 is a piece of its own, so that any bytes survive.
 *
 * The pieces of a text, in order, make up the text. */
#ifndef LQ_TEXT_PIECES_H
#define LQ_TEXT_PIECES_H

#include "core/text/pattern.h"

#include <stdint.h>

#define LQ_NO_ID UINT32_MAX
enum { LQ_PIECE_STEPS = 8 };

/* GPT-2's pattern, from openai/gpt-2 src/encoder.py. */
#define LQ_PIECES_GPT2 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

typedef struct lq_added { /* a token that is found in the text as it stands */
    const char *text;     /* borrowed */
    size_t bytes;
    uint32_t id;
} lq_added;

typedef struct lq_pieces {
    lq_pattern *step[LQ_PIECE_STEPS]; /* owned by whoever fills them in */
    size_t n_steps;
    lq_added *added; /* after lq_pieces_index: by first byte, longest first */
    size_t n_added;
    size_t first[257]; /* added[first[c] .. first[c + 1]) begin with byte c */
    int only_first;    /* the one first byte of all added tokens, or -1 */
} lq_pieces;

/* Orders the added tokens for the search; call it once they are all there. */
void lq_pieces_index(lq_pieces *pieces);

/* Calls on_piece for each piece text[from, from + bytes): `added` is the id of an added token, or
 * LQ_NO_ID for a pre-token. A failure of on_piece ends the split and is passed on. LQ_E_MEMORY. */
typedef lq_status (*lq_on_piece)(void *self, size_t from, size_t bytes, uint32_t added);
lq_status lq_pieces_split(const lq_pieces *pieces, const char *text, size_t bytes,
                          lq_on_piece on_piece, void *self);

#endif
