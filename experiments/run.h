/* One experiment: a model, a method, a budget; calibrated, quantized, trained, packed, measured on the
 * packed bytes. What `lcqat run` does, and what a sweep does many times.
 *
 * A point is JSON (docs/add-an-experiment.md lists every key). Resolving writes every default out and
 * puts digests beside the names of model and data; the SHA-256 of the resolved canonical text is the id. */
#ifndef LQ_EXPERIMENTS_RUN_H
#define LQ_EXPERIMENTS_RUN_H

#include "core/base/json.h"
#include "core/store/store.h"

/* LQ_E_OPTION: an unknown key, a wrong value, by path ("run: train.lr ..."). LQ_E_MISSING: model or data
 * not there. Owned: lq_json_free. */
lq_status lq_run_resolve(const lq_json *point, lq_json **resolved);
/* Executes a resolved point and commits its record to the store: FINISHED, or DIVERGED with the reason.
 * `work` is a directory for the checkpoint of this run (made; lq_run_clear when done); keep_dir, if not NULL,
 * receives the packed model. A failure of the world (files, memory) is returned and nothing is stored. */
lq_status lq_run_execute(const lq_json *resolved, lq_store *store, const char *work,
                         const char *keep_dir);
/* Removes what a run that is stored needs no more in `work`: its checkpoint, the packed model that it
 * measured, the point and the log of the sweep that began it, and the lock, since nobody will compute it
 * again. What is not there is fine. */
lq_status lq_run_clear(const char *work, const char *id);

#endif
