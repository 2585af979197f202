/* What this machine can do at best, as the measure of everything else. */
#ifndef LQ_EXPERIMENTS_PEAK_H
#define LQ_EXPERIMENTS_PEAK_H

#include "core/base/arena.h"

/* Median seconds of ten calls after one to warm up. */
double lq_median_s(void (*work)(void *), void *context);
/* FLOP/s of a float product of order 1024, on all threads. */
lq_status lq_gemm_peak(lq_arena *arena, double *flops);
/* Bytes per second that all threads together read from memory, out of 256 MB. */
lq_status lq_memory_peak(lq_arena *arena, double *bytes);

#endif
