#include "core/text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lq_pattern {
    pcre2_code *code;
    bool jit;
};
struct lq_pattern_run {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* Unicode White_Space, for use inside a class. */
#define SPACES                                                                                    \
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}" \
    "\\x{205F}\\x{3000}"

enum { LONGEST_REGEX = 1 << 16 };

/* What the regex's next bytes become: their count, and the text that replaces them (NULL: they stay).
 * 0: refused. */
static size_t translate_one(const char *s, bool in_class, const char **replacement)
{
    *replacement = NULL;
    if (s[0] == '\\' && s[1] == 's')
        *replacement = in_class ? SPACES : "[" SPACES "]";
    else if (s[0] == '\\' && s[1] == 'S')
        *replacement = in_class ? NULL : "[^" SPACES "]";
    if (*replacement)
        return 2;
    if (s[0] == '\\') /* a trailing backslash is left for PCRE2 to refuse */
        return s[1] == '\0' ? 1 : strchr("SwWbBhHRXKGkgQEZzAC", s[1]) ? 0 : 2;
    if (in_class && (s[0] == '[' || (s[0] == '&' && s[1] == '&')))
        return 0; /* Oniguruma: a class in a class, an intersection */
    if (!in_class && s[0] == '(' && s[1] == '?' && s[2] == 'm')
        return 0; /* Ruby's m is dot-all */
    return 1;
}

static lq_status translate(const char *regex, const char *where, char *out, size_t room)
{
    size_t n = 0;
    bool in_class = false;
    for (const char *s = regex; *s;) {
        const char *replacement;
        size_t taken = translate_one(s, in_class, &replacement);
        if (taken == 0)
            return lq_fail(LQ_E_FORMAT,
                           "%s: regular expression \"%.200s\": \"%.2s\" is not supported", where,
                           regex, s);
        if (!in_class && s[0] == '[') {
            in_class = true;
            taken = s[1] == '^' ? 2 : 1;
            taken += s[taken] == ']'; /* right after the opening it is a member */
        } else if (in_class && s[0] == ']') {
            in_class = false;
        }
        size_t length = replacement ? strlen(replacement) : taken;
        if (length >= room - n)
            return lq_fail(LQ_E_FORMAT, "%s: a regular expression of more than %d bytes", where,
                           LONGEST_REGEX);
        memcpy(out + n, replacement ? replacement : s, length);
        n += length;
        s += taken;
    }
    out[n] = '\0';
    return LQ_OK;
}

lq_status lq_pattern_open(const char *regex, const char *where, lq_pattern **out)
{
    lq_pattern *p = calloc(1, sizeof *p);
    char *translated = malloc(LONGEST_REGEX);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    int error = 0;
    PCRE2_SIZE at = 0;
    lq_status status = LQ_OK;
    if (!p || !translated || !context) {
        status = lq_fail(LQ_E_MEMORY, "%s: no memory for a regular expression", where);
        goto done;
    }
    status = translate(regex, where, translated, LONGEST_REGEX);
    if (status != LQ_OK)
        goto done;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    p->code = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &error, &at, context);
    if (!p->code) {
        char why[160] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        status = lq_fail(LQ_E_FORMAT, "%s: regular expression \"%.200s\": %s", where, regex, why);
    } else {
        p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    }
done:
    pcre2_compile_context_free(context);
    free(translated);
    if (status != LQ_OK) {
        lq_pattern_close(p);
        p = NULL;
    }
    *out = p;
    return status;
}

void lq_pattern_close(lq_pattern *pattern)
{
    if (pattern)
        pcre2_code_free(pattern->code);
    free(pattern);
}

lq_status lq_pattern_run_open(lq_pattern_run **out)
{
    lq_pattern_run *run = calloc(1, sizeof *run);
    *out = run;
    if (run) {
        run->match = pcre2_match_data_create(8, NULL);
        run->context = pcre2_match_context_create(NULL);
        run->stack = pcre2_jit_stack_create((size_t)32 << 10, (size_t)16 << 20, NULL);
    }
    if (!run || !run->match || !run->context) {
        lq_pattern_run_close(run);
        *out = NULL;
        return lq_fail(LQ_E_MEMORY, "no memory to match regular expressions");
    }
    /* Without JIT the stack is NULL, which is fine. A match may be a whole document. */
    pcre2_jit_stack_assign(run->context, NULL, run->stack);
    pcre2_set_match_limit(run->context, UINT32_MAX);
    pcre2_set_heap_limit(run->context, 1u << 20); /* KiB */
    return LQ_OK;
}

void lq_pattern_run_close(lq_pattern_run *run)
{
    if (!run)
        return;
    pcre2_jit_stack_free(run->stack);
    pcre2_match_context_free(run->context);
    pcre2_match_data_free(run->match);
    free(run);
}

lq_status lq_pattern_next(const lq_pattern *pattern, lq_pattern_run *run, const char *text,
                          size_t bytes, size_t from, size_t *start, size_t *end)
{
    int code = PCRE2_ERROR_NOMATCH;
    if (from < bytes && pattern->jit)
        code = pcre2_jit_match(pattern->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NOTEMPTY,
                               run->match, run->context);
    else if (from < bytes)
        code = pcre2_match(pattern->code, (PCRE2_SPTR)text, bytes, from,
                           PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK, run->match, run->context);
    *start = *end = bytes;
    if (code == PCRE2_ERROR_NOMATCH)
        return LQ_OK;
    if (code < 0) {
        char why[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return lq_fail(LQ_E_MEMORY, "splitting text by a regular expression: %s", why);
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(run->match);
    *start = span[0];
    *end = span[1];
    return LQ_OK;
}
