/* Texts that come as documents: the forms in which data sets are published.
 *
 *     static lq_status on_document(void *self, const char *text, size_t bytes) { ... }
 *     LQ_TRY(lq_documents_each("c4.json.gz", LQ_FORM_JSONL, 1100, self, on_document)); */
#ifndef LQ_DATA_DOCUMENTS_H
#define LQ_DATA_DOCUMENTS_H

#include "core/base/arena.h"

/* X(name, word of the catalog, what it is) */
#define LQ_FORMS(X)                                                                                \
    X(LQ_FORM_TEXT, "text", "the file is one document")                                            \
    X(LQ_FORM_WIKITEXT, "wikitext", "one document: the rows of WikiText, joined as all join them") \
    X(LQ_FORM_JSONL, "jsonl",                                                                      \
      "a JSON object a line, the document under \"text\"; may be compressed")                      \
    X(LQ_FORM_SEPARATED, "separated", "documents between lines <|endoftext|>; may be compressed")
typedef enum lq_form {
#define X(name, word, what) name,
    LQ_FORMS(X)
#undef X
        LQ_FORM_COUNT
} lq_form;
/* LQ_FORM_COUNT: no such word. */
lq_form lq_form_of(const char *word);
const char *lq_form_word(lq_form form);

/* Visits the documents of a file in order, `most` at most (0: all). LQ_E_MISSING, LQ_E_IO; LQ_E_FORMAT:
 * the line and what is wrong with it; what on_document fails with. */
lq_status lq_documents_each(const char *path, lq_form form, size_t most, void *self,
                            lq_status (*on_document)(void *self, const char *text, size_t bytes));

/* The text that quantization papers tokenize, from a raw file of WikiText: a row a line, its line feed
 * kept; a line of nothing but white space is an empty row; rows are joined with two line feeds. Nothing is
 * stripped otherwise. *out in the arena, NUL after it. Source: the loader script of the data set, and
 * "\n\n".join(data["text"]) of GPTQ's datautils.py. */
lq_status lq_wikitext_join(const char *raw, size_t bytes, lq_arena *arena, char **out, size_t *n);

#endif
