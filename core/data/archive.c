#include "core/data/archive.h"

#include "core/base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

enum { IO_BYTES = 1 << 18 }; /* read at once */

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

/* --- members of a zip, to disk ------------------------------------------------------------------- */

static lq_status copy_entry(struct archive *a, const char *where, const lq_member *m, lq_file *out)
{
    static const uint64_t most = (uint64_t)1 << 40;
    const void *block;
    size_t n;
    la_int64_t at;
    uint64_t done = 0;
    int code;
    while ((code = archive_read_data_block(a, &block, &n, &at)) == ARCHIVE_OK) {
        if (at < 0 || (uint64_t)at != done || n > (m->bytes ? m->bytes : most) - done)
            return lq_fail(LQ_E_FORMAT, "%s: %s is longer than promised", where, m->from);
        LQ_TRY(lq_file_write(out, block, n));
        done += n;
    }
    if (code != ARCHIVE_EOF)
        return lq_fail(LQ_E_FORMAT, "%s: damaged: %s", where, archive_error_string(a));
    if (m->bytes > 0 && done != m->bytes)
        return lq_fail(LQ_E_FORMAT, "%s: %s has %llu bytes, %llu are right", where, m->from,
                       (unsigned long long)done, (unsigned long long)m->bytes);
    return LQ_OK;
}

static lq_status extract_entry(struct archive *a, struct archive_entry *entry, const char *where,
                               const lq_member *m)
{
    lq_file *out;
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
        return lq_fail(LQ_E_FORMAT, "%s: %s is no regular file", where, m->from);
    LQ_TRY(lq_file_create(m->to, &out));
    const lq_status status = copy_entry(a, where, m, out);
    if (status == LQ_OK)
        return lq_file_commit(out);
    lq_file_abandon(out);
    return status;
}

static lq_status extract_all(struct archive *a, const char *where, const lq_member *members,
                             size_t n, bool *done)
{
    struct archive_entry *entry;
    int code;
    size_t left = n;
    while (left > 0 && (code = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry);
        for (size_t i = 0; name != NULL && i < n; i++) {
            if (done[i] || strcmp(name, members[i].from) != 0)
                continue;
            LQ_TRY(extract_entry(a, entry, where, &members[i]));
            done[i] = true;
            left--;
            break;
        }
    }
    if (left > 0 && code != ARCHIVE_EOF)
        return lq_fail(LQ_E_FORMAT, "%s: damaged: %s", where, archive_error_string(a));
    for (size_t i = 0; i < n; i++)
        if (!done[i])
            return lq_fail(LQ_E_FORMAT, "%s: holds no %s", where, members[i].from);
    return LQ_OK;
}

lq_status lq_archive_extract(const char *path, const lq_member *members, size_t n)
{
    lq_map map; /* as above: notes on files are alike */
    LQ_TRY(lq_file_map(path, &map));
    lq_file_unmap(&map);
    lq_status status;
    struct archive *a = archive_read_new();
    bool *done = calloc(n + 1, sizeof *done);
    if (!a || !done)
        status = lq_fail(LQ_E_MEMORY, "%s: no memory to unpack it", path);
    else if (archive_read_support_format_zip(a) != ARCHIVE_OK ||
             archive_read_open_filename(a, path, IO_BYTES) != ARCHIVE_OK)
        status = lq_fail(LQ_E_FORMAT, "%s: no zip file: %s", path, archive_error_string(a));
    else
        status = extract_all(a, path, members, n, done);
    free(done);
    archive_read_free(a);
    return status;
}

/* --- lines --------------------------------------------------------------------------------------- */

typedef struct liner { /* the line in hand */
    const char *where;
    char *text;
    size_t n, room;
    void *self;
    lq_status (*on_line)(void *self, char *line, size_t bytes);
} liner;

static lq_status line_grow(liner *l, const char *data, size_t n)
{
    if (n > LQ_LINE_LONGEST - l->n)
        return lq_fail(LQ_E_FORMAT, "%s: a line of more than %d MiB", l->where,
                       LQ_LINE_LONGEST >> 20);
    if (l->n + n + 1 > l->room) {
        const size_t room = 2 * (l->n + n + 1);
        char *grown = realloc(l->text, room);
        if (!grown)
            return lq_fail(LQ_E_MEMORY, "%s: no memory for a line", l->where);
        l->text = grown;
        l->room = room;
    }
    if (n > 0)
        memcpy(l->text + l->n, data, n);
    l->n += n;
    l->text[l->n] = '\0';
    return LQ_OK;
}

static lq_status split_lines(liner *l, const char *data, size_t n)
{
    while (n > 0) {
        const char *feed = memchr(data, '\n', n);
        const size_t part = feed ? (size_t)(feed - data) : n;
        LQ_TRY(line_grow(l, data, part));
        if (!feed)
            break;
        LQ_TRY(l->on_line(l->self, l->text, l->n));
        l->n = 0;
        data += part + 1;
        n -= part + 1;
    }
    return LQ_OK;
}

static lq_status read_lines(struct archive *a, liner *l)
{
    static _Thread_local char block[IO_BYTES];
    struct archive_entry *entry;
    la_ssize_t got = 0;
    const int code = archive_read_next_header(a, &entry);
    if (code == ARCHIVE_EOF)
        return LQ_OK; /* an empty file has no entry */
    if (code != ARCHIVE_OK)
        return lq_fail(LQ_E_FORMAT, "%s: damaged: %s", l->where, archive_error_string(a));
    while ((got = archive_read_data(a, block, sizeof block)) > 0)
        LQ_TRY(split_lines(l, block, (size_t)got));
    if (got < 0)
        return lq_fail(LQ_E_FORMAT, "%s: damaged: %s", l->where, archive_error_string(a));
    return l->n > 0 ? l->on_line(l->self, l->text, l->n) : LQ_OK;
}

lq_status lq_archive_lines(const char *path, void *self,
                           lq_status (*on_line)(void *self, char *line, size_t bytes))
{
    lq_map map;
    liner l = {.where = path, .self = self, .on_line = on_line};
    LQ_TRY(lq_file_map(path, &map));
    lq_file_unmap(&map);
    struct archive *a = archive_read_new();
    if (!a)
        return lq_fail(LQ_E_MEMORY, "%s: no memory to read it", path);
    archive_read_support_filter_gzip(a); /* by name: "all" would start programs for the rare ones */
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_format_raw(a);
    archive_read_support_format_empty(a);
    lq_status status = LQ_OK;
    if (archive_read_open_filename(a, path, IO_BYTES) != ARCHIVE_OK)
        status = lq_fail(LQ_E_FORMAT, "%s: damaged: %s", path, archive_error_string(a));
    else
        status = read_lines(a, &l);
    free(l.text);
    archive_read_free(a);
    return status;
}
