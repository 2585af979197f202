/* Comparisons for tests: a NaN is never close, and every checker here is itself tested. */
#ifndef LQ_TESTS_CHECK_H
#define LQ_TESTS_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/base/status.h"

static inline bool lq_close(double got, double want, double rtol, double atol)
{
    return fabs(got - want) <= atol + rtol * fabs(want); /* false when either is NaN */
}

/* The largest |got - want| over n values, NaN when any value is one. */
static inline double lq_worst(const float *got, const float *want, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst))
            worst = d;
    }
    return worst;
}

#define check_ok(expression)                                   \
    do {                                                       \
        lq_status check_ok_ = (expression);                    \
        if (check_ok_ != LQ_OK)                                \
            fail_msg("%s: %s", #expression, lq_status_note()); \
    } while (0)
#define check_close(got, want, rtol, atol)                              \
    do {                                                                \
        const double got_ = (got), want_ = (want);                      \
        if (!lq_close(got_, want_, rtol, atol))                         \
            fail_msg("%s = %.9g, %s = %.9g", #got, got_, #want, want_); \
    } while (0)

static inline void lq_fill_normal(float *x, size_t n, lq_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)lq_rng_normal(rng);
}

#endif
