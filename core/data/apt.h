/* Debian packages through apt-get: no root, nothing installed. */
#ifndef LQ_DATA_APT_H
#define LQ_DATA_APT_H

#include "core/base/arena.h"

/* Runs `apt-get download PACKAGE` in a fresh side directory of `dir` and moves the .deb into `dir`
 * under the name apt gave it; *path in the arena. LQ_E_MISSING: no apt-get, or it failed (the note
 * quotes its last line); LQ_E_IO: `dir` cannot be written. */
lq_status lq_apt_download(const char *package, const char *dir, lq_arena *arena, const char **path);

#endif
