/* POD to prose, a paragraph at a time. Source of the rules: perlpod and perlpodspec. */
#include "core/data/clean_parts.h"

#include <string.h>

static bool starts(const lq_line *line, const char *command, const char **rest, size_t *n)
{
    size_t length = strlen(command);
    if (line->indent > 0 || line->bytes < length || memcmp(line->text, command, length) != 0)
        return false;
    if (line->bytes > length && line->text[length] != ' ')
        return false;
    while (length < line->bytes && line->text[length] == ' ')
        length++;
    *rest = line->text + length;
    *n = line->bytes - length;
    return true;
}

static void finish(lq_prose *prose, lq_passage kind)
{
    prose->passage_bytes = lq_clean_pod_inline(prose->passage, prose->passage_bytes);
    lq_prose_finish(prose, kind);
}

/* "=item": a bullet or number opens the paragraph that follows, anything else is a term. */
static void item(lq_prose *prose, const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && lq_is_digit(text[i]))
        i++;
    bool number = i > 0 && (i == n || (i + 1 == n && text[i] == '.'));
    bool bullet = n > 0 && (text[0] == '*' || text[0] == '-') && (n == 1 || text[1] == ' ');
    if (bullet) {
        lq_prose_gather(prose, "-", 1);
        lq_prose_gather(prose, text + 1, n - 1);
        if (n > 1)
            finish(prose, LQ_PASSAGE_PARAGRAPH);
    } else {
        lq_prose_gather(prose, text, n);
        if (!number)
            finish(prose, LQ_PASSAGE_HEADING);
    }
}

/* A command paragraph at line i; returns the line after it. */
static size_t command(lq_prose *prose, const lq_line *lines, size_t n, size_t i)
{
    static const char *const headings[] = {"=head1", "=head2", "=head3",
                                           "=head4", "=head5", "=head6"};
    const char *rest;
    size_t bytes;
    size_t end = i;
    while (end < n && lines[end].bytes > 0)
        end++;
    if (starts(&lines[i], "=item", &rest, &bytes)) {
        item(prose, rest, bytes);
        return i + 1 < end ? i + 1 : end;
    }
    for (size_t k = 0; k < sizeof headings / sizeof *headings; k++)
        if (starts(&lines[i], headings[k], &rest, &bytes)) {
            lq_prose_gather(prose, rest, bytes);
            for (size_t j = i + 1; j < end; j++)
                lq_prose_gather(prose, lines[j].text, lines[j].bytes);
            finish(prose, LQ_PASSAGE_HEADING);
            return end;
        }
    if (starts(&lines[i], "=begin", &rest, &bytes) && bytes > 0 && rest[0] != ':') {
        for (; i < n; i++)
            if (starts(&lines[i], "=end", &rest, &bytes))
                return i + 1;
        return n;
    }
    return end; /* =over, =back, =pod, =encoding, =for: no prose */
}

void lq_clean_pod(lq_prose *prose, const lq_line *lines, size_t n)
{
    bool in_pod = false;
    for (size_t i = 0; i < n;) {
        const lq_line *line = &lines[i];
        if (line->bytes == 0) {
            i++;
        } else if (line->indent == 0 && line->text[0] == '=' && line->bytes > 1 &&
                   lq_is_letter(line->text[1])) {
            in_pod = !(line->bytes >= 4 && memcmp(line->text, "=cut", 4) == 0);
            i = command(prose, lines, n, i);
        } else {
            lq_passage kind = line->indent > 0 ? LQ_PASSAGE_LITERAL : LQ_PASSAGE_PARAGRAPH;
            for (; i < n && lines[i].bytes > 0; i++)
                if (in_pod)
                    lq_prose_gather(prose, lines[i].text, lines[i].bytes);
            if (kind == LQ_PASSAGE_LITERAL)
                lq_prose_finish(prose, kind); /* verbatim: no codes inside */
            else
                finish(prose, kind);
        }
    }
    finish(prose, LQ_PASSAGE_PARAGRAPH);
}
