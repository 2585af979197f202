#include "core/model/rope.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static double plain(double theta, size_t dh, size_t i)
{
    return (double)(float)pow(theta, -2.0 * (double)i / (double)dh);
}

/* transformers, modeling_rope_utils.py, _compute_llama3_parameters: waves longer than original/low are
 * divided by factor, those shorter than original/high kept, in between both are mixed. */
static double llama3(double inv, const lq_rope_scaling *s)
{
    const double wave = 2 * pi / inv;
    if (wave < s->original / s->high)
        return inv;
    if (wave > s->original / s->low)
        return inv / s->factor;
    const double smooth = (s->original / wave - s->low) / (s->high - s->low);
    return (1 - smooth) * inv / s->factor + smooth * inv;
}

float lq_rope_frequency(double theta, const lq_rope_scaling *scaling, size_t dh, size_t i)
{
    const double inv = plain(theta, dh, i);
    if (scaling->kind == LQ_ROPE_LINEAR)
        return (float)(inv / scaling->factor);
    if (scaling->kind == LQ_ROPE_LLAMA3)
        return (float)llama3(inv, scaling);
    return (float)inv;
}

static bool explains(const lq_rope_scaling *s, const float *divisor, double theta, size_t dh)
{
    for (size_t i = 0; i < dh / 2; i++) {
        if (!(divisor[i] > 0))
            return false;
        const double want = plain(theta, dh, i) / (double)divisor[i];
        if (!(fabs((double)lq_rope_frequency(theta, s, dh, i) - want) <= 1e-5 * want))
            return false;
    }
    return true;
}

/* The context before, as the divisor of a wave inside the ramp of llama3's scaling tells it: a whole number. */
static double original_of(const lq_rope_scaling *s, double divisor, double wave)
{
    const double smooth = (s->factor / divisor - 1) / (s->factor - 1);
    return round(wave * (s->low + smooth * (s->high - s->low)));
}

/* Divisors do not say which numbers made them: llama3's longest wave gives the factor, its low and high
 * are 1 and 4 in every release, and the context before is a power of two or what a wave in the ramp tells. */
lq_status lq_rope_of_divisors(const float *divisor, double theta, size_t dh, lq_rope_scaling *out)
{
    *out = (lq_rope_scaling){.kind = LQ_ROPE_PLAIN};
    if (explains(out, divisor, theta, dh))
        return LQ_OK;
    *out = (lq_rope_scaling){.kind = LQ_ROPE_LINEAR, .factor = (double)divisor[dh / 2 - 1]};
    if (out->factor >= 1 && explains(out, divisor, theta, dh))
        return LQ_OK;
    *out = (lq_rope_scaling){
        .kind = LQ_ROPE_LLAMA3, .factor = (double)divisor[dh / 2 - 1], .low = 1, .high = 4};
    for (out->original = 2; out->original <= 1 << 20; out->original *= 2)
        if (out->factor >= 1 && explains(out, divisor, theta, dh))
            return LQ_OK;
    for (size_t i = 0; i < dh / 2; i++) {
        const double d = (double)divisor[i];
        if (!(d > 1 && d < out->factor))
            continue;
        out->original = original_of(out, d, 2 * pi / plain(theta, dh, i));
        if (out->original >= 1 && explains(out, divisor, theta, dh))
            return LQ_OK;
    }
    return lq_fail(LQ_E_FORMAT, "rope_freqs.weight is neither linear nor llama3 scaling");
}
