#include "core/train/schedule.h"

#include <math.h>

/* Half a cosine, from 1 at share = 0 to 0 at share = 1. */
static double half_cosine(double share) { return 0.5 * (1.0 + cos(acos(-1.0) * share)); }

double lq_schedule_factor(const lq_schedule *s, size_t step, size_t total)
{
    if (step < s->warmup)
        return (double)(step + 1) / (double)s->warmup;
    const double share = (double)(step - s->warmup) / (double)(total - s->warmup);
    if (s->kind == LQ_SCHEDULE_COSINE)
        return half_cosine(share);
    if (s->kind == LQ_SCHEDULE_LINEAR)
        return 1 - share;
    if (s->kind == LQ_SCHEDULE_WSD && step + s->decay >= total)
        return half_cosine((double)(step + s->decay - total + 1) / (double)(s->decay + 1));
    return 1.0;
}
