/* UTF-8, a character at a time (Unicode 15, table 3-7: overlong forms, surrogates and values above
 * U+10FFFF are none), and a buffer of bytes that grows. */
#ifndef LQ_TEXT_UTF8_H
#define LQ_TEXT_UTF8_H

#include "core/base/status.h"

#include <stdint.h>

/* Bytes of the character at text[0, n), n > 0, and its code point; 0: there is none. */
size_t lq_utf8_next(const char *text, size_t n, uint32_t *code);
/* As above, for text that is known to be valid. */
size_t lq_utf8_length(const char *text);
/* Where the last character of valid text[0, n) begins, n > 0. */
size_t lq_utf8_last(const char *text, size_t n);
/* Bytes of valid UTF-8 at the start of the text. */
size_t lq_utf8_prefix(const char *text, size_t n);
/* Could text[0, n), which is no whole character, be the start of one? */
bool lq_utf8_begun(const char *text, size_t n);
size_t lq_utf8_put(uint32_t code, char out[4]);
/* Unicode White_Space: the \s of Oniguruma, and is_whitespace of Rust. */
bool lq_utf8_space(uint32_t code);

typedef struct lq_buffer { /* {0} is empty; lq_buffer_free */
    char *data;
    size_t n, room;
} lq_buffer;
lq_status lq_buffer_reserve(lq_buffer *buffer, size_t more); /* LQ_E_MEMORY */
lq_status lq_buffer_add(lq_buffer *buffer, const char *text, size_t bytes);
void lq_buffer_free(lq_buffer *buffer);
/* Appends the text with U+FFFD for each maximal part of it that is no UTF-8 (Rust's lossy reading). */
lq_status lq_utf8_replace(const char *text, size_t bytes, lq_buffer *out);

#endif
