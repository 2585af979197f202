/* The field's perplexity protocols: Python's random numbers, WikiText's rows, C4's crops, windows. What is
 * compared with was computed by CPython 3.11 (the scripts stand in the comments) or by plain loops here. */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/data/documents.h"
#include "core/eval/perplexity.h"
#include "core/eval/protocol.h"
#include "core/eval/pyrandom.h"
#include "core/text/tokenizer.h"
#include "experiments/data.h"
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static lq_arena arena;
static const char *root;

static const char *place(const char *name) { return lq_arena_printf(&arena, "%s/%s", root, name); }

static const char *written(const char *name, const char *text)
{
    const char *path = place(name);
    check_ok(lq_file_write_all(path, text, strlen(text)));
    return path;
}

/* --- Python's random -------------------------------------------------------------------------- */

static void pyrandom_gives_the_numbers_of_python(void **state)
{
    (void)state;
    static const uint32_t words[] = {3626764237u, 1654615998u, 3255389356u, 3823568514u,
                                     1806341205u};
    static const uint32_t drawn[] = {25247, 27562, 2653,  16968, 33506,
                                     31845, 26537, 19877, 31234, 23465};
    static const uint32_t hundred[] = {49, 97, 53, 5, 33, 65, 62, 51, 38, 61};
    static const double real[] = {0.8444218515250481, 0.7579544029403025, 0.420571580830845};
    static const uint32_t of_42[] = {41905, 7296, 1639, 18024, 16049};
    static const uint32_t of_large[] = {528881, 542031, 281652, 696042};
    lq_pyrandom r;
    lq_pyrandom_seed(&r, 0);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(lq_pyrandom_u32(&r), words[i]);
    lq_pyrandom_seed(&r, 0);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(lq_pyrandom_int(&r, 0, 45575), drawn[i]);
    lq_pyrandom_seed(&r, 0);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(lq_pyrandom_int(&r, 0, 99), hundred[i]);
    lq_pyrandom_seed(&r, 0);
    for (size_t i = 0; i < 3; i++)
        assert_true(lq_pyrandom_real(&r) == real[i]);
    lq_pyrandom_seed(&r, 42);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(lq_pyrandom_int(&r, 0, 45575), of_42[i]);
    lq_pyrandom_seed(&r, ((uint64_t)1 << 40) + 5); /* two limbs */
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(lq_pyrandom_int(&r, 0, 1000000), of_large[i]);
    assert_true(lq_pyrandom_real(&r) == 0.9257865475671585);
    assert_int_equal(lq_pyrandom_int(&r, 3, 3), 3);
    assert_int_equal(lq_pyrandom_int(&r, 0, 4294967294u), 710650538);
}

/* --- documents -------------------------------------------------------------------------------- */

static void joins_to(const char *raw, const char *want)
{
    char *text;
    size_t n;
    check_ok(lq_wikitext_join(raw, strlen(raw), &arena, &text, &n));
    assert_string_equal(text, want);
    assert_int_equal(n, strlen(want));
}

static void wikitext_rows_are_joined_as_the_papers_do(void **state)
{
    (void)state;
    joins_to(" \n = A = \n \n b c \n", "\n\n = A = \n\n\n\n\n b c \n");
    joins_to("", "");
    joins_to("a", "a");
    joins_to("a\nb", "a\n\n\nb");
    joins_to("\n", "");
    joins_to("\t\r\n x\n", "\n\n x\n");
}

typedef struct heard {
    char text[512];
    size_t n;
} heard;

static lq_status listen_to(void *self, const char *text, size_t bytes)
{
    heard *h = self;
    snprintf(h->text + strlen(h->text), sizeof h->text - strlen(h->text), "[%.*s]", (int)bytes,
             text);
    h->n++;
    return LQ_OK;
}

static void reads(const char *path, lq_form form, size_t most, const char *want)
{
    heard h = {.n = 0};
    check_ok(lq_documents_each(path, form, most, &h, listen_to));
    assert_string_equal(h.text, want);
}

static void documents_come_in_every_form(void **state)
{
    (void)state;
    heard h = {.n = 0};
    const char *json = written("a.jsonl", "{\"text\":\"x\\ny\",\"n\":1}\n\n{\"text\":\"\"}\n"
                                          "{\"n\":2,\"text\":\"z\"}");
    reads(json, LQ_FORM_JSONL, 0, "[x\ny][][z]");
    reads(json, LQ_FORM_JSONL, 2, "[x\ny][]");
    reads(json, LQ_FORM_JSONL, 1, "[x\ny]");
    reads(written("a.txt", "one\ntwo\n<|endoftext|>\n\nthree\n<|endoftext|>\n<|endoftext|>\nfour"),
          LQ_FORM_SEPARATED, 0, "[one\ntwo][three][four]");
    reads(place("a.txt"), LQ_FORM_SEPARATED, 1, "[one\ntwo]");
    reads(written("b.txt", "a b\n"), LQ_FORM_TEXT, 0, "[a b\n]");
    reads(written("c.raw", " \n a \n"), LQ_FORM_WIKITEXT, 0, "[\n\n a \n]");
    reads(written("empty", ""), LQ_FORM_JSONL, 0, "");
    assert_int_equal(lq_documents_each(written("bad", "{\"text\":\"x\"}\n{\"t\":1}\n"),
                                       LQ_FORM_JSONL, 0, &h, listen_to),
                     LQ_E_FORMAT);
    assert_non_null(strstr(lq_status_note(), "line 2"));
    assert_int_equal(lq_documents_each(written("bad", "{\"text\":\"x\"}\nnot\n"), LQ_FORM_JSONL, 0,
                                       &h, listen_to),
                     LQ_E_FORMAT);
    reads(place("bad"), LQ_FORM_JSONL, 1, "[x]"); /* what is not asked for is not read */
    assert_int_equal(lq_documents_each(place("none"), LQ_FORM_JSONL, 0, &h, listen_to),
                     LQ_E_MISSING);
    assert_int_equal(lq_form_of("jsonl"), LQ_FORM_JSONL);
    assert_int_equal(lq_form_of("parquet"), LQ_FORM_COUNT);
}

/* --- C4 --------------------------------------------------------------------------------------- */

/* A token a byte, with a BOS where one is wanted. */
static lq_status encode_bytes(void *self, const char *text, size_t bytes, lq_arena *to,
                              uint32_t **ids, size_t *n)
{
    const uint32_t *bos = self;
    const size_t extra = bos != NULL;
    LQ_TRY(lq_arena_new(to, ids, bytes + 1));
    if (extra)
        (*ids)[0] = *bos;
    for (size_t i = 0; i < bytes; i++)
        (*ids)[i + extra] = (unsigned char)text[i];
    *n = bytes + extra;
    return LQ_OK;
}

/* doc(i) = ''.join(chr(97 + (i*7 + k*k) % 26) for k in range((i*37) % 97 + 1)), i = 0..49 */
static const char *toy_c4(void)
{
    const char *path = place("c4.jsonl");
    lq_file *file;
    check_ok(lq_file_create(path, &file));
    for (size_t i = 0; i < 50; i++) {
        check_ok(lq_file_printf(file, "{\"url\":\"u\",\"text\":\""));
        for (size_t k = 0; k < i * 37 % 97 + 1; k++)
            check_ok(lq_file_printf(file, "%c", (int)(97 + (i * 7 + k * k) % 26)));
        check_ok(lq_file_printf(file, "\"}\n"));
    }
    check_ok(lq_file_commit(file));
    return path;
}

static void crops_to(const char *path, size_t T, uint32_t *bos, const char *want)
{
    uint32_t *ids;
    size_t n;
    lq_digest digest;
    const lq_encode encode = {bos, encode_bytes};
    check_ok(lq_c4_crop(path, T, &encode, &arena, &ids, &n));
    assert_int_equal(n, LQ_C4_WINDOWS * T);
    check_ok(lq_sha256_of(ids, n * sizeof *ids, &digest));
    assert_string_equal(digest.hex, want);
}

/* random.seed(0)
 * for _ in range(256):
 *     while True:
 *         i = random.randint(0, len(docs) - 1); t = bos + list(docs[i].encode())
 *         if len(t) >= T: break
 *     s = 0 if len(t) == T else random.randint(0, len(t) - T - 1)
 *     out += t[s:s + T]
 * sha256(struct.pack('<%dI' % len(out), *out)) */
static void c4_crops_are_those_of_python(void **state)
{
    (void)state;
    uint32_t bos = 1000;
    const char *path = toy_c4();
    crops_to(path, 40, NULL, "f233ca4c3666011676acd06eea21f89fb1f52ad53ccbd0470575224ab165b979");
    crops_to(path, 40, &bos, "5e44cbe72d167b381d45c1e44cec0302ba4ce095489c2875b2c05712001f6044");
    /* two documents alone are long enough, one of them just so */
    crops_to(path, 94, NULL, "a7f522c4c479acc043e02578050ff6c4a06d5e6a96e75a9ee445fa83682a499b");
    uint32_t *ids;
    size_t n;
    const lq_encode encode = {NULL, encode_bytes};
    assert_int_equal(lq_c4_crop(path, 96, &encode, &arena, &ids, &n), LQ_E_SHAPE);
    assert_int_equal(lq_c4_crop(written("none", ""), 9, &encode, &arena, &ids, &n), LQ_E_FORMAT);
}

static void c4_new_is_the_beginning_joined_by_spaces(void **state)
{
    (void)state;
    uint32_t *ids, bos = 1000;
    size_t n;
    const lq_encode encode = {&bos, encode_bytes};
    const char *path = written("new.jsonl", "{\"text\":\"ab\"}\n{\"text\":\"c\"}\n{\"text\":\"\"}\n"
                                            "{\"text\":\"d\"}\n");
    static const uint32_t want[] = {1000, 'a', 'b', ' ', 'c', ' ', ' ', 'd'};
    check_ok(lq_c4_new(path, 4, &encode, &arena, &ids, &n));
    assert_int_equal(n, 8);
    assert_memory_equal(ids, want, sizeof want);
    lq_file *file; /* 1200 documents: the last hundred are not read; 256 windows at most */
    check_ok(lq_file_create(place("long.jsonl"), &file));
    for (int i = 0; i < 1200; i++)
        check_ok(lq_file_printf(file, "{\"text\":\"%c\"}\n", i < 1100 ? 'a' : 'b'));
    check_ok(lq_file_commit(file));
    check_ok(lq_c4_new(place("long.jsonl"), 100, &encode, &arena, &ids, &n));
    assert_int_equal(n, 1 + 1100 + 1099);
    for (size_t i = 1; i < n; i++)
        assert_int_equal(ids[i], i % 2 == 1 ? 'a' : ' ');
    check_ok(lq_c4_new(place("long.jsonl"), 5, &encode, &arena, &ids, &n));
    assert_int_equal(n, 256 * 5);
}

/* --- windows ---------------------------------------------------------------------------------- */

enum { V = 23, T = 12, N = 5 * T + 7 };

static void tiny_model(lq_weights *w, uint32_t *token)
{
    const lq_config c = {.arch = LQ_ARCH_LLAMA,
                         .D = 16,
                         .F = 24,
                         .L = 2,
                         .H = 2,
                         .Hkv = 1,
                         .dh = 8,
                         .V = V,
                         .eps = 1e-5,
                         .rope_theta = 1e4,
                         .tied = true,
                         .max_positions = 64};
    lq_rng rng = lq_rng_seed(5);
    check_ok(lq_weights_new(&c, &arena, w));
    lq_weights_init(w, &rng);
    for (size_t i = 0; i < w->n; i++)
        w->flat[i] *= 5;
    for (size_t i = 0; i < N; i++)
        token[i] = (uint32_t)lq_rng_below(&rng, V);
}

/* Nats of targets first+1..T-1 of each window by plain loops over logits. */
static double plain_nats(const lq_weights *w, const uint32_t *token, size_t first, uint32_t begin,
                         size_t *count)
{
    lq_lane *lane;
    float logits[T * V];
    double sum = 0;
    *count = 0;
    check_ok(lq_lane_new(&w->config, 1, T, LQ_KEEP_NOTHING, &arena, &lane));
    for (size_t b = 0; b < N / T; b++) {
        uint32_t window[T];
        memcpy(window, token + b * T, sizeof window);
        window[0] = begin != UINT32_MAX ? begin : window[0];
        lq_forward(w, lane, window, 1);
        lq_logits(w, lane, 0, T, logits);
        for (size_t t = first; t + 1 < T; t++, ++*count) {
            double total = 0;
            for (size_t v = 0; v < V; v++)
                total += exp((double)logits[t * V + v]);
            sum += log(total) - (double)logits[t * V + token[b * T + t + 1]];
        }
    }
    return sum / (double)*count;
}

static void windows_score_what_the_protocol_says(void **state)
{
    (void)state;
    static const struct {
        size_t context;
        uint32_t begin;
    } way[] = {{0, UINT32_MAX},
               {1, UINT32_MAX},
               {T / 2 + 1, UINT32_MAX},
               {T / 2 + 1, 3},
               {T - 1, UINT32_MAX}};
    lq_weights w;
    uint32_t token[N];
    tiny_model(&w, token);
    double before = 0;
    for (size_t i = 0; i < sizeof way / sizeof way[0]; i++) {
        lq_perplexity p;
        size_t count;
        const size_t first = way[i].context > 1 ? way[i].context - 1 : 0;
        const lq_windows in = {token, N, T, 0, way[i].context, way[i].begin};
        check_ok(lq_perplexity_windows(&w, &in, &arena, &p));
        const double want = plain_nats(&w, token, first, way[i].begin, &count);
        assert_int_equal(p.n_predicted, count);
        check_close(p.nats_per_token, want, 1e-5, 0);
        check_close(p.ppl, exp(want), 1e-4, 0);
        assert_true(p.nats_error > 0 && p.nats_error < p.nats_per_token);
        if (i == 3)
            assert_true(fabs(want - before) > 1e-3); /* the first token does matter */
        before = want;
    }
    lq_perplexity gptq, same;
    const lq_windows in = {token, N, T, 3, 0, UINT32_MAX};
    check_ok(lq_perplexity_of(&w, token, N, T, 3, &arena, &gptq));
    check_ok(lq_perplexity_windows(&w, &in, &arena, &same));
    assert_true(gptq.nats_per_token == same.nats_per_token && gptq.n_windows == 3);
    const lq_windows none = {token, N, T, 0, T, UINT32_MAX}, out = {token, N, T, 0, 0, V};
    assert_int_equal(lq_perplexity_windows(&w, &none, &arena, &same), LQ_E_SHAPE);
    assert_int_equal(lq_perplexity_windows(&w, &out, &arena, &same), LQ_E_OPTION);
}

/* --- names ------------------------------------------------------------------------------------ */

static lq_tokenizer *toy_tokenizer(void)
{
    static const char text[] = "the cat and the hat and the bat sat on the mat with the rat";
    lq_tokenizer *tok;
    check_ok(lq_tokenizer_train(text, sizeof text - 1, 270, &tok));
    return tok;
}

static void is_text(const lq_tokenizer *tok, const lq_data *data, const char *want)
{
    char *text;
    size_t n;
    check_ok(lq_tokenizer_decode(tok, data->token, data->n, &arena, &text, &n));
    assert_string_equal(text, want);
}

static void names_lead_to_the_right_text(void **state)
{
    (void)state;
    lq_tokenizer *tok = toy_tokenizer();
    lq_eval_data e;
    lq_data d;
    const char *raw = written("own.raw", " \n the cat \n");
    for (int again = 0; again < 2; again++) { /* the second time from the cache */
        check_ok(
            lq_eval_data_load(lq_arena_printf(&arena, "wikitext2:%s", raw), tok, 0, &arena, &e));
        is_text(tok, &e.data, "\n\n the cat \n");
        assert_int_equal(e.windows.T, 2048);
        assert_string_equal(e.protocol, "gptq");
        assert_true(e.bos == UINT32_MAX);
        check_ok(
            lq_eval_data_load(lq_arena_printf(&arena, "llama.cpp:%s", raw), tok, 0, &arena, &e));
        is_text(tok, &e.data, " \n the cat \n"); /* as it is */
        assert_int_equal(e.windows.T, 512);
        assert_int_equal(e.windows.context, 257);
        check_ok(lq_eval_data_load(raw, tok, 0, &arena, &e));
        is_text(tok, &e.data, " \n the cat \n");
        assert_int_equal(e.windows.T, 128);
        check_ok(
            lq_eval_data_load(lq_arena_printf(&arena, "c4-new:%s", toy_c4()), tok, 7, &arena, &e));
        assert_int_equal(e.windows.T, 7);
        assert_string_equal(e.protocol, "c4-new");
        check_ok(
            lq_eval_data_load(lq_arena_printf(&arena, "C4-crop:%s", toy_c4()), tok, 5, &arena, &e));
        assert_int_equal(e.data.n, 256 * 5);
    }
    lq_digest digest;
    check_ok(lq_sha256_file(raw, &digest));
    check_ok(lq_data_load(lq_arena_printf(&arena, "wikitext2:%s", raw), tok, &arena, &d));
    assert_string_equal(d.digest.hex, digest.hex);
    check_ok(lq_data_load(
        lq_arena_printf(&arena, "tinystories:%s", written("s.txt", "a\n<|endoftext|>\nb\n")), tok,
        &arena, &d));
    is_text(tok, &d, "a<|endoftext|>b<|endoftext|>");
    assert_int_equal(lq_eval_data_load("c4", tok, 0, &arena, &e), LQ_E_OPTION);
    assert_int_equal(lq_eval_data_load("wikitext2", tok, 0, &arena, &e), LQ_E_MISSING);
    assert_non_null(strstr(lq_status_note(), "lcqat fetch wikitext2"));
    assert_int_equal(lq_eval_data_load("c4-crop", tok, 0, &arena, &e), LQ_E_MISSING);
    assert_int_equal(lq_eval_data_load("wikitext2:tset", tok, 0, &arena, &e), LQ_E_OPTION);
    assert_int_equal(lq_eval_data_load("wikitex", tok, 0, &arena, &e), LQ_E_MISSING);
    assert_int_equal(lq_eval_data_load("llama.cpp:c4:validation", tok, 0, &arena, &e),
                     LQ_E_MISSING);
    lq_tokenizer_free(tok);
}

static void splits_of_a_fetched_set_are_found(void **state)
{
    (void)state;
    lq_tokenizer *tok = toy_tokenizer();
    lq_eval_data e;
    lq_data d;
    static const char manifest[] = "{\"files\":[{\"name\":\"wiki.test.raw\",\"bytes\":4},"
                                   "{\"name\":\"wiki.train.raw\",\"bytes\":5}]}";
    check_ok(lq_path_make_dirs(place("datasets/wikitext2")));
    written("datasets/wikitext2/wiki.test.raw", "cat\n");
    written("datasets/wikitext2/wiki.train.raw", "rats\n");
    written("datasets/wikitext2/manifest.json", manifest);
    check_ok(lq_eval_data_load("wikitext2", tok, 2, &arena, &e));
    is_text(tok, &e.data, "cat\n"); /* to score: test */
    check_ok(lq_data_load("wikitext2", tok, &arena, &d));
    is_text(tok, &d, "rats\n"); /* to learn from: train */
    check_ok(lq_data_load("wikitext2:test", tok, &arena, &d));
    is_text(tok, &d, "cat\n");
    written("datasets/wikitext2/wiki.test.raw", "cats\n"); /* not the length of the manifest */
    assert_int_equal(lq_eval_data_load("wikitext2", tok, 2, &arena, &e), LQ_E_MISSING);
    lq_tokenizer_free(tok);
}

/* --- against the world's count of tokens ------------------------------------------------------ */

/* N is what the logs of others say of this text ("sequence length is longer than ... (287644 > 1024)", 299078,
 * 341469, 289077), a BOS at its start included; another joining of the rows gives another number. */
static void wikitext2_has_as_many_tokens_as_everywhere(void **state)
{
    (void)state;
    static const struct {
        const char *tokenizer;
        size_t n, at_2048, at_4096, at_8192;
        uint32_t bos;
    } want[] = {{"gpt2", 287644, 140, 70, 35, UINT32_MAX},
                {"llama2", 341469, 166, 83, 41, 1},
                {"llama3", 289077, 141, 70, 35, 128000},
                {"qwen2", 299078, 146, 73, 36, UINT32_MAX}};
    const char *shared = getenv("LQ_SHARED");
    const char *dir = lq_arena_printf(&arena, "%s/data", shared ? shared : "../shared");
    const char *raw = lq_arena_printf(&arena, "%s/wikitext2/wiki.test.raw", dir);
    if (!lq_path_exists(raw)) {
        print_message("[  SKIP    ] no %s\n", raw);
        skip();
    }
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        lq_tokenizer *tok;
        lq_eval_data e;
        check_ok(lq_tokenizer_open(
            lq_arena_printf(&arena, "%s/tokenizers/%s", dir, want[i].tokenizer), &tok));
        check_ok(
            lq_eval_data_load(lq_arena_printf(&arena, "wikitext2:%s", raw), tok, 0, &arena, &e));
        assert_int_equal(e.data.n, want[i].n);
        assert_int_equal(e.data.n / 2048, want[i].at_2048);
        assert_int_equal(e.data.n / 4096, want[i].at_4096);
        assert_int_equal(e.data.n / 8192, want[i].at_8192);
        assert_int_equal(e.bos, want[i].bos);
        if (e.bos != UINT32_MAX)
            assert_int_equal(e.data.token[0], e.bos);
        for (size_t k = 1; k < e.data.n; k++)
            assert_true(e.data.token[k] != e.bos || e.bos == UINT32_MAX); /* once, and only there */
        assert_string_equal(e.data.digest.hex,
                            "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08");
        lq_tokenizer_free(tok);
    }
}

static int new_root(void **state)
{
    (void)state;
    char dir[] = "/tmp/lq-protocol-XXXXXX";
    root = mkdtemp(dir) ? lq_arena_printf(&arena, "%s", dir) : NULL;
    setenv("LCQAT_CACHE", root, 1);
    lq_log_quiet(true);
    return root == NULL;
}

static int remove_root(void **state)
{
    (void)state;
    const lq_status status = lq_path_remove_tree(root);
    lq_arena_close(&arena);
    return status != LQ_OK;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, new_root, remove_root)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(pyrandom_gives_the_numbers_of_python),
        CASE(wikitext_rows_are_joined_as_the_papers_do),
        CASE(documents_come_in_every_form),
        CASE(c4_crops_are_those_of_python),
        CASE(c4_new_is_the_beginning_joined_by_spaces),
        CASE(windows_score_what_the_protocol_says),
        CASE(names_lead_to_the_right_text),
        CASE(splits_of_a_fetched_set_are_found),
        CASE(wikitext2_has_as_many_tokens_as_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
