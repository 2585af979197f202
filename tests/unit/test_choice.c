/* Weighing continuations: a model whose probabilities are known, tokens that reach over the boundary, a network
 * against its own forward pass, and what the numbers come to. */
#include "tests/check.h"

#include "core/eval/choice.h"
#include "core/model/llama.h"

#include <omp.h>
#include <string.h>

static lq_arena arena;

static int close_arena(void **state)
{
    (void)state;
    lq_arena_close(&arena);
    return 0;
}

/* ---- Tokens: 'a'..'f' are 0..5, a space is 6; "ab" is one token, 7 --------------------------------- */

enum { SPACE = 6, AB = 7, V = 8 };

static lq_status toy_encode(void *self, const char *text, size_t bytes, lq_arena *into,
                            uint32_t **ids, size_t *n)
{
    const uint32_t *bos = self;
    LQ_TRY(lq_arena_new(into, ids, bytes + 1));
    *n = 0;
    if (bos != NULL)
        (*ids)[(*n)++] = *bos;
    for (size_t i = 0; i < bytes; i++) {
        if (i + 1 < bytes && memcmp(text + i, "ab", 2) == 0) {
            (*ids)[(*n)++] = AB;
            i++;
            continue;
        }
        (*ids)[(*n)++] = text[i] == ' ' ? SPACE : (uint32_t)(text[i] - 'a');
    }
    return LQ_OK;
}

/* A question of choices that are their own continuation. */
static lq_question question(const char *context, const char *const *continuation, size_t n,
                            size_t gold)
{
    lq_question q = {.n = n, .gold = gold};
    check_ok(lq_arena_new(&arena, &q.context, n));
    check_ok(lq_arena_new(&arena, &q.continuation, n));
    check_ok(lq_arena_new(&arena, &q.length, n));
    for (size_t i = 0; i < n; i++) {
        q.context[i] = context;
        q.continuation[i] = continuation[i];
        q.length[i] = strlen(continuation[i]);
    }
    return q;
}

static const lq_task choices = {"choices", true, false}, last_word = {"last word", false, true};

/* ---- A model that looks at the last token alone ---------------------------------------------------- */

/* Blocks of zeros leave the stream as it is: the embedding, a unit vector a token. After the norm it is
 * longer by g, and the head gives g * table[next][last]. */
typedef struct bigram {
    lq_weights w;
    double g, table[V][V];
} bigram;

static void bigram_new(bigram *m, lq_rng *rng)
{
    lq_config c = {
        .arch = LQ_ARCH_LLAMA, .D = V, .F = 4, .L = 1, .H = 1, .Hkv = 1, .dh = V, .V = V};
    c.eps = 1e-5;
    c.rope_theta = 100;
    c.max_positions = 32;
    check_ok(lq_weights_new(&c, &arena, &m->w));
    for (size_t i = 0; i < V; i++) {
        m->w.final_norm[i] = 1;
        m->w.embed[i * V + i] = 1;
        for (size_t j = 0; j < V; j++) {
            const float value = (float)lq_rng_normal(rng);
            m->w.head[i * V + j] = value;
            m->table[i][j] = (double)value;
        }
    }
    m->g = 1 / sqrt(1.0 / V + c.eps);
}

/* ln p(next | last) */
static double ln_p(const bigram *m, uint32_t last, uint32_t next)
{
    double sum = 0;
    for (size_t i = 0; i < V; i++)
        sum += exp(m->g * m->table[i][last]);
    return m->g * m->table[next][last] - log(sum);
}

static uint32_t likeliest(const bigram *m, uint32_t last)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < V; i++)
        best = m->table[i][last] > m->table[best][last] ? i : best;
    return best;
}

static void weigh_one(const lq_weights *w, uint32_t *bos, const lq_question *q, lq_answer *out)
{
    lq_answers answers;
    const lq_encode encode = {bos, toy_encode};
    lq_question copy = *q;
    const lq_questions all = {.task = &choices, .question = &copy, .n = 1};
    check_ok(lq_choice_weigh(w, &encode, &all, &arena, &answers));
    *out = answers.answer[0];
}

static void known_probabilities_are_found(void **state)
{
    (void)state;
    enum { A, B, C, D, E };
    lq_rng rng = lq_rng_seed(3);
    lq_answer a;
    bigram m;
    uint32_t bos = E;
    bigram_new(&m, &rng);
    const char *pair[] = {" d", " ce"};
    lq_question q = question("ca", pair, 2, 0);
    weigh_one(&m.w, NULL, &q, &a);
    check_close(a.ll[0], ln_p(&m, A, SPACE) + ln_p(&m, SPACE, D), 1e-5, 1e-5);
    check_close(a.ll[1], ln_p(&m, A, SPACE) + ln_p(&m, SPACE, C) + ln_p(&m, C, E), 1e-5, 1e-5);

    /* white space at the end of the context is the continuation's, however much of it */
    q = question("ca  ", (const char *[]){"d"}, 1, 0);
    weigh_one(&m.w, NULL, &q, &a);
    check_close(a.ll[0], ln_p(&m, A, SPACE) + ln_p(&m, SPACE, SPACE) + ln_p(&m, SPACE, D), 1e-5,
                1e-5);

    /* "ca" + "bd" is c, ab, d: two tokens belong to the context, which the model reads as c, a */
    q = question("ca", (const char *[]){"bd"}, 1, 0);
    weigh_one(&m.w, NULL, &q, &a);
    check_close(a.ll[0], ln_p(&m, A, D), 1e-5, 1e-5);
    assert_false(lq_close(a.ll[0], ln_p(&m, A, B) + ln_p(&m, B, D), 1e-5, 1e-5));

    /* a BOS is of no matter to this model, but where it is all of the context */
    q = question(" ", (const char *[]){"d"}, 1, 0);
    weigh_one(&m.w, &bos, &q, &a);
    check_close(a.ll[0], ln_p(&m, E, SPACE) + ln_p(&m, SPACE, D), 1e-5, 1e-5);
}

static void greedy_is_every_token(void **state)
{
    (void)state;
    lq_rng rng = lq_rng_seed(5);
    lq_answer a;
    bigram m;
    bigram_new(&m, &rng);
    char said[3] = "", other[3] = "";
    uint32_t last = 2, next[2]; /* after "c" */
    for (size_t i = 0; i < 2; i++) {
        next[i] = likeliest(&m, last);
        last = next[i];
    }
    assert_true(next[0] < SPACE && next[1] < SPACE); /* by the seed: letters, and no "ab" */
    said[0] = other[0] = (char)('a' + next[0]);
    said[1] = (char)('a' + next[1]);
    other[1] = (char)('a' + (next[1] + 3) % SPACE);
    assert_true(strcmp(said, "ab") != 0 && strcmp(other, "ab") != 0);
    const lq_question q = question("c", (const char *[]){said, other}, 2, 0);
    weigh_one(&m.w, NULL, &q, &a);
    assert_true(a.greedy[0]);
    assert_false(a.greedy[1]);
}

/* ---- A network against its own forward pass -------------------------------------------------------- */

static void network(lq_weights *w, size_t max_positions)
{
    lq_config c = {
        .arch = LQ_ARCH_QWEN3, .D = 24, .F = 20, .L = 2, .H = 4, .Hkv = 2, .dh = 8, .V = V};
    lq_rng rng = lq_rng_seed(21);
    c.eps = 1e-5;
    c.rope_theta = 100;
    c.qk_norm = true;
    c.max_positions = max_positions;
    check_ok(lq_weights_new(&c, &arena, w));
    lq_fill_normal(w->flat, w->n, &rng);
    for (size_t i = 0; i < w->n_tensors; i++)
        for (size_t j = 0; j < w->tensor[i].rows * w->tensor[i].cols; j++)
            w->tensor[i].data[j] *= w->tensor[i].kind == LQ_WEIGHT_NORM ? 1 : 0.3f;
}

/* The sum of the last n_cont of all tokens, of which at most max_positions are read. */
static double by_forward(const lq_weights *w, const uint32_t *id, size_t n, size_t n_cont)
{
    const size_t most = w->config.max_positions;
    const size_t cut = n > most + 1 ? n - most - 1 : 0, T = n - cut - 1;
    lq_lane *lane;
    uint32_t *target;
    float *nll;
    double ll = 0;
    check_ok(lq_lane_new(&w->config, 1, T, LQ_KEEP_NOTHING, &arena, &lane));
    check_ok(lq_arena_new(&arena, &target, T));
    check_ok(lq_arena_new(&arena, &nll, T));
    memcpy(target, id + cut + 1, T * sizeof *target);
    lq_forward(w, lane, id + cut, 1);
    lq_loss(w, lane, target, 0, NULL, nll);
    for (size_t t = T - n_cont; t < T; t++)
        ll -= (double)nll[t];
    return ll;
}

static const char *letters(size_t n, lq_rng *rng)
{
    char *text;
    check_ok(lq_arena_new(&arena, &text, n + 1));
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('b' + lq_rng_below(rng, 4)); /* no 'a': letters are tokens */
    return text;
}

/* Questions whose choices share all of the context, a part, or nothing; some lose its beginning. */
static lq_questions many(lq_rng *rng)
{
    static const size_t context[] = {1, 2, 17, 64, 65, 90, 100, 150},
                        length[] = {1, 3, 15, 16, 63, 64, 65, 99};
    lq_questions all = {.task = &choices, .n = 8};
    check_ok(lq_arena_new(&arena, &all.question, all.n));
    for (size_t i = 0; i < all.n; i++) {
        const char *const text[] = {letters(length[i], rng), letters(length[7 - i], rng),
                                    letters(length[i], rng)};
        all.question[i] = question(letters(context[i], rng), text, 3, i % 3);
        all.question[i].context[1] =
            lq_arena_printf(&arena, "%.*sff", (int)(context[i] / 2), all.question[i].context[0]);
    }
    return all;
}

static void weights_are_those_of_the_forward(void **state)
{
    (void)state;
    const lq_encode encode = {NULL, toy_encode};
    lq_rng rng = lq_rng_seed(8);
    lq_weights w;
    lq_answers got;
    size_t n_cut = 0;
    network(&w, 120);
    const lq_questions all = many(&rng);
    check_ok(lq_choice_weigh(&w, &encode, &all, &arena, &got));
    for (size_t i = 0; i < all.n; i++)
        for (size_t c = 0; c < 3; c++) {
            const lq_question *q = &all.question[i];
            const char *text = lq_arena_printf(&arena, "%s%s", q->context[c], q->continuation[c]);
            uint32_t *id;
            size_t n;
            check_ok(toy_encode(NULL, text, strlen(text), &arena, &id, &n));
            check_close(got.answer[i].ll[c], by_forward(&w, id, n, q->length[c]), 1e-5, 1e-4);
            n_cut += n > 121;
        }
    assert_true(n_cut > 0);
    assert_int_equal(got.n_cut, n_cut);
}

static void threads_do_not_show(void **state)
{
    (void)state;
    const lq_encode encode = {NULL, toy_encode};
    lq_rng rng = lq_rng_seed(8);
    lq_weights w;
    lq_answers one, two;
    network(&w, 120);
    const lq_questions all = many(&rng);
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    check_ok(lq_choice_weigh(&w, &encode, &all, &arena, &one));
    omp_set_num_threads(2);
    check_ok(lq_choice_weigh(&w, &encode, &all, &arena, &two));
    omp_set_num_threads(before);
    for (size_t i = 0; i < all.n; i++)
        assert_memory_equal(one.answer[i].ll, two.answer[i].ll, 3 * sizeof(double));
}

static void what_cannot_be_weighed_is_refused(void **state)
{
    (void)state;
    const lq_encode encode = {NULL, toy_encode};
    lq_rng rng = lq_rng_seed(9);
    lq_weights w;
    lq_answers got;
    network(&w, 30);
    lq_question q = question("bb", (const char *[]){letters(31, &rng)}, 1, 0);
    lq_questions all = {.task = &choices, .question = &q, .n = 1};
    assert_int_equal(lq_choice_weigh(&w, &encode, &all, &arena, &got), LQ_E_OPTION);
    q = question("bb", (const char *[]){letters(30, &rng)}, 1, 0);
    check_ok(lq_choice_weigh(&w, &encode, &all, &arena, &got));
    q = question("bb", (const char *[]){""}, 1, 0);
    assert_int_equal(lq_choice_weigh(&w, &encode, &all, &arena, &got), LQ_E_FORMAT);
    q = question("a", (const char *[]){"b"}, 1, 0); /* "ab" is no token more than "a" */
    assert_int_equal(lq_choice_weigh(&w, &encode, &all, &arena, &got), LQ_E_FORMAT);
    q = question("bb", (const char *[]){"z"}, 1, 0);
    assert_int_equal(lq_choice_weigh(&w, &encode, &all, &arena, &got), LQ_E_OPTION);
    q = question("bb", (const char *[]){"c"}, 1, 0);
    w.head[0] = (float)NAN;
    assert_int_equal(lq_choice_weigh(&w, &encode, &all, &arena, &got), LQ_E_NUMERIC);
}

/* ---- What it comes to ------------------------------------------------------------------------------ */

static void accuracies_and_their_errors(void **state)
{
    (void)state;
    static const double ll[4][2] = {{-3, -4}, {-3, -2}, {-5, -5}, {-1, -9}};
    static const size_t length[4][2] = {{1, 2}, {1, 1}, {5, 5}, {0, 3}};
    static const size_t gold[] = {0, 0, 0, 0};
    lq_question q[4];
    lq_answer a[4];
    lq_choice_result r;
    for (size_t i = 0; i < 4; i++) {
        q[i] = question("c", (const char *[]){"b", "c"}, 2, gold[i]);
        memcpy(q[i].length, length[i], sizeof length[i]);
        check_ok(lq_arena_new(&arena, &a[i].ll, 2));
        check_ok(lq_arena_new(&arena, &a[i].greedy, 2));
        memcpy(a[i].ll, ll[i], sizeof ll[i]);
    }
    const lq_questions all = {.task = &choices, .question = q, .n = 4};
    const lq_answers answers = {.answer = a};
    lq_choice_conclude(&all, &answers, &r);
    check_close(r.acc, 0.75, 1e-12, 0); /* the third by being the first of equals */
    check_close(r.acc_error, sqrt(0.75 * 0.25 / 3), 1e-12, 0);
    check_close(r.acc_norm, 0.25, 1e-12, 0); /* -3 < -4/2; a choice without characters never wins */
    check_close(r.acc_norm_error, sqrt(0.75 * 0.25 / 3), 1e-12, 0);
    assert_true(isnan(r.perplexity));
    lq_choice_conclude(&(lq_questions){.task = &choices, .question = q, .n = 1}, &answers, &r);
    assert_true(isnan(r.acc_error));
}

static void last_words_are_greedy_or_wrong(void **state)
{
    (void)state;
    static const double ll[] = {-1, -2, -6};
    lq_question q[3];
    lq_answer a[3];
    lq_choice_result r;
    for (size_t i = 0; i < 3; i++) {
        q[i] = question("c", (const char *[]){"b"}, 1, 0);
        check_ok(lq_arena_new(&arena, &a[i].ll, 1));
        check_ok(lq_arena_new(&arena, &a[i].greedy, 1));
        a[i].ll[0] = ll[i];
        a[i].greedy[0] = i == 0;
    }
    lq_choice_conclude(&(lq_questions){.task = &last_word, .question = q, .n = 3},
                       &(lq_answers){.answer = a}, &r);
    check_close(r.acc, 1.0 / 3, 1e-12, 0);
    check_close(r.perplexity, exp(3), 1e-12, 0);
    check_close(r.perplexity_error, exp(3) * sqrt((4 + 1 + 9) / 2.0 / 3), 1e-12, 0);
    assert_true(isnan(r.acc_norm));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_probabilities_are_found),
        cmocka_unit_test(greedy_is_every_token),
        cmocka_unit_test(weights_are_those_of_the_forward),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(what_cannot_be_weighed_is_refused),
        cmocka_unit_test(accuracies_and_their_errors),
        cmocka_unit_test(last_words_are_greedy_or_wrong),
    };
    return cmocka_run_group_tests_name("choice", tests, NULL, close_arena);
}
