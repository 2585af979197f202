/* One figure as numbers: series, horizontal levels, labels; written as a .dat file and drawn by a gnuplot
 * script of plots/. All scripts read one layout, blocks parted by two blank lines (gnuplot's `index`):
 *     n_series   series     x, mean, low, high, runs
 *     n_levels   levels     x, y: a horizontal line
 *     both       leaders    x, y: from the end of a series or a level to its label
 *     1          labels     x, y, colour, "text"; of a figure of rows: 0, row, colour, "text"
 *     1          lost       x, y, colour: cells whose every run diverged, at the upper edge
 * Labels stand at the right, moved apart, so that no legend has to be matched by colour. */
#ifndef LQ_EXPERIMENTS_REPORT_DRAW_H
#define LQ_EXPERIMENTS_REPORT_DRAW_H

#include "experiments/report.h"

enum { LQ_GREY = 8, LQ_BLACK = 9, LQ_COLOURS = 7 }; /* colours 1 to 9 of plots/style.gp */

typedef struct lq_dot {
    double x, y, low, high; /* low, high: of the error bar */
    size_t tag;             /* series: runs; lost: colour; bits: nominal bits in hundredths */
} lq_dot;
typedef struct lq_line {
    const char *label;
    size_t colour, n;
    lq_dot *at; /* (n) */
} lq_line;
typedef struct lq_label {
    const char *text;
    size_t colour;
    double y, shown_y; /* where it belongs, where it stands */
} lq_label;

typedef struct lq_drawing {
    const char *name, *script, *title, *x_label, *y_label, *caption;
    lq_line *series, *level; /* a level has one dot */
    lq_dot *lost;
    size_t n_series, n_levels, n_lost;
    bool log_x;
    /* A figure of rows, one below the other, instead of curves: then a dot's x is its row, counted from 0
     * at the top, its mean lies along the horizontal axis, and labels are the rows'. */
    lq_label *row;
    size_t n_rows;
    /* What lq_draw_all decides: */
    bool log_y; /* when the values span a large factor */
    double x_low, x_last, x_high, y_low, y_high;
    lq_label *label; /* (n_series + n_levels), series first */
} lq_drawing;

/* Writes DIR/figures/<name>.dat of each and runs gnuplot on it; fills r->figure. What could not be drawn is
 * a warning and an lq_figure that is not `drawn`. */
lq_status lq_draw_all(lq_report *r, lq_drawing *drawing, size_t n, const char *out,
                      const char *plots);
void *lq_draw_zeroed(lq_arena *arena, size_t count, size_t size); /* small; aborts without memory */

#endif
