#include "core/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 64 << 10, SIDE_NAMES_TRIED = 100, DEEPEST_TREE = 200 };

struct lq_file {
    int fd;
    bool failed; /* a write went wrong: commit refuses, even when the caller forgot */
    char *path, *side;
    size_t used;
    char buffer[BUFFER_BYTES];
};

/* The note of a failed system call: "PATH: cannot DO: WHY". */
static lq_status refuse(const char *path, const char *what, int error)
{
    lq_status code = error == ENOENT || error == ENOTDIR ? LQ_E_MISSING : LQ_E_IO;
    if (error == ENOSPC || error == EDQUOT)
        return lq_fail(LQ_E_IO, "%s: cannot %s: no space left; free some or write elsewhere", path,
                       what);
    return lq_fail(code, "%s: cannot %s: %s", path, what, strerror(error));
}

/* Like refuse, for writing: a missing directory is the system's refusal, not a missing file. */
static lq_status refuse_write(const char *path, const char *what, int error)
{
    (void)refuse(path, what, error);
    return LQ_E_IO;
}

static lq_status open_to_read(const char *path, int *fd, struct stat *about)
{
    do
        *fd = open(path, O_RDONLY | O_CLOEXEC);
    while (*fd < 0 && errno == EINTR);
    if (*fd < 0)
        return refuse(path, "open", errno);
    int error = fstat(*fd, about) != 0 ? errno : S_ISDIR(about->st_mode) ? EISDIR : 0;
    if (error == 0)
        return LQ_OK;
    close(*fd);
    return refuse(path, "read", error);
}

static ssize_t read_some(int fd, void *to, size_t room)
{
    ssize_t n;
    do
        n = read(fd, to, room < SSIZE_MAX ? room : SSIZE_MAX);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Reads to the end. `expected` is only a hint: what lies under /proc says 0, and a file may grow. */
static lq_status read_all(int fd, const char *path, size_t expected, lq_arena *arena, char **data,
                          size_t *bytes)
{
    size_t room = expected < 4096 ? 4096 : expected + 2, used = 0;
    char *text = lq_arena_alloc(arena, room);
    if (!text)
        return LQ_E_MEMORY;
    for (;;) {
        ssize_t n = read_some(fd, text + used, room - 1 - used);
        if (n < 0)
            return refuse(path, "read", errno);
        if (n == 0)
            break;
        used += (size_t)n;
        if (used == room - 1) {
            char *larger = lq_arena_alloc(arena, 2 * room);
            if (!larger)
                return LQ_E_MEMORY;
            memcpy(larger, text, used);
            text = larger;
            room *= 2;
        }
    }
    text[used] = '\0';
    *data = text;
    *bytes = used;
    return LQ_OK;
}

lq_status lq_file_read(const char *path, lq_arena *arena, char **data, size_t *bytes)
{
    int fd;
    struct stat about;
    LQ_TRY(open_to_read(path, &fd, &about));
    lq_mark mark = lq_arena_mark(arena);
    size_t expected = S_ISREG(about.st_mode) && about.st_size > 0 ? (size_t)about.st_size : 0;
    lq_status status = read_all(fd, path, expected, arena, data, bytes);
    if (status != LQ_OK)
        lq_arena_release(arena, mark);
    close(fd);
    return status;
}

lq_status lq_file_map(const char *path, lq_map *out)
{
    *out = (lq_map){0};
    int fd;
    struct stat about;
    LQ_TRY(open_to_read(path, &fd, &about));
    lq_status status = LQ_OK;
    if (!S_ISREG(about.st_mode)) {
        status = lq_fail(LQ_E_IO, "%s: cannot map: not a regular file", path);
    } else if (about.st_size > 0) {
        size_t bytes = (size_t)about.st_size;
        void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = refuse(path, "map", errno);
        else
            *out = (lq_map){data, bytes};
    }
    close(fd); /* the map outlives it */
    return status;
}

void lq_file_unmap(lq_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->bytes); /* the integer sheds the const */
    *map = (lq_map){0};
}

/* Sets file->side and file->fd. The name carries the process, so that two processes writing one
 * path never share a side file; the counter tells threads, and leftovers of old processes, apart. */
static int open_side(lq_file *file)
{
    static _Atomic unsigned counter;
    size_t room = strlen(file->path) + 64;
    file->side = malloc(room);
    if (!file->side)
        return ENOMEM;
    int error = EEXIST;
    for (int tries = 0; tries < SIDE_NAMES_TRIED && (error == EEXIST || error == EINTR); tries++) {
        snprintf(file->side, room, "%s.%ld-%u.part", file->path, (long)getpid(), counter++);
        file->fd = open(file->side, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        error = file->fd < 0 ? errno : 0;
    }
    return error;
}

lq_status lq_file_create(const char *path, lq_file **out)
{
    *out = NULL;
    lq_file *file = malloc(sizeof *file);
    if (!file)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory for a write buffer", path);
    file->failed = false;
    file->side = NULL;
    file->used = 0;
    file->path = strdup(path);
    int error = file->path ? open_side(file) : ENOMEM;
    if (error != 0) {
        free(file->side);
        free(file->path);
        free(file);
        return refuse_write(path, "create", error);
    }
    *out = file;
    return LQ_OK;
}

static lq_status write_through(lq_file *file, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(file->fd, data, bytes < SSIZE_MAX ? bytes : SSIZE_MAX);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            file->failed = true;
            return refuse_write(file->path, "write", n < 0 ? errno : ENOSPC);
        }
        data += n;
        bytes -= (size_t)n;
    }
    return LQ_OK;
}

static lq_status flush(lq_file *file)
{
    size_t used = file->used;
    file->used = 0;
    return write_through(file, file->buffer, used);
}

lq_status lq_file_write(lq_file *file, const void *data, size_t bytes)
{
    if (bytes > BUFFER_BYTES - file->used)
        LQ_TRY(flush(file));
    if (bytes >= BUFFER_BYTES)
        return write_through(file, data, bytes);
    if (bytes > 0)
        memcpy(file->buffer + file->used, data, bytes);
    file->used += bytes;
    return LQ_OK;
}

lq_status lq_file_printf(lq_file *file, const char *format, ...)
{
    char line[512], *text = line;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length >= (int)sizeof line) {
        text = malloc((size_t)length + 1);
        if (text)
            vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    LQ_ASSERT(length >= 0);
    if (!text) {
        file->failed = true;
        return lq_fail(LQ_E_MEMORY, "%s: out of memory for a line of text", file->path);
    }
    lq_status status = lq_file_write(file, text, (size_t)length);
    if (text != line)
        free(text);
    return status;
}

/* The rename itself lasts only once its directory is synced. File systems without that notion say
 * EINVAL, and a directory we may write but not read cannot be opened: both leave the file whole. */
static lq_status sync_directory(const char *path)
{
    const char *base = lq_path_base(path);
    char *directory = base == path ? strdup(".") : strndup(path, (size_t)(base - path));
    if (!directory)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory", path);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    if (fd < 0)
        return LQ_OK;
    int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error == EIO || error == ENOSPC || error == EDQUOT
               ? refuse_write(path, "sync the directory of", error)
               : LQ_OK;
}

static void discard(lq_file *file)
{
    free(file->side);
    free(file->path);
    free(file);
}

lq_status lq_file_commit(lq_file *file)
{
    lq_status status = LQ_OK;
    if (file->failed)
        status = lq_fail(LQ_E_IO, "%s: an earlier write failed; nothing was written", file->path);
    else
        status = flush(file);
    if (status == LQ_OK && fsync(file->fd) != 0 && errno != EINVAL && errno != EROFS)
        status = refuse_write(file->path, "sync", errno);
    if (close(file->fd) != 0 && status == LQ_OK && errno != EINTR)
        status = refuse_write(file->path, "close", errno);
    if (status == LQ_OK && rename(file->side, file->path) != 0)
        status = refuse_write(file->path, "rename a finished file to this name", errno);
    if (status != LQ_OK)
        unlink(file->side);
    else
        status = sync_directory(file->path);
    discard(file);
    return status;
}

void lq_file_abandon(lq_file *file)
{
    if (!file)
        return;
    close(file->fd);
    unlink(file->side);
    discard(file);
}

lq_status lq_file_write_all(const char *path, const void *data, size_t bytes)
{
    lq_file *file;
    LQ_TRY(lq_file_create(path, &file));
    lq_status status = lq_file_write(file, data, bytes);
    if (status == LQ_OK)
        return lq_file_commit(file);
    lq_file_abandon(file);
    return status;
}

bool lq_path_exists(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

bool lq_path_is_dir(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

lq_status lq_path_make_dirs(const char *path)
{
    char *prefix = strdup(path);
    if (!prefix)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory", path);
    int error = *path ? 0 : ENOENT;
    for (char *end = prefix; *end && error == 0;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char separator = *end;
        *end = '\0';
        /* asked for first: on a read-only file system mkdir may say EROFS of what exists */
        if (!lq_path_is_dir(prefix) && mkdir(prefix, 0777) != 0 &&
            !(errno == EEXIST && lq_path_is_dir(prefix)))
            error = errno == EEXIST ? ENOTDIR : errno;
        *end = separator;
    }
    free(prefix);
    return error == 0 ? LQ_OK : refuse_write(path, "create the directory", error);
}

/* Removes `name` in the directory `parent`; 0 or an errno. Descriptors instead of paths, and
 * O_NOFOLLOW, so that a link that appears meanwhile cannot lead us out of the tree. */
static int remove_at(int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (depth > DEEPEST_TREE)
        return ELOOP;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    int error = directory ? 0 : errno;
    if (!directory && fd >= 0)
        close(fd);
    while (directory && error == 0) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (!entry) {
            error = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = remove_at(fd, entry->d_name, depth + 1);
    }
    if (directory)
        closedir(directory);
    if (error == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        error = errno;
    return error;
}

lq_status lq_path_remove_tree(const char *path)
{
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--; /* "link/" would follow the link */
    char *bare = strndup(path, length);
    if (!bare)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory", path);
    const char *base = lq_path_base(bare);
    int error = EINVAL; /* "", "/", "." and "..": never what was meant */
    if (*base && strcmp(base, ".") != 0 && strcmp(base, "..") != 0)
        error = remove_at(AT_FDCWD, bare, 0);
    free(bare);
    return error == 0 ? LQ_OK : refuse_write(path, "remove", error);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static lq_status list_names(DIR *directory, const char *path, lq_arena *arena, char ***names,
                            size_t *n)
{
    size_t room = 0;
    *names = NULL;
    *n = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (!entry && errno != 0)
            return refuse(path, "list", errno);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (*n == room) {
            char **larger;
            room = room ? 2 * room : 32;
            LQ_TRY(lq_arena_new(arena, &larger, room));
            if (*n > 0)
                memcpy(larger, *names, *n * sizeof *larger);
            *names = larger;
        }
        char *name;
        size_t length = strlen(entry->d_name);
        LQ_TRY(lq_arena_new(arena, &name, length + 1));
        memcpy(name, entry->d_name, length);
        (*names)[(*n)++] = name;
    }
    if (*n > 1)
        qsort(*names, *n, sizeof **names, by_bytes);
    return LQ_OK;
}

lq_status lq_path_list(const char *path, lq_arena *arena, char ***names, size_t *n)
{
    DIR *directory = opendir(path);
    if (!directory)
        return refuse(path, "list", errno);
    lq_mark mark = lq_arena_mark(arena);
    lq_status status = list_names(directory, path, arena, names, n);
    if (status != LQ_OK)
        lq_arena_release(arena, mark);
    closedir(directory);
    return status;
}

const char *lq_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
