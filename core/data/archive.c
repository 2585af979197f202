#include "core/data/archive.h"

#include "core/base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

/* Reads all of the entry in hand. *data is owned by the caller (grown with realloc, *room bytes). */
static lq_status read_entry(struct archive *a, const char *where, char **data, size_t *room,
                            size_t *bytes)
{
    for (*bytes = 0;;) {
        if (*bytes == *room) {
            size_t more = *room ? 2 * *room : (size_t)1 << 16;
            if (*room >= LQ_ARCHIVED_LONGEST)
                return lq_fail(LQ_E_FORMAT, "%s: a file of more than %d MiB unpacked", where,
                               LQ_ARCHIVED_LONGEST >> 20);
            char *grown = realloc(*data, more + 1);
            if (!grown)
                return lq_fail(LQ_E_MEMORY, "%s: no memory for %zu bytes unpacked", where, more);
            *data = grown;
            *room = more;
        }
        la_ssize_t got = archive_read_data(a, *data + *bytes, *room - *bytes);
        if (got < 0)
            return lq_fail(LQ_E_FORMAT, "%s: damaged: %s", where, archive_error_string(a));
        if (got == 0)
            break;
        *bytes += (size_t)got;
    }
    (*data)[*bytes] = '\0';
    return LQ_OK;
}

/* The inner archive reads the outer one's entry through this. */
typedef struct nested {
    struct archive *outer;
    char block[1 << 16];
} nested;

static la_ssize_t read_outer(struct archive *inner, void *self, const void **block)
{
    nested *n = self;
    la_ssize_t got = archive_read_data(n->outer, n->block, sizeof n->block);
    if (got < 0)
        archive_set_error(inner, archive_errno(n->outer), "%s", archive_error_string(n->outer));
    *block = n->block;
    return got;
}

static lq_status walk_tar(struct archive *tar, struct archive *outer, const char *where,
                          const lq_archive_visit *visit)
{
    lq_status status = LQ_OK;
    lq_archived file = {0};
    char *data = NULL;
    size_t room = 0;
    struct archive_entry *entry;
    int code = ARCHIVE_OK;
    while (status == LQ_OK && (code = archive_read_next_header(tar, &entry)) == ARCHIVE_OK) {
        file.path = archive_entry_pathname(entry);
        if (!file.path || archive_entry_filetype(entry) != AE_IFREG)
            continue;
        if (strncmp(file.path, "./", 2) == 0)
            file.path += 2;
        if (!visit->wanted(visit->self, file.path))
            continue;
        status = read_entry(tar, where, &data, &room, &file.bytes);
        if (status != LQ_OK)
            break;
        file.data = data;
        la_int64_t packed = archive_filter_bytes(outer, -1);
        file.packed_bytes = packed > 0 ? (size_t)packed : 0;
        status = visit->on_file(visit->self, &file);
    }
    free(data);
    if (status == LQ_OK && code != ARCHIVE_EOF)
        return lq_fail(LQ_E_FORMAT, "%s: damaged: %s", where, archive_error_string(tar));
    return status;
}

static lq_status walk_member(struct archive *outer, const char *where,
                             const lq_archive_visit *visit)
{
    lq_status status = LQ_OK;
    nested *n = malloc(sizeof *n);
    struct archive *tar = archive_read_new();
    if (!n || !tar) {
        status = lq_fail(LQ_E_MEMORY, "%s: no memory to unpack it", where);
        goto free_both;
    }
    n->outer = outer;
    archive_read_support_filter_all(tar);
    archive_read_support_format_tar(tar);
    if (archive_read_open(tar, n, NULL, read_outer, NULL) != ARCHIVE_OK)
        status = lq_fail(LQ_E_FORMAT, "%s: damaged: %s", where, archive_error_string(tar));
    else
        status = walk_tar(tar, outer, where, visit);
free_both:
    archive_read_free(tar);
    free(n);
    return status;
}

lq_status lq_archive_walk_deb(const char *path, const char *member, const lq_archive_visit *visit)
{
    lq_map map; /* opened through our own door first, so that notes on files are alike */
    LQ_TRY(lq_file_map(path, &map));
    struct archive *deb = archive_read_new();
    lq_status status = LQ_OK;
    if (!deb) {
        status = lq_fail(LQ_E_MEMORY, "%s: no memory to unpack it", path);
        goto unmap;
    }
    archive_read_support_format_ar(deb);
    if (archive_read_open_memory(deb, map.data, map.bytes) != ARCHIVE_OK) {
        status = lq_fail(LQ_E_FORMAT, "%s: no Debian package: %s", path, archive_error_string(deb));
        goto close_deb;
    }
    struct archive_entry *entry;
    int code;
    while ((code = archive_read_next_header(deb, &entry)) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry);
        if (name && strncmp(name, member, strlen(member)) == 0) {
            status = walk_member(deb, path, visit);
            goto close_deb;
        }
    }
    status = code == ARCHIVE_EOF
                 ? lq_fail(LQ_E_FORMAT, "%s: no Debian package: it holds no %s", path, member)
                 : lq_fail(LQ_E_FORMAT, "%s: damaged: %s", path, archive_error_string(deb));
close_deb:
    archive_read_free(deb);
unmap:
    lq_file_unmap(&map);
    return status;
}

lq_status lq_archive_unpack(const char *where, const char *data, size_t bytes, lq_arena *arena,
                            char **out, size_t *n)
{
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    char *text = NULL;
    size_t room = 0;
    lq_status status;
    if (!a)
        return lq_fail(LQ_E_MEMORY, "%s: no memory to unpack it", where);
    archive_read_support_filter_all(a);
    archive_read_support_format_raw(a);
    if (archive_read_open_memory(a, data, bytes) != ARCHIVE_OK ||
        archive_read_next_header(a, &entry) != ARCHIVE_OK) {
        status = lq_fail(LQ_E_FORMAT, "%s: damaged: %s", where, archive_error_string(a));
        goto close;
    }
    status = read_entry(a, where, &text, &room, n);
    if (status == LQ_OK)
        status = lq_arena_new(arena, out, *n + 1);
    if (status == LQ_OK)
        memcpy(*out, text, *n);
close:
    free(text);
    archive_read_free(a);
    return status;
}
