/* Python's package index, for the wheels that carry data: the simple API in JSON (PEP 691). The index is
 * pip's: PIP_INDEX_URL, else index-url of pip's configuration files, else the public one. */
#ifndef LQ_DATA_PYPI_H
#define LQ_DATA_PYPI_H

#include "core/base/arena.h"
#include "core/data/fetch.h"

typedef struct lq_wheel {
    const char *name, *url; /* of the file; a password in the URL is the configuration's */
    const char *sha256;
    uint64_t bytes; /* 0: the index does not tell */
} lq_wheel;

/* The URL of the index, without a slash at its end. LQ_E_MISSING: PIP_NO_INDEX is set. */
lq_status lq_pypi_index(lq_arena *arena, const char **url);
/* The pure wheel (py3-none-any) of this version. LQ_E_MISSING: no such package or version; LQ_E_FORMAT:
 * an index that speaks no JSON, or tells no sha256. */
lq_status lq_pypi_find(const char *package, const char *version, const lq_fetch_pace *pace,
                       lq_arena *arena, lq_wheel *out);

#endif
