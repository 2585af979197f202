/* A frozen weight on a grid that is tuned: what OmniQuant and AutoRound share. Training sees the weight and
 * whatever the method adds to it; what ships is codes, steps and zeros, as of any uniform grid.
 *
 * Slots "weight" (out,in) and "step", "zero" (out,groups), all fixed; the method's own come after. A step of 0
 * means that the grid is still the method's to compute; after ->unpack the three hold the levels, and the
 * grid they lie on, and the method's own slots mean nothing. */
#ifndef LQ_QUANT_TUNED_GRID_H
#define LQ_QUANT_TUNED_GRID_H

#include "core/quant/grid.h"

enum { LQ_TUNED_WEIGHT, LQ_TUNED_STEP, LQ_TUNED_ZERO, LQ_TUNED_SLOTS };

void lq_tuned_layout(const lq_grid_rule *rule, size_t out, size_t in, lq_slot *slot);
/* Writes the grid of a settled theta; false: it is not settled. */
bool lq_tuned_settled(const lq_theta *th, size_t row, size_t group, lq_grid *grid);
/* The extremes of a group of the weight. */
void lq_tuned_extremes(const lq_theta *th, const lq_grid_rule *rule, size_t row, size_t group,
                       float *min, float *max);

typedef struct lq_tuned_map { /* of a method: theta -> grids and codes */
    lq_grid_rule (*rule)(const void *opts);
    lq_grid (*grid)(const lq_theta *th, size_t row, size_t group);
    int (*code)(const lq_theta *th, lq_grid grid, size_t row, size_t column); /* 0..q_max */
} lq_tuned_map;
/* As they stand in the table of a method, whose ->tuned_map says the rest. */
void lq_tuned_effective(const lq_theta *th, float *w_eff, lq_arena *scratch);
/* LQ_E_NUMERIC: a continuous slot or a step is not finite. The bytes are lq_grid_pack's. */
lq_status lq_tuned_pack(const lq_theta *th, lq_sink *bytes);
lq_status lq_tuned_unpack(lq_theta *th, lq_source *bytes);

#endif
