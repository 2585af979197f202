/* Brings an entry of the catalog to this machine: its sources are tried in their order, each verified, and
 * the folder takes its name when it is whole. */
#ifndef LQ_EXPERIMENTS_SOURCES_H
#define LQ_EXPERIMENTS_SOURCES_H

#include "core/base/json.h"
#include "core/data/fetch.h"

typedef struct lq_bring {
    const char *kind;          /* only sources of this kind; NULL: all */
    const lq_fetch_pace *pace; /* NULL: the usual one */
} lq_bring;

/* LQ_E_OPTION: no source of that kind; LQ_E_MISSING, LQ_E_IO, LQ_E_FORMAT: none worked, each with its
 * reason in the note; LQ_E_STOPPED. What is here already is left as it is; two processes take turns. */
lq_status lq_source_bring(const char *list, const lq_json *entry, const lq_bring *how);

#endif
