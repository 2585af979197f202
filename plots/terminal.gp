# One size for the page and the paper (16:10); `format` is svg, png or pdf.
if (format eq 'svg') {
    set terminal svg size 720,450 fixed font 'Helvetica,Arial,sans-serif,14' linewidth 1.4 \
        background '#ffffff' noenhanced name 'lcqat'
}
if (format eq 'png') {
    if (strstrt(GPVAL_TERMINALS, 'pngcairo')) {
        set terminal pngcairo size 1440,900 font 'DejaVu Sans,11' fontscale 2 linewidth 2.8 \
            pointscale 2 noenhanced
    } else {
        set terminal png size 720,450 noenhanced
    }
}
if (format eq 'pdf') {
    set terminal pdfcairo size 5.4in,3.4in font 'DejaVu Sans,9' linewidth 1.6 pointscale 0.55 \
        noenhanced
}
set output base.'.'.format
