/* Files: whole reads, memory maps, and writes that appear whole or not at all.
 *
 *     lq_file *f;
 *     LQ_TRY(lq_file_create(path, &f));      // writes to a side name next to `path`
 *     status = lq_file_write(f, data, n);
 *     status = status ? (lq_file_abandon(f), status) : lq_file_commit(f);   // sync, rename
 *
 * Every note names the path and what the system said. */
#ifndef LQ_BASE_FILE_H
#define LQ_BASE_FILE_H

#include "core/base/arena.h"
#include "core/base/status.h"

#include <stdint.h>

typedef struct lq_file lq_file;
typedef struct lq_map { /* a file mapped read-only */
    const uint8_t *data;
    size_t bytes;
} lq_map;

/* Whole file into the arena, with a NUL after it. LQ_E_MISSING, LQ_E_IO, LQ_E_MEMORY. */
lq_status lq_file_read(const char *path, lq_arena *arena, char **data, size_t *bytes);
lq_status lq_file_map(const char *path, lq_map *out); /* an empty file maps to bytes = 0 */
void lq_file_unmap(lq_map *map);

lq_status lq_file_create(const char *path, lq_file **out); /* LQ_E_IO; a side file of unique name */
lq_status lq_file_write(lq_file *file, const void *data, size_t bytes);
lq_status lq_file_printf(lq_file *file, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
lq_status
lq_file_commit(lq_file *file);       /* flush, fsync, rename; frees; on failure nothing is left */
void lq_file_abandon(lq_file *file); /* removes the side file; frees; NULL is fine */
lq_status lq_file_write_all(const char *path, const void *data,
                            size_t bytes); /* all of the above */

bool lq_path_exists(const char *path);
bool lq_path_is_dir(const char *path);
lq_status lq_path_make_dirs(const char *path);   /* like mkdir -p */
lq_status lq_path_remove_tree(const char *path); /* absent is fine; does not follow links */
/* Names in a directory, sorted by bytes, without . and .., in the arena. */
lq_status lq_path_list(const char *path, lq_arena *arena, char ***names, size_t *n);
const char *lq_path_base(const char *path); /* after the last '/' */

#endif
