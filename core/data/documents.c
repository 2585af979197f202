#include "core/data/documents.h"

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/data/archive.h"

#include <string.h>

static const char *const words[] = {
#define X(name, word, what) word,
    LQ_FORMS(X)
#undef X
};

lq_form lq_form_of(const char *word)
{
    size_t i = 0;
    while (i < LQ_FORM_COUNT && strcmp(words[i], word) != 0)
        i++;
    return (lq_form)i;
}

const char *lq_form_word(lq_form form) { return words[form]; }

/* What Python's str.strip() removes, of ASCII. */
static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(line[i] == ' ' || (line[i] >= '\t' && line[i] <= '\r') ||
              (line[i] >= 0x1c && line[i] <= 0x1f)))
            return false;
    return true;
}

lq_status lq_wikitext_join(const char *raw, size_t bytes, lq_arena *arena, char **out, size_t *n)
{
    size_t lines = 1;
    for (size_t i = 0; i < bytes; i++)
        lines += raw[i] == '\n';
    char *text = lq_arena_alloc(arena, bytes + 2 * lines + 1), *end = text;
    if (text == NULL)
        return LQ_E_MEMORY;
    for (const char *at = raw, *stop = raw + bytes; at < stop;) {
        const char *feed = memchr(at, '\n', (size_t)(stop - at));
        const size_t row = feed ? (size_t)(feed + 1 - at) : (size_t)(stop - at);
        if (at > raw) {
            memcpy(end, "\n\n", 2);
            end += 2;
        }
        if (!is_blank(at, row)) {
            memcpy(end, at, row);
            end += row;
        }
        at += row;
    }
    *end = '\0';
    *out = text;
    *n = (size_t)(end - text);
    return LQ_OK;
}

typedef struct reader {
    const char *path;
    size_t line, done, most;
    bool enough;
    lq_arena arena; /* the document in hand, of a separated file */
    char *text;
    size_t n, room;
    void *self;
    lq_status (*on_document)(void *self, const char *text, size_t bytes);
} reader;

static lq_status hand_over(reader *r, const char *text, size_t bytes)
{
    LQ_TRY(r->on_document(r->self, text, bytes));
    r->done++;
    r->enough = r->most > 0 && r->done >= r->most;
    return r->enough ? LQ_E_STOPPED : LQ_OK; /* ends the walk; seen by `enough` */
}

static lq_status on_json(void *self, char *line, size_t bytes)
{
    reader *r = self;
    lq_json *row;
    r->line++;
    if (is_blank(line, bytes))
        return LQ_OK;
    if (lq_json_parse(line, bytes, r->path, &row) != LQ_OK)
        return lq_fail(LQ_E_FORMAT, "%s: line %zu is no JSON", r->path, r->line);
    const char *text = lq_json_string(lq_json_get(row, "text"));
    const lq_status status =
        text ? hand_over(r, text, strlen(text))
             : lq_fail(LQ_E_FORMAT, "%s: line %zu has no \"text\"", r->path, r->line);
    lq_json_free(row);
    return status;
}

/* The document without the line feeds around it; an empty one is none. */
static lq_status end_document(reader *r)
{
    size_t from = 0, n = r->n;
    while (from < n && r->text[from] == '\n')
        from++;
    while (n > from && r->text[n - 1] == '\n')
        n--;
    r->n = 0;
    return n > from ? hand_over(r, r->text + from, n - from) : LQ_OK;
}

static lq_status on_separated(void *self, char *line, size_t bytes)
{
    reader *r = self;
    if (strcmp(line, "<|endoftext|>") == 0)
        return end_document(r);
    if (r->n + bytes + 1 > r->room) {
        const size_t room = 2 * (r->n + bytes + 1);
        char *larger = lq_arena_alloc(&r->arena, room);
        if (larger == NULL)
            return LQ_E_MEMORY;
        if (r->n > 0)
            memcpy(larger, r->text, r->n);
        r->text = larger;
        r->room = room;
    }
    memcpy(r->text + r->n, line, bytes);
    r->text[r->n + bytes] = '\n';
    r->n += bytes + 1;
    return LQ_OK;
}

static lq_status read_one(reader *r, lq_form form)
{
    char *text;
    size_t n;
    LQ_TRY(lq_file_read(r->path, &r->arena, &text, &n));
    if (form == LQ_FORM_WIKITEXT)
        LQ_TRY(lq_wikitext_join(text, n, &r->arena, &text, &n));
    return hand_over(r, text, n);
}

lq_status lq_documents_each(const char *path, lq_form form, size_t most, void *self,
                            lq_status (*on_document)(void *self, const char *text, size_t bytes))
{
    reader r = {.path = path, .most = most, .self = self, .on_document = on_document};
    lq_status status;
    if (form == LQ_FORM_JSONL) {
        status = lq_archive_lines(path, &r, on_json);
    } else if (form == LQ_FORM_SEPARATED) {
        status = lq_archive_lines(path, &r, on_separated);
        if (status == LQ_OK && r.n > 0)
            status = end_document(&r);
    } else {
        status = read_one(&r, form);
    }
    lq_arena_close(&r.arena);
    return r.enough ? LQ_OK : status;
}
