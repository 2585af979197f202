/* reStructuredText to prose, a line at a time. Source of the rules: the docutils specification,
 * https://docutils.sourceforge.io/docs/ref/rst/restructuredtext.html. We read more loosely than docutils,
 * since the kernel's files are not all well-formed: what is no known block is a paragraph, and the
 * judgement in clean.c drops it when it is no prose. */
#include "core/data/clean_parts.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

typedef struct reader {
    lq_prose *prose;
    const lq_line *lines;
    size_t n, at; /* the line in hand */
    /* The open passage: column of its marker or first line, column of its text (ANY_INDENT until the
     * second line says), its lines so far, and whether it began with a list marker. */
    size_t marker, indent, n_lines;
    bool is_item;
    bool literal_next; /* the last passage ended in "::" */
    size_t literal_indent;
} reader;
#define ANY_INDENT SIZE_MAX

/* What becomes of a directive; those not listed go with all their content. */
typedef enum directive_kind {
    DIRECTIVE_DROP,
    DIRECTIVE_CONTENT,   /* the argument is the first line of prose, the content is prose */
    DIRECTIVE_SIGNATURE, /* the argument is a name or a signature: a heading; the content is prose */
    DIRECTIVE_VERSION,   /* "Changed in version ARGUMENT: " and the prose */
    DIRECTIVE_BODY       /* the argument is dropped, the content is prose */
} directive_kind;
static const struct {
    const char *name;
    directive_kind kind;
    const char *lead; /* of a DIRECTIVE_VERSION */
} directives[] = {
    {"note", DIRECTIVE_CONTENT, NULL},
    {"warning", DIRECTIVE_CONTENT, NULL},
    {"important", DIRECTIVE_CONTENT, NULL},
    {"attention", DIRECTIVE_CONTENT, NULL},
    {"caution", DIRECTIVE_CONTENT, NULL},
    {"danger", DIRECTIVE_CONTENT, NULL},
    {"error", DIRECTIVE_CONTENT, NULL},
    {"hint", DIRECTIVE_CONTENT, NULL},
    {"tip", DIRECTIVE_CONTENT, NULL},
    {"seealso", DIRECTIVE_CONTENT, NULL},
    {"impl-detail", DIRECTIVE_CONTENT, NULL},
    {"epigraph", DIRECTIVE_CONTENT, NULL},
    {"centered", DIRECTIVE_CONTENT, NULL},
    {"rubric", DIRECTIVE_SIGNATURE, NULL},
    {"topic", DIRECTIVE_SIGNATURE, NULL},
    {"sidebar", DIRECTIVE_SIGNATURE, NULL},
    {"admonition", DIRECTIVE_SIGNATURE, NULL},
    {"describe", DIRECTIVE_SIGNATURE, NULL},
    {"object", DIRECTIVE_SIGNATURE, NULL},
    {"method", DIRECTIVE_SIGNATURE, NULL},
    {"function", DIRECTIVE_SIGNATURE, NULL},
    {"attribute", DIRECTIVE_SIGNATURE, NULL},
    {"data", DIRECTIVE_SIGNATURE, NULL},
    {"class", DIRECTIVE_SIGNATURE, NULL},
    {"exception", DIRECTIVE_SIGNATURE, NULL},
    {"decorator", DIRECTIVE_SIGNATURE, NULL},
    {"classmethod", DIRECTIVE_SIGNATURE, NULL},
    {"staticmethod", DIRECTIVE_SIGNATURE, NULL},
    {"abstractmethod", DIRECTIVE_SIGNATURE, NULL},
    {"coroutinemethod", DIRECTIVE_SIGNATURE, NULL},
    {"coroutinefunction", DIRECTIVE_SIGNATURE, NULL},
    {"awaitablefunction", DIRECTIVE_SIGNATURE, NULL},
    {"awaitablemethod", DIRECTIVE_SIGNATURE, NULL},
    {"cmdoption", DIRECTIVE_SIGNATURE, NULL},
    {"option", DIRECTIVE_SIGNATURE, NULL},
    {"envvar", DIRECTIVE_SIGNATURE, NULL},
    {"opcode", DIRECTIVE_SIGNATURE, NULL},
    {"pdbcommand", DIRECTIVE_SIGNATURE, NULL},
    {"c:function", DIRECTIVE_SIGNATURE, NULL},
    {"c:type", DIRECTIVE_SIGNATURE, NULL},
    {"c:struct", DIRECTIVE_SIGNATURE, NULL},
    {"c:member", DIRECTIVE_SIGNATURE, NULL},
    {"c:macro", DIRECTIVE_SIGNATURE, NULL},
    {"c:var", DIRECTIVE_SIGNATURE, NULL},
    {"versionadded", DIRECTIVE_VERSION, "New in version"},
    {"versionchanged", DIRECTIVE_VERSION, "Changed in version"},
    {"deprecated", DIRECTIVE_VERSION, "Deprecated since version"},
    {"deprecated-removed", DIRECTIVE_VERSION, "Deprecated since version"},
    {"module", DIRECTIVE_BODY, NULL},
    {"glossary", DIRECTIVE_BODY, NULL},
    {"only", DIRECTIVE_BODY, NULL},
    {"container", DIRECTIVE_BODY, NULL},
    {"cssclass", DIRECTIVE_BODY, NULL},
};

static void finish(reader *r, lq_passage kind)
{
    lq_prose *prose = r->prose;
    size_t n = prose->passage_bytes;
    r->literal_next = false;
    if (n >= 2 && memcmp(prose->passage + n - 2, "::", 2) == 0) {
        r->literal_next = true;
        r->literal_indent = r->indent == ANY_INDENT ? r->marker : r->indent;
        n -= n > 2 && prose->passage[n - 3] != ' ' ? 1 : 2; /* "text::" reads "text:" */
    }
    prose->passage_bytes = lq_clean_rst_inline(prose->passage, n);
    lq_prose_finish(prose, kind);
    r->n_lines = 0;
    r->is_item = false;
}

static void gather(reader *r, const char *text, size_t bytes, size_t marker, size_t indent)
{
    if (r->n_lines++ == 0) {
        r->marker = marker;
        r->indent = indent;
        r->literal_next = false;
    }
    lq_prose_gather(r->prose, text, bytes);
}

/* First line after `from` that is not blank and not indented deeper than `indent`. */
static size_t block_end(const reader *r, size_t from, size_t indent)
{
    size_t i = from;
    while (i < r->n && (r->lines[i].bytes == 0 || r->lines[i].indent > indent))
        i++;
    return i;
}

static bool is_adornment(const lq_line *line)
{
    if (line->bytes < 3 || lq_is_alnum(line->text[0]) || (line->text[0] & 0x80))
        return false;
    for (size_t i = 1; i < line->bytes; i++)
        if (line->text[i] != line->text[0])
            return false;
    return true;
}

/* "====  ====": at least two runs of equals signs. */
static bool is_simple_border(const lq_line *line)
{
    bool gap = false;
    for (size_t i = 0; i < line->bytes; i++) {
        if (line->text[i] != '=' && line->text[i] != ' ')
            return false;
        gap = gap || line->text[i] == ' ';
    }
    return gap;
}

static bool is_grid_border(const lq_line *line)
{
    if (line->bytes < 3 || line->text[0] != '+')
        return false;
    for (size_t i = 1; i < line->bytes; i++)
        if (!strchr("+-=", line->text[i]))
            return false;
    return true;
}

/* The line after the simple table that begins at r->at: docutils ends one at the second border
 * after the first, or at a border before a blank line. */
static size_t simple_table_end(const reader *r)
{
    size_t borders = 0;
    for (size_t i = r->at + 1; i < r->n; i++) {
        if (r->lines[i].bytes > 0 && r->lines[i].indent < r->lines[r->at].indent)
            return i;
        if (!is_simple_border(&r->lines[i]))
            continue;
        borders++;
        if (borders == 2 || i + 1 == r->n || r->lines[i + 1].bytes == 0)
            return i + 1;
    }
    return r->at + 1;
}

/* Columns up to the text of a list item ("- ", "12. ", "#) ", "(a) "), or 0. */
static size_t list_marker(const lq_line *line, bool *is_bullet)
{
    const char *s = line->text;
    size_t n = line->bytes, i = 0;
    *is_bullet = n >= 2 && strchr("-*+", s[0]) && s[1] == ' ';
    if (*is_bullet) {
        for (i = 1; i < n && s[i] == ' ';)
            i++;
        return i;
    }
    bool paren = n > 0 && s[0] == '(';
    i = paren;
    size_t digits = 0;
    while (i < n && lq_is_digit(s[i]) && digits < 4)
        i++, digits++;
    if (digits == 0 && i < n && (lq_is_letter(s[i]) || s[i] == '#'))
        i++, digits++;
    if (digits == 0 || i + 1 >= n || !(s[i] == ')' || (s[i] == '.' && !paren)) || s[i + 1] != ' ')
        return 0;
    for (i++; i < n && s[i] == ' ';)
        i++;
    return i;
}

/* ":name: text" -> the bytes up to the text, and whether the field only describes the file. */
static size_t field_marker(const lq_line *line, bool *is_clerical)
{
    static const char *const clerical[] = {
        "author",     "authors",     "date",         "copyright", "contact", "version",
        "revision",   "license",     "orphan",       "status",    "email",   "mail",
        "maintainer", "maintainers", "updated",      "original",  "revised", "initial",
        "written",    "last",        "organization", "address",   "editor",  "translator",
        "file",       "copyright(c)"};
    *is_clerical = false;
    if (line->bytes < 3 || line->text[0] != ':' || !lq_is_letter(line->text[1]))
        return 0;
    const char *end = memchr(line->text + 1, ':', line->bytes - 1);
    size_t name = end ? (size_t)(end - line->text) - 1 : 0;
    if (name == 0 || name > 40 || (name + 2 < line->bytes && end[1] != ' '))
        return 0;
    size_t first = 0;
    while (first < name && line->text[1 + first] != ' ')
        first++;
    for (size_t i = 0; i < sizeof clerical / sizeof *clerical; i++)
        if (strlen(clerical[i]) == first && strncasecmp(line->text + 1, clerical[i], first) == 0)
            *is_clerical = true;
    return name + 2;
}

/* A literal block, kept where its passages read like sentences (the kernel's files set letters,
 * descriptions and tables of contents this way). */
static void literal_block(reader *r, size_t end)
{
    for (; r->at < end; r->at++) {
        const lq_line *line = &r->lines[r->at];
        if (line->bytes == 0)
            lq_prose_finish(r->prose, LQ_PASSAGE_LITERAL);
        else
            lq_prose_gather(r->prose, line->text, line->bytes);
    }
    lq_prose_finish(r->prose, LQ_PASSAGE_LITERAL);
}

/* The argument of a signature directive: a heading a line, up to a blank line or an option. */
static void signature(reader *r, const char *text, size_t bytes, size_t indent)
{
    gather(r, text, bytes, indent, indent);
    finish(r, LQ_PASSAGE_HEADING);
    for (; r->at < r->n && r->lines[r->at].bytes > 0 && r->lines[r->at].indent > indent; r->at++) {
        const lq_line *line = &r->lines[r->at];
        if (line->text[0] == ':')
            continue;
        gather(r, line->text, line->bytes, indent, indent);
        finish(r, LQ_PASSAGE_HEADING);
    }
    r->literal_next = false;
}

/* Opens the passage "Changed in version 3.9: ..." when prose follows at once. */
static void version(reader *r, const char *lead, const char *text, size_t bytes, size_t indent)
{
    size_t n = 0;
    while (n < bytes && text[n] != ' ')
        n++;
    bool follows = r->at < r->n && r->lines[r->at].bytes > 0 && r->lines[r->at].indent > indent;
    if (!follows || n == 0)
        return;
    gather(r, lead, strlen(lead), indent, ANY_INDENT);
    lq_prose_gather(r->prose, text, n);
    r->prose->passage[r->prose->passage_bytes++] = ':';
}

/* r->at is a line ".. name:: text"; the parts are given. Leaves r->at at the next line to read. */
static void directive(reader *r, const char *name, size_t name_bytes, const char *text,
                      size_t bytes)
{
    size_t indent = r->lines[r->at].indent;
    directive_kind kind = DIRECTIVE_DROP;
    const char *lead = NULL;
    if (name_bytes > 3 && memcmp(name, "py:", 3) == 0)
        name += 3, name_bytes -= 3;
    for (size_t i = 0; i < sizeof directives / sizeof *directives; i++)
        if (strlen(directives[i].name) == name_bytes &&
            strncasecmp(directives[i].name, name, name_bytes) == 0)
            kind = directives[i].kind, lead = directives[i].lead;
    if (kind == DIRECTIVE_DROP) {
        r->at = block_end(r, r->at + 1, indent);
        return;
    }
    r->at++;
    if (kind == DIRECTIVE_CONTENT && bytes > 0)
        gather(r, text, bytes, indent, ANY_INDENT);
    else if (kind == DIRECTIVE_SIGNATURE)
        signature(r, text, bytes, indent);
    else if (kind == DIRECTIVE_VERSION)
        version(r, lead, text, bytes, indent);
    while (r->at < r->n && r->n_lines == 0 && r->lines[r->at].bytes > 0 &&
           r->lines[r->at].text[0] == ':' && r->lines[r->at].indent > indent)
        r->at++; /* options */
}

/* ".. " and what it can start: a target, a footnote, a substitution, a directive, a comment. */
static void explicit_markup(reader *r)
{
    const lq_line *line = &r->lines[r->at];
    size_t start = 2;
    while (start < line->bytes && line->text[start] == ' ')
        start++;
    const char *s = line->text + start;
    size_t n = line->bytes - start, i = 0;
    if (n > 0 && s[0] == '[') { /* a footnote or citation: its text is prose */
        const char *end = memchr(s, ']', n);
        size_t skip = end ? (size_t)(end - s) + 1 : 0;
        r->at++;
        if (skip > 0 && skip < n)
            gather(r, s + skip + 1, n - skip - 1, line->indent, ANY_INDENT);
        return;
    }
    while (i < n && (lq_is_alnum(s[i]) || strchr("-_.+", s[i]) ||
                     (s[i] == ':' && i + 1 < n && s[i + 1] != ':')))
        i++;
    if (i > 0 && s[0] != '_' && i + 2 <= n && s[i] == ':' && s[i + 1] == ':') {
        size_t text = i + 2;
        while (text < n && s[text] == ' ')
            text++;
        directive(r, s, i, s + text, n - text);
        return;
    }
    r->at = block_end(r, r->at + 1, line->indent);
}

/* Blocks that are recognized by their first line, whether or not a passage is open. True when r->at
 * moved on. */
static bool skip_block(reader *r)
{
    const lq_line *line = &r->lines[r->at];
    bool table = is_grid_border(line) || is_simple_border(line);
    bool doctest = line->bytes >= 3 && memcmp(line->text, ">>>", 3) == 0;
    bool markup = line->bytes >= 2 && memcmp(line->text, "..", 2) == 0 &&
                  (line->bytes == 2 || line->text[2] == ' ');
    if (!table && !doctest && !markup)
        return false;
    finish(r, LQ_PASSAGE_PARAGRAPH);
    if (markup)
        explicit_markup(r);
    else if (is_simple_border(line))
        r->at = simple_table_end(r);
    else
        while (r->at < r->n && r->lines[r->at].bytes > 0 &&
               (doctest || strchr("+|", r->lines[r->at].text[0])))
            r->at++;
    return true;
}

/* Section titles and transitions. True when r->at moved on. */
static bool title(reader *r)
{
    const lq_line *line = &r->lines[r->at];
    if (!is_adornment(line))
        return false;
    if (r->n_lines == 1) { /* an underline */
        finish(r, LQ_PASSAGE_HEADING);
        r->at++;
        return true;
    }
    if (r->n_lines > 0)
        return false;
    if (r->at + 2 < r->n && r->lines[r->at + 1].bytes > 0 && is_adornment(&line[2]) &&
        line[2].text[0] == line->text[0]) {
        gather(r, line[1].text, line[1].bytes, line[1].indent, line[1].indent);
        finish(r, LQ_PASSAGE_HEADING);
        r->at += 3;
    } else {
        r->at++; /* a transition */
    }
    return true;
}

/* A list item or a field opens a passage. True when r->at moved on. */
static bool item(reader *r)
{
    const lq_line *line = &r->lines[r->at];
    if (r->n_lines > 0 && !(r->is_item && line->indent <= r->indent))
        return false;
    bool bullet, clerical;
    size_t width = list_marker(line, &bullet), field = width ? 0 : field_marker(line, &clerical);
    if (width == 0 && field == 0)
        return false;
    if (field > 0 && clerical) {
        finish(r, LQ_PASSAGE_PARAGRAPH);
        r->at = block_end(r, r->at + 1, line->indent);
        return true;
    }
    finish(r, LQ_PASSAGE_PARAGRAPH);
    if (bullet) {
        gather(r, "-", 1, line->indent, line->indent + width);
        lq_prose_gather(r->prose, line->text + width, line->bytes - width);
    } else if (width > 0) {
        gather(r, line->text, line->bytes, line->indent, line->indent + width);
    } else {
        gather(r, line->text + 1, line->bytes - 1, line->indent, ANY_INDENT);
    }
    r->is_item = true;
    r->at++;
    return true;
}

/* Is the one line gathered so far the term of a definition, no wrapped sentence? */
static bool is_term(const lq_prose *prose)
{
    size_t blanks = 0;
    for (size_t i = 0; i < prose->passage_bytes; i++)
        blanks += prose->passage[i] == ' ';
    return blanks < 5;
}

static void text_line(reader *r)
{
    const lq_line *line = &r->lines[r->at++];
    const char *text = line->text;
    size_t bytes = line->bytes;
    if (bytes >= 2 && text[0] == '|' && text[1] == ' ') /* a line block */
        text += 2, bytes -= 2;
    if (r->n_lines == 1 && line->indent > r->marker && (r->indent == ANY_INDENT || r->is_item))
        r->indent = line->indent; /* items are often wrapped deeper than the rules allow */
    else if (r->n_lines == 1 && line->indent > r->indent && is_term(r->prose))
        finish(r, LQ_PASSAGE_HEADING);
    else if (r->n_lines > 0 &&
             (line->indent < r->marker || (line->indent == r->marker && r->marker < r->indent)))
        finish(r, LQ_PASSAGE_PARAGRAPH); /* back to the left: of a definition, of an item's text */
    gather(r, text, bytes, line->indent, line->indent);
}

void lq_clean_rst(lq_prose *prose, const lq_line *lines, size_t n)
{
    reader r = {.prose = prose, .lines = lines, .n = n};
    while (r.at < n) {
        const lq_line *line = &lines[r.at];
        if (line->bytes == 0) {
            if (r.n_lines > 0)
                finish(&r, LQ_PASSAGE_PARAGRAPH);
            r.at++;
        } else if (r.n_lines == 0 && r.literal_next) {
            r.literal_next = false;
            if (line->indent > r.literal_indent)
                literal_block(&r, block_end(&r, r.at, r.literal_indent));
        } else if (!skip_block(&r) && !title(&r) && !item(&r)) {
            text_line(&r);
        }
    }
    finish(&r, LQ_PASSAGE_PARAGRAPH);
}
