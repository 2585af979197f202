# Perplexity against the share of the training data. `lcqat report` sets the variables and writes the
# numbers (experiments/report_draw.h has the layout of the .dat file).
load plots.'/style.gp'
set logscale x
set xtics () nomirror
do for [x in x_places] { set xtics add (sprintf('%g %%%%', 100 * real(x)) real(x)) }
# Series stand beside one another by a little, or their error bars would cover each other.
dodge(i) = (x_high / x_low)**(0.006 * (i - 0.5 * (n_series - 1)))

do for [format in formats] {
    load plots.'/terminal.gp'
    plot for [i = 0:n_levels - 1] data index n_series + i using 1:2 with lines \
             lt 10 + colour(n_series + i), \
         for [i = 0:n_labels - 1] data index n_labels + i using 1:2 with lines \
             lw 0.7 dt 3 lc rgb rgb(colour(i)), \
         for [i = 0:n_series - 1] data index i using ($1 * dodge(i)):2 with lines lw 1.7 \
             lc rgb rgb(colour(i)), \
         for [i = 0:n_series - 1] data index i using ($1 * dodge(i)):($5 > 1 ? $2 : NaN):3:4 \
             with yerrorbars lw 1.1 pt -1 lc rgb rgb(colour(i)), \
         for [i = 0:n_series - 1] data index i using ($1 * dodge(i)):2 with points \
             pt symbol(colour(i)) ps size(colour(i)) lc rgb rgb(colour(i)), \
         data index 2 * n_labels using 1:2:4:(rgb($3)) with labels left offset 0.5,0 \
             tc rgb variable, \
         for [i = 1:(n_lost > 0)] data index 2 * n_labels + i using 1:2:(rgb($3)) \
             with points pt 2 ps 1 lw 1.5 lc rgb variable
    unset output
}
