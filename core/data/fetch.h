/* Bytes from the network, proved before they have a name.
 *
 *     lq_fetch want = {.what = "wikitext2", .url = url, .bytes = 4721645, .sha256 = "ef7edb56..."};
 *     LQ_TRY(lq_fetch_file(&want, "cache/wikitext-2-raw-v1.zip", NULL));
 *
 * Only https, with the certificate checked; plain http only to this machine (127.0.0.1, localhost,
 * [::1]), for mirrors and tests that run on it. A redirect never leads from https to http, at most
 * eight are followed, and the token goes to the scheme, host and port of the first URL and to no other.
 * Proxies come from the environment (https_proxy, no_proxy); CURL_CA_BUNDLE or SSL_CERT_FILE names
 * other certificates. */
#ifndef LQ_DATA_FETCH_H
#define LQ_DATA_FETCH_H

#include "core/base/arena.h"

typedef struct lq_fetch_pace {
    unsigned attempts;   /* in a row that bring not one byte */
    unsigned backoff_ms; /* before the second one; doubled each time, a minute at most */
    unsigned stall_s;    /* so long below 100 bytes a second ends an attempt */
} lq_fetch_pace;
extern const lq_fetch_pace lq_fetch_usual; /* 5 attempts, 1 s, 30 s */

typedef struct lq_fetch {      /* what is wanted; borrowed for the call */
    const char *what;          /* what progress calls it */
    const char *url;           /* a user:password in it is sent, and never shown */
    const char *token;         /* a bearer token for the host of url; NULL: none */
    const char *accept;        /* media type; NULL: any */
    uint64_t bytes;            /* exact size; 0: unknown */
    const char *sha256;        /* 64 hex digits; NULL: unknown */
    const char *git;           /* git's id of the blob, 40 hex digits; NULL: unknown */
    const lq_fetch_pace *pace; /* NULL: the usual one */
} lq_fetch;

typedef struct lq_reply {  /* of the last hop */
    long http;             /* status; 0: no answer */
    char type[96];         /* Content-Type without parameters */
    char next[1024];       /* URL of the header Link: <URL>; rel="next"; "": none */
    char error[64];        /* X-Error-Code of a model hub; "": none */
    char etag[160];        /* strong ones only */
    uint64_t length;       /* bytes of the body; UINT64_MAX: not told */
    uint64_t first, total; /* of Content-Range; UINT64_MAX: not told */
    double retry_after_s;  /* 0: not told */
} lq_reply;

/* Brings the file to `path`. What arrives is kept in PATH.part until size and digest are proved, then
 * renamed: after a failure nothing is left but a PATH.part that a later call resumes (by Range, and only
 * when a size or digest can prove the result), after a wrong size or digest nothing at all. PATH that is
 * there and proved is left as it is. Two processes take turns (PATH.lock). reply may be NULL.
 * LQ_E_MISSING: the server says there is none, or not for us (401, 403); LQ_E_FORMAT: not the bytes that
 * were promised; LQ_E_IO: the network, a forbidden redirect, the disk; LQ_E_STOPPED. */
lq_status lq_fetch_file(const lq_fetch *want, const char *path, lq_reply *reply);

/* A reply of at most `most` bytes, NUL after it, in the arena: listings, not data. */
lq_status lq_fetch_text(const lq_fetch *want, size_t most, lq_arena *arena, char **text, size_t *n,
                        lq_reply *reply);

/* `reference` (absolute, or relative to `base`) as an absolute URL in the arena. LQ_E_FORMAT: it is none,
 * or one that a redirect from `base` may not have either. */
lq_status lq_fetch_resolve(const char *base, const char *reference, lq_arena *arena,
                           const char **url);
/* Text as one segment or more of a URL's path: all but letters, digits, "-._~" and '/' as %XX. */
const char *lq_fetch_escape(const char *text, lq_arena *arena);

#endif
