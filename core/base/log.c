#include "core/base/log.h"

#include "core/base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double first_shown_s = 2.0, terminal_every_s = 0.2, plain_every_s = 10.0;

static bool quiet_now;
static bool line_is_open; /* the terminal's last line is a progress line, not yet ended */

void lq_log_quiet(bool quiet) { quiet_now = quiet; }

static void clear_line(void)
{
    if (line_is_open)
        fputs("\r\033[K", stderr);
    line_is_open = false;
}

static void say(const char *before, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void say(const char *before, const char *format, va_list args)
{
    clear_line();
    fputs(before, stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void lq_log_info(const char *format, ...)
{
    if (quiet_now)
        return;
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
}

void lq_log_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("warning: ", format, args);
    va_end(args);
}

lq_progress lq_progress_resume(const char *what, size_t first, size_t total, const char *unit)
{
    double now = lq_clock_wall_s();
    return (lq_progress){what, unit, total, now, now, first, false};
}

lq_progress lq_progress_start(const char *what, size_t total, const char *unit)
{
    return lq_progress_resume(what, 0, total, unit);
}

/* "training: step 120 of 300, 12.0 s left, loss 2.31" */
static void compose(char *line, size_t room, const lq_progress *p, size_t done, double elapsed_s,
                    const char *remark)
{
    char left[64] = "";
    if (done > p->first && done < p->total) {
        char duration[32];
        double rate = (double)(done - p->first) / elapsed_s;
        lq_log_duration((double)(p->total - done) / rate, duration);
        snprintf(left, sizeof left, ", %s left", duration);
    }
    snprintf(line, room, "%s: %s %zu of %zu%s%s%s", p->what, p->unit, done, p->total, left,
             *remark ? ", " : "", remark);
}

static size_t terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
        return size.ws_col;
    return 80;
}

void lq_progress_update(lq_progress *p, size_t done, const char *format, ...)
{
    if (quiet_now)
        return;
    double now = lq_clock_wall_s(), elapsed_s = now - p->started_s;
    if (elapsed_s < first_shown_s)
        return;
    bool terminal = isatty(STDERR_FILENO) == 1;
    if (now - p->shown_s < (terminal ? terminal_every_s : plain_every_s))
        return;
    char remark[256], line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(remark, sizeof remark, format, args);
    va_end(args);
    compose(line, sizeof line, p, done, elapsed_s, remark);
    if (terminal) {
        size_t columns = terminal_columns(); /* a line that wraps could not be rewritten */
        if (strlen(line) >= columns && columns <= sizeof line)
            line[columns - 1] = '\0';
        clear_line();
        fputs(line, stderr);
        fflush(stderr);
        line_is_open = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
    p->shown = true;
    p->shown_s = now;
}

void lq_progress_end(lq_progress *p)
{
    if (!p->shown)
        return;
    char duration[32];
    lq_log_duration(lq_clock_wall_s() - p->started_s, duration);
    clear_line();
    fprintf(stderr, "%s: done in %s\n", p->what, duration);
    p->shown = false;
}

/* Digits at *at, and moves behind them; false: there are none, or too many. */
static bool read_count(const char **at, size_t *out)
{
    char *end;
    if (**at < '0' || **at > '9')
        return false;
    errno = 0;
    *out = strtoul(*at, &end, 10);
    *at = end;
    return errno == 0;
}

bool lq_progress_read(const char *line, const char *what, size_t *done, size_t *total)
{
    const size_t n = strlen(what), of = strlen(" of ");
    if (strncmp(line, what, n) != 0 || strncmp(line + n, ": ", 2) != 0)
        return false;
    line += n + 2;
    line += strcspn(line, " \n"); /* the unit */
    if (*line++ != ' ' || !read_count(&line, done) || strncmp(line, " of ", of) != 0)
        return false;
    line += of;
    return read_count(&line, total) && *total > 0 && *done <= *total;
}

void lq_log_duration(double seconds, char out[32])
{
    if (!(seconds >= 0.0 && seconds < 1e9)) {
        snprintf(out, 32, "an unknown time");
        return;
    }
    long whole = lrint(seconds);
    if (seconds < 59.95)
        snprintf(out, 32, "%.1f s", seconds);
    else if (whole < 3600)
        snprintf(out, 32, "%ld min %02ld s", whole / 60, whole % 60);
    else
        snprintf(out, 32, "%ld h %02ld min", whole / 3600, whole % 3600 / 60);
}
