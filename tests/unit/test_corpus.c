/* The corpus, from made-up packages: three .debs of a few small documents each, in a cache of the
 * test's own. No network: PATH leads to no apt-get, or to one that the test wrote. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/data/corpus.h"

#include <archive.h>
#include <archive_entry.h>

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { N_PERL = 150 }; /* documents of perl-doc: enough that each split gets some */
static const char boilerplate[] =
    "This paragraph is the same in each and every document of the package, as licences are.";

static lq_arena arena;
static const char *root; /* of this test: cache, bin */

static char *printed(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *printed(const char *format, ...)
{
    static char ring[8][8192];
    static size_t at;
    char *out = ring[at++ % 8];
    va_list list;
    va_start(list, format);
    vsnprintf(out, sizeof ring[0], format, list);
    va_end(list);
    return out;
}

/* --- making packages -------------------------------------------------------------------------- */

typedef struct file {
    char path[128];
    char *data; /* in the arena */
    size_t bytes;
} file;

static void add_entry(struct archive *a, const char *path, const void *data, size_t bytes)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, data, bytes), (la_ssize_t)bytes);
    archive_entry_free(entry);
}

/* The bytes of an archive of the files: format "ustar", "ar" or "raw"; filter 'x', 'z', 'g', or 0. */
static file packed(const char *format, char filter, const file *files, size_t n)
{
    file out = {.bytes = 0};
    size_t room = (size_t)1 << 20;
    assert_int_equal(lq_arena_new(&arena, &out.data, room), LQ_OK);
    struct archive *a = archive_write_new();
    if (filter == 'x') {
        archive_write_add_filter_xz(a);
        archive_write_set_filter_option(a, "xz", "compression-level", "0"); /* a small dictionary */
    }
    if (filter == 'z')
        archive_write_add_filter_zstd(a);
    if (filter == 'g')
        archive_write_add_filter_gzip(a);
    assert_int_equal(archive_write_set_format_by_name(a, format), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(a, out.data, room, &out.bytes), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++)
        add_entry(a, files[i].path, files[i].data, files[i].bytes);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    return out;
}

static file text_file(const char *path, const char *text)
{
    file f = {.data = lq_arena_printf(&arena, "%s", text), .bytes = strlen(text)};
    snprintf(f.path, sizeof f.path, "%s", path);
    return f;
}

static void write_deb(const char *path, char filter, const file *files, size_t n)
{
    file control = text_file("./control", "Package: made-up\nVersion: 1.2-3\nArchitecture: all\n");
    file members[3] = {text_file("debian-binary", "2.0\n")};
    members[1] = packed("ustar", 'x', &control, 1);
    snprintf(members[1].path, sizeof members[1].path, "control.tar.xz");
    members[2] = packed("ustar", filter, files, n);
    snprintf(members[2].path, sizeof members[2].path, "data.tar.%s", filter == 'x' ? "xz" : "zst");
    file deb = packed("arbsd", 0, members, 3);
    assert_int_equal(lq_file_write_all(path, deb.data, deb.bytes), LQ_OK);
}

/* Prose of more than 500 bytes that is unlike that of another number. */
static const char *prose_of(int number)
{
    return printed(
        "Document number %d speaks of matters that no other document of number %d knows.\n\n"
        "It goes on for a while about the number %d, since whatever is shorter than five "
        "hundred bytes after cleaning is taken for a stub and left out of the corpus.\n\n"
        "There is a second paragraph too, in which the writer of document %d explains at "
        "some length how the kernel, the interpreter and the library of number %d are used, "
        "configured and tested by those who keep them running through the day.\n\n"
        "At last there is a third one, so that the measure of document %d is full.\n",
        number, number, number, number, number, number);
}

static char *doc_path(int i) { return printed("./usr/share/perl/5.36.0/pod/perl%d.pod", i); }

static void write_perl(const char *dir)
{
    file *files;
    size_t n = 0;
    assert_int_equal(lq_arena_new(&arena, &files, N_PERL + 4), LQ_OK);
    for (int i = 0; i < N_PERL; i++)
        files[n++] =
            text_file(doc_path(i), printed("=pod\n\n%s\n%s\n", prose_of(1000 + i), boilerplate));
    files[n++] =
        text_file("./usr/share/perl/5.36.0/pod/perltoc.pod", printed("=pod\n\n%s", prose_of(1)));
    files[n++] = text_file("./usr/share/perl/5.36.0/pod/perltwin.pod",
                           printed("=pod\n\n%s\n%s\n", prose_of(1000), boilerplate));
    files[n++] = text_file("./usr/share/perl/5.36.0/pod/perlstub.pod", "=pod\n\nToo short.\n");
    files[n++] = text_file("../../../../evil.pod", printed("=pod\n\n%s", prose_of(7)));
    write_deb(printed("%s/perl-doc_1.2-3_all.deb", dir), 'z', files, n);
}

static void write_linux(const char *dir)
{
    static const char base[] = "./usr/share/doc/linux-doc-6.1/Documentation";
    file plain = text_file("x", printed("Title\n=====\n\n%s", prose_of(2)));
    file zipped = packed("raw", 'g', &plain, 1);
    snprintf(zipped.path, sizeof zipped.path, "%s/core-api/a.rst.gz", base);
    file chinese = text_file(printed("%s/translations/zh_CN/b.rst", base), prose_of(3));
    file files[] = {zipped, chinese};
    write_deb(printed("%s/linux-doc-6.1_1.2-3_all.deb", dir), 'x', files, 2);
}

static void write_python(const char *dir)
{
    file files[] = {
        text_file("./usr/share/doc/python3.11/html/_sources/library/a.rst.txt", prose_of(4)),
        text_file("./usr/share/doc/python3.11/html/library/a.html", prose_of(5))};
    write_deb(printed("%s/python3.11-doc_1.2-3_all.deb", dir), 'x', files, 2);
}

/* --- the stage -------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    (void)state;
    char place[] = "/tmp/lcqat-corpus-XXXXXX";
    assert_non_null(mkdtemp(place));
    root = lq_arena_printf(&arena, "%s", place);
    assert_int_equal(lq_path_make_dirs(printed("%s/cache/debs", root)), LQ_OK);
    assert_int_equal(lq_path_make_dirs(printed("%s/bin", root)), LQ_OK);
    setenv("LCQAT_CACHE", printed("%s/cache", root), 1);
    setenv("PATH", printed("%s/bin", root), 1);
    char *debs = lq_arena_printf(&arena, "%s/cache/debs", root);
    write_linux(debs);
    write_python(debs);
    write_perl(debs);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(lq_path_remove_tree(root), LQ_OK);
    lq_arena_close(&arena);
    return 0;
}

static void write_apt_get(const char *script)
{
    char *path = printed("%s/bin/apt-get", root);
    assert_int_equal(lq_file_write_all(path, script, strlen(script)), LQ_OK);
    assert_int_equal(chmod(path, 0755), 0);
}

static void truncate_deb(const char *name)
{
    char *path = printed("%s/cache/debs/%s", root, name);
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(truncate(path, about.st_size * 2 / 3), 0);
}

static lq_corpus loaded(const char *name)
{
    lq_corpus c;
    lq_status status = lq_corpus_load(name, &arena, &c);
    if (status != LQ_OK)
        fail_msg("%s: %s", name, lq_status_note());
    return c;
}

static size_t occurrences(const lq_corpus *c, const char *what)
{
    size_t n = 0;
    for (const char *p = c->text; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void offline_from_cached_packages(void **state)
{
    (void)state;
    assert_false(lq_techdocs_ready());
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    assert_true(lq_techdocs_ready());
    static const char *const names[] = {"techdocs:train", "techdocs:calib", "techdocs:valid",
                                        "techdocs:test"};
    size_t documents = 0;
    for (size_t s = 0; s < 4; s++) {
        lq_corpus c = loaded(names[s]);
        lq_digest digest;
        assert_int_equal(lq_sha256_of(c.text, c.bytes, &digest), LQ_OK);
        assert_string_equal(digest.hex, c.digest.hex);
        assert_string_equal(c.name, names[s]);
        assert_int_equal(occurrences(&c, boilerplate), 0);
        documents += occurrences(&c, "\n<|endoftext|>\n");
    }
    assert_int_equal(documents,
                     N_PERL + 3); /* + linux, python, evil; - toc, twin, stub, translation */
    assert_false(lq_path_exists(printed("%s/evil.pod", root)));
    assert_false(lq_path_exists(printed("%s/cache/techdocs.part", root)));
}

/* Which split a document is in, by arithmetic of the test's own. */
static const char *expected_split(const char *name)
{
    lq_digest d;
    assert_int_equal(lq_sha256_of(name, strlen(name), &d), LQ_OK);
    double u = 0, unit = 1;
    for (int i = 0; i < 6; i++)
        u += d.byte[i] * (unit /= 256);
    return u < 0.02   ? "techdocs:test"
           : u < 0.04 ? "techdocs:valid"
           : u < 0.06 ? "techdocs:calib"
                      : "techdocs:train";
}

static void splits_follow_the_names(void **state)
{
    (void)state;
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    size_t outside_train = 0;
    for (int i = 1; i < N_PERL; i++) { /* 0 has a twin: either may stay */
        const char *split = expected_split(printed("perl-doc:%s", doc_path(i) + 2));
        lq_corpus c = loaded(split);
        assert_int_equal(occurrences(&c, printed("Document number %d speaks", 1000 + i)), 1);
        outside_train += strcmp(split, "techdocs:train") != 0;
    }
    assert_true(outside_train > 2);
}

static void whole_digest_and_manifest(void **state)
{
    (void)state;
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    uint8_t digests[4 * 32];
    static const char *const names[] = {"techdocs:train", "techdocs:calib", "techdocs:valid",
                                        "techdocs:test"};
    for (size_t s = 0; s < 4; s++)
        memcpy(digests + 32 * s, loaded(names[s]).digest.byte, 32);
    lq_digest whole;
    assert_int_equal(lq_sha256_of(digests, sizeof digests, &whole), LQ_OK);
    assert_string_equal(loaded("techdocs").whole.hex, whole.hex);
    lq_json *manifest;
    assert_int_equal(lq_json_read(printed("%s/cache/techdocs/manifest.json", root), &manifest),
                     LQ_OK);
    assert_string_equal(lq_json_string(lq_json_get(manifest, "whole")), whole.hex);
    const lq_json *package = lq_json_at(lq_json_get(manifest, "packages"), 2);
    assert_string_equal(lq_json_string(lq_json_get(package, "name")), "perl-doc");
    assert_string_equal(lq_json_string(lq_json_get(package, "version")), "1.2-3");
    lq_digest deb;
    assert_int_equal(lq_sha256_file(printed("%s/cache/debs/perl-doc_1.2-3_all.deb", root), &deb),
                     LQ_OK);
    assert_string_equal(lq_json_string(lq_json_get(package, "sha256")), deb.hex);
    lq_json_free(manifest);
}

static void damage_is_seen_and_mended(void **state)
{
    (void)state;
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    lq_corpus before = loaded("techdocs:train");
    char *path = lq_arena_printf(&arena, "%s/cache/techdocs/train.txt", root);
    assert_int_equal(truncate(path, 100), 0);
    assert_false(lq_techdocs_ready());
    lq_corpus c;
    assert_int_equal(lq_corpus_load("techdocs", &arena, &c), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "lcqat fetch techdocs"));
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    assert_string_equal(loaded("techdocs:train").digest.hex, before.digest.hex);
    int fd = open(path, O_WRONLY); /* a flipped byte: the sizes hold, the digests do not */
    assert_true(fd >= 0 && pwrite(fd, "#", 1, 50) == 1 && close(fd) == 0);
    assert_true(lq_techdocs_ready());
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    lq_corpus after = loaded("techdocs:train");
    assert_memory_equal(after.text, before.text, before.bytes);
}

static void other_recipe_is_made_again(void **state)
{
    (void)state;
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    char *path = lq_arena_printf(&arena, "%s/cache/techdocs/manifest.json", root), *text;
    size_t n;
    assert_int_equal(lq_file_read(path, &arena, &text, &n), LQ_OK);
    char *recipe = strstr(text, "\"recipe\": ");
    assert_non_null(recipe);
    recipe[10] = '0';
    assert_int_equal(lq_file_write_all(path, text, n), LQ_OK);
    assert_false(lq_techdocs_ready());
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    assert_true(lq_techdocs_ready());
}

static void without_apt_get(void **state)
{
    (void)state;
    assert_int_equal(unlink(printed("%s/cache/debs/perl-doc_1.2-3_all.deb", root)), 0);
    assert_int_equal(lq_techdocs_prepare(), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "perl-doc"));
    assert_non_null(strstr(lq_status_note(), "apt-get is not on this machine"));
    assert_false(lq_techdocs_ready());
    assert_false(lq_path_exists(printed("%s/cache/techdocs.part", root)));
}

static void apt_get_fails(void **state)
{
    (void)state;
    assert_int_equal(unlink(printed("%s/cache/debs/perl-doc_1.2-3_all.deb", root)), 0);
    write_apt_get(
        "#!/bin/sh\necho first >&2\necho 'E: Unable to locate package perl-doc' >&2\nexit 100\n");
    assert_int_equal(lq_techdocs_prepare(), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "E: Unable to locate package perl-doc"));
    assert_non_null(strstr(lq_status_note(), "apt-get update"));
    assert_null(strstr(lq_status_note(), "first\n"));
    char **names;
    size_t n;
    assert_int_equal(lq_path_list(printed("%s/cache/debs", root), &arena, &names, &n), LQ_OK);
    assert_int_equal(n, 2); /* no side folder is left */
    write_apt_get("#!/bin/sh\nexit 0\n");
    assert_int_equal(lq_techdocs_prepare(), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "left no .deb"));
}

static void damaged_package_is_fetched_again(void **state)
{
    (void)state;
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    lq_corpus before = loaded("techdocs:train");
    assert_int_equal(lq_path_remove_tree(printed("%s/cache/techdocs", root)), LQ_OK);
    write_apt_get(printed("#!/bin/sh\n[ \"$2\" = download ] && [ \"$3\" = perl-doc ] || exit 9\n"
                          "exec /bin/cp %s/spare.deb ./perl-doc_1.2-3_all.deb\n",
                          root));
    char *deb = lq_arena_printf(&arena, "%s/cache/debs/perl-doc_1.2-3_all.deb", root), *bytes;
    size_t n;
    assert_int_equal(lq_file_read(deb, &arena, &bytes, &n), LQ_OK);
    assert_int_equal(lq_file_write_all(printed("%s/spare.deb", root), bytes, n), LQ_OK);
    truncate_deb("perl-doc_1.2-3_all.deb");
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    assert_string_equal(loaded("techdocs:train").digest.hex, before.digest.hex);
    assert_int_equal(lq_file_write_all(deb, "this is no package", 18), LQ_OK);
    assert_int_equal(lq_path_remove_tree(printed("%s/cache/techdocs", root)), LQ_OK);
    assert_int_equal(lq_techdocs_prepare(), LQ_OK);
    assert_string_equal(loaded("techdocs:train").digest.hex, before.digest.hex);
}

static void damaged_package_and_no_network(void **state)
{
    (void)state;
    truncate_deb("linux-doc-6.1_1.2-3_all.deb");
    assert_int_equal(lq_techdocs_prepare(), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "linux-doc-6.1"));
}

static void two_at_once(void **state)
{
    (void)state;
    pid_t child[2];
    for (size_t i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] == 0)
            _Exit(lq_techdocs_prepare() == LQ_OK ? 0 : 1);
    }
    for (size_t i = 0; i < 2; i++) {
        int how;
        assert_int_equal(waitpid(child[i], &how, 0), child[i]);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
    assert_true(lq_techdocs_ready());
}

static void files_and_wrong_names(void **state)
{
    (void)state;
    char *path = lq_arena_printf(&arena, "%s/own.txt", root);
    assert_int_equal(lq_file_write_all(path, "abc", 3), LQ_OK);
    lq_corpus c = loaded(path);
    assert_string_equal(c.text, "abc");
    assert_string_equal(c.name, path);
    assert_string_equal(c.digest.hex,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(c.whole.hex, c.digest.hex);
    assert_int_equal(lq_corpus_load("techdocs:tset", &arena, &c), LQ_E_OPTION);
    assert_int_equal(lq_corpus_load("techdocs", &arena, &c), LQ_E_MISSING);
    assert_int_equal(lq_corpus_load("techdocs:test", &arena, &c), LQ_E_MISSING);
    assert_int_equal(lq_corpus_load("/no/such/file", &arena, &c), LQ_E_MISSING);
}

static void where_the_cache_is(void **state)
{
    (void)state;
    const char *dir;
    assert_int_equal(lq_cache_dir(&arena, &dir), LQ_OK);
    assert_string_equal(dir, printed("%s/cache", root));
    unsetenv("LCQAT_CACHE");
    setenv("XDG_CACHE_HOME", printed("%s/xdg", root), 1);
    assert_int_equal(lq_cache_dir(&arena, &dir), LQ_OK);
    assert_string_equal(dir, printed("%s/xdg/lcqat", root));
    assert_true(lq_path_is_dir(dir));
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", printed("%s/home", root), 1);
    assert_int_equal(lq_cache_dir(&arena, &dir), LQ_OK);
    assert_string_equal(dir, printed("%s/home/.cache/lcqat", root));
    assert_int_equal(lq_file_write_all(printed("%s/plain", root), "", 0), LQ_OK);
    setenv("LCQAT_CACHE", printed("%s/plain/cache", root), 1); /* below a file */
    assert_int_equal(lq_cache_dir(&arena, &dir), LQ_E_IO);
    assert_int_equal(lq_techdocs_prepare(), LQ_E_IO);
}

static void read_only_cache(void **state)
{
    (void)state;
    if (geteuid() == 0) {
        print_message("root may write everywhere: skipped\n");
        skip();
    }
    assert_int_equal(chmod(printed("%s/cache", root), 0555), 0);
    assert_int_equal(lq_techdocs_prepare(), LQ_E_IO);
    assert_int_equal(chmod(printed("%s/cache", root), 0755), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(offline_from_cached_packages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(splits_follow_the_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whole_digest_and_manifest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_seen_and_mended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_recipe_is_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_apt_get, set_up, tear_down),
        cmocka_unit_test_setup_teardown(apt_get_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_package_is_fetched_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_package_and_no_network, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_and_wrong_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(where_the_cache_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(read_only_cache, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
