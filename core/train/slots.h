/* Which slots of a theta move in a stage, as a recipe says it: "all" continuous slots; "scales", those
 * smaller than the weight; or names, "su,sv,affine". */
#ifndef LQ_TRAIN_SLOTS_H
#define LQ_TRAIN_SLOTS_H

#include "core/quant/method.h"

/* Of the weight's shape, or larger. */
bool lq_slot_is_latent(const lq_theta *th, const lq_slot *slot);
/* A slot that is not continuous never moves. */
bool lq_slots_select(const char *list, const lq_theta *th, const lq_slot *slot);
/* LQ_E_OPTION: a name in the list that is no continuous slot of theta; the note begins with `where`. */
lq_status lq_slots_check(const char *list, const char *where, const lq_theta *th);

#endif
