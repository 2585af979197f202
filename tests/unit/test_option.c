#include "core/quant/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct opts {
    double bits;
    size_t group;
    bool act_order;
    int clip;
} opts;

static const lq_option table[] = {
    {"bits", LQ_OPTION_REAL, offsetof(opts, bits), 2, 1, 16, NULL, "bits a weight"},
    {"group", LQ_OPTION_SIZE, offsetof(opts, group), 128, 0, 4096, NULL, "weights a group"},
    {"act_order", LQ_OPTION_BOOL, offsetof(opts, act_order), 1, 0, 0, NULL, "sort columns"},
    {"clip", LQ_OPTION_CHOICE, offsetof(opts, clip), 1, 0, 0, "minmax|mse|max", "range"},
};
enum { N_OPTIONS = sizeof table / sizeof table[0] };

static lq_status read_text(const char *text, opts *o)
{
    lq_json *json;
    LQ_TRY(lq_json_parse(text, strlen(text), "test", &json));
    lq_status status = lq_options_read(table, N_OPTIONS, json, "spec: method", o);
    lq_json_free(json);
    return status;
}

static void nothing_given_is_all_defaults(void **state)
{
    (void)state;
    const char *const empty[] = {NULL, "{}"};
    for (size_t i = 0; i < 2; i++) {
        opts o;
        memset(&o, 0x55, sizeof o);
        if (empty[i] == NULL)
            assert_int_equal(lq_options_read(table, N_OPTIONS, NULL, "test", &o), LQ_OK);
        else
            assert_int_equal(read_text(empty[i], &o), LQ_OK);
        assert_true(o.bits == 2);
        assert_int_equal(o.group, 128);
        assert_true(o.act_order);
        assert_int_equal(o.clip, 1);
    }
}

static void given_values_arrive(void **state)
{
    (void)state;
    opts o;
    assert_int_equal(
        read_text("{\"clip\":\"max\",\"bits\":1.58,\"act_order\":false,\"group\":0}", &o), LQ_OK);
    assert_true(o.bits == 1.58);
    assert_int_equal(o.group, 0);
    assert_false(o.act_order);
    assert_int_equal(o.clip, 2);
}

static void wrong_values_are_option_errors(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "{\"bits\":0.5}",
        "{\"bits\":17}",
        "{\"bits\":\"two\"}",
        "{\"group\":-1}",
        "{\"group\":4097}",
        "{\"group\":1.5}",
        "{\"group\":true}",
        "{\"act_order\":1}",
        "{\"act_order\":\"\"}",
        "{\"clip\":\"mi\"}",
        "{\"clip\":\"minmax|\"}",
        "{\"clip\":\"\"}",
        "{\"clip\":1}",
        "{\"clip\":null}",
        "{\"group\":null}",
        "[]",
        "3",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        opts o;
        lq_status status = read_text(wrong[i], &o);
        if (status != LQ_E_OPTION)
            fail_msg("%s gave %s", wrong[i], lq_status_name(status));
        assert_non_null(strstr(lq_status_note(), "spec: method"));
    }
}

static void typo_is_told_the_nearest_name(void **state)
{
    (void)state;
    opts o;
    assert_int_equal(read_text("{\"gruop\":64}", &o), LQ_E_OPTION);
    assert_non_null(strstr(lq_status_note(), "'gruop'"));
    assert_non_null(strstr(lq_status_note(), "'group'"));
    assert_int_equal(read_text("{\"temperature\":64}", &o), LQ_E_OPTION);
    assert_non_null(strstr(lq_status_note(), "'temperature'"));
    assert_int_equal(read_text("{\"clip\":\"huber\"}", &o), LQ_E_OPTION);
    assert_non_null(strstr(lq_status_note(), "minmax|mse|max"));
}

static void written_options_read_back_the_same(void **state)
{
    (void)state;
    opts o = {.bits = 1.58, .group = 64, .act_order = false, .clip = 2}, back;
    memset(&back, 0, sizeof back);
    lq_json *json = lq_options_write(table, N_OPTIONS, &o);
    assert_int_equal(lq_json_count(json), N_OPTIONS);
    assert_string_equal(lq_json_key(lq_json_first(json)), "bits"); /* the table's order */
    assert_string_equal(lq_json_string(lq_json_get(json, "clip")), "max");
    assert_int_equal(lq_options_read(table, N_OPTIONS, json, "test", &back), LQ_OK);
    assert_true(back.bits == o.bits && back.group == o.group && !back.act_order && back.clip == 2);
    lq_json_free(json);
}

static void set_text_takes_the_type_it_reads_as(void **state)
{
    (void)state;
    static const struct {
        const char *text, *key;
        lq_json_kind kind;
        double number;
    } good[] = {
        {"group=64", "group", LQ_JSON_NUMBER, 64},
        {"x=-1.5e-3", "x", LQ_JSON_NUMBER, -1.5e-3},
        {"x=true", "x", LQ_JSON_BOOL, 0},
        {"clip=mse", "clip", LQ_JSON_STRING, 0},
        {"x=", "x", LQ_JSON_STRING, 0},
        {"x=nan", "x", LQ_JSON_STRING, 0},
        {"x=inf", "x", LQ_JSON_STRING, 0},
        {"x=0x10", "x", LQ_JSON_STRING, 0},
        {"x= 1", "x", LQ_JSON_STRING, 0},
        {"x=1e999", "x", LQ_JSON_STRING, 0},
        {"x=1-2", "x", LQ_JSON_STRING, 0},
        {"x=a=b", "x", LQ_JSON_STRING, 0},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        lq_json *object = lq_json_object();
        assert_int_equal(lq_option_set_text(object, good[i].text), LQ_OK);
        const lq_json *value = lq_json_get(object, good[i].key);
        assert_non_null(value);
        assert_int_equal(lq_json_type(value), good[i].kind);
        if (good[i].kind == LQ_JSON_NUMBER)
            assert_true(lq_json_number(value) == good[i].number);
        lq_json_free(object);
    }
    lq_json *object = lq_json_object();
    assert_int_equal(lq_option_set_text(object, "group"), LQ_E_OPTION);
    assert_int_equal(lq_option_set_text(object, "=64"), LQ_E_OPTION);
    assert_int_equal(lq_option_set_text(object, ""), LQ_E_OPTION);
    assert_int_equal(lq_option_set_text(object, "x=1"), LQ_OK);
    assert_int_equal(lq_option_set_text(object, "x=2"), LQ_OK); /* the last one holds */
    assert_true(lq_json_number(lq_json_get(object, "x")) == 2);
    assert_int_equal(lq_json_count(object), 1);
    lq_json_free(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_is_all_defaults),
        cmocka_unit_test(given_values_arrive),
        cmocka_unit_test(wrong_values_are_option_errors),
        cmocka_unit_test(typo_is_told_the_nearest_name),
        cmocka_unit_test(written_options_read_back_the_same),
        cmocka_unit_test(set_text_takes_the_type_it_reads_as),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
