/* GPTQ (arXiv:2210.17323; IST-DASLab/gptq 2d65066, gptq.py): the codes of a grid under the loss
 * tr(E H E'), E = W - What, chosen column by column. */
#ifndef LQ_QUANT_GPTQ_H
#define LQ_QUANT_GPTQ_H

#include "core/quant/grid.h"

typedef struct lq_gptq_how {
    lq_grid_rule rule;
    double sigma_reg;   /* damping: this share of the mean of H's diagonal (percdamp) */
    bool act_order;     /* columns by falling diagonal of H */
    bool static_groups; /* all grids are fitted on W as it comes */
    bool stale_groups;  /* as released: grids miss the corrections of their block of 128 */
} lq_gptq_how;

/* Fills the grid slots of th (lq_grid_layout) from finite w (out,in) and gram (in,in) = H. With act_order
 * and no static groups, groups are runs of the new order: group_of (in), if not NULL, receives the group
 * of each column. LQ_E_NUMERIC: H is not finite, or not positive definite after the largest damping
 * tried; a step overflows fp16. */
lq_status lq_gptq(lq_theta *th, const float *w, const double *gram, const lq_gptq_how *how,
                  float *group_of, lq_arena *scratch);

#endif
