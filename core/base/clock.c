#include "core/base/clock.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double lq_clock_wall_s(void) { return seconds_of(CLOCK_MONOTONIC); }
double lq_clock_cpu_s(void) { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

/* VmHWM rather than ru_maxrss: on Linux the latter survives exec, so that a small program started
 * by a large one would report its parent's memory. */
size_t lq_clock_peak_bytes(void)
{
    size_t kib = 0;
    FILE *status = fopen("/proc/self/status", "re");
    if (status) {
        char line[256];
        while (kib == 0 && fgets(line, sizeof line, status))
            if (sscanf(line, "VmHWM: %zu kB", &kib) != 1)
                kib = 0;
        fclose(status);
    }
    struct rusage usage;
    if (kib == 0 && getrusage(RUSAGE_SELF, &usage) == 0)
        kib = (size_t)usage.ru_maxrss;
    return kib * 1024;
}

size_t lq_clock_memory_bytes(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t)pages * (size_t)page : 0;
}

void lq_clock_utc(char out[32])
{
    time_t now = time(NULL);
    struct tm utc;
    if (!gmtime_r(&now, &utc) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        out[0] = '\0';
}

void lq_laps_add(lq_laps *laps, const char *name, double seconds)
{
    size_t i = 0;
    if (laps == NULL)
        return;
    while (i < laps->n && strcmp(laps->lap[i].name, name) != 0)
        i++;
    if (i == LQ_MAX_LAPS)
        return;
    if (i == laps->n) {
        laps->lap[i].name = name;
        laps->lap[i].s = 0;
        laps->n++;
    }
    laps->lap[i].s += seconds;
}

static atomic_bool stop; /* lock-free, hence fit for a signal handler and for every thread */

static void ask_to_stop(int signal_number)
{
    (void)signal_number;
    stop = true;
    signal(SIGINT, SIG_DFL); /* the second one, of either kind, kills */
    signal(SIGTERM, SIG_DFL);
}

void lq_stop_on_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = ask_to_stop;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool lq_stop_asked(void) { return stop; }
