/* Oniguruma's Ruby syntax, as Hugging Face tokenizers compile it, in the words of PCRE2. What both read
 * alike is copied; the rest:
 *
 *     \s \S         White_Space spelt out (PCRE2 adds U+180E)
 *     \w \W \b \B   Alphabetic, marks, Nd and Pc (PCRE2 10.42: letters, numbers and _)
 *     \h \H \v      a hex digit, the vertical tab (PCRE2: horizontal and vertical space)
 *     \p{Han}       the script (PCRE2: script extensions, which are more)
 *     \uHHHH        \x{HHHH}
 *     [[:alpha:]]   Unicode's properties
 *     [a[b]] [a&&b] union and intersection of classes, by alternatives and lookaheads
 *     (?m:...)      (?s:...), the dot that takes a line end
 *     x{,3}         x{0,3} */
#include "core/text/pattern_parts.h"

#include <string.h>

#define SPACES                                                                                    \
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}" \
    "\\x{205F}\\x{3000}"
#define NO_SPACES                                                                             \
    "\\x{00}-\\x{08}\\x{0E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-" \
    "\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}"   \
    "\\x{3001}-\\x{10FFFF}"
#define WORD       "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD_ALONE WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}" /* outside a class */
#define HEX        "0-9A-Fa-f"

enum { DEEPEST_CLASS = 16, LONGEST_REGEX = 1 << 16 };

typedef struct translator {
    const char *regex, *at, *where;
    int depth;
} translator;

static lq_status refuse(const translator *t, const char *construct, size_t bytes)
{
    return lq_fail(LQ_E_FORMAT, "%s: regular expression \"%.200s\": \"%.*s\" is not supported",
                   t->where, t->regex, (int)bytes, construct);
}

static lq_status add(lq_buffer *out, const char *text)
{
    return lq_buffer_add(out, text, strlen(text));
}

/* Takes `bytes` of the regex as they are. */
static lq_status take(translator *t, size_t bytes, lq_buffer *out)
{
    LQ_TRY(lq_buffer_add(out, t->at, bytes));
    t->at += bytes;
    return LQ_OK;
}

/* Takes `bytes` of the regex and puts other text in their place. */
static lq_status put(translator *t, size_t bytes, const char *text, lq_buffer *out)
{
    t->at += bytes;
    return add(out, text);
}

/* \p{...} and \P{...}; t->at is on the backslash. */
static lq_status property(translator *t, lq_buffer *out)
{
    static const char *const names[][2] = {
        {"Letter", "L"}, {"Mark", "M"},           {"Number", "N"},        {"Punctuation", "P"},
        {"Symbol", "S"}, {"Separator", "Z"},      {"Punct", "P"},         {"Digit", "Nd"},
        {"Other", "C"},  {"Alpha", "Alphabetic"}, {"Upper", "Uppercase"}, {"Lower", "Lowercase"}};
    const char *end = t->at[2] == '{' ? strchr(t->at, '}') : NULL;
    if (!end)
        return refuse(t, t->at, 3);
    const char *name = t->at + 3;
    name += *name == '^';
    size_t n = (size_t)(end - name);
    LQ_TRY(lq_buffer_add(out, t->at, (size_t)(name - t->at)));
    t->at = end + 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i][0]) == n && memcmp(names[i][0], name, n) == 0) {
            LQ_TRY(add(out, names[i][1]));
            return add(out, "}");
        }
    if (n > 2 && lq_pattern_script(name, n))
        LQ_TRY(add(out, "sc:"));
    LQ_TRY(lq_buffer_add(out, name, n));
    return add(out, "}");
}

static size_t hex_digits(const char *s)
{
    size_t n = 0;
    while (s[n] != '\0' && strchr("0123456789abcdefABCDEF", s[n]))
        n++;
    return n;
}

/* Escapes that mean one thing inside a class and outside. */
static lq_status common_escape(translator *t, lq_buffer *out)
{
    char c = t->at[1];
    if (c == 'p' || c == 'P')
        return property(t, out);
    if (c == 'v')
        return put(t, 2, "\\x{0B}", out);
    if (c == 'u') {
        if (hex_digits(t->at + 2) < 4)
            return refuse(t, t->at, 6);
        LQ_TRY(add(out, "\\x{"));
        LQ_TRY(lq_buffer_add(out, t->at + 2, 4));
        return put(t, 6, "}", out);
    }
    if (c == '\0') /* PCRE2 says what is wrong with a backslash at the end */
        return take(t, 1, out);
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter && !strchr("dDnrtfaex", c))
        return refuse(t, t->at, 2);
    return take(t, 2, out);
}

/* An escape in a class: into its members, or, where a class of its own is needed, into `nested`. */
static lq_status class_escape(translator *t, lq_buffer *members, lq_buffer *nested)
{
    switch (t->at[1]) {
    case 's':
        return put(t, 2, SPACES, members);
    case 'S':
        return put(t, 2, NO_SPACES, members);
    case 'w':
        return put(t, 2, WORD, members);
    case 'W':
        return put(t, 2, "|[^" WORD "]", nested);
    case 'h':
        return put(t, 2, HEX, members);
    case 'H':
        return put(t, 2, "|[^" HEX "]", nested);
    case 'b':
        return put(t, 2, "\\x{08}", members);
    default:
        return common_escape(t, members);
    }
}

/* [:name:] in a class. */
static lq_status posix(translator *t, lq_buffer *members)
{
    static const char *const names[][2] = {{"[:alpha:]", "\\p{Alphabetic}"},
                                           {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
                                           {"[:digit:]", "\\p{Nd}"},
                                           {"[:upper:]", "\\p{Uppercase}"},
                                           {"[:lower:]", "\\p{Lowercase}"},
                                           {"[:space:]", SPACES},
                                           {"[:punct:]", "\\p{P}\\p{S}"},
                                           {"[:word:]", WORD},
                                           {"[:xdigit:]", HEX}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(t->at, names[i][0], strlen(names[i][0])) == 0)
            return put(t, strlen(names[i][0]), names[i][1], members);
    return refuse(t, t->at, 2);
}

/* One operand of an intersection as an expression that takes one character, and empties the two. */
static lq_status add_operand(lq_buffer *members, lq_buffer *nested, lq_buffer *out)
{
    bool plain = nested->n == 0;
    if (!plain)
        LQ_TRY(add(out, "(?:"));
    if (members->n > 0) {
        LQ_TRY(add(out, "["));
        LQ_TRY(lq_buffer_add(out, members->data, members->n));
        LQ_TRY(add(out, "]"));
    }
    if (!plain) { /* its first byte is a bar */
        size_t skip = members->n == 0;
        LQ_TRY(lq_buffer_add(out, nested->data + skip, nested->n - skip));
        LQ_TRY(add(out, ")"));
    } else if (members->n == 0) {
        LQ_TRY(add(out, "(?!)")); /* nothing is a member of nothing */
    }
    members->n = nested->n = 0;
    return LQ_OK;
}

static lq_status class_of(translator *t, lq_buffer *out);

/* What stands between the brackets: members, classes inside, and before each && the operand so far as a
 * lookahead in `meets`. Ends on the closing bracket. */
static lq_status class_body(translator *t, lq_buffer *members, lq_buffer *nested, lq_buffer *meets)
{
    const char *begin = t->at;
    while (*t->at != ']' || t->at == begin) { /* right after the opening it is a member */
        if (*t->at == '\0') {
            return lq_fail(LQ_E_FORMAT, "%s: regular expression \"%.200s\": a class does not end",
                           t->where, t->regex);
        } else if (t->at[0] == '[' && t->at[1] == ':') {
            LQ_TRY(posix(t, members));
        } else if (*t->at == '[') {
            LQ_TRY(add(nested, "|"));
            LQ_TRY(class_of(t, nested));
        } else if (t->at[0] == '&' && t->at[1] == '&') {
            t->at += 2;
            LQ_TRY(add(meets, "(?="));
            LQ_TRY(add_operand(members, nested, meets));
            LQ_TRY(add(meets, ")"));
        } else if (*t->at == '\\') {
            LQ_TRY(class_escape(t, members, nested));
        } else {
            if (*t->at == '^' || *t->at == ']')
                LQ_TRY(add(members, "\\"));
            LQ_TRY(take(t, 1, members));
        }
    }
    t->at++;
    return LQ_OK;
}

static lq_status add_class(bool negated, lq_buffer *members, lq_buffer *nested,
                           const lq_buffer *meets, lq_buffer *out)
{
    if (nested->n == 0 && meets->n == 0) { /* the usual case, as it stands */
        LQ_TRY(add(out, negated ? "[^" : "["));
        LQ_TRY(lq_buffer_add(out, members->data, members->n));
        return add(out, "]");
    }
    LQ_TRY(add(out, negated ? "(?:(?!" : "(?:"));
    LQ_TRY(lq_buffer_add(out, meets->data, meets->n));
    LQ_TRY(add_operand(members, nested, out));
    return add(out, negated ? ")(?s:.))" : ")");
}

/* A class from its opening bracket on. */
static lq_status class_of(translator *t, lq_buffer *out)
{
    if (t->depth == DEEPEST_CLASS)
        return refuse(t, t->at, 1);
    t->depth++;
    t->at++;
    bool negated = *t->at == '^';
    t->at += negated;
    lq_buffer members = {0}, nested = {0}, meets = {0};
    lq_status status = class_body(t, &members, &nested, &meets);
    if (status == LQ_OK)
        status = add_class(negated, &members, &nested, &meets, out);
    lq_buffer_free(&members);
    lq_buffer_free(&nested);
    lq_buffer_free(&meets);
    t->depth--;
    return status;
}

static lq_status escape(translator *t, lq_buffer *out)
{
    switch (t->at[1]) {
    case 's':
        return put(t, 2, "[" SPACES "]", out);
    case 'S':
        return put(t, 2, "[^" SPACES "]", out);
    case 'w':
        return put(t, 2, "[" WORD_ALONE "]", out);
    case 'W':
        return put(t, 2, "[^" WORD_ALONE "]", out);
    case 'h':
        return put(t, 2, "[" HEX "]", out);
    case 'H':
        return put(t, 2, "[^" HEX "]", out);
    case 'b':
        return put(t, 2,
                   "(?:(?<=[" WORD_ALONE "])(?![" WORD_ALONE "])|(?<![" WORD_ALONE
                   "])(?=[" WORD_ALONE "]))",
                   out);
    case 'B':
        return put(t, 2,
                   "(?:(?<=[" WORD_ALONE "])(?=[" WORD_ALONE "])|(?<![" WORD_ALONE
                   "])(?![" WORD_ALONE "]))",
                   out);
    case 'A':
    case 'z':
    case 'Z':
        return take(t, 2, out);
    default:
        return common_escape(t, out);
    }
}

/* "(?" and what kind of group it begins. Options in the middle, as in a(?i)b|c, span the alternatives
 * after them in Ruby and not in PCRE2. */
static lq_status group(translator *t, lq_buffer *out)
{
    const char *s = t->at + 2;
    if (*s == ':' || *s == '=' || *s == '!' || *s == '>')
        return take(t, 3, out);
    if (*s == '<')
        return take(t, s[1] == '=' || s[1] == '!' ? 4 : 3, out);
    size_t n = strspn(s, "im-");
    if (n == 0 || (s[n] != ':' && (s[n] != ')' || t->at != t->regex)))
        return refuse(t, t->at, 3);
    LQ_TRY(add(out, "(?"));
    for (size_t i = 0; i < n; i++)
        LQ_TRY(add(out, s[i] == 'm' ? "s" : s[i] == 'i' ? "i" : "-"));
    t->at += 2 + n;
    return take(t, 1, out);
}

/* A brace: {n}, {n,}, {n,m}, {,m} repeat, anything else is itself. */
static lq_status brace(translator *t, lq_buffer *out)
{
    size_t low = strspn(t->at + 1, "0123456789"), comma = t->at[1 + low] == ',';
    size_t high = comma ? strspn(t->at + 2 + low, "0123456789") : 0;
    const char *end = t->at + 1 + low + comma + high;
    if (*end != '}' || low + high == 0)
        return take(t, 1, out);
    if (end[1] == '+' || (end[1] == '?' && !comma)) /* Ruby repeats the repetition */
        return refuse(t, t->at, (size_t)(end + 2 - t->at));
    if (low == 0) {
        LQ_TRY(add(out, "{0"));
        t->at++;
    }
    return take(t, (size_t)(end + 1 - t->at), out);
}

lq_status lq_pattern_translate(const char *regex, const char *where, lq_buffer *out)
{
    translator t = {.regex = regex, .at = regex, .where = where};
    if (strlen(regex) > LONGEST_REGEX)
        return lq_fail(LQ_E_FORMAT, "%s: a regular expression of more than %d bytes", where,
                       LONGEST_REGEX);
    while (*t.at != '\0') {
        if (*t.at == '\\')
            LQ_TRY(escape(&t, out));
        else if (*t.at == '[')
            LQ_TRY(class_of(&t, out));
        else if (t.at[0] == '(' && t.at[1] == '?')
            LQ_TRY(group(&t, out));
        else if (t.at[0] == '(' && t.at[1] == '*') /* a verb of PCRE2 */
            LQ_TRY(put(&t, 1, "(", out));
        else if (*t.at == '{')
            LQ_TRY(brace(&t, out));
        else
            LQ_TRY(take(&t, 1, out));
    }
    return lq_buffer_add(out, "", 1);
}
