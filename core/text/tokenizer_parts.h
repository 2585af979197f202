/* Private to the tokenizer's files. */
#ifndef LQ_TEXT_TOKENIZER_PARTS_H
#define LQ_TEXT_TOKENIZER_PARTS_H

#include "core/base/sha256.h"
#include "core/text/bpe.h"
#include "core/text/pieces.h"
#include "core/text/tokenizer.h"

struct lq_tokenizer {
    lq_arena arena; /* holds all below but the patterns */
    lq_bpe bpe;
    lq_pieces pieces;
    uint32_t end_of_text;
    const char *json; /* the file, byte for byte */
    size_t json_bytes;
    lq_digest digest; /* of json */
};

#define LQ_END_OF_TEXT "<|endoftext|>"

/* A tokenizer from the text of its file; `where` names it in notes. */
lq_status lq_tokenizer_parse(const char *json, size_t bytes, const char *where, lq_tokenizer **out);

/* The tokenizer.json of a trained vocabulary (id 0 is LQ_END_OF_TEXT), NUL-terminated, in the arena. */
lq_status lq_tokenizer_compose(const lq_bpe *bpe, const uint64_t *merges, size_t n_merges,
                               lq_arena *arena, char **json, size_t *bytes);

/* The byte-level alphabet of GPT-2: a printable character for each byte. */
uint32_t lq_byte_character(unsigned char byte);
/* Bytes of a string in that alphabet; false when a character is not in it. out: room for n bytes. */
bool lq_byte_string(const char *text, size_t n, char *out, size_t *out_bytes);

#endif
