#include "experiments/report_table.h"

#include <string.h>

void lq_table_start(lq_table *t, const lq_column *column, size_t n_columns, lq_arena *arena)
{
    *t = (lq_table){.arena = arena, .column = column, .n_columns = n_columns};
}

lq_text_cell *lq_table_row(lq_table *t, bool rule)
{
    if (t->n_rows == t->room) {
        const size_t room = t->room ? 2 * t->room : 32;
        lq_text_cell *cell = lq_arena_alloc(t->arena, room * t->n_columns * sizeof *cell);
        bool *rules = lq_arena_alloc(t->arena, room * sizeof *rules);
        LQ_ASSERT(cell && rules);
        if (t->n_rows > 0) {
            memcpy(cell, t->cell, t->n_rows * t->n_columns * sizeof *cell);
            memcpy(rules, t->rule, t->n_rows * sizeof *rules);
        }
        t->cell = cell;
        t->rule = rules;
        t->room = room;
    }
    lq_text_cell *row = t->cell + t->n_rows * t->n_columns;
    for (size_t i = 0; i < t->n_columns; i++)
        row[i] = (lq_text_cell){NULL, ""};
    t->rule[t->n_rows] = rule && t->n_rows > 0;
    t->n_rows++;
    return row;
}

static const char *shown(const lq_text_cell *cell) { return cell->shown ? cell->shown : cell->raw; }

/* Writes text with some of its pieces replaced: pairs of {piece, replacement}, the first that fits. */
typedef struct pair {
    const char *piece, *instead;
} pair;

static lq_status put(lq_file *file, const char *text, const pair *pairs, size_t n)
{
    while (*text) {
        size_t i = 0;
        while (i < n && strncmp(text, pairs[i].piece, strlen(pairs[i].piece)) != 0)
            i++;
        if (i < n) {
            LQ_TRY(lq_file_write(file, pairs[i].instead, strlen(pairs[i].instead)));
            text += strlen(pairs[i].piece);
        } else {
            LQ_TRY(lq_file_write(file, text++, 1));
        }
    }
    return LQ_OK;
}

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

lq_status lq_html_text(lq_file *file, const char *text)
{
    static const pair pairs[] = {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}};
    return put(file, text, pairs, COUNT(pairs));
}

lq_status lq_tex_text(lq_file *file, const char *text)
{
    static const pair pairs[] = {{"\\", "\\textbackslash{}"},
                                 {" %", "\\,\\%"},
                                 {"%", "\\%"},
                                 {"&", "\\&"},
                                 {"$", "\\$"},
                                 {"#", "\\#"},
                                 {"_", "\\_"},
                                 {"{", "\\{"},
                                 {"}", "\\}"},
                                 {"~", "\\textasciitilde{}"},
                                 {"^", "\\textasciicircum{}"},
                                 {"±", "$\\pm$"},
                                 {"−", "$-$"},
                                 {"–", "--"},
                                 {"×", "$\\times$"},
                                 {"<", "$<$"},
                                 {">", "$>$"},
                                 {"\n", " "}};
    return put(file, text, pairs, COUNT(pairs));
}

lq_status lq_table_markdown(const lq_table *t, lq_file *file)
{
    static const pair pairs[] = {{"|", "\\|"}, {"\n", " "}};
    LQ_TRY(lq_file_write(file, "|", 1));
    for (size_t c = 0; c < t->n_columns; c++)
        if (t->column[c].title)
            LQ_TRY(lq_file_printf(file, " %s |", t->column[c].title));
    LQ_TRY(lq_file_write(file, "\n|", 2));
    for (size_t c = 0; c < t->n_columns; c++)
        if (t->column[c].title)
            LQ_TRY(lq_file_printf(file, "%s|", t->column[c].align == 'r' ? "---:" : "---"));
    LQ_TRY(lq_file_write(file, "\n", 1));
    for (size_t r = 0; r < t->n_rows; r++) {
        LQ_TRY(lq_file_write(file, "|", 1));
        for (size_t c = 0; c < t->n_columns; c++) {
            if (!t->column[c].title)
                continue;
            LQ_TRY(lq_file_write(file, " ", 1));
            LQ_TRY(put(file, shown(&t->cell[r * t->n_columns + c]), pairs, COUNT(pairs)));
            LQ_TRY(lq_file_write(file, " |", 2));
        }
        LQ_TRY(lq_file_write(file, "\n", 1));
    }
    return LQ_OK;
}

static lq_status csv_field(lq_file *file, const char *text)
{
    static const pair pairs[] = {{"\"", "\"\""}};
    if (text[strcspn(text, ",\"\n\r")] == '\0')
        return lq_file_write(file, text, strlen(text));
    LQ_TRY(lq_file_write(file, "\"", 1));
    LQ_TRY(put(file, text, pairs, 1));
    return lq_file_write(file, "\"", 1);
}

lq_status lq_table_csv(const lq_table *t, lq_file *file)
{
    const char *comma = "";
    for (size_t c = 0; c < t->n_columns; c++)
        if (t->column[c].csv) {
            LQ_TRY(lq_file_printf(file, "%s%s", comma, t->column[c].csv));
            comma = ",";
        }
    LQ_TRY(lq_file_write(file, "\n", 1));
    for (size_t r = 0; r < t->n_rows; r++) {
        comma = "";
        for (size_t c = 0; c < t->n_columns; c++)
            if (t->column[c].csv) {
                LQ_TRY(lq_file_write(file, comma, strlen(comma)));
                LQ_TRY(csv_field(file, t->cell[r * t->n_columns + c].raw));
                comma = ",";
            }
        LQ_TRY(lq_file_write(file, "\n", 1));
    }
    return LQ_OK;
}

lq_status lq_table_tex(const lq_table *t, lq_file *file)
{
    const char *between = "";
    LQ_TRY(lq_file_printf(file, "%% written by lcqat report; do not edit\n\\begin{tabular}{"));
    for (size_t c = 0; c < t->n_columns; c++)
        if (t->column[c].tex)
            LQ_TRY(lq_file_printf(file, "%c", t->column[c].align));
    LQ_TRY(lq_file_printf(file, "}\n\\toprule\n"));
    for (size_t c = 0; c < t->n_columns; c++)
        if (t->column[c].tex) {
            LQ_TRY(lq_file_printf(file, "%s", between));
            LQ_TRY(lq_tex_text(file, t->column[c].title));
            between = " & ";
        }
    LQ_TRY(lq_file_printf(file, " \\\\\n\\midrule\n"));
    for (size_t r = 0; r < t->n_rows; r++) {
        if (t->rule[r])
            LQ_TRY(lq_file_printf(file, "\\midrule\n"));
        between = "";
        for (size_t c = 0; c < t->n_columns; c++)
            if (t->column[c].tex) {
                LQ_TRY(lq_file_printf(file, "%s", between));
                LQ_TRY(lq_tex_text(file, shown(&t->cell[r * t->n_columns + c])));
                between = " & ";
            }
        LQ_TRY(lq_file_printf(file, " \\\\\n"));
    }
    return lq_file_printf(file, "\\bottomrule\n\\end{tabular}\n");
}

/* Full ids in raw, short ones shown: one link each. */
static lq_status html_ids(lq_file *file, const char *ids)
{
    while (*ids) {
        const size_t n = strcspn(ids, " ");
        LQ_TRY(lq_file_printf(file, "<a href=\"runs/%.*s.json\"><code>%.8s</code></a> ", (int)n,
                              ids, ids));
        ids += n + strspn(ids + n, " ");
    }
    return LQ_OK;
}

/* Does a column hold more than a line is worth: sentences, or the ids of several runs? It may wrap then. */
static bool is_wide(const lq_table *t, size_t column)
{
    size_t longest = 0;
    for (size_t r = 0; r < t->n_rows; r++) {
        const size_t n = strlen(shown(&t->cell[r * t->n_columns + column]));
        longest = n > longest ? n : longest;
    }
    return t->column[column].ids || longest > 40;
}

lq_status lq_table_html(const lq_table *t, lq_file *file)
{
    bool *wide;
    LQ_TRY(lq_arena_new(t->arena, &wide, t->n_columns + 1));
    LQ_TRY(lq_file_printf(file, "<table>\n<thead><tr>"));
    for (size_t c = 0; c < t->n_columns; c++)
        if (t->column[c].title) {
            wide[c] = is_wide(t, c);
            LQ_TRY(lq_file_printf(file, "<th class=\"%c\">", t->column[c].align));
            LQ_TRY(lq_html_text(file, t->column[c].title));
            LQ_TRY(lq_file_printf(file, "</th>"));
        }
    LQ_TRY(lq_file_printf(file, "</tr></thead>\n<tbody>\n"));
    for (size_t r = 0; r < t->n_rows; r++) {
        LQ_TRY(lq_file_printf(file, t->rule[r] ? "<tr class=\"rule\">" : "<tr>"));
        for (size_t c = 0; c < t->n_columns; c++) {
            const lq_text_cell *cell = &t->cell[r * t->n_columns + c];
            if (!t->column[c].title)
                continue;
            LQ_TRY(lq_file_printf(file, "<td class=\"%c%s\">", t->column[c].align,
                                  wide[c] ? " w" : ""));
            LQ_TRY(t->column[c].ids ? html_ids(file, cell->raw) : lq_html_text(file, shown(cell)));
            LQ_TRY(lq_file_printf(file, "</td>"));
        }
        LQ_TRY(lq_file_printf(file, "</tr>\n"));
    }
    return lq_file_printf(file, "</tbody>\n</table>\n");
}
