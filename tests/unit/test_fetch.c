/* Downloads from a server that misbehaves in every way a test can ask of it. */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/sha256.h"
#include "core/data/fetch.h"
#include "tests/check.h"
#include "tests/server.h"

#include <sys/stat.h>
#include <time.h>

enum { BODY = 300000 };
static char body[BODY], other[BODY];
static lq_digest digest;
static lq_server server;
static lq_arena arena;
static const char *root;
static const lq_fetch_pace hasty = {.attempts = 3, .backoff_ms = 1, .stall_s = 1};

static void send_cut(int fd, const lq_request *r, size_t most)
{
    const size_t from = r->from > 0 ? (size_t)r->from : 0;
    if (from > 0)
        lq_sendf(fd, "HTTP/1.1 206 Part\r\nContent-Range: bytes %zu-%d/%d\r\n", from, BODY - 1,
                 BODY);
    else
        lq_sendf(fd, "HTTP/1.1 200 OK\r\n");
    lq_sendf(fd, "ETag: \"v1\"\r\nContent-Length: %zu\r\n\r\n", BODY - from);
    lq_send(fd, body + from, most < BODY - from ? most : BODY - from);
}

enum { CUT, ONCE_500, PATIENT, LOOP, ASKED, CHANGING, FROM_OTHER, SHIFT, BUSY };

static void redirect(int fd, const char *host, int port, const char *path)
{
    lq_sendf(fd, "HTTP/1.1 302 Found\r\nLocation: http://%s:%d%s\r\nContent-Length: 5\r\n\r\nthere",
             host, port, path);
}

static void answer_redirects(int fd, const lq_request *r, lq_hits *hits, int port)
{
    const char *path = r->path + strlen("/to-");
    if (strcmp(path, "loop") == 0) {
        atomic_fetch_add(&hits->of[LOOP], 1);
        redirect(fd, "127.0.0.1", port, "/to-loop");
    } else if (strcmp(path, "other-host") == 0) {
        snprintf(hits->seen[0], sizeof hits->seen[0], "%s", r->auth);
        redirect(fd, "localhost", port, "/whoami");
    } else if (strcmp(path, "same-host") == 0) {
        lq_sendf(fd, "HTTP/1.1 307 T\r\nLocation: /whoami\r\nContent-Length: 0\r\n\r\n");
    } else if (strcmp(path, "outside") == 0) {
        redirect(fd, "192.0.2.1", 80, "/secret");
    } else if (strcmp(path, "file") == 0) {
        lq_sendf(fd, "HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
    } else {
        lq_sendf(fd, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"); /* to nowhere */
    }
}

static void answer_lies(int fd, const lq_request *r, lq_hits *hits)
{
    lq_request all = *r;
    all.from = -1;
    if (strcmp(r->path, "/lies/long") == 0) { /* promises more than it has, for ever */
        lq_sendf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY + 100);
        lq_send(fd, body, BODY);
    } else if (strcmp(r->path, "/lies/chunked") == 0) { /* no length, and then too much */
        lq_sendf(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        lq_send(fd, body, BODY);
        lq_send(fd, body, 1);
    } else if (strcmp(r->path, "/lies/short") == 0) { /* no length, and ends too soon */
        lq_sendf(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        lq_send(fd, body, BODY / 2);
    } else if (strcmp(r->path, "/lies/other") == 0) {
        lq_send_body(fd, r, "", other, BODY);
    } else if (strcmp(r->path, "/lies/norange") == 0) { /* answers 200 to a Range */
        lq_send_body(fd, &all, "", body, BODY);
    } else if (strcmp(r->path, "/lies/shift") == 0) { /* a 206 of another part */
        if (r->from > 0 && atomic_fetch_add(&hits->of[SHIFT], 1) == 0) {
            lq_sendf(fd,
                     "HTTP/1.1 206 P\r\nContent-Range: bytes 7-%d/%d\r\nContent-Length: %d\r\n"
                     "\r\n",
                     BODY - 1, BODY, BODY - 7);
            lq_send(fd, body + 7, BODY - 7);
        } else {
            lq_send_body(fd, r, "", body, BODY);
        }
    } else if (strcmp(r->path, "/lies/page") == 0) { /* a portal's page instead of the file */
        lq_send_body(fd, &all, "Content-Type: text/html\r\n", "<html>log in</html>", 19);
    }
}

static void answer(int fd, const lq_request *r, lq_hits *hits)
{
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    getsockname(fd, (struct sockaddr *)&here, &size);
    if (strncmp(r->path, "/to-", 4) == 0) {
        answer_redirects(fd, r, hits, ntohs(here.sin_port));
    } else if (strncmp(r->path, "/lies/", 6) == 0) {
        answer_lies(fd, r, hits);
    } else if (strcmp(r->path, "/good") == 0) {
        snprintf(hits->seen[1], sizeof hits->seen[1], "%s", r->range);
        lq_send_body(fd, r, "ETag: \"v1\"\r\n", body, BODY);
    } else if (strcmp(r->path, "/empty") == 0) {
        lq_send_body(fd, r, "", "", 0);
    } else if (strcmp(r->path, "/cut") == 0) { /* a third each time */
        atomic_fetch_add(&hits->of[CUT], 1);
        snprintf(hits->seen[2], sizeof hits->seen[2], "%s|%s", r->range, r->if_range);
        send_cut(fd, r, BODY / 3 + 10);
    } else if (strcmp(r->path, "/changing") == 0) { /* another file after the first third */
        if (atomic_fetch_add(&hits->of[CHANGING], 1) == 0)
            send_cut(fd, r, BODY / 3);
        else
            lq_send_body(fd,
                         &(lq_request){.from = strcmp(r->if_range, "\"v2\"") == 0 ? r->from : -1},
                         "ETag: \"v2\"\r\n", other, BODY);
    } else if (strcmp(r->path, "/stall") == 0) {
        send_cut(fd, r, r->from > 0 ? 0 : 1000);
        for (int i = 0; i < 60; i++)
            sleep(1);
    } else if (strcmp(r->path, "/500-then-ok") == 0) {
        if (atomic_fetch_add(&hits->of[ONCE_500], 1) == 0)
            lq_sendf(fd, "HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nsoon");
        else
            lq_send_body(fd, r, "", body, BODY);
    } else if (strcmp(r->path, "/429") == 0) {
        if (atomic_fetch_add(&hits->of[BUSY], 1) == 0)
            lq_sendf(fd, "HTTP/1.1 429 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
        else
            lq_send_body(fd, r, "", body, BODY);
    } else if (strcmp(r->path, "/500") == 0) {
        atomic_fetch_add(&hits->of[PATIENT], 1);
        lq_sendf(fd, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    } else if (strcmp(r->path, "/gated") == 0) {
        lq_sendf(fd, "HTTP/1.1 403 No\r\nX-Error-Code: GatedRepo\r\nContent-Length: 4\r\n\r\nnope");
    } else if (strcmp(r->path, "/whoami") == 0) {
        lq_send_body(fd, r, "Link: <http://127.0.0.1/next>; rel=\"next\"\r\n", r->auth,
                     strlen(r->auth));
    } else {
        atomic_fetch_add(&hits->of[ASKED], 1);
        lq_sendf(fd, "HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone");
    }
}

/* --- helpers ---------------------------------------------------------------------------------- */

static const char *url_of(const char *path)
{
    return lq_arena_printf(&arena, "http://127.0.0.1:%d%s", server.port, path);
}

static lq_fetch wanted(const char *path)
{
    return (lq_fetch){
        .what = "thing", .url = url_of(path), .bytes = BODY, .sha256 = digest.hex, .pace = &hasty};
}

static const char *place(const char *name) { return lq_arena_printf(&arena, "%s/%s", root, name); }

static bool holds_body(const char *path)
{
    char *data;
    size_t n;
    return lq_file_read(path, &arena, &data, &n) == LQ_OK && n == BODY &&
           memcmp(data, body, n) == 0;
}

/* Names in the test's folder, joined by a blank. */
static const char *listing(void)
{
    char **names;
    size_t n;
    const char *text = "";
    check_ok(lq_path_list(root, &arena, &names, &n));
    for (size_t i = 0; i < n; i++)
        text = lq_arena_printf(&arena, "%s%s%s", text, i > 0 ? " " : "", names[i]);
    return text;
}

static void fails_and_leaves(const char *path, lq_status code, const char *note, const char *left)
{
    const lq_fetch want = wanted(path);
    const lq_status status = lq_fetch_file(&want, place("f"), NULL);
    if (status != code || strstr(lq_status_note(), note) == NULL)
        fail_msg("%s: %s, '%s'", path, lq_status_name(status), lq_status_note());
    assert_string_equal(listing(), left);
    unlink(place("f.part"));
}

/* --- tests ------------------------------------------------------------------------------------ */

static void a_file_comes_whole_and_is_not_fetched_twice(void **state)
{
    (void)state;
    lq_fetch want = wanted("/good");
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_true(holds_body(place("f")));
    assert_string_equal(listing(), "f");
    want.url = url_of("/absent"); /* asks nobody: the digest holds */
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    check_ok(lq_file_write_all(place("f"), other, BODY)); /* damaged: asks */
    assert_int_equal(lq_fetch_file(&want, place("f"), NULL), LQ_E_MISSING);
    want.url = url_of("/good");
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_true(holds_body(place("f")));
}

static void an_empty_file_is_a_file(void **state)
{
    (void)state;
    const lq_fetch want = {.what = "none", .url = url_of("/empty"), .pace = &hasty};
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_string_equal(listing(), "f");
}

static void a_part_is_resumed_where_it_ended(void **state)
{
    (void)state;
    const lq_fetch want = wanted("/good");
    check_ok(lq_file_write_all(place("f.part"), body, 1234));
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_string_equal(server.hits->seen[1], "bytes=1234-");
    assert_true(holds_body(place("f")));
    unlink(place("f"));
    check_ok(lq_file_write_all(place("f.part"), body, BODY)); /* whole already */
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_true(holds_body(place("f")));
    unlink(place("f"));
    lq_fetch sizeless = want; /* 416: nothing after the end */
    sizeless.bytes = 0;
    check_ok(lq_file_write_all(place("f.part"), body, BODY));
    check_ok(lq_fetch_file(&sizeless, place("f"), NULL));
    assert_true(holds_body(place("f")));
}

static void a_part_of_another_version_is_fetched_again(void **state)
{
    (void)state;
    const lq_fetch want = wanted("/good");
    check_ok(lq_file_write_all(place("f.part"), other, 1234));
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_true(holds_body(place("f")));
    assert_string_equal(listing(), "f");
}

static void a_part_that_nothing_can_prove_is_not_resumed(void **state)
{
    (void)state;
    const lq_fetch want = {.what = "thing", .url = url_of("/good"), .pace = &hasty};
    check_ok(lq_file_write_all(place("f.part"), other, 1234));
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_true(holds_body(place("f")));
    assert_string_equal(server.hits->seen[1], "");
}

static void a_cut_transfer_goes_on_with_its_etag(void **state)
{
    (void)state;
    lq_fetch want = wanted("/cut");
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_true(holds_body(place("f")));
    assert_int_equal(server.hits->of[CUT], 3);
    assert_string_equal(server.hits->seen[2], "bytes=200020-|\"v1\"");
}

static void a_file_that_changes_meanwhile_is_one_version(void **state)
{
    (void)state;
    const lq_fetch want = {.what = "thing", .url = url_of("/changing"), .pace = &hasty};
    char *data;
    size_t n;
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    check_ok(lq_file_read(place("f"), &arena, &data, &n));
    assert_int_equal(n, BODY);
    assert_memory_equal(data, other, BODY);
}

static void a_server_that_lies_is_not_believed(void **state)
{
    (void)state;
    fails_and_leaves("/lies/long", LQ_E_FORMAT, "300100 bytes, 300000 are right", "");
    fails_and_leaves("/lies/chunked", LQ_E_FORMAT, "more than 300000", "");
    fails_and_leaves("/lies/short", LQ_E_IO, "ended after 150000 of 300000", "f.part");
    fails_and_leaves("/lies/other", LQ_E_FORMAT, "sha256", "");
    fails_and_leaves("/lies/page", LQ_E_FORMAT, "19 bytes", "");
    check_ok(lq_file_write_all(place("f.part"), body, 500)); /* what was good stays good */
    fails_and_leaves("/lies/page", LQ_E_FORMAT, "19 bytes", "f.part");
}

static void a_range_ignored_or_shifted_starts_again(void **state)
{
    (void)state;
    static const char *const path[] = {"/lies/norange", "/lies/shift"};
    for (size_t i = 0; i < 2; i++) {
        const lq_fetch want = wanted(path[i]);
        check_ok(lq_file_write_all(place("f.part"), body, 1234));
        check_ok(lq_fetch_file(&want, place("f"), NULL));
        assert_true(holds_body(place("f")));
        unlink(place("f"));
    }
}

static void what_passes_is_tried_again_and_what_does_not_is_not(void **state)
{
    (void)state;
    const lq_fetch want = wanted("/500-then-ok"), busy = wanted("/429");
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    unlink(place("f"));
    const time_t before = time(NULL);
    check_ok(lq_fetch_file(&busy, place("f"), NULL));
    assert_true(time(NULL) - before >= 1 || time(NULL) < before); /* Retry-After was kept */
    unlink(place("f"));
    fails_and_leaves("/500", LQ_E_IO, "503", "");
    assert_int_equal(server.hits->of[PATIENT], 3);
    fails_and_leaves("/absent", LQ_E_MISSING, "404", "");
    fails_and_leaves("/gated", LQ_E_MISSING, "403 (GatedRepo)", "");
    assert_int_equal(server.hits->of[ASKED], 2); /* one here, one in the first test */
}

static void a_stalled_transfer_ends_and_can_go_on(void **state)
{
    (void)state;
    static const lq_fetch_pace once = {.attempts = 1, .backoff_ms = 1, .stall_s = 1};
    lq_fetch want = wanted("/stall");
    want.pace = &once;
    check_ok(lq_file_write_all(place("f.part"), body, 1000));
    const time_t before = time(NULL);
    assert_int_equal(lq_fetch_file(&want, place("f"), NULL), LQ_E_IO);
    assert_true(time(NULL) - before < 30);
    assert_string_equal(listing(), "f.part");
    want = wanted("/good");
    check_ok(lq_fetch_file(&want, place("f"), NULL));
    assert_string_equal(server.hits->seen[1], "bytes=1000-");
}

static void redirects_are_few_and_stay_safe(void **state)
{
    (void)state;
    fails_and_leaves("/to-loop", LQ_E_IO, "more than 8", "");
    assert_int_equal(server.hits->of[LOOP], 9);
    fails_and_leaves("/to-outside", LQ_E_IO, "only https", "");
    fails_and_leaves("/to-file", LQ_E_IO, "", "");
    fails_and_leaves("/to-nowhere", LQ_E_IO, "302", "");
    lq_fetch want = wanted("/good");
    static const char *const bad[] = {"http://example.org/x", "ftp://127.0.0.1/x",
                                      "file:///etc/passwd", "no url at all", ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        want.url = bad[i];
        assert_int_equal(lq_fetch_file(&want, place("f"), NULL), LQ_E_IO);
    }
    assert_string_equal(listing(), "");
}

static void the_token_stays_with_its_host(void **state)
{
    (void)state;
    char *text;
    size_t n;
    lq_reply reply;
    lq_fetch want = {
        .what = "who", .url = url_of("/to-other-host"), .token = "s3cret", .pace = &hasty};
    check_ok(lq_fetch_text(&want, 1000, &arena, &text, &n, &reply));
    assert_string_equal(server.hits->seen[0], "Bearer s3cret"); /* the first host got it */
    assert_string_equal(text, "");                              /* the second did not */
    want.url = url_of("/to-same-host");
    check_ok(lq_fetch_text(&want, 1000, &arena, &text, &n, &reply));
    assert_string_equal(text, "Bearer s3cret");
    assert_string_equal(reply.next, "http://127.0.0.1/next");
    assert_int_equal(lq_fetch_text(&want, 3, &arena, &text, &n, &reply), LQ_E_FORMAT);
}

static void a_note_shows_no_secret(void **state)
{
    (void)state;
    lq_fetch want = wanted("/absent");
    want.url = lq_arena_printf(&arena, "http://me:pass@127.0.0.1:%d/x?sig=hush", server.port);
    want.token = "s3cret";
    assert_int_equal(lq_fetch_file(&want, place("f"), NULL), LQ_E_MISSING);
    assert_null(strstr(lq_status_note(), "pass"));
    assert_null(strstr(lq_status_note(), "hush"));
    assert_null(strstr(lq_status_note(), "s3cret"));
}

static void two_at_once_take_turns(void **state)
{
    (void)state;
    const lq_fetch want = wanted("/cut");
    pid_t child[3];
    for (size_t i = 0; i < 3; i++) {
        child[i] = fork();
        if (child[i] == 0)
            _Exit(lq_fetch_file(&want, place("f"), NULL) == LQ_OK ? 0 : 1);
    }
    for (size_t i = 0; i < 3; i++) {
        int how;
        assert_int_equal(waitpid(child[i], &how, 0), child[i]);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    }
    assert_true(holds_body(place("f")));
    assert_string_equal(listing(), "f");
    assert_int_equal(server.hits->of[CUT],
                     6); /* three of the earlier test, three of the first child */
}

static void a_part_that_is_a_link_is_not_followed(void **state)
{
    (void)state;
    const lq_fetch want = wanted("/good");
    check_ok(lq_file_write_all(place("victim"), "mine", 4));
    assert_int_equal(symlink("victim", place("f.part")), 0);
    assert_int_equal(lq_fetch_file(&want, place("f"), NULL), LQ_E_IO);
    char *data;
    size_t n;
    check_ok(lq_file_read(place("victim"), &arena, &data, &n));
    assert_string_equal(data, "mine");
}

static void git_names_are_gits(void **state)
{
    (void)state;
    char id[41];
    check_ok(lq_file_write_all(place("h"), "hello\n",
                               6)); /* printf 'hello\n' | git hash-object --stdin */
    check_ok(lq_git_blob_id(place("h"), id));
    assert_string_equal(id, "ce013625030ba8dba906f756967f9e9ca394464a");
    lq_fetch want = wanted("/good");
    want.sha256 = NULL;
    want.git = id;
    assert_int_equal(lq_fetch_file(&want, place("f"), NULL), LQ_E_FORMAT);
    assert_string_equal(listing(), "h");
}

static void urls_are_put_together(void **state)
{
    (void)state;
    const char *url;
    const char *base = "https://pypi.example/simple/thing/";
    check_ok(lq_fetch_resolve(base, "../../files/a.whl#sha256=1", &arena, &url));
    assert_string_equal(url, "https://pypi.example/files/a.whl#sha256=1");
    check_ok(lq_fetch_resolve(base, "https://other.example/a.whl", &arena, &url));
    assert_string_equal(url, "https://other.example/a.whl");
    assert_int_equal(lq_fetch_resolve(base, "http://127.0.0.1/a.whl", &arena, &url), LQ_E_FORMAT);
    assert_int_equal(lq_fetch_resolve(base, "file:///etc/passwd", &arena, &url), LQ_E_FORMAT);
    assert_string_equal(lq_fetch_escape("en/a b%#?\xc3\xa4.gz", &arena),
                        "en/a%20b%25%23%3F%C3%A4.gz");
}

static int new_root(void **state)
{
    (void)state;
    char dir[] = "/tmp/lq-fetch-XXXXXX";
    root = mkdtemp(dir) ? lq_arena_printf(&arena, "%s", dir) : NULL;
    return root == NULL;
}

static int remove_root(void **state)
{
    (void)state;
    return lq_path_remove_tree(root) != LQ_OK;
}

static int start(void **state)
{
    (void)state;
    lq_rng rng = lq_rng_seed(7);
    for (size_t i = 0; i < BODY; i++) {
        body[i] = (char)lq_rng_u64(&rng);
        other[i] = (char)(body[i] ^ 1);
    }
    lq_log_quiet(true);
    server = lq_serve(answer);
    return lq_sha256_of(body, BODY, &digest) != LQ_OK;
}

static int stop(void **state)
{
    (void)state;
    lq_serve_stop(&server);
    lq_arena_close(&arena);
    return 0;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, new_root, remove_root)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_file_comes_whole_and_is_not_fetched_twice),
        CASE(an_empty_file_is_a_file),
        CASE(a_part_is_resumed_where_it_ended),
        CASE(a_part_of_another_version_is_fetched_again),
        CASE(a_part_that_nothing_can_prove_is_not_resumed),
        CASE(a_cut_transfer_goes_on_with_its_etag),
        CASE(a_file_that_changes_meanwhile_is_one_version),
        CASE(a_server_that_lies_is_not_believed),
        CASE(a_range_ignored_or_shifted_starts_again),
        CASE(what_passes_is_tried_again_and_what_does_not_is_not),
        CASE(a_stalled_transfer_ends_and_can_go_on),
        CASE(redirects_are_few_and_stay_safe),
        CASE(the_token_stays_with_its_host),
        CASE(a_note_shows_no_secret),
        CASE(two_at_once_take_turns),
        CASE(a_part_that_is_a_link_is_not_followed),
        CASE(git_names_are_gits),
        CASE(urls_are_put_together),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
