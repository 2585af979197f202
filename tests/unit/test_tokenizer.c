/* The tokenizer: learning, encoding, decoding, the file. Expected merges and pre-tokens are worked out
 * by hand. Vectors of others: test_tokenizer_vectors.c. */
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/rng.h"
#include "core/text/tokenizer_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static lq_arena arena;

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

static const char sample[] =
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, "
    "must "
    "be in want of a wife. However little known the feelings or views of such a man may be on his "
    "first entering a neighbourhood, this truth is so well fixed in the minds of the surrounding "
    "families, that he is considered the rightful property of some one or other of their "
    "daughters.";

static lq_tokenizer *trained(const char *text, size_t n_vocab)
{
    lq_tokenizer *tok;
    if (lq_tokenizer_train(text, strlen(text), n_vocab, &tok) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return tok;
}

static size_t encoded(const lq_tokenizer *tok, const char *text, size_t bytes, uint32_t **ids)
{
    size_t n;
    if (lq_tokenizer_encode(tok, text, bytes, &arena, ids, &n) != LQ_OK)
        fail_msg("%s", lq_status_note());
    return n;
}

static void check_round_trip(const lq_tokenizer *tok, const char *text, size_t bytes)
{
    uint32_t *ids;
    char *back;
    size_t n = encoded(tok, text, bytes, &ids), back_bytes;
    assert_int_equal(lq_tokenizer_decode(tok, ids, n, &arena, &back, &back_bytes), LQ_OK);
    assert_int_equal(back_bytes, bytes);
    assert_int_equal(back[bytes], '\0');
    if (bytes > 0)
        assert_memory_equal(back, text, bytes);
}

static bool ids_are(const lq_tokenizer *tok, const char *text, const uint32_t *want, size_t n_want)
{
    uint32_t *ids;
    size_t n = encoded(tok, text, strlen(text), &ids);
    return n == n_want && (n == 0 || memcmp(ids, want, n * sizeof *ids) == 0);
}

/* --- learning --------------------------------------------------------------------------------- */

/* Words of the text and their counts: low 1, _low 2, _lower 1, _newest 6, _widest 3. The blank's
 * character comes after the letters; of equal counts the pair of smaller ids is merged first. */
static void merges_are_the_expected_ones(void **state)
{
    (void)state;
    static const char text[] = "low low low lower newest newest newest newest newest newest "
                               "widest widest widest<|endoftext|>";
    static const char *const want[] = {
        "e s", "es t", "e w",   "n ew",   "\xC4\xA0 new", "\xC4\xA0new est",
        "l o", "lo w", "d est", "i dest", "w idest",      "\xC4\xA0 low"};
    size_t n_want = sizeof want / sizeof *want;
    lq_tokenizer *tok = trained(text, 257 + n_want);
    assert_int_equal(lq_tokenizer_vocab(tok), 257 + n_want);
    lq_json *root;
    assert_int_equal(lq_json_parse(tok->json, tok->json_bytes, "test", &root), LQ_OK);
    const lq_json *merges = lq_json_get(lq_json_get(root, "model"), "merges");
    assert_int_equal(lq_json_count(merges), n_want);
    for (size_t i = 0; i < n_want; i++)
        assert_string_equal(lq_json_string(lq_json_at(merges, i)), want[i]);
    lq_json_free(root);
    const uint32_t newest_low[] = {262, 268, 0};
    assert_true(ids_are(tok, " newest low<|endoftext|>", newest_low, 3));
    assert_false(ids_are(tok, " newest lot<|endoftext|>", newest_low, 3));
    assert_int_equal(lq_tokenizer_end_of_text(tok), 0);
    lq_tokenizer_free(tok);
}

static void learning_refuses(void **state)
{
    (void)state;
    lq_tokenizer *tok;
    assert_int_equal(lq_tokenizer_train("abc", 3, 256, &tok), LQ_E_OPTION);
    assert_int_equal(lq_tokenizer_train("abc", 3, SIZE_MAX, &tok), LQ_E_OPTION);
    assert_int_equal(lq_tokenizer_train("abc", 3, 260, &tok),
                     LQ_E_OPTION); /* 259 is all there is */
    assert_non_null(strstr(lq_status_note(), "259"));
    assert_int_equal(lq_tokenizer_train("", 0, 258, &tok), LQ_E_OPTION);
    assert_int_equal(lq_tokenizer_train("", 0, 257, &tok), LQ_OK);
    check_round_trip(tok, sample, sizeof sample - 1);
    lq_tokenizer_free(tok);
}

static void learning_is_deterministic(void **state)
{
    (void)state;
    lq_tokenizer *a = trained(sample, 300), *b = trained(sample, 300), *c = trained(sample, 301);
    assert_string_equal(lq_tokenizer_digest(a)->hex, lq_tokenizer_digest(b)->hex);
    assert_string_not_equal(lq_tokenizer_digest(a)->hex, lq_tokenizer_digest(c)->hex);
    lq_tokenizer_free(a);
    lq_tokenizer_free(b);
    lq_tokenizer_free(c);
}

/* --- encoding --------------------------------------------------------------------------------- */

static void any_bytes_come_back(void **state)
{
    (void)state;
    lq_tokenizer *tok = trained(sample, 320);
    static const char *const edges[] = {"",
                                        " ",
                                        "   ",
                                        "\r\n",
                                        "\t\t\t",
                                        "text ",
                                        " text",
                                        "a\xC2\xA0"
                                        "b",
                                        "a\xE3\x80\x80"
                                        "b",
                                        "a\xE2\x80\x8B"
                                        "b",
                                        "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
                                        "e\xCC\x81 \xC3\xA9",
                                        "\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4",
                                        "1 12 123 1234 12345 123456 1234567",
                                        "'S it's it\xE2\x80\x99s",
                                        "a<|endoftext|>b",
                                        "<|endoftext|",
                                        "<<|endoftext|>>",
                                        "\xFF\xFE",
                                        "\xC3",
                                        "\xE2\x82",
                                        "\xED\xA0\x80",
                                        "ok\xC3(\xA0\xA1 ok",
                                        "\xF4\x90\x80\x80"};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        check_round_trip(tok, edges[i], strlen(edges[i]));
    check_round_trip(tok, "nul\0byte", 8);
    char bytes[1000];
    lq_rng rng = lq_rng_seed(5);
    for (int round = 0; round < 200; round++) {
        size_t n = (size_t)lq_rng_below(&rng, sizeof bytes);
        uint64_t kinds = round % 2 ? 256 : 128;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)lq_rng_below(&rng, kinds);
        check_round_trip(tok, bytes, n);
    }
    lq_tokenizer_free(tok);
}

static void heap_and_scan_agree(void **state)
{
    (void)state;
    lq_tokenizer *tok = trained(sample, 400);
    lq_bpe_work work = {0};
    lq_rng rng = lq_rng_seed(6);
    for (int round = 0; round < 3000; round++) {
        char text[48];
        uint32_t one[48], other[48];
        size_t n = (size_t)lq_rng_below(&rng, sizeof text + 1), n_one, n_other;
        size_t from = (size_t)lq_rng_below(&rng, sizeof sample - 1 - n);
        for (size_t i = 0; i < n; i++)
            text[i] = round % 3 ? sample[from + i] : "aeht "[lq_rng_below(&rng, 5)];
        assert_int_equal(lq_bpe_encode(&tok->bpe, &work, text, n, one, &n_one), LQ_OK);
        assert_int_equal(lq_bpe_encode_long(&tok->bpe, &work, text, n, other, &n_other), LQ_OK);
        assert_int_equal(n_one, n_other);
        if (n_one > 0)
            assert_memory_equal(one, other, n_one * sizeof *one);
    }
    lq_bpe_work_free(&work);
    lq_tokenizer_free(tok);
}

static void long_words_are_not_quadratic(void **state)
{
    (void)state;
    enum { N = 1000000 };
    lq_tokenizer *tok = trained(sample, 400);
    char *text;
    assert_int_equal(lq_arena_new(&arena, &text, N), LQ_OK);
    lq_rng rng = lq_rng_seed(7);
    for (size_t i = 0; i < N; i++)
        text[i] = "theandofis"[lq_rng_below(&rng, 10)];
    double start = lq_clock_cpu_s();
    check_round_trip(tok, text, N);
    memset(text, ' ', N);
    check_round_trip(tok, text, N);
    assert_true(lq_clock_cpu_s() - start < 4.0); /* quadratic: hours */
    lq_tokenizer_free(tok);
}

static void decoding_refuses_other_ids(void **state)
{
    (void)state;
    lq_tokenizer *tok = trained(sample, 300);
    uint32_t ids[] = {5, 300};
    char *text;
    size_t bytes;
    assert_int_equal(lq_tokenizer_decode(tok, ids, 2, &arena, &text, &bytes), LQ_E_OPTION);
    assert_non_null(strstr(lq_status_note(), "300"));
    assert_int_equal(lq_tokenizer_decode(tok, ids, 1, &arena, &text, &bytes), LQ_OK);
    assert_int_equal(lq_tokenizer_decode(tok, ids, 0, &arena, &text, &bytes), LQ_OK);
    assert_string_equal(text, "");
    lq_tokenizer_free(tok);
}

/* --- pre-tokens ------------------------------------------------------------------------------- */

typedef struct cut {
    char joined[512]; /* pieces between bars */
} cut;

static lq_status note_piece(void *self, const char *text, size_t bytes, const lq_added *added)
{
    cut *c = self;
    size_t n = strlen(c->joined);
    snprintf(c->joined + n, sizeof c->joined - n, added ? "%.*s!|" : "%.*s|", (int)bytes, text);
    return LQ_OK;
}

/* Splits by the patterns, one after the other. */
static void cut_by(const char *const *steps, size_t n_steps, lq_behavior behavior, bool invert,
                   const char *text, cut *c)
{
    lq_pieces pieces = {.n_steps = n_steps};
    lq_splitter *splitter;
    lq_rest rest;
    for (size_t i = 0; i < n_steps; i++) {
        pieces.step[i] = (lq_step){.kind = LQ_STEP_SPLIT, .behavior = behavior, .invert = invert};
        assert_int_equal(lq_pattern_open(steps[i], "test", &pieces.step[i].pattern), LQ_OK);
    }
    assert_int_equal(lq_added_index(&pieces.raw, &arena), LQ_OK);
    assert_int_equal(lq_added_index(&pieces.normalized, &arena), LQ_OK);
    *c = (cut){{0}};
    assert_int_equal(lq_splitter_open(&pieces, false, note_piece, c, &splitter), LQ_OK);
    assert_int_equal(lq_splitter_feed(splitter, text, strlen(text), 0, true, &rest), LQ_OK);
    lq_splitter_close(splitter);
    for (size_t i = 0; i < n_steps; i++)
        lq_pattern_close(pieces.step[i].pattern);
}

static void check_pieces(const char *const *steps, size_t n_steps, const char *text,
                         const char *want)
{
    cut c;
    cut_by(steps, n_steps, LQ_SPLIT_ISOLATED, false, text, &c);
    assert_string_equal(c.joined, want);
}

static void check_behavior(lq_behavior behavior, bool invert, const char *want)
{
    static const char *const dash[] = {"-"};
    cut c;
    cut_by(dash, 1, behavior, invert, "the-final--countdown", &c);
    assert_string_equal(c.joined, want);
}

/* The example of Hugging Face's documentation of SplitDelimiterBehavior. */
static void splits_behave_as_documented(void **state)
{
    (void)state;
    check_behavior(LQ_SPLIT_REMOVED, false, "the|final|countdown|");
    check_behavior(LQ_SPLIT_ISOLATED, false, "the|-|final|-|-|countdown|");
    check_behavior(LQ_SPLIT_MERGED_WITH_PREVIOUS, false, "the-|final-|-|countdown|");
    check_behavior(LQ_SPLIT_MERGED_WITH_NEXT, false, "the|-final|-|-countdown|");
    check_behavior(LQ_SPLIT_CONTIGUOUS, false, "the|-|final|--|countdown|");
    check_behavior(LQ_SPLIT_REMOVED, true, "-|-|-|");
    check_behavior(LQ_SPLIT_CONTIGUOUS, true, "the|-|final|--|countdown|");
}

static void known_patterns_split_as_published(void **state)
{
    (void)state;
    static const char text[] = "I'LL pay  $12345 now,\n\n  ok?\n x=7 ";
    static const char *const gpt2[] = {LQ_PIECES_GPT2}, *const smollm[] = {"\\p{N}",
                                                                           LQ_PIECES_GPT2};
    static const char *const llama3[] = {
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
    check_pieces(gpt2, 1, text, "I|'|LL| pay| | $|12345| now|,|\n\n | ok|?|\n| x|=|7| |");
    check_pieces(llama3, 1, text, "I|'LL| pay| | $|123|45| now|,\n\n| | ok|?\n| x|=|7| |");
    check_pieces(smollm, 2, text, "I|'|LL| pay| | $|1|2|3|4|5| now|,|\n\n | ok|?|\n| x|=|7| |");
    check_pieces(smollm, 2, " 7 \xC2\xBD", " |7| |\xC2\xBD|");
    /* U+3000 and U+0085 are white space, U+180E and U+200B are not; U+017F is an s to (?i:'s) */
    check_pieces(gpt2, 1, "a\xE3\x80\x80\xC2\x85", "a|\xE3\x80\x80\xC2\x85|");
    check_pieces(gpt2, 1, "a \xE1\xA0\x8E", "a| \xE1\xA0\x8E|");
    check_pieces(gpt2, 1, "a \xE2\x80\x8B", "a| \xE2\x80\x8B|");
    check_pieces(llama3, 1, "it'\xC5\xBF", "it|'\xC5\xBF|");
    check_pieces(gpt2, 1, "x\xFF\xFE y", "x|\xFF\xFE| y|");
}

/* What Oniguruma reads otherwise than PCRE2. */
static void patterns_mean_what_oniguruma_means(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *text, *want;
    } cases[] = {
        {"\\w+", "a_1 b\xCC\x81\xC2\xBD-", "a_1| |b\xCC\x81\xC2\xBD|-|"},
        {"\\b", "ab cd", "ab| |cd|"},
        {"[^\\S\\n]+", "a \t\n b", "a| \t|\n| |b|"},
        {"[a[b-d]]+", "xabcdex", "x|abcd|ex|"},
        {"[a-f&&[^bd]]+", "abcdef", "a|b|c|d|ef|"},
        {"[^a[bc]]+", "abxyc", "ab|xy|c|"},
        {"\\h+", "0xBEG", "0|x|BE|G|"},
        {"(?m:a.)", "a\nb", "a\n|b|"},
        {"a.", "a\nb", "a\nb|"},
        {"\\v", "a\nb\vc", "a\nb|\v|c|"},
        {"b{,2}c", "abbbc", "ab|bbc|"},
        {"x*", "axb", "a|x|b|"},
        {"[[:punct:]]+", "a+-b", "a|+-|b|"},
        {"[]a]+", "b]a", "b|]a|"},
        {"\\u3042", "x\xE3\x81\x82", "x|\xE3\x81\x82|"},
        /* U+3099 is of no script, and extends Hiragana and Katakana only in PCRE2's reading */
        {"\\p{Hiragana}+", "\xE3\x81\x8B\xE3\x82\x99", "\xE3\x81\x8B|\xE3\x82\x99|"},
        {"^b|a$", "a\nb", "a|\n|b|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_pieces(&cases[i].regex, 1, cases[i].text, cases[i].want);
}

static void strange_patterns_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"(",     "[a",       "a\\Kb",     "\\G",    "[[:nothing:]]",
                                      "\\X",   "a{2,3}+b", "a{2}?",     "a(?i)b", "(?x)a",
                                      "(?~a)", "\\",       "\\p{Nope}", "\\pL",   "\\u12"};
    lq_pattern *p;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (lq_pattern_open(bad[i], "file.json", &p) != LQ_E_FORMAT)
            fail_msg("%s is not refused", bad[i]);
        assert_non_null(strstr(lq_status_note(), "file.json"));
        assert_null(p);
    }
}

/* --- the file --------------------------------------------------------------------------------- */

/* The smallest file of interest; each part can be replaced. */
typedef struct parts {
    const char *normalizer, *pre, *post, *decoder, *options, *vocab, *merges, *added, *tail;
} parts;
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
static const parts good = {"null",
                           BYTE_LEVEL,
                           "null",
                           "{\"type\":\"ByteLevel\"}",
                           "",
                           "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5}",
                           "[\"a b\",\"b c\",\"ab c\"]",
                           "[]",
                           ""};

static lq_status parse(parts p, lq_tokenizer **tok)
{
    const char *json = lq_arena_printf(
        &arena,
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":%s,"
        "\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":%s,"
        "\"model\":{\"type\":\"BPE\"%s,\"vocab\":%s,\"merges\":%s}}%s",
        p.added, p.normalizer, p.pre, p.post, p.decoder, p.options, p.vocab, p.merges, p.tail);
    return lq_tokenizer_parse(json, strlen(json), "made.json", tok);
}

static void check_parsed(parts p, const char *text, const uint32_t *want, size_t n)
{
    lq_tokenizer *tok;
    if (parse(p, &tok) != LQ_OK)
        fail_msg("%s", lq_status_note());
    assert_true(ids_are(tok, text, want, n));
    lq_tokenizer_free(tok);
}

static void small_files_mean_what_they_say(void **state)
{
    (void)state;
    parts p = good;
    check_parsed(p, "abc", (const uint32_t[]){5}, 1);
    check_parsed(p, "bcab", (const uint32_t[]){4, 3}, 2);
    check_parsed(p, "axb", (const uint32_t[]){3},
                 1); /* no token for x: dropped, as the library does */
    p.merges = "[[\"a\",\"b\"],[\"b\",\"c\"],[\"ab\",\"c\"]]"; /* the new form */
    check_parsed(p, "abc", (const uint32_t[]){5}, 1);
    p.merges = "[\"#version: 0.2\",\"b c\",\"a b\"]"; /* rank decides: bc first, and a bc is none */
    check_parsed(p, "abc", (const uint32_t[]){0, 4}, 2);
    p.options = ",\"ignore_merges\":true";
    check_parsed(p, "abc", (const uint32_t[]){5}, 1);
    p = good;
    p.merges = "[\"a b\",\"b c\",\"a b\"]"; /* the later rank of a b counts */
    check_parsed(p, "abc", (const uint32_t[]){0, 4}, 2);
    p = good; /* the longest of two added tokens wins; gaps between ids are allowed */
    p.added = "[{\"id\":9,\"content\":\"<x\"},{\"id\":7,\"content\":\"<x>\"}]";
    check_parsed(p, "a<x>b<xab", (const uint32_t[]){0, 7, 1, 9, 3}, 5);
    p = good; /* a byte without a token: the unknown one, fused or not */
    p.options = ",\"unk_token\":\"c\"";
    check_parsed(p, "axxa", (const uint32_t[]){0, 2, 2, 0}, 4);
    p.options = ",\"unk_token\":\"c\",\"fuse_unk\":true";
    check_parsed(p, "axxa", (const uint32_t[]){0, 2, 0}, 3);
    p = good;
    p.options = ",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\",\"fuse_"
                "unk\":false";
    p.post = "{\"type\":\"ByteLevel\",\"trim_offsets\":false}";
    p.pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
            "\"ab?\"},"
            "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"Digits\",\"individual_"
            "digits\":true},"
            "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}";
    check_parsed(p, "abcbc", (const uint32_t[]){3, 2, 4}, 3); /* without the split: 5, 4 */
}

static void gaps_decode_to_an_error(void **state)
{
    (void)state;
    lq_tokenizer *tok;
    parts p = good;
    p.added = "[{\"id\":9,\"content\":\"</s>\"}]";
    assert_int_equal(parse(p, &tok), LQ_OK);
    assert_int_equal(lq_tokenizer_vocab(tok), 10);
    assert_int_equal(lq_tokenizer_end_of_text(tok), 9);
    char *text;
    size_t bytes;
    assert_int_equal(lq_tokenizer_decode(tok, (const uint32_t[]){9}, 1, &arena, &text, &bytes),
                     LQ_OK);
    assert_string_equal(text, "</s>");
    assert_int_equal(lq_tokenizer_decode(tok, (const uint32_t[]){8}, 1, &arena, &text, &bytes),
                     LQ_E_OPTION);
    lq_tokenizer_free(tok);
}

/* One part replaced by something that must be refused, and a word that the note must have. */
#define REFUSED(part, text, word)                                                      \
    do {                                                                               \
        parts p_ = good;                                                               \
        lq_tokenizer *tok_;                                                            \
        p_.part = text;                                                                \
        assert_int_equal(parse(p_, &tok_), LQ_E_FORMAT);                               \
        assert_null(tok_);                                                             \
        if (!strstr(lq_status_note(), word) || !strstr(lq_status_note(), "made.json")) \
            fail_msg("%s: the note is: %s", text, lq_status_note());                   \
    } while (0)

static void other_components_are_refused_by_name(void **state)
{
    (void)state;
    REFUSED(normalizer, "{\"type\":\"Precompiled\"}", "Precompiled");
    REFUSED(normalizer, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Nmt\"}]}", "Nmt");
    REFUSED(normalizer, "{\"type\":\"Replace\",\"pattern\":{},\"content\":\"\"}", "pattern");
    REFUSED(normalizer, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}", "content");
    REFUSED(pre, "{\"type\":\"UnicodeScripts\"}", "UnicodeScripts");
    REFUSED(pre, "{\"type\":\"Sequence\"}", "Sequence");
    REFUSED(pre, "{\"type\":\"Sequence\",\"pretokenizers\":[" BYTE_LEVEL "," BYTE_LEVEL "]}",
            "second");
    REFUSED(pre, "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Torn\"}",
            "Torn");
    REFUSED(pre, "{\"type\":\"Split\",\"behavior\":\"Isolated\"}", "pattern");
    REFUSED(pre, "{\"type\":\"Metaspace\",\"prepend_scheme\":\"last\"}", "last");
    REFUSED(post, "{\"type\":\"PairProcessing\"}", "PairProcessing");
    REFUSED(post, "{\"type\":\"TemplateProcessing\",\"single\":[]}", "without a text");
    REFUSED(post,
            "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}",
            "without ids");
    REFUSED(post, "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}",
            "one text A");
    REFUSED(decoder, "{\"type\":\"WordPiece\"}", "WordPiece");
    REFUSED(options, ",\"dropout\":0.1", "dropout");
    REFUSED(options, ",\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix");
    REFUSED(options, ",\"continuing_subword_prefix\":\"##\"", "continuing_subword_prefix");
    REFUSED(options, ",\"unk_token\":\"<unk>\"", "unk_token");
    REFUSED(options, ",\"byte_fallback\":true", "byte_fallback");
    REFUSED(options, ",\"surprise\":1", "surprise");
}

static void malformed_files_are_refused(void **state)
{
    (void)state;
    REFUSED(tail, "x", "made.json");
    REFUSED(vocab, "[]", "vocab");
    REFUSED(merges, "{}", "merges");
    REFUSED(vocab, "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":-1}", "abc");
    REFUSED(vocab, "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":4.5}", "abc");
    REFUSED(vocab, "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":1e12}", "abc");
    REFUSED(vocab, "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":\"5\"}", "abc");
    REFUSED(vocab, "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":4}", "id 4");
    REFUSED(merges, "[\"a b\",\"b d\"]", "merge 1");
    REFUSED(merges, "[\"a b\",\"c a\"]", "what they make");
    REFUSED(merges, "[\"ab\"]", "merge 0");
    REFUSED(merges, "[\"a  b\"]", "merge 0");
    REFUSED(merges, "[\" ab\"]", "merge 0");
    REFUSED(merges, "[[\"a\",\"b\",\"c\"]]", "merge 0");
    REFUSED(merges, "[[\"a\",7]]", "merge 0");
    REFUSED(merges, "[7]", "merge 0");
    REFUSED(merges, "[\"\xE2\x96\x81 a\"]", "merge 0");
    REFUSED(added, "[{\"id\":3,\"content\":\"<m>\"}]", "<m>");
    REFUSED(added, "[{\"id\":9}]", "content");
    REFUSED(added, "[{\"id\":9,\"content\":\"\"}]", "content");
    REFUSED(added, "[{\"content\":\"<m>\"}]", "added token");
    lq_tokenizer *tok;
    assert_int_equal(lq_tokenizer_parse("{}", 2, "made.json", &tok), LQ_E_FORMAT);
    assert_int_equal(lq_tokenizer_parse("", 0, "made.json", &tok), LQ_E_FORMAT);
    assert_int_equal(lq_tokenizer_read("/no/such/tokenizer.json", &tok), LQ_E_MISSING);
}

static void written_files_read_back(void **state)
{
    (void)state;
    char path[] = "/tmp/lcqat-tokenizer-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && close(fd) == 0);
    lq_tokenizer *made = trained(sample, 333), *read;
    assert_int_equal(lq_tokenizer_write(made, path), LQ_OK);
    assert_int_equal(lq_tokenizer_read(path, &read), LQ_OK);
    assert_string_equal(lq_tokenizer_digest(made)->hex, lq_tokenizer_digest(read)->hex);
    assert_int_equal(lq_tokenizer_vocab(read), 333);
    uint32_t *a, *b;
    size_t n = encoded(made, sample, sizeof sample - 1, &a);
    assert_int_equal(encoded(read, sample, sizeof sample - 1, &b), n);
    assert_memory_equal(a, b, n * sizeof *a);
    assert_true(n < sizeof sample - 1);
    assert_int_equal(lq_tokenizer_write(made, "/no/such/folder/t.json"), LQ_E_IO);
    lq_tokenizer_free(made);
    lq_tokenizer_free(read);
    assert_int_equal(unlink(path), 0);
}

static void out_of_memory_is_told(void **state)
{
    (void)state;
    char *json;
    lq_tokenizer *made = trained(sample, 300), *tok = NULL;
    assert_int_equal(lq_arena_new(&arena, &json, made->json_bytes + 1), LQ_OK);
    memcpy(json, made->json, made->json_bytes);
    lq_status status = LQ_E_MEMORY;
    size_t failures = 0;
    for (size_t n = 0; status == LQ_E_MEMORY && n < 1000; n++) {
        lq_arena_fail_after(n);
        status = lq_tokenizer_parse(json, made->json_bytes, "made.json", &tok);
        lq_arena_fail_after(SIZE_MAX);
        failures += status != LQ_OK;
    }
    assert_int_equal(status, LQ_OK);
    assert_true(failures > 0);
    lq_tokenizer_free(tok);
    lq_tokenizer_free(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(merges_are_the_expected_ones, close_arena),
        cmocka_unit_test_teardown(learning_refuses, close_arena),
        cmocka_unit_test_teardown(learning_is_deterministic, close_arena),
        cmocka_unit_test_teardown(any_bytes_come_back, close_arena),
        cmocka_unit_test_teardown(heap_and_scan_agree, close_arena),
        cmocka_unit_test_teardown(long_words_are_not_quadratic, close_arena),
        cmocka_unit_test_teardown(decoding_refuses_other_ids, close_arena),
        cmocka_unit_test_teardown(known_patterns_split_as_published, close_arena),
        cmocka_unit_test_teardown(splits_behave_as_documented, close_arena),
        cmocka_unit_test_teardown(patterns_mean_what_oniguruma_means, close_arena),
        cmocka_unit_test_teardown(strange_patterns_are_refused, close_arena),
        cmocka_unit_test_teardown(small_files_mean_what_they_say, close_arena),
        cmocka_unit_test_teardown(gaps_decode_to_an_error, close_arena),
        cmocka_unit_test_teardown(other_components_are_refused_by_name, close_arena),
        cmocka_unit_test_teardown(malformed_files_are_refused, close_arena),
        cmocka_unit_test_teardown(written_files_read_back, close_arena),
        cmocka_unit_test_teardown(out_of_memory_is_told, close_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
