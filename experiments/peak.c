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

enum { WORDS = 1 << 25, CHUNK = 1 << 16 };
typedef struct memory {
    const uint64_t *word;
    uint64_t sum;
} memory;

static void read_all(void *context)
{
    memory *m = context;
    uint64_t sum = 0;
#pragma omp parallel for schedule(static) reduction(+ : sum) /* whole numbers: any order will do */
    for (size_t at = 0; at < WORDS; at += CHUNK) {
        uint64_t part[8] = {0};
        for (size_t i = at; i < at + CHUNK; i += 8)
            for (size_t j = 0; j < 8; j++)
                part[j] += m->word[i + j];
        for (size_t j = 0; j < 8; j++)
            sum += part[j];
    }
    m->sum = sum; /* somebody looks, so it is done */
}

lq_status lq_memory_peak(lq_arena *arena, double *bytes)
{
    const lq_mark mark = lq_arena_mark(arena);
    uint64_t *word;
    LQ_TRY(lq_arena_new(arena, &word, WORDS));
    for (size_t i = 0; i < WORDS; i++)
        word[i] = i;
    memory m = {.word = word};
    *bytes = (double)WORDS * sizeof *word / lq_median_s(read_all, &m);
    LQ_ASSERT(m.sum == (uint64_t)WORDS * (WORDS - 1) / 2);
    lq_arena_release(arena, mark);
    return LQ_OK;
}
