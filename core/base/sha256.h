/* SHA-256: the only door to libcrypto. */
#ifndef LQ_BASE_SHA256_H
#define LQ_BASE_SHA256_H

#include "core/base/status.h"

#include <stdint.h>

typedef struct lq_sha256 lq_sha256;
typedef struct lq_digest {
    uint8_t byte[32];
    char hex[65]; /* lower case, NUL-terminated */
} lq_digest;

lq_status lq_sha256_open(lq_sha256 **out); /* LQ_E_MEMORY; owned, freed by _close */
void lq_sha256_add(lq_sha256 *state, const void *data, size_t bytes);
void lq_sha256_close(lq_sha256 *state, lq_digest *out); /* out may be NULL */
lq_status lq_sha256_of(const void *data, size_t bytes, lq_digest *out);
lq_status lq_sha256_file(const char *path, lq_digest *out); /* streams; LQ_E_MISSING, LQ_E_IO */
/* Git's name of the file's content: SHA-1 of "blob SIZE", a NUL and the bytes, in hex. Errors as above.
 * Model hubs tell it for small files; it proves a transfer, not an author. */
lq_status lq_git_blob_id(const char *path, char out[41]);

#endif
