/* Patience and proof: attempts, resumption, size, digest, and the name last. */
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/lock.h"
#include "core/base/log.h"
#include "core/base/sha256.h"
#include "core/data/fetch_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ATTEMPTS_AT_ALL = 200, LONGEST_WAIT_MS = 60 * 1000, TIMES_UNREACHABLE = 2 };
static const uint64_t most_bytes = (uint64_t)1 << 42; /* of a file whose size nobody told */

/* --- attempts --------------------------------------------------------------------------------- */

typedef struct attempt { /* what one attempt says of itself */
    lq_outlook outlook;
    bool gained; /* bytes came */
    double wait_s;
} attempt;

static lq_status wait_ms(double ms, const char *what)
{
    for (; ms > 0; ms -= 100) {
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "%s: stopped; the next fetch goes on from here", what);
        const long step_ms = ms < 100 ? (long)ms : 100;
        nanosleep(&(struct timespec){.tv_nsec = step_ms * 1000 * 1000}, NULL);
    }
    return LQ_OK;
}

static lq_status persist(const lq_fetch *want, lq_status (*once)(void *self, attempt *out),
                         void *self)
{
    const lq_fetch_pace *pace = want->pace ? want->pace : &lq_fetch_usual;
    unsigned in_vain = 0, unreachable = 0;
    double backoff_ms = pace->backoff_ms;
    for (unsigned i = 0;; i++) {
        attempt a = {0};
        const lq_status status = once(self, &a);
        if (status == LQ_OK || !a.outlook.again)
            return status;
        in_vain = a.gained ? 0 : in_vain + 1;
        unreachable = a.outlook.unreachable ? unreachable + 1 : 0;
        if (in_vain >= pace->attempts || unreachable >= TIMES_UNREACHABLE || i >= ATTEMPTS_AT_ALL)
            return status;
        if (a.gained)
            backoff_ms = pace->backoff_ms;
        const double asked_ms = a.wait_s * 1000, ms = asked_ms > backoff_ms ? asked_ms : backoff_ms;
        lq_log_info("fetching %s: %s; trying again", want->what, lq_status_note());
        LQ_TRY(wait_ms(ms < LONGEST_WAIT_MS ? ms : LONGEST_WAIT_MS, want->what));
        backoff_ms *= 2;
    }
}

/* --- to a file -------------------------------------------------------------------------------- */

typedef struct download {
    const lq_fetch *want;
    const char *path, *part;
    lq_reply *reply;
    int fd;              /* of the part */
    uint64_t have;       /* its bytes */
    bool resumed, again; /* continues an earlier one; to be repeated from its start */
    bool wrong;          /* its bytes are not those that were promised */
    char etag[160];      /* of the bytes that this process brought; "": unknown */
    lq_progress progress;
} download;

static bool can_prove(const lq_fetch *want)
{
    return want->bytes > 0 || want->sha256 != NULL || want->git != NULL;
}

static lq_status refuse(const char *path, const char *what)
{
    return lq_fail(LQ_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static lq_status start_over(download *d)
{
    d->have = 0;
    d->etag[0] = '\0';
    if (ftruncate(d->fd, 0) != 0 || lseek(d->fd, 0, SEEK_SET) != 0)
        return refuse(d->part, "empty");
    return LQ_OK;
}

static lq_status on_begin(void *self, const lq_reply *reply)
{
    download *d = self;
    const uint64_t want = d->want->bytes;
    const uint64_t all = reply->http == 206 ? reply->total : reply->length;
    if (want > 0 && all != UINT64_MAX && all != want)
        return lq_fail(LQ_E_FORMAT, "%s: the server has %llu bytes, %llu are right", d->want->what,
                       (unsigned long long)all, (unsigned long long)want);
    if (reply->http == 206 && reply->first != d->have) {
        d->again = true; /* a server that answers another question: ask for all of it */
        return lq_fail(LQ_E_FORMAT, "%s: the server sends another part than asked for",
                       d->want->what);
    }
    if (reply->http == 200 && d->have > 0)
        LQ_TRY(start_over(d)); /* the range was ignored, or the file has changed */
    snprintf(d->etag, sizeof d->etag, "%s", reply->etag);
    const uint64_t total = want > 0 ? want : all != UINT64_MAX ? all : 0;
    if (d->progress.what == NULL)
        d->progress = lq_progress_resume(d->want->what, (size_t)(d->have / 1000000),
                                         (size_t)(total / 1000000), "MB");
    return LQ_OK;
}

static lq_status on_data(void *self, const char *data, size_t n)
{
    download *d = self;
    const uint64_t most = d->want->bytes > 0 ? d->want->bytes : most_bytes;
    if (n > most - d->have) {
        d->wrong = true;
        return lq_fail(LQ_E_FORMAT, "%s: the server sends more than %llu bytes", d->want->what,
                       (unsigned long long)most);
    }
    while (n > 0) {
        const ssize_t done = write(d->fd, data, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return refuse(d->part, "write");
        data += done;
        n -= (size_t)done;
        d->have += (size_t)done;
    }
    lq_progress_update(&d->progress, (size_t)(d->have / 1000000), "%s", "");
    return LQ_OK;
}

/* 416 or an end too soon: is it whole, or to be begun again? */
static lq_status settle(download *d, attempt *out)
{
    const uint64_t want = d->want->bytes;
    if (d->reply->http == 416 && (want == 0 || d->have != want)) {
        out->outlook.again = true;
        LQ_TRY(start_over(d));
        return lq_fail(LQ_E_IO, "%s: the server has no more than what is here, and that is not all",
                       d->want->what);
    }
    if (want > 0 && d->have < want) {
        out->outlook.again = true;
        return lq_fail(LQ_E_IO, "%s: the server ended after %llu of %llu bytes", d->want->what,
                       (unsigned long long)d->have, (unsigned long long)want);
    }
    return LQ_OK;
}

static lq_status one_attempt(void *self, attempt *out)
{
    download *d = self;
    const uint64_t before = d->have;
    if (d->want->bytes > 0 && d->have == d->want->bytes)
        return LQ_OK;
    if (d->have > 0 && !can_prove(d->want) && d->etag[0] == '\0')
        LQ_TRY(start_over(d));
    char etag[sizeof d->etag]; /* on_begin writes the new one */
    memcpy(etag, d->etag, sizeof etag);
    const lq_exchange x = {.want = d->want,
                           .from = d->have,
                           .if_range = etag[0] ? etag : NULL,
                           .self = d,
                           .on_begin = on_begin,
                           .on_data = on_data};
    lq_status status = lq_exchange_run(&x, d->reply, &out->outlook);
    out->gained = d->have > before;
    out->wait_s = d->reply->retry_after_s;
    if (status == LQ_E_FORMAT && d->again) {
        d->again = false;
        out->outlook.again = start_over(d) == LQ_OK;
    }
    return status == LQ_OK ? settle(d, out) : status;
}

static lq_status prove(const lq_fetch *want, const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0)
        return lq_fail(LQ_E_MISSING, "%s: not there", path);
    if (want->bytes > 0 && (uint64_t)about.st_size != want->bytes)
        return lq_fail(LQ_E_FORMAT, "%s: %lld bytes, %llu are right", want->what,
                       (long long)about.st_size, (unsigned long long)want->bytes);
    if (want->sha256 != NULL) {
        lq_digest found;
        LQ_TRY(lq_sha256_file(path, &found));
        if (strcmp(found.hex, want->sha256) != 0)
            return lq_fail(LQ_E_FORMAT, "%s: its sha256 is %s, and should be %s", want->what,
                           found.hex, want->sha256);
    }
    if (want->git != NULL) {
        char found[41];
        LQ_TRY(lq_git_blob_id(path, found));
        if (strcmp(found, want->git) != 0)
            return lq_fail(LQ_E_FORMAT, "%s: its id of git is %s, and should be %s", want->what,
                           found, want->git);
    }
    return LQ_OK;
}

/* All bytes into the part, proved. A resumed one that proves wrong is fetched again from its start: the
 * earlier bytes may have been another version's. */
static lq_status fill_part(download *d)
{
    for (;;) {
        LQ_TRY(persist(d->want, one_attempt, d));
        if (fsync(d->fd) != 0 && errno != EINVAL && errno != EROFS)
            return refuse(d->part, "sync");
        const lq_status status = prove(d->want, d->part);
        d->wrong = status == LQ_E_FORMAT;
        if (!d->wrong || !d->resumed)
            return status;
        lq_log_warn("%s; fetching it again from its start", lq_status_note());
        d->resumed = false;
        LQ_TRY(start_over(d));
    }
}

static lq_status open_part(download *d)
{
    struct stat about;
    d->fd = open(d->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (d->fd < 0)
        return refuse(d->part, "write");
    if (fstat(d->fd, &about) != 0 || !S_ISREG(about.st_mode))
        return refuse(d->part, "use as a file");
    d->have = (uint64_t)about.st_size;
    d->resumed = d->have > 0;
    if (!can_prove(d->want) || (d->want->bytes > 0 && d->have > d->want->bytes))
        return start_over(d);
    if (lseek(d->fd, 0, SEEK_END) < 0)
        return refuse(d->part, "write");
    return LQ_OK;
}

/* What a failure leaves: bytes that a later call can use, or nothing. */
static void keep_or_remove(const download *d)
{
    if (d->have == 0 || d->wrong || !can_prove(d->want))
        unlink(d->part);
}

static lq_status bring(download *d)
{
    lq_status status = open_part(d);
    if (status == LQ_OK)
        status = fill_part(d);
    if (d->progress.what != NULL)
        lq_progress_end(&d->progress);
    if (status == LQ_OK && rename(d->part, d->path) != 0)
        status = refuse(d->path, "rename a finished download to this name");
    else if (status != LQ_OK && d->fd >= 0)
        keep_or_remove(d);
    if (d->fd >= 0)
        close(d->fd);
    return status;
}

lq_status lq_fetch_file(const lq_fetch *want, const char *path, lq_reply *reply)
{
    lq_arena arena = {0};
    lq_lock lock;
    lq_reply own;
    download d = {.want = want, .path = path, .reply = reply ? reply : &own, .fd = -1};
    *d.reply = (lq_reply){0};
    d.part = lq_arena_printf(&arena, "%s.part", path);
    lq_status status = lq_file_lock(lq_arena_printf(&arena, "%s.lock", path), &lock);
    if (status == LQ_OK) {
        if (!lq_path_exists(path) || !can_prove(want) || prove(want, path) != LQ_OK)
            status = bring(&d);
        lq_file_unlock(&lock);
    }
    lq_arena_close(&arena);
    return status;
}

/* --- into memory ------------------------------------------------------------------------------ */

typedef struct answer {
    const lq_fetch *want;
    lq_reply *reply;
    lq_arena *arena;
    char *text;
    size_t n, room, most;
} answer;

static lq_status on_text_begin(void *self, const lq_reply *reply)
{
    answer *a = self;
    (void)reply;
    a->n = 0;
    return LQ_OK;
}

static lq_status on_text(void *self, const char *data, size_t n)
{
    answer *a = self;
    if (n > a->most - a->n)
        return lq_fail(LQ_E_FORMAT, "%s: the answer is longer than %zu bytes", a->want->what,
                       a->most);
    if (a->n + n + 1 > a->room) {
        const size_t room = 2 * (a->n + n + 1);
        char *larger = lq_arena_alloc(a->arena, room);
        if (larger == NULL)
            return LQ_E_MEMORY;
        if (a->n > 0)
            memcpy(larger, a->text, a->n);
        a->text = larger;
        a->room = room;
    }
    memcpy(a->text + a->n, data, n);
    a->n += n;
    return LQ_OK;
}

static lq_status ask_once(void *self, attempt *out)
{
    answer *a = self;
    const lq_exchange x = {
        .want = a->want, .self = a, .on_begin = on_text_begin, .on_data = on_text};
    const lq_status status = lq_exchange_run(&x, a->reply, &out->outlook);
    out->wait_s = a->reply->retry_after_s;
    return status;
}

lq_status lq_fetch_text(const lq_fetch *want, size_t most, lq_arena *arena, char **text, size_t *n,
                        lq_reply *reply)
{
    lq_reply own;
    answer a = {.want = want, .reply = reply ? reply : &own, .arena = arena, .most = most};
    *a.reply = (lq_reply){0};
    a.room = 4096;
    a.text = lq_arena_alloc(arena, a.room);
    if (a.text == NULL)
        return LQ_E_MEMORY;
    LQ_TRY(persist(want, ask_once, &a));
    a.text[a.n] = '\0';
    *text = a.text;
    *n = a.n;
    return LQ_OK;
}
