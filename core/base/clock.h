/* Monotonic seconds, CPU seconds, memory, and the user's wish to stop. */
#ifndef LQ_BASE_CLOCK_H
#define LQ_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>

double lq_clock_wall_s(void);       /* monotonic */
double lq_clock_cpu_s(void);        /* this process, all threads */
size_t lq_clock_peak_bytes(void);   /* largest resident set so far */
size_t lq_clock_memory_bytes(void); /* of the machine */
void lq_clock_utc(char out[32]);    /* "2026-11-21T22:54:27Z" */

/* Seconds by stage of some piece of work, in the order of their first mention. */
enum { LQ_MAX_LAPS = 12 };
typedef struct lq_laps {
    size_t n;
    struct {
        const char *name; /* borrowed */
        double s;
    } lap[LQ_MAX_LAPS];
} lq_laps;
void lq_laps_add(lq_laps *laps, const char *name, double seconds); /* NULL laps: does nothing */

void lq_stop_on_signals(void); /* SIGINT and SIGTERM set a flag; a second one kills */
bool lq_stop_asked(void);

#endif
