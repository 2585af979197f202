/* HellaSwag: how the harness cleans its texts. */
#include "core/eval/task_parts.h"

#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { ENDINGS = 4 };

/* In place; `to` is not longer than `from`. One pass, as Python's str.replace(). */
static void replace(char *text, const char *from, const char *to)
{
    const size_t n_from = strlen(from), n_to = strlen(to);
    char *out = text;
    while (*text != '\0')
        if (strncmp(text, from, n_from) == 0) {
            memcpy(out, to, n_to);
            out += n_to;
            text += n_from;
        } else {
            *out++ = *text++;
        }
    *out = '\0';
}

/* Every match of the pattern \[.*?\], whose dot is no line feed. */
static void remove_brackets(char *text)
{
    char *out = text;
    while (*text != '\0') {
        const size_t inside = *text == '[' ? strcspn(text, "]\n") : 0;
        if (inside > 0 && text[inside] == ']')
            text += inside + 1;
        else
            *out++ = *text++;
    }
    *out = '\0';
}

const char *lq_hellaswag_clean(const char *text, lq_arena *arena)
{
    const char *stripped = lq_python_strip(text, arena);
    char *out = lq_arena_printf(arena, "%s", stripped);
    replace(out, " [title]", ". ");
    remove_brackets(out);
    replace(out, "  ", " ");
    return out;
}

/* Title case is that of single characters; those that become two (U+00DF, ligatures) and the final sigma do
 * not occur in HellaSwag. */
lq_status lq_python_capitalize(const char *text, lq_arena *arena, const char **out)
{
    const size_t n = strlen(text);
    lq_buffer buffer = {0};
    uint32_t code;
    char first[4];
    *out = "";
    if (n == 0)
        return LQ_OK;
    const size_t width = lq_utf8_next(text, n, &code);
    lq_status status = lq_buffer_add(&buffer, first, lq_utf8_put(lq_unicode_title(code), first));
    if (status == LQ_OK)
        status = lq_unicode_lower(text + width, n - width, &buffer);
    if (status == LQ_OK)
        *out = lq_arena_printf(arena, "%.*s", (int)buffer.n, buffer.data);
    lq_buffer_free(&buffer);
    return status;
}

lq_status lq_hellaswag_row(lq_task_reader *r, const lq_json *row)
{
    const char *activity = lq_json_string(lq_json_get(row, "activity_label")),
               *a = lq_json_string(lq_json_get(row, "ctx_a")),
               *b = lq_json_string(lq_json_get(row, "ctx_b")), *capital, *text[ENDINGS];
    const lq_json *endings = lq_json_get(row, "endings"), *label = lq_json_get(row, "label");
    const char *word = lq_json_string(label); /* the hub has it as text */
    const double number = word != NULL && *word >= '0' && *word <= '9' && word[1] == '\0'
                              ? (double)(*word - '0')
                              : lq_json_number(label);
    if (activity == NULL || a == NULL || b == NULL || lq_json_count(endings) != ENDINGS)
        return lq_task_wrong(r, "no activity_label, ctx_a, ctx_b or four endings");
    for (size_t i = 0; i < ENDINGS; i++) {
        const char *ending = lq_json_string(lq_json_at(endings, i));
        if (ending == NULL)
            return lq_task_wrong(r, "an ending that is no text");
        text[i] = lq_hellaswag_clean(ending, r->arena);
    }
    LQ_TRY(lq_python_capitalize(b, r->arena, &capital));
    const char *context = lq_arena_printf(r->arena, "%s: %s %s", activity, a, capital);
    return lq_task_add(r, lq_hellaswag_clean(context, r->arena), text, ENDINGS,
                       number >= 0 && number < ENDINGS ? (size_t)number : ENDINGS);
}

/* Context, number of the right ending, four endings, all cleaned already. The second part of the context was
 * not capitalized, and nothing says where it begins. Source: ggerganov/llama.cpp, examples/perplexity. */
lq_status lq_hellaswag_line(lq_task_reader *r, char *line, size_t bytes)
{
    r->out.remark = "texts as llama.cpp has them: the second part of a context not capitalized";
    if (bytes > 0 && line[bytes - 1] == '\r')
        line[bytes - 1] = '\0';
    r->part[r->n_parts++] = lq_arena_printf(r->arena, "%s", line);
    if (r->n_parts < 2 + ENDINGS)
        return LQ_OK;
    r->n_parts = 0;
    const char *label = r->part[1];
    return lq_task_add(r, r->part[0], r->part + 2, ENDINGS,
                       *label >= '0' && *label < '0' + ENDINGS && label[1] == '\0'
                           ? (size_t)(*label - '0')
                           : ENDINGS);
}
