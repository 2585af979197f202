#include "core/eval/task_parts.h"

#include "core/base/file.h"
#include "core/data/archive.h"
#include "core/text/utf8.h"

#include <ctype.h>
#include <string.h>

/* ---- A question ---------------------------------------------------------------------------------- */

lq_status lq_task_wrong(const lq_task_reader *r, const char *what)
{
    return lq_fail(LQ_E_FORMAT, "%s: line %zu: %s: %s", r->path, r->line, r->entry->task.name,
                   what);
}

static size_t characters(const char *text)
{
    size_t n = 0;
    for (const char *at = text; *at != '\0'; at += lq_utf8_length(at))
        n++;
    return n;
}

static lq_status make_room(lq_task_reader *r)
{
    lq_question *larger;
    if (r->out.n < r->room)
        return LQ_OK;
    const size_t room = r->room > 0 ? 2 * r->room : 256;
    LQ_TRY(lq_arena_new(r->arena, &larger, room));
    if (r->out.n > 0)
        memcpy(larger, r->out.question, r->out.n * sizeof *larger);
    r->out.question = larger;
    r->room = room;
    return LQ_OK;
}

lq_status lq_task_add_pairs(lq_task_reader *r, const char *const *context,
                            const char *const *continuation, const char *const *choice, size_t n,
                            size_t gold)
{
    if (n == 0 || n > LQ_MOST_CHOICES)
        return lq_task_wrong(r, "no choices, or more than 16");
    if (gold >= n)
        return lq_task_wrong(r, "the right answer is none of the choices");
    LQ_TRY(make_room(r));
    lq_question *q = &r->out.question[r->out.n];
    LQ_TRY(lq_arena_new(r->arena, &q->context, n));
    LQ_TRY(lq_arena_new(r->arena, &q->continuation, n));
    LQ_TRY(lq_arena_new(r->arena, &q->length, n));
    for (size_t i = 0; i < n; i++) {
        if (context[i][0] == '\0')
            return lq_task_wrong(r, "the context is empty");
        q->context[i] = context[i];
        q->continuation[i] = continuation[i];
        q->length[i] = characters(choice[i]);
    }
    q->n = n;
    q->gold = gold;
    r->out.n++;
    r->enough = r->most > 0 && r->out.n >= r->most;
    return LQ_OK;
}

lq_status lq_task_add(lq_task_reader *r, const char *context, const char *const *choice, size_t n,
                      size_t gold)
{
    const char *contexts[LQ_MOST_CHOICES], *continuation[LQ_MOST_CHOICES];
    for (size_t i = 0; i < n && i < LQ_MOST_CHOICES; i++) {
        contexts[i] = context;
        continuation[i] = lq_arena_printf(r->arena, " %s", choice[i]);
    }
    return lq_task_add_pairs(r, contexts, continuation, choice, n, gold);
}

bool lq_python_space(uint32_t code)
{
    return lq_utf8_space(code) || (code >= 0x1c && code <= 0x1f);
}

const char *lq_python_strip(const char *text, lq_arena *arena)
{
    uint32_t code;
    size_t n = strlen(text);
    while (n > 0) {
        const size_t width = lq_utf8_next(text, n, &code);
        if (!lq_python_space(code))
            break;
        text += width;
        n -= width;
    }
    while (n > 0) {
        const size_t last = lq_utf8_last(text, n);
        lq_utf8_next(text + last, n - last, &code);
        if (!lq_python_space(code))
            break;
        n = last;
    }
    return lq_arena_printf(arena, "%.*s", (int)n, text);
}

/* ---- Rows of each task --------------------------------------------------------------------------- */

/* A copy that outlives the row. */
static const char *text_of(const lq_task_reader *r, const lq_json *object, const char *key)
{
    const char *text = lq_json_string(lq_json_get(object, key));
    return text != NULL ? lq_arena_printf(r->arena, "%s", text) : NULL;
}

typedef struct choices {
    const char *text[LQ_MOST_CHOICES], *label[LQ_MOST_CHOICES];
    size_t n;
} choices;

/* AI2's list of {"text", "label"}, or the hub's {"text": [...], "label": [...]}. */
static lq_status read_choices(const lq_task_reader *r, const lq_json *node, choices *out)
{
    const bool list = node != NULL && lq_json_type(node) == LQ_JSON_ARRAY;
    const lq_json *texts = lq_json_get(node, "text"), *labels = lq_json_get(node, "label");
    out->n = lq_json_count(list ? node : texts);
    if (out->n == 0 || out->n > LQ_MOST_CHOICES || (!list && lq_json_count(labels) != out->n))
        return lq_task_wrong(r, "no choices, or more than 16");
    for (size_t i = 0; i < out->n; i++) {
        const lq_json *one = lq_json_at(node, i);
        const char *text = lq_json_string(list ? lq_json_get(one, "text") : lq_json_at(texts, i));
        out->label[i] = lq_json_string(list ? lq_json_get(one, "label") : lq_json_at(labels, i));
        if (text == NULL || out->label[i] == NULL)
            return lq_task_wrong(r, "a choice without text or label");
        out->text[i] = lq_arena_printf(r->arena, "%s", text);
    }
    return LQ_OK;
}

static size_t index_of(const choices *c, const char *label)
{
    size_t i = 0;
    while (i < c->n && strcmp(c->label[i], label) != 0)
        i++;
    return i;
}

/* "question" is a text beside "choices", or an object that holds both. */
static lq_status read_question(const lq_task_reader *r, const lq_json *row, const char **stem,
                               choices *out, const char **key)
{
    const lq_json *q = lq_json_get(row, "question"), *list = lq_json_get(q, "choices");
    const char *text = lq_json_string(q);
    if (text == NULL)
        text = lq_json_string(lq_json_get(q, "stem"));
    if (text == NULL)
        text = lq_json_string(lq_json_get(row, "question_stem"));
    *key = text_of(r, row, "answerKey");
    if (text == NULL || *key == NULL)
        return lq_task_wrong(r, "no question, or no answerKey");
    *stem = lq_arena_printf(r->arena, "%s", text);
    return read_choices(r, list != NULL ? list : lq_json_get(row, "choices"), out);
}

static lq_status arc_row(lq_task_reader *r, const lq_json *row)
{
    const char *stem, *key;
    choices c;
    LQ_TRY(read_question(r, row, &stem, &c, &key));
    return lq_task_add(r, lq_arena_printf(r->arena, "Question: %s\nAnswer:", stem), c.text, c.n,
                       index_of(&c, key));
}

static lq_status openbookqa_row(lq_task_reader *r, const lq_json *row)
{
    const char *stem, *key;
    choices c;
    LQ_TRY(read_question(r, row, &stem, &c, &key));
    while (isspace((unsigned char)*key))
        key++;
    return lq_task_add(r, stem, c.text, c.n, index_of(&c, key));
}

/* AI2's table: ID, Question Stem, Choices "(A) ... (D) ...", Complete Question, Answer Key. */
static lq_status openbookqa_line(lq_task_reader *r, char *line, size_t bytes)
{
    static const char *const mark[] = {"(A) ", " (B) ", " (C) ", " (D) "};
    enum { FIELDS = 5, N = 4 };
    char *field[FIELDS];
    const char *text[N];
    size_t n = 1;
    field[0] = line;
    for (char *at = line; at < line + bytes && n < FIELDS; at++)
        if (*at == '\t') {
            *at = '\0';
            field[n++] = at + 1;
        }
    if (r->line == 1 && strcmp(field[0], "ID") == 0)
        return LQ_OK;
    if (n < FIELDS)
        return lq_task_wrong(r, "not the five fields of AI2's table");
    field[4][strcspn(field[4], "\t\r")] = '\0';
    char *at = field[2];
    for (size_t i = 0; i < N; i++) {
        char *found = strstr(at, mark[i]);
        if (found == NULL || (i == 0 && found != at))
            return lq_task_wrong(r, "the choices are not (A) to (D)");
        *found = '\0';
        at = found + strlen(mark[i]);
        text[i] = at;
    }
    for (size_t i = 0; i < N; i++)
        text[i] = lq_arena_printf(r->arena, "%s", text[i]);
    const bool known = field[4][0] >= 'A' && field[4][0] <= 'D' && field[4][1] == '\0';
    return lq_task_add(r, lq_arena_printf(r->arena, "%s", field[1]), text, N,
                       known ? (size_t)(field[4][0] - 'A') : N);
}

static lq_status piqa_row(lq_task_reader *r, const lq_json *row)
{
    const char *goal = text_of(r, row, "goal"),
               *text[] = {text_of(r, row, "sol1"), text_of(r, row, "sol2")};
    double label = lq_json_number(lq_json_get(row, "label"));
    if (goal == NULL || text[0] == NULL || text[1] == NULL)
        return lq_task_wrong(r, "no goal, sol1 or sol2");
    if (r->labels != NULL)
        label = r->out.n < r->n_labels ? (double)(r->labels[r->out.n] - '0') : -1;
    return lq_task_add(r, lq_arena_printf(r->arena, "Question: %s\nAnswer:", goal), text, 2,
                       label == 0 || label == 1 ? (size_t)label : 2);
}

/* The choices stand in the context, and all have the same continuation. */
static lq_status winogrande_row(lq_task_reader *r, const lq_json *row)
{
    const char *sentence = text_of(r, row, "sentence"), *answer = text_of(r, row, "answer"),
               *option[] = {text_of(r, row, "option1"), text_of(r, row, "option2")};
    const char *gap = sentence != NULL ? strchr(sentence, '_') : NULL;
    if (gap == NULL || answer == NULL || option[0] == NULL || option[1] == NULL)
        return lq_task_wrong(r, "no sentence with a _, no option1, option2 or answer");
    const char *rest = lq_arena_printf(r->arena, " %s", lq_python_strip(gap + 1, r->arena));
    const char *context[2], *both[] = {rest, rest};
    for (size_t i = 0; i < 2; i++)
        context[i] =
            lq_arena_printf(r->arena, "%.*s%s", (int)(gap - sentence), sentence, option[i]);
    return lq_task_add_pairs(r, context, both, option, 2,
                             strcmp(answer, "1") == 0   ? 0
                             : strcmp(answer, "2") == 0 ? 1
                                                        : 2);
}

/* SuperGLUE's label is a truth value; some copies have it as text, the hub as 0 or 1. BoolQ's own files have
 * "answer", and the title apart: "TITLE -- PASSAGE" is SuperGLUE's passage, question by question. */
static lq_status boolq_row(lq_task_reader *r, const lq_json *row)
{
    static const char *const text[] = {"no", "yes"};
    const char *passage = text_of(r, row, "passage"), *question = text_of(r, row, "question"),
               *title = text_of(r, row, "title");
    const bool own = lq_json_get(row, "label") == NULL;
    const lq_json *label = lq_json_get(row, own ? "answer" : "label");
    const char *word = lq_json_string(label);
    const double number = lq_json_number(label);
    if (passage == NULL || question == NULL || label == NULL || (own && title == NULL))
        return lq_task_wrong(r, "no passage, question or label");
    const bool yes = lq_json_true(label) || number == 1 || (word && strcmp(word, "true") == 0);
    const bool no = (lq_json_type(label) == LQ_JSON_BOOL && !yes) || number == 0 ||
                    (word && strcmp(word, "false") == 0);
    if (own)
        passage = lq_arena_printf(r->arena, "%s -- %s", title, passage);
    return lq_task_add(
        r, lq_arena_printf(r->arena, "%s\nQuestion: %s?\nAnswer:", passage, question), text, 2,
        yes  ? 1
        : no ? 0
             : 2);
}

static lq_status lambada_row(lq_task_reader *r, const lq_json *row)
{
    const char *text = text_of(r, row, "text");
    const char *last = text != NULL ? strrchr(text, ' ') : NULL;
    if (last == NULL)
        return lq_task_wrong(r, "no text of two words");
    const char *context = lq_arena_printf(r->arena, "%.*s", (int)(last - text), text);
    return lq_task_add_pairs(r, &context, &last, &last, 1, 0);
}

/* ---- The list ------------------------------------------------------------------------------------ */

static const lq_task_entry entries[] = {
    {{"arc_easy", true, false}, arc_row, NULL},
    {{"arc_challenge", true, false}, arc_row, NULL},
    {{"hellaswag", true, false}, lq_hellaswag_row, lq_hellaswag_line},
    {{"piqa", true, false}, piqa_row, NULL},
    {{"winogrande", false, false}, winogrande_row, NULL},
    {{"boolq", false, false}, boolq_row, NULL},
    {{"openbookqa", true, false}, openbookqa_row, openbookqa_line},
    {{"lambada_openai", false, true}, lambada_row, NULL},
};

size_t lq_task_count(void) { return sizeof entries / sizeof entries[0]; }
const lq_task *lq_task_at(size_t i) { return &entries[i].task; }

static bool is_name(const char *name, const char *want)
{
    for (; *name != '\0' && *want != '\0'; name++, want++)
        if ((*name == '-' ? '_' : tolower((unsigned char)*name)) != *want)
            return false;
    return *name == *want;
}

const lq_task *lq_task_find(const char *name)
{
    for (size_t i = 0; i < lq_task_count(); i++)
        if (is_name(name, entries[i].task.name))
            return &entries[i].task;
    return is_name(name, "lambada") ? lq_task_find("lambada_openai") : NULL;
}

/* ---- A file -------------------------------------------------------------------------------------- */

static lq_status on_line(void *self, char *line, size_t bytes)
{
    lq_task_reader *r = self;
    lq_json *row;
    if (r->line++ == 0)
        r->is_json = r->entry->line == NULL || line[strspn(line, " \t")] == '{';
    if (r->line == 1 && strncmp(line, "PAR1", 4) == 0)
        return lq_task_wrong(r, "a Parquet file, which is not read: give JSON lines");
    if (!lq_utf8_valid(line, bytes) || strlen(line) != bytes)
        return lq_task_wrong(r, "no UTF-8");
    if (!r->is_json) {
        LQ_TRY(r->entry->line(r, line, bytes));
    } else if (line[strspn(line, " \t\r")] != '\0') {
        if (lq_json_parse(line, bytes, r->path, &row) != LQ_OK)
            return lq_task_wrong(r, "no JSON");
        const lq_status status = r->entry->row(r, row);
        lq_json_free(row);
        LQ_TRY(status);
    }
    return r->enough ? LQ_E_STOPPED : LQ_OK; /* ends the walk; seen by `enough` */
}

/* X-labels.lst beside X.jsonl: a digit a line, kept as the digits alone. */
static lq_status read_labels(lq_task_reader *r)
{
    const char *dot = strrchr(r->path, '.');
    const int n = (int)(dot != NULL && dot > lq_path_base(r->path) ? (size_t)(dot - r->path)
                                                                   : strlen(r->path));
    const char *path = lq_arena_printf(r->arena, "%.*s-labels.lst", n, r->path);
    char *text;
    size_t bytes;
    if (!lq_path_exists(path))
        return LQ_OK;
    LQ_TRY(lq_file_read(path, r->arena, &text, &bytes));
    for (size_t i = 0; i < bytes; i++)
        if (text[i] != '\n' && text[i] != '\r')
            text[r->n_labels++] = text[i];
    r->labels = text;
    return LQ_OK;
}

lq_status lq_task_read(const lq_task *task, const char *path, size_t most, lq_arena *arena,
                       lq_questions *out)
{
    lq_task_reader r = {.path = path, .most = most, .arena = arena};
    for (size_t i = 0; i < lq_task_count(); i++)
        if (&entries[i].task == task)
            r.entry = &entries[i];
    LQ_ASSERT(r.entry != NULL);
    r.out.task = task;
    if (r.entry->row == piqa_row)
        LQ_TRY(read_labels(&r));
    const lq_status status = lq_archive_lines(path, &r, on_line);
    if (status != LQ_OK && !r.enough)
        return status;
    if (!r.enough && r.n_parts > 0)
        return lq_task_wrong(&r, "the last question is cut off");
    if (r.labels != NULL && !r.enough && r.n_labels != r.out.n)
        return lq_fail(LQ_E_FORMAT, "%s: %zu questions, but %zu labels beside them", path, r.out.n,
                       r.n_labels);
    if (r.out.n == 0)
        return lq_fail(LQ_E_FORMAT, "%s: no questions of %s", path, task->name);
    *out = r.out;
    return LQ_OK;
}
