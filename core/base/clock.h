/* Monotonic seconds, CPU seconds, peak memory, and the user's wish to stop. */
#ifndef LQ_BASE_CLOCK_H
#define LQ_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>

double lq_clock_wall_s(void);     /* monotonic */
double lq_clock_cpu_s(void);      /* this process, all threads */
size_t lq_clock_peak_bytes(void); /* largest resident set so far */
void lq_clock_utc(char out[32]);  /* "2026-11-21T22:54:27Z" */
void lq_stop_on_signals(void);    /* SIGINT and SIGTERM set a flag; a second one kills */
bool lq_stop_asked(void);

#endif
