#include "core/eval/choice.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/eval/task_parts.h"
#include "core/model/decode.h"
#include "core/text/utf8.h"

#include <math.h>
#include <string.h>

/* ---- Tokens -------------------------------------------------------------------------------------- */

typedef struct request { /* one choice */
    uint32_t *id;        /* (n_ctx + n_cont) */
    size_t n_ctx, n_cont;
} request;

static size_t trailing_space(const char *text)
{
    const size_t bytes = strlen(text);
    size_t n = bytes;
    uint32_t code;
    while (n > 0) {
        const size_t last = lq_utf8_last(text, n);
        lq_utf8_next(text + last, n - last, &code);
        if (!lq_python_space(code))
            break;
        n = last;
    }
    return bytes - n;
}

static lq_status encode_pair(const lq_encode *encode, const char *context, const char *continuation,
                             lq_arena *arena, request *out)
{
    lq_arena scratch = {0};
    uint32_t *ctx = NULL, *whole = NULL;
    size_t n_ctx = 0, n_whole = 0;
    const size_t bytes = strlen(context) - trailing_space(context);
    const char *text = lq_arena_printf(&scratch, "%s%s", context, continuation);
    lq_status status = encode->run(encode->self, text, bytes, &scratch, &ctx, &n_ctx);
    if (status == LQ_OK)
        status = encode->run(encode->self, text, strlen(text), &scratch, &whole, &n_whole);
    if (status == LQ_OK && (n_ctx == 0 || n_whole <= n_ctx))
        status = lq_fail(LQ_E_FORMAT, "no token of its own: '%.60s' after '%.60s'", continuation,
                         context);
    if (status == LQ_OK)
        status = lq_arena_new(arena, &out->id, n_whole);
    if (status == LQ_OK) {
        memcpy(out->id, ctx, n_ctx * sizeof *ctx);
        memcpy(out->id + n_ctx, whole + n_ctx, (n_whole - n_ctx) * sizeof *whole);
        out->n_ctx = n_ctx;
        out->n_cont = n_whole - n_ctx;
    }
    lq_arena_close(&scratch);
    return status;
}

/* The last max_positions + 1 tokens: one more than are read. */
static lq_status fit(const lq_config *c, const lq_questions *q, size_t index, request *r,
                     lq_answers *out)
{
    const size_t n = r->n_ctx + r->n_cont;
    for (size_t i = 0; i < n; i++)
        if (r->id[i] >= c->V)
            return lq_fail(LQ_E_OPTION,
                           "%s: token %u of question %zu is outside the vocabulary %zu",
                           q->task->name, (unsigned)r->id[i], index, c->V);
    if (r->n_cont > c->max_positions)
        return lq_fail(LQ_E_OPTION,
                       "%s: a choice of question %zu has %zu tokens, the model %zu positions",
                       q->task->name, index, r->n_cont, c->max_positions);
    if (n > c->max_positions + 1) {
        const size_t cut = n - c->max_positions - 1;
        r->id += cut;
        r->n_ctx -= cut;
        out->n_cut++;
    }
    out->n_tokens += r->n_cont;
    return LQ_OK;
}

/* ---- Log-likelihoods ----------------------------------------------------------------------------- */

typedef struct desk {
    const lq_weights *w;
    lq_decoder *d;
    float *logits;        /* (LQ_DECODER_READ,V) */
    const uint32_t *read; /* (n_read) what the decoder has read, borrowed from the last request */
    size_t n_read;
} desk;

/* Adds ln p(target) to *ll; is any other token likelier? The first of equals counts as the likeliest. */
static lq_status weigh_token(const float *logits, size_t V, uint32_t target, double *ll,
                             bool *greedy)
{
    size_t best = 0;
    double sum = 0;
    for (size_t i = 0; i < V; i++) {
        if (!isfinite(logits[i]))
            return lq_fail(LQ_E_NUMERIC, "the logit of token %zu is not finite", i);
        best = logits[i] > logits[best] ? i : best;
    }
    const double top = (double)logits[best];
    for (size_t i = 0; i < V; i++)
        sum += exp((double)logits[i] - top);
    *ll += (double)logits[target] - top - log(sum);
    *greedy = *greedy && best == target;
    return LQ_OK;
}

/* Choices of a question begin alike: what the decoder has read of the one before stays. */
static lq_status weigh(desk *k, const request *r, double *ll, bool *greedy)
{
    const size_t first = r->n_ctx - 1, end = r->n_ctx + r->n_cont - 1;
    size_t same = 0;
    while (same < first && same < k->n_read && k->read[same] == r->id[same])
        same++;
    lq_decoder_rewind(k->d, 0, same);
    if (same < first)
        lq_decoder_prefill(k->w, k->d, 0, r->id + same, first - same, NULL);
    *ll = 0;
    *greedy = true;
    for (size_t at = first, n; at < end; at += n) {
        n = end - at < LQ_DECODER_READ ? end - at : LQ_DECODER_READ;
        lq_decoder_read(k->w, k->d, 0, r->id + at, n, k->logits);
        for (size_t i = 0; i < n; i++)
            LQ_TRY(weigh_token(k->logits + i * k->w->config.V, k->w->config.V, r->id[at + i + 1],
                               ll, greedy));
    }
    k->read = r->id;
    k->n_read = end;
    return LQ_OK;
}

/* request: all choices of all questions, one behind the other. */
static lq_status weigh_all(desk *k, const lq_questions *q, const request *r, lq_answers *out)
{
    lq_status status = LQ_OK;
    lq_progress progress = lq_progress_start(q->task->name, q->n, "question");
    for (size_t i = 0; status == LQ_OK && i < q->n; i++) {
        for (size_t c = 0; status == LQ_OK && c < q->question[i].n; c++)
            status = weigh(k, r++, &out->answer[i].ll[c], &out->answer[i].greedy[c]);
        lq_progress_update(&progress, i + 1, "%s", "");
        if (status == LQ_OK && lq_stop_asked())
            status = lq_fail(LQ_E_STOPPED, "%s: stopped after %zu of %zu questions", q->task->name,
                             i + 1, q->n);
    }
    lq_progress_end(&progress);
    return status;
}

static lq_status prepare(const lq_weights *w, const lq_encode *encode, const lq_questions *q,
                         lq_arena *arena, request **requests, size_t *longest, lq_answers *out)
{
    size_t n = 0, at = 0;
    *longest = 0;
    for (size_t i = 0; i < q->n; i++)
        n += q->question[i].n;
    LQ_TRY(lq_arena_new(arena, requests, n));
    LQ_TRY(lq_arena_new(arena, &out->answer, q->n));
    for (size_t i = 0; i < q->n; i++) {
        const lq_question *one = &q->question[i];
        LQ_TRY(lq_arena_new(arena, &out->answer[i].ll, one->n));
        LQ_TRY(lq_arena_new(arena, &out->answer[i].greedy, one->n));
        for (size_t c = 0; c < one->n; c++, at++) {
            request *r = &(*requests)[at];
            LQ_TRY(encode_pair(encode, one->context[c], one->continuation[c], arena, r));
            LQ_TRY(fit(&w->config, q, i, r, out));
            const size_t read = r->n_ctx + r->n_cont - 1;
            *longest = read > *longest ? read : *longest;
        }
    }
    return LQ_OK;
}

lq_status lq_choice_weigh(const lq_weights *w, const lq_encode *encode, const lq_questions *q,
                          lq_arena *arena, lq_answers *out)
{
    request *requests;
    size_t longest;
    lq_arena own = {0};
    desk k = {.w = w};
    *out = (lq_answers){.n_tokens = 0};
    LQ_TRY(prepare(w, encode, q, arena, &requests, &longest, out));
    lq_status status = lq_decoder_new(&w->config, 1, longest, &own, &k.d);
    if (status == LQ_OK)
        status = lq_arena_new(&own, &k.logits, LQ_DECODER_READ * w->config.V);
    if (status == LQ_OK)
        status = weigh_all(&k, q, requests, out);
    lq_arena_close(&own);
    return status;
}

/* ---- What it comes to ---------------------------------------------------------------------------- */

size_t lq_choice_best(const lq_question *q, const lq_answer *a, bool normed)
{
    size_t best = 0;
    double most = (double)-INFINITY;
    for (size_t i = 0; i < q->n; i++) {
        const double value = !normed             ? a->ll[i]
                             : q->length[i] == 0 ? (double)-INFINITY
                                                 : a->ll[i] / (double)q->length[i];
        if (value > most) {
            most = value;
            best = i;
        }
    }
    return best;
}

/* Of the mean of n values, by their sum and sum of squares. */
static double error_of_mean(double sum, double squares, size_t n)
{
    const double count = (double)n, mean = sum / count;
    const double left = squares - count * mean * mean;
    return n > 1 ? sqrt((left > 0 ? left : 0) / (count - 1) / count) : (double)NAN;
}

void lq_choice_conclude(const lq_questions *q, const lq_answers *answers, lq_choice_result *out)
{
    double right = 0, normed = 0, sum = 0, squares = 0;
    for (size_t i = 0; i < q->n; i++) {
        const lq_question *one = &q->question[i];
        const lq_answer *a = &answers->answer[i];
        right += q->task->last_word ? a->greedy[0] : lq_choice_best(one, a, false) == one->gold;
        normed += lq_choice_best(one, a, true) == one->gold;
        sum += a->ll[0];
        squares += a->ll[0] * a->ll[0];
    }
    const double n = (double)q->n;
    *out = (lq_choice_result){
        .n = q->n,
        .acc = right / n,
        .acc_error = error_of_mean(right, right, q->n),
        .acc_norm = q->task->normed ? normed / n : (double)NAN,
        .acc_norm_error = q->task->normed ? error_of_mean(normed, normed, q->n) : (double)NAN,
        .perplexity = (double)NAN,
        .perplexity_error = (double)NAN};
    if (q->task->last_word) {
        out->perplexity = exp(-sum / n);
        out->perplexity_error = out->perplexity * error_of_mean(sum, squares, q->n);
    }
}
