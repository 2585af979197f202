/* Private to fetching: one request with its redirects, as fetch.c makes it and download.c asks for it. */
#ifndef LQ_DATA_FETCH_PARTS_H
#define LQ_DATA_FETCH_PARTS_H

#include "core/data/fetch.h"

typedef struct lq_exchange {
    const lq_fetch *want;
    uint64_t from;        /* first byte wanted; 0: all, without a Range */
    const char *if_range; /* an ETag; the Range holds only for it. NULL: any */
    void *self;
    /* The headers of a 200 or 206 are in: once, also for an empty body. A failure ends the exchange. */
    lq_status (*on_begin)(void *self, const lq_reply *reply);
    lq_status (*on_data)(void *self, const char *data, size_t n);
} lq_exchange;

typedef struct lq_outlook { /* of a failed exchange */
    bool again;             /* another attempt may go better */
    bool unreachable;       /* no connection at all */
} lq_outlook;

/* LQ_OK: 200 and 206, all of the body went to on_data; and 416, no body. */
lq_status lq_exchange_run(const lq_exchange *x, lq_reply *reply, lq_outlook *outlook);

#endif
