# The look that all figures share. Colours 1 to 7: Okabe and Ito's palette, told apart by colour-blind
# readers (and by their symbols in grey print); 8 grey: nothing trained; 9 black: full precision.
set encoding utf8
rgb_of = '0x0072B2 0xD55E00 0x009E73 0xCC79A7 0xE69F00 0x56B4E9 0x8C6D31 0x707070 0x000000'
symbol_of = '7 5 9 13 11 15 7 4 1'
size_of = '0.8 0.75 0.95 1.1 0.95 0.9 0.8 0.8 0.8'
rgb(c) = int(word(rgb_of, int(c)))
symbol(c) = int(word(symbol_of, int(c)))
size(c) = real(word(size_of, int(c)))
# Of label i: the series, then the levels. An empty loop asks for one that is not there, too.
colour(i) = i < words(colours) ? int(word(colours, i + 1)) : 9

set linetype 18 lc rgb rgb(8) lw 0.9 dt 2   # levels: 10 more than their colour
set linetype 19 lc rgb rgb(9) lw 1.2 dt 1

# What this gnuplot can write. SVG is always there; pdfcairo and pngcairo come with gnuplot-nox.
formats = 'svg'
formats = formats.(strstrt(GPVAL_TERMINALS, ' png') ? ' png' : '')
formats = formats.(strstrt(GPVAL_TERMINALS, 'pdfcairo') ? ' pdf' : '')
data = base.'.dat'
n_labels = n_series + n_levels

set border 3 lw 0.8 lc rgb '#444444'
set tics nomirror out scale 0.5 textcolor rgb '#333333'
set grid ytics lt 1 lw 0.5 lc rgb '#e4e4e4'
unset key
set title title offset 0,-0.5 textcolor rgb '#222222'
set xlabel x_label textcolor rgb '#222222' offset 0,0.2
set ylabel y_label textcolor rgb '#222222' offset -0.3,0
set lmargin 10
set bmargin 3.4
set tmargin 2
set rmargin 0.84 * label_chars + 2.5
set xrange [x_low:x_high]
set yrange [y_low:y_high]

# A logarithmic axis is labelled at 1, 2 and 5 of every decade: one decade alone would have two labels.
set format y '%g'
if (log_y) {
    set logscale y
    set ytics () nomirror
    do for [e = -3:7] {
        do for [m in '1 2 5'] {
            tic = int(m) * 10.0**e
            if (tic >= y_low && tic <= y_high) { set ytics add (sprintf('%g', tic) tic) }
        }
    }
}
