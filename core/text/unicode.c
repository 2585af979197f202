#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Normalizes a stretch; `codes` has room for `room` code points and grows. */
static lq_status normalize_stretch(utf8proc_option_t options, const char *text, size_t bytes,
                                   utf8proc_int32_t **codes, size_t *room, lq_buffer *out)
{
    utf8proc_ssize_t n;
    for (;;) {
        n = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, *codes,
                               (utf8proc_ssize_t)*room, options);
        if (n >= 0 && (size_t)n <= *room)
            break;
        size_t wanted = n < 0 ? 0 : (size_t)n + 64;
        utf8proc_int32_t *grown = wanted ? realloc(*codes, wanted * sizeof *grown) : NULL;
        if (!grown)
            return lq_fail(LQ_E_MEMORY, "no memory to normalize %zu bytes of text", bytes);
        *codes = grown;
        *room = wanted;
    }
    n = utf8proc_normalize_utf32(*codes, n, options);
    LQ_ASSERT(n >= 0);
    LQ_TRY(lq_buffer_reserve(out, 4 * (size_t)n));
    for (utf8proc_ssize_t i = 0; i < n; i++)
        out->n += lq_utf8_put((uint32_t)(*codes)[i], out->data + out->n);
    return LQ_OK;
}

static bool is_ascii(char c) { return (unsigned char)c < 0x80; }

lq_status lq_unicode_normalize(lq_form form, const char *text, size_t bytes, lq_buffer *out)
{
    const utf8proc_option_t options =
        (utf8proc_option_t)(UTF8PROC_STABLE |
                            (form == LQ_NFC || form == LQ_NFKC ? UTF8PROC_COMPOSE
                                                               : UTF8PROC_DECOMPOSE) |
                            (form == LQ_NFKC || form == LQ_NFKD ? UTF8PROC_COMPAT : 0));
    utf8proc_int32_t *codes = NULL;
    size_t room = 0;
    lq_status status = LQ_OK;
    for (size_t i = 0; status == LQ_OK && i < bytes;) {
        size_t plain = i; /* ASCII is its own normal form; its last character may take marks */
        while (plain < bytes && is_ascii(text[plain]))
            plain++;
        if (plain < bytes && plain > i)
            plain--;
        status = lq_buffer_add(out, text + i, plain - i);
        i = plain;
        size_t end = i < bytes ? i + 1 : i;
        while (end < bytes && !is_ascii(text[end]))
            end++;
        if (status == LQ_OK && end > i)
            status = normalize_stretch(options, text + i, end - i, &codes, &room, out);
        i = end;
    }
    free(codes);
    return status;
}

lq_status lq_unicode_lower(const char *text, size_t bytes, lq_buffer *out)
{
    LQ_TRY(lq_buffer_reserve(out, 3 * bytes)); /* U+0130, two bytes, becomes three; others less */
    for (size_t i = 0; i < bytes;) {
        uint32_t code;
        i += lq_utf8_next(text + i, bytes - i, &code);
        if (code == 0x130) { /* the only one that becomes two characters */
            out->n += lq_utf8_put('i', out->data + out->n);
            code = 0x307;
        }
        code = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        out->n += lq_utf8_put(code, out->data + out->n);
    }
    return LQ_OK;
}

uint32_t lq_unicode_title(uint32_t code)
{
    return (uint32_t)utf8proc_totitle((utf8proc_int32_t)code);
}

lq_status lq_unicode_strip_accents(const char *text, size_t bytes, lq_buffer *out)
{
    LQ_TRY(lq_buffer_reserve(out, bytes));
    for (size_t i = 0; i < bytes;) {
        uint32_t code;
        size_t length = lq_utf8_next(text + i, bytes - i, &code);
        const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
        if (c < UTF8PROC_CATEGORY_MN || c > UTF8PROC_CATEGORY_ME) {
            memcpy(out->data + out->n, text + i, length);
            out->n += length;
        }
        i += length;
    }
    return LQ_OK;
}

bool lq_unicode_is_word(uint32_t code)
{
    const utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    if ((c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NL) || c == UTF8PROC_CATEGORY_PC)
        return true; /* L, M, Nd, Nl in the order of utf8proc.h */
    return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
           (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
           (code >= 0x1F170 && code <= 0x1F189);
}
