/* Slopes that stand in for the derivative of rounding, where two methods use the same one. */
#ifndef LQ_QUANT_GATE_H
#define LQ_QUANT_GATE_H

/* StableQAT, arXiv:2601.19320, with one harmonic of amplitude a: (1-c)/(1+c), c = sqrt(2) pi a cos(theta),
 * theta = pi (u + rint(u)), in code units: 0.035 on a level and 1 where u is undecided, for a = 0.21. Of
 * theta only the fraction of u counts, for u + rint(u) is an even number more than it. */
typedef struct lq_stable_gate {
    float amplitude; /* sqrt(2) pi a, below 1; 0: the slope is 1 everywhere */
} lq_stable_gate;
lq_stable_gate lq_stable_gate_of(double a);
float lq_stable_slope(lq_stable_gate gate, float u);

#endif
