/* datasets/catalog.json: the one list of models and data sets that have a name. */
#ifndef LQ_EXPERIMENTS_CATALOG_H
#define LQ_EXPERIMENTS_CATALOG_H

#include "core/base/arena.h"
#include "core/base/json.h"

/* A file or folder of the repository: beside the working directory, or above the program. NULL: none. */
const char *lq_repository_path(const char *relative, lq_arena *arena);
/* Owned: lq_json_free. LQ_E_MISSING: no catalog beside the working directory or the program. */
lq_status lq_catalog_read(lq_json **out);
/* The entry of a name in the list "models" or "datasets"; NULL: none. */
const lq_json *lq_catalog_find(const lq_json *catalog, const char *list, const char *name);
/* Is everything of the entry on this machine? */
bool lq_catalog_here(const lq_json *entry);
/* `lcqat models` and `lcqat datasets`. */
lq_status lq_catalog_print(const char *list, bool json);

#endif
