/* Shared by resolving a run (run_resolve.c) and executing it (run.c). */
#ifndef LQ_EXPERIMENTS_RUN_PARTS_H
#define LQ_EXPERIMENTS_RUN_PARTS_H

#include "experiments/recipe.h"

/* The member "method" of a run, or of its member "start". */
lq_status lq_run_method(const lq_json *run, const char *where, lq_arena *arena,
                        const lq_method **method, void **opts);

/* What the model is quantized by before the run's method begins from those weights: UPQ's 16 -> 4 -> 2.
 * "start": {"method": {...}, "blockwise": {...}}. */
typedef struct lq_run_start {
    const lq_method *method; /* NULL: the method begins from full precision */
    void *opts;
    lq_recipe recipe; /* of which only the block-wise stage is read */
} lq_run_start;
/* The directory of another tokenizer than the model's own; NULL: none was asked for. */
const char *lq_run_tokenizer(const lq_json *run);
lq_status lq_run_start_read(const lq_json *run, lq_arena *arena, lq_run_start *out);

#endif
