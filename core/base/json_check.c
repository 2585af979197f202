/* The grammar of RFC 8259, whole and strict, as a check before anything is built. cJSON alone takes
 * control characters as blanks, raw ones inside strings, "01", "1." and ".5"-like numbers, bytes
 * that are no UTF-8, and escapes it then cuts a string at; none of these passes here. */
#include "core/base/json.h"

#include <stdint.h>
#include <string.h>

typedef struct cursor {
    const unsigned char *at, *begin, *end;
    const char *where;
} cursor;

static lq_status broken(const cursor *c, const char *what)
{
    return lq_fail(LQ_E_FORMAT, "%s: no JSON at byte %zu: %s", c->where, (size_t)(c->at - c->begin),
                   what);
}

static unsigned peek(const cursor *c) { return c->at < c->end ? *c->at : 0; }
static bool is_digit(unsigned byte) { return byte - '0' < 10; }

static void skip_blanks(cursor *c)
{
    while (c->at < c->end && memchr(" \t\n\r", *c->at, 4))
        c->at++;
}

/* Length of the UTF-8 sequence at `at`, 0 when it is none: overlong forms, surrogates and values
 * above U+10FFFF are none. Source: Unicode 15, table 3-7. */
static size_t utf8_length(const unsigned char *at, const unsigned char *end)
{
    unsigned first = *at, low = 0x80, high = 0xbf;
    size_t length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first > 0xf4 || length > (size_t)(end - at))
        return 0;
    low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : low;
    high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : high;
    for (size_t i = 1; i < length; i++) {
        if (at[i] < low || at[i] > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

bool lq_utf8_valid(const char *text, size_t n)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + n;
    while (at < end) {
        size_t length = utf8_length(at, end);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

/* Four hex digits at c->at into *unit. */
static lq_status hex_unit(cursor *c, unsigned *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        unsigned byte = peek(c), lower = byte | 0x20;
        if (is_digit(byte))
            *unit = *unit * 16 + (byte - '0');
        else if (lower >= 'a' && lower <= 'f')
            *unit = *unit * 16 + (lower - 'a' + 10);
        else
            return broken(c, "\\u needs four hex digits");
    }
    return LQ_OK;
}

static lq_status check_escape(cursor *c)
{
    c->at++; /* the backslash */
    unsigned byte = peek(c);
    if (byte == 0 || !strchr("\"\\/bfnrtu", (int)byte))
        return broken(c, "unknown escape in a string");
    c->at++;
    if (byte != 'u')
        return LQ_OK;
    unsigned unit, second;
    LQ_TRY(hex_unit(c, &unit));
    if (unit == 0)
        return broken(c, "a NUL in a string");
    if (unit < 0xd800 || unit > 0xdfff)
        return LQ_OK;
    if (unit > 0xdbff || c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u')
        return broken(c, "half a surrogate pair");
    c->at += 2;
    LQ_TRY(hex_unit(c, &second));
    return second >= 0xdc00 && second <= 0xdfff ? LQ_OK : broken(c, "half a surrogate pair");
}

static lq_status check_string(cursor *c)
{
    if (peek(c) != '"')
        return broken(c, "a string was expected");
    c->at++;
    while (c->at < c->end && *c->at != '"') {
        if (*c->at == '\\') {
            LQ_TRY(check_escape(c));
            continue;
        }
        if (*c->at < 0x20)
            return broken(c, "a control character in a string; write it as an escape");
        size_t length = utf8_length(c->at, c->end);
        if (length == 0)
            return broken(c, "not UTF-8");
        c->at += length;
    }
    if (c->at == c->end)
        return broken(c, "a string does not end");
    c->at++;
    return LQ_OK;
}

static lq_status check_digits(cursor *c)
{
    if (!is_digit(peek(c)))
        return broken(c, "a digit was expected");
    while (is_digit(peek(c)))
        c->at++;
    return LQ_OK;
}

static lq_status check_number(cursor *c)
{
    if (peek(c) == '-')
        c->at++;
    const unsigned char *first = c->at;
    LQ_TRY(check_digits(c));
    if (*first == '0' && c->at - first > 1)
        return broken(c, "a number with a leading zero");
    if (peek(c) == '.') {
        c->at++;
        LQ_TRY(check_digits(c));
    }
    if (peek(c) == 'e' || peek(c) == 'E') {
        c->at++;
        if (peek(c) == '+' || peek(c) == '-')
            c->at++;
        LQ_TRY(check_digits(c));
    }
    return LQ_OK;
}

static lq_status check_word(cursor *c, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length) != 0)
        return broken(c, "a value was expected");
    c->at += length;
    return LQ_OK;
}

static lq_status check_value(cursor *c, unsigned deeper);

/* An array or an object; c->at is on its bracket. */
static lq_status check_container(cursor *c, unsigned deeper)
{
    bool object = *c->at == '{';
    unsigned close = object ? '}' : ']';
    if (deeper == 0)
        return broken(c, "nested too deeply");
    c->at++;
    skip_blanks(c);
    if (peek(c) == close) {
        c->at++;
        return LQ_OK;
    }
    for (;;) {
        if (object) {
            skip_blanks(c);
            LQ_TRY(check_string(c));
            skip_blanks(c);
            if (peek(c) != ':')
                return broken(c, "':' was expected");
            c->at++;
        }
        LQ_TRY(check_value(c, deeper - 1));
        unsigned next = peek(c);
        if (next != close && next != ',')
            return broken(c, object ? "',' or '}' was expected" : "',' or ']' was expected");
        c->at++;
        if (next == close)
            return LQ_OK;
    }
}

/* A value and the blanks around it. */
static lq_status check_value(cursor *c, unsigned deeper)
{
    skip_blanks(c);
    unsigned byte = peek(c);
    if (byte == '{' || byte == '[')
        LQ_TRY(check_container(c, deeper));
    else if (byte == '"')
        LQ_TRY(check_string(c));
    else if (byte == '-' || is_digit(byte))
        LQ_TRY(check_number(c));
    else
        LQ_TRY(check_word(c, byte == 't' ? "true" : byte == 'f' ? "false" : "null"));
    skip_blanks(c);
    return LQ_OK;
}

lq_status lq_json_check(const char *text, size_t n, const char *where, unsigned deepest)
{
    const unsigned char *begin = (const unsigned char *)text;
    cursor c = {begin, begin, begin + n, where};
    LQ_TRY(check_value(&c, deepest));
    return c.at == c.end ? LQ_OK : broken(&c, "text after the value");
}
