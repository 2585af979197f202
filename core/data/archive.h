/* Archives: the only door to libarchive. A path from an archive is a name to compare and no more: what is
 * written to disk has the name that the caller gives.
 *
 *     static lq_status on_file(void *self, const lq_archived *file) { ... }
 *     LQ_TRY(lq_archive_walk_deb(path, "data.tar", &(lq_archive_visit){self, wanted, on_file})); */
#ifndef LQ_DATA_ARCHIVE_H
#define LQ_DATA_ARCHIVE_H

#include "core/base/arena.h"

enum {
    LQ_ARCHIVED_LONGEST = 32 << 20 /* bytes of one unpacked file; more is LQ_E_FORMAT */
};

typedef struct lq_archived { /* a regular file of an archive; all borrowed for the call */
    const char *path;        /* as stored, a leading "./" removed */
    const char *data;
    size_t bytes;
    size_t packed_bytes; /* read of the outer archive so far: for progress */
} lq_archived;

typedef struct lq_archive_visit {
    void *self;
    bool (*wanted)(void *self, const char *path);              /* only these are unpacked */
    lq_status (*on_file)(void *self, const lq_archived *file); /* a failure ends the walk */
} lq_archive_visit;

/* Visits the wanted files of a member of a Debian package (an ar archive that holds a tar archive of
 * any compression libarchive knows): the member whose name begins with `member`. LQ_E_MISSING: no such
 * file. LQ_E_FORMAT: no Debian package, damaged, or without that member. */
lq_status lq_archive_walk_deb(const char *path, const char *member, const lq_archive_visit *visit);

/* Unpacks a compressed file (.gz and what else libarchive knows) into the arena, NUL after it.
 * LQ_E_FORMAT: damaged or longer than LQ_ARCHIVED_LONGEST. */
lq_status lq_archive_unpack(const char *where, const char *data, size_t bytes, lq_arena *arena,
                            char **out, size_t *n);

typedef struct lq_member {
    const char *from; /* its path in the archive */
    const char *to;   /* where to write it */
    uint64_t bytes;   /* exact size; 0: unknown */
} lq_member;

/* Writes n members of a zip file (a wheel is one) to their places, each whole or not at all.
 * LQ_E_FORMAT: no zip, damaged, a member absent, no regular file, or of another size. LQ_E_IO. */
lq_status lq_archive_extract(const char *path, const lq_member *members, size_t n);

/* Visits the lines of a text file, compressed (gzip, zstd, xz, bzip2) or plain, one at a time, without
 * their line feed, NUL after it; the last one need not end in a line feed. A failure of on_line ends the
 * walk. LQ_E_MISSING; LQ_E_FORMAT: damaged, or a line of more than LQ_LINE_LONGEST bytes. */
enum { LQ_LINE_LONGEST = 256 << 20 };
lq_status lq_archive_lines(const char *path, void *self,
                           lq_status (*on_line)(void *self, char *line, size_t bytes));

#endif
