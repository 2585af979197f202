/* Rows of a data set, a hundred a request, for sets that the hub keeps in a form we do not read. */
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/lock.h"
#include "core/base/log.h"
#include "core/data/archive.h"
#include "core/data/hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 100, PAGE_BYTES = 256 << 20 };

static lq_status append(int fd, const char *path, const char *text, size_t n)
{
    while (n > 0) {
        const ssize_t done = write(fd, text, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return lq_fail(LQ_E_IO, "%s: cannot write: %s", path, strerror(errno));
        text += done;
        n -= (size_t)done;
    }
    return LQ_OK;
}

/* One row as one line: keys sorted, so that the bytes are the row's alone. */
static lq_status write_row(int fd, const char *part, const lq_json *node, size_t index,
                           lq_arena *scratch)
{
    const lq_json *row = lq_json_get(node, "row");
    if (lq_json_type(row) != LQ_JSON_OBJECT ||
        lq_json_number(lq_json_get(node, "row_idx")) != (double)index)
        return lq_fail(LQ_E_FORMAT, "%s: the server sends another row than number %zu", part,
                       index);
    if (lq_json_count(lq_json_get(node, "truncated_cells")) > 0)
        return lq_fail(LQ_E_FORMAT, "%s: the server cut a cell of row %zu", part, index);
    const char *text = lq_json_canonical(row, scratch);
    LQ_TRY(append(fd, part, text, strlen(text)));
    return append(fd, part, "\n", 1);
}

static lq_status write_page(int fd, const char *part, const lq_json *page, size_t first,
                            size_t wanted, size_t *written, lq_arena *scratch)
{
    const lq_json *rows = lq_json_get(page, "rows");
    *written = lq_json_count(rows);
    if (lq_json_type(rows) != LQ_JSON_ARRAY || *written > wanted)
        return lq_fail(LQ_E_FORMAT, "%s: the server's answer holds no rows, or too many", part);
    size_t index = first;
    for (const lq_json *node = lq_json_first(rows); node != NULL; node = lq_json_next(node))
        LQ_TRY(write_row(fd, part, node, index++, scratch));
    return LQ_OK;
}

static lq_status one_page(const lq_hub_rows *rows, const lq_fetch_pace *pace, int fd,
                          const char *part, size_t first, size_t *written)
{
    lq_arena arena = {0};
    lq_json *page = NULL;
    char *text;
    size_t n;
    const size_t wanted = rows->n - first < AT_ONCE ? rows->n - first : AT_ONCE;
    const lq_fetch want = {
        .what = rows->dataset,
        .url = lq_arena_printf(
            &arena, "%s/rows?dataset=%s&config=%s&split=%s&offset=%zu&length=%zu", rows->server,
            lq_fetch_escape(rows->dataset, &arena), lq_fetch_escape(rows->config, &arena),
            lq_fetch_escape(rows->split, &arena), first, wanted),
        .pace = pace};
    lq_status status = lq_fetch_text(&want, PAGE_BYTES, &arena, &text, &n, NULL);
    if (status == LQ_OK)
        status = lq_json_parse(text, n, rows->dataset, &page);
    if (status == LQ_OK)
        status = write_page(fd, part, page, first, wanted, written, &arena);
    lq_json_free(page);
    lq_arena_close(&arena);
    return status;
}

typedef struct counted { /* whole rows of a part, and their bytes; the last one's */
    size_t lines, bytes, last;
} counted;

/* Stops at what is no JSON: a row cut short, and all behind it. */
static lq_status count_line(void *self, char *line, size_t bytes)
{
    counted *c = self;
    LQ_TRY(lq_json_check(line, bytes, "row", 64));
    c->lines++;
    c->last = bytes + 1;
    c->bytes += bytes + 1;
    return LQ_OK;
}

static lq_status resume(const char *part, size_t most, int *fd, size_t *rows)
{
    counted c = {0};
    *fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (*fd < 0)
        return lq_fail(LQ_E_IO, "%s: cannot write: %s", part, strerror(errno));
    const lq_status status = lq_archive_lines(part, &c, count_line);
    if (status != LQ_OK && status != LQ_E_FORMAT)
        return status;
    if (lseek(*fd, 0, SEEK_END) < (off_t)c.bytes) { /* the line feed of the last one is missing */
        c.lines--;
        c.bytes -= c.last;
    }
    if (c.lines > most)
        c = (counted){0};
    *rows = c.lines;
    if (ftruncate(*fd, (off_t)c.bytes) != 0 || lseek(*fd, 0, SEEK_END) < 0)
        return lq_fail(LQ_E_IO, "%s: cannot write: %s", part, strerror(errno));
    return LQ_OK;
}

static lq_status fetch_all(const lq_hub_rows *rows, const lq_fetch_pace *pace, int fd,
                           const char *part, size_t have)
{
    lq_progress progress = lq_progress_resume(rows->dataset, have, rows->n, "row");
    lq_status status = LQ_OK;
    while (status == LQ_OK && have < rows->n) {
        size_t written = 0;
        status = one_page(rows, pace, fd, part, have, &written);
        if (status == LQ_OK && written == 0)
            status = lq_fail(LQ_E_FORMAT, "%s: the server has %zu rows, %zu are wanted",
                             rows->dataset, have, rows->n);
        have += written;
        lq_progress_update(&progress, have, "%s", "");
        if (status == LQ_OK && lq_stop_asked())
            status = lq_fail(LQ_E_STOPPED, "%s: stopped; the next fetch goes on from here",
                             rows->dataset);
    }
    lq_progress_end(&progress);
    if (status == LQ_OK && fsync(fd) != 0 && errno != EINVAL)
        status = lq_fail(LQ_E_IO, "%s: cannot sync: %s", part, strerror(errno));
    return status;
}

lq_status lq_hub_fetch_rows(const lq_hub_rows *rows, const lq_fetch_pace *pace, const char *path)
{
    lq_arena arena = {0};
    lq_lock lock;
    int fd = -1;
    size_t have = 0;
    const char *part = lq_arena_printf(&arena, "%s.part", path);
    lq_status status = lq_file_lock(lq_arena_printf(&arena, "%s.lock", path), &lock);
    if (status == LQ_OK) {
        status = resume(part, rows->n, &fd, &have);
        if (status == LQ_OK)
            status = fetch_all(rows, pace, fd, part, have);
        if (status == LQ_OK && rename(part, path) != 0)
            status = lq_fail(LQ_E_IO, "%s: cannot rename to this name: %s", path, strerror(errno));
        if (fd >= 0 && status != LQ_OK && lseek(fd, 0, SEEK_END) == 0)
            unlink(part);
        if (fd >= 0)
            close(fd);
        lq_file_unlock(&lock);
    }
    lq_arena_close(&arena);
    return status;
}
