#include "core/data/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

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

/* Writes a file with this header length, header and so many zero bytes of data; then opens it. */
static lq_status open_raw(uint64_t length, const char *header, size_t header_bytes, size_t n_data)
{
    size_t n = 8 + header_bytes + n_data;
    unsigned char *bytes = calloc(n, 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(bytes + 8, header, header_bytes);
    assert_int_equal(lq_file_write_all(path, bytes, n), LQ_OK);
    free(bytes);
    lq_arena arena = {0};
    lq_safetensors file;
    lq_status status = lq_safetensors_open(path, &arena, &file);
    if (status == LQ_OK)
        lq_safetensors_close(&file);
    else
        assert_true(!file.map.data && !file.tensor);
    lq_arena_close(&arena);
    return status;
}

static lq_status open_header(const char *header, size_t n_data)
{
    return open_raw(strlen(header), header, strlen(header), n_data);
}

/* Refused, for the reason whose words are given, with the path in the note. */
static void refused(const char *header, size_t n_data, const char *reason)
{
    lq_status status = open_header(header, n_data);
    if (status != LQ_E_FORMAT || !strstr(lq_status_note(), reason) ||
        !strstr(lq_status_note(), path))
        fail_msg("%.200s: %s, \"%s\", not \"%s\"", header, lq_status_name(status),
                 status ? lq_status_note() : "", reason);
}

static void taken(const char *header, size_t n_data)
{
    if (open_header(header, n_data) != LQ_OK)
        fail_msg("%.200s: %s", header, lq_status_note());
}

#define A(shape, offsets) \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define ENTRY(name, shape, offsets) \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void plain_files_are_taken(void **state)
{
    (void)state;
    taken("{}", 0);
    taken("{}      ", 0);
    taken(A("[2,3]", "[0,24]"), 24);
    taken(A("[]", "[0,4]"), 4);    /* a scalar */
    taken(A("[5,0]", "[0,0]"), 0); /* a zero dimension */
    taken(A("[ 2 ,\n3 ]", "[ 0 , 24 ]"), 24);
    taken("{\"__metadata__\":{\"format\":\"pt\"}," ENTRY("a", "[1]", "[0,1]") "} ", 1);
    taken("{\"__metadata__\":{}}", 0);
    taken("{" ENTRY("b", "[2]", "[1,3]") "," ENTRY("a", "[1]", "[0,1]") "}", 3);
    taken("{" ENTRY("e", "[0]", "[1,1]") "," ENTRY("b", "[2]", "[1,3]") "," ENTRY(
              "a", "[1]", "[0,1]") "," ENTRY("f", "[0]", "[3,3]") "}",
          3);
    taken(A("[1,1,1,1,1,1,1,1]", "[0,4]"), 4); /* rank 8 */
}

static void length_is_checked_before_it_is_followed(void **state)
{
    (void)state;
    for (size_t n = 0; n < 8; n++) {
        assert_int_equal(lq_file_write_all(path, "\2\0\0\0\0\0\0", n), LQ_OK);
        lq_arena arena = {0};
        lq_safetensors file;
        assert_int_equal(lq_safetensors_open(path, &arena, &file), LQ_E_FORMAT);
        assert_non_null(strstr(lq_status_note(), "too few"));
        lq_arena_close(&arena);
    }
    assert_int_equal(open_raw(0, "", 0, 0), LQ_E_FORMAT);
    assert_int_equal(open_raw(1000, "{}", 2, 0), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "1000 bytes is promised, 2 follow"));
    assert_int_equal(open_raw(3, "{}", 2, 0), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "3 bytes is promised, 2 follow"));
    assert_int_equal(open_raw(UINT64_MAX, "{}", 2, 0), LQ_E_FORMAT);
    assert_int_equal(open_raw(0xff00000000000002u, "{}", 2, 0), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "limit"));
    assert_int_equal(open_raw(100000001, "{}", 2, 0), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "limit"));
    assert_int_equal(open_raw(2, "{}", 2, 0), LQ_OK);
    lq_arena arena = {0};
    lq_safetensors file;
    unlink(path);
    assert_int_equal(lq_safetensors_open(path, &arena, &file), LQ_E_MISSING);
    assert_int_equal(lq_file_write_all(path, "", 0), LQ_OK);
    lq_arena_close(&arena);
}

static void header_has_to_be_json(void **state)
{
    (void)state;
    refused("{\"a\xff\":1}", 0, "not UTF-8");
    refused("{\"a\":", 0, "no JSON");
    refused("{} x", 0, "text after the value");
    refused("{}{}", 0, "text after the value");
    refused(" {}", 0, "does not begin with '{'");
    refused("[]", 0, "does not begin with '{'");
    refused("\"a\"", 0, "does not begin with '{'");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]}}", 4, "leading zero");
    refused("{\"a\\u0000b\":1}", 0, "NUL");
    char deep[300] = "{\"a\":";
    memset(deep + 5, '[', 40);
    memset(deep + 45, ']', 40);
    deep[85] = '}';
    refused(deep, 0, "nested too deeply");
    assert_int_equal(open_raw(3, "{}\0", 3, 0), LQ_E_FORMAT);
}

static void a_key_twice_is_refused(void **state)
{
    (void)state;
    refused("{" ENTRY("a", "[1]", "[0,1]") "," ENTRY("a", "[1]", "[1,2]") "}", 2, "stands twice");
    refused("{" ENTRY("a", "[1]", "[0,1]") "," ENTRY("\\u0061", "[1]", "[1,2]") "}", 2,
            "stands twice");
    refused("{" ENTRY("/\xf0\x9f\x98\x80", "[1]", "[0,1]") "," ENTRY("\\/\\uD83D\\uDE00", "[1]",
                                                                     "[1,2]") "}",
            2, "stands twice");
    refused("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
            "key dtype stands twice");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"sh\\u0061pe\":[1],\"data_offsets\":[0,1]}}",
            1, "key shape stands twice");
    refused(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"data_offsets\":[0,1]}}", 1,
        "key data_offsets stands twice");
    refused("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "key k stands twice");
    refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "key __metadata__ stands twice");
}

static void metadata_are_strings(void **state)
{
    (void)state;
    refused("{\"__metadata__\":{\"k\":1}}", 0, "value of k is no string");
    refused("{\"__metadata__\":{\"k\":{\"a\":\"b\"}}}", 0, "value of k is no string");
    refused("{\"__metadata__\":[]}", 0, "no object");
    refused("{\"__metadata__\":null}", 0, "no object");
}

static void fields_are_complete_and_typed(void **state)
{
    (void)state;
    refused("{\"a\":1}", 0, "no object");
    refused("{\"a\":[]}", 0, "no object");
    refused("{\"a\":{}}", 0, "missing");
    refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "missing");
    refused("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "missing");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "missing");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":[{}]}}", 1,
            "key x is unknown");
    refused("{\"a\":{\"dtype\":\"u8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
            "unknown dtype u8");
    refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1,
            "unknown dtype F4");
    refused("{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype is no string");
}

static void offsets_are_two_exact_integers(void **state)
{
    (void)state;
    static const char *const bad[] = {"[0]",
                                      "[0,4,4]",
                                      "[]",
                                      "4",
                                      "\"0,4\"",
                                      "[-0,4]",
                                      "[0,-4]",
                                      "[0,4.0]",
                                      "[0,4e0]",
                                      "[0,1e3]",
                                      "[null,4]",
                                      "[0,\"4\"]",
                                      "[4,0]",
                                      "[[0],4]",
                                      "{\"0\":4}",
                                      "[0,18446744073709551620]",
                                      "[18446744073709551616,4]"};
    char header[200];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":%s}}", bad[i]);
        refused(header, 4, "data_offsets are not two whole numbers");
    }
    /* 2^53 + 1 is no double: were it rounded to 2^53, the size would fit */
    refused("{" ENTRY("a", "[9007199254740992]", "[0,9007199254740993]") "}", 1,
            "takes 9007199254740992 bytes, its offsets 9007199254740993");
    refused("{" ENTRY("a", "[9007199254740993]", "[0,9007199254740993]") "}", 1, "past the file");
    refused("{" ENTRY("a", "[18446744073709551615]", "[0,18446744073709551615]") "}", 1,
            "past the file");
    refused("{" ENTRY("a", "[1]", "[18446744073709551614,18446744073709551615]") "}", 1, "gap");
}

static void shapes_are_sane(void **state)
{
    (void)state;
    static const char *const bad[] = {"[-1]",
                                      "[1.0]",
                                      "[1e0]",
                                      "[\"1\"]",
                                      "1",
                                      "null",
                                      "[[1]]",
                                      "[18446744073709551616]",
                                      "[1,1,1,1,1,1,1,1,1]",
                                      "[true]"};
    char header[200];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(header, sizeof header,
                 "{\"a\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[0,4]}}", bad[i]);
        refused(header, 4, "shape is not a list");
    }
    refused(A("[2,18446744073709551614]", "[0,4]"), 4, "overflows");
    refused(A("[2,9223372036854775807]", "[0,4]"), 4, "overflows"); /* only when taken times 4 */
    refused(A("[4294967296,4294967296]", "[0,0]"), 0, "overflows");
    refused(A("[4611686018427387905]", "[0,4]"), 4,
            "overflows"); /* 2^62 + 1 floats: 4 if wrapped */
    refused(A("[2]", "[0,4]"), 4, "takes 8 bytes, its offsets 4");
    refused(A("[1]", "[0,8]"), 8, "takes 4 bytes, its offsets 8");
    char lengthy[5000] = "{\"";
    memset(lengthy + 2, 'n', 4097);
    memcpy(lengthy + 4099, "\":{}}", 6);
    refused(lengthy, 0, "longer than 4096");
}

static void tensors_tile_the_buffer(void **state)
{
    (void)state;
    refused(A("[1]", "[4,8]"), 8, "begins at 4, after a gap");
    refused("{" ENTRY("a", "[1]", "[0,1]") "," ENTRY("b", "[1]", "[2,3]") "}", 3, "after a gap");
    refused("{" ENTRY("a", "[2]", "[0,2]") "," ENTRY("b", "[2]", "[1,3]") "}", 3, "inside another");
    refused("{" ENTRY("a", "[2]", "[0,2]") "," ENTRY("b", "[2]", "[0,2]") "}", 2, "inside another");
    refused("{" ENTRY("a", "[4]", "[0,4]") "," ENTRY("b", "[0]", "[2,2]") "}", 4, "inside another");
    refused(A("[1]", "[0,4]"), 5, "1 bytes after the last tensor");
    refused(A("[1]", "[0,4]"), 3, "past the file");
    refused(A("[1]", "[0,4]"), 0, "past the file");
    refused("{}", 4, "4 bytes after the last tensor");
    refused("{" ENTRY("a", "[0]", "[1,1]") "}", 1, "gap");
}

static void many_tensors_on_one_place_cost_little(void **state)
{
    (void)state;
    enum { N = 100000, ROOM = 100 };
    char *header = malloc(N * ROOM);
    assert_non_null(header);
    size_t used = 0;
    for (int i = 0; i < N; i++)
        used += (size_t)snprintf(header + used, ROOM, "%c" ENTRY("%d", "[1000]", "[0,1000]"),
                                 i ? ',' : '{', i);
    header[used++] = '}';
    header[used] = '\0';
    refused(header, 1000, "inside another");
    free(header);
}

static void every_cut_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char header[] = "{\"__metadata__\":{\"k\\n\":\"v\"},\"a\":{\"dtype\":\"F32\","
                                 "\"shape\":[2],\"data_offsets\":[0,8]}}";
    size_t n = sizeof header - 1;
    assert_int_equal(open_raw(n, header, n, 8), LQ_OK);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(open_raw(cut, header, cut, 0), LQ_E_FORMAT);
        assert_int_equal(open_raw(n, header, cut, 0), LQ_E_FORMAT);
    }
    for (size_t cut = 0; cut < 8; cut++)
        assert_int_equal(open_raw(n, header, n, cut), LQ_E_FORMAT);
}

static void failing_memory_is_a_status(void **state)
{
    (void)state;
    static const char header[] = "{" ENTRY("a", "[70000]", "[0,70000]") "}";
    assert_int_equal(open_header(header, 70000), LQ_OK);
    lq_arena arena = {0};
    lq_safetensors file;
    lq_arena_fail_after(0);
    assert_int_equal(lq_safetensors_open(path, &arena, &file), LQ_E_MEMORY);
    lq_arena_fail_after(0);
    lq_tensor none;
    assert_int_equal(lq_safetensors_write(path, &none, 0, NULL, 0), LQ_E_MEMORY);
    assert_int_equal(lq_safetensors_open(path, &arena, &file), LQ_OK);
    float *values = (float *)1;
    lq_arena_fail_after(0);
    assert_int_equal(lq_safetensors_f32(&file, "a", 1, (size_t[]){70000}, &arena, &values),
                     LQ_E_MEMORY);
    lq_arena_fail_after(SIZE_MAX);
    lq_safetensors_close(&file);
    lq_arena_close(&arena);
}

static const float some_floats[6] = {1.0f, -2.5f, 0.0f, 1e-40f, 3e38f, -0.0f};
static const char odd_name[] = "z \"half\"\n\xc3\xa9";

static void check_values(const lq_safetensors *file, lq_arena *arena)
{
    float *w, *half, *brain, *bytes, *i, *none;
    assert_int_equal(lq_safetensors_f32(file, "w", 2, (size_t[]){2, 3}, arena, &w), LQ_OK);
    assert_memory_equal(w, some_floats, sizeof some_floats);
    assert_int_equal(lq_safetensors_f32(file, odd_name, 1, (size_t[]){3}, arena, &half), LQ_OK);
    assert_true(half[0] == 1.0f && half[1] == 0x1p-24f && half[2] == -INFINITY);
    assert_int_equal(lq_safetensors_f32(file, "brain", 2, (size_t[]){1, 2}, arena, &brain), LQ_OK);
    assert_true(brain[0] == 1.0f && brain[1] == -2.5f);
    assert_int_equal(lq_safetensors_f32(file, "bytes", 1, (size_t[]){3}, arena, &bytes), LQ_OK);
    assert_true(bytes[0] == 0.0f && bytes[1] == 7.0f && bytes[2] == 255.0f);
    assert_int_equal(lq_safetensors_f32(file, "i", 1, (size_t[]){2}, arena, &i), LQ_OK);
    assert_true(i[0] == -5.0f && i[1] == 16777216.0f);
    assert_int_equal(lq_safetensors_f32(file, "none", 2, (size_t[]){0, 4}, arena, &none), LQ_OK);
}

static void written_files_are_read_again(void **state)
{
    (void)state;
    static const uint16_t bf16[2] = {0x3f80, 0xc020}, f16[3] = {0x3c00, 0x0001, 0xfc00};
    static const uint8_t u8[3] = {0, 7, 255};
    static const int32_t i32[2] = {-5, 16777216};
    static const int64_t i64[1] = {-1};
    const lq_tensor tensors[] = {
        {.name = "bytes", .dtype = LQ_DTYPE_U8, .rank = 1, .shape = {3}, .data = u8},
        {.name = odd_name, .dtype = LQ_DTYPE_F16, .rank = 1, .shape = {3}, .data = f16},
        {.name = "brain", .dtype = LQ_DTYPE_BF16, .rank = 2, .shape = {1, 2}, .data = bf16},
        {.name = "w", .dtype = LQ_DTYPE_F32, .rank = 2, .shape = {2, 3}, .data = some_floats},
        {.name = "i", .dtype = LQ_DTYPE_I32, .rank = 1, .shape = {2}, .data = i32},
        {.name = "long", .dtype = LQ_DTYPE_I64, .rank = 0, .data = i64},
        {.name = "none", .dtype = LQ_DTYPE_F32, .rank = 2, .shape = {0, 4}},
    };
    static const char *const metadata[] = {"format", "pt", "k\t", "v\"\\\x01"};
    enum { N = sizeof tensors / sizeof *tensors };
    assert_int_equal(lq_safetensors_write(path, tensors, N, metadata, 2), LQ_OK);

    lq_arena arena = {0};
    lq_safetensors file;
    assert_int_equal(lq_safetensors_open(path, &arena, &file), LQ_OK);
    assert_string_equal(file.path, path);
    uint64_t length = file.map.data[0] + 256u * file.map.data[1];
    assert_int_equal((8 + length) % 8, 0);
    const char *const order[N] = {"long", "i", "none", "w", "brain", odd_name, "bytes"};
    assert_int_equal(file.n_tensors, N);
    for (size_t i = 0; i < N; i++)
        assert_string_equal(file.tensor[i].name, order[i]);
    assert_string_equal(lq_safetensors_metadata(&file, "format"), "pt");
    assert_string_equal(lq_safetensors_metadata(&file, "k\t"), "v\"\\\x01");
    assert_null(lq_safetensors_metadata(&file, "none"));
    assert_null(lq_safetensors_find(&file, "W"));

    check_values(&file, &arena);
    float *w;
    assert_int_equal(lq_safetensors_f32(&file, "v", 2, (size_t[]){2, 3}, &arena, &w), LQ_E_MISSING);
    assert_int_equal(lq_safetensors_f32(&file, "w", 2, (size_t[]){3, 2}, &arena, &w), LQ_E_SHAPE);
    assert_non_null(strstr(lq_status_note(), "tensor w has shape [2,3], expected [3,2]"));
    assert_int_equal(lq_safetensors_f32(&file, "w", 1, (size_t[]){6}, &arena, &w), LQ_E_SHAPE);
    assert_int_equal(lq_safetensors_f32(&file, "long", 0, NULL, &arena, &w), LQ_E_FORMAT);
    lq_safetensors_close(&file);
    lq_arena_close(&arena);
}

static void header_text_is_pinned(void **state)
{
    (void)state;
    const lq_tensor t[] = {
        {.name = "b", .dtype = LQ_DTYPE_U8, .rank = 1, .shape = {1}, .data = "x"},
        {.name = "a", .dtype = LQ_DTYPE_U8, .rank = 0, .data = "y"}};
    static const char want[] = "\x88\0\0\0\0\0\0\0"
                               "{\"__metadata__\":{\"k\":\"v\"},"
                               "\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                               "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}";
    static const char *const metadata[] = {"k", "v"};
    assert_int_equal(lq_safetensors_write(path, t, 2, metadata, 1), LQ_OK);
    lq_arena arena = {0};
    char *got;
    size_t n, text = sizeof want - 1;
    assert_int_equal(lq_file_read(path, &arena, &got, &n), LQ_OK);
    size_t length = (unsigned char)got[0];
    assert_int_equal(n, 8 + length + 2);
    assert_memory_equal(got, want, text);
    for (size_t i = text; i < 8 + length; i++)
        assert_int_equal(got[i], ' ');
    assert_true(8 + length - text < 8 && length % 8 == 0);
    assert_memory_equal(got + n - 2, "yx", 2);
    lq_arena_close(&arena);
}

static void what_could_not_be_read_is_not_written(void **state)
{
    (void)state;
    assert_int_equal(lq_file_write_all(path, "old", 3), LQ_OK);
    lq_tensor t[2] = {{.name = "a", .dtype = LQ_DTYPE_U8, .rank = 1, .shape = {1}, .data = "x"},
                      {.name = "a", .dtype = LQ_DTYPE_F32, .rank = 1, .shape = {0}}};
    static const char *const twice[] = {"k", "1", "k", "2"}, *const no_text[] = {"k", "\xff"};
    char lengthy[4098];
    memset(lengthy, 'n', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = '\0';
    assert_int_equal(lq_safetensors_write(path, t, 2, NULL, 0), LQ_E_FORMAT);
    assert_int_equal(lq_safetensors_write(path, t, 1, twice, 2), LQ_E_FORMAT);
    assert_int_equal(lq_safetensors_write(path, t, 1, no_text, 1), LQ_E_FORMAT);
    const char *const names[] = {"__metadata__", "\xc3", lengthy};
    for (size_t i = 0; i < 3; i++) {
        t[0].name = names[i];
        assert_int_equal(lq_safetensors_write(path, t, 1, NULL, 0), LQ_E_FORMAT);
    }
    t[0].name = "a";
    assert_int_equal(lq_safetensors_write("no/such/dir/x", t, 1, NULL, 0), LQ_E_IO);
    lq_arena arena = {0};
    char *data;
    size_t n;
    assert_int_equal(lq_file_read(path, &arena, &data, &n), LQ_OK);
    assert_int_equal(n, 3); /* untouched by all of these */
    lq_arena_close(&arena);
    assert_int_equal(lq_safetensors_write(path, t, 1, NULL, 0), LQ_OK);
}

static void integers_that_no_float_holds_are_refused(void **state)
{
    (void)state;
    static const int32_t value[] = {16777217, INT32_MAX, -16777217};
    float out;
    for (size_t i = 0; i < 3; i++) {
        lq_tensor t = {.name = "i", .dtype = LQ_DTYPE_I32, .elements = 1, .data = &value[i]};
        assert_int_equal(lq_tensor_to_f32(&t, &out), LQ_E_FORMAT);
    }
    static const int32_t lowest = INT32_MIN;
    lq_tensor t = {.name = "i", .dtype = LQ_DTYPE_I32, .elements = 1, .data = &lowest};
    assert_int_equal(lq_tensor_to_f32(&t, &out), LQ_OK);
    assert_true(out == -0x1p31f);
}

static void unaligned_data_are_converted(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {0xee, 0x00, 0x00, 0x80, 0x3f, 0x00, 0x3c};
    float out[1];
    lq_tensor t = {.name = "t", .dtype = LQ_DTYPE_F32, .elements = 1, .data = bytes + 1};
    assert_int_equal(lq_tensor_to_f32(&t, out), LQ_OK);
    assert_true(out[0] == 1.0f);
    t.dtype = LQ_DTYPE_BF16;
    t.data = bytes + 3;
    assert_int_equal(lq_tensor_to_f32(&t, out), LQ_OK);
    assert_true(out[0] == 1.0f);
    t.dtype = LQ_DTYPE_F16;
    t.data = bytes + 5;
    assert_int_equal(lq_tensor_to_f32(&t, out), LQ_OK);
    assert_true(out[0] == 1.0f);
}

/* The value of an f16 by its definition. */
static double f16_value(unsigned x)
{
    unsigned exponent = x >> 10 & 0x1f, mantissa = x & 0x3ff;
    double magnitude = exponent == 0      ? ldexp(mantissa, -24)
                       : exponent == 0x1f ? (mantissa ? (double)NAN : (double)INFINITY)
                                          : ldexp(1024 + mantissa, (int)exponent - 25);
    return x & 0x8000 ? -magnitude : magnitude;
}

/* The midpoint of two neighbours goes to the even one, what lies next to it to the nearer one. */
static void halves_round_to_even(void **state)
{
    (void)state;
    for (unsigned x = 0; x < 0x10000; x++) {
        float value = lq_f16_to_f32((uint16_t)x);
        if (isnan(f16_value(x))) {
            assert_true(isnan(value) && isnan(lq_f16_to_f32(lq_f32_to_f16(value))));
            continue;
        }
        assert_true((double)value == f16_value(x) && !signbit(value) == !(x & 0x8000));
        assert_int_equal(lq_f32_to_f16(value), x);
    }
    for (unsigned x = 0; x < 0x7c00; x++) {
        double next = x == 0x7bff ? 65536.0 : f16_value(x + 1);
        float middle = (float)(0.5 * (f16_value(x) + next)); /* exact: one more bit */
        assert_int_equal(lq_f32_to_f16(middle), x + (x & 1));
        assert_int_equal(lq_f32_to_f16(nextafterf(middle, 0.0f)), x);
        assert_int_equal(lq_f32_to_f16(nextafterf(middle, INFINITY)), x + 1);
        assert_int_equal(lq_f32_to_f16(-middle), 0x8000 | (x + (x & 1)));
    }
    assert_int_equal(lq_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(lq_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(lq_f32_to_f16(1e-45f), 0);
}

static void brain_floats_round_to_even(void **state)
{
    (void)state;
    for (unsigned x = 0; x < 0x10000; x++) {
        float value = lq_bf16_to_f32((uint16_t)x);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        assert_true(bits == x << 16);
        if (isnan(value)) {
            assert_true(isnan(lq_bf16_to_f32(lq_f32_to_bf16(value))));
            continue;
        }
        assert_int_equal(lq_f32_to_bf16(value), x);
        if ((x & 0x7fff) == 0x7f80)
            continue;   /* nothing lies above infinity */
        bits |= 0x8000; /* the midpoint to the next one away from zero */
        memcpy(&value, &bits, sizeof value);
        assert_int_equal(lq_f32_to_bf16(value), x + (x & 1));
        assert_int_equal(lq_f32_to_bf16(nextafterf(value, 0.0f)), x);
        assert_int_equal(lq_f32_to_bf16(nextafterf(value, signbit(value) ? -INFINITY : INFINITY)),
                         x + 1);
    }
    uint32_t low_nan = 0x7f800001; /* must not become infinity when its low bits go */
    float value;
    memcpy(&value, &low_nan, sizeof value);
    assert_true(isnan(lq_bf16_to_f32(lq_f32_to_bf16(value))));
    assert_true(isnan(lq_f16_to_f32(lq_f32_to_f16(value))));
}

static void types_have_names_and_sizes(void **state)
{
    (void)state;
    assert_string_equal(lq_dtype_name(LQ_DTYPE_BF16), "BF16");
    assert_int_equal(lq_dtype_bytes(LQ_DTYPE_BOOL), 1);
    assert_int_equal(lq_dtype_bytes(LQ_DTYPE_BF16), 2);
    assert_int_equal(lq_dtype_bytes(LQ_DTYPE_U64), 8);
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_path, remove_path)
int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(plain_files_are_taken),
        WITH_FILE(length_is_checked_before_it_is_followed),
        WITH_FILE(header_has_to_be_json),
        WITH_FILE(a_key_twice_is_refused),
        WITH_FILE(metadata_are_strings),
        WITH_FILE(fields_are_complete_and_typed),
        WITH_FILE(offsets_are_two_exact_integers),
        WITH_FILE(shapes_are_sane),
        WITH_FILE(tensors_tile_the_buffer),
        WITH_FILE(many_tensors_on_one_place_cost_little),
        WITH_FILE(every_cut_of_a_file_is_refused),
        WITH_FILE(failing_memory_is_a_status),
        WITH_FILE(written_files_are_read_again),
        WITH_FILE(header_text_is_pinned),
        WITH_FILE(what_could_not_be_read_is_not_written),
        cmocka_unit_test(integers_that_no_float_holds_are_refused),
        cmocka_unit_test(unaligned_data_are_converted),
        cmocka_unit_test(halves_round_to_even),
        cmocka_unit_test(brain_floats_round_to_even),
        cmocka_unit_test(types_have_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
