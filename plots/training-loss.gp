# Training loss against tokens seen. `lcqat report` sets the variables and writes the numbers
# (experiments/report_draw.h has the layout of the .dat file).
load plots.'/style.gp'
set logscale x
set xtics ('1' 1, '10' 10, '100' 100, '1k' 1e3, '10k' 1e4, '100k' 1e5, '1M' 1e6, '10M' 1e7, \
           '100M' 1e8, '1G' 1e9, '10G' 1e10, '100G' 1e11)

do for [format in formats] {
    load plots.'/terminal.gp'
    plot for [i = 0:n_labels - 1] data index n_labels + i using 1:2 with lines \
             lw 0.7 dt 3 lc rgb rgb(colour(i)), \
         for [i = 0:n_series - 1] data index i using 1:2 with lines lw 1.6 lc rgb rgb(colour(i)), \
         data index 2 * n_labels using 1:2:4:(rgb($3)) with labels left offset 0.5,0 \
             tc rgb variable
    unset output
}
