/* The store: records whole or absent, never rewritten, each the digest of its configuration. */
#include "core/base/file.h"
#include "core/store/store.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/lcqat_store_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return lq_path_remove_tree(root) == LQ_OK ? 0 : -1;
}

static lq_store *opened(void)
{
    lq_store *store;
    char path[128];
    snprintf(path, sizeof path, "%s/a/runs", root); /* open makes both */
    if (lq_store_open(path, &store) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return store;
}

static lq_json *config_of(double lr)
{
    lq_json *config = lq_json_object();
    lq_json_set_string(config, "model", "m");
    lq_json_set_number(config, "lr", lr);
    return config;
}

static void commit_one(lq_store *store, const lq_json *config, lq_outcome outcome, double ppl)
{
    lq_run *run;
    if (lq_run_begin(store, config, &run) != LQ_OK)
        fail_msg("%s", lq_status_note());
    lq_run_metric(run, "perplexity", "1", ppl);
    lq_run_metric(run, "tokens_seen", "token", 4096);
    lq_run_point(run, "train_loss", 128, 3.25);
    lq_run_point(run, "train_loss", 256, (double)NAN);
    lq_run_attach(run, "machine", lq_json_of_string("here"));
    if (lq_run_commit(run, outcome, "a note") != LQ_OK)
        fail_msg("%s", lq_status_note());
}

static void a_committed_run_reads_back(void **state)
{
    (void)state;
    lq_store *store = opened();
    lq_json *config = config_of(1e-3), *record;
    lq_digest id;
    assert_false(lq_store_has(store, config, &id));
    commit_one(store, config, LQ_FINISHED, 12.5);
    assert_true(lq_store_has(store, config, &id));
    assert_int_equal(lq_store_read(store, id.hex, &record), LQ_OK);
    assert_string_equal(lq_json_string(lq_json_get(record, "id")), id.hex);
    assert_string_equal(lq_json_string(lq_json_get(record, "note")), "a note");
    assert_string_equal(lq_json_string(lq_json_get(record, "machine")), "here");
    assert_int_equal(lq_store_outcome(record), LQ_FINISHED);
    assert_true(lq_store_metric(record, "perplexity") == 12.5);
    assert_true(isnan(lq_store_metric(record, "absent")));
    const lq_json *s = lq_json_get(lq_json_get(record, "series"), "train_loss");
    assert_true(lq_json_number(lq_json_at(lq_json_get(s, "x"), 1)) == 256);
    assert_string_equal(lq_json_string(lq_json_at(lq_json_get(s, "value"), 1)), "NaN");
    assert_true(lq_json_number(lq_json_get(record, "wall_s")) >= 0);
    assert_true(lq_json_number(lq_json_get(record, "peak_bytes")) > 4096);
    lq_json_free(record);
    lq_json_free(config);
    lq_store_close(store);
}

static void what_diverged_keeps_its_infinity(void **state)
{
    (void)state;
    lq_store *store = opened();
    lq_json *config = config_of(9), *record;
    lq_digest id;
    commit_one(store, config, LQ_DIVERGED, (double)INFINITY);
    assert_true(lq_store_has(store, config, &id));
    assert_int_equal(lq_store_read(store, id.hex, &record), LQ_OK);
    assert_int_equal(lq_store_outcome(record), LQ_DIVERGED);
    assert_true(isinf(lq_store_metric(record, "perplexity")));
    lq_json_free(record);
    lq_json_free(config);
    lq_store_close(store);
}

static void the_id_depends_on_the_value_not_on_the_order(void **state)
{
    (void)state;
    lq_json *a, *b, *c;
    lq_digest of_a, of_b, of_c;
    const char *const text[] = {"{\"a\":1,\"b\":[1.5]}", "{\"b\":[1.5],\"a\":1.0}",
                                "{\"a\":1,\"b\":[1,5]}"};
    lq_json **const json[] = {&a, &b, &c};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(lq_json_parse(text[i], strlen(text[i]), "t", json[i]), LQ_OK);
    assert_int_equal(lq_store_id(a, &of_a), LQ_OK);
    assert_int_equal(lq_store_id(b, &of_b), LQ_OK);
    assert_int_equal(lq_store_id(c, &of_c), LQ_OK);
    assert_string_equal(of_a.hex, of_b.hex);
    assert_string_not_equal(of_a.hex, of_c.hex);
    lq_json_free(a);
    lq_json_free(b);
    lq_json_free(c);
}

static void a_record_is_never_rewritten(void **state)
{
    (void)state;
    lq_store *store = opened();
    lq_json *config = config_of(2), *record;
    lq_digest id;
    lq_run *first, *second;
    assert_int_equal(lq_run_begin(store, config, &first), LQ_OK);
    assert_int_equal(lq_run_begin(store, config, &second), LQ_OK);
    lq_run_metric(first, "perplexity", "1", 1);
    lq_run_metric(second, "perplexity", "1", 2);
    assert_int_equal(lq_run_commit(first, LQ_FINISHED, ""), LQ_OK);
    assert_int_equal(lq_run_commit(second, LQ_FINISHED, ""), LQ_E_IO);
    assert_int_equal(lq_run_begin(store, config, &second), LQ_E_IO);
    assert_null(second);
    assert_true(lq_store_has(store, config, &id));
    assert_int_equal(lq_store_read(store, id.hex, &record), LQ_OK);
    assert_true(lq_store_metric(record, "perplexity") == 1);
    lq_json_free(record);
    lq_json_free(config);
    lq_store_close(store);
}

static void an_abandoned_run_leaves_nothing(void **state)
{
    (void)state;
    lq_store *store = opened();
    lq_json *config = config_of(3);
    lq_arena arena = {0};
    lq_digest id;
    lq_run *run;
    char **names;
    size_t before, after;
    assert_int_equal(lq_path_list(lq_store_root(store), &arena, &names, &before), LQ_OK);
    assert_int_equal(lq_run_begin(store, config, &run), LQ_OK);
    lq_run_metric(run, "perplexity", "1", 1);
    lq_run_abandon(run);
    lq_run_abandon(NULL);
    assert_int_equal(lq_path_list(lq_store_root(store), &arena, &names, &after), LQ_OK);
    assert_int_equal(before, after);
    assert_false(lq_store_has(store, config, &id));
    lq_arena_close(&arena);
    lq_json_free(config);
    lq_store_close(store);
}

static void list_skips_what_is_no_record(void **state)
{
    (void)state;
    lq_store *store = opened();
    lq_arena arena = {0};
    char **ids;
    size_t n;
    assert_int_equal(lq_store_list(store, &arena, &ids, &n), LQ_OK);
    const size_t good = n;
    char path[256], hex[65] = "";
    memset(hex, 'a', 64);
    const char *const other[] = {"notes.txt", "x.json", "y.json.1-0.part"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", lq_store_root(store), other[i]);
        assert_int_equal(lq_file_write_all(path, "{}", 2), LQ_OK);
    }
    snprintf(path, sizeof path, "%s/%s.json", lq_store_root(store), hex);
    assert_int_equal(lq_file_write_all(path, "{\"id\":1}", 8), LQ_OK);
    assert_int_equal(lq_store_list(store, &arena, &ids, &n), LQ_OK);
    assert_int_equal(n, good);
    for (size_t i = 1; i < n; i++)
        assert_true(strcmp(ids[i - 1], ids[i]) < 0);
    lq_arena_close(&arena);
    lq_store_close(store);
}

/* Half a file, and a record whose configuration was edited by hand: both count as not there. */
static void a_damaged_record_is_a_format_error_and_is_replaced(void **state)
{
    (void)state;
    lq_store *store = opened();
    lq_json *config = config_of(4), *record;
    lq_arena arena = {0};
    lq_digest id;
    char *text;
    size_t bytes;
    commit_one(store, config, LQ_FINISHED, 7);
    assert_true(lq_store_has(store, config, &id));
    const char *path = lq_arena_printf(&arena, "%s/%s.json", lq_store_root(store), id.hex);
    assert_int_equal(lq_file_read(path, &arena, &text, &bytes), LQ_OK);
    char *lr = strstr(text, "\"lr\":4");
    assert_non_null(lr);
    lr[5] = '5';
    assert_int_equal(lq_file_write_all(path, text, bytes), LQ_OK);
    assert_int_equal(lq_store_read(store, id.hex, &record), LQ_E_FORMAT);
    assert_null(record);
    assert_int_equal(lq_file_write_all(path, text, bytes / 2), LQ_OK);
    assert_int_equal(lq_store_read(store, id.hex, &record), LQ_E_FORMAT);
    assert_false(lq_store_has(store, config, &id));
    commit_one(store, config, LQ_FINISHED, 8);
    assert_true(lq_store_has(store, config, &id));
    assert_int_equal(lq_store_read(store, "../../etc/passwd", &record), LQ_E_MISSING);
    lq_arena_close(&arena);
    lq_json_free(config);
    lq_store_close(store);
}

static void open_where_a_file_stands_is_an_io_error(void **state)
{
    (void)state;
    char path[128];
    lq_store *store;
    snprintf(path, sizeof path, "%s/file", root);
    assert_int_equal(lq_file_write_all(path, "", 0), LQ_OK);
    assert_int_equal(lq_store_open(path, &store), LQ_E_IO);
    assert_null(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_committed_run_reads_back),
        cmocka_unit_test(what_diverged_keeps_its_infinity),
        cmocka_unit_test(the_id_depends_on_the_value_not_on_the_order),
        cmocka_unit_test(a_record_is_never_rewritten),
        cmocka_unit_test(an_abandoned_run_leaves_nothing),
        cmocka_unit_test(list_skips_what_is_no_record),
        cmocka_unit_test(a_damaged_record_is_a_format_error_and_is_replaced),
        cmocka_unit_test(open_where_a_file_stands_is_an_io_error),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
