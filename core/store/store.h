/* Append-only run records: one JSON file a run, DIR/<id>.json, written aside and renamed, never
 * rewritten. The id is the SHA-256 of the resolved configuration's canonical text.
 *
 *     lq_store *store;
 *     LQ_TRY(lq_store_open("results/mini/runs", &store));
 *     if (!lq_store_has(store, resolved, &id)) {
 *         lq_run *run;
 *         LQ_TRY(lq_run_begin(store, resolved, &run));
 *         lq_run_metric(run, "perplexity", "1", 12.3);
 *         LQ_TRY(lq_run_commit(run, LQ_FINISHED, ""));
 *     } */
#ifndef LQ_STORE_STORE_H
#define LQ_STORE_STORE_H

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/base/status.h"

#include <stdint.h>

typedef enum lq_outcome { LQ_FINISHED, LQ_DIVERGED, LQ_STOPPED } lq_outcome;
typedef struct lq_store lq_store;
typedef struct lq_run lq_run;

lq_status lq_store_open(const char *root, lq_store **out); /* makes the directory; LQ_E_IO */
void lq_store_close(lq_store *store);
const char *lq_store_root(const lq_store *store);
lq_status lq_store_id(const lq_json *resolved, lq_digest *id);
bool lq_store_has(const lq_store *store, const lq_json *resolved, lq_digest *id);
/* The record of an id, owned by the caller. LQ_E_MISSING; LQ_E_FORMAT, also when the id is not the
 * digest of the configuration in it. Such a file counts as not there, and a commit replaces it. */
lq_status lq_store_read(const lq_store *store, const char *id, lq_json **record);
/* Of a record: a metric's value, NaN when it has none; how it ended; a number that may be spelt out. */
double lq_store_metric(const lq_json *record, const char *metric);
lq_outcome lq_store_outcome(const lq_json *record);
double lq_store_number(const lq_json *value);
/* All ids in the store, sorted. Files that are no records are skipped with a warning. */
lq_status lq_store_list(const lq_store *store, lq_arena *arena, char ***ids, size_t *n);

lq_status lq_run_begin(lq_store *store, const lq_json *resolved,
                       lq_run **out);                                       /* LQ_E_IO: is there */
void lq_run_point(lq_run *run, const char *series, double x, double value); /* NaN is spelt out */
void lq_run_metric(lq_run *run, const char *metric, const char *unit, double value);
void lq_run_attach(lq_run *run, const char *key, lq_json *value); /* provenance; takes it over */
/* Writes {id, outcome, note, config, metrics: {name: {value, unit}}, series: {name: {x: [], value: []}},
 * ..., started, wall_s, cpu_s, peak_bytes}; frees run, also when it fails. */
lq_status lq_run_commit(lq_run *run, lq_outcome outcome, const char *note);
void lq_run_abandon(lq_run *run); /* nothing is written; frees; NULL is fine */

#endif
