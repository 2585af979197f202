/* Status codes of every function that the world (files, memory, options, arithmetic) can make fail.
 *
 *     lq_status load(const char *path)
 *     {
 *         LQ_TRY(lq_file_read(path, ...));                 // passes a failure on, untouched
 *         if (bad)
 *             return lq_fail(LQ_E_FORMAT, "%s: what is wrong; what to do", path);
 *         return LQ_OK;
 *     }
 *
 * The code travels up; the story is told once, in the note, where it is known. Only main() exits. */
#ifndef LQ_BASE_STATUS_H
#define LQ_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>

/* X(name, exit status of the program, meaning) */
#define LQ_STATUS_LIST(X)                                              \
    X(LQ_OK, 0, "done")                                                \
    X(LQ_E_OPTION, 2, "an option, a spec key or an argument is wrong") \
    X(LQ_E_UNAVAILABLE, 2, "not available in this version")            \
    X(LQ_E_IO, 1, "the system refused to open, read or write")         \
    X(LQ_E_MISSING, 1, "a file, a tensor or an entry is not there")    \
    X(LQ_E_FORMAT, 1, "a file breaks the rules of its format")         \
    X(LQ_E_SHAPE, 1, "sizes do not fit together")                      \
    X(LQ_E_NUMERIC, 1, "not finite, or not positive definite")         \
    X(LQ_E_MEMORY, 1, "out of memory")                                 \
    X(LQ_E_STOPPED, 1, "stopped by the user; the state is saved")

typedef enum lq_status {
#define X(name, exit_status, meaning) name,
    LQ_STATUS_LIST(X)
#undef X
} lq_status;

/* Stores the note (cut at 1023 bytes, one line) for this thread and returns `code`. */
lq_status lq_fail(lq_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The last note of this thread; "" when nothing failed yet. Valid until the next lq_fail. */
const char *lq_status_note(void);
const char *lq_status_name(lq_status code);    /* "LQ_E_IO" */
const char *lq_status_meaning(lq_status code); /* "the system refused ..." */
int lq_status_exit(lq_status code);            /* 0, 1 or 2 */

#define LQ_TRY(expression)                \
    do {                                  \
        lq_status lq_try_ = (expression); \
        if (lq_try_ != LQ_OK)             \
            return lq_try_;               \
    } while (0)

/* A broken promise between our own functions; kept in release builds. Prints and aborts. */
#define LQ_ASSERT(condition)                                  \
    do {                                                      \
        if (!(condition))                                     \
            lq_assert_failed(#condition, __FILE__, __LINE__); \
    } while (0)
_Noreturn void lq_assert_failed(const char *condition, const char *file, int line);

#endif
