/* Recipes by name and the options of training: what resolves to what, which runs keep their ids, what is
 * refused with which line. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/store/store.h"
#include "experiments/named_recipe.h"
#include "experiments/run.h"
#include "experiments/spec.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/lcqat_recipe_XXXXXX");
    if (mkdtemp(root) == NULL || setenv("LCQAT_CACHE", root, 1) != 0)
        return -1;
    char path[128];
    snprintf(path, sizeof path, "%s/text.txt", root);
    return lq_file_write_all(path, "some text to read\n", 18) == LQ_OK ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return lq_path_remove_tree(root) == LQ_OK ? 0 : -1;
}

static lq_json *parsed(const char *text)
{
    lq_json *json;
    if (lq_json_parse(text, strlen(text), "text", &json) != LQ_OK)
        fail_msg("%s: %s", text, lq_status_note());
    return json;
}

/* A point on the repository's teacher; `more` is a list of members. */
static lq_json *point_of(const char *method, const char *more)
{
    lq_arena arena = {0};
    const char *text = lq_arena_printf(
        &arena,
        "{\"model\":\"tiny-llama\",\"method\":%s,\"train\":{\"data\":\"%s/text.txt\"},"
        "\"calib\":{\"data\":\"%s/text.txt\"},\"eval\":{\"data\":\"%s/text.txt\"}%s%s}",
        method, root, root, root, *more ? "," : "", more);
    lq_json *json = parsed(text);
    lq_arena_close(&arena);
    return json;
}

static lq_json *resolved(const char *method, const char *more)
{
    lq_json *point = point_of(method, more), *out = NULL;
    if (lq_run_resolve(point, &out) != LQ_OK)
        fail_msg("%s %s: %s", method, more, lq_status_note());
    lq_json_free(point);
    return out;
}

static void refused(const char *method, const char *more, const char *note)
{
    lq_json *point = point_of(method, more), *out = NULL;
    if (lq_run_resolve(point, &out) == LQ_OK)
        fail_msg("taken: %s %s", method, more);
    if (!strstr(lq_status_note(), note))
        fail_msg("note \"%s\" lacks \"%s\"", lq_status_note(), note);
    lq_json_free(point);
}

static const char *text_of(const lq_json *json, const char *member, lq_arena *arena)
{
    return lq_json_canonical(member ? lq_json_get(json, member) : json, arena);
}

static double number_of(const lq_json *json, const char *member, const char *key)
{
    return lq_json_number(lq_json_get(lq_json_get(json, member), key));
}

#define TRAINED "\"fraction\":0.01,\"budget_tokens\":4096000"

/* What stood in a record before recipes, losses and slots existed: the same text, hence the same id. */
static void runs_of_yesterday_keep_their_text(void **state)
{
    (void)state;
    lq_arena arena = {0};
    lq_json *run = resolved("{\"name\":\"paretoq\",\"bits\":2}", TRAINED ",\"seed\":3");
    const char *want = lq_arena_printf(
        &arena,
        "{\"batch\":8,\"beta1\":0.9,\"beta2\":0.95,\"clip\":1,\"context\":128,\"data\":"
        "\"%s/text.txt\",\"decay\":0.3,\"eps\":1e-08,\"lanes\":2,\"lr\":0.0001,\"micro\":4,"
        "\"rest\":true,\"schedule\":\"cosine\",\"warmup\":0}",
        root);
    assert_string_equal(text_of(run, "train", &arena), want);
    static const char *const key[] = {"budget_tokens", "calib",  "eval",  "experiment",
                                      "fraction",      "method", "model", "purpose",
                                      "seed",          "sha256", "train", "variant"};
    assert_int_equal(lq_json_count(run), 12);
    for (size_t i = 0; i < 12; i++)
        assert_non_null(lq_json_get(run, key[i]));
    lq_json *named =
        resolved("{\"name\":\"paretoq\",\"bits\":2}", TRAINED ",\"seed\":3,\"recipe\":\"common\"");
    assert_string_equal(text_of(run, NULL, &arena), text_of(named, NULL, &arena));
    lq_json *said = resolved("{\"name\":\"paretoq\",\"bits\":2}", TRAINED ",\"seed\":4");
    assert_string_not_equal(text_of(run, NULL, &arena), text_of(said, NULL, &arena));
    lq_json_free(said);
    lq_json_free(named);
    lq_json_free(run);
    lq_arena_close(&arena);
}

static void an_option_is_written_where_it_says_something(void **state)
{
    (void)state;
    lq_json *run = resolved("{\"name\":\"paretoq\"}", TRAINED);
    assert_null(lq_json_get(lq_json_get(run, "train"), "loss"));
    lq_json_free(run);
    lq_json *point = point_of("{\"name\":\"paretoq\"}", TRAINED);
    lq_json *train = lq_json_member(point, "train");
    lq_json_set_string(train, "loss", "jsd");
    lq_json_set_string(train, "slots", "scales");
    lq_json_set_number(train, "temperature", 1);
    check_ok(lq_run_resolve(point, &run));
    const lq_json *out = lq_json_get(run, "train");
    assert_string_equal(lq_json_string(lq_json_get(out, "loss")), "jsd");
    assert_string_equal(lq_json_string(lq_json_get(out, "slots")), "scales");
    assert_null(lq_json_get(out, "temperature"));
    assert_null(lq_json_get(out, "beta"));
    lq_json_free(run);
    lq_json_free(point);
}

/* ---- recipes ---- */

typedef struct named {
    const char *recipe, *method;
} named;
static const named all[] = {{"llmqat/published", "llmqat"},
                            {"llmqat/real-data", "llmqat"},
                            {"paretoq/published", "paretoq"},
                            {"efficientqat/published", "efficientqat"},
                            {"bitdistiller/published", "bitdistiller"},
                            {"bitdistiller/real-data", "bitdistiller"},
                            {"bitnet/published", "bitnet"},
                            {"stableqat/published", "stableqat"},
                            {"upq/published", "upq"}};
enum { N_ALL = sizeof all / sizeof all[0] };

static void every_recipe_resolves_and_stays_as_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ALL; i++) {
        lq_arena arena = {0};
        lq_json *again = NULL;
        lq_json *run =
            resolved(lq_arena_printf(&arena, "{\"name\":\"%s\"}", all[i].method),
                     lq_arena_printf(&arena, TRAINED ",\"recipe\":\"%s\"", all[i].recipe));
        assert_string_equal(lq_json_string(lq_json_get(run, "recipe")), all[i].recipe);
        assert_null(lq_json_get(run, "recipe_changed"));
        check_ok(lq_run_resolve(run, &again)); /* a record's configuration runs again as itself */
        assert_string_equal(text_of(again, NULL, &arena), text_of(run, NULL, &arena));
        lq_json_free(again);
        lq_json_free(run);
        lq_arena_close(&arena);
    }
}

static size_t count_recipes(const char *dir, lq_arena *arena)
{
    char **names;
    size_t n, found = 0;
    check_ok(lq_path_list(dir, arena, &names, &n));
    for (size_t i = 0; i < n; i++) {
        const char *path = lq_arena_printf(arena, "%s/%s", dir, names[i]);
        found += lq_path_is_dir(path) ? count_recipes(path, arena) : 1;
    }
    return found;
}

static void every_file_is_in_this_test(void **state)
{
    (void)state;
    lq_arena arena = {0};
    assert_int_equal(count_recipes("experiments/recipes", &arena), N_ALL + 1); /* and common */
    lq_arena_close(&arena);
}

static void what_a_small_model_forces_is_scaled(void **state)
{
    (void)state;
    lq_json *run = resolved("{\"name\":\"efficientqat\",\"bits\":2}",
                            TRAINED ",\"recipe\":\"efficientqat/published\"");
    assert_true(number_of(run, "train", "context") == 128);
    assert_true(number_of(run, "train", "batch") == 8); /* 40960 tokens: 40 steps of 8 x 128 */
    assert_true(number_of(run, "calib", "tokens") == 40960);
    assert_true(number_of(run, "train", "lr") == 2e-5); /* rates never are */
    assert_true(number_of(run, "train", "clip") == 0.3);
    lq_json_free(run);
    run = resolved("{\"name\":\"efficientqat\",\"bits\":3}",
                   "\"fraction\":1,\"budget_tokens\":16777216,"
                   "\"recipe\":\"efficientqat/published\"");
    assert_true(number_of(run, "train", "batch") == 32);
    assert_true(number_of(run, "calib", "tokens") == 4096 * 2048);
    assert_true(number_of(run, "train", "lr") == 1e-5); /* of 3 bits */
    assert_true(number_of(run, "blockwise", "lr_latent") == 1e-5);
    assert_true(number_of(run, "blockwise", "lr_scales") == 1e-4);
    lq_json_free(run);
    run = resolved("{\"name\":\"paretoq\"}",
                   "\"fraction\":1,\"budget_tokens\":819200,\"recipe\":\"paretoq/published\"");
    assert_true(number_of(run, "train", "batch") == 64); /* 819200 = 100 steps of 64 x 128 */
    lq_json_free(run);
}

static void what_a_run_says_itself_is_named(void **state)
{
    (void)state;
    lq_json *point =
        point_of("{\"name\":\"paretoq\"}", TRAINED ",\"recipe\":\"paretoq/published\"");
    lq_json *run;
    lq_json_set_number(lq_json_member(point, "train"), "lr", 1e-3);
    lq_json_set_number(lq_json_member(point, "train"), "micro", 2); /* not the recipe's affair */
    check_ok(lq_run_resolve(point, &run));
    assert_true(number_of(run, "train", "lr") == 1e-3);
    assert_string_equal(lq_json_string(lq_json_get(run, "recipe_changed")), "train.lr");
    lq_json_free(run);
    lq_json_free(point);
}

static void recipes_fit_other_quantizers(void **state)
{
    (void)state;
    lq_json *run = resolved("{\"name\":\"paretoq\"}", TRAINED ",\"recipe\":\"upq/published\"");
    const lq_json *start = lq_json_get(lq_json_get(run, "start"), "method");
    assert_string_equal(lq_json_string(lq_json_get(start, "name")), "gptq");
    assert_true(lq_json_number(lq_json_get(start, "bits")) == 4);
    lq_json_free(run);
    run = resolved("{\"name\":\"upq\"}", TRAINED ",\"recipe\":\"upq/published\"");
    assert_null(lq_json_get(run, "start"));
    lq_json_free(run);
    run = resolved("{\"name\":\"bitnet\"}", TRAINED ",\"recipe\":\"llmqat/published\"");
    const lq_json *from = lq_json_get(lq_json_get(run, "train"), "data_from");
    assert_string_equal(lq_json_string(from), "teacher");
    lq_json_free(run);
    run = resolved("{\"name\":\"paretoq\"}", TRAINED ",\"recipe\":\"efficientqat/published\"");
    assert_string_equal(lq_json_string(lq_json_get(lq_json_get(run, "train"), "slots")), "scales");
    lq_json_free(run);
}

static void what_cannot_be_is_refused_with_a_line(void **state)
{
    (void)state;
    const char *pq = "{\"name\":\"paretoq\"}";
    refused("{\"name\":\"rtn\"}", "\"recipe\":\"paretoq/published\"", "rtn does not");
    refused("{\"name\":\"bitnet\"}", TRAINED ",\"recipe\":\"efficientqat/published\"",
            "nothing moves: bitnet trains no slot among 'scales'");
    refused(pq, TRAINED ",\"recipe\":\"paretoq/publshed\"", "paretoq/published");
    refused(pq, TRAINED ",\"recipe\":\"../specs/mini\"", "no name of a recipe");
    refused(pq, TRAINED ",\"start\":{\"metod\":{}}", "metod");
    refused(pq, TRAINED ",\"start\":{\"method\":{\"name\":\"gptq\",\"bits\":5.5}}", "bits");
    static const char *const train[][2] = {
        {"\"temperature\":2", "temperature is of losses with a teacher"},
        {"\"ce_weight\":1", "ce_weight is of losses with a teacher"},
        {"\"teacher_topk\":8", "teacher_topk is of losses with a teacher"},
        {"\"loss\":\"kl\",\"beta\":0.5", "beta is of the losses cakld and jsd"},
        {"\"loss\":\"jsd\",\"beta\":1", "below 1"},
        {"\"loss\":\"ckd\"", "ce|kl|reverse_kl|cakld|jsd"},
        {"\"slots\":\"latent,step\"", "latent alpha"},
        {"\"sample_top_p\":0.5", "data_from is text"},
        {"\"data_from\":\"teacher\",\"prompt\":8", "prompt is of data_from continuation"},
        {"\"data_from\":\"continuation\",\"prompt\":999", "leaves nothing"},
        {"\"optimizer\":\"sgd\"", "adamw|lion|sign_sgd"}};
    for (size_t i = 0; i < sizeof train / sizeof train[0]; i++) {
        lq_arena arena = {0};
        lq_json *point = point_of(pq, TRAINED), *out = NULL;
        lq_json *more = parsed(lq_arena_printf(&arena, "{\"train\":{%s}}", train[i][0]));
        lq_json_merge(point, more);
        if (lq_run_resolve(point, &out) != LQ_E_OPTION)
            fail_msg("taken, or another failure: %s: %s", train[i][0], lq_status_note());
        if (!strstr(lq_status_note(), train[i][1]))
            fail_msg("note \"%s\" lacks \"%s\"", lq_status_note(), train[i][1]);
        lq_json_free(more);
        lq_json_free(point);
        lq_arena_close(&arena);
    }
}

/* ---- specs ---- */

static void defaults_make_way_and_the_rest_goes_over_the_recipe(void **state)
{
    (void)state;
    static const char text[] =
        "{\"experiment\":\"e\",\"defaults\":{\"model\":\"m\",\"train\":{\"batch\":4,\"lr\":1,"
        "\"micro\":2,\"data\":\"d\"},\"calib\":{\"tokens\":5,\"data\":\"c\"}},"
        "\"variants\":{\"a\":{\"method\":{\"name\":\"efficientqat\"},"
        "\"recipe\":\"efficientqat/published\",\"train\":{\"clip\":2}},"
        "\"b\":{\"method\":{\"name\":\"paretoq\"}}},"
        "\"runs\":[{\"variant\":[\"a\",\"b\"],\"fraction\":0.5}]}";
    lq_json *json = parsed(text);
    lq_spec *spec;
    lq_points p;
    lq_arena arena = {0};
    check_ok(lq_spec_of_json(json, "s.json", &spec));
    check_ok(lq_spec_results(spec, NULL, 0, &p));
    assert_int_equal(p.n, 2);
    assert_string_equal(text_of(p.at[0].json, "train", &arena),
                        "{\"clip\":2,\"data\":\"d\",\"micro\":2}");
    assert_string_equal(text_of(p.at[0].json, "calib", &arena), "{\"data\":\"c\"}");
    assert_string_equal(lq_json_string(lq_json_get(p.at[0].json, "recipe")),
                        "efficientqat/published");
    assert_string_equal(text_of(p.at[1].json, "train", &arena),
                        "{\"batch\":4,\"data\":\"d\",\"lr\":1,\"micro\":2}");
    assert_null(lq_json_get(p.at[1].json, "recipe"));
    lq_points_free(&p);
    lq_spec_free(spec);
    lq_json_free(json);
    lq_arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_of_yesterday_keep_their_text),
        cmocka_unit_test(an_option_is_written_where_it_says_something),
        cmocka_unit_test(every_recipe_resolves_and_stays_as_it_is),
        cmocka_unit_test(every_file_is_in_this_test),
        cmocka_unit_test(what_a_small_model_forces_is_scaled),
        cmocka_unit_test(what_a_run_says_itself_is_named),
        cmocka_unit_test(recipes_fit_other_quantizers),
        cmocka_unit_test(what_cannot_be_is_refused_with_a_line),
        cmocka_unit_test(defaults_make_way_and_the_rest_goes_over_the_recipe),
    };
    return cmocka_run_group_tests_name("recipe", tests, make_root, remove_root);
}
