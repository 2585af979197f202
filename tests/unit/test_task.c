/* The texts of zero-shot tasks, to the byte, and the files that they come from. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/eval/task_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char here[64];
static lq_arena arena;

static int open_here(void **state)
{
    (void)state;
    snprintf(here, sizeof here, P_tmpdir "/lcqat-task-XXXXXX");
    return mkdtemp(here) == NULL;
}

static int close_here(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return lq_path_remove_tree(here) != LQ_OK;
}

static const char *write_file(const char *name, const char *text)
{
    const char *path = lq_arena_printf(&arena, "%s/%s", here, name);
    check_ok(lq_file_write_all(path, text, strlen(text)));
    return path;
}

static lq_status read_text(const char *task, const char *text, lq_questions *out)
{
    return lq_task_read(lq_task_find(task), write_file("file", text), 0, &arena, out);
}

typedef struct pair {
    const char *context, *continuation;
    size_t length;
} pair;

static void check_question(const lq_question *q, const pair *want, size_t n, size_t gold)
{
    assert_int_equal(q->n, n);
    assert_int_equal(q->gold, gold);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(q->context[i], want[i].context);
        assert_string_equal(q->continuation[i], want[i].continuation);
        assert_int_equal(q->length[i], want[i].length);
    }
}

static void check_one(const char *task, const char *text, const pair *want, size_t n, size_t gold)
{
    lq_questions got;
    check_ok(read_text(task, text, &got));
    assert_int_equal(got.n, 1);
    check_question(got.question, want, n, gold);
}

/* ---- Each task ------------------------------------------------------------------------------------- */

static void arc_has_three_to_five_choices(void **state)
{
    (void)state;
    static const pair want[] = {{"Question: Which? \nAnswer:", " one", 3},
                                {"Question: Which? \nAnswer:", " d\xc3\xa9j\xc3\xa0", 4},
                                {"Question: Which? \nAnswer:", " ", 0}};
    check_one("arc_easy",
              "{\"id\":\"x\",\"question\":{\"stem\":\"Which? \",\"choices\":[{\"text\":\"one\","
              "\"label\":\"1\"},{\"text\":\"d\xc3\xa9j\\u00e0\",\"label\":\"2\"},{\"text\":\"\","
              "\"label\":\"3\"}]},\"answerKey\":\"2\"}\n",
              want, 3, 1);
    /* a row of the hub */
    check_one(
        "ARC-Challenge",
        "{\"question\":\"Which? \",\"choices\":{\"text\":[\"one\",\"d\xc3\xa9j\xc3\xa0\",\"\"],"
        "\"label\":[\"A\",\"B\",\"C\"]},\"answerKey\":\"C\"}",
        want, 3, 2);
}

static void openbookqa_is_the_stem_alone(void **state)
{
    (void)state;
    static const pair want[] = {{"Predators eat", " lions", 5},
                                {"Predators eat", " (B) humans", 10},
                                {"Predators eat", " bunnies", 7},
                                {"Predators eat", " grass", 5}};
    check_one(
        "openbookqa",
        "{\"question\":{\"stem\":\"Predators eat\",\"choices\":[{\"text\":\"lions\",\"label\":"
        "\"A\"},{\"text\":\"(B) humans\",\"label\":\"B\"},{\"text\":\"bunnies\",\"label\":\"C\"},"
        "{\"text\":\"grass\",\"label\":\"D\"}]},\"answerKey\":\" C\"}",
        want, 4, 2);
    check_one(
        "openbookqa",
        "{\"question_stem\":\"Predators eat\",\"choices\":{\"text\":[\"lions\",\"(B) humans\","
        "\"bunnies\",\"grass\"],\"label\":[\"A\",\"B\",\"C\",\"D\"]},\"answerKey\":\"A\"}",
        want, 4, 0);
    check_one(
        "openbookqa",
        "ID\tQuestion Stem\tChoices\tComplete Question\tAnswer Key\n880\tPredators eat\t(A) lions "
        "(B) (B) humans (C) bunnies (D) grass\tPredators eat (A) lions\tD\n",
        want, 4, 3);
}

static void piqa_has_its_labels_beside_it(void **state)
{
    (void)state;
    static const char text[] =
        "{\"goal\": \"dresser\", \"sol1\": \"bobby pin \", \"sol2\": \"b\"}\n";
    static const pair want[] = {{"Question: dresser\nAnswer:", " bobby pin ", 10},
                                {"Question: dresser\nAnswer:", " b", 1}};
    const lq_task *task = lq_task_find("piqa");
    lq_questions got;
    const char *path = write_file("dev.jsonl", text);
    assert_int_equal(lq_task_read(task, path, 0, &arena, &got), LQ_E_FORMAT); /* no label at all */
    write_file("dev-labels.lst", "1\n");
    check_ok(lq_task_read(task, path, 0, &arena, &got));
    check_question(got.question, want, 2, 1);
    write_file("dev-labels.lst", "1\r\n0\r\n");
    assert_int_equal(lq_task_read(task, path, 0, &arena, &got), LQ_E_FORMAT); /* one too many */
    check_ok(lq_task_read(task, path, 1, &arena, &got)); /* but not of the first one */
    write_file("dev-labels.lst", "2\n");
    assert_int_equal(lq_task_read(task, path, 0, &arena, &got), LQ_E_FORMAT);
    check_one("piqa", "{\"goal\":\"dresser\",\"label\":0,\"sol1\":\"bobby pin \",\"sol2\":\"b\"}",
              want, 2, 0);
}

static void winogrande_varies_the_context(void **state)
{
    (void)state;
    static const pair want[] = {{"So Ann", " got _ it.", 3}, {"So Bo", " got _ it.", 2}};
    check_one("winogrande",
              "{\"sentence\": \"So _ got _ it. \", \"option1\": \"Ann\", \"option2\": \"Bo\", "
              "\"answer\": \"2\"}",
              want, 2, 1);
}

static void boolq_is_that_of_superglue(void **state)
{
    (void)state;
    static const pair want[] = {{"Tea -- It is hot.\nQuestion: is it?\nAnswer:", " no", 2},
                                {"Tea -- It is hot.\nQuestion: is it?\nAnswer:", " yes", 3}};
    static const char *const label[] = {"true", "\"true\"", "1", "false", "\"false\"", "0"};
    for (size_t i = 0; i < 6; i++)
        check_one("boolq",
                  lq_arena_printf(&arena,
                                  "{\"passage\":\"Tea -- It is hot.\",\"question\":\"is it\","
                                  "\"label\":%s}",
                                  label[i]),
                  want, 2, i < 3);
    /* BoolQ's own file */
    check_one(
        "boolq",
        "{\"title\":\"Tea\",\"passage\":\"It is hot.\",\"question\":\"is it\",\"answer\":true}",
        want, 2, 1);
}

static void lambada_asks_for_the_last_word(void **state)
{
    (void)state;
    static const pair want[] = {{"I don't care about\n\"the", " signs\"", 7}};
    check_one("lambada", "{\"text\": \"I don't care about\\n\\\"the signs\\\"\"}", want, 1, 0);
}

static void hellaswag_is_cleaned(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } clean[] = {
        {" \t a [title] b ", "a. b"},
        {"x [header] y", "x y"},
        {"a[b]c[d\n]e[]f", "ac[d\n]ef"},
        {"a   b", "a  b"},
        {"a    b", "a  b"},
        {"[[x]] y", "] y"},
        {"\xc2\xa0 u [step]", "u "},
        {"[title] [substeps]", " "},
        {"", ""},
        {"\x1c x \xe2\x80\x83", "x"},
    };
    for (size_t i = 0; i < sizeof clean / sizeof *clean; i++)
        assert_string_equal(lq_hellaswag_clean(clean[i].text, &arena), clean[i].want);
    static const struct {
        const char *text, *want;
    } capital[] = {{"then John Smith", "Then john smith"},
                   {"", ""},
                   {"\xc3\xa9t\xc3\x89", "\xc3\x89t\xc3\xa9"},
                   {"\xc7\x86 X", "\xc7\x85 x"}};
    for (size_t i = 0; i < 4; i++) {
        const char *got;
        check_ok(lq_python_capitalize(capital[i].text, &arena, &got));
        assert_string_equal(got, capital[i].want);
    }
}

static void hellaswag_has_two_forms(void **state)
{
    (void)state;
    static const pair want[] = {{"Roof: A man. He", " is. x", 5},
                                {"Roof: A man. He", " b", 1},
                                {"Roof: A man. He", " c", 1},
                                {"Roof: A man. He", " d ", 2}},
                      plain[] = {{"Roof: A man. he", " is", 2},
                                 {"Roof: A man. he", " b", 1},
                                 {"Roof: A man. he", " c", 1},
                                 {"Roof: A man. he", " d", 1}};
    lq_questions got;
    for (size_t i = 0; i < 2; i++)
        check_one(
            "hellaswag",
            lq_arena_printf(&arena,
                            "{\"activity_label\":\"Roof\",\"ctx_a\":\"A man.\",\"ctx_b\":\"HE\","
                            "\"endings\":[\" is [title] x\",\"b\",\"c\",\"d [x]\"],\"label\":%s}",
                            i == 0 ? "3" : "\"3\""),
            want, 4, 3);
    check_ok(read_text("hellaswag", "Roof: A man. he\n2\nis\nb\nc\nd\n", &got));
    check_question(got.question, plain, 4, 2);
    assert_non_null(got.remark);
    assert_int_equal(read_text("hellaswag", "Roof: A man. he\n2\nis\nb\nc\n", &got), LQ_E_FORMAT);
    assert_int_equal(read_text("hellaswag", "Roof\n4\nis\nb\nc\nd\n", &got), LQ_E_FORMAT);
}

/* ---- What is refused ------------------------------------------------------------------------------- */

static void broken_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *task, *text, *note;
    } broken[] = {
        {"boolq", "", "no questions of boolq"},
        {"boolq", "\n\n", "no questions of boolq"},
        {"boolq", "{\"passage\":", "line 1: boolq: no JSON"},
        {"boolq", "{\"passage\":\"x\",\"question\":\"y\"}", "no passage, question or label"},
        {"boolq", "{\"passage\":\"x\",\"question\":\"y\",\"label\":2}", "none of the choices"},
        {"boolq", "PAR1\x15\xff\xfe", "a Parquet file"},
        {"boolq", "{\"passage\":\"\xff\"}", "no UTF-8"},
        {"boolq", "not JSON", "no JSON"},
        {"arc_easy", "{\"question\":{\"stem\":\"x\",\"choices\":[]},\"answerKey\":\"A\"}",
         "no choices"},
        {"arc_easy",
         "{\"question\":{\"stem\":\"x\",\"choices\":[{\"text\":\"y\",\"label\":\"A\"}]},"
         "\"answerKey\":"
         "\"B\"}",
         "none of the choices"},
        {"arc_easy",
         "{\"question\":\"x\",\"choices\":{\"text\":[\"a\"],\"label\":[]},\"answerKey\":\"A\"}",
         "no choices"},
        {"arc_easy", "{\"question\":{\"stem\":\"x\"}}", "no question, or no answerKey"},
        {"openbookqa", "880\tPredators eat\t(A) lions (B) humans\tx\tA", "not (A) to (D)"},
        {"openbookqa", "880\tPredators eat", "not the five fields"},
        {"winogrande",
         "{\"sentence\":\"no gap\",\"option1\":\"a\",\"option2\":\"b\",\"answer\":\"1\"}",
         "no sentence with a _"},
        {"winogrande", "{\"sentence\":\"_ x\",\"option1\":\"\",\"option2\":\"b\",\"answer\":\"1\"}",
         "the context is empty"},
        {"winogrande",
         "{\"sentence\":\"a _ x\",\"option1\":\"a\",\"option2\":\"b\",\"answer\":\"\"}",
         "none of the choices"},
        {"lambada_openai", "{\"text\":\"word\"}", "no text of two words"},
        {"piqa", "{\"goal\":\"g\",\"sol1\":\"a\",\"label\":0}", "no goal, sol1 or sol2"},
        {"hellaswag",
         "{\"activity_label\":\"R\",\"ctx_a\":\"a\",\"ctx_b\":\"b\",\"endings\":[\"x\"],\"label\":"
         "0}",
         "four endings"},
    };
    lq_questions got;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        if (read_text(broken[i].task, broken[i].text, &got) != LQ_E_FORMAT ||
            strstr(lq_status_note(), broken[i].note) == NULL)
            fail_msg("%s '%s': %s", broken[i].task, broken[i].text, lq_status_note());
    }
    assert_int_equal(lq_task_read(lq_task_find("boolq"), here, 0, &arena, &got) != LQ_OK, true);
    assert_null(lq_task_find("arc"));
    assert_null(lq_task_find(""));
    assert_null(lq_task_find("piqa2"));
}

/* ---- The files themselves -------------------------------------------------------------------------- */

static void published_files_have_their_counts(void **state)
{
    (void)state;
    static const struct {
        const char *task, *file;
        size_t n, n_first; /* questions; those whose right choice is the first */
    } sets[] = {
        {"arc_easy", "ARC-Easy-Test.jsonl", 2376, 596},
        {"arc_challenge", "ARC-Challenge-Test.jsonl", 1172, 266},
        {"hellaswag", "hellaswag_val_full.txt.bz2", 10042, 2515},
        {"piqa", "piqa_valid.jsonl", 1838, 910},
        {"winogrande", "winogrande_xl_dev.jsonl", 1267, 628},
        {"boolq", "boolq_dev_superglue.jsonl", 3270, 1237},
        {"boolq", "boolq_dev_original.jsonl", 3270, 1237},
        {"openbookqa", "openbookqa_test.tsv", 500, 138},
        {"lambada_openai", "lambada_openai_test.jsonl", 5153, 5153},
    };
    const char *shared = getenv("LQ_SHARED");
    const char *dir =
        lq_arena_printf(&arena, "%s/data/zeroshot", shared != NULL ? shared : "../shared");
    if (!lq_path_is_dir(dir)) {
        print_message("skip: no data/zeroshot in LQ_SHARED\n");
        skip();
    }
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        lq_arena own = {0};
        lq_questions got;
        size_t n_first = 0;
        const char *path = lq_arena_printf(&own, "%s/%s", dir, sets[i].file);
        check_ok(lq_task_read(lq_task_find(sets[i].task), path, 0, &own, &got));
        for (size_t q = 0; q < got.n; q++)
            n_first += got.question[q].gold == 0;
        assert_int_equal(got.n, sets[i].n);
        assert_int_equal(n_first, sets[i].n_first);
        check_ok(lq_task_read(lq_task_find(sets[i].task), path, 7, &own, &got));
        assert_int_equal(got.n, 7);
        lq_arena_close(&own);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arc_has_three_to_five_choices),
        cmocka_unit_test(openbookqa_is_the_stem_alone),
        cmocka_unit_test(piqa_has_its_labels_beside_it),
        cmocka_unit_test(winogrande_varies_the_context),
        cmocka_unit_test(boolq_is_that_of_superglue),
        cmocka_unit_test(lambada_asks_for_the_last_word),
        cmocka_unit_test(hellaswag_is_cleaned),
        cmocka_unit_test(hellaswag_has_two_forms),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(published_files_have_their_counts),
    };
    return cmocka_run_group_tests_name("task", tests, open_here, close_here);
}
