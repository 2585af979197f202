#include "core/quant/lcqat_grid.h"

#include "core/data/safetensors.h"

#include <math.h>

enum { D = LQ_LCQAT_D };

static float to_bf16(double x) { return lq_bf16_to_f32(lq_f32_to_bf16((float)x)); }

static double keep(double x) { return x; }

static double through_bf16(double x) { return (double)to_bf16(x); }

static double unit_step(size_t levels)
{
    return 1.0 / sqrt(((double)levels * (double)levels - 1.0) / 12.0);
}

/* One chain of steps; `cut` is what the number format does to each result. The order is that of the
 * released code's bfloat16: B from one exact sum; a word starts at B and takes one column at a time. */
static void build(lq_lcqat_grid *grid, const float *G, double (*cut)(double))
{
    const double step = cut(unit_step(grid->levels)), mu = (double)(grid->levels - 1) / 2;
    double A[D][D], B[D];
    for (size_t i = 0; i < D; i++) {
        double sum = 0;
        for (size_t j = 0; j < D; j++) {
            double scaled = cut(G != NULL ? (double)G[i * D + j] : i == j) * step;
            A[i][j] = cut(scaled);
            grid->A[i * D + j] = (float)A[i][j];
            sum += scaled;
        }
        B[i] = cut(-mu * cut(sum));
        grid->B[i] = (float)B[i];
    }
    for (size_t k = 0; k < grid->words; k++) {
        double z[D], squares = 0;
        size_t rest = k;
        for (size_t j = D; j-- > 0; rest /= grid->levels)
            z[j] = (double)(rest % grid->levels);
        for (size_t i = 0; i < D; i++) {
            double x = B[i];
            for (size_t j = 0; j < D; j++)
                x = cut(x + cut(A[i][j] * z[j]));
            grid->word[k * D + i] = (float)x;
            squares += x * x;
        }
        double norm = cut(sqrt(squares));
        grid->norm[k] = (float)cut(norm * norm);
    }
}

lq_status lq_lcqat_grid_new(size_t levels, const float *G, bool bf16, lq_arena *arena,
                            lq_lcqat_grid *out)
{
    if (levels < 2 || levels > 8)
        return lq_fail(LQ_E_SHAPE, "a table of words of %zu levels: 2 to 8 levels are possible",
                       levels);
    *out = (lq_lcqat_grid){.levels = levels, .words = levels * levels * levels * levels};
    LQ_TRY(lq_arena_new(arena, &out->word, out->words * D));
    LQ_TRY(lq_arena_new(arena, &out->norm, out->words));
    build(out, G, bf16 ? through_bf16 : keep);
    return LQ_OK;
}

lq_word_table lq_lcqat_grid_table(const lq_lcqat_grid *grid)
{
    return (lq_word_table){.words = grid->words, .d = D, .word = grid->word, .norm = grid->norm};
}

void lq_lcqat_exact_norms(const float *word, size_t words, size_t d, float *norm)
{
    for (size_t k = 0; k < words; k++) {
        double sum = 0;
        for (size_t i = 0; i < d; i++)
            sum += (double)word[k * d + i] * (double)word[k * d + i];
        norm[k] = (float)sum;
    }
}

void lq_lcqat_affine(size_t levels, bool bf16, float affine[2])
{
    const double step = unit_step(levels), mu = (double)(levels - 1) / 2;
    affine[0] = bf16 ? to_bf16(step) : (float)step;
    affine[1] = bf16 ? to_bf16(-mu * (double)affine[0]) : (float)(-mu * step);
}
