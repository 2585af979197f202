/* A table of text, written as Markdown, CSV, LaTeX (booktabs, `tabular` alone) and HTML from one set of
 * cells. A cell has two forms: as shown to a reader, and raw for the CSV file. */
#ifndef LQ_EXPERIMENTS_REPORT_TABLE_H
#define LQ_EXPERIMENTS_REPORT_TABLE_H

#include "core/base/arena.h"
#include "core/base/file.h"

typedef struct lq_column {
    const char *title; /* NULL: in the CSV alone */
    const char *csv;   /* NULL: not in the CSV */
    char align;        /* 'l' or 'r' */
    bool tex;          /* narrow enough to matter in the paper */
    bool ids;          /* raw holds run ids, blank-separated: HTML links them to runs/<id>.json */
} lq_column;

typedef struct lq_text_cell {
    const char *shown, *raw; /* shown NULL: as raw. Borrowed; an arena owns them */
} lq_text_cell;

typedef struct lq_table {
    lq_arena *arena;
    const lq_column *column;
    size_t n_columns, n_rows, room;
    lq_text_cell *cell; /* (n_rows, n_columns) */
    bool *rule;         /* (n_rows) a rule above this row */
} lq_table;

void lq_table_start(lq_table *t, const lq_column *column, size_t n_columns, lq_arena *arena);
/* A new row, all empty; rule: a line above it. Valid until the next call. */
lq_text_cell *lq_table_row(lq_table *t, bool rule);

lq_status lq_table_markdown(const lq_table *t, lq_file *file);
lq_status lq_table_csv(const lq_table *t, lq_file *file);
lq_status lq_table_tex(const lq_table *t, lq_file *file);
lq_status lq_table_html(const lq_table *t, lq_file *file);
/* Text with what HTML (or LaTeX) reads as markup written out. */
lq_status lq_html_text(lq_file *file, const char *text);
lq_status lq_tex_text(lq_file *file, const char *text);

#endif
