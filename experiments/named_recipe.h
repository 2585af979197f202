/* The recipes that have a name: experiments/recipes/NAME.json, where NAME is "common" or
 * "efficientqat/published". A recipe says how a run trains, not what is quantized nor on how much text:
 *
 *     { "about": "...", "source": "...", "authors": { what they used, for the reader },
 *       "run": { "train": {...}, "calib": {...}, "blockwise": {...}, "start": {...} },
 *       "bits": { "3": {...}, "4": {...} },               over "run" where the method has so many bits
 *       "methods": { "upq": {...}, "*": {...} },          over that for a method, or for those not named
 *       "scaling": { "context": true, "least_steps": 100, "calib_tokens": true } }
 *
 * "methods" may hold options of the method, too ("method": {...}). A run's own settings come last.
 * docs/recipes.md lists the recipes and says what is scaled to a small model, and why. */
#ifndef LQ_EXPERIMENTS_NAMED_RECIPE_H
#define LQ_EXPERIMENTS_NAMED_RECIPE_H

#include "core/base/json.h"

/* Is `name` the recipe of runs that name none? */
bool lq_recipe_is_common(const char *name);
/* LQ_E_OPTION: no name of a recipe; LQ_E_MISSING: no file, the note lists those there are; LQ_E_FORMAT and
 * LQ_E_OPTION: a bad file. Owned: lq_json_free. */
lq_status lq_recipe_load(const char *name, lq_json **out);
/* Takes from `run` every setting that the recipe states: a spec's defaults make way for a recipe. */
lq_status lq_recipe_make_way(const char *name, lq_json *run);
/* *expanded: point over its recipe (member "recipe", absent: common), scaled; owned. *changed, in the arena:
 * "train.lr train.batch", the recipe's settings that the point has otherwise; "" for none. */
lq_status lq_recipe_expand(const lq_json *point, lq_arena *arena, lq_json **expanded,
                           const char **changed);
/* Members of `from` over those of `into`; where both are objects, member by member. */
void lq_json_merge(lq_json *into, const lq_json *from);

#endif
