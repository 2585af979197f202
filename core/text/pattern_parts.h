/* Private to the door of PCRE2. */
#ifndef LQ_TEXT_PATTERN_PARTS_H
#define LQ_TEXT_PATTERN_PARTS_H

#include "core/text/utf8.h"

/* Appends to `out` what PCRE2 must be given for a regular expression written for Oniguruma. LQ_E_FORMAT
 * names the construct that has no counterpart. */
lq_status lq_pattern_translate(const char *regex, const char *where, lq_buffer *out);

/* Is this the name of a script to PCRE2 (\p{sc:NAME})? */
bool lq_pattern_script(const char *name, size_t bytes);

#endif
