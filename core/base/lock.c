#include "core/base/lock.h"

#include "core/base/clock.h"
#include "core/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Is the locked file still the one of this name? Its last holder removed it while we waited, if not. */
static bool still_named(int fd, const char *path)
{
    struct stat open_one, named;
    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
           open_one.st_ino == named.st_ino && open_one.st_dev == named.st_dev;
}

static lq_status wait_for(int fd, const char *path)
{
    bool told = false;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return lq_fail(LQ_E_IO, "%s: cannot lock: %s", path, strerror(errno));
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "%s: stopped while another process held it", path);
        if (!told)
            lq_log_info("%s: another process holds it; waiting", path);
        told = true;
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    }
    return LQ_OK;
}

lq_status lq_file_lock(const char *path, lq_lock *out)
{
    *out = (lq_lock){.fd = -1};
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0)
            return lq_fail(LQ_E_IO, "%s: cannot make the lock: %s", path, strerror(errno));
        lq_status status = wait_for(fd, path);
        char *copy = status == LQ_OK && still_named(fd, path) ? strdup(path) : NULL;
        if (copy) {
            *out = (lq_lock){fd, copy};
            return LQ_OK;
        }
        if (status == LQ_OK && still_named(fd, path))
            status = lq_fail(LQ_E_MEMORY, "%s: out of memory", path);
        close(fd);
        LQ_TRY(status);
    }
}

void lq_file_unlock(lq_lock *lock)
{
    if (!lock->path)
        return;
    unlink(lock->path);       /* before the lock falls: who waits sees that the name is gone */
    flock(lock->fd, LOCK_UN); /* closing would not do while a fork of us has it open */
    close(lock->fd);
    free(lock->path);
    *lock = (lq_lock){.fd = -1};
}
