/* What a run costs, before it is run: for the order of a sweep, and for the time left. Only ratios matter. */
#ifndef LQ_EXPERIMENTS_COST_H
#define LQ_EXPERIMENTS_COST_H

#include "core/base/json.h"
#include "experiments/pool.h"

/* Tokens of forward work times the parameters of the model, of a resolved point; the parts under the names of
 * their progress lines. `per_token` is lq_cost_parameters() of its model. */
double lq_cost_of(const lq_json *resolved, double per_token, lq_job_part part[LQ_JOB_PARTS]);
/* Weights that a token is multiplied with, by MODEL's config.json; without one the bytes of its weights, about
 * one a weight in GGUF; 1 where there is neither. */
double lq_cost_parameters(const char *model);

#endif
