/* Bit layouts of packed codes. A unit is the shortest run of codes that fills whole bytes; its codes are
 * the digits of one number in base `levels`. A digit below is the index of a code within its unit.
 *
 *     levels  unit               bit 7 6 5 4 3 2 1 0
 *     2       8 codes, 1 byte        0 1 2 3 4 5 6 7
 *     4       4 codes, 1 byte        0 0 1 1 2 2 3 3     0x1B holds 0,1,2,3
 *     16      2 codes, 1 byte        0 0 0 0 1 1 1 1
 *     256     1 code,  1 byte        0 0 0 0 0 0 0 0
 *     3       5 codes, 1 byte        81 c0 + 27 c1 + 9 c2 + 3 c3 + c4     242 holds 2,2,2,2,2
 *     8       8 codes, 3 bytes   byte 0   2 2 1 1 1 0 0 0
 *                                byte 1   5 4 4 4 3 3 3 2
 *                                byte 2   7 7 7 6 6 6 5 5
 *
 * The first code is the most significant digit, except with 8 levels, where it is the least. A row ends
 * with as many bytes of its last unit as hold a code; missing codes there are zeros. */
#include "core/quant/method.h"

#include <string.h>

enum { MAX_UNIT = 8, MAX_UNIT_BYTES = 3 };
typedef struct layout {
    size_t levels, codes, bytes; /* `codes` codes fill `bytes` bytes */
    uint32_t end;                /* levels ^ codes: the first number that is no unit */
} layout;

static const layout layouts[] = {{2, 8, 1, 256},  {3, 5, 1, 243},   {4, 4, 1, 256},
                                 {16, 2, 1, 256}, {256, 1, 1, 256}, {8, 8, 3, 1u << 24}};

static const layout *layout_of(size_t levels)
{
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++)
        if (layouts[i].levels == levels)
            return &layouts[i];
    const bool has_a_layout = false;
    LQ_ASSERT(has_a_layout);
    return NULL;
}

static size_t row_bytes(const layout *l, size_t cols)
{
    size_t rest = cols % l->codes;
    return cols / l->codes * l->bytes + (rest * l->bytes + l->codes - 1) / l->codes;
}

/* Cannot overflow for a theta that exists: its codes, one a byte, are in memory already. */
size_t lq_codes_bytes(size_t rows, size_t cols, size_t levels)
{
    return rows * row_bytes(layout_of(levels), cols);
}

static void pack_row(const layout *l, const uint8_t *code, size_t cols, uint8_t *byte)
{
    for (size_t j = 0; j < cols; j += l->codes) {
        size_t here = cols - j < l->codes ? cols - j : l->codes;
        uint32_t number = 0;
        for (size_t i = 0; i < l->codes; i++) {
            size_t digit = l->levels == 8 ? l->codes - 1 - i : i;
            uint32_t value = digit < here ? code[j + digit] : 0;
            LQ_ASSERT(value < l->levels);
            number = number * (uint32_t)l->levels + value;
        }
        size_t n_bytes = (here * l->bytes + l->codes - 1) / l->codes;
        for (size_t b = 0; b < n_bytes; b++)
            *byte++ = (uint8_t)(number >> (8 * b));
    }
}

/* False: a number that is no unit, or a code where the row has ended. */
static bool unpack_row(const layout *l, const uint8_t *byte, uint8_t *code, size_t cols)
{
    for (size_t j = 0; j < cols; j += l->codes) {
        size_t here = cols - j < l->codes ? cols - j : l->codes;
        size_t n_bytes = (here * l->bytes + l->codes - 1) / l->codes;
        uint32_t number = 0;
        for (size_t b = 0; b < n_bytes; b++)
            number |= (uint32_t)*byte++ << (8 * b);
        if (number >= l->end)
            return false;
        for (size_t i = l->codes; i-- > 0;) { /* least significant digit first */
            size_t digit = l->levels == 8 ? l->codes - 1 - i : i;
            uint8_t value = (uint8_t)(number % (uint32_t)l->levels);
            number /= (uint32_t)l->levels;
            if (digit < here)
                code[j + digit] = value;
            else if (value != 0)
                return false;
        }
    }
    return true;
}

lq_status lq_sink_codes(lq_sink *sink, const uint8_t *code, size_t rows, size_t cols, size_t levels)
{
    const layout *l = layout_of(levels);
    size_t n_bytes = row_bytes(l, cols);
    uint8_t *packed = lq_arena_alloc(sink->arena, n_bytes);
    if (packed == NULL)
        return LQ_E_MEMORY;
    for (size_t r = 0; r < rows; r++) {
        pack_row(l, code + r * cols, cols, packed);
        LQ_TRY(lq_sink_put(sink, packed, n_bytes));
    }
    return LQ_OK;
}

lq_status lq_source_codes(lq_source *source, uint8_t *code, size_t rows, size_t cols, size_t levels)
{
    const layout *l = layout_of(levels);
    size_t n_bytes = row_bytes(l, cols);
    for (size_t r = 0; r < rows; r++) {
        if (source->bytes - source->at < n_bytes)
            return lq_fail(LQ_E_FORMAT, "%s: ends in row %zu of %zu of the codes", source->where, r,
                           rows);
        if (!unpack_row(l, source->data + source->at, code + r * cols, cols))
            return lq_fail(LQ_E_FORMAT, "%s: row %zu of the codes holds no code of %zu levels",
                           source->where, r, levels);
        source->at += n_bytes;
    }
    return LQ_OK;
}
