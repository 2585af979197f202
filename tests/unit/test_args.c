#include "core/base/args.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const lq_arg_spec spec[] = {
    {"method", 'm', LQ_ARG_TEXT, "NAME", "the method"},
    {"bits", 0, LQ_ARG_TEXT, "B", "bits"},
    {"set", 0, LQ_ARG_LIST, "KEY=VALUE", "an option of the method"},
    {"json", 'j', LQ_ARG_FLAG, NULL, "one JSON object"},
};
enum { N_SPEC = sizeof spec / sizeof *spec, MOST = 16 };

/* Splits a command line at blanks and parses it; "''" stands for an empty argument. */
static char words[256];
static lq_status parse(const char *line, size_t lowest, size_t highest, lq_args **out)
{
    char *argv[MOST + 1], *rest = NULL;
    int argc = 0;
    snprintf(words, sizeof words, "%s", line);
    for (char *w = strtok_r(words, " ", &rest); w && argc < MOST; w = strtok_r(NULL, " ", &rest))
        argv[argc++] = strcmp(w, "''") == 0 ? w + 2 : w;
    argv[argc] = NULL;
    return lq_args_parse(argc, argv, spec, N_SPEC, lowest, highest, out);
}

static void options_and_positionals_mix(void **state)
{
    (void)state;
    lq_args *args;
    assert_int_equal(
        parse("in --method=rtn --set a=1 -j out --set=b=2 --bits '' -- --x -", 4, 4, &args), LQ_OK);
    assert_int_equal(lq_args_count(args), 4);
    assert_string_equal(lq_args_at(args, 0), "in");
    assert_string_equal(lq_args_at(args, 1), "out");
    assert_string_equal(lq_args_at(args, 2), "--x");
    assert_string_equal(lq_args_at(args, 3), "-");
    assert_string_equal(lq_args_text(args, "method", "none"), "rtn");
    assert_string_equal(lq_args_text(args, "bits", "2"), "");
    assert_true(lq_args_flag(args, "json"));
    const char *const *values;
    assert_int_equal(lq_args_list(args, "set", &values), 2);
    assert_string_equal(values[0], "a=1");
    assert_string_equal(values[1], "b=2");
    lq_args_free(args);

    assert_int_equal(parse("-m gptq --bits -1.5", 0, 0, &args), LQ_OK);
    assert_string_equal(lq_args_text(args, "method", NULL), "gptq");
    assert_string_equal(lq_args_text(args, "bits", NULL), "-1.5");
    assert_false(lq_args_flag(args, "json"));
    assert_int_equal(lq_args_list(args, "set", &values), 0);
    lq_args_free(args);

    assert_int_equal(parse("-mrtn", 0, 0, &args), LQ_OK);
    assert_string_equal(lq_args_text(args, "method", NULL), "rtn");
    assert_string_equal(lq_args_text(args, "bits", "2"), "2");
    lq_args_free(args);
    lq_args_free(NULL);
}

static void wrong_use_is_told_in_a_line(void **state)
{
    (void)state;
    static const struct {
        const char *line, *note;
    } cases[] = {
        {"--metod rtn", "unknown option --metod; did you mean --method; `help` lists them"},
        {"--jsn=1", "unknown option --jsn; did you mean --json; `help` lists them"},
        {"--velocity 3", "unknown option --velocity; `help` lists them"},
        {"--=3", "unknown option --; `help` lists them"},
        {"-x", "unknown option -x; `help` lists them"},
        {"--method", "--method needs a value: --method=NAME"},
        {"--method --bits 2", "--method needs a value: --method=NAME"},
        {"--bits 2 --bits=3", "--bits is given twice: 2 and 3"},
        {"--json=yes", "--json takes no value, got yes"},
        {"-jx", "--json takes no value, got x"},
        {"a b", "unexpected argument b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lq_args *args = (lq_args *)1;
        assert_int_equal(parse(cases[i].line, 0, 1, &args), LQ_E_OPTION);
        assert_null(args);
        assert_string_equal(lq_status_note(), cases[i].note);
    }
    lq_args *args;
    assert_int_equal(parse("a", 2, 3, &args), LQ_E_OPTION);
    assert_string_equal(lq_status_note(), "1 argument given, at least 2 needed");
}

static void numbers_are_strict(void **state)
{
    (void)state;
    size_t size = 0;
    static const struct {
        const char *text;
        size_t value;
    } good[] = {{"0", 0},         {"4000000", 4000000}, {"4M", 4000000},
                {"512k", 512000}, {"007", 7},           {"18446744073709551615", SIZE_MAX}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(lq_text_size(good[i].text, "n", 0, SIZE_MAX, &size), LQ_OK);
        assert_true(size == good[i].value);
    }
    static const char *const bad[] = {"",
                                      "k",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.5",
                                      "1e3",
                                      "0x10",
                                      "4K",
                                      "4MM",
                                      "4Mx",
                                      "two",
                                      "18446744073709551616",
                                      "18446744073709552k",
                                      "99999999999999999999"};
    size = 77;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(lq_text_size(bad[i], "n", 0, SIZE_MAX, &size), LQ_E_OPTION);
    assert_int_equal(lq_text_size("5", "n", 6, 9, &size), LQ_E_OPTION);
    assert_int_equal(lq_text_size("10", "n", 6, 9, &size), LQ_E_OPTION);
    assert_int_equal(size, 77); /* a failure leaves the result alone */

    double real = 0.0;
    assert_int_equal(lq_text_real("-2.5e-1", "x", -1.0, 1.0, &real), LQ_OK);
    assert_true(real == -0.25);
    static const char *const no_real[] = {"",      "nan", "inf", "0x1p3", " 1",    "1 ", "1,5",
                                          "1.5.2", "1e",  "e",   "-",     "1e999", "2"};
    for (size_t i = 0; i < sizeof no_real / sizeof *no_real; i++)
        assert_int_equal(lq_text_real(no_real[i], "x", -1.0, 1.0, &real), LQ_E_OPTION);

    lq_args *args;
    assert_int_equal(parse("--bits 3 --method=x", 0, 0, &args), LQ_OK);
    assert_int_equal(lq_args_size(args, "bits", 1, 8, 2, &size), LQ_OK);
    assert_int_equal(size, 3);
    assert_int_equal(lq_args_real(args, "bits", 1.0, 8.0, 2.0, &real), LQ_OK);
    assert_true(real == 3.0);
    assert_int_equal(lq_args_size(args, "method", 1, 8, 2, &size), LQ_E_OPTION);
    assert_string_equal(lq_status_note(), "--method: expected a whole number from 1 to 8 (512k and "
                                          "4M also work), got x");
    lq_args_free(args);
    assert_int_equal(parse("", 0, 0, &args), LQ_OK);
    assert_int_equal(lq_args_size(args, "bits", 1, 8, 2, &size), LQ_OK);
    assert_int_equal(size, 2);
    assert_int_equal(lq_args_real(args, "bits", 1.0, 8.0, 2.5, &real), LQ_OK);
    assert_true(real == 2.5);
    lq_args_free(args);
}

static void nearest_name_is_near(void **state)
{
    (void)state;
    static const char *const names[] = {"rtn", "gptq", "lcqat", "efficientqat", "paretoq"};
    assert_string_equal(lq_text_nearest("lqcat", names, 5), "lcqat");
    assert_string_equal(lq_text_nearest("gptq", names, 5), "gptq");
    assert_string_equal(lq_text_nearest("eficientqat", names, 5), "efficientqat");
    assert_string_equal(lq_text_nearest("pareto", names, 5), "paretoq");
    assert_null(lq_text_nearest("abc", names, 5)); /* distance 3 to "rtn", and nothing alike */
    assert_null(lq_text_nearest("", names, 5));
    assert_null(lq_text_nearest("hadamard", names, 5));
    assert_null(lq_text_nearest("x", NULL, 0));
    char lengthy[200];
    memset(lengthy, 'q', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = '\0';
    const char *const long_names[] = {lengthy};
    assert_null(lq_text_nearest(lengthy, long_names, 1)); /* too long to compare, not overrun */
}

static void help_is_a_line_an_option(void **state)
{
    (void)state;
    char text[512];
    int ends[2], keep = dup(STDOUT_FILENO);
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    dup2(ends[1], STDOUT_FILENO);
    lq_args_help(spec, N_SPEC);
    fflush(stdout);
    dup2(keep, STDOUT_FILENO);
    close(ends[1]);
    close(keep);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    text[n > 0 ? n : 0] = '\0';
    assert_non_null(strstr(text, "  -m, --method NAME              the method\n"));
    assert_non_null(strstr(text, "      --set KEY=VALUE            an option of the method\n"));
    assert_non_null(strstr(text, "  -j, --json                     one JSON object\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_positionals_mix),
        cmocka_unit_test(wrong_use_is_told_in_a_line),
        cmocka_unit_test(numbers_are_strict),
        cmocka_unit_test(nearest_name_is_near),
        cmocka_unit_test(help_is_a_line_an_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
