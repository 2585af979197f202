#include "core/text/utf8.h"

#include <stdlib.h>
#include <string.h>

size_t lq_utf8_length(const char *text)
{
    unsigned char c = (unsigned char)text[0];
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* The second byte's range depends on the first. */
static bool second_fits(unsigned first, unsigned second)
{
    unsigned lowest = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned highest = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    return second >= lowest && second <= highest;
}

size_t lq_utf8_next(const char *text, size_t n, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    *code = s[0];
    if (s[0] < 0x80)
        return 1;
    size_t length = lq_utf8_length(text);
    if (s[0] < 0xC2 || s[0] > 0xF4 || length > n || !second_fits(s[0], s[1]))
        return 0;
    *code = s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        *code = *code << 6 | (s[i] & 0x3F);
    }
    return length;
}

bool lq_utf8_begun(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    if (n == 0 || s[0] < 0xC2 || s[0] > 0xF4 || n >= lq_utf8_length(text))
        return false;
    if (n > 1 && !second_fits(s[0], s[1]))
        return false;
    return n < 3 || (s[2] & 0xC0) == 0x80;
}

size_t lq_utf8_last(const char *text, size_t n)
{
    do
        n--;
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80);
    return n;
}

size_t lq_utf8_prefix(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint64_t eight;
        uint32_t code;
        if (n - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        size_t length = lq_utf8_next(text + i, n - i, &code);
        if (length == 0)
            return i;
        i += length;
    }
    return n;
}

size_t lq_utf8_put(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length; --i > 0; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)((0xF00u >> length & 0xFF) | code);
    return length;
}

bool lq_utf8_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

lq_status lq_buffer_reserve(lq_buffer *buffer, size_t more)
{
    if (more <= buffer->room - buffer->n)
        return LQ_OK;
    size_t room = buffer->room ? buffer->room : 256;
    while (more > room - buffer->n) {
        if (room > SIZE_MAX / 4)
            return lq_fail(LQ_E_MEMORY, "no memory for %zu bytes of text", more);
        room *= 2;
    }
    char *grown = realloc(buffer->data, room);
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "no memory for %zu bytes of text", room);
    buffer->data = grown;
    buffer->room = room;
    return LQ_OK;
}

lq_status lq_buffer_add(lq_buffer *buffer, const char *text, size_t bytes)
{
    LQ_TRY(lq_buffer_reserve(buffer, bytes));
    if (bytes > 0)
        memcpy(buffer->data + buffer->n, text, bytes);
    buffer->n += bytes;
    return LQ_OK;
}

void lq_buffer_free(lq_buffer *buffer)
{
    free(buffer->data);
    *buffer = (lq_buffer){0};
}

/* Bytes of the longest start of a character at text[0, n), which is none: 1 to 3. */
static size_t broken_part(const char *text, size_t n)
{
    size_t length = 1;
    while (length < n && lq_utf8_begun(text, length + 1))
        length++;
    return lq_utf8_begun(text, length) ? length : 1;
}

lq_status lq_utf8_replace(const char *text, size_t bytes, lq_buffer *out)
{
    for (size_t i = 0; i < bytes;) {
        size_t valid = lq_utf8_prefix(text + i, bytes - i);
        LQ_TRY(lq_buffer_add(out, text + i, valid));
        i += valid;
        if (i == bytes)
            break;
        LQ_TRY(lq_buffer_add(out, "\xEF\xBF\xBD", 3));
        i += broken_part(text + i, bytes - i);
    }
    return LQ_OK;
}
