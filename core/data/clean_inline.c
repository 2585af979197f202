/* Inline markup of reStructuredText and POD, removed in place: what is written never overtakes what is
 * read, since each replacement is shorter than its markup. */
#include "core/data/clean_parts.h"

#include <stdint.h>
#include <string.h>

typedef struct span { /* text being rewritten onto itself */
    char *text;
    size_t n, in, out;
} span;

static void copy(span *s, size_t from, size_t bytes)
{
    memmove(s->text + s->out, s->text + from, bytes);
    s->out += bytes;
}

static void put(span *s, const char *text)
{
    size_t n = strlen(text);
    memcpy(s->text + s->out, text, n);
    s->out += n;
}

/* First place at or after `from` where `mark` stands, or s->n. */
static size_t find(const span *s, size_t from, const char *mark)
{
    size_t m = strlen(mark);
    for (size_t i = from; i + m <= s->n; i++)
        if (memcmp(s->text + i, mark, m) == 0)
            return i;
    return s->n;
}

/* May inline markup open at i (of the text as it was)? */
static bool may_open(char before, size_t i) { return i == 0 || strchr(" ([{<'\"-/:", before); }

/* :name: before a backquote at s->in: its length, or 0. */
static size_t role(const span *s, size_t i)
{
    size_t k = i + 1;
    while (k < s->n && (lq_is_alnum(s->text[k]) || strchr(":+_.-", s->text[k])) && k - i < 40)
        k++;
    bool closed = k > i + 2 && s->text[k - 1] == ':' && k < s->n && s->text[k] == '`';
    return closed && lq_is_letter(s->text[i + 1]) ? k - i : 0;
}

/* `text`, `title <target>`, `~a.b`, `!x` at [from, to): what a reader sees. */
static void reference(span *s, size_t from, size_t to, bool has_role)
{
    const char *text = s->text;
    if (to > from && text[to - 1] == '>') {
        size_t open = to - 1;
        while (open > from && text[open] != '<')
            open--;
        if (text[open] == '<' && open > from && text[open - 1] == ' ')
            to = open - 1;
        else if (text[open] == '<' && open == from)
            from++, to--;
    }
    if (has_role && to > from && text[from] == '!')
        from++;
    if (has_role && to > from && text[from] == '~') {
        from++;
        for (size_t i = from; i + 1 < to; i++)
            if (text[i] == '.')
                from = i + 1;
    }
    copy(s, from, to - from);
}

static void backquote(span *s, size_t role_bytes)
{
    size_t start = s->in + role_bytes + 1, end = start;
    while (end < s->n && s->text[end] != '`')
        end += s->text[end] == '\\' && end + 1 < s->n ? 2 : 1;
    if (end >= s->n || end == start || s->text[start] == ' ' || s->text[end - 1] == ' ') {
        s->in = start; /* no markup: an old-style quote, or broken */
        put(s, "'");
        return;
    }
    if (role_bytes == 5 && memcmp(s->text + s->in, ":pep:", 5) == 0)
        put(s, "PEP ");
    else if (role_bytes == 5 && memcmp(s->text + s->in, ":rfc:", 5) == 0)
        put(s, "RFC ");
    reference(s, start, end, role_bytes > 0);
    s->in = end + 1;
    for (int k = 0; k < 2 && s->in < s->n && s->text[s->in] == '_'; k++)
        s->in++;
}

/* *x*, **x**, |x|: true when it was one. `mark` is "*", "**" or "|". */
static bool emphasis(span *s, const char *mark, char before)
{
    size_t m = strlen(mark), start = s->in + m;
    if (!may_open(before, s->in) || start >= s->n || memcmp(s->text + s->in, mark, m) != 0 ||
        strchr(" *|", s->text[start]))
        return false;
    for (size_t end = start + 1; (end = find(s, end, mark)) < s->n; end++) {
        bool closes =
            s->text[end - 1] != ' ' && (end + m == s->n || !lq_is_alnum(s->text[end + m]));
        if (!closes)
            continue;
        if (mark[0] == '|' && end - start > 40)
            return false;
        copy(s, start, end - start);
        s->in = end + m;
        return true;
    }
    return false;
}

/* "[1]_", "[#name]_": true when it was one; it goes, and a blank before it. */
static bool footnote(span *s)
{
    size_t end = find(s, s->in, "]_");
    if (end >= s->n || end - s->in > 40 || memchr(s->text + s->in, ' ', end - s->in))
        return false;
    s->in = end + 2;
    if (s->out > 0 && s->text[s->out - 1] == ' ')
        s->out--;
    return true;
}

/* Is the underscore at s->in the tail of a reference "word_"? */
static bool reference_tail(const span *s)
{
    size_t i = s->out;
    while (i > 0 && (lq_is_alnum(s->text[i - 1]) || s->text[i - 1] == '-'))
        i--;
    size_t after = s->in + 1;
    after += after < s->n && s->text[after] == '_';
    return i < s->out && (i == 0 || s->text[i - 1] == ' ' || s->text[i - 1] == '(') &&
           (after == s->n || strchr(" .,;:!?)", s->text[after]));
}

/* Markup that opens with c, if this is such; what it shows is then written. */
static bool other_markup(span *s, char c, char before)
{
    switch (c) {
    case '*':
        return emphasis(s, "**", before) || emphasis(s, "*", before);
    case '|':
        return emphasis(s, "|", before);
    case '[':
        return footnote(s);
    default:
        return false;
    }
}

size_t lq_clean_rst_inline(char *text, size_t bytes)
{
    span s = {.text = text, .n = bytes};
    char before = ' '; /* the character before s.in, as it was: out may have overwritten it */
    while (s.in < s.n) {
        size_t at = s.in, skip;
        char c = text[at];
        if (c == '\\') {
            if (at + 1 < s.n && text[at + 1] != ' ')
                copy(&s, at + 1, 1);
            s.in += 2;
        } else if (c == '`' && at + 1 < s.n && text[at + 1] == '`') {
            size_t end = find(&s, at + 2, "``");
            copy(&s, at + 2, end - (at + 2));
            s.in = end + 2;
        } else if (c == '`') {
            backquote(&s, 0);
        } else if (c == ':' && (skip = role(&s, at)) > 0) {
            backquote(&s, skip);
        } else if (c == '_' && reference_tail(&s)) {
            s.in += at + 1 < s.n && text[at + 1] == '_' ? 2 : 1;
        } else if (!other_markup(&s, c, before)) {
            copy(&s, at, 1);
            s.in++;
        }
        before = c;
    }
    return s.out;
}

/* --- POD (perlpod, "Formatting Codes") ------------------------------------------------------- */

enum {
    POD_DEPTH = 16,    /* deeper nesting is copied as it stands, */
    POD_LONGEST = 4096 /* and so are codes longer than this: both bound the search for the end */
};

typedef struct code { /* X<...> or X<< ... >> */
    char letter;
    size_t from, to, end; /* content [from, to), first byte after the code */
} code;

/* Is there a code at i, and where does it end? */
static bool pod_code(const char *text, size_t n, size_t i, int depth, code *out)
{
    if (depth == POD_DEPTH || i + 2 >= n || text[i] < 'A' || text[i] > 'Z' || text[i + 1] != '<')
        return false;
    size_t k = 1;
    while (i + 1 + k < n && text[i + 1 + k] == '<')
        k++;
    size_t j = i + 1 + k;
    bool wide = k > 1 && j < n && text[j] == ' ';
    *out = (code){.letter = text[i], .from = wide ? j + 1 : i + 2};
    for (j = out->from; j < n && j - out->from < POD_LONGEST; j++) {
        code inner;
        if (wide && text[j] == ' ') {
            size_t run = 0;
            while (run < k && j + 1 + run < n && text[j + 1 + run] == '>')
                run++;
            if (run == k) {
                out->to = j;
                out->end = j + 1 + k;
                return true;
            }
        } else if (!wide && text[j] == '>') {
            out->to = j;
            out->end = j + 1;
            return true;
        } else if (!wide && text[j] >= 'A' && text[j] <= 'Z' && j + 1 < n && text[j + 1] == '<') {
            if (!pod_code(text, n, j, depth + 1, &inner))
                return false; /* the rest was searched: there is no end for this one either */
            j = inner.end - 1;
        }
    }
    return false;
}

static void put_utf8(span *s, uint32_t c)
{
    char b[5] = {0};
    if (c < 0x20 || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
        return;
    if (c < 0x80) {
        b[0] = (char)c;
    } else if (c < 0x800) {
        b[0] = (char)(0xC0 | c >> 6);
        b[1] = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        b[0] = (char)(0xE0 | c >> 12);
        b[1] = (char)(0x80 | (c >> 6 & 0x3F));
        b[2] = (char)(0x80 | (c & 0x3F));
    } else {
        b[0] = (char)(0xF0 | c >> 18);
        b[1] = (char)(0x80 | (c >> 12 & 0x3F));
        b[2] = (char)(0x80 | (c >> 6 & 0x3F));
        b[3] = (char)(0x80 | (c & 0x3F));
    }
    put(s, b);
}

/* E<lt>, E<233>, E<0xE9>, E<0351>. */
static void pod_escape(span *s, const char *name, size_t n)
{
    static const struct {
        const char *name;
        uint32_t character;
    } named[] = {{"lt", '<'},       {"gt", '>'},     {"verbar", '|'},    {"sol", '/'},
                 {"amp", '&'},      {"quot", '"'},   {"nbsp", ' '},      {"eacute", 0xE9},
                 {"auml", 0xE4},    {"ouml", 0xF6},  {"uuml", 0xFC},     {"mdash", 0x2014},
                 {"ndash", 0x2013}, {"copy", 0xA9},  {"aelig", 0xE6},    {"oslash", 0xF8},
                 {"aring", 0xE5},   {"szlig", 0xDF}, {"hellip", 0x2026}, {"acute", 0xB4}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (strlen(named[i].name) == n && memcmp(named[i].name, name, n) == 0) {
            put_utf8(s, named[i].character);
            return;
        }
    bool hex = n > 2 && name[0] == '0' && (name[1] | 0x20) == 'x';
    uint32_t base = hex ? 16 : n > 1 && name[0] == '0' ? 8 : 10, value = 0;
    for (size_t i = hex ? 2 : 0; i < n; i++) {
        uint32_t digit = lq_is_digit(name[i]) ? (uint32_t)(name[i] - '0')
                                              : (uint32_t)((name[i] | 0x20) - 'a' + 10);
        if (digit >= base || value > 0x10FFFF)
            return;
        value = value * base + digit;
    }
    put_utf8(s, value);
}

enum { POD_NAME = 64 };

static bool is_url(const char *text, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++)
        if (text[i] == ':' && text[i + 1] == ':')
            i++; /* a module's name */
        else if (text[i] == ':')
            return true;
    return false;
}

/* L<text|target> reads "text", L<name/section> "section in name", L</section> "section": narrows the
 * code to what is shown first, and gives the name to be shown after it ("" for none). */
static void pod_link(const char *text, code *link, char name[POD_NAME])
{
    size_t slash = link->to, depth = 0;
    name[0] = '\0';
    for (size_t i = link->from; i < link->to; i++) {
        depth += text[i] == '<';
        depth -= text[i] == '>' && depth > 0;
        if (text[i] == '|' && depth == 0) {
            link->to = i;
            return;
        }
        if (text[i] == '/' && depth == 0 && slash == link->to)
            slash = i;
    }
    if (slash < link->to && !is_url(text + link->from, link->to - link->from)) {
        size_t n = slash - link->from;
        if (n < POD_NAME && !memchr(text + link->from, '<', n)) {
            memcpy(name, text + link->from, n);
            name[n] = '\0';
        }
        link->from = slash + 1;
    }
    if (link->to > link->from + 1 && text[link->from] == '"' && text[link->to - 1] == '"')
        link->from++, link->to--;
}

static void pod_span(span *s, size_t from, size_t to, int depth)
{
    for (size_t i = from; i < to;) {
        code c;
        char name[POD_NAME] = "";
        if (!pod_code(s->text, to, i, depth, &c)) {
            copy(s, i++, 1);
            continue;
        }
        if (c.letter == 'L')
            pod_link(s->text, &c, name);
        if (c.letter == 'E') {
            size_t n = c.to - c.from;
            if (n < sizeof name) {
                memcpy(name, s->text + c.from, n);
                pod_escape(s, name, n);
            }
        } else if (c.letter != 'X' && c.letter != 'Z') {
            pod_span(s, c.from, c.to, depth + 1);
            if (name[0] != '\0') {
                put(s, " in ");
                put(s, name);
            }
        }
        i = c.end;
    }
}

size_t lq_clean_pod_inline(char *text, size_t bytes)
{
    span s = {.text = text, .n = bytes};
    pod_span(&s, 0, bytes, 0);
    return s.out;
}
