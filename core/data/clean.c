#include "core/data/clean.h"

#include "core/data/clean_parts.h"

#include <string.h>

/* Prose never outgrows its source by more than this: a one-letter list item "*a\n" of three bytes
 * becomes "- a\n\n" of five, and "=item 1" loses more than it gains. */
#define ROOM(bytes) (2 * (bytes) + 64)

/* Bytes of the UTF-8 character at s, 0 when it is none: over-long forms, surrogates and everything
 * above U+10FFFF are refused (Unicode 15, table 3-7). */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || length > n)
        return 0;
    unsigned lowest = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    unsigned highest = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < lowest || s[1] > highest)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

/* Copies what is valid UTF-8 and no control character; CR goes, form feeds end a line. Byte order
 * marks, soft hyphens and zero-width characters go; a no-break space becomes a blank. */
static size_t normalize(const char *text, size_t bytes, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        const unsigned char *s = (const unsigned char *)text + i;
        size_t length = utf8_length(s, bytes - i);
        i += length ? length : 1;
        if (length == 1 && (s[0] >= 0x20 || s[0] == '\n' || s[0] == '\t') && s[0] != 0x7F)
            out[n++] = (char)s[0];
        else if (length == 1 && s[0] == '\f')
            out[n++] = '\n';
        else if (length == 2 && s[0] == 0xC2 && s[1] == 0xA0)
            out[n++] = ' ';
        else if (length < 2 || (length == 2 && s[0] == 0xC2 && (s[1] < 0xA0 || s[1] == 0xAD)) ||
                 (length == 3 && s[0] == 0xE2 && s[1] == 0x80 && s[2] >= 0x8B && s[2] <= 0x8F) ||
                 (length == 3 && s[0] == 0xEF && s[1] == 0xBB && s[2] == 0xBF))
            continue;
        else
            for (size_t k = 0; k < length; k++)
                out[n++] = (char)s[k];
    }
    return n;
}

static size_t split_lines(const char *text, size_t bytes, lq_line *lines)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; n++) {
        const char *end = memchr(text + i, '\n', bytes - i);
        size_t stop = end ? (size_t)(end - text) : bytes;
        lq_line line = {.indent = 0};
        size_t s = i, e = stop;
        for (; s < e && (text[s] == ' ' || text[s] == '\t'); s++)
            line.indent += text[s] == '\t' ? 8 - line.indent % 8 : 1;
        while (e > s && (text[e - 1] == ' ' || text[e - 1] == '\t'))
            e--;
        line.text = text + s;
        line.bytes = e - s;
        lines[n] = line;
        i = stop + 1;
    }
    return n;
}

lq_status lq_clean(lq_markup markup, const char *text, size_t bytes, lq_arena *arena, char **prose,
                   size_t *n)
{
    if (bytes > (size_t)1 << 40)
        return lq_fail(LQ_E_MEMORY, "a document of %zu bytes is too long to clean", bytes);
    lq_prose out = {.room = ROOM(bytes), .passage_room = ROOM(bytes)};
    size_t n_lines = 1;
    for (const char *p = text; (p = memchr(p, '\n', bytes - (size_t)(p - text))) != NULL; p++)
        n_lines++;
    for (const char *p = text; (p = memchr(p, '\f', bytes - (size_t)(p - text))) != NULL; p++)
        n_lines++;
    LQ_TRY(lq_arena_new(arena, &out.text, out.room + 1));
    lq_mark mark = lq_arena_mark(arena);
    char *plain;
    lq_line *lines;
    LQ_TRY(lq_arena_new(arena, &out.passage, out.passage_room));
    LQ_TRY(lq_arena_new(arena, &plain, bytes + 1));
    LQ_TRY(lq_arena_new(arena, &lines, n_lines));
    n_lines = split_lines(plain, normalize(text, bytes, plain), lines);
    switch (markup) {
    case LQ_MARKUP_NONE:
        break;
    case LQ_MARKUP_RST:
        lq_clean_rst(&out, lines, n_lines);
        break;
    case LQ_MARKUP_POD:
        lq_clean_pod(&out, lines, n_lines);
        break;
    case LQ_MARKUP_MAN:
        lq_clean_man(&out, lines, n_lines);
        break;
    case LQ_MARKUP_ABI:
        lq_clean_abi(&out, lines, n_lines);
        break;
    }
    lq_arena_release(arena, mark);
    if (out.bytes > 0)
        out.bytes--; /* passages end in a blank line, the document in one line feed */
    out.text[out.bytes] = '\0';
    *prose = out.text;
    *n = out.bytes;
    return LQ_OK;
}

void lq_prose_gather(lq_prose *prose, const char *text, size_t bytes)
{
    LQ_ASSERT(prose->passage_bytes + bytes + 1 <= prose->passage_room);
    if (prose->passage_bytes > 0 && bytes > 0)
        prose->passage[prose->passage_bytes++] = ' ';
    memcpy(prose->passage + prose->passage_bytes, text, bytes);
    prose->passage_bytes += bytes;
}

static size_t collapse_blanks(char *text, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i] == '\t' || text[i] == '\n' ? ' ' : text[i];
        if (c != ' ' || (n > 0 && text[n - 1] != ' '))
            text[n++] = c;
    }
    while (n > 0 && text[n - 1] == ' ')
        n--;
    return n;
}

typedef struct counts { /* of a passage */
    size_t letters, others, code, words, lower_words;
    bool ruled; /* five equal marks in a row: a rule, a table, a drawing */
} counts;

/* A word is a run of two or more letters between blanks, punctuation of a sentence allowed at its
 * ends; code characters are those that English prose hardly uses. */
static counts count(const char *text, size_t bytes)
{
    counts c = {0};
    bool plain = true;
    size_t letters = 0, run = 0;
    for (size_t i = 0; i <= bytes; i++) {
        char ch = i < bytes ? text[i] : ' ';
        if (ch == ' ') {
            c.words += plain && letters >= 2;
            c.lower_words += plain && letters >= 2 && text[i - 1] >= 'a' && text[i - 1] <= 'z';
            plain = true;
            letters = 0;
        } else if (lq_is_letter(ch) || (unsigned char)ch >= 0x80) {
            c.letters++;
            letters++;
        } else {
            c.others++;
            run = text[i - (i > 0)] == ch ? run + 1 : 1;
            c.ruled = c.ruled || (run >= 5 && !lq_is_digit(ch));
            c.code += strchr("{}[]=;<>_|&$#\\@^~*%+/", ch) != NULL;
            plain = plain && strchr(".,:;!?()'\"-", ch) != NULL;
        }
    }
    return c;
}

/* The mark that ends a document must not occur inside one. */
static bool holds_end_of_text(const char *text, size_t bytes)
{
    static const char mark[] = "<|endoftext|>";
    for (const char *p = text, *end = text + bytes;
         (p = memchr(p, mark[0], (size_t)(end - p))) != NULL; p++)
        if ((size_t)(end - p) >= sizeof mark - 1 && memcmp(p, mark, sizeof mark - 1) == 0)
            return true;
    return false;
}

/* The thresholds were set by reading what falls on either side in the three packages: a list of
 * options or registers has few words, a C declaration many code characters. */
static bool is_prose(const char *text, size_t bytes, lq_passage kind)
{
    counts c = count(text, bytes);
    size_t visible = c.letters + c.others;
    if (holds_end_of_text(text, bytes))
        return false;
    switch (kind) {
    case LQ_PASSAGE_HEADING:
        return bytes <= 240 && c.letters >= 2 && 2 * c.letters >= visible;
    case LQ_PASSAGE_PARAGRAPH:
        return !c.ruled && c.words >= 2 && 10 * c.letters >= 7 * visible && 10 * c.code <= visible;
    case LQ_PASSAGE_LITERAL:
        return !c.ruled && c.lower_words >= 8 && 100 * c.letters >= 85 * visible &&
               50 * c.code <= visible;
    }
    return false;
}

void lq_prose_finish(lq_prose *prose, lq_passage kind)
{
    size_t n = collapse_blanks(prose->passage, prose->passage_bytes);
    prose->passage_bytes = 0;
    if (n == 0 || !is_prose(prose->passage, n, kind))
        return;
    LQ_ASSERT(prose->bytes + n + 2 <= prose->room);
    memcpy(prose->text + prose->bytes, prose->passage, n);
    memcpy(prose->text + prose->bytes + n, "\n\n", 2);
    prose->bytes += n + 2;
}
