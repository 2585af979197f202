/* Private to the corpus: how techdocs is made, and what its folder holds. */
#ifndef LQ_DATA_TECHDOCS_H
#define LQ_DATA_TECHDOCS_H

#include "core/base/arena.h"
#include "core/base/sha256.h"

/* Written to the manifest: a folder made by another recipe is made again. Raise it with any change of
 * the sources chosen, the cleaning, the duplicates or the split. */
#define LQ_TECHDOCS_RECIPE 1

typedef enum lq_split {
    LQ_SPLIT_TRAIN,
    LQ_SPLIT_CALIB,
    LQ_SPLIT_VALID,
    LQ_SPLIT_TEST,
    LQ_SPLITS
} lq_split;
extern const char *const lq_split_names[LQ_SPLITS];

/* Of the four split digests' bytes, one after the other in the order of lq_split. */
lq_status lq_techdocs_whole(const lq_digest split[LQ_SPLITS], lq_digest *out);

/* Makes DIR/{train,calib,valid,test}.txt and DIR/manifest.json from the packages' .debs in `debs`,
 * fetching those that are missing or damaged. DIR must exist and be empty. */
lq_status lq_techdocs_build(const char *debs, const char *dir);

#endif
