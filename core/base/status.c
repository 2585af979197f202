#include "core/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTE_BYTES = 1024 };
static _Thread_local char last_note[NOTE_BYTES];

static const struct {
    const char *name, *meaning;
    int exit_status;
} statuses[] = {
#define X(name, exit_status, meaning) [name] = {#name, meaning, exit_status},
    LQ_STATUS_LIST(X)
#undef X
};

/* A note is one line whatever was put into it: names come from files, and a file must not be able
 * to write escape sequences to the user's terminal. */
static void keep_one_line(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            *c = *c == '\n' || *c == '\r' || *c == '\t' ? ' ' : '?';
}

lq_status lq_fail(lq_status code, const char *format, ...)
{
    char text[NOTE_BYTES]; /* aside, because an argument may be the last note itself */
    va_list args;
    va_start(args, format);
    if (vsnprintf(text, sizeof text, format, args) < 0)
        text[0] = '\0';
    va_end(args);
    keep_one_line(text);
    memcpy(last_note, text, sizeof last_note);
    return code;
}

const char *lq_status_note(void) { return last_note; }

static size_t index_of(lq_status code)
{
    LQ_ASSERT((size_t)code < sizeof statuses / sizeof *statuses);
    return (size_t)code;
}

const char *lq_status_name(lq_status code) { return statuses[index_of(code)].name; }
const char *lq_status_meaning(lq_status code) { return statuses[index_of(code)].meaning; }
int lq_status_exit(lq_status code) { return statuses[index_of(code)].exit_status; }

_Noreturn void lq_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "lcqat: %s:%d: promise broken: %s\n", file, line, condition);
    abort();
}
