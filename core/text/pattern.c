#include "core/text/pattern.h"

#include "core/text/pattern_parts.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct lq_pattern {
    pcre2_code *code;
    bool jit, looks_behind;
};
struct lq_pattern_run {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

enum { LONGEST_SCRIPT_NAME = 40 };

bool lq_pattern_script(const char *name, size_t bytes)
{
    char regex[LONGEST_SCRIPT_NAME + 16] = "\\p{sc:";
    int error;
    PCRE2_SIZE at;
    if (bytes > LONGEST_SCRIPT_NAME)
        return false;
    memcpy(regex + 6, name, bytes);
    regex[6 + bytes] = '}';
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)regex, bytes + 7, PCRE2_UTF, &error, &at, NULL);
    pcre2_code_free(code);
    return code != NULL;
}

/* `regex` is NUL-terminated and in PCRE2's syntax; `shown` is what a note says. */
static lq_status compile(const char *regex, const char *shown, const char *where, lq_pattern *p)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    uint32_t behind = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return lq_fail(LQ_E_MEMORY, "%s: no memory for a regular expression", where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    p->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                            &error, &at, context);
    pcre2_compile_context_free(context);
    if (!p->code) {
        char why[160] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        return lq_fail(LQ_E_FORMAT, "%s: regular expression \"%.200s\": %s", where, shown, why);
    }
    p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
    p->looks_behind = pcre2_pattern_info(p->code, PCRE2_INFO_MAXLOOKBEHIND, &behind) != 0 || behind;
    return LQ_OK;
}

static lq_status create(const char *regex, const char *shown, const char *where, lq_pattern **out)
{
    lq_pattern *p = calloc(1, sizeof *p);
    if (!p)
        return lq_fail(LQ_E_MEMORY, "%s: no memory for a regular expression", where);
    lq_status status = compile(regex, shown, where, p);
    if (status != LQ_OK)
        lq_pattern_close(p);
    else
        *out = p;
    return status;
}

lq_status lq_pattern_open(const char *regex, const char *where, lq_pattern **out)
{
    lq_buffer translated = {0};
    *out = NULL;
    lq_status status = lq_pattern_translate(regex, where, &translated);
    if (status == LQ_OK)
        status = create(translated.data, regex, where, out);
    lq_buffer_free(&translated);
    return status;
}

lq_status lq_pattern_open_literal(const char *text, size_t bytes, const char *where,
                                  lq_pattern **out)
{
    lq_buffer regex = {0};
    lq_status status = LQ_OK;
    *out = NULL;
    for (size_t i = 0; status == LQ_OK && i < bytes; i++) {
        if (text[i] != '\0' && strchr("\\^$.[]|()?*+{}-#", text[i]))
            status = lq_buffer_add(&regex, "\\", 1);
        if (status == LQ_OK)
            status = lq_buffer_add(&regex, text + i, 1);
    }
    if (status == LQ_OK)
        status = lq_buffer_add(&regex, "", 1);
    if (status == LQ_OK)
        status = create(regex.data, text, where, out);
    lq_buffer_free(&regex);
    return status;
}

void lq_pattern_close(lq_pattern *pattern)
{
    if (pattern)
        pcre2_code_free(pattern->code);
    free(pattern);
}

bool lq_pattern_looks_behind(const lq_pattern *pattern) { return pattern->looks_behind; }

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

/* PCRE2's match at or after `from`. */
static int match_at(const lq_pattern *p, lq_pattern_run *run, const char *text, size_t bytes,
                    size_t from, uint32_t partial)
{
    int code = PCRE2_ERROR_JIT_STACKLIMIT;
    if (p->jit)
        code = pcre2_jit_match(p->code, (PCRE2_SPTR)text, bytes, from, partial, run->match,
                               run->context);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter has the heap to itself */
        code = pcre2_match(p->code, (PCRE2_SPTR)text, bytes, from,
                           partial | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, run->match, run->context);
    return code;
}

lq_status lq_pattern_next(const lq_pattern *pattern, lq_pattern_run *run, const char *text,
                          size_t bytes, bool more, lq_match *match)
{
    lq_match *m = match;
    size_t previous_end = m->end;
    for (;; m->from += lq_utf8_length(text + m->from)) {
        int code = match_at(pattern, run, text, bytes, m->from, more ? PCRE2_PARTIAL_HARD : 0);
        m->kind = code == PCRE2_ERROR_PARTIAL ? LQ_MATCH_OPEN
                  : code >= 0                 ? LQ_MATCH_FOUND
                                              : LQ_MATCH_NONE;
        if (m->kind != LQ_MATCH_FOUND && code != PCRE2_ERROR_NOMATCH &&
            code != PCRE2_ERROR_PARTIAL) {
            char why[160] = "";
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            return lq_fail(LQ_E_MEMORY, "splitting text by a regular expression: %s", why);
        }
        if (m->kind != LQ_MATCH_FOUND)
            return LQ_OK;
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(run->match);
        m->start = span[0];
        m->end = span[1];
        if (m->start < m->end || !m->later || m->end != previous_end)
            break;
        if (m->from >= bytes) {
            m->kind = more ? LQ_MATCH_OPEN : LQ_MATCH_NONE;
            return LQ_OK;
        }
    }
    m->later = true;
    m->from = m->end;
    return LQ_OK;
}
