/* tiktoken's files of ranks: a line is a token's bytes in base64, a blank, its rank, which is its id. The
 * pattern and the special tokens are not in the file: they are told by the count. */
#include "core/text/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

enum { LLAMA3_RANKS = 128000, LLAMA3_SPECIAL = 256, QWEN_RANKS = 151643, QWEN_SPECIAL = 3 };

/* As the tokenizer.json of Llama 3.1 and later has them. */
void lq_llama3_special(unsigned i, char text[40])
{
    static const char *const names[] = {"begin_of_text",
                                        "end_of_text",
                                        "reserved_special_token_0",
                                        "reserved_special_token_1",
                                        "finetune_right_pad_id",
                                        "reserved_special_token_2",
                                        "start_header_id",
                                        "end_header_id",
                                        "eom_id",
                                        "eot_id",
                                        "python_tag"};
    if (i < sizeof names / sizeof *names)
        snprintf(text, 40, "<|%s|>", names[i]);
    else
        snprintf(text, 40, "<|reserved_special_token_%u|>", i - 8);
}

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Base64 with its padding; the count of bytes, 0 when it is none. out: room for 3 bytes of 4. */
static size_t decode(const char *text, size_t n, char *out)
{
    size_t k = 0;
    uint32_t bits = 0;
    if (n == 0 || n % 4 != 0)
        return 0;
    size_t padding = (text[n - 1] == '=') + (size_t)(text[n - 2] == '=');
    for (size_t i = 0; i < n; i++) {
        int digit = i < n - padding ? digit_of(text[i]) : 0;
        if (digit < 0)
            return 0;
        bits = bits << 6 | (uint32_t)digit;
        for (int b = 16; i % 4 == 3 && b >= 0; b -= 8)
            out[k++] = (char)(bits >> b);
    }
    return k - padding;
}

typedef struct line {
    const char *text; /* base64 */
    size_t bytes;
    uint32_t rank;
} line;

/* The line at *at, and where the next begins; false: it is no such line. */
static bool next_line(const char *data, size_t bytes, size_t *at, line *l)
{
    const char *begin = data + *at, *end = memchr(begin, '\n', bytes - *at);
    if (!end)
        end = data + bytes;
    *at = (size_t)(end - data) + (end < data + bytes);
    end -= end > begin && end[-1] == '\r';
    const char *blank = memchr(begin, ' ', (size_t)(end - begin));
    if (!blank || end - blank < 2 || end - blank > 9)
        return false;
    *l = (line){.text = begin, .bytes = (size_t)(blank - begin)};
    for (const char *c = blank + 1; c < end; c++) {
        if (*c < '0' || *c > '9')
            return false;
        l->rank = 10 * l->rank + (uint32_t)(*c - '0');
    }
    return l->bytes > 0;
}

bool lq_tiktoken_is_one(const char *data, size_t bytes)
{
    size_t at = 0;
    line l;
    char out[64];
    return next_line(data, bytes, &at, &l) && l.bytes <= 64 && decode(l.text, l.bytes, out) > 0;
}

static lq_status read_ranks(const char *data, size_t bytes, const char *where, lq_arena *arena,
                            lq_bytes *token, size_t n)
{
    size_t at = 0;
    line l;
    for (size_t i = 0; i < n; i++) {
        char *out;
        if (!next_line(data, bytes, &at, &l) || l.rank >= n || token[l.rank].text)
            return lq_fail(LQ_E_FORMAT, "%s: line %zu is no token with a rank of its own", where,
                           i + 1);
        LQ_TRY(lq_arena_new(arena, &out, l.bytes));
        token[l.rank] = (lq_bytes){out, decode(l.text, l.bytes, out)};
        if (token[l.rank].bytes == 0)
            return lq_fail(LQ_E_FORMAT, "%s: line %zu is no base64", where, i + 1);
    }
    return LQ_OK;
}

static size_t count_lines(const char *data, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += data[i] == '\n';
    return n + (bytes > 0 && data[bytes - 1] != '\n');
}

static lq_status add_special(lq_bytes *token, int32_t *type, size_t n, bool llama, lq_arena *arena)
{
    static const char *const qwen[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    for (unsigned i = 0; i < (llama ? LLAMA3_SPECIAL : QWEN_SPECIAL); i++) {
        char *text;
        LQ_TRY(lq_arena_new(arena, &text, 40));
        if (llama)
            lq_llama3_special(i, text);
        token[n + i] =
            llama ? (lq_bytes){text, strlen(text)} : (lq_bytes){qwen[i], strlen(qwen[i])};
        type[n + i] = LQ_TOKEN_CONTROL;
    }
    return LQ_OK;
}

static lq_status read_file(const char *data, size_t bytes, const char *where, lq_arena *arena,
                           lq_tokenizer **out)
{
    const size_t n = count_lines(data, bytes);
    const bool llama = n == LLAMA3_RANKS;
    lq_bytes *token;
    int32_t *type;
    if (!llama && n != QWEN_RANKS)
        return lq_fail(LQ_E_FORMAT,
                       "%s: %zu ranks are of no known family (Llama 3 has %d, Qwen %d); give the "
                       "tokenizer.json",
                       where, n, LLAMA3_RANKS, QWEN_RANKS);
    LQ_TRY(lq_arena_new(arena, &token, n + LLAMA3_SPECIAL));
    LQ_TRY(lq_arena_new(arena, &type, n + LLAMA3_SPECIAL));
    LQ_TRY(read_ranks(data, bytes, where, arena, token, n));
    for (size_t i = 0; i < n; i++)
        type[i] = LQ_TOKEN_NORMAL;
    LQ_TRY(add_special(token, type, n, llama, arena));
    const lq_tokenizer_parts parts = {.where = where,
                                      .kind = LQ_PARTS_RANKS,
                                      .pre = llama ? "llama-bpe" : "qwen2",
                                      .n = n + (llama ? LLAMA3_SPECIAL : QWEN_SPECIAL),
                                      .token = token,
                                      .type = type,
                                      .bos = llama ? (uint32_t)n : LQ_NO_ID,
                                      .eos = (uint32_t)n + llama,
                                      .add_bos = llama};
    return lq_tokenizer_from_parts(&parts, out);
}

lq_status lq_tiktoken_read(const char *data, size_t bytes, const char *where, lq_tokenizer **out)
{
    lq_arena arena = {0};
    *out = NULL;
    lq_status status = read_file(data, bytes, where, &arena, out);
    lq_arena_close(&arena);
    return status;
}
