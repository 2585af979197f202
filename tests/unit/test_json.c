#include "core/base/file.h"
#include "core/base/json.h"

#include <float.h>
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

static lq_json *parsed(const char *text)
{
    lq_json *doc;
    if (lq_json_parse(text, strlen(text), "text", &doc) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return doc;
}

static void refused(const char *text, size_t n)
{
    lq_json *doc = (lq_json *)1;
    lq_status status = lq_json_parse(text, n, "text", &doc);
    if (status != LQ_E_FORMAT)
        fail_msg("taken: %s", text);
    assert_null(doc);
    assert_int_equal(strncmp(lq_status_note(), "text: ", 6), 0);
}

static void what_is_no_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", " ", "{", "}", "[1", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}",
        "{'a':1}", "[1 2]", "1 2", "{} x", "[]]", "nul", "nulll", "True", "NaN", "Infinity",
        "-Infinity", "// c\n1", "\xef\xbb\xbf{}", "\v1", "\f[]",
        /* numbers that strtod takes */
        "01", "-01", "00", "+1", "1.", ".5", "-.5", "1e", "1e+", "1.e5", "0x10", "-", "1-2",
        "1_000", "1e999", "-1e999", "--1",
        /* strings */
        "\"", "\"a", "\"\\\"", "\"\n\"", "\"\t\"", "\"\x01\"", "\"\\x41\"", "\"\\u12\"",
        "\"\\u123g\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
        "\"\\ud800x\"", "\"\\",
        /* not UTF-8: stray, cut, overlong, surrogate, above U+10FFFF */
        "\"\x80\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xe0\x80\xaf\"", "\"\xf0\x80\x80\xaf\"",
        "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xff\"", "\xa0",
        /* a key twice, also when spelt differently or deep inside */
        "{\"a\":1,\"a\":1}", "{\"a\":1,\"\\u0061\":2}", "[{\"b\":{\"x\":1,\"y\":2,\"x\":3}}]",
        "{\"\":1,\"\":2}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i], strlen(bad[i]));
    static const char with_nul[] = "[1]\0", nul_inside[] = "[1,\0 2]", nul_in_string[] = "\"a\0b\"";
    refused(with_nul, sizeof with_nul - 1);
    refused(nul_inside, sizeof nul_inside - 1);
    refused(nul_in_string, sizeof nul_in_string - 1);
    /* a prefix of what would be fine: nothing behind the n-th byte may be read */
    static const char whole[] = "[true,\"\\u00e9\xc3\xa9\\ud83d\\ude00\",-12.5e-1,{\"k\":null}]";
    lq_json_free(parsed(whole));
    for (size_t n = 0; n + 1 < sizeof whole; n++) {
        char *copy = malloc(n ? n : 1); /* the sanitizer watches its end */
        assert_non_null(copy);
        memcpy(copy, whole, n);
        lq_json *doc;
        assert_int_equal(lq_json_parse(copy, n, "text", &doc), LQ_E_FORMAT);
        free(copy);
    }
}

static void nest(char *text, size_t depth)
{
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    text[2 * depth] = '\0';
}

static void nesting_ends_at_64(void **state)
{
    (void)state;
    static char text[400001];
    nest(text, 64);
    lq_json_free(parsed(text));
    nest(text, 65);
    refused(text, strlen(text));
    nest(text, 200000);
    refused(text, strlen(text));
    lq_json_free(
        parsed("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\""));
    assert_int_equal(lq_json_check("[[1]]", 5, "t", 2), LQ_OK);
    assert_int_equal(lq_json_check("[[1]]", 5, "t", 1), LQ_E_FORMAT);
}

static void values_come_through(void **state)
{
    (void)state;
    lq_json *doc =
        parsed(" {\"n\":-12.5e-1,\"s\":\"a\\n\\u00e9\\ud83d\\ude00\",\"t\":true,\"f\":false,"
               "\"z\":null,\"a\":[1,2,3],\"o\":{}}\r\n");
    assert_int_equal(lq_json_type(doc), LQ_JSON_OBJECT);
    assert_int_equal(lq_json_count(doc), 7);
    assert_true(lq_json_number(lq_json_get(doc, "n")) == -1.25);
    assert_string_equal(lq_json_string(lq_json_get(doc, "s")), "a\n\xc3\xa9\xf0\x9f\x98\x80");
    assert_true(lq_json_true(lq_json_get(doc, "t")));
    assert_false(lq_json_true(lq_json_get(doc, "f")));
    assert_false(lq_json_true(lq_json_get(doc, "n")));
    assert_int_equal(lq_json_type(lq_json_get(doc, "f")), LQ_JSON_BOOL);
    assert_int_equal(lq_json_type(lq_json_get(doc, "z")), LQ_JSON_NULL);
    assert_null(lq_json_get(doc, "N")); /* keys are case-sensitive */
    assert_null(lq_json_get(lq_json_get(doc, "a"), "n"));
    assert_null(lq_json_get(NULL, "n"));
    assert_null(lq_json_string(lq_json_get(doc, "n")));
    assert_true(isnan(lq_json_number(lq_json_get(doc, "s"))));
    const lq_json *array = lq_json_get(doc, "a");
    assert_int_equal(lq_json_type(array), LQ_JSON_ARRAY);
    assert_true(lq_json_number(lq_json_at(array, 2)) == 3.0);
    assert_null(lq_json_at(array, 3));
    assert_string_equal(lq_json_key(lq_json_first(doc)), "n");
    assert_string_equal(lq_json_key(lq_json_next(lq_json_first(doc))), "s");
    assert_string_equal(lq_json_key(lq_json_at(array, 0)), "");
    assert_null(lq_json_first(lq_json_get(doc, "o")));
    lq_json *copy = lq_json_copy(array);
    lq_json_free(doc);
    assert_int_equal(lq_json_count(copy), 3);
    assert_string_equal(lq_json_key(copy), "");
    lq_json_free(copy);
    lq_json_free(NULL);
}

static void typed_members_are_checked(void **state)
{
    (void)state;
    lq_json *doc = parsed("{\"n\":4,\"r\":0.5,\"neg\":-1,\"big\":1e300,\"s\":\"x\",\"b\":true}");
    size_t size = 0;
    double real = 0.0;
    bool flag = false;
    const char *text = NULL;
    assert_int_equal(lq_json_size(doc, "spec", "n", 2, 8, 3, &size), LQ_OK);
    assert_int_equal(size, 4);
    assert_int_equal(lq_json_size(doc, "spec", "absent", 2, 8, 3, &size), LQ_OK);
    assert_int_equal(size, 3);
    assert_int_equal(lq_json_size(doc, "spec", "n", 5, 8, 6, &size), LQ_E_OPTION);
    assert_string_equal(lq_status_note(), "spec: n: expected a whole number from 5 to 8");
    assert_int_equal(lq_json_size(doc, "spec", "n", 0, 3, 3, &size), LQ_E_OPTION);
    static const char *const no_size[] = {"r", "neg", "big", "s", "b"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(lq_json_size(doc, "spec", no_size[i], 0, SIZE_MAX, 3, &size), LQ_E_OPTION);
    assert_int_equal(lq_json_real(doc, "spec", "r", 0.0, 1.0, 0.0, &real), LQ_OK);
    assert_true(real == 0.5);
    assert_int_equal(lq_json_real(doc, "spec", "r", 0.6, 1.0, 0.7, &real), LQ_E_OPTION);
    assert_int_equal(lq_json_real(doc, "spec", "s", 0.0, 1.0, 0.7, &real), LQ_E_OPTION);
    assert_int_equal(lq_json_real(doc, "spec", "none", 0.0, 1.0, 0.7, &real), LQ_OK);
    assert_true(real == 0.7);
    assert_int_equal(lq_json_bool(doc, "spec", "b", false, &flag), LQ_OK);
    assert_true(flag);
    assert_int_equal(lq_json_bool(doc, "spec", "n", false, &flag), LQ_E_OPTION);
    assert_int_equal(lq_json_text(doc, "spec", "s", NULL, &text), LQ_OK);
    assert_string_equal(text, "x");
    assert_int_equal(lq_json_text(doc, "spec", "none", NULL, &text), LQ_E_OPTION);
    assert_int_equal(lq_json_text(doc, "spec", "none", "y", &text), LQ_OK);
    assert_string_equal(text, "y");
    assert_int_equal(lq_json_text(doc, "spec", "n", "y", &text), LQ_E_OPTION);
    assert_int_equal(lq_json_only_keys(doc, "spec", "n", "r", "neg", "big", "s", "b", NULL), LQ_OK);
    assert_int_equal(lq_json_only_keys(doc, "spec", "n", "r", "s", "b", NULL), LQ_E_OPTION);
    assert_string_equal(lq_status_note(), "spec: unknown key \"neg\"; known: n, r, s, b");
    assert_int_equal(lq_json_only_keys(lq_json_get(doc, "n"), "spec", "n", NULL), LQ_E_OPTION);
    lq_json_free(doc);
}

static void check_canonical(const char *text, const char *want)
{
    lq_arena arena = {0};
    lq_json *doc = parsed(text);
    char *got = lq_json_canonical(doc, &arena);
    assert_string_equal(got, want);
    lq_json *again = parsed(got);
    assert_string_equal(lq_json_canonical(again, &arena), want);
    lq_json_free(again);
    lq_json_free(doc);
    lq_arena_close(&arena);
}

static void canonical_text_is_one_a_value(void **state)
{
    (void)state;
    check_canonical(
        " { \"b\" : [ 1 , {} , [] ] , \"a\" : null, \"B\":\"\\u00e9/\\/\\u0001\\\"\\\\\" }",
        "{\"B\":\"\xc3\xa9//\\u0001\\\"\\\\\",\"a\":null,\"b\":[1,{},[]]}");
    check_canonical("{\"\xc3\xa9\":1,\"z\":2,\"\":3}", "{\"\":3,\"z\":2,\"\xc3\xa9\":1}");
    static const char *const numbers[][2] = {{"0", "0"},
                                             {"-0", "-0"},
                                             {"1.0", "1"},
                                             {"1e3", "1000"},
                                             {"100000000000000000000", "1e+20"},
                                             {"9007199254740991", "9007199254740991"},
                                             {"9007199254740992", "9007199254740992"},
                                             {"0.1", "0.1"},
                                             {"0.30000000000000004", "0.30000000000000004"},
                                             {"2E-5", "2e-05"},
                                             {"5e-324", "5e-324"},
                                             {"1.7976931348623157e308", "1.7976931348623157e+308"},
                                             {"123456.789", "123456.789"},
                                             {"-2.5", "-2.5"}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        check_canonical(numbers[i][0], numbers[i][1]);
}

static void numbers_come_back_the_same(void **state)
{
    (void)state;
    uint64_t bits = 88172645463325252u; /* xorshift64: any bit patterns will do */
    for (int i = 0; i < 20000; i++) {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        lq_arena arena = {0};
        lq_json *node = lq_json_of_number(value);
        const char *text = lq_json_canonical(node, &arena);
        lq_json *back = parsed(text);
        double got = lq_json_number(back);
        assert_memory_equal(&got, &value, sizeof got);
        lq_json_free(back);
        lq_json_free(node);
        lq_arena_close(&arena);
    }
}

static void building_and_printing(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_json *doc = lq_json_object(), *list = lq_json_array(), *rows = lq_json_array();
    lq_json_set_number(doc, "loss", (double)NAN);
    lq_json_set_number(doc, "top", (double)INFINITY);
    lq_json_set_number(doc, "low", -(double)INFINITY);
    lq_json_set_string(doc, "name", "old");
    lq_json_set_bool(doc, "ok", true);
    lq_json_set_string(doc, "name", "new"); /* replaces, and keeps the place */
    lq_json_append(list, lq_json_of_number(1));
    lq_json_append(list, lq_json_of_number(0.5));
    lq_json_set(doc, "list", list);
    lq_json_append(rows, lq_json_object());
    lq_json_append(rows, parsed("{\"x\":[]}"));
    lq_json_set(doc, "rows", rows);
    assert_string_equal(lq_json_canonical(doc, &arena),
                        "{\"list\":[1,0.5],\"loss\":\"NaN\",\"low\":\"-Infinity\",\"name\":\"new\","
                        "\"ok\":true,\"rows\":[{},{\"x\":[]}],\"top\":\"Infinity\"}");
    assert_string_equal(lq_json_pretty(doc, &arena), "{\n"
                                                     "  \"loss\": \"NaN\",\n"
                                                     "  \"top\": \"Infinity\",\n"
                                                     "  \"low\": \"-Infinity\",\n"
                                                     "  \"name\": \"new\",\n"
                                                     "  \"ok\": true,\n"
                                                     "  \"list\": [1, 0.5],\n"
                                                     "  \"rows\": [\n"
                                                     "    {},\n"
                                                     "    {\n"
                                                     "      \"x\": []\n"
                                                     "    }\n"
                                                     "  ]\n"
                                                     "}\n");
    lq_json_free(doc);
    doc = lq_json_of_string("a\xff\xc3"); /* a path that is not UTF-8 still makes valid JSON */
    assert_string_equal(lq_json_canonical(doc, &arena), "\"a??\"");
    lq_json_free(doc);
    lq_arena_close(&arena);
}

static void a_large_object_is_read_quickly(void **state)
{
    (void)state;
    enum { KEYS = 100000 };
    char *text = malloc(KEYS * 16 + 32), *at = text;
    assert_non_null(text);
    for (int i = 0; i < KEYS; i++)
        at += snprintf(at, 16, "%c\"k%d\":1", i ? ',' : '{', i);
    snprintf(at, 4, "}");
    lq_json *doc = parsed(text);
    size_t n = 0;
    for (const lq_json *m = lq_json_first(doc); m; m = lq_json_next(m))
        n++;
    assert_int_equal(n, KEYS);
    lq_json_free(doc);
    snprintf(at, 16, ",\"k77\":1}");
    refused(text, strlen(text));
    free(text);
}

static void reading_a_file_names_it(void **state)
{
    (void)state;
    char path[] = P_tmpdir "/lcqat-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"a\":1} x", 9), 9);
    close(fd);
    lq_json *doc;
    assert_int_equal(lq_json_read(path, &doc), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), path));
    assert_int_equal(lq_file_write_all(path, "{\"a\":1}\n", 8), LQ_OK);
    assert_int_equal(lq_json_read(path, &doc), LQ_OK);
    lq_json_free(doc);
    unlink(path);
    assert_int_equal(lq_json_read(path, &doc), LQ_E_MISSING);
    assert_null(doc);
}

static void utf8_check_knows_the_limits(void **state)
{
    (void)state;
    assert_true(lq_utf8_valid("", 0));
    assert_true(lq_utf8_valid("\xf4\x8f\xbf\xbf\xed\x9f\xbf\xe0\xa0\x80\xc2\x80", 12));
    assert_false(lq_utf8_valid("\xf4\x8f\xbf\xbf", 3));
    assert_false(lq_utf8_valid("\xed\xbf\xbf", 3));
    assert_false(lq_utf8_valid("a\xe2\x82"
                               "a",
                               4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(nesting_ends_at_64),
        cmocka_unit_test(values_come_through),
        cmocka_unit_test(typed_members_are_checked),
        cmocka_unit_test(canonical_text_is_one_a_value),
        cmocka_unit_test(numbers_come_back_the_same),
        cmocka_unit_test(building_and_printing),
        cmocka_unit_test(a_large_object_is_read_quickly),
        cmocka_unit_test(reading_a_file_names_it),
        cmocka_unit_test(utf8_check_knows_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
