# One size for the page and the paper (16:10), but for figures of rows, which grow with them; `format` is
# svg, png or pdf.
tall = n_rows > 0 ? (110 + 22.0 * n_rows) / 450 : 1
if (format eq 'svg') {
    set terminal svg size 720,int(450 * tall) fixed font 'Helvetica,Arial,sans-serif,14' linewidth 1.4 \
        background '#ffffff' noenhanced name 'lcqat'
}
if (format eq 'png') {
    if (strstrt(GPVAL_TERMINALS, 'pngcairo')) {
        set terminal pngcairo size 1440,int(900 * tall) font 'DejaVu Sans,11' fontscale 2 linewidth 2.8 \
            pointscale 2 noenhanced
    } else {
        set terminal png size 720,int(450 * tall) noenhanced
    }
}
if (format eq 'pdf') {
    set terminal pdfcairo size 5.4,3.4 * tall font 'DejaVu Sans,9' linewidth 1.6 pointscale 0.55 \
        noenhanced
}
set output base.'.'.format
