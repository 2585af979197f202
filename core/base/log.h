/* What the user sees on stderr while a command works. On a terminal one line that rewrites itself;
 * elsewhere a plain line every ten seconds. Nothing is shown for work shorter than two seconds.
 *
 *     lq_progress p = lq_progress_start("training", n_steps, "step");
 *     lq_progress_update(&p, step, "loss %.3f", loss);
 *     lq_progress_end(&p); */
#ifndef LQ_BASE_LOG_H
#define LQ_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

typedef struct lq_progress {
    const char *what, *unit; /* borrowed */
    size_t total;
    double started_s, shown_s;
    size_t first; /* where a resumed piece of work began */
    bool shown;
} lq_progress;

void lq_log_quiet(bool quiet); /* no progress and no info */
void lq_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void lq_log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

lq_progress lq_progress_start(const char *what, size_t total, const char *unit);
lq_progress lq_progress_resume(const char *what, size_t first, size_t total, const char *unit);
/* `done` of total; the rest is a short remark, may be "". Cheap: call it as often as you like. */
void lq_progress_update(lq_progress *p, size_t done, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void lq_progress_end(lq_progress *p);
/* The reverse, for who reads the log of another process: is `line` (to its end or a line feed) one of work
 * `what`? Then its two numbers, done <= total, total > 0. */
bool lq_progress_read(const char *line, const char *what, size_t *done, size_t *total);
void lq_log_duration(double seconds, char out[32]); /* "1 h 05 min", "3 min 20 s", "4.2 s" */

#endif
