/* A sweep's spec: grids, merging, winners, and every mistake refused with its path. */
#include "experiments/spec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static lq_json *parsed(const char *text)
{
    lq_json *json;
    if (lq_json_parse(text, strlen(text), "text", &json) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return json;
}

static lq_spec *spec_of(const char *text)
{
    lq_spec *spec;
    lq_json *json = parsed(text);
    if (lq_spec_of_json(json, "s.json", &spec) != LQ_OK)
        fail_msg("%s", lq_status_note());
    lq_json_free(json);
    return spec;
}

static void refused(const char *text, const char *note)
{
    lq_spec *spec = (lq_spec *)1;
    lq_json *json = parsed(text);
    if (lq_spec_of_json(json, "s.json", &spec) != LQ_E_OPTION)
        fail_msg("taken: %s", text);
    assert_null(spec);
    if (!strstr(lq_status_note(), note))
        fail_msg("note \"%s\" lacks \"%s\"", lq_status_note(), note);
    lq_json_free(json);
}

static void same_json(const lq_json *got, const char *want)
{
    lq_arena arena = {0};
    lq_json *w = parsed(want);
    assert_string_equal(lq_json_canonical(got, &arena), lq_json_canonical(w, &arena));
    lq_json_free(w);
    lq_arena_close(&arena);
}

static const char good[] =
    "{\"experiment\":\"e\",\"about\":\"x\",\"reference\":\"a\","
    "\"defaults\":{\"seed\":7,\"train\":{\"lr\":1,\"batch\":8},\"eval\":{\"data\":\"d:test\","
    "\"context\":128},\"budget_tokens\":1000},"
    "\"variants\":{"
    "\"b\":{\"label\":\"B!\",\"method\":{\"name\":\"none\"}},"
    "\"a\":{\"method\":{\"name\":\"lcqat\",\"bits\":2},\"train\":{\"lr\":2}}},"
    "\"search_eval\":{\"data\":\"d:valid\"},"
    "\"search\":[{\"variant\":\"a\",\"model\":\"m\",\"fraction\":0.01,\"seed\":1,\"grid\":["
    "{\"train\":{\"lr\":10}},{\"train\":{\"lr\":20},\"method\":{\"lr_u\":0.5}}]}],"
    "\"runs\":[{\"variant\":\"b\",\"model\":[\"m\",\"n\"]},"
    "{\"variant\":[\"a\"],\"model\":\"m\",\"fraction\":[0.1,1],\"seed\":[1,2],"
    "\"train\":{\"batch\":4}},"
    "{\"variant\":\"a\",\"model\":\"n\",\"fraction\":0.1,\"eval\":{\"context\":64}}]}";

static void the_search_is_expanded_on_the_validation_data(void **state)
{
    (void)state;
    lq_spec *spec = spec_of(good);
    lq_points p;
    assert_int_equal(lq_spec_search(spec, &p), LQ_OK);
    assert_int_equal(p.n, 2);
    same_json(
        p.at[1].json,
        "{\"experiment\":\"e\",\"variant\":\"a\",\"purpose\":\"search\",\"model\":\"m\","
        "\"fraction\":0.01,\"seed\":1,\"method\":{\"name\":\"lcqat\",\"bits\":2,\"lr_u\":0.5},"
        "\"train\":{\"lr\":20,\"batch\":8},\"eval\":{\"data\":\"d:valid\",\"context\":128},"
        "\"budget_tokens\":1000}");
    assert_int_equal(p.at[1].grid, 1);
    lq_points_free(&p);
    lq_spec_free(spec);
}

static void the_runs_are_a_grid_with_the_winner_on_top(void **state)
{
    (void)state;
    lq_spec *spec = spec_of(good);
    lq_points search, p;
    lq_winner *winner;
    lq_arena arena = {0};
    size_t n;
    assert_int_equal(lq_spec_search(spec, &search), LQ_OK);
    assert_int_equal(lq_spec_winners(spec, &search, (double[]){5, 4}, &arena, &winner, &n), LQ_OK);
    assert_int_equal(n, 1);
    assert_int_equal(winner[0].grid, 1);
    assert_int_equal(lq_spec_results(spec, winner, n, &p), LQ_OK);
    assert_int_equal(p.n, 2 + 4 + 1);
    same_json(p.at[1].json, /* nothing searched, nothing trained; the default seed stays */
              "{\"experiment\":\"e\",\"variant\":\"b\",\"purpose\":\"result\",\"model\":\"n\","
              "\"seed\":7,\"method\":{\"name\":\"none\"},\"train\":{\"lr\":1,\"batch\":8},"
              "\"eval\":{\"data\":\"d:test\",\"context\":128},\"budget_tokens\":1000}");
    same_json(p.at[4].json, /* fractions outside, seeds inside: 0.1/1, 0.1/2, 1/1, 1/2 */
              "{\"experiment\":\"e\",\"variant\":\"a\",\"purpose\":\"result\",\"model\":\"m\","
              "\"fraction\":1,\"seed\":1,\"method\":{\"name\":\"lcqat\",\"bits\":2,\"lr_u\":0.5},"
              "\"train\":{\"lr\":20,\"batch\":4},\"eval\":{\"data\":\"d:test\",\"context\":128},"
              "\"budget_tokens\":1000}");
    assert_true(p.at[4].fraction == 1 && p.at[4].seed == 1 && !p.at[4].pending);
    /* model n was not searched: it takes m's winner */
    same_json(lq_json_get(p.at[6].json, "train"), "{\"lr\":20,\"batch\":8}");
    same_json(lq_json_get(p.at[6].json, "eval"), "{\"data\":\"d:test\",\"context\":64}");
    lq_points_free(&p);
    lq_points_free(&search);
    lq_arena_close(&arena);
    lq_spec_free(spec);
}

static void ties_divergence_and_missing_runs_decide_as_documented(void **state)
{
    (void)state;
    const double inf = (double)INFINITY, none = (double)NAN;
    const double perplexity[][2] = {{4, 4}, {inf, 9}, {9, inf}, {inf, inf}, {4, none}, {none, 4}};
    static const size_t winning[] = {0, 1, 0, 0, SIZE_MAX, SIZE_MAX}; /* SIZE_MAX: not known yet */
    lq_spec *spec = spec_of(good);
    lq_points search, p;
    lq_winner *winner;
    lq_arena arena = {0};
    size_t n;
    assert_int_equal(lq_spec_search(spec, &search), LQ_OK);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(lq_spec_winners(spec, &search, perplexity[i], &arena, &winner, &n), LQ_OK);
        const bool known = winning[i] != SIZE_MAX;
        assert_int_equal(winner[0].settings != NULL, known);
        if (known)
            assert_int_equal(winner[0].grid, winning[i]);
        assert_int_equal(lq_spec_results(spec, winner, n, &p), LQ_OK);
        assert_int_equal(p.at[2].pending, !known);
        assert_false(p.at[0].pending); /* b was not searched */
        lq_points_free(&p);
    }
    lq_points_free(&search);
    lq_arena_close(&arena);
    lq_spec_free(spec);
}

#define SPEC(variants, search, runs) \
    "{\"experiment\":\"e\",\"variants\":" variants ",\"search\":" search ",\"runs\":" runs "}"
#define V "{\"a\":{\"method\":{\"name\":\"x\"}}}"

/* Two models, two seeds: each model has its winner, by the mean over the seeds. */
static void a_search_over_seeds_goes_by_the_mean(void **state)
{
    (void)state;
    lq_spec *spec = spec_of(SPEC(V,
                                 "[{\"variant\":\"a\",\"model\":[\"m\",\"n\"],\"seed\":[1,2],"
                                 "\"grid\":[{\"train\":{\"k\":0}},{\"train\":{\"k\":1}}]}]",
                                 "[{\"variant\":\"a\",\"model\":[\"n\",\"m\",\"o\"]}]"));
    lq_points search, p;
    lq_winner *winner;
    lq_arena arena = {0};
    size_t n;
    assert_int_equal(lq_spec_search(spec, &search), LQ_OK);
    assert_int_equal(search.n, 8); /* m1g0 m1g1 m2g0 m2g1 n1g0 n1g1 n2g0 n2g1 */
    const double ppl[] = {1, 4, 9, 5, 6, 5, 6, 8};
    assert_int_equal(lq_spec_winners(spec, &search, ppl, &arena, &winner, &n), LQ_OK);
    assert_int_equal(n, 2);
    assert_true(winner[0].grid == 1 && winner[0].perplexity == 4.5);
    assert_true(winner[1].grid == 0 && winner[1].perplexity == 6);
    assert_int_equal(lq_spec_results(spec, winner, n, &p), LQ_OK);
    same_json(lq_json_get(p.at[0].json, "train"), "{\"k\":0}");
    same_json(lq_json_get(p.at[1].json, "train"), "{\"k\":1}");
    same_json(lq_json_get(p.at[2].json, "train"), "{\"k\":1}"); /* o: the first searched, m */
    lq_points_free(&p);
    lq_points_free(&search);
    lq_arena_close(&arena);
    lq_spec_free(spec);
}

static void mistakes_are_refused_by_path(void **state)
{
    (void)state;
    refused("[]", "s.json: expected an object");
    refused("{\"variants\":" V "}", "experiment is missing");
    refused("{\"experiment\":\"../x\",\"variants\":" V "}", "experiment: a name");
    refused("{\"experiment\":\"e\",\"variants\":{}}", "variants: expected");
    refused("{\"experiment\":\"e\",\"variants\":" V ",\"rnus\":[]}", "unknown key \"rnus\"");
    refused("{\"experiment\":\"e\",\"variants\":{\"a\":{\"lable\":\"A\"}}}",
            "s.json: variants.a: unknown key \"lable\"");
    refused("{\"experiment\":\"e\",\"variants\":{\"a\":{\"method\":\"rtn\"}}}",
            "variants.a: method: expected an object");
    refused("{\"experiment\":\"e\",\"variants\":{\"a/b\":{}}}", "a name has");
    refused("{\"experiment\":\"e\",\"defaults\":{\"lr\":1},\"variants\":" V "}",
            "s.json: defaults: unknown key \"lr\"");
    refused("{\"experiment\":\"e\",\"reference\":\"z\",\"variants\":" V "}", "no variant \"z\"");
    refused(SPEC(V, "[]", "{}"), "s.json: runs: expected an array");
    refused(SPEC(V, "[]", "[{\"model\":\"m\"}]"), "s.json: runs[0]: variant is missing");
    refused(SPEC("{\"lcqat\":{}}", "[]", "[{\"variant\":\"lcqta\",\"model\":\"m\"}]"),
            "did you mean \"lcqat\"?");
    refused(SPEC(V, "[]", "[{\"variant\":\"a\",\"model\":[]}]"), "model: an empty array");
    refused(SPEC(V, "[]", "[{\"variant\":\"a\",\"model\":\"m\",\"fraction\":[0.1,1.5]}]"),
            "s.json: runs[0]: fraction: expected a number from 0 to 1");
    refused(SPEC(V, "[]", "[{\"variant\":\"a\",\"model\":\"m\",\"seed\":1.5}]"),
            "seed: expected a whole number");
    refused(SPEC(V, "[]", "[{\"variant\":\"a\",\"model\":\"m\",\"grid\":[{}]}]"),
            "runs[0]: unknown key \"grid\"");
    refused(SPEC(V, "[{\"variant\":\"a\",\"model\":\"m\"}]", "[]"), "s.json: search[0]: grid");
    refused(SPEC(V, "[{\"variant\":\"a\",\"model\":\"m\",\"grid\":[{\"eval\":{}}]}]", "[]"),
            "s.json: search[0].grid[0]: unknown key \"eval\"");
}

static void expansion_refuses_what_parsing_cannot_see(void **state)
{
    (void)state;
    lq_points p;
    lq_spec *spec = spec_of(SPEC(V, "[]", "[{\"variant\":\"a\"}]"));
    assert_int_equal(lq_spec_results(spec, NULL, 0, &p), LQ_E_OPTION);
    assert_non_null(strstr(lq_status_note(), "s.json: runs[0]: model is missing"));
    assert_int_equal(p.n, 0);
    lq_spec_free(spec);
    spec = spec_of(SPEC(V,
                        "[{\"variant\":\"a\",\"model\":\"m\",\"grid\":[{}]},"
                        "{\"variant\":\"a\",\"model\":[\"n\",\"m\"],\"grid\":[{}]}]",
                        "[]"));
    assert_int_equal(lq_spec_search(spec, &p), LQ_E_OPTION);
    assert_non_null(
        strstr(lq_status_note(), "search[1]: a on m is searched already, in search[0]"));
    lq_spec_free(spec);
}

static void names_and_labels_keep_the_order_of_the_file(void **state)
{
    (void)state;
    lq_spec *spec = spec_of(good);
    assert_int_equal(lq_spec_variants(spec), 2);
    assert_string_equal(lq_spec_variant(spec, 0), "b");
    assert_string_equal(lq_spec_label(spec, 0), "B!");
    assert_string_equal(lq_spec_label(spec, 1), "a"); /* its name, for want of a label */
    assert_string_equal(lq_spec_reference(spec), "a");
    assert_string_equal(lq_spec_experiment(spec), "e");
    lq_spec_free(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_search_is_expanded_on_the_validation_data),
        cmocka_unit_test(the_runs_are_a_grid_with_the_winner_on_top),
        cmocka_unit_test(ties_divergence_and_missing_runs_decide_as_documented),
        cmocka_unit_test(a_search_over_seeds_goes_by_the_mean),
        cmocka_unit_test(mistakes_are_refused_by_path),
        cmocka_unit_test(expansion_refuses_what_parsing_cannot_see),
        cmocka_unit_test(names_and_labels_keep_the_order_of_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
