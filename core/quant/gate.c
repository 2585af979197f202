#include "core/quant/gate.h"

#include <math.h>

static const float pi = 3.14159265f;

lq_stable_gate lq_stable_gate_of(double a)
{
    return (lq_stable_gate){.amplitude = (float)(sqrt(2.0) * a) * pi};
}

float lq_stable_slope(lq_stable_gate gate, float u)
{
    const float c = gate.amplitude * cosf(pi * (u - rintf(u)));
    return (1 - c) / (1 + c);
}
