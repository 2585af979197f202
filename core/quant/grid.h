/* Uniform grids shared by the scalar methods: a group of weights along `in` has one step and one zero,
 *     w_eff = step * (code - zero),   code = clip(rint(w / step) + zero, 0, q_max).
 * Ties go to even and w / step is a float quotient, as in torch: the level depends on both.
 *
 * A step is rounded to fp16 before the codes are chosen, so what ships is what was measured:
 * docs/decisions/0010-steps-are-fp16-from-the-start.md. */
#ifndef LQ_QUANT_GRID_H
#define LQ_QUANT_GRID_H

#include "core/quant/method.h"

typedef enum lq_grid_scheme { /* lo, hi: lowest and highest weight of the group; M = max(-lo, hi) */
                              LQ_GRID_ASYM, /* lo, hi widened to 0; step (hi-lo)/q_max; zero rint(-lo/step). GPTQ's */
                              LQ_GRID_ASYM_RANGE, /* lo, hi as they are, hi-lo >= 1e-5; zero clip(-rint(lo/step)). AWQ's */
                              LQ_GRID_SYM, /* step 2M/q_max, zero (q_max+1)/2: hi loses a third at 2 bits. GPTQ's --sym */
                              LQ_GRID_SYM_MAX, /* step M/((q_max+1)/2 - 1), zero (q_max+1)/2: the lowest code stays unused */
                              LQ_GRID_FULLRANGE, /* the extreme weight gets code 0; step < 0 when it is hi. AutoRound's */
                              LQ_GRID_REAL_ZERO /* asym with an fp16 zero -lo/step, rounded with the weight: ours, for comparison */
} lq_grid_scheme;
#define LQ_GRID_SCHEMES "asym|asym_range|sym|sym_max|fullrange|real_zero" /* in the order above */

typedef struct lq_grid_rule {
    lq_grid_scheme scheme;
    bool mse;     /* search lo, hi over 80 shrinks for the least sum |error|^2.4 (GPTQ's `mse`) */
    int q_max;    /* levels - 1 = 2^bits - 1 */
    size_t group; /* weights a group; 0: the whole row. The last group of a row may be shorter. */
} lq_grid_rule;
typedef struct lq_grid {
    float step; /* an fp16 number, not 0 */
    float zero; /* an integer in 0..q_max, but with real_zero: any fp16 number, and
                       code = clip(rint(w / step + zero), 0, q_max) */
    bool real_zero;
} lq_grid;

/* The fp16 number nearest to step; the smallest one when that were 0, so that a step never vanishes.
 * Infinite when it overflows. */
float lq_grid_round_step(float step);
/* The grid of n > 0 finite weights. False: the step overflows fp16. A group of zeros gets a grid that
 * codes it to zeros. */
bool lq_grid_fit(const lq_grid_rule *rule, const float *w, size_t n, lq_grid *out);
/* Code of one finite weight, and its value. */
int lq_grid_code(lq_grid grid, int q_max, float w);
float lq_grid_value(lq_grid grid, int code);

/* The theta of such a method: slots "codes" (out,in), "step" (out,groups) and, with the asymmetric schemes,
 * "zero" (out,groups; a code itself, or with real_zero a float). */
size_t lq_grid_groups(const lq_grid_rule *rule, size_t in);
void lq_grid_layout(const lq_grid_rule *rule, size_t out, size_t in, lq_slot *slot,
                    size_t *n_slots);
/* Columns first..end-1 of group g of a row of `in`. */
void lq_grid_span(const lq_grid_rule *rule, size_t in, size_t g, size_t *first, size_t *end);
bool lq_grid_has_zero(const lq_grid_rule *rule);
/* Such a theta of its own, zeroed, in the arena: for methods that ship codes but train something else. It
 * has neither method nor options. */
lq_status lq_grid_theta(const lq_grid_rule *rule, size_t out, size_t in, lq_arena *arena,
                        lq_theta *th);
lq_grid lq_grid_get(const lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group);
void lq_grid_set(lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group, lq_grid grid);
/* group_of (in): the group of each column; NULL: column / rule->group. */
void lq_grid_effective(const lq_theta *th, const lq_grid_rule *rule, const float *group_of,
                       float *w_eff);
/* Codes, row by row; then the steps as fp16; then all zeros as one row of codes, which makes
 * bits + (16 + bits) / group a weight when everything fills its bytes (real_zero: fp16, bits + 32 / group). */
lq_status lq_grid_pack(const lq_theta *th, const lq_grid_rule *rule, lq_sink *bytes);
lq_status lq_grid_unpack(lq_theta *th, const lq_grid_rule *rule, lq_source *bytes);

#endif
