# Variants one below the other, perplexity along x. `lcqat report` sets the variables and writes the numbers
# (experiments/report_draw.h has the layout of the .dat file; a series is row, mean, low, high, runs).
load plots.'/style.gp'
if (log_x) {
    set logscale x
    set xtics () nomirror
    do for [e = 0:6] {
        do for [m in (x_high > 8 * x_low ? '1 2 5' : '1 1.5 2 3 5 7')] {
            tic = real(m) * 10.0**e
            if (tic >= x_low && tic <= x_high) { set xtics add (sprintf('%g', tic) tic) }
        }
    }
}
set lmargin 0.84 * label_chars + 3
set rmargin 3
set bmargin 4 + n_series
set grid noxtics noytics
set grid xtics ytics lt 1 lw 0.5 lc rgb '#e4e4e4'
unset ylabel
set format y '%s'
set key outside center bottom horizontal Left reverse width 2 textcolor rgb '#333333' samplen 1.5
lies(i) = 0.3 * (i - 0.5 * (n_series - 1)) # series beside one another, or they would cover each other

do for [format in formats] {
    load plots.'/terminal.gp'
    plot data index n_series using (NaN):2:ytic(4) notitle with points, \
         for [i = 0:n_series - 1] data index i \
             using 2:($1 + lies(i)):($5 > 1 ? $3 : $2):($5 > 1 ? $4 : $2) with xerrorbars \
             pt symbol(colour(i)) ps size(colour(i)) lw 1.1 lc rgb rgb(colour(i)) \
             title word(titles, i + 1)
    unset output
}
