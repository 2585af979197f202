#include "experiments/peak.h"

#include "core/base/clock.h"
#include "core/math/gemm.h"

#include <stdlib.h>

enum { REPEATS = 10, ORDER = 1024 };

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double lq_median_s(void (*work)(void *), void *context)
{
    double s[REPEATS];
    work(context);
    for (size_t i = 0; i < REPEATS; i++) {
        const double started = lq_clock_wall_s();
        work(context);
        s[i] = lq_clock_wall_s() - started;
    }
    qsort(s, REPEATS, sizeof s[0], by_value);
    return 0.5 * (s[(REPEATS - 1) / 2] + s[REPEATS / 2]);
}

typedef struct square {
    float *a, *b, *c;
} square;

static void multiply(void *context)
{
    const square *s = context;
    lq_gemm_nt(ORDER, ORDER, ORDER, 1, s->a, ORDER, s->b, ORDER, 0, s->c, ORDER);
}

lq_status lq_gemm_peak(lq_arena *arena, double *flops)
{
    square s;
    LQ_TRY(lq_arena_new(arena, &s.a, ORDER * ORDER));
    LQ_TRY(lq_arena_new(arena, &s.b, ORDER * ORDER));
    LQ_TRY(lq_arena_new(arena, &s.c, ORDER * ORDER));
    for (size_t i = 0; i < ORDER * ORDER; i++) {
        s.a[i] = (float)(i % 7) * 0.1f;
        s.b[i] = (float)(i % 5) * 0.1f;
    }
    *flops = 2.0 * ORDER * ORDER * (double)ORDER / lq_median_s(multiply, &s);
    return LQ_OK;
}
