#define _GNU_SOURCE /* posix_spawn_file_actions_addchdir_np; POSIX has it since 2024 */
#include "core/data/apt.h"

#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The last line that says something, without its line feed; stored back into text. */
static const char *last_line(char *text, size_t bytes)
{
    while (bytes > 0 &&
           (text[bytes - 1] == '\n' || text[bytes - 1] == '\r' || text[bytes - 1] == ' '))
        bytes--;
    text[bytes] = '\0';
    const char *feed = strrchr(text, '\n');
    return feed ? feed + 1 : text;
}

/* Runs it with its output in the file `log_path`. *exit_status is -1 when a signal ended it.
 * posix_spawn and not fork: the parent may have OpenMP threads. */
static lq_status run(const char *package, const char *side, const char *log_path, int *exit_status)
{
    char name[64];
    snprintf(name, sizeof name, "%s", package);
    char get[] = "apt-get", quiet[] = "-qq", download[] = "download";
    char *argv[] = {get, quiet, download, name, NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return lq_fail(LQ_E_MEMORY, "apt-get: no memory to start it");
    int error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (error == 0)
        error = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_path,
                                                 O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (error == 0)
        error = posix_spawn_file_actions_addchdir_np(&actions, side);
    pid_t pid = 0;
    if (error == 0)
        error = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error == ENOENT)
        return lq_fail(LQ_E_MISSING,
                       "package %s: apt-get is not on this machine; copy its .deb by hand into the "
                       "folder debs of the cache",
                       package);
    if (error != 0)
        return lq_fail(LQ_E_IO, "apt-get download %s: cannot start it: %s", package,
                       strerror(error));
    int state;
    while (waitpid(pid, &state, 0) < 0)
        if (errno != EINTR)
            return lq_fail(LQ_E_IO, "apt-get download %s: cannot wait for it: %s", package,
                           strerror(errno));
    *exit_status = WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    return LQ_OK;
}

/* Moves the one .deb of the side directory into dir. */
static lq_status take(const char *package, const char *side, const char *dir, lq_arena *arena,
                      const char **path)
{
    char **names;
    size_t n;
    LQ_TRY(lq_path_list(side, arena, &names, &n));
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(names[i]);
        if (length < 5 || strcmp(names[i] + length - 4, ".deb") != 0)
            continue;
        const char *from = lq_arena_printf(arena, "%s/%s", side, names[i]);
        *path = lq_arena_printf(arena, "%s/%s", dir, names[i]);
        if (rename(from, *path) != 0)
            return lq_fail(LQ_E_IO, "%s: cannot move it to %s: %s", from, *path, strerror(errno));
        return LQ_OK;
    }
    return lq_fail(LQ_E_MISSING, "apt-get download %s: it ended well but left no .deb", package);
}

static lq_status download(const char *package, const char *side, const char *dir, lq_arena *arena,
                          const char **path)
{
    int exit_status = 0;
    const char *log_path = lq_arena_printf(arena, "%s/log", side);
    LQ_TRY(lq_path_make_dirs(side));
    LQ_TRY(run(package, side, log_path, &exit_status));
    if (exit_status == 0)
        return take(package, side, dir, arena, path);
    char *log = NULL;
    size_t bytes = 0;
    if (lq_file_read(log_path, arena, &log, &bytes) != LQ_OK)
        bytes = 0;
    return lq_fail(LQ_E_MISSING,
                   "apt-get download %s failed (\"%s\"); is the network there? if apt's lists are "
                   "missing or old, run `apt-get update` as root first",
                   package, bytes > 0 ? last_line(log, bytes) : "no message");
}

lq_status lq_apt_download(const char *package, const char *dir, lq_arena *arena, const char **path)
{
    const char *side = lq_arena_printf(arena, "%s/part-%s-%ld", dir, package, (long)getpid());
    LQ_TRY(lq_path_remove_tree(side));
    lq_status status = download(package, side, dir, arena, path);
    if (status != LQ_OK) {
        char note[1024]; /* the clean-up may fail too, and must not hide the first story */
        snprintf(note, sizeof note, "%s", lq_status_note());
        (void)lq_path_remove_tree(side);
        return lq_fail(status, "%s", note);
    }
    return lq_path_remove_tree(side);
}
