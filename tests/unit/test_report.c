/* The report over made-up records: exact rows, intervals by hand, what diverged, what was not run. */
#include "core/base/file.h"
#include "experiments/report.h"

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
    snprintf(root, sizeof root, "/tmp/lcqat_report_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return lq_path_remove_tree(root) == LQ_OK ? 0 : -1;
}

typedef struct made_up {
    const char *variant, *method, *purpose, *eval;
    double fraction, lr;
    size_t seed;
    double ppl; /* NaN: it diverged */
} made_up;      /* method: "name", "name@recipe" or "name@recipe#what it has otherwise" */

static lq_json *config_of(const made_up *m)
{
    lq_json *config = lq_json_object(), *method = lq_json_object(), *train = lq_json_object();
    lq_json *eval = lq_json_object(), *digest = lq_json_object();
    char name[64];
    snprintf(name, sizeof name, "%s", m->method);
    char *changed = strchr(name, '#'), *recipe = strchr(name, '@');
    if (changed)
        lq_json_set_string(config, "recipe_changed", changed + 1);
    if (changed)
        *changed = '\0';
    if (recipe)
        lq_json_set_string(config, "recipe", recipe + 1);
    if (recipe)
        *recipe = '\0';
    lq_json_set_string(config, "experiment", "made-up");
    lq_json_set_string(config, "variant", m->variant);
    lq_json_set_string(config, "purpose", m->purpose);
    lq_json_set_string(config, "model", "tiny");
    lq_json_set_number(config, "fraction", m->fraction);
    lq_json_set_number(config, "budget_tokens", 1000000);
    lq_json_set_number(config, "seed", (double)m->seed);
    lq_json_set_string(method, "name", name);
    lq_json_set_number(method, "bits", strcmp(m->method, "none") == 0 ? 16 : 2);
    lq_json_set_number(train, "lr", m->lr);
    lq_json_set_string(eval, "data", m->eval);
    lq_json_set_number(eval, "context", 128);
    lq_json_set_string(digest, "model", "0123456789abcdef");
    lq_json_set(config, "method", method);
    lq_json_set(config, "train", train);
    lq_json_set(config, "eval", eval);
    lq_json_set(config, "sha256", digest);
    return config;
}

static void store_all(const char *dir, const made_up *list, size_t n)
{
    lq_store *store;
    char path[128];
    snprintf(path, sizeof path, "%s/%s/runs", root, dir);
    assert_int_equal(lq_store_open(path, &store), LQ_OK);
    for (size_t i = 0; i < n; i++) {
        lq_run *run;
        lq_json *config = config_of(&list[i]);
        const bool finished = !isnan(list[i].ppl);
        assert_int_equal(lq_run_begin(store, config, &run), LQ_OK);
        if (finished) {
            lq_run_metric(run, "perplexity", "1", list[i].ppl);
            lq_run_metric(run, "bits_per_weight", "bit", 2.25);
            lq_run_metric(run, "tokens_seen", "token", list[i].fraction * 1e6);
        }
        for (int k = 1; k <= 20 && list[i].fraction > 0; k++)
            lq_run_point(run, "train_loss", 1000.0 * k, 3.0 + 1.0 / k);
        assert_int_equal(lq_run_commit(run, finished ? LQ_FINISHED : LQ_DIVERGED, ""), LQ_OK);
        lq_json_free(config);
    }
    lq_store_close(store);
}

#define TEST "d:test"
#define LOST ((double)NAN)
static const made_up sample[] = {
    {"fp", "none", "result", TEST, 0, 0, 1, 10},
    {"rtn", "rtn", "result", TEST, 0, 0, 1, 123.456},
    /* differences of b to a, by seed: 1, 2, 3 */
    {"a", "lcqat", "result", TEST, 0.01, 1, 1, 12},
    {"a", "lcqat", "result", TEST, 0.01, 1, 2, 13},
    {"a", "lcqat", "result", TEST, 0.01, 1, 3, 14},
    {"b", "paretoq", "result", TEST, 0.01, 1, 1, 13},
    {"b", "paretoq", "result", TEST, 0.01, 1, 2, 15},
    {"b", "paretoq", "result", TEST, 0.01, 1, 3, 17},
    {"b", "paretoq", "result", TEST, 1, 1, 1, 20},
    {"c", "paretoq", "result", TEST, 0.01, 1, 1, 30},
    {"c", "paretoq", "result", TEST, 0.01, 1, 2, LOST},
    {"a", "lcqat", "search", "d:valid", 0.01, 10, 1, 13},
    {"a", "lcqat", "search", "d:valid", 0.01, 9, 1, LOST},
    {"a", "lcqat", "search", "d:valid", 0.01, 0.5, 1, 13},
    {"a", "lcqat", "search", "d:valid", 0.01, 1, 1, 14},
};
enum { N_SAMPLE = sizeof sample / sizeof sample[0] };

typedef struct scene { /* a report and what it borrows */
    lq_arena arena;
    lq_spec *spec;
    lq_report r;
} scene;

static void open_scene(scene *s, const char *dir, const char *spec, const char *reference)
{
    *s = (scene){0};
    if (spec) {
        lq_json *json;
        assert_int_equal(lq_json_parse(spec, strlen(spec), "spec", &json), LQ_OK);
        if (lq_spec_of_json(json, "spec", &s->spec) != LQ_OK)
            fail_msg("%s", lq_status_note());
        lq_json_free(json);
    }
    s->r = (lq_report){.arena = &s->arena, .spec = s->spec, .reference = reference};
    if (dir && lq_report_add(&s->r, lq_arena_printf(&s->arena, "%s/%s", root, dir)) != LQ_OK)
        fail_msg("%s", lq_status_note());
    if (lq_report_arrange(&s->r) != LQ_OK)
        fail_msg("%s", lq_status_note());
}

static void close_scene(scene *s)
{
    lq_report_close(&s->r);
    lq_spec_free(s->spec);
    lq_arena_close(&s->arena);
}

/* The rows of a table as Markdown, without the last column (run ids). */
static char *rows(scene *s, const lq_table *t, bool keep_last)
{
    const char *path = lq_arena_printf(&s->arena, "%s/rows.md", root);
    char *text, *out;
    size_t n;
    lq_file *file;
    assert_int_equal(lq_file_create(path, &file), LQ_OK);
    assert_int_equal(lq_table_markdown(t, file), LQ_OK);
    assert_int_equal(lq_file_commit(file), LQ_OK);
    assert_int_equal(lq_file_read(path, &s->arena, &text, &n), LQ_OK);
    out = lq_arena_printf(&s->arena, "%s", "");
    strtok(text, "\n");
    strtok(NULL, "\n");
    for (char *line = strtok(NULL, "\n"); line; line = strtok(NULL, "\n")) {
        if (!keep_last) {
            *strrchr(line, '|') = '\0';
            strrchr(line, '|')[1] = '\0';
        }
        out = lq_arena_printf(&s->arena, "%s%s\n", out, line);
    }
    return out;
}

static void the_quantiles_are_those_of_the_tables(void **state)
{
    (void)state;
    static const double known[][2] = {{1, 12.7062},  {2, 4.3027},  {4, 2.7764},   {30, 2.0423},
                                      {40, 2.0211},  {60, 2.0003}, {120, 1.9799}, {1e6, 1.95997},
                                      {2.9, 4.3027}, {31, 2.0395}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_true(fabs(lq_student_t95(known[i][0]) - known[i][1]) < 1e-4);
    /* 12, 13, 14: sd 1, half 4.3027 / sqrt(3) */
    double mean, sd;
    lq_mean_sd((double[]){12, 13, 14}, 3, &mean, &sd);
    assert_true(mean == 13 && fabs(sd - 1) < 1e-12);
    assert_true(fabs(lq_student_half(sd, 3) - 2.48416) < 1e-4);
    assert_true(isnan(lq_student_half(1, 1)));
}

/* b: 13, 15, 17, sd 2, half 4.968; differences 1, 2, 3, half 2.484. The reference is a. */
static void the_rows_are_exact(void **state)
{
    (void)state;
    scene s;
    lq_table t;
    store_all("main", sample, N_SAMPLE);
    open_scene(&s, "main", NULL, "a");
    assert_int_equal(s.r.evals.n, 1);
    lq_report_main_table(&s.r, s.r.evals.at[0], &t);
    assert_string_equal(
        rows(&s, &t, false),
        "| tiny | a | QAT | 2 | 2.250 | 1 % | 10k | 13.00 ± 2.48 | 1.300 | 3 | reference | 3 "
        "finished |\n"
        "| tiny | a | QAT | 2 | – | 100 % | – | not run | – | 0 | – | not run |\n"
        "| tiny | b | QAT | 2 | 2.250 | 1 % | 10k | 15.00 ± 4.97 | 1.500 | 3 | +2.00 ± 2.48 | 3 "
        "finished |\n"
        "| tiny | b | QAT | 2 | 2.250 | 100 % | 1M | 20.00 | 2.000 | 1 | – | 1 finished |\n"
        "| tiny | c | QAT | 2 | 2.250 | 1 % | 10k | 30.00 | 3.000 | 2 | – | 1 finished, 1 diverged "
        "|\n"
        "| tiny | c | QAT | 2 | – | 100 % | – | not run | – | 0 | – | not run |\n"
        "| tiny | fp | full | 16 | 2.250 | – | – | 10.00 | 1.000 | 1 | – | 1 finished |\n"
        "| tiny | rtn | PTQ | 2 | 2.250 | – | – | 123.5 | 12.346 | 1 | – | 1 finished |\n");
    close_scene(&s);
}

/* The spec gives order, labels, a third seed that is missing, and a variant that nobody ran. */
static void the_spec_orders_and_names_what_is_missing(void **state)
{
    (void)state;
    static const char spec[] =
        "{\"experiment\":\"made-up\",\"reference\":\"c\",\"variants\":{\"rtn\":{\"method\":{"
        "\"name\":"
        "\"rtn\"}},\"c\":{\"label\":\"See | pipe\"},\"z\":{\"label\":\"Zed\"}},\"runs\":["
        "{\"variant\":\"rtn\",\"model\":\"tiny\"},{\"variant\":[\"c\",\"z\"],\"model\":\"tiny\","
        "\"fraction\":0.01,\"seed\":[1,2,3]}]}";
    scene s;
    lq_table t;
    open_scene(&s, "main", spec, NULL);
    lq_report_main_table(&s.r, s.r.evals.at[0], &t);
    const char *text = rows(&s, &t, false);
    assert_int_equal(strncmp(text, "| tiny | rtn |", 14), 0);
    assert_non_null(strstr(text,
                           "| tiny | See \\| pipe | QAT | 2 | 2.250 | 1 % | 10k | 30.00 | 3.000 | "
                           "2 of 3 | reference | 1 finished, 1 diverged, 1 not run |\n"));
    assert_non_null(strstr(text,
                           "| tiny | Zed | QAT | – | – | 1 % | – | not run | – | 0 of 3 | – | "
                           "not run |\n"));
    assert_true(strstr(text, "| Zed |") < strstr(text, "| a |")); /* others follow by name */
    close_scene(&s);
    open_scene(&s, NULL, spec, NULL); /* no results at all: a table that says so */
    lq_report_main_table(&s.r, s.r.evals.at[0], &t);
    assert_int_equal(t.n_rows, 3);
    close_scene(&s);
}

/* Two quantizers, two recipes: both tables, the columns that appear, and what is said of the settings. */
static void recipes_are_an_axis_of_their_own(void **state)
{
    (void)state;
    static const made_up list[] = {
        {"fp", "none", "result", TEST, 0, 0, 1, 10},
        {"p", "paretoq", "result", TEST, 0.01, 1, 1, 20},
        {"p-kl", "paretoq@llmqat/real-data#train.lr", "result", TEST, 0.01, 2, 1, 18},
        {"p-pub", "paretoq@paretoq/published", "result", TEST, 0.01, 3, 1, 25},
        {"l", "llmqat@llmqat/published", "result", TEST, 0.01, 4, 1, 22},
        {"l-kl", "llmqat@llmqat/real-data", "result", TEST, 0.01, 5, 1, 21},
        {"p", "paretoq", "search", "d:valid", 0.01, 1, 1, 20},
        {"p-kl", "paretoq@llmqat/real-data#train.lr", "search", "d:valid", 0.01, 2, 1, 20},
    };
    scene s;
    lq_table t;
    store_all("axes", list, sizeof list / sizeof list[0]);
    open_scene(&s, "axes", NULL, "p");
    assert_true(s.r.has_recipes);
    assert_int_equal(lq_report_grouped_table(&s.r, s.r.evals.at[0], LQ_BY_METHOD, &t), LQ_OK);
    assert_string_equal(
        rows(&s, &t, false),
        "| tiny | l | llmqat/published | published | 2 | 2.250 | 1 % | 22.00 | 2.200 | 1 |\n"
        "| tiny | l-kl | llmqat/real-data | the recipe's | 2 | 2.250 | 1 % | 21.00 | 2.100 | 1 |\n"
        "| tiny | p | common | tuned | 2 | 2.250 | 1 % | 20.00 | 2.000 | 1 |\n"
        "| tiny | p-kl | llmqat/real-data | the recipe's but train.lr (tuned) | 2 | 2.250 | 1 % | "
        "18.00 | 1.800 | 1 |\n"
        "| tiny | p-pub | paretoq/published | published | 2 | 2.250 | 1 % | 25.00 | 2.500 | 1 |\n");
    assert_true(t.rule[2] && !t.rule[1] && !t.rule[3]);
    assert_int_equal(lq_report_grouped_table(&s.r, s.r.evals.at[0], LQ_BY_RECIPE, &t), LQ_OK);
    static const char *const recipe[] = {"common", "llmqat/published", "llmqat/real-data",
                                         "llmqat/real-data", "paretoq/published"};
    static const char *const label[] = {"p", "l", "l-kl", "p-kl", "p-pub"};
    assert_int_equal(t.n_rows, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(t.cell[i * t.n_columns + 1].raw, recipe[i]);
        assert_string_equal(t.cell[i * t.n_columns + 2].raw, label[i]);
    }
    lq_report_main_table(&s.r, s.r.evals.at[0], &t);
    assert_non_null(
        strstr(rows(&s, &t, false), "| tiny | p-pub | paretoq/published | published |"));
    close_scene(&s);
    open_scene(&s, "main", NULL, "a"); /* and where there are none, nothing changes */
    assert_false(s.r.has_recipes);
    close_scene(&s);
}

static void the_search_marks_the_winner(void **state)
{
    (void)state;
    scene s;
    lq_table t;
    open_scene(&s, "main", NULL, "a");
    lq_report_search_table(&s.r, &t);
    const char *text = rows(&s, &t, false);
    const char *title = "d:valid, windows of 128 tokens";
    /* as numbers, not as text; the tie of 0.5 and 10 goes to the first */
    assert_string_equal(
        text, lq_arena_printf(&s.arena,
                              "| tiny | a | %s | 1 %% | 1 | train.lr = 0.5 | 13.00 | winner |\n"
                              "| tiny | a | %s | 1 %% | 1 | train.lr = 1 | 14.00 |  |\n"
                              "| tiny | a | %s | 1 %% | 1 | train.lr = 9 | diverged |  |\n"
                              "| tiny | a | %s | 1 %% | 1 | train.lr = 10 | 13.00 |  |\n",
                              title, title, title, title));
    close_scene(&s);
}

/* Another evaluation is another table; other settings are another row, with a digest. */
static void what_may_not_be_compared_is_kept_apart(void **state)
{
    (void)state;
    static const made_up list[] = {
        {"fp", "none", "result", TEST, 0, 0, 1, 10},
        {"fp", "none", "result", "other", 0, 0, 1, 5},
        {"a", "lcqat", "result", TEST, 0.5, 1, 1, 12},
        {"a", "lcqat", "result", TEST, 0.5, 2, 2, 14},
        {"a", "lcqat", "result", "other", 0.5, 1, 1, 6},
    };
    scene s;
    lq_table t;
    store_all("mixed", list, 5);
    open_scene(&s, "mixed", NULL, NULL);
    assert_int_equal(s.r.evals.n, 2);
    lq_report_main_table(&s.r, s.r.evals.at[0], &t);
    const char *text = rows(&s, &t, false);
    assert_int_equal(t.n_rows, 3);
    assert_non_null(strstr(text, "| 12.00 | 1.200 | 1 |"));
    assert_non_null(strstr(text, "| 14.00 | 1.400 | 1 |"));
    assert_non_null(strstr(text, "| a ["));
    lq_report_main_table(&s.r, s.r.evals.at[1], &t);
    assert_non_null(strstr(rows(&s, &t, false), "| 6.000 | 1.200 | 1 |"));
    assert_int_equal(t.n_rows, 2);
    close_scene(&s);
}

static const char published[] =
    "{\"sources\":{},\"numbers\":[{\"model\":\"M\",\"method\":\"x\",\"bits\":2,\"metric\":\"p\","
    "\"value\":9.5,\"source\":\"N\"}],\"claims\":["
    "{\"id\":\"1\",\"text\":\"a1 < b100\",\"left\":{\"variant\":\"a\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"b\",\"fraction\":1},\"rule\":\"lower\"},"
    "{\"id\":\"2\",\"text\":\"a1 < b1\",\"left\":{\"variant\":\"a\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"b\",\"fraction\":0.01},\"rule\":\"lower\"},"
    "{\"id\":\"3\",\"text\":\"b1 < a1\",\"left\":{\"variant\":\"b\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"a\",\"fraction\":0.01},\"rule\":\"lower\"},"
    "{\"id\":\"4\",\"text\":\"a100 < b100\",\"left\":{\"variant\":\"a\",\"fraction\":1},"
    "\"right\":{\"variant\":\"b\",\"fraction\":1},\"rule\":\"lower\"},"
    "{\"id\":\"5\",\"text\":\"fp < "
    "rtn\",\"left\":{\"variant\":\"fp\"},\"right\":{\"variant\":\"rtn\"},"
    "\"rule\":\"lower\"},"
    "{\"id\":\"6\",\"text\":\"a1 / fp\",\"left\":{\"variant\":\"a\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"fp\"},\"rule\":\"ratio\",\"published\":1.32,\"tolerance\":0.02},"
    "{\"id\":\"7\",\"text\":\"a1 / fp\",\"left\":{\"variant\":\"a\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"fp\"},\"rule\":\"ratio\",\"published\":1.1,\"tolerance\":0.02},"
    "{\"id\":\"8\",\"text\":\"a1 / fp\",\"left\":{\"variant\":\"a\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"fp\"},\"rule\":\"ratio\",\"published\":0.9,\"tolerance\":0.02},"
    "{\"id\":\"9\",\"text\":\"large\",\"left\":{\"variant\":\"a\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"fp\"},\"rule\":\"lower\",\"model\":\"Huge\"},"
    "{\"id\":\"10\",\"text\":\"c1 < b100\",\"left\":{\"variant\":\"c\",\"fraction\":0.01},"
    "\"right\":{\"variant\":\"rtn\"},\"rule\":\"lower\"},"
    "{\"id\":\"11\",\"text\":\"fp < rtn\",\"left\":{\"variant\":\"none such\",\"or\":\"fp\"},"
    "\"right\":{\"variant\":\"rtn\",\"or\":\"fp\"},\"rule\":\"lower\"}]}";

/* 1: one run of b against three of a: half = 4.3027 * 1 * sqrt(4/3) = 4.968, difference -7.
 * 2: paired, -2 +- 2.484. 5: one seed each. 10: 30 < 123, but a seed of c diverged. */
static void verdicts_follow_the_rules(void **state)
{
    (void)state;
    static const char *const want[] = {
        "reproduced",   "same ordering", "not reproduced", "not run at that scale", "same ordering",
        "reproduced",   "same ordering", "not reproduced", "not run at that scale", "same ordering",
        "same ordering"};
    scene s;
    lq_table t;
    open_scene(&s, "main", NULL, "a");
    const char *path = lq_arena_printf(&s.arena, "%s/published.json", root);
    assert_int_equal(lq_file_write_all(path, published, sizeof published - 1), LQ_OK);
    assert_int_equal(lq_report_add(&s.r, path), LQ_OK);
    assert_int_equal(lq_report_add(&s.r, path), LQ_E_OPTION); /* one is enough */
    assert_int_equal(lq_report_claims_table(&s.r, &t), LQ_OK);
    assert_int_equal(t.n_rows, 11);
    for (size_t i = 0; i < 11; i++)
        if (strcmp(t.cell[i * t.n_columns + 4].raw, want[i]) != 0)
            fail_msg("claim %zu: %s, expected %s", i + 1, t.cell[i * t.n_columns + 4].raw, want[i]);
    assert_string_equal(t.cell[5].raw, "13.00 (3 runs) against 20.00 (1 run); difference −7 ± 5");
    assert_string_equal(t.cell[8 * t.n_columns + 2].raw, "Huge");
    assert_int_equal(strlen(t.cell[7].raw), 4 * 64 + 3); /* the ids of four runs */
    assert_int_equal(lq_report_published_table(&s.r, &t), LQ_OK);
    assert_string_equal(t.cell[7].shown, "second-hand"); /* unless it says otherwise */
    close_scene(&s);
}

static void a_bad_rule_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"claims\":[{\"id\":\"1\",\"text\":\"\",\"left\":{\"variant\":\"a\"},"
        "\"right\":{\"variant\":\"b\"},\"rule\":\"best\"}]}",
        "{\"claims\":[{\"id\":\"1\",\"text\":\"\",\"left\":{\"variant\":\"a\"},"
        "\"right\":{\"variant\":\"b\"},\"rule\":\"ratio\"}]}",
        ("{\"claims\":[{\"id\":\"1\",\"text\":\"\",\"left\":{\"variant\":\"a\"},"
         "\"rule\":\"lower\"}]}"),
        "{\"claims\":[{\"id\":\"1\",\"txet\":\"\"}]}"};
    for (size_t i = 0; i < 4; i++) {
        scene s;
        lq_table t;
        open_scene(&s, "main", NULL, NULL);
        const char *path = lq_arena_printf(&s.arena, "%s/bad.json", root);
        assert_int_equal(lq_file_write_all(path, bad[i], strlen(bad[i])), LQ_OK);
        assert_int_equal(lq_report_add(&s.r, path), LQ_OK);
        assert_int_equal(lq_report_claims_table(&s.r, &t), LQ_E_OPTION);
        assert_non_null(strstr(lq_status_note(), "bad.json"));
        close_scene(&s);
    }
}

static void markup_in_names_is_written_out(void **state)
{
    (void)state;
    static const lq_column column[] = {{"A_1", "a", 'l', true, false}};
    static const char *const want[] = {"| x&<b>\\|_%\"# |\n", "a\n\"x&<b>|_%\"\"#\"\n",
                                       "x\\&$<$b$>$|\\_\\%\"\\# \\\\\n",
                                       "<td class=\"l\">x&amp;&lt;b&gt;|_%&quot;#</td>"};
    static lq_status (*const form[])(const lq_table *, lq_file *) = {
        lq_table_markdown, lq_table_csv, lq_table_tex, lq_table_html};
    lq_arena arena = {0};
    lq_table t;
    lq_table_start(&t, column, 1, &arena);
    lq_table_row(&t, true)[0].raw = "x&<b>|_%\"#";
    for (size_t i = 0; i < 4; i++) {
        lq_file *file;
        char *text;
        size_t n;
        const char *path = lq_arena_printf(&arena, "%s/form", root);
        assert_int_equal(lq_file_create(path, &file), LQ_OK);
        assert_int_equal(form[i](&t, file), LQ_OK);
        assert_int_equal(lq_file_commit(file), LQ_OK);
        assert_int_equal(lq_file_read(path, &arena, &text, &n), LQ_OK);
        if (!strstr(text, want[i]))
            fail_msg("%s lacks %s", text, want[i]);
    }
    lq_arena_close(&arena);
}

/* Two reports of the same runs are the same bytes; a missing plots directory costs the figures alone. */
static void the_report_is_whole_and_deterministic(void **state)
{
    (void)state;
    static const char *const name[] = {"table.md",
                                       "table.csv",
                                       "table.tex",
                                       "search.md",
                                       "search.csv",
                                       "index.html",
                                       "figures/data-efficiency-tiny.dat"};
    char *text[2][7]; /* without recipes there is no table of them */
    size_t n[2][7];
    scene s[2];
    for (size_t k = 0; k < 2; k++) {
        open_scene(&s[k], "main", NULL, "a");
        const char *out = lq_arena_printf(&s[k].arena, "%s/out%zu", root, k);
        if (lq_report_write(&s[k].r, out, "no/such/plots") != LQ_OK)
            fail_msg("%s", lq_status_note());
        for (size_t i = 0; i < 7; i++)
            assert_int_equal(lq_file_read(lq_arena_printf(&s[k].arena, "%s/%s", out, name[i]),
                                          &s[k].arena, &text[k][i], &n[k][i]),
                             LQ_OK);
        for (size_t i = 0; i < s[k].r.n_records; i++)
            assert_true(lq_path_exists(
                lq_arena_printf(&s[k].arena, "%s/runs/%s.json", out, s[k].r.record[i].id)));
    }
    for (size_t i = 0; i < 7; i++)
        assert_string_equal(text[0][i], text[1][i]);
    /* b's line: mean and interval as in the table, then the single run at 100 % */
    assert_non_null(strstr(text[0][6], "# b: x mean low high runs\n0.01 15 10.03"));
    assert_non_null(strstr(text[0][6], "\n1 20 20 20 1\n"));
    assert_non_null(strstr(text[0][5], "Not drawn"));
    close_scene(&s[0]);
    close_scene(&s[1]);
}

/* Eight variants and more at one share of the data are drawn one below the other; a variant that the
 * reference also is without training is paired there, too. */
static void many_variants_are_rows(void **state)
{
    (void)state;
    static const char *const name[] = {"v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7"};
    made_up list[8 * 4];
    for (size_t i = 0; i < 8; i++)
        for (size_t k = 0; k < 4; k++) /* two seeds untrained, two trained */
            list[4 * i + k] =
                (made_up){name[i],          "lcqat", "result",  TEST,
                          k < 2 ? 0 : 0.01, 1,       k % 2 + 1, 20 + (double)i + (double)(k % 2)};
    for (size_t n = 7; n <= 8; n++) {
        char *text;
        size_t bytes;
        scene s;
        char dir[16];
        snprintf(dir, sizeof dir, "many%zu", n);
        store_all(dir, list, 4 * n);
        open_scene(&s, dir, NULL, "v0");
        const char *out = lq_arena_printf(&s.arena, "%s/out-%s", root, dir);
        const char *data = lq_arena_printf(&s.arena, "%s/figures/variants-tiny.dat", out);
        assert_int_equal(lq_report_write(&s.r, out, "no/such/plots"), LQ_OK);
        assert_int_equal(lq_path_exists(data), n == 8);
        if (n == 8) {
            assert_int_equal(lq_file_read(data, &s.arena, &text, &bytes), LQ_OK);
            assert_non_null(strstr(text, "\n7 27.5 "));
            assert_non_null(strstr(text, "\n0 7 9 \"v7\"\n"));
        }
        const lq_cell *c = lq_report_cell(&s.r, s.r.evals.at[0], "tiny", "v3", 0);
        assert_int_equal(c->n_paired, 2);
        assert_true(fabs(c->diff - 3) < 1e-12 && fabs(c->diff_half) < 1e-9);
        close_scene(&s);
    }
}

static void a_copy_of_a_store_counts_once(void **state)
{
    (void)state;
    scene s;
    store_all("copy", sample, 3);
    open_scene(&s, "main", NULL, NULL);
    const size_t before = s.r.n_records;
    assert_int_equal(lq_report_add(&s.r, lq_arena_printf(&s.arena, "%s/copy/runs", root)), LQ_OK);
    assert_int_equal(s.r.n_records, before);
    assert_int_equal(s.r.n_again, 3);
    assert_true(s.r.worst_again == 0);
    assert_int_equal(lq_report_add(&s.r, "/no/such/place"), LQ_E_MISSING);
    close_scene(&s);
}

/* Another machine's results make a column, and no row. */
static void another_machine_stands_beside(void **state)
{
    (void)state;
    made_up there[5];
    scene s;
    lq_table t;
    memcpy(there, sample + 1, 4 * sizeof *there); /* rtn, a */
    there[0].ppl = 123.5;
    there[4] = (made_up){"z", "rtn", "result", TEST, 0, 0, 9, 77};
    store_all("there", there, 5);
    open_scene(&s, "main", NULL, "a");
    lq_report_main_table(&s.r, NULL, &t);
    assert_null(strstr(rows(&s, &t, true), "2.48 | 13.00 |"));
    const size_t records = s.r.n_records;
    assert_int_equal(lq_report_add_beside(&s.r, lq_arena_printf(&s.arena, "%s/there", root)),
                     LQ_OK);
    const lq_cell *b = lq_report_cell(&s.r, s.r.evals.at[0], "tiny", "b", 0.01);
    const double diff = b->diff;
    lq_report_measure(&s.r);
    assert_int_equal(b->n_paired, 3); /* measured again, not added up */
    assert_true(b->diff >= diff && b->diff <= diff);
    assert_int_equal(s.r.n_records, records);
    assert_int_equal(s.r.n_beside, 4);
    const char *eval = s.r.evals.at[0];
    assert_true(lq_report_cell(&s.r, eval, "tiny", "rtn", 0)->beside == 123.5);
    assert_true(fabs(lq_report_cell(&s.r, eval, "tiny", "a", 0.01)->beside - 13) < 1e-12);
    assert_true(isnan(lq_report_cell(&s.r, eval, "tiny", "b", 0.01)->beside));
    lq_report_main_table(&s.r, NULL, &t);
    assert_non_null(strstr(rows(&s, &t, true), "2.48 | 13.00 |"));
    assert_int_equal(lq_report_add_beside(&s.r, "/no/such/place"), LQ_E_MISSING);
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_quantiles_are_those_of_the_tables),
        cmocka_unit_test(the_rows_are_exact),
        cmocka_unit_test(the_spec_orders_and_names_what_is_missing),
        cmocka_unit_test(recipes_are_an_axis_of_their_own),
        cmocka_unit_test(the_search_marks_the_winner),
        cmocka_unit_test(what_may_not_be_compared_is_kept_apart),
        cmocka_unit_test(verdicts_follow_the_rules),
        cmocka_unit_test(a_bad_rule_is_refused),
        cmocka_unit_test(markup_in_names_is_written_out),
        cmocka_unit_test(the_report_is_whole_and_deterministic),
        cmocka_unit_test(many_variants_are_rows),
        cmocka_unit_test(another_machine_stands_beside),
        cmocka_unit_test(a_copy_of_a_store_counts_once),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
