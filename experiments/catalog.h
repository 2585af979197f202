/* datasets/catalog.json: the one list of models and data sets that have a name, and where they are on this
 * machine. docs/formats.md tells what an entry holds; experiments/sources.h brings one here.
 *
 *     LQ_TRY(lq_catalog_locate("models", "SmolLM2-135M", arena, &dir));   // "... type `lcqat fetch ...`" */
#ifndef LQ_EXPERIMENTS_CATALOG_H
#define LQ_EXPERIMENTS_CATALOG_H

#include "core/base/arena.h"
#include "core/base/json.h"

/* A file or folder of the repository: beside the working directory, or above the program. NULL: none. */
const char *lq_repository_path(const char *relative, lq_arena *arena);
/* Owned: lq_json_free. LQ_E_MISSING: no catalog beside the working directory or the program. */
lq_status lq_catalog_read(lq_json **out);
/* The entry of a name, in any case of letters, in the list "models" or "datasets"; NULL: none. */
const lq_json *lq_catalog_find(const lq_json *catalog, const char *list, const char *name);
/* Is everything of the entry on this machine? Looks at sizes; no digest, no network. */
bool lq_catalog_here(const char *list, const lq_json *entry);
/* The folder of an entry that is here: of the repository, of the cache, or of another client's cache. A
 * model's holds Hugging Face's layout or one .gguf file. NULL: it is not here, or it is techdocs, whose
 * folder is the corpus's affair. */
const char *lq_catalog_dir(const char *list, const lq_json *entry, lq_arena *arena);
/* lq_catalog_dir by name. LQ_E_MISSING: no such name (the nearest is named), or not here yet. */
lq_status lq_catalog_locate(const char *list, const char *name, lq_arena *arena, const char **dir);
/* The manifest of an entry that was fetched: source, files with bytes and sha256. Owned; NULL: none. */
lq_json *lq_catalog_manifest(const char *list, const lq_json *entry, lq_arena *arena);
/* What came instead of the model of this name, for tables ("Instruct, Q4_1"); NULL: nothing else than it, or
 * the folder `dir` is not the catalog's but another of that name. */
const char *lq_catalog_model_label(const char *name, const char *dir, lq_arena *arena);
/* $LCQAT_CACHE/LIST/NAME, where a fetched entry lies. LQ_E_FORMAT: the name is none for a folder. */
lq_status lq_catalog_place(const char *list, const lq_json *entry, lq_arena *arena,
                           const char **place);
/* A name that is a file's and no path: letters, digits, ". _ -", no dot at its start. */
bool lq_plain_name(const char *name);
/* `lcqat models` and `lcqat datasets`. */
lq_status lq_catalog_print(const char *list, bool json);

#endif
