#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* The system's write and fsync, with a disk that fills up, dribbles or breaks on request: this
 * program's own definitions come before the C library's. */
static size_t room_left = SIZE_MAX; /* then ENOSPC */
static size_t most_at_once = SIZE_MAX;
static int interruptions, sync_error;

ssize_t write(int fd, const void *data, size_t n)
{
    if (interruptions > 0) {
        interruptions--;
        errno = EINTR;
        return -1;
    }
    if (room_left == 0) {
        errno = ENOSPC;
        return -1;
    }
    n = n < most_at_once ? n : most_at_once;
    n = n < room_left ? n : room_left;
    ssize_t written = syscall(SYS_write, fd, data, n);
    if (room_left != SIZE_MAX && written > 0)
        room_left -= (size_t)written;
    return written;
}

int fsync(int fd)
{
    errno = sync_error;
    return sync_error ? -1 : (int)syscall(SYS_fsync, fd);
}

static char root[256]; /* a fresh directory for each test */

static int make_root(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(root, sizeof root, "%s/lcqat-test-XXXXXX", parent ? parent : P_tmpdir);
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    room_left = most_at_once = SIZE_MAX;
    interruptions = sync_error = 0;
    return lq_path_remove_tree(root) == LQ_OK ? 0 : -1;
}

static const char *in_root(const char *name)
{
    static char path[4][1024];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", root, name);
    return path[next];
}

static size_t names_in_root(void)
{
    lq_arena arena = {0};
    char **names;
    size_t n;
    assert_int_equal(lq_path_list(root, &arena, &names, &n), LQ_OK);
    lq_arena_close(&arena);
    return n;
}

static void check_content(const char *path, const void *want, size_t n)
{
    lq_arena arena = {0};
    char *got;
    size_t bytes;
    assert_int_equal(lq_file_read(path, &arena, &got, &bytes), LQ_OK);
    assert_int_equal(bytes, n);
    assert_memory_equal(got, want, n);
    assert_int_equal(got[n], 0);
    lq_arena_close(&arena);
}

/* Bytes that differ from place to place, more than two write buffers of them. */
enum { LARGE = 150001 };
static unsigned char large[LARGE];
static void fill_large(void)
{
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (unsigned char)(i * 2654435761u >> 13);
}

static void written_bytes_are_read_again(void **state)
{
    (void)state;
    fill_large();
    static const size_t piece[] = {1, 100, 65535, 65536, 65537, LARGE};
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        lq_file *f;
        assert_int_equal(lq_file_create(in_root("x"), &f), LQ_OK);
        for (size_t at = 0; at < LARGE; at += piece[i]) {
            size_t n = LARGE - at < piece[i] ? LARGE - at : piece[i];
            assert_int_equal(lq_file_write(f, large + at, n), LQ_OK);
        }
        assert_int_equal(lq_file_commit(f), LQ_OK);
        check_content(in_root("x"), large, LARGE);
        assert_int_equal(names_in_root(), 1);
    }
    assert_int_equal(lq_file_write_all(in_root("x"), NULL, 0), LQ_OK);
    check_content(in_root("x"), "", 0);
    lq_arena arena = {0}; /* a file whose size is said to be 0 */
    char *status;
    size_t n;
    assert_int_equal(lq_file_read("/proc/self/status", &arena, &status, &n), LQ_OK);
    assert_true(n > 100 && strlen(status) == n && strncmp(status, "Name:", 5) == 0);
    lq_arena_close(&arena);
}

static void nothing_shows_before_commit(void **state)
{
    (void)state;
    const char *path = in_root("x");
    assert_int_equal(lq_file_write_all(path, "old", 3), LQ_OK);
    lq_file *f, *g;
    assert_int_equal(lq_file_create(path, &f), LQ_OK);
    assert_int_equal(lq_file_create(path, &g), LQ_OK); /* side names are unique */
    assert_int_equal(lq_file_write(f, large, LARGE), LQ_OK);
    check_content(path, "old", 3);
    assert_int_equal(names_in_root(), 3);
    lq_file_abandon(f);
    check_content(path, "old", 3);
    assert_int_equal(lq_file_printf(g, "%s %d %400d", "new", 7, 1), LQ_OK);
    assert_int_equal(lq_file_commit(g), LQ_OK);
    assert_int_equal(names_in_root(), 1);
    lq_file_abandon(NULL);
}

static void printf_takes_any_length(void **state)
{
    (void)state;
    lq_file *f;
    assert_int_equal(lq_file_create(in_root("x"), &f), LQ_OK);
    char want[100001];
    size_t used = 0;
    static const int width[] = {1, 511, 512, 513, 70000, 20000};
    for (size_t i = 0; i < sizeof width / sizeof *width; i++) {
        used += (size_t)snprintf(want + used, sizeof want - used, "%*d", width[i], (int)i);
        assert_int_equal(lq_file_printf(f, "%*d", width[i], (int)i), LQ_OK);
    }
    assert_int_equal(lq_file_commit(f), LQ_OK);
    check_content(in_root("x"), want, used);
}

static void interrupted_and_short_writes_go_on(void **state)
{
    (void)state;
    fill_large();
    most_at_once = 1009;
    interruptions = 5;
    assert_int_equal(lq_file_write_all(in_root("x"), large, LARGE), LQ_OK);
    check_content(in_root("x"), large, LARGE);
    assert_int_equal(interruptions, 0);
}

static void full_disk_leaves_nothing_and_says_so(void **state)
{
    (void)state;
    const char *path = in_root("x");
    assert_int_equal(lq_file_write_all(path, "old", 3), LQ_OK);
    for (size_t room = 0; room <= 140000; room += 70000) { /* full at commit, and during a write */
        room_left = room;
        assert_int_equal(lq_file_write_all(path, large, LARGE), LQ_E_IO);
        assert_non_null(strstr(lq_status_note(), path));
        assert_non_null(strstr(lq_status_note(), "no space left"));
        room_left = 0;
        assert_int_equal(lq_file_write_all(path, "new", 3), LQ_E_IO);
        room_left = SIZE_MAX;
        check_content(path, "old", 3);
        assert_int_equal(names_in_root(), 1);
    }
    lq_file *f; /* a caller that overlooks the failure does not get half a file */
    assert_int_equal(lq_file_create(path, &f), LQ_OK);
    room_left = 10;
    assert_int_equal(lq_file_write(f, large, LARGE), LQ_E_IO);
    room_left = SIZE_MAX;
    assert_int_equal(lq_file_commit(f), LQ_E_IO);
    check_content(path, "old", 3);
    sync_error = EIO;
    assert_int_equal(lq_file_write_all(path, "new", 3), LQ_E_IO);
    sync_error = 0;
    check_content(path, "old", 3);
    assert_int_equal(names_in_root(), 1);
}

static void device_that_is_full_refuses(void **state)
{
    (void)state;
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0)
        skip();
    assert_true(write(fd, "x", 1) == -1 && errno == ENOSPC); /* as our own `write` pretends */
    close(fd);
}

static void refusals_name_the_path(void **state)
{
    (void)state;
    lq_arena arena = {0};
    char *data;
    size_t n;
    lq_map map;
    lq_file *f = (lq_file *)1;
    assert_int_equal(lq_file_read(in_root("none"), &arena, &data, &n), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), in_root("none")));
    assert_int_equal(lq_file_map(in_root("none"), &map), LQ_E_MISSING);
    assert_int_equal(lq_file_read(root, &arena, &data, &n), LQ_E_IO);
    assert_non_null(strstr(lq_status_note(), "directory"));
    assert_int_equal(lq_file_map("/dev/null", &map), LQ_E_IO);
    assert_int_equal(lq_file_create(in_root("no/such/file"), &f), LQ_E_IO);
    assert_null(f);
    assert_int_equal(lq_path_make_dirs(in_root("d/e")), LQ_OK);
    assert_int_equal(lq_file_write_all(in_root("d"), "x", 1), LQ_E_IO); /* a directory is there */
    assert_int_equal(names_in_root(), 1);
    lq_arena_close(&arena);
}

static void out_of_memory_while_reading_is_a_status(void **state)
{
    (void)state;
    fill_large();
    assert_int_equal(lq_file_write_all(in_root("x"), large, LARGE), LQ_OK);
    lq_arena arena = {0};
    char *data;
    size_t n;
    lq_arena_fail_after(0);
    assert_int_equal(lq_file_read(in_root("x"), &arena, &data, &n), LQ_E_MEMORY);
    lq_arena_fail_after(0);
    char **names;
    assert_int_equal(lq_path_list(root, &arena, &names, &n), LQ_E_MEMORY);
    lq_arena_fail_after(SIZE_MAX);
    lq_arena_close(&arena);
}

static void read_only_directory_refuses(void **state)
{
    (void)state;
    const uid_t me = geteuid(), nobody = 65534;
    assert_int_equal(lq_path_make_dirs(in_root("locked")), LQ_OK);
    assert_int_equal(chmod(in_root("locked"), 0555), 0);
    assert_int_equal(chmod(root, 0755), 0);
    if (me == 0 && seteuid(nobody) != 0)
        skip(); /* root may write everywhere */
    lq_status status = lq_file_write_all(in_root("locked/x"), "x", 1);
    assert_int_equal(seteuid(me), 0);
    assert_int_equal(status, LQ_E_IO);
    assert_non_null(strstr(lq_status_note(), "locked/x"));
    assert_non_null(strstr(lq_status_note(), "Permission denied"));
    assert_int_equal(chmod(in_root("locked"), 0755), 0);
}

static void a_map_shows_the_file(void **state)
{
    (void)state;
    lq_map map;
    assert_int_equal(lq_file_write_all(in_root("x"), "hello", 5), LQ_OK);
    assert_int_equal(lq_file_map(in_root("x"), &map), LQ_OK);
    assert_int_equal(map.bytes, 5);
    assert_memory_equal(map.data, "hello", 5);
    lq_file_unmap(&map);
    assert_null(map.data);
    lq_file_unmap(&map);
    assert_int_equal(lq_file_write_all(in_root("x"), "", 0), LQ_OK);
    assert_int_equal(lq_file_map(in_root("x"), &map), LQ_OK);
    assert_int_equal(map.bytes, 0);
}

static void directories_are_made_listed_and_removed(void **state)
{
    (void)state;
    assert_int_equal(lq_path_make_dirs(in_root("a//b/c/")), LQ_OK);
    assert_int_equal(lq_path_make_dirs(in_root("a/b")), LQ_OK);
    assert_true(lq_path_is_dir(in_root("a/b/c")));
    assert_int_equal(lq_file_write_all(in_root("a/file"), "x", 1), LQ_OK);
    assert_true(lq_path_exists(in_root("a/file")));
    assert_false(lq_path_is_dir(in_root("a/file")));
    assert_int_equal(lq_path_make_dirs(in_root("a/file/d")), LQ_E_IO);
    assert_int_equal(lq_path_make_dirs(in_root("a/file")), LQ_E_IO);
    assert_int_equal(lq_path_make_dirs(""), LQ_E_IO);

    lq_arena arena = {0};
    char **names, name[32];
    size_t n;
    for (int i = 0; i < 70; i++) {
        snprintf(name, sizeof name, "a/b/%d", i);
        assert_int_equal(lq_file_write_all(in_root(name), "", 0), LQ_OK);
    }
    assert_int_equal(lq_path_list(in_root("a/b"), &arena, &names, &n), LQ_OK);
    assert_int_equal(n, 71);
    for (size_t i = 1; i < n; i++)
        assert_true(strcmp(names[i - 1], names[i]) < 0);
    assert_string_equal(names[70], "c");
    assert_int_equal(lq_path_list(in_root("none"), &arena, &names, &n), LQ_E_MISSING);
    lq_arena_close(&arena);

    assert_int_equal(lq_path_remove_tree(in_root("a")), LQ_OK);
    assert_int_equal(names_in_root(), 0);
    assert_int_equal(lq_path_remove_tree(in_root("a")), LQ_OK); /* absent is fine */
    static const char *const never[] = {"", "/", ".", "..", "x/..", "x/./"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        assert_int_equal(lq_path_remove_tree(never[i]), LQ_E_IO);
}

static void removing_does_not_follow_links(void **state)
{
    (void)state;
    assert_int_equal(lq_path_make_dirs(in_root("keep")), LQ_OK);
    assert_int_equal(lq_path_make_dirs(in_root("tree/inner")), LQ_OK);
    assert_int_equal(lq_file_write_all(in_root("keep/x"), "x", 1), LQ_OK);
    assert_int_equal(symlink("../../keep", in_root("tree/inner/link")), 0);
    assert_int_equal(symlink("keep", in_root("link")), 0);
    assert_true(lq_path_is_dir(in_root("tree/inner/link")));
    assert_int_equal(lq_path_remove_tree(in_root("tree")), LQ_OK);
    assert_int_equal(lq_path_remove_tree(in_root("link/")), LQ_OK); /* the link alone */
    assert_false(lq_path_exists(in_root("link")));
    check_content(in_root("keep/x"), "x", 1);
}

static void base_is_the_last_name(void **state)
{
    (void)state;
    assert_string_equal(lq_path_base("a/b.c"), "b.c");
    assert_string_equal(lq_path_base("b.c"), "b.c");
    assert_string_equal(lq_path_base("a/"), "");
}

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(written_bytes_are_read_again),
        WITH_ROOT(nothing_shows_before_commit),
        WITH_ROOT(printf_takes_any_length),
        WITH_ROOT(interrupted_and_short_writes_go_on),
        WITH_ROOT(full_disk_leaves_nothing_and_says_so),
        WITH_ROOT(refusals_name_the_path),
        WITH_ROOT(out_of_memory_while_reading_is_a_status),
        WITH_ROOT(read_only_directory_refuses),
        WITH_ROOT(a_map_shows_the_file),
        WITH_ROOT(directories_are_made_listed_and_removed),
        WITH_ROOT(removing_does_not_follow_links),
        cmocka_unit_test(device_that_is_full_refuses),
        cmocka_unit_test(base_is_the_last_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
