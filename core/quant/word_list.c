/* The list of all words of a lattice, and the released code's bfloat16 arithmetic in building it. */
#include "core/data/safetensors.h"
#include "core/quant/lattice.h"

#include <math.h>
#include <string.h>

enum { D_MAX = LQ_LATTICE_LARGEST, MOST_WORDS = 65536 };

static float to_bf16(double x) { return lq_bf16_to_f32(lq_f32_to_bf16((float)x)); }

static double keep(double x) { return x; }

static double through_bf16(double x) { return (double)to_bf16(x); }

/* One chain of steps; `cut` is what the number format does to each result. The order is that of the
 * released code's bfloat16: B from one exact sum; a word starts at B and takes one column at a time. */
static void build(lq_word_list *list, const float *G, double (*cut)(double))
{
    const size_t d = list->d;
    const double step = cut(lq_lattice_step(list->levels)), mu = (double)(list->levels - 1) / 2;
    double A[D_MAX][D_MAX], B[D_MAX];
    for (size_t i = 0; i < d; i++) {
        double sum = 0;
        for (size_t j = 0; j < d; j++) {
            double scaled = cut(G != NULL ? (double)G[i * d + j] : i == j) * step;
            A[i][j] = cut(scaled);
            list->A[i * d + j] = (float)A[i][j];
            sum += scaled;
        }
        B[i] = cut(-mu * cut(sum));
        list->B[i] = (float)B[i];
    }
    for (size_t k = 0; k < list->words; k++) {
        double z[D_MAX], squares = 0;
        size_t rest = k;
        for (size_t j = d; j-- > 0; rest /= list->levels)
            z[j] = (double)(rest % list->levels);
        for (size_t i = 0; i < d; i++) {
            double x = B[i];
            for (size_t j = 0; j < d; j++)
                x = cut(x + cut(A[i][j] * z[j]));
            list->word[k * d + i] = (float)x;
            squares += x * x;
        }
        double norm = cut(sqrt(squares));
        list->norm[k] = (float)cut(norm * norm);
    }
}

static lq_status new_list(size_t levels, size_t d, lq_arena *arena, lq_word_list *out)
{
    size_t words = 1;
    LQ_ASSERT(levels >= 2 && d >= 1 && d <= D_MAX);
    for (size_t i = 0; i < d && words <= MOST_WORDS; i++)
        words *= levels;
    if (words > MOST_WORDS)
        return lq_fail(LQ_E_SHAPE,
                       "%zu levels in words of %zu weights are more than %d words; take shorter "
                       "words or a search without a list",
                       levels, d, MOST_WORDS);
    *out = (lq_word_list){.levels = levels, .d = d, .words = words};
    LQ_TRY(lq_arena_new(arena, &out->A, d * d));
    LQ_TRY(lq_arena_new(arena, &out->B, d));
    LQ_TRY(lq_arena_new(arena, &out->word, words * d));
    return lq_arena_new(arena, &out->norm, words);
}

lq_status lq_word_list_new(size_t levels, size_t d, const float *G, bool bf16, lq_arena *arena,
                           lq_word_list *out)
{
    LQ_TRY(new_list(levels, d, arena, out));
    build(out, G, bf16 ? through_bf16 : keep);
    return LQ_OK;
}

lq_status lq_word_list_of(const lq_lattice *lattice, lq_arena *arena, lq_word_list *out)
{
    const size_t d = lattice->d;
    LQ_TRY(new_list(lattice->levels, d, arena, out));
    memcpy(out->A, lattice->A, d * d * sizeof *out->A);
    memcpy(out->B, lattice->B, d * sizeof *out->B);
    for (size_t k = 0; k < out->words; k++) {
        uint8_t z[D_MAX];
        size_t rest = k;
        for (size_t j = d; j-- > 0; rest /= lattice->levels)
            z[j] = (uint8_t)(rest % lattice->levels);
        lq_lattice_decode(lattice, z, 1, out->word + k * d);
    }
    lq_exact_norms(out->word, out->words, d, out->norm);
    return LQ_OK;
}

lq_word_table lq_word_list_table(const lq_word_list *list)
{
    return (lq_word_table){
        .words = list->words, .d = list->d, .word = list->word, .norm = list->norm};
}

void lq_exact_norms(const float *word, size_t words, size_t d, float *norm)
{
    for (size_t k = 0; k < words; k++) {
        double sum = 0;
        for (size_t i = 0; i < d; i++)
            sum += (double)word[k * d + i] * (double)word[k * d + i];
        norm[k] = (float)sum;
    }
}

void lq_lattice_affine(size_t levels, bool bf16, float affine[2])
{
    const double step = lq_lattice_step(levels), mu = (double)(levels - 1) / 2;
    affine[0] = bf16 ? to_bf16(step) : (float)step;
    affine[1] = bf16 ? to_bf16(-mu * (double)affine[0]) : (float)(-mu * step);
}
