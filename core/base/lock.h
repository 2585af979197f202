/* A lock between processes: one file, held until released or until the process ends, however it ends.
 *
 *     LQ_TRY(lq_file_lock("work/<id>.lock", &lock));     // waits for another holder
 *     ... look into the store again: the other one may have done the work ...
 *     lq_file_unlock(&lock); */
#ifndef LQ_BASE_LOCK_H
#define LQ_BASE_LOCK_H

#include "core/base/status.h"

typedef struct lq_lock {
    int fd;
    char *path; /* owned */
} lq_lock;

/* Waits while another process holds it, until the user asks to stop: LQ_E_STOPPED. LQ_E_IO, LQ_E_MEMORY.
 * The lock is of the open file: a child does not inherit it over exec, and two calls in one process
 * exclude each other, too. */
lq_status lq_file_lock(const char *path, lq_lock *out);
void lq_file_unlock(lq_lock *lock); /* removes the file; a zeroed or failed lock is fine */

#endif
