/* Private to the tokenizer's files. */
#ifndef LQ_TEXT_TOKENIZER_PARTS_H
#define LQ_TEXT_TOKENIZER_PARTS_H

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/text/bpe.h"
#include "core/text/decode.h"
#include "core/text/pieces.h"
#include "core/text/tokenizer.h"

enum { LQ_TEMPLATE_IDS = 16 };
typedef struct lq_template { /* ids around a text; the post-processor */
    uint32_t before[LQ_TEMPLATE_IDS], after[LQ_TEMPLATE_IDS];
    size_t n_before, n_after;
} lq_template;

struct lq_tokenizer {
    lq_arena arena; /* holds all below but the patterns */
    lq_bpe bpe;
    /* Byte-level: a token's text is its bytes, the letters of the file being the byte-level alphabet.
     * Otherwise it is the file's. */
    bool byte_level;
    lq_added *added;
    size_t n_added;
    const lq_added **added_of; /* (bpe.n) by id; NULL: no added token */
    lq_pieces pieces;
    lq_decoder decoder;
    lq_template around;
    uint32_t end_of_text;
    const char *json; /* the file, byte for byte; NULL: it was not read from a tokenizer.json */
    size_t json_bytes;
    lq_digest digest; /* of json, or of what the files say */
};

#define LQ_END_OF_TEXT "<|endoftext|>"

/* lq_tokenizer_parse from a document, without its digest. Merges, "a b" each, stand in for those of the model
 * when there are any. */
lq_status lq_tokenizer_from_json(const lq_json *root, const lq_bytes *merge, size_t n_merges,
                                 const char *where, lq_tokenizer **out);

/* Everything of a tokenizer.json around the model: normalizer, pre-tokenizer, post-processor, decoder,
 * byte_level. LQ_E_FORMAT names a component that is not known. */
lq_status lq_components_read(lq_tokenizer *tok, const lq_json *root, const char *where);

/* Indexes tok->added for the search and for decoding; call it once the components are read and all
 * tokens are set. Finds the end-of-text token among them when none is set. LQ_E_MEMORY. */
lq_status lq_tokenizer_index_added(lq_tokenizer *tok);

/* A copy of the text, with a NUL, that lives as long as the tokenizer. */
lq_status lq_tokenizer_keep(lq_tokenizer *tok, const char *text, size_t bytes, const char **out);

/* The two halves of "a b" in n bytes; false when it is not two, with one space between. */
bool lq_merge_halves(const char *text, size_t n, lq_bytes *left, lq_bytes *right);
/* Merge `rank`, its halves as the file has them. LQ_E_FORMAT: one of the three tokens is not there. */
lq_status lq_tokenizer_set_merge(lq_tokenizer *tok, lq_bytes left, lq_bytes right, size_t rank,
                                 const char *where);

/* A known family of tokenizers: what its tokenizer.json says around the model. */
typedef struct lq_family {
    const char *names;      /* llama.cpp's, each between blanks */
    const char *components; /* JSON */
    bool ignore_merges;
} lq_family;
const lq_family *lq_family_find(const char *name); /* NULL: not known */

/* Other files than tokenizer.json. `data` may hold anything; `config` is the tokenizer_config.json beside
 * it, or NULL. */
lq_status lq_spm_read(const char *data, size_t bytes, const char *where, const lq_json *config,
                      lq_tokenizer **out);
lq_status lq_llama2c_read(const char *data, size_t bytes, const char *where, lq_tokenizer **out);
lq_status lq_tiktoken_read(const char *data, size_t bytes, const char *where, lq_tokenizer **out);
bool lq_tiktoken_is_one(const char *data, size_t bytes);
/* vocab.json and merges.txt. */
lq_status lq_vocab_read(const char *vocab_path, const char *merges_path, const lq_json *config,
                        lq_tokenizer **out);
/* The i-th of the 256 special tokens of Llama 3, from 128000 on; text: room for 40 bytes. */
void lq_llama3_special(unsigned i, char text[40]);

/* The tokenizer.json of a trained vocabulary (id 0 is LQ_END_OF_TEXT), NUL-terminated, in the arena. */
lq_status lq_tokenizer_compose(const lq_bpe *bpe, const uint64_t *merges, size_t n_merges,
                               lq_arena *arena, char **json, size_t *bytes);

/* Tests: parts of a text are worked on when this many bytes are new. */
void lq_encoder_set_chunk(lq_encoder *encoder, size_t bytes);

#endif
