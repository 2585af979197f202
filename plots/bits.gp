# Perplexity against true bits per weight. `lcqat report` sets the variables and writes the numbers
# (experiments/report_draw.h has the layout of the .dat file).
load plots.'/style.gp'

do for [format in formats] {
    load plots.'/terminal.gp'
    plot for [i = 0:n_levels - 1] data index n_series + i using 1:2 with lines \
             lt 10 + colour(n_series + i), \
         for [i = 0:n_labels - 1] data index n_labels + i using 1:2 with lines \
             lw 0.7 dt 3 lc rgb rgb(colour(i)), \
         for [i = 0:n_series - 1] data index i using 1:2 with lines lw 1 lc rgb rgb(colour(i)), \
         for [i = 0:n_series - 1] data index i using 1:2 with points pt symbol(colour(i)) \
             ps 1.2 * size(colour(i)) lc rgb rgb(colour(i)), \
         data index 2 * n_labels using 1:2:4:(rgb($3)) with labels left offset 0.5,0 \
             tc rgb variable
    unset output
}
