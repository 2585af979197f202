/* Tokenizers from parts and binary files, texts in parts, added tokens, hostile input. Expected ids are
 * worked out by hand; those of others: test_tokenizer_vectors.c. */
#include "core/base/rng.h"
#include "core/text/tokenizer_parts.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MARK "\xE2\x96\x81" /* U+2581 */

static lq_arena arena;

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

static void check_ids(const lq_tokenizer *tok, const char *text, unsigned flags,
                      const uint32_t *want, size_t n_want)
{
    uint32_t *ids;
    size_t n;
    assert_int_equal(lq_tokenizer_encode_with(tok, text, strlen(text), flags, &arena, &ids, &n),
                     LQ_OK);
    if (n != n_want || (n > 0 && memcmp(ids, want, n * sizeof *ids) != 0)) {
        for (size_t i = 0; i < n; i++)
            print_message("%u ", ids[i]);
        fail_msg("these are the ids of \"%s\"", text);
    }
}
#define CHECK_IDS(tok, text, flags, ...)                            \
    check_ids(tok, text, flags, (const uint32_t[]){__VA_ARGS__, 0}, \
              sizeof(const uint32_t[]){__VA_ARGS__} / sizeof(uint32_t))

static void check_text(const lq_tokenizer *tok, const uint32_t *ids, size_t n, unsigned flags,
                       const char *want)
{
    char *text;
    size_t bytes;
    assert_int_equal(lq_tokenizer_decode_with(tok, ids, n, flags, &arena, &text, &bytes), LQ_OK);
    assert_string_equal(text, want);
}

/* --- SentencePiece ---------------------------------------------------------------------------- */

enum { N_SPECIAL = 3, FIRST_PIECE = N_SPECIAL + 256 };
typedef struct pieces {
    lq_bytes token[320];
    float score[320];
    int32_t type[320];
    size_t n;
} pieces;

static void add_piece(pieces *p, const char *text, float score, lq_token_type type)
{
    p->token[p->n] = (lq_bytes){text, strlen(text)};
    p->score[p->n] = score;
    p->type[p->n++] = (int32_t)type;
}

/* <unk> <s> </s>, the bytes from id 3 on, then from id 259 on the pieces below. */
static void make_pieces(pieces *p)
{
    static const char *const texts[] = {MARK, "a", "b", "c", "ab", "bc", MARK "ab", MARK MARK};
    static const float scores[] = {-10, -11, -12, -13, -2, -2, -3, -4};
    p->n = 0;
    add_piece(p, "<unk>", 0, LQ_TOKEN_UNKNOWN);
    add_piece(p, "<s>", 0, LQ_TOKEN_CONTROL);
    add_piece(p, "</s>", 0, LQ_TOKEN_CONTROL);
    for (unsigned b = 0; b < 256; b++)
        add_piece(p, lq_arena_printf(&arena, "<0x%02X>", b), 0, LQ_TOKEN_BYTE);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add_piece(p, texts[i], scores[i], LQ_TOKEN_NORMAL);
}
enum { SPACE = FIRST_PIECE, A, B, C, AB, BC, SPACE_AB, SPACES };

static lq_tokenizer_parts parts_of(const pieces *p)
{
    return (lq_tokenizer_parts){.where = "made.model",
                                .kind = LQ_PARTS_SCORES,
                                .n = p->n,
                                .token = p->token,
                                .score = p->score,
                                .type = p->type,
                                .bos = 1,
                                .eos = 2,
                                .add_bos = true};
}

static lq_tokenizer *made(const lq_tokenizer_parts *parts)
{
    lq_tokenizer *tok;
    if (lq_tokenizer_from_parts(parts, &tok) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return tok;
}

static void scores_decide_what_merges(void **state)
{
    (void)state;
    pieces p;
    make_pieces(&p);
    lq_tokenizer_parts parts = parts_of(&p);
    lq_tokenizer *tok = made(&parts);
    CHECK_IDS(tok, "abc", 0, SPACE_AB, C); /* ab and bc are equal: the leftmost */
    CHECK_IDS(tok, "bc  ab", LQ_ENCODE_SPECIAL, 1, SPACE, BC, SPACE, SPACE_AB);
    CHECK_IDS(tok, "\n\xC3\xA9", 0, SPACE, 3 + 10, 3 + 0xC3, 3 + 0xA9);
    CHECK_IDS(tok, "a\xFF", 0, SPACE, A, 3 + 0xFF); /* no UTF-8: its byte */
    CHECK_IDS(tok, "a</s>b", 0, SPACE, A, 2, SPACE, B);
    CHECK_IDS(tok, "", LQ_ENCODE_SPECIAL, 1);
    assert_int_equal(lq_tokenizer_end_of_text(tok), 2);
    static const uint32_t ids[] = {1, SPACE_AB, 3 + 0xC3, 3 + 0xA9, 3 + 0xC3, SPACES, 2};
    check_text(tok, ids, 7, 0, "<s> ab\xC3\xA9\xC3  </s>");
    check_text(tok, ids, 7, LQ_DECODE_NO_SPECIAL, "ab\xC3\xA9\xC3  ");
    check_text(tok, ids, 7, LQ_DECODE_NO_SPECIAL | LQ_DECODE_REPLACE, /* the run as a whole */
               "ab\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD  ");
    lq_tokenizer_free(tok);
    p.score[BC] = -1;
    parts.no_space_prefix = true;
    tok = made(&parts);
    CHECK_IDS(tok, "abc", 0, A, BC);
    CHECK_IDS(tok, " abc", 0, SPACE, A, BC);
    lq_tokenizer_free(tok);
    parts.squeeze_spaces = true;
    parts.no_byte_fallback = true;
    tok = made(&parts);
    CHECK_IDS(tok, "  a   b ", 0, A, SPACE, B);
    CHECK_IDS(tok, "a\n\xC3\xA9\nb", 0, A, 0, B); /* unknown characters fuse */
    lq_tokenizer_free(tok);
}

#define REFUSED(change, word)                                                 \
    do {                                                                      \
        pieces p;                                                             \
        lq_tokenizer *tok;                                                    \
        make_pieces(&p);                                                      \
        lq_tokenizer_parts parts = parts_of(&p);                              \
        change;                                                               \
        assert_int_equal(lq_tokenizer_from_parts(&parts, &tok), LQ_E_FORMAT); \
        assert_null(tok);                                                     \
        if (!strstr(lq_status_note(), word))                                  \
            fail_msg("the note is: %s", lq_status_note());                    \
    } while (0)

static void parts_that_contradict_are_refused(void **state)
{
    (void)state;
    static char long_text[2000];
    memset(long_text, 'a', sizeof long_text - 1);
    REFUSED(parts.n = 0, "no tokens");
    REFUSED(parts.score = NULL, "none with a score");
    REFUSED(p.score[A] = NAN, "no number");
    REFUSED(parts.bos = 9999, "beginning-of-text");
    REFUSED(p.token[10].text = "<0xZZ>", "byte token");
    REFUSED((p.token[A] = (lq_bytes){long_text, 1999}), "1999 bytes");
    REFUSED((parts.kind = LQ_PARTS_MERGES, parts.pre = "no-such"), "no-such");
    lq_bytes merge = {"a x", 3};
    REFUSED((parts.kind = LQ_PARTS_MERGES, parts.merge = &merge, parts.n_merges = 1), "merge 0");
    merge = (lq_bytes){"ab", 2};
    REFUSED((parts.kind = LQ_PARTS_MERGES, parts.merge = &merge, parts.n_merges = 1), "no pair");
}

static void families_are_known_by_name(void **state)
{
    (void)state;
    assert_non_null(lq_family_find("llama-bpe"));
    assert_true(lq_family_find("llama-bpe")->ignore_merges);
    assert_false(lq_family_find("qwen2")->ignore_merges);
    assert_null(lq_family_find("qwen"));
    assert_null(lq_family_find("llama"));
    assert_null(lq_family_find(""));
    assert_null(lq_family_find("gpt-2 phi-2"));
    static const char *const all[] = {"gpt-2",  "llama3",     "dbrx",       "qwen2",
                                      "megrez", "smollm",     "falcon",     "gpt-4o",
                                      "tekken", "default",    "bloom",      "deepseek-coder",
                                      "viking", "seed-coder", "deepseek-v3"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) { /* their patterns compile */
        const lq_bytes token = {"a", 1};
        const lq_tokenizer_parts parts = {
            .where = all[i], .kind = LQ_PARTS_MERGES, .pre = all[i], .n = 1, .token = &token};
        lq_tokenizer_free(made(&parts));
    }
}

/* --- added tokens, templates ------------------------------------------------------------------ */

static lq_tokenizer *from_json(const char *normalizer, const char *pre, const char *added,
                               const char *post)
{
    lq_tokenizer *tok;
    const char *json = lq_arena_printf(
        &arena,
        "{\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,"
        "\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\","
        "\"vocab\":{\"?\":0,\"a\":1,\"b\":2,\" \":3,\"ab\":4,\"" MARK "\":5,\"" MARK "a\":6},"
        "\"merges\":[\"a b\",\"" MARK " a\"]}}",
        added, normalizer, pre, post);
    if (lq_tokenizer_parse(json, strlen(json), "made.json", &tok) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return tok;
}

static void added_tokens_look_around(void **state)
{
    (void)state;
    lq_tokenizer *tok = from_json("{\"type\":\"Lowercase\"}", "null",
                                  "{\"id\":10,\"content\":\"<l>\",\"lstrip\":true},{\"id\":11,"
                                  "\"content\":\"<r>\",\"rstrip\":true},"
                                  "{\"id\":12,\"content\":\"W\",\"single_word\":true},"
                                  "{\"id\":13,\"content\":\"Nn\",\"normalized\":true},"
                                  "{\"id\":14,\"content\":\"S\",\"special\":true}",
                                  "null");
    CHECK_IDS(tok, "a <l> b", 0, 1, 10, 3, 2);
    CHECK_IDS(tok, "a <r>\xC2\xA0 b", 0, 1, 3, 11, 2);
    CHECK_IDS(tok, "W aW Wa W", 0, 12, 3, 1, 0, 3, 0, 1, 3, 12);
    CHECK_IDS(tok, "aNNnNb", 0, 1, 13, 13, 2); /* in lower case it is there twice */
    CHECK_IDS(tok, "aSb", 0, 1, 14, 2);
    CHECK_IDS(tok, "aSb", LQ_ENCODE_PLAIN, 1, 0, 2);
    check_text(tok, (const uint32_t[]){4, 14, 10}, 3, LQ_DECODE_NO_SPECIAL, "ab<l>");
    lq_tokenizer_free(tok);
}

/* Tokens of the text as it stands come first, even where nothing is normalized and others are longer. */
static void raw_tokens_are_looked_for_before_normalized_ones(void **state)
{
    (void)state;
    lq_tokenizer *tok = from_json("null", "null",
                                  "{\"id\":10,\"content\":\"<|\"},{\"id\":11,"
                                  "\"content\":\"<|a\",\"normalized\":true},"
                                  "{\"id\":12,\"content\":\"ba\",\"normalized\":true},"
                                  "{\"id\":13,\"content\":\"a<\"}",
                                  "null");
    CHECK_IDS(tok, "<|ab", 0, 10, 4);
    CHECK_IDS(tok, "ba<|", 0, 2, 13, 0);
    CHECK_IDS(tok, "baba", 0, 12, 12);
    lq_tokenizer_free(tok);
}

static void templates_put_tokens_around(void **state)
{
    (void)state;
#define TEMPLATE                                                                                  \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"             \
    "{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"y\"}}],\"special_tokens\":{\"x\":" \
    "{\"ids\":[7]},\"y\":{\"ids\":[8,9]}}}"
    lq_tokenizer *tok =
        from_json("null", "null", "",
                  "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
                  "{\"type\":\"RobertaProcessing\",\"sep\":[\"s\",5],\"cls\":[\"c\",6]}"
                  "," TEMPLATE "]}");
    CHECK_IDS(tok, "ab", LQ_ENCODE_SPECIAL, 7, 6, 4, 5, 8, 9);
    CHECK_IDS(tok, "ab", 0, 4);
    lq_tokenizer_free(tok);
}

static void metaspace_follows_its_scheme(void **state)
{
    (void)state;
    static const char *const special = "{\"id\":10,\"content\":\"<s>\"}";
#define METASPACE(rest) "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"" rest "}"
    lq_tokenizer *tok =
        from_json("null", METASPACE(",\"prepend_scheme\":\"first\""), special, "null");
    CHECK_IDS(tok, "ab<s>ab", 0, 5, 4, 10, 4);
    CHECK_IDS(tok, "<s>a a", 0, 10, 1, 6);
    lq_tokenizer_free(tok);
    tok = from_json("null", METASPACE(",\"prepend_scheme\":\"always\",\"split\":false"), special,
                    "null");
    CHECK_IDS(tok, "ba<s>a", 0, 5, 2, 1, 10, 6);
    CHECK_IDS(tok, " a", 0, 6); /* it begins with a space already */
    lq_tokenizer_free(tok);
    tok = from_json("null", METASPACE(",\"add_prefix_space\":false"), special, "null");
    CHECK_IDS(tok, "a a", 0, 1, 6);
    lq_tokenizer_free(tok);
}

/* --- texts in parts --------------------------------------------------------------------------- */

static const char sample[] =
    "It's  a   <|endoftext|>  truth, univer\r\n\r\n  sally 12345 acknow\t\tledged. "
    "<|endoftext|><|end "
    "'re'Re caf\xC3\xA9 cafe\xCC\x81 e\xCC\x81\xCC\x82\n\n\n  \xE4\xBD\xA0\xE5\xA5\xBD "
    "\xE3\x80\x80x"
    "\xF0\x9F\x98\x80\xE2\x80\x8D\xF0\x9F\x98\x80 \xED\x95\x9C\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB "
    "a\xC3(\xFF\xFE \xF0\x9F\x98 z\xE2\x82 ababab    <|endoftext|";

/* Ids of the text fed in parts that end at cuts[0], cuts[1], ... */
static bool same_in_parts(const lq_tokenizer *tok, const char *text, size_t bytes, size_t first,
                          size_t step)
{
    lq_encoder *e;
    uint32_t *want, *got;
    size_t n_want, n = 0, n_got;
    lq_mark mark = lq_arena_mark(&arena);
    assert_int_equal(
        lq_tokenizer_encode_with(tok, text, bytes, LQ_ENCODE_SPECIAL, &arena, &want, &n_want),
        LQ_OK);
    assert_int_equal(lq_arena_new(&arena, &got, n_want + bytes + 64), LQ_OK);
    assert_int_equal(lq_encoder_open(tok, LQ_ENCODE_SPECIAL, &e), LQ_OK);
    lq_encoder_set_chunk(e, 1);
    for (size_t at = 0, end = first < bytes ? first : bytes;; at = end, end += step) {
        end = end < bytes ? end : bytes;
        char *part = malloc(end - at + 1); /* its own memory: nothing may be read past it */
        assert_non_null(part);
        memcpy(part, text + at, end - at);
        assert_int_equal(lq_encoder_feed(e, part, end - at, end == bytes), LQ_OK);
        free(part);
        const uint32_t *ids = lq_encoder_take(e, &n_got);
        if (n_got > 0 && n + n_got <= n_want + bytes)
            memcpy(got + n, ids, n_got * sizeof *ids);
        n += n_got;
        if (end == bytes)
            break;
    }
    lq_encoder_close(e);
    bool same = n == n_want && memcmp(got, want, n * sizeof *got) == 0;
    lq_arena_release(&arena, mark);
    return same;
}

static void check_parts(const lq_tokenizer *tok, const char *what)
{
    const size_t bytes = sizeof sample - 1;
    for (size_t cut = 0; cut <= bytes; cut++)
        if (!same_in_parts(tok, sample, bytes, cut, bytes))
            fail_msg("%s: cut at byte %zu", what, cut);
    for (size_t step = 1; step <= 17; step++)
        if (!same_in_parts(tok, sample, bytes, step, step))
            fail_msg("%s: parts of %zu bytes", what, step);
}

/* A tokenizer trained on the sample, with other components: those of its file are replaced. */
static lq_tokenizer *with_components(const char *trained, const char *normalizer, const char *pre)
{
    const char *n = strstr(trained, "\"normalizer\": null"),
               *p = strstr(trained, "\"pre_tokenizer\"");
    const char *after = strstr(trained, "\"post_processor\"");
    lq_tokenizer *tok;
    assert_true(n && p && after);
    const char *json = lq_arena_printf(&arena, "%.*s\"normalizer\": %s, \"pre_tokenizer\": %s, %s",
                                       (int)(n - trained), trained, normalizer, pre, after);
    if (lq_tokenizer_parse(json, strlen(json), "made.json", &tok) != LQ_OK)
        fail_msg("%s: %s", pre, lq_status_note());
    return tok;
}

#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define SPLIT(regex, behavior)                                                              \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":" \
    "\"" regex "\"},\"behavior\":\"" behavior "\"}," BYTES "]}"
#define QWEN                                                                          \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static void parts_of_a_text_give_its_ids(void **state)
{
    (void)state;
    static const char *const pres[][2] = {
        {"null", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}"},
        {"null", BYTES}, /* the whole document is one pre-token */
        {"{\"type\":\"NFC\"}", SPLIT(QWEN, "Isolated")},
        {"{\"type\":\"NFD\"}", SPLIT("[a-z ]", "MergedWithPrevious")},
        {"{\"type\":\"Lowercase\"}", SPLIT("[a-z]+| ", "MergedWithNext")},
        {"{\"type\":\"Prepend\",\"prepend\":\"a \"}", SPLIT("\\\\s", "Contiguous")},
        {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}",
         SPLIT("\\\\s", "Removed")},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" +\"},\"content\":\" \"}",
         SPLIT("(?<=a)b", "Isolated")},
        {"null",
         "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Punctuation\",\"behavior\":"
         "\"Contiguous\"},{\"type\":\"ByteLevel\",\"use_regex\":true},{\"type\":\"Digits\"}]}"},
        {"{\"type\":\"ByteLevel\"}", "null"}};
    lq_tokenizer *base, *tok;
    assert_int_equal(lq_tokenizer_train(sample, sizeof sample - 1, 340, &base), LQ_OK);
    check_parts(base, "as trained");
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        tok = with_components(base->json, pres[i][0], pres[i][1]);
        check_parts(tok, pres[i][1]);
        lq_tokenizer_free(tok);
    }
    lq_tokenizer_free(base);
    pieces p;
    make_pieces(&p);
    add_piece(&p, "<|endoftext|>", 0, LQ_TOKEN_USER);
    lq_tokenizer_parts parts = parts_of(&p);
    tok = made(&parts);
    check_parts(tok, "SentencePiece");
    lq_tokenizer_free(tok);
}

/* Ids come while the text does: what waits is a part and no more. */
static void long_texts_are_not_kept(void **state)
{
    (void)state;
    enum { PART = 1 << 19, PARTS = 4 };
    lq_tokenizer *tok[2];
    pieces p;
    char *text;
    make_pieces(&p);
    lq_tokenizer_parts parts = parts_of(&p);
    tok[0] = made(&parts);
    assert_int_equal(lq_tokenizer_train(sample, sizeof sample - 1, 300, &tok[1]), LQ_OK);
    assert_int_equal(lq_arena_new(&arena, &text, PART), LQ_OK);
    lq_rng rng = lq_rng_seed(3);
    for (size_t i = 0; i < PART; i++)
        text[i] = "ab c\n"[lq_rng_below(&rng, 5)];
    for (size_t k = 0; k < 2; k++) {
        lq_encoder *e;
        assert_int_equal(lq_encoder_open(tok[k], 0, &e), LQ_OK);
        for (size_t i = 0; i < PARTS; i++) {
            size_t n;
            assert_int_equal(lq_encoder_feed(e, text, PART, i + 1 == PARTS), LQ_OK);
            lq_encoder_take(e, &n);
            assert_true(n > PART / 4);
        }
        lq_encoder_close(e);
        lq_tokenizer_free(tok[k]);
    }
}

/* --- binary files, whole and broken ----------------------------------------------------------- */

static void put_varint(lq_buffer *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        lq_buffer_add(out, &(char){(char)(value | 0x80)}, 1);
    lq_buffer_add(out, &(char){(char)value}, 1);
}

static void put_field(lq_buffer *out, unsigned number, const char *data, size_t bytes)
{
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes);
    lq_buffer_add(out, data, bytes);
}

/* tokenizer.model of the pieces: a BPE with byte fallback that leaves spaces alone. */
static void write_model(const pieces *p, lq_buffer *out)
{
    static const char trainer[] = {3 << 3, 2, (char)(35 << 3 | 0x80), 35 >> 4, 1};
    static const char normalizer[] = {4 << 3, 0};
    for (size_t i = 0; i < p->n; i++) {
        lq_buffer piece = {0};
        put_field(&piece, 1, p->token[i].text, p->token[i].bytes);
        lq_buffer_add(&piece, &(char){2 << 3 | 5}, 1);
        lq_buffer_add(&piece, (const char *)&p->score[i], 4);
        lq_buffer_add(&piece, (const char[]){3 << 3, (char)p->type[i]}, 2);
        put_field(out, 1, piece.data, piece.n);
        lq_buffer_free(&piece);
    }
    put_field(out, 2, trainer, sizeof trainer);
    put_field(out, 3, normalizer, sizeof normalizer);
}

static void write_bin(const pieces *p, lq_buffer *out)
{
    int32_t length = 16;
    lq_buffer_add(out, (const char *)&length, 4);
    for (size_t i = 0; i < p->n; i++) {
        length = (int32_t)p->token[i].bytes;
        lq_buffer_add(out, (const char *)&p->score[i], 4);
        lq_buffer_add(out, (const char *)&length, 4);
        lq_buffer_add(out, p->token[i].text, p->token[i].bytes);
    }
}

typedef lq_status (*reader)(const char *data, size_t bytes, lq_tokenizer **out);
static lq_status read_model(const char *data, size_t bytes, lq_tokenizer **out)
{
    return lq_spm_read(data, bytes, "made.model", NULL, out);
}
static lq_status read_bin(const char *data, size_t bytes, lq_tokenizer **out)
{
    return lq_llama2c_read(data, bytes, "made.bin", out);
}
static lq_status read_json(const char *data, size_t bytes, lq_tokenizer **out)
{
    return lq_tokenizer_parse(data, bytes, "made.json", out);
}
static lq_status read_ranks(const char *data, size_t bytes, lq_tokenizer **out)
{
    return lq_tiktoken_read(data, bytes, "made.model", out);
}

/* Whatever the bytes are, they are read or refused, and what is read works. */
static void try_bytes(reader read, const char *data, size_t bytes)
{
    lq_tokenizer *tok;
    char *copy = malloc(bytes + 1), *text; /* exactly as long: reading past it would show */
    assert_non_null(copy);
    memcpy(copy, data, bytes);
    lq_status status = read(copy, bytes, &tok);
    if (status != LQ_OK) {
        assert_true(status == LQ_E_FORMAT && tok == NULL);
        free(copy);
        return;
    }
    uint32_t *ids;
    size_t n;
    lq_mark mark = lq_arena_mark(&arena);
    assert_int_equal(lq_tokenizer_encode_with(tok, sample, sizeof sample - 1, LQ_ENCODE_SPECIAL,
                                              &arena, &ids, &n),
                     LQ_OK);
    for (size_t i = 0; i < n; i++) /* a template may name an id that is no token */
        if (lq_tokenizer_decode(tok, &ids[i], 1, &arena, &text, &bytes) != LQ_OK)
            assert_non_null(strstr(lq_status_note(), "not in the vocabulary"));
    lq_arena_release(&arena, mark);
    lq_tokenizer_free(tok);
    free(copy);
}

static void torture(reader read, const lq_buffer *good, size_t rounds)
{
    lq_rng rng = lq_rng_seed(11);
    char *bytes = malloc(good->n);
    assert_non_null(bytes);
    for (size_t i = 0; i < rounds; i++)
        try_bytes(read, good->data, (size_t)lq_rng_below(&rng, good->n));
    for (size_t i = 0; i < rounds; i++) {
        memcpy(bytes, good->data, good->n);
        for (size_t k = (size_t)lq_rng_below(&rng, 4) + 1; k > 0; k--)
            bytes[lq_rng_below(&rng, good->n)] = (char)lq_rng_below(&rng, 256);
        try_bytes(read, bytes, good->n);
    }
    free(bytes);
}

static void binary_files_are_read(void **state)
{
    (void)state;
    pieces p;
    lq_buffer model = {0}, bin = {0};
    make_pieces(&p);
    write_model(&p, &model);
    write_bin(&p, &bin);
    lq_tokenizer *tok;
    assert_int_equal(read_model(model.data, model.n, &tok), LQ_OK);
    CHECK_IDS(tok, "abc  b", LQ_ENCODE_SPECIAL, 1, SPACE_AB, C, SPACES, B);
    assert_int_equal(lq_tokenizer_write(tok, "nowhere"), LQ_E_UNAVAILABLE);
    lq_tokenizer_free(tok);
    assert_int_equal(read_bin(bin.data, bin.n, &tok), LQ_OK);
    CHECK_IDS(tok, "abc  b", LQ_ENCODE_SPECIAL, 1, SPACE_AB, C, SPACES, B);
    lq_tokenizer_free(tok);
    torture(read_model, &model, 60);
    torture(read_bin, &bin, 60);
    assert_int_equal(read_model("", 0, &tok), LQ_E_FORMAT);
    assert_int_equal(read_bin("", 0, &tok), LQ_E_FORMAT);
    put_field(&model, 3, "\x12\x01x", 3); /* precompiled_charsmap */
    assert_int_equal(read_model(model.data, model.n, &tok), LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "precompiled_charsmap"));
    lq_buffer_free(&model);
    lq_buffer_free(&bin);
}

static void broken_files_are_survived(void **state)
{
    (void)state;
    static const char ranks[] = "YQ== 0\nYg== 1\nYWI= 2\n";
    lq_tokenizer *tok;
    lq_buffer json = {0};
    assert_int_equal(lq_tokenizer_train(sample, sizeof sample - 1, 270, &tok), LQ_OK);
    assert_int_equal(lq_buffer_add(&json, tok->json, tok->json_bytes), LQ_OK);
    lq_tokenizer_free(tok);
    torture(read_json, &json, 100);
    lq_buffer_free(&json);
    assert_true(lq_tiktoken_is_one(ranks, sizeof ranks - 1));
    assert_false(lq_tiktoken_is_one("YQ= 0\n", 6));
    assert_false(lq_tiktoken_is_one("YQ==", 4));
    assert_false(lq_tiktoken_is_one("", 0));
    try_bytes(read_ranks, ranks, sizeof ranks - 1); /* of no known family */
    assert_non_null(strstr(lq_status_note(), "family"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(scores_decide_what_merges, close_arena),
        cmocka_unit_test_teardown(parts_that_contradict_are_refused, close_arena),
        cmocka_unit_test_teardown(families_are_known_by_name, close_arena),
        cmocka_unit_test_teardown(added_tokens_look_around, close_arena),
        cmocka_unit_test_teardown(raw_tokens_are_looked_for_before_normalized_ones, close_arena),
        cmocka_unit_test_teardown(templates_put_tokens_around, close_arena),
        cmocka_unit_test_teardown(metaspace_follows_its_scheme, close_arena),
        cmocka_unit_test_teardown(parts_of_a_text_give_its_ids, close_arena),
        cmocka_unit_test_teardown(long_texts_are_not_kept, close_arena),
        cmocka_unit_test_teardown(binary_files_are_read, close_arena),
        cmocka_unit_test_teardown(broken_files_are_survived, close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
