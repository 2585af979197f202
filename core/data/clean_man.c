/* Manual pages as pod2man writes them to prose: a fixed, small part of the language of man(7). The
 * escapes are those of Pod::Man's preamble. */
#include "core/data/clean_parts.h"

#include <string.h>

static bool is_request(const lq_line *line, const char *name, const char **rest, size_t *n)
{
    size_t length = strlen(name);
    if (line->bytes < length || line->indent > 0 || memcmp(line->text, name, length) != 0 ||
        (line->bytes > length && line->text[length] != ' '))
        return false;
    while (length < line->bytes && line->text[length] == ' ')
        length++;
    *rest = line->text + length;
    *n = line->bytes - length;
    return true;
}

/* What an escape at s (after its backslash) prints, and how many bytes it takes. */
static size_t escape(const char *s, size_t n, const char **out)
{
    static const struct {
        const char *escape, *text;
    } known[] = {{"(em", "\xE2\x80\x94"},
                 {"(en", "\xE2\x80\x93"},
                 {"(bu", "-"},
                 {"(co", "\xC2\xA9"},
                 {"*(--", "--"},
                 {"*(L\"", "\""},
                 {"*(R\"", "\""},
                 {"*(C`", ""},
                 {"*(C'", ""},
                 {"*(Aq", "'"},
                 {"*(PI", "pi"},
                 {"(aq", "'"},
                 {"-", "-"},
                 {"e", "\\"},
                 {"'", "'"},
                 {"`", "`"},
                 {" ", " "},
                 {"&", ""},
                 {"|", ""},
                 {"^", ""},
                 {"s-1", ""},
                 {"s0", ""},
                 {"s+1", ""},
                 {"s-2", ""}};
    *out = "";
    if (n == 0)
        return 0;
    if (s[0] == 'f' && n >= 4 && s[1] == '(')
        return 4; /* a font: \f(CW */
    if (s[0] == 'f')
        return n < 2 ? n : 2;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t length = strlen(known[i].escape);
        if (length <= n && memcmp(s, known[i].escape, length) == 0) {
            *out = known[i].text;
            return length;
        }
    }
    return s[0] == '(' ? (n < 3 ? n : 3) : s[0] == '*' ? (n < 4 ? n : 4) : 1;
}

static void gather(lq_prose *prose, const char *text, size_t n)
{
    LQ_ASSERT(prose->passage_bytes + n + 1 <= prose->passage_room);
    if (prose->passage_bytes > 0 && n > 0)
        prose->passage[prose->passage_bytes++] = ' ';
    for (size_t i = 0; i < n;) {
        if (text[i] != '\\') {
            prose->passage[prose->passage_bytes++] = text[i++];
            continue;
        }
        const char *printed;
        i += 1 + escape(text + i + 1, n - i - 1, &printed);
        for (; *printed; printed++)
            prose->passage[prose->passage_bytes++] = *printed;
    }
}

/* The first argument of a request: in quotes, a doubled quote being one, or up to a blank. */
static void gather_argument(lq_prose *prose, const char *text, size_t n)
{
    size_t from = n > 0 && text[0] == '"', to = from;
    while (to < n &&
           (from ? text[to] != '"' || (to + 1 < n && text[to + 1] == '"') : text[to] != ' '))
        to += from && text[to] == '"' ? 2 : 1;
    if (to > n)
        to = n;
    size_t start = prose->passage_bytes;
    gather(prose, text + from, to - from);
    size_t kept = start; /* "" -> " */
    for (size_t i = start; i < prose->passage_bytes; i++) {
        prose->passage[kept++] = prose->passage[i];
        i += from && prose->passage[i] == '"' && i + 1 < prose->passage_bytes &&
             prose->passage[i + 1] == '"';
    }
    prose->passage_bytes = kept;
}

/* ".IP term indent": a bullet or a number opens the next paragraph, the rest are headings. */
static void item(lq_prose *prose, const char *text, size_t n)
{
    gather_argument(prose, text, n);
    char *term = prose->passage;
    if (prose->passage_bytes > 2 && term[0] == '"' && term[prose->passage_bytes - 1] == '"') {
        prose->passage_bytes -= 2; /* C<name> as terminals show it */
        memmove(term, term + 1, prose->passage_bytes);
    }
    size_t i = 0;
    while (i < prose->passage_bytes && (lq_is_digit(prose->passage[i]) || prose->passage[i] == '.'))
        i++;
    bool marker =
        i == prose->passage_bytes || (prose->passage_bytes == 1 && strchr("-*", prose->passage[0]));
    if (prose->passage_bytes == 1 && prose->passage[0] == '*')
        prose->passage[0] = '-';
    if (!marker)
        lq_prose_finish(prose, LQ_PASSAGE_HEADING);
}

static size_t request(lq_prose *prose, const lq_line *lines, size_t n, size_t i)
{
    const char *rest;
    size_t bytes;
    const lq_line *line = &lines[i];
    lq_line taken = *line;
    if (is_request(line, ".ie", &rest, &bytes) && bytes > 2 && memcmp(rest, "n ", 2) == 0) {
        taken = (lq_line){.text = rest + 2, .bytes = bytes - 2}; /* the branch of terminals */
        line = &taken;
    }
    if (is_request(line, ".IX", &rest, &bytes) || is_request(line, ".el", &rest, &bytes) ||
        is_request(line, ".PD", &rest, &bytes))
        return i + 1; /* no break */
    lq_prose_finish(prose, LQ_PASSAGE_PARAGRAPH);
    if (is_request(line, ".SH", &rest, &bytes) || is_request(line, ".SS", &rest, &bytes)) {
        gather_argument(prose, rest, bytes);
        lq_prose_finish(prose, LQ_PASSAGE_HEADING);
    } else if (is_request(line, ".IP", &rest, &bytes)) {
        item(prose, rest, bytes);
    } else if (is_request(line, ".Vb", &rest, &bytes)) {
        for (; i < n && !is_request(&lines[i], ".Ve", &rest, &bytes); i++)
            if (!is_request(&lines[i], ".Vb", &rest, &bytes))
                gather(prose, lines[i].text, lines[i].bytes);
        lq_prose_finish(prose, LQ_PASSAGE_LITERAL);
    }
    return i + 1;
}

void lq_clean_man(lq_prose *prose, const lq_line *lines, size_t n)
{
    const char *rest;
    size_t bytes, i = 0;
    while (i < n && !is_request(&lines[i], ".SH", &rest, &bytes))
        i++; /* the preamble */
    while (i < n) {
        const lq_line *line = &lines[i];
        if (line->bytes > 0 && line->indent == 0 &&
            (line->text[0] == '.' || line->text[0] == '\'')) {
            i = request(prose, lines, n, i);
        } else {
            if (line->bytes == 0)
                lq_prose_finish(prose, LQ_PASSAGE_PARAGRAPH);
            else
                gather(prose, line->text, line->bytes);
            i++;
        }
    }
    lq_prose_finish(prose, LQ_PASSAGE_PARAGRAPH);
}
