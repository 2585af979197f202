/* Brings an entry of the catalog to this machine: its sources are tried in their order, each verified, and
 * the folder takes its name when it is whole. */
#ifndef LQ_EXPERIMENTS_SOURCES_H
#define LQ_EXPERIMENTS_SOURCES_H

#include "core/base/json.h"
#include "core/data/fetch.h"

typedef struct lq_bring {
    const char *kind;          /* only sources of this kind; NULL: all */
    const char *file;          /* a file on this machine instead of the sources; NULL: none */
    const lq_fetch_pace *pace; /* NULL: the usual one */
} lq_bring;

/* `file` is copied when its SHA-256 is that of a file which the catalog lists for the entry, and the entry
 * then has this one file. LQ_E_OPTION: no source of that kind, not such a file; LQ_E_MISSING, LQ_E_IO, LQ_E_FORMAT: none worked, each with its
 * reason in the note; LQ_E_STOPPED. What is here already is left as it is; two processes take turns. */
lq_status lq_source_bring(const char *list, const lq_json *entry, const lq_bring *how);

/* What a model that the catalog names needs to be here; LQ_OK for one that it does not name, or that is of
 * the repository. */
lq_status lq_source_bring_model(const char *name);

#endif
