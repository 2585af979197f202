#include "core/quant/rounder.h"

#include "core/base/status.h"
#include "core/math/kernels.h"

enum { D_MAX = LQ_ROUNDER_LARGEST, CHUNK = 64 };

size_t lq_rounder_codes(const lq_rounder *rounder, size_t d) { return rounder->numbered ? 1 : d; }

static void turn(float *to, const float *from, size_t rows, size_t cols, size_t ld_to,
                 size_t ld_from)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++)
            to[j * ld_to + i] = from[i * ld_from + j];
}

void lq_round_vectors(const lq_rounder *rounder, const float *x, size_t count, size_t d,
                      float *value, uint16_t *code)
{
    const size_t codes = lq_rounder_codes(rounder, d);
    float target[D_MAX * CHUNK], found[D_MAX * CHUNK];
    uint16_t number[D_MAX * CHUNK];
    for (size_t at = 0; at < count; at += CHUNK) {
        const size_t here = count - at < CHUNK ? count - at : CHUNK;
        turn(target, x + at * d, here, d, CHUNK, d);
        rounder->round(rounder->context, target, here, CHUNK, d, found, number);
        turn(value + at * d, found, d, here, d, CHUNK);
        for (size_t i = 0; i < here; i++)
            for (size_t c = 0; c < codes; c++)
                code[(at + i) * codes + c] = number[c * CHUNK + i];
    }
}

static void round_scalar(const void *context, const float *target, size_t count, size_t ld,
                         size_t d, float *value, uint16_t *code)
{
    const lq_scalar_grid *grid = context;
    const lq_kernel_table *k = lq_kernels();
    float q[CHUNK];
    for (size_t a = 0; a < d; a++)
        for (size_t at = 0; at < count; at += CHUNK) {
            const size_t here = count - at < CHUNK ? count - at : CHUNK;
            uint16_t *to = code + a * ld + at;
            k->grid_round(q, value + a * ld + at, target + a * ld + at, here, grid->step,
                          grid->offset, (float)(grid->levels - 1));
#pragma omp simd
            for (size_t i = 0; i < here; i++)
                to[i] = (uint16_t)(int32_t)q[i];
        }
}

lq_rounder lq_rounder_scalar(const lq_scalar_grid *grid)
{
    LQ_ASSERT(grid->levels >= 2 && grid->levels <= 65536 && grid->step > 0);
    return (lq_rounder){.round = round_scalar, .context = grid};
}

static void round_table(const void *context, const float *target, size_t count, size_t ld, size_t d,
                        float *value, uint16_t *code)
{
    const lq_word_table *table = context;
    lq_kernels()->word_search(code, target, count, ld, table->word, table->norm, table->words, d);
    for (size_t i = 0; i < count; i++)
        for (size_t a = 0; a < d; a++)
            value[a * ld + i] = table->word[code[i] * d + a];
}

lq_rounder lq_rounder_table(const lq_word_table *table)
{
    LQ_ASSERT(table->words >= 1 && table->words <= 65536 && table->d >= 1 && table->d <= D_MAX);
    return (lq_rounder){
        .round = round_table, .context = table, .vector = table->d, .numbered = true};
}
