/* The kernel's ABI files: tagged records (Documentation/ABI/README) of which only the description is
 * prose. The other tags' lines are blanked in place; the rest reads as reStructuredText. */
#include "core/data/clean_parts.h"

#include <string.h>

/* Bytes of a known tag at the start of the line, its colon included; 0: none. */
static size_t tag(const lq_line *line, bool *is_description)
{
    static const char *const tags[] = {
        "Description:",   "What:",    "Where:",    "Date:",  "KernelVersion:", "Kernel Version:",
        "Kernelversion:", "Contact:", "Contacts:", "Users:", "Author:"};
    for (size_t i = 0; line->indent == 0 && i < sizeof tags / sizeof *tags; i++) {
        size_t n = strlen(tags[i]);
        if (line->bytes >= n && memcmp(line->text, tags[i], n) == 0) {
            *is_description = i == 0;
            return n;
        }
    }
    return 0;
}

void lq_clean_abi(lq_prose *prose, lq_line *lines, size_t n)
{
    bool keep = true, description;
    for (size_t i = 0; i < n; i++) {
        lq_line *line = &lines[i];
        size_t skip = tag(line, &description);
        if (skip > 0) {
            keep = description;
            while (skip < line->bytes && (line->text[skip] == ' ' || line->text[skip] == '\t'))
                skip++;
            line->text += skip;
            line->bytes -= skip;
            line->indent = skip;
        } else if (line->indent == 0 && line->bytes > 0) {
            keep = true;
        }
        if (!keep)
            line->bytes = 0;
    }
    lq_clean_rst(prose, lines, n);
}
