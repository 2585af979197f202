/* A model hub that speaks Hugging Face's protocol: what a repository holds at a revision, its files, and
 * rows of a data set as JSON. The environment decides as for every client of it: HF_ENDPOINT, HF_TOKEN
 * (or HF_TOKEN_PATH, $HF_HOME/token), HF_HUB_OFFLINE, HF_HOME, HF_HUB_CACHE.
 *
 *     const lq_hub_repo repo = {"HuggingFaceTB/SmolLM2-135M", "main", false};
 *     LQ_TRY(lq_hub_list(&repo, arena, &listing));
 *     LQ_TRY(lq_hub_fetch(&repo, &listing, &listing.file[i], path, pace)); */
#ifndef LQ_DATA_HUB_H
#define LQ_DATA_HUB_H

#include "core/base/arena.h"
#include "core/data/fetch.h"

typedef struct lq_hub_repo {
    const char *id, *revision; /* "owner/name"; a branch, a tag or a commit */
    bool dataset;              /* of data, else of a model */
} lq_hub_repo;
typedef struct lq_hub_file {
    const char *path; /* in the repository */
    uint64_t bytes;
    const char *sha256, *git; /* one of them; the other is NULL */
} lq_hub_file;
typedef struct lq_hub_listing {
    const char *commit; /* what the revision stood for */
    lq_hub_file *file;
    size_t n;
} lq_hub_listing;

/* LQ_E_MISSING: no such repository or revision, not for us (the note says what to do about it), or
 * HF_HUB_OFFLINE is set; else as lq_fetch_text. pace: NULL for the usual one. */
lq_status lq_hub_list(const lq_hub_repo *repo, const lq_fetch_pace *pace, lq_arena *arena,
                      lq_hub_listing *out);
/* One file of the listing to `path`; size and digest are the hub's, or `sha256` where not NULL. */
lq_status lq_hub_fetch(const lq_hub_repo *repo, const lq_hub_listing *listing,
                       const lq_hub_file *file, const char *sha256, const lq_fetch_pace *pace,
                       const char *path);
/* The directory where another client of the hub keeps this revision; NULL: it does not. In the arena. */
const char *lq_hub_cached(const lq_hub_repo *repo, lq_arena *arena);

typedef struct lq_hub_rows {
    const char *server; /* "https://datasets-server.huggingface.co" */
    const char *dataset, *config, *split;
    size_t n; /* the first so many */
} lq_hub_rows;
/* Writes rows 0..n-1 to `path`, a JSON object a line. Rows that the server cut are LQ_E_FORMAT. PATH.part
 * holds whole rows and is resumed. */
lq_status lq_hub_fetch_rows(const lq_hub_rows *rows, const lq_fetch_pace *pace, const char *path);

#endif
