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

/* The pair, of dh/2, whose wave turns `turns` times in the context before. */
static double pair_of_turns(double turns, double theta, const lq_rope_scaling *s, size_t dh)
{
    return (double)dh * log(s->original / (turns * 2 * pi)) / (2 * log(theta));
}

/* _compute_yarn_parameters: pairs before that of `high` turns are kept, those after that of `low` divided. */
static double yarn(double inv, double theta, const lq_rope_scaling *s, size_t dh, size_t i)
{
    double first = pair_of_turns(s->high, theta, s, dh), last = pair_of_turns(s->low, theta, s, dh);
    if (!s->between) {
        first = floor(first);
        last = ceil(last);
    }
    first = fmax(first, 0);
    last = fmin(last, (double)dh - 1);
    const double width = first == last ? 0.001 : last - first;
    const double divided = fmin(fmax(((double)i - first) / width, 0), 1);
    return inv / s->factor * divided + inv * (1 - divided);
}

double lq_rope_gain(const lq_rope_scaling *s) { return s->kind == LQ_ROPE_YARN ? s->gain : 1; }

double lq_rope_yarn_gain(double factor, double mscale, double mscale_all)
{
    const double l = factor > 1 ? 0.1 * log(factor) : 0;
    return mscale != 0 && mscale_all != 0 ? (1 + mscale * l) / (1 + mscale_all * l) : 1 + l;
}

float lq_rope_frequency(double theta, const lq_rope_scaling *scaling, size_t dh, size_t i)
{
    const double inv = plain(theta, dh, i);
    if (scaling->kind == LQ_ROPE_LINEAR)
        return (float)(inv / scaling->factor);
    if (scaling->kind == LQ_ROPE_LLAMA3)
        return (float)llama3(inv, scaling);
    if (scaling->kind == LQ_ROPE_YARN)
        return (float)yarn(inv, theta, scaling, dh, i);
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
