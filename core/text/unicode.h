/* Unicode normalization and character classes: the only door to libutf8proc. Text is valid UTF-8. */
#ifndef LQ_TEXT_UNICODE_H
#define LQ_TEXT_UNICODE_H

#include "core/text/utf8.h"

typedef enum lq_form { LQ_NFC, LQ_NFD, LQ_NFKC, LQ_NFKD } lq_form;

/* Appends the normal form of the text. Cut before an ASCII character, a text may be normalized in parts:
 * no ASCII character joins what is before it. LQ_E_MEMORY. */
lq_status lq_unicode_normalize(lq_form form, const char *text, size_t bytes, lq_buffer *out);
/* Appends the text in lower case, character by character, as Rust's char::to_lowercase. */
lq_status lq_unicode_lower(const char *text, size_t bytes, lq_buffer *out);
/* The character in title case, where that is one character; else itself. */
uint32_t lq_unicode_title(uint32_t code);
/* Appends the text without its marks (M). */
lq_status lq_unicode_strip_accents(const char *text, size_t bytes, lq_buffer *out);
/* The \w of Rust's `regex`: Alphabetic, M, Nd, Pc, Join_Control. */
bool lq_unicode_is_word(uint32_t code);

#endif
