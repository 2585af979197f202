/* The safetensors files of one model: model.safetensors, or the shards that model.safetensors.index.json
 * lists. All stay mapped until lq_shards_close; nothing is copied. */
#ifndef LQ_DATA_SHARDS_H
#define LQ_DATA_SHARDS_H

#include "core/base/sha256.h"
#include "core/data/safetensors.h"

typedef struct lq_shards {
    const char *path; /* of the one file, or of the index */
    size_t n;
    lq_safetensors *file; /* (n), by name */
} lq_shards;

/* LQ_E_MISSING: neither is there, or a shard is not. LQ_E_FORMAT: a broken file; an index that names a file
 * outside the folder, puts a tensor where it is not, leaves one out, or has one twice. */
lq_status lq_shards_open(const char *dir, lq_arena *arena, lq_shards *out);
void lq_shards_close(lq_shards *shards);
const lq_tensor *lq_shards_find(const lq_shards *shards, const char *name); /* or NULL */
/* Of model.safetensors; of shards the SHA-256 of their digests (32 bytes each), in order of their names. */
lq_status lq_shards_digest(const char *dir, lq_arena *scratch, lq_digest *out);

#endif
