#include "core/base/sha256.h"

#include <openssl/evp.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK_BYTES = 256 << 10 };

struct lq_sha256 {
    EVP_MD_CTX *context;
};

lq_status lq_sha256_open(lq_sha256 **out)
{
    *out = NULL;
    lq_sha256 *state = malloc(sizeof *state);
    if (state)
        state->context = EVP_MD_CTX_new();
    if (!state || !state->context || EVP_DigestInit_ex(state->context, EVP_sha256(), NULL) != 1) {
        if (state)
            EVP_MD_CTX_free(state->context);
        free(state);
        return lq_fail(LQ_E_MEMORY, "out of memory for a SHA-256 digest");
    }
    *out = state;
    return LQ_OK;
}

void lq_sha256_add(lq_sha256 *state, const void *data, size_t bytes)
{
    if (bytes == 0)
        return;
    int done = EVP_DigestUpdate(state->context, data, bytes);
    LQ_ASSERT(done == 1); /* it fails only on a context that was never opened */
}

void lq_sha256_close(lq_sha256 *state, lq_digest *out)
{
    static const char hex[] = "0123456789abcdef";
    if (!state)
        return;
    if (out) {
        int done = EVP_DigestFinal_ex(state->context, out->byte, NULL);
        LQ_ASSERT(done == 1);
        for (size_t i = 0; i < sizeof out->byte; i++) {
            out->hex[2 * i] = hex[out->byte[i] >> 4];
            out->hex[2 * i + 1] = hex[out->byte[i] & 15];
        }
        out->hex[2 * sizeof out->byte] = '\0';
    }
    EVP_MD_CTX_free(state->context);
    free(state);
}

lq_status lq_sha256_of(const void *data, size_t bytes, lq_digest *out)
{
    lq_sha256 *state;
    LQ_TRY(lq_sha256_open(&state));
    lq_sha256_add(state, data, bytes);
    lq_sha256_close(state, out);
    return LQ_OK;
}

/* All bytes of the file into the context. */
static lq_status add_file(FILE *file, const char *path, EVP_MD_CTX *context)
{
    unsigned char *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory for a digest", path);
    for (size_t n; (n = fread(chunk, 1, CHUNK_BYTES, file)) > 0;) {
        int done = EVP_DigestUpdate(context, chunk, n);
        LQ_ASSERT(done == 1);
    }
    free(chunk);
    return ferror(file) ? lq_fail(LQ_E_IO, "%s: cannot read: %s", path, strerror(errno)) : LQ_OK;
}

static lq_status open_file(const char *path, FILE **out)
{
    *out = fopen(path, "rbe");
    if (!*out)
        return lq_fail(errno == ENOENT || errno == ENOTDIR ? LQ_E_MISSING : LQ_E_IO,
                       "%s: cannot open: %s", path, strerror(errno));
    return LQ_OK;
}

lq_status lq_sha256_file(const char *path, lq_digest *out)
{
    FILE *file;
    lq_sha256 *state = NULL;
    LQ_TRY(open_file(path, &file));
    lq_status status = lq_sha256_open(&state);
    if (status == LQ_OK)
        status = add_file(file, path, state->context);
    lq_sha256_close(state, status == LQ_OK ? out : NULL);
    fclose(file);
    return status;
}

lq_status lq_git_blob_id(const char *path, char out[41])
{
    FILE *file;
    struct stat about;
    char head[32];
    unsigned char id[EVP_MAX_MD_SIZE];
    LQ_TRY(open_file(path, &file));
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    lq_status status = LQ_OK;
    if (fstat(fileno(file), &about) != 0)
        status = lq_fail(LQ_E_IO, "%s: cannot read: %s", path, strerror(errno));
    else if (!context || EVP_DigestInit_ex(context, EVP_sha1(), NULL) != 1)
        status = lq_fail(LQ_E_MEMORY, "%s: out of memory for a digest", path);
    if (status == LQ_OK) {
        const int n = snprintf(head, sizeof head, "blob %lld", (long long)about.st_size);
        int done = EVP_DigestUpdate(context, head, (size_t)n + 1); /* the NUL is part of it */
        LQ_ASSERT(done == 1);
        status = add_file(file, path, context);
    }
    if (status == LQ_OK) {
        int done = EVP_DigestFinal_ex(context, id, NULL);
        LQ_ASSERT(done == 1);
        for (size_t i = 0; i < 20; i++)
            snprintf(out + 2 * i, 3, "%02x", id[i]);
    }
    EVP_MD_CTX_free(context);
    fclose(file);
    return status;
}
