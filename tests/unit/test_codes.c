#include "core/data/safetensors.h"
#include "core/quant/method.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const size_t all_levels[] = {2, 3, 4, 8, 16, 256};
enum { N_LEVELS = sizeof all_levels / sizeof all_levels[0] };

static lq_source source_of(const void *data, size_t bytes)
{
    return (lq_source){.data = data, .bytes = bytes, .where = "test"};
}

static void check_layout(size_t levels, const uint8_t *code, size_t n, const uint8_t *want,
                         size_t n_bytes)
{
    lq_arena arena = {0};
    lq_sink sink = {.arena = &arena};
    assert_int_equal(lq_sink_codes(&sink, code, 1, n, levels), LQ_OK);
    assert_int_equal(sink.bytes, n_bytes);
    assert_memory_equal(sink.data, want, n_bytes);
    lq_arena_close(&arena);
}
#define BYTES(...) ((const uint8_t[]){__VA_ARGS__})

static void layouts_are_the_drawn_ones(void **state)
{
    (void)state;
    check_layout(4, BYTES(0, 1, 2, 3), 4, BYTES(0x1B), 1);
    check_layout(4, BYTES(3, 0, 0, 0, 2), 5, BYTES(0xC0, 0x80), 2);
    check_layout(3, BYTES(2, 2, 2, 2, 2), 5, BYTES(242), 1);
    check_layout(3, BYTES(1, 0, 0, 0, 2, 0, 1), 7, BYTES(83, 27), 2);
    check_layout(2, BYTES(1, 0, 0, 0, 0, 0, 1, 1, 1), 9, BYTES(0x83, 0x80), 2);
    check_layout(16, BYTES(1, 15, 9), 3, BYTES(0x1F, 0x90), 2);
    check_layout(256, BYTES(7, 255), 2, BYTES(7, 255), 2);
    /* 3 bits, low bits first: codes 1..7,0 -> bits 001 010 011 ... from the low end */
    check_layout(8, BYTES(1, 2, 3, 4, 5, 6, 7, 0), 8, BYTES(0xD1, 0x58, 0x1F), 3);
    check_layout(8, BYTES(7, 0, 5), 3, BYTES(0x47, 0x01), 2);
}

static void round_trip_at_odd_lengths_is_identity(void **state)
{
    (void)state;
    lq_rng rng = lq_rng_seed(1);
    for (size_t l = 0; l < N_LEVELS; l++)
        for (size_t cols = 1; cols <= 35; cols++) {
            enum { ROWS = 3 };
            uint8_t code[ROWS * 35], back[ROWS * 35];
            memset(back, 0xEE, sizeof back);
            for (size_t i = 0; i < ROWS * cols; i++)
                code[i] = (uint8_t)lq_rng_below(&rng, all_levels[l]);
            lq_arena arena = {0};
            lq_sink sink = {.arena = &arena};
            assert_int_equal(lq_sink_codes(&sink, code, ROWS, cols, all_levels[l]), LQ_OK);
            assert_int_equal(sink.bytes, lq_codes_bytes(ROWS, cols, all_levels[l]));
            lq_source source = source_of(sink.data, sink.bytes);
            assert_int_equal(lq_source_codes(&source, back, ROWS, cols, all_levels[l]), LQ_OK);
            assert_int_equal(lq_source_end(&source), LQ_OK);
            assert_memory_equal(code, back, ROWS * cols);
            lq_arena_close(&arena);
        }
}

static void sizes_are_whole_bytes_a_row(void **state)
{
    (void)state;
    assert_int_equal(lq_codes_bytes(3, 9, 2), 6);
    assert_int_equal(lq_codes_bytes(3, 11, 3), 9);
    assert_int_equal(lq_codes_bytes(3, 5, 4), 6);
    assert_int_equal(lq_codes_bytes(1, 8, 8), 3);
    assert_int_equal(lq_codes_bytes(1, 9, 8), 4);
    assert_int_equal(lq_codes_bytes(1, 11, 8), 5); /* 33 bits */
    assert_int_equal(lq_codes_bytes(2, 3, 16), 4);
    assert_int_equal(lq_codes_bytes(2, 3, 256), 6);
}

static lq_status read_codes(const uint8_t *data, size_t bytes, size_t cols, size_t levels)
{
    uint8_t code[64];
    lq_source source = source_of(data, bytes);
    LQ_TRY(lq_source_codes(&source, code, 1, cols, levels));
    return lq_source_end(&source);
}

static void hostile_bytes_are_format_errors(void **state)
{
    (void)state;
    assert_int_equal(read_codes(BYTES(242), 1, 5, 3), LQ_OK);
    assert_int_equal(read_codes(BYTES(243), 1, 5, 3), LQ_E_FORMAT); /* no five trits */
    assert_int_equal(read_codes(BYTES(255), 1, 5, 3), LQ_E_FORMAT);
    assert_int_equal(read_codes(BYTES(81), 1, 1, 3), LQ_OK);
    assert_int_equal(read_codes(BYTES(82), 1, 1, 3), LQ_E_FORMAT);      /* a trit after the end */
    assert_int_equal(read_codes(BYTES(0xC1), 1, 3, 4), LQ_E_FORMAT);    /* bits after the end */
    assert_int_equal(read_codes(BYTES(0x80, 1), 2, 9, 2), LQ_E_FORMAT); /* likewise */
    assert_int_equal(read_codes(BYTES(0x1F, 0x91), 2, 3, 16), LQ_E_FORMAT);
    assert_int_equal(read_codes(BYTES(0x47, 0x01), 2, 3, 8), LQ_OK);
    assert_int_equal(read_codes(BYTES(0x47, 0x03), 2, 3, 8), LQ_E_FORMAT); /* bit 9 of 9 */
    assert_int_equal(read_codes(BYTES(0x47, 0x80), 2, 3, 8), LQ_E_FORMAT); /* in a third byte */
    assert_int_equal(read_codes(BYTES(0x1B), 1, 5, 4), LQ_E_FORMAT);       /* too short */
    assert_int_equal(read_codes(BYTES(0), 0, 1, 256), LQ_E_FORMAT);
    assert_int_equal(read_codes(BYTES(0x1B, 0), 2, 4, 4), LQ_E_FORMAT); /* left over */
}

static void halves_round_trip_and_refuse_what_is_not_finite(void **state)
{
    (void)state;
    const float x[] = {0.0f, -0.0f, 1.0f, -2.5f, 65504.0f, 0x1p-24f, 0x1p-14f};
    enum { N = sizeof x / sizeof x[0] };
    float back[N];
    lq_arena arena = {0};
    lq_sink sink = {.arena = &arena};
    assert_int_equal(lq_sink_f16(&sink, x, N), LQ_OK);
    assert_int_equal(sink.bytes, 2 * N);
    lq_source source = source_of(sink.data, sink.bytes);
    assert_int_equal(lq_source_f16(&source, back, N), LQ_OK);
    assert_memory_equal(x, back, sizeof x);
    assert_int_equal(lq_source_f16(&source, back, 1), LQ_E_FORMAT); /* too short */

    const float bad[] = {65520.0f, INFINITY, NAN};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(lq_sink_f16(&sink, bad + i, 1), LQ_E_NUMERIC);
    assert_int_equal(lq_sink_bf16(&sink, bad, 1), LQ_OK); /* 65536 */
    assert_int_equal(lq_sink_bf16(&sink, bad + 1, 2), LQ_E_NUMERIC);
    const float most = 3.4e38f; /* rounds to infinity in bf16 */
    assert_int_equal(lq_sink_bf16(&sink, &most, 1), LQ_E_NUMERIC);
    source = source_of(BYTES(0x00, 0x7C), 2); /* fp16 infinity, little-endian */
    assert_int_equal(lq_source_f16(&source, back, 1), LQ_E_FORMAT);
    source = source_of(BYTES(0xC0, 0x7F), 2); /* bf16 NaN */
    assert_int_equal(lq_source_bf16(&source, back, 1), LQ_E_FORMAT);
    lq_arena_close(&arena);
}

static void sink_without_memory_says_so(void **state)
{
    (void)state;
    static const uint8_t big[8 << 20];
    lq_arena arena = {0};
    lq_sink sink = {.arena = &arena};
    lq_arena_fail_after(0);
    lq_status status = lq_sink_put(&sink, big, sizeof big);
    lq_arena_fail_after(SIZE_MAX);
    assert_int_equal(status, LQ_E_MEMORY);
    assert_int_equal(sink.bytes, 0);
    assert_int_equal(lq_sink_put(&sink, big, sizeof big), LQ_OK);
    assert_int_equal(lq_sink_put(&sink, "end", 3), LQ_OK);
    assert_memory_equal(sink.data + sizeof big, "end", 3);
    lq_arena_close(&arena);
}

static void levels_of_bits_knows_its_list(void **state)
{
    (void)state;
    const double bits[] = {1, 1.58, 2, 3, 4, 8, 16, 0, 1.5, 2.5, (double)NAN};
    const size_t want[] = {2, 3, 4, 8, 16, 256, 0, 0, 0, 0, 0};
    for (size_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        assert_int_equal(lq_levels_of_bits(bits[i]), want[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_are_the_drawn_ones),
        cmocka_unit_test(round_trip_at_odd_lengths_is_identity),
        cmocka_unit_test(sizes_are_whole_bytes_a_row),
        cmocka_unit_test(hostile_bytes_are_format_errors),
        cmocka_unit_test(halves_round_trip_and_refuse_what_is_not_finite),
        cmocka_unit_test(sink_without_memory_says_so),
        cmocka_unit_test(levels_of_bits_knows_its_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
