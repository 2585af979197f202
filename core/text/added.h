/* Tokens that are found in a text before it is cut into pre-tokens: leftmost, then longest, as the
 * Aho-Corasick automaton of Hugging Face tokenizers finds them. */
#ifndef LQ_TEXT_ADDED_H
#define LQ_TEXT_ADDED_H

#include "core/base/arena.h"
#include "core/text/utf8.h"

typedef struct lq_added {
    const char *text; /* borrowed */
    size_t bytes;
    const char *shown; /* borrowed; what it decodes to: the text, normalized if it is */
    size_t shown_bytes;
    uint32_t id;
    bool special;
    bool normalized;     /* looked for in the normalized text, itself normalized */
    bool verbatim;       /* of those: looked for as it is spelled */
    bool single_word;    /* only between characters that are no word's */
    bool lstrip, rstrip; /* takes the white space before it, after it */
} lq_added;

typedef struct lq_added_entry {
    const char *text; /* what is looked for */
    size_t bytes;
    const lq_added *token;
} lq_added_entry;
typedef struct lq_added_set {
    lq_added_entry *entry; /* (n) by first byte, longest first */
    size_t n;
    uint32_t *slot; /* hash table of entries; open addressing */
    size_t slot_mask;
    size_t *length; /* the different lengths of each first byte: length[first[c] .. first[c + 1]) */
    size_t first[257];
    int only_first; /* the one first byte of all, or -1 */
    size_t longest;
    bool strips_left, looks_back; /* some token does: lstrip, single_word */
} lq_added_set;

/* Indexes entry[0, n), in the arena; of two with the same text one is found. LQ_E_MEMORY. */
lq_status lq_added_index(lq_added_set *set, lq_arena *arena);

typedef struct lq_added_match {
    const lq_added *token; /* NULL: none, and no match touches text[.., end) */
    size_t start, end;
} lq_added_match;
/* The first match that begins in text[from, bytes); what it strips begins at `least` or later. `more`:
 * the text goes on, and what depends on it is not told. `plain`: special tokens are not looked for. */
void lq_added_find(const lq_added_set *set, const char *text, size_t bytes, size_t from,
                   size_t least, bool more, bool plain, lq_added_match *match);

#endif
