/* GGUF files: what is in them, block by block, and what is refused. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/sha256.h"
#include "core/data/gguf.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, P_tmpdir "/lcqat-test-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

/* ---- A file, put together -------------------------------------------------------------------- */

typedef struct maker {
    uint8_t at[8192];
    size_t n;
} maker;

static void raw(maker *m, const void *data, size_t n)
{
    assert_true(m->n + n <= sizeof m->at);
    memcpy(m->at + m->n, data, n);
    m->n += n;
}
static void u8(maker *m, uint8_t x) { raw(m, &x, 1); }
static void u32(maker *m, uint32_t x) { raw(m, &x, 4); }
static void u64(maker *m, uint64_t x) { raw(m, &x, 8); }
static void string(maker *m, const char *text)
{
    u64(m, strlen(text));
    raw(m, text, strlen(text));
}
static void head(maker *m, uint64_t tensors, uint64_t values)
{
    m->n = 0;
    raw(m, "GGUF", 4);
    u32(m, 3);
    u64(m, tensors);
    u64(m, values);
}
static void key(maker *m, const char *name, uint32_t type)
{
    string(m, name);
    u32(m, type);
}
static void value_u32(maker *m, const char *name, uint32_t x)
{
    key(m, name, LQ_GGUF_U32);
    u32(m, x);
}
static void array(maker *m, const char *name, uint32_t type, uint64_t n)
{
    key(m, name, LQ_GGUF_ARRAY);
    u32(m, type);
    u64(m, n);
}
static void tensor(maker *m, const char *name, uint32_t type, uint64_t cols, uint64_t rows,
                   uint64_t offset)
{
    string(m, name);
    u32(m, 2);
    u64(m, cols);
    u64(m, rows);
    u32(m, type);
    u64(m, offset);
}
static void pad(maker *m)
{
    while (m->n % 32 != 0)
        u8(m, 0);
}
static void bytes_of(maker *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        u8(m, (uint8_t)(i + 1));
}

/* Without a sync, and as a new file, which some file systems do not flush: there are many of them. */
static void write_raw(const uint8_t *data, size_t n)
{
    unlink(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void refused(const maker *m, lq_status status, const char *words)
{
    lq_arena arena = {0};
    lq_gguf file;
    write_raw(m->at, m->n);
    const lq_status got = lq_gguf_open(path, &arena, &file);
    if (got != status || !strstr(lq_status_note(), words) || !strstr(lq_status_note(), path))
        fail_msg("%s \"%s\", not %s \"%s\"", lq_status_name(got), got ? lq_status_note() : "",
                 lq_status_name(status), words);
    assert_true(file.map.data == NULL && file.tensor == NULL);
    lq_arena_close(&arena);
}

static void opened(const maker *m, lq_arena *arena, lq_gguf *file)
{
    write_raw(m->at, m->n);
    check_ok(lq_gguf_open(path, arena, file));
}

/* A sound file: metadata of many types, two tensors. */
static void sound(maker *m)
{
    head(m, 2, 5);
    value_u32(m, "general.alignment", 32);
    key(m, "text", LQ_GGUF_STRING);
    string(m, "a\nb");
    array(m, "tokens", LQ_GGUF_STRING, 3);
    string(m, "x");
    string(m, "");
    string(m, "yz");
    array(m, "flags", LQ_GGUF_BOOL, 2);
    u8(m, 0);
    u8(m, 1);
    key(m, "half", LQ_GGUF_F32);
    raw(m, &(float){0.5f}, 4);
    tensor(m, "a", 0, 3, 2, 0); /* F32 */
    tensor(m, "b", 8, 32, 1, 32);
    pad(m);
    bytes_of(m, 24);
    pad(m);
    bytes_of(m, 34);
}

/* ---- Metadata -------------------------------------------------------------------------------- */

static void values_are_read_by_type(void **state)
{
    (void)state;
    maker m;
    lq_arena arena = {0};
    lq_gguf f;
    head(&m, 0, 9);
    key(&m, "u8", LQ_GGUF_U8), u8(&m, 200);
    key(&m, "i8", LQ_GGUF_I8), u8(&m, 200);
    key(&m, "u64", LQ_GGUF_U64), u64(&m, 1ull << 40);
    key(&m, "i64", LQ_GGUF_I64), u64(&m, (uint64_t)-5);
    key(&m, "f64", LQ_GGUF_F64), raw(&m, &(double){-2.25}, 8);
    key(&m, "yes", LQ_GGUF_BOOL), u8(&m, 1);
    key(&m, "nan", LQ_GGUF_F32), raw(&m, &(float){NAN}, 4);
    array(&m, "i16s", LQ_GGUF_I16, 2), raw(&m, (int16_t[]){-3, 700}, 4);
    array(&m, "f32s", LQ_GGUF_F32, 2), raw(&m, (float[]){1.5f, -0.0f}, 8);
    opened(&m, &arena, &f);
    size_t size, n;
    double real;
    bool yes;
    int32_t *i;
    float *x;
    check_ok(lq_gguf_size(&f, "u8", 0, 255, 9, &size));
    assert_int_equal(size, 200);
    check_ok(lq_gguf_size(&f, "u64", 0, SIZE_MAX, 9, &size));
    assert_true(size == (size_t)1 << 40);
    check_ok(lq_gguf_size(&f, "absent", 0, 10, 9, &size));
    assert_int_equal(size, 9);
    assert_int_equal(lq_gguf_size(&f, "i8", 0, 255, 9, &size), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "i8 is -56"));
    assert_int_equal(lq_gguf_size(&f, "i64", 0, 255, 9, &size), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_size(&f, "u8", 0, 199, 9, &size), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_size(&f, "f64", 0, 9, 9, &size), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_size(&f, "yes", 0, 9, 9, &size), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_size(&f, "i16s", 0, 9, 9, &size), LQ_E_FORMAT);
    check_ok(lq_gguf_real(&f, "f64", -3, 3, 0, &real));
    assert_true(real == -2.25);
    check_ok(lq_gguf_real(&f, "i64", -9, 3, 0, &real));
    assert_true(real == -5);
    assert_int_equal(lq_gguf_real(&f, "nan", -3, 3, 0, &real), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_real(&f, "yes", -3, 3, 0, &real), LQ_E_FORMAT);
    check_ok(lq_gguf_bool(&f, "yes", false, &yes));
    assert_true(yes);
    assert_int_equal(lq_gguf_bool(&f, "u8", false, &yes), LQ_E_FORMAT);
    check_ok(lq_gguf_i32s(&f, "i16s", &arena, &i, &n));
    assert_true(n == 2 && i[0] == -3 && i[1] == 700);
    check_ok(lq_gguf_f32s(&f, "f32s", &arena, &x, &n));
    assert_true(n == 2 && x[0] == 1.5f && x[1] == 0 && signbit(x[1]));
    assert_int_equal(lq_gguf_i32s(&f, "f32s", &arena, &i, &n), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_f32s(&f, "i16s", &arena, &x, &n), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_f32s(&f, "f64", &arena, &x, &n), LQ_E_FORMAT);
    check_ok(lq_gguf_f32s(&f, "absent", &arena, &x, &n));
    assert_true(n == 0 && x == NULL);
    lq_gguf_close(&f);
    lq_arena_close(&arena);
}

static void strings_are_read(void **state)
{
    (void)state;
    maker m;
    lq_arena arena = {0};
    lq_gguf f;
    const char *text;
    lq_gguf_string *list;
    size_t n;
    sound(&m);
    opened(&m, &arena, &f);
    assert_true(lq_gguf_is_one(path));
    check_ok(lq_gguf_text(&f, "text", NULL, &arena, &text));
    assert_string_equal(text, "a\nb");
    assert_int_equal(lq_gguf_text(&f, "none", NULL, &arena, &text), LQ_E_MISSING);
    check_ok(lq_gguf_text(&f, "none", "else", &arena, &text));
    assert_string_equal(text, "else");
    assert_int_equal(lq_gguf_text(&f, "tokens", NULL, &arena, &text), LQ_E_FORMAT);
    check_ok(lq_gguf_strings(&f, "tokens", &arena, &list, &n));
    assert_true(n == 3 && list[0].bytes == 1 && list[1].bytes == 0 && list[2].bytes == 2);
    assert_memory_equal(list[2].data, "yz", 2);
    assert_int_equal(lq_gguf_strings(&f, "flags", &arena, &list, &n), LQ_E_FORMAT);
    assert_int_equal(lq_gguf_strings(&f, "text", &arena, &list, &n), LQ_E_FORMAT);
    lq_gguf_close(&f);
    head(&m, 0, 1);
    key(&m, "nul", LQ_GGUF_STRING);
    u64(&m, 3);
    raw(&m, "a\0b", 3);
    opened(&m, &arena, &f);
    assert_int_equal(lq_gguf_text(&f, "nul", NULL, &arena, &text), LQ_E_FORMAT);
    lq_gguf_close(&f);
    lq_arena_close(&arena);
}

static void the_header_is_checked(void **state)
{
    (void)state;
    maker m;
    static const struct {
        uint32_t version;
        const char *words;
    } bad[] = {{0, "unknown version"},
               {1, "unknown version"},
               {4, "unknown version"},
               {3u << 24, "big-endian"}};
    for (size_t i = 0; i < 4; i++) {
        head(&m, 0, 0);
        memcpy(m.at + 4, &bad[i].version, 4);
        refused(&m, LQ_E_FORMAT, bad[i].words);
    }
    head(&m, 0, 0);
    m.at[3] = 'f';
    refused(&m, LQ_E_FORMAT, "does not begin with GGUF");
    static const uint64_t counts[] = {1, 1000, 1ull << 60, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        head(&m, 0, counts[i]);
        refused(&m, LQ_E_FORMAT, "the metadata needs");
        head(&m, counts[i], 0);
        refused(&m, LQ_E_FORMAT, "the list of tensors needs");
    }
    lq_arena arena = {0};
    lq_gguf f;
    head(&m, 0, 0);
    m.at[4] = 2;
    opened(&m, &arena, &f); /* version 2, nothing in it */
    lq_gguf_close(&f);
    lq_arena_close(&arena);
}

static void metadata_is_checked(void **state)
{
    (void)state;
    maker m;
    static const uint64_t lengths[] = {1000, 1ull << 40, UINT64_MAX, UINT64_MAX / 8 + 1};
    for (size_t i = 0; i < 4; i++) {
        head(&m, 0, 1), u64(&m, lengths[i]), bytes_of(&m, 32);
        refused(&m, LQ_E_FORMAT, "a key");
        head(&m, 0, 1), key(&m, "s", LQ_GGUF_STRING), u64(&m, lengths[i]), bytes_of(&m, 8);
        refused(&m, LQ_E_FORMAT, "s needs");
        head(&m, 0, 1), array(&m, "n", LQ_GGUF_U64, lengths[i]), bytes_of(&m, 8);
        refused(&m, LQ_E_FORMAT, "n needs");
        head(&m, 0, 1), array(&m, "t", LQ_GGUF_STRING, lengths[i]), bytes_of(&m, 8);
        refused(&m, LQ_E_FORMAT, "t needs");
    }
    head(&m, 0, 1), array(&m, "t", LQ_GGUF_STRING, 2), string(&m, "ok"), u64(&m, 9), u8(&m, 0);
    refused(&m, LQ_E_FORMAT, "t needs");
    head(&m, 0, 1), array(&m, "t", LQ_GGUF_U32, 3), bytes_of(&m, 11);
    refused(&m, LQ_E_FORMAT, "t needs 12 bytes");
    head(&m, 0, 1), array(&m, "deep", LQ_GGUF_ARRAY, 1), u32(&m, 0), u64(&m, 0), bytes_of(&m, 8);
    refused(&m, LQ_E_FORMAT, "arrays of arrays");
    head(&m, 0, 1), key(&m, "k", 13), bytes_of(&m, 8);
    refused(&m, LQ_E_FORMAT, "unknown type of value 13");
    head(&m, 0, 1), array(&m, "k", 99, 1), bytes_of(&m, 8);
    refused(&m, LQ_E_FORMAT, "unknown type of value 99");
    head(&m, 0, 1), key(&m, "k", LQ_GGUF_BOOL), u8(&m, 2), bytes_of(&m, 8);
    refused(&m, LQ_E_FORMAT, "a bool of 2");
    head(&m, 0, 1), key(&m, "", LQ_GGUF_U32), u32(&m, 1), u32(&m, 1);
    refused(&m, LQ_E_FORMAT, "is empty");
    head(&m, 0, 1), u64(&m, 3), raw(&m, "a\0b", 3), u32(&m, 4), u32(&m, 1);
    refused(&m, LQ_E_FORMAT, "broken by a NUL");
    head(&m, 0, 2), value_u32(&m, "k", 1), value_u32(&m, "k", 1);
    refused(&m, LQ_E_FORMAT, "k stands twice");
    static const uint32_t alignments[] = {0, 3, 33};
    for (size_t i = 0; i < 3; i++) {
        head(&m, 0, 1), value_u32(&m, "general.alignment", alignments[i]);
        refused(&m, LQ_E_FORMAT, "no power of two");
    }
    head(&m, 0, 1), key(&m, "general.alignment", LQ_GGUF_U64), u64(&m, 32);
    refused(&m, LQ_E_FORMAT, "no power of two");
}

/* ---- Tensors --------------------------------------------------------------------------------- */

static void tensors_are_found(void **state)
{
    (void)state;
    maker m;
    lq_arena arena = {0};
    lq_gguf f;
    float row[3];
    sound(&m);
    opened(&m, &arena, &f);
    const lq_gguf_tensor *a = lq_gguf_tensor_find(&f, "a"), *b = lq_gguf_tensor_find(&f, "b");
    assert_true(a != NULL && a->rows == 2 && a->cols == 3 && a->bytes == 24);
    assert_true(b != NULL && b->data == f.map.data + m.n - 34 && b->bytes == 34);
    assert_null(lq_gguf_tensor_find(&f, "c"));
    lq_gguf_row(a, 1, row);
    assert_memory_equal(row, m.at + m.n - 34 - 32 + 12, 12);
    lq_gguf_close(&f);
    lq_arena_close(&arena);
}

static void one_tensor(const char *name, uint32_t type, uint64_t cols, uint64_t rows,
                       uint64_t offset, lq_status status, const char *words)
{
    maker m;
    head(&m, 1, 0);
    tensor(&m, name, type, cols, rows, offset);
    pad(&m);
    bytes_of(&m, 128);
    refused(&m, status, words);
}

static void tensors_are_checked(void **state)
{
    (void)state;
    maker m;
    one_tensor("a", 0, 33, 1, 0, LQ_E_FORMAT, "ends past the file");
    one_tensor("a", 0, 1ull << 40, 1, 0, LQ_E_FORMAT, "ends past the file");
    one_tensor("a", 0, 1ull << 62, 1, 0, LQ_E_FORMAT, "can be counted");
    one_tensor("a", 0, 1ull << 32, 1ull << 32, 0, LQ_E_FORMAT, "can be counted");
    one_tensor("a", 2, UINT64_MAX - 31, 1, 0, LQ_E_FORMAT, "ends past the file");
    one_tensor("a", 0, 0, 1, 0, LQ_E_FORMAT, "dimension of zero");
    one_tensor("a", 0, 1, 0, 0, LQ_E_FORMAT, "dimension of zero");
    one_tensor("a", 0, 1, 1, 32, LQ_E_FORMAT, "lies at 32, not at 0");
    one_tensor("a", 0, 1, 1, UINT64_MAX, LQ_E_FORMAT, "not at 0");
    one_tensor("a", 8, 31, 1, 0, LQ_E_FORMAT, "rows of 31, no multiple of 32 as Q8_0 asks");
    one_tensor("a", 12, 128, 2, 0, LQ_E_FORMAT, "rows of 128, no multiple of 256 as Q4_K asks");
    one_tensor("a", 4, 32, 1, 0, LQ_E_FORMAT, "unknown type 4"); /* retired from the format */
    one_tensor("a", 999, 32, 1, 0, LQ_E_FORMAT, "unknown type 999");
    one_tensor("a", 16, 256, 1, 0, LQ_E_UNAVAILABLE, "of type IQ2_XXS");
    one_tensor("a", 34, 256, 1, 0, LQ_E_UNAVAILABLE, "of type TQ1_0");
    one_tensor("a", 28, 1, 1, 0, LQ_E_UNAVAILABLE, "of type F64");
    one_tensor("", 0, 1, 1, 0, LQ_E_FORMAT, "is empty");
    one_tensor("a23456789012345678901234567890123456789012345678901234567890123", 0, 40, 1, 0,
               LQ_E_FORMAT, "ends past the file"); /* 63 bytes */
    one_tensor("a234567890123456789012345678901234567890123456789012345678901234", 0, 1, 1, 0,
               LQ_E_FORMAT, "too long");
    static const uint32_t ranks[] = {0, 5, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        head(&m, 1, 0), string(&m, "a"), u32(&m, ranks[i]), bytes_of(&m, 100);
        refused(&m, LQ_E_FORMAT, "dimensions, not 1 to 4");
    }
    head(&m, 2, 0), tensor(&m, "a", 0, 1, 1, 0), tensor(&m, "a", 0, 1, 1, 32), pad(&m);
    bytes_of(&m, 64);
    refused(&m, LQ_E_FORMAT, "a stands twice");
    head(&m, 2, 0), tensor(&m, "a", 0, 9, 1, 0), tensor(&m, "b", 0, 1, 1, 32), pad(&m);
    bytes_of(&m, 96);
    refused(&m, LQ_E_FORMAT, "b lies at 32, not at 64"); /* inside a */
    head(&m, 2, 0), tensor(&m, "a", 0, 1, 1, 0), tensor(&m, "b", 0, 1, 1, 64), pad(&m);
    bytes_of(&m, 96);
    refused(&m, LQ_E_FORMAT, "b lies at 64, not at 32"); /* after a gap */
    head(&m, 1, 0), tensor(&m, "a", 0, 1, 1, 0);
    refused(&m, LQ_E_FORMAT, "the file ends before its tensors");
}

static void every_cut_of_a_file_is_refused(void **state)
{
    (void)state;
    maker m;
    sound(&m);
    for (size_t n = 0; n < m.n; n++) {
        lq_arena arena = {0};
        lq_gguf file;
        write_raw(m.at, n);
        assert_int_equal(lq_gguf_open(path, &arena, &file), LQ_E_FORMAT);
        lq_arena_close(&arena);
    }
}

/* Whatever byte changes, what opens can be read to its end. */
static void every_changed_byte_is_survived(void **state)
{
    (void)state;
    static const uint8_t change[] = {0x01, 0x80, 0xff};
    maker m;
    sound(&m);
    for (size_t i = 0; i < 3 * m.n; i++) {
        lq_arena arena = {0};
        lq_gguf f;
        m.at[i / 3] ^= change[i % 3];
        write_raw(m.at, m.n);
        m.at[i / 3] ^= change[i % 3];
        if (lq_gguf_open(path, &arena, &f) == LQ_OK) {
            for (size_t t = 0; t < f.n_tensors; t++)
                for (size_t r = 0; r < f.tensor[t].rows; r++)
                    lq_gguf_row(&f.tensor[t], r, lq_arena_f32(&arena, f.tensor[t].cols));
            for (size_t v = 0; v < f.n_values; v++) {
                lq_gguf_string *list;
                float *x;
                int32_t *whole;
                size_t n;
                double real;
                const char *text;
                (void)lq_gguf_strings(&f, f.value[v].key, &arena, &list, &n);
                (void)lq_gguf_f32s(&f, f.value[v].key, &arena, &x, &n);
                (void)lq_gguf_i32s(&f, f.value[v].key, &arena, &whole, &n);
                (void)lq_gguf_real(&f, f.value[v].key, -1, 1, 0, &real);
                (void)lq_gguf_text(&f, f.value[v].key, "", &arena, &text);
            }
            lq_gguf_close(&f);
        }
        lq_arena_close(&arena);
    }
}

static void failing_memory_is_a_status(void **state)
{
    (void)state;
    maker m;
    lq_arena arena = {0};
    lq_gguf file;
    sound(&m);
    write_raw(m.at, m.n);
    lq_arena_fail_after(0);
    assert_int_equal(lq_gguf_open(path, &arena, &file), LQ_E_MEMORY);
    lq_arena_fail_after(SIZE_MAX);
    lq_arena_close(&arena);
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

/* Four blocks of each type, byte i of block k = 37 i + 101 k + i i mod 251, the high bytes of the scales
 * 0x2e and 0x29. The digests are of what dequantize() of the Python package gguf 0.19.0 gives for them, as
 * little-endian float32. */
static void blocks_are_those_of_the_reference(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t type;
        size_t bytes, scale[2];
        const char *digest;
    } block[] = {
        {"Q4_0", 2, 18, {0, 0}, "41e4dc4e372f3f58"},
        {"Q4_1", 3, 20, {0, 2}, "b8a56540be180cf2"},
        {"Q5_0", 6, 22, {0, 0}, "74de398a8678a1e0"},
        {"Q5_1", 7, 24, {0, 2}, "a497e0a4b4c6b470"},
        {"Q8_0", 8, 34, {0, 0}, "1e06c69937a735ce"},
        {"Q2_K", 10, 84, {80, 82}, "7d21678e321e644c"},
        {"Q3_K", 11, 110, {108, 108}, "2d97e088e740741d"},
        {"Q4_K", 12, 144, {0, 2}, "2769bde3fc907b1a"},
        {"Q5_K", 13, 176, {0, 2}, "869cb49b868d6643"},
        {"Q6_K", 14, 210, {208, 208}, "ad3eb6e72e33b883"},
        {"IQ4_NL", 20, 18, {0, 0}, "d08fd737e06eee2b"},
    };
    for (size_t b = 0; b < sizeof block / sizeof block[0]; b++) {
        size_t elements, bytes;
        uint8_t data[4 * 256];
        float y[4 * 256];
        lq_digest digest;
        assert_true(lq_gguf_type_known(block[b].type, &elements, &bytes));
        assert_int_equal(bytes, block[b].bytes);
        assert_string_equal(lq_gguf_type_name(block[b].type), block[b].name);
        for (size_t i = 0; i < 4 * bytes; i++) {
            const size_t j = i % bytes;
            data[i] = (uint8_t)(37 * j + 101 * (i / bytes) + j * j % 251);
            if (j == block[b].scale[0] + 1)
                data[i] = 0x2e;
            else if (j == block[b].scale[1] + 1)
                data[i] = 0x29;
        }
        const lq_gguf_tensor t = {
            .type = block[b].type, .rows = 2, .cols = 2 * elements, .data = data};
        lq_gguf_row(&t, 0, y);
        lq_gguf_row(&t, 1, y + 2 * elements);
        check_ok(lq_sha256_of(y, 4 * elements * sizeof *y, &digest));
        digest.hex[16] = '\0';
        if (strcmp(digest.hex, block[b].digest) != 0)
            fail_msg("%s: %s, not %s", block[b].name, digest.hex, block[b].digest);
        data[bytes / 2] ^= 0x10; /* the digest sees one bit */
        lq_gguf_row(&t, 0, y);
        check_ok(lq_sha256_of(y, 4 * elements * sizeof *y, &digest));
        assert_int_not_equal(strncmp(digest.hex, block[b].digest, 16), 0);
    }
}

/* The two that the package does not decode, and the plain ones, by their definition. */
static void simple_blocks_are_read(void **state)
{
    (void)state;
    uint8_t data[292] = {0};
    float y[256];
    const float scale = 0.25f;
    memcpy(data, &scale, 4);
    data[4] = 200; /* -56 */
    data[259] = 127;
    lq_gguf_row(&(lq_gguf_tensor){.type = 15, .rows = 1, .cols = 256, .data = data}, 0, y);
    assert_true(y[0] == -14.0f && y[255] == 31.75f && y[1] == 0);
    memset(data, 0, sizeof data);
    data[1] = 0x38; /* 0.5 */
    data[3] = 0x40; /* a sum that is not asked for */
    data[4] = 3;
    data[35] = 128;
    lq_gguf_row(&(lq_gguf_tensor){.type = 9, .rows = 1, .cols = 32, .data = data}, 0, y);
    assert_true(y[0] == 1.5f && y[31] == -64.0f && y[1] == 0);
    lq_gguf_row(&(lq_gguf_tensor){.type = 1, .rows = 1, .cols = 2, .data = data}, 0, y);
    assert_true(y[0] == 0.5f && y[1] == 2.0f);
    lq_gguf_row(&(lq_gguf_tensor){.type = 30, .rows = 1, .cols = 2, .data = data}, 0, y);
    assert_true(y[0] == 0x1p-15f && y[1] == 2.0f); /* 0x3800: exponent 112 */
}

static void k_blocks_of_a_file_are_those_of_its_maker(void **state)
{
    (void)state;
    static const char *const names[] = {"Q4_K", "Q5_K", "Q6_K", "Q2_K"};
    const char *shared = getenv("LQ_SHARED");
    lq_arena arena = {0};
    const char *base = lq_arena_printf(&arena, "%s/data/tiny_models/hf_tiny/tiny_kquant",
                                       shared ? shared : "../shared");
    const char *file_path = lq_arena_printf(&arena, "%s.gguf", base);
    lq_gguf file;
    lq_json *json;
    if (!lq_path_exists(file_path)) {
        lq_arena_close(&arena);
        print_message("skip: no tiny_models in LQ_SHARED\n");
        skip();
    }
    check_ok(lq_gguf_open(file_path, &arena, &file));
    check_ok(lq_json_read(lq_arena_printf(&arena, "%s_ref.json", base), &json));
    for (size_t i = 0; i < 4; i++) {
        const lq_json *want = lq_json_get(lq_json_get(json, "dequant"), names[i]);
        const lq_gguf_tensor *t =
            lq_gguf_tensor_find(&file, lq_arena_printf(&arena, "kq.%s.weight", names[i]));
        assert_true(t != NULL && t->rows == 1 && t->cols == lq_json_count(want));
        float *y = lq_arena_f32(&arena, t->cols);
        lq_gguf_row(t, 0, y);
        size_t j = 0;
        for (const lq_json *v = lq_json_first(want); v != NULL; v = lq_json_next(v), j++)
            if (y[j] != (float)lq_json_number(v))
                fail_msg("%s[%zu] = %.9g, not %.9g", names[i], j, (double)y[j], lq_json_number(v));
    }
    lq_json_free(json);
    lq_gguf_close(&file);
    lq_arena_close(&arena);
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_path, remove_path)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(values_are_read_by_type),
        WITH_FILE(strings_are_read),
        WITH_FILE(the_header_is_checked),
        WITH_FILE(metadata_is_checked),
        WITH_FILE(tensors_are_found),
        WITH_FILE(tensors_are_checked),
        WITH_FILE(every_cut_of_a_file_is_refused),
        WITH_FILE(every_changed_byte_is_survived),
        WITH_FILE(failing_memory_is_a_status),
        cmocka_unit_test(blocks_are_those_of_the_reference),
        cmocka_unit_test(simple_blocks_are_read),
        cmocka_unit_test(k_blocks_of_a_file_are_those_of_its_maker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
