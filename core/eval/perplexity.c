#include "core/eval/perplexity.h"

#include "core/base/clock.h"
#include "core/base/log.h"

#include <math.h>
#include <string.h>

enum { WINDOWS_AT_ONCE = 8 }; /* a lane's batch, at short windows; tokens at once stay below 4096 */

typedef struct job {
    const lq_weights *w;
    const lq_windows *in;
    lq_perplexity *out;
    double *squares; /* (n_windows) mean of nats squared */
    size_t batch,
        skip; /* windows at once; positions of a window whose next token is not predicted */
} job;

typedef struct desk { /* of one lane */
    lq_lane *lane;
    uint32_t *tokens, *targets; /* (batch, T) */
    float *nll;                 /* (batch, T) */
} desk;

/* Windows [first, first + n) of one lane. */
static void run_windows(const job *j, desk *d, size_t first, size_t n)
{
    const size_t T = j->in->T, n_predicted = T - 1 - j->skip;
    const uint32_t *from = j->in->token + first * T;
    memcpy(d->tokens, from, n * T * sizeof *from);
    for (size_t b = 0; b < n; b++) {
        memcpy(d->targets + b * T, from + b * T + 1, (T - 1) * sizeof *from);
        d->targets[b * T + T - 1] = UINT32_MAX;
        for (size_t t = 0; t < j->skip; t++)
            d->targets[b * T + t] = UINT32_MAX;
        if (j->in->begin != UINT32_MAX)
            d->tokens[b * T] = j->in->begin;
    }
    lq_forward(j->w, d->lane, d->tokens, n);
    lq_loss(j->w, d->lane, d->targets, 0, NULL, d->nll);
    for (size_t b = 0; b < n; b++) {
        double sum = 0, squares = 0;
        for (size_t t = j->skip; t + 1 < T; t++) {
            const double nats = (double)d->nll[b * T + t];
            sum += nats;
            squares += nats * nats;
        }
        j->out->window_nats[first + b] = sum / (double)n_predicted;
        j->squares[first + b] = squares / (double)n_predicted;
    }
}

static lq_status set_desk(const job *j, lq_arena *arena, desk *d)
{
    const size_t N = j->batch * j->in->T;
    LQ_TRY(lq_lane_new(&j->w->config, j->batch, j->in->T, LQ_KEEP_NOTHING, arena, &d->lane));
    LQ_TRY(lq_arena_new(arena, &d->tokens, N));
    LQ_TRY(lq_arena_new(arena, &d->targets, N));
    return lq_arena_new(arena, &d->nll, N);
}

/* Every batch of windows is the same whatever thread takes it, so the result is, too. */
static lq_status run_all(const job *j)
{
    lq_status worst = LQ_OK;
    size_t done = 0;
    lq_progress progress = lq_progress_start("perplexity", j->out->n_windows, "window");
#pragma omp parallel
    {
        lq_arena own = {0};
        desk d = {0};
        lq_status status = set_desk(j, &own, &d);
#pragma omp for schedule(dynamic, 1)
        for (size_t at = 0; at < j->out->n_windows; at += j->batch) {
            const size_t left = j->out->n_windows - at;
            const size_t n = left < j->batch ? left : j->batch;
            if (status == LQ_OK && !lq_stop_asked())
                run_windows(j, &d, at, n);
#pragma omp critical(lq_perplexity)
            {
                done += n;
                lq_progress_update(&progress, done, "%s", "");
                worst = status != LQ_OK ? status : worst;
            }
        }
        lq_arena_close(&own);
    }
    lq_progress_end(&progress);
    if (worst == LQ_OK && lq_stop_asked())
        return lq_fail(LQ_E_STOPPED, "perplexity: stopped");
    return worst == LQ_OK ? LQ_OK : lq_fail(worst, "perplexity: out of memory");
}

/* Means over windows are means over tokens: each window predicts the same number. */
static lq_status conclude(const job *j)
{
    lq_perplexity *out = j->out;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < out->n_windows; i++) {
        sum += out->window_nats[i];
        squares += j->squares[i];
    }
    out->nats_per_token = sum / (double)out->n_windows;
    out->n_predicted = out->n_windows * (out->T - 1 - j->skip);
    out->ppl = exp(out->nats_per_token);
    const double variance =
        squares / (double)out->n_windows - out->nats_per_token * out->nats_per_token;
    if (variance > 0 && out->n_predicted > 1)
        out->nats_error = sqrt(variance / (double)(out->n_predicted - 1));
    if (!isfinite(out->ppl))
        return lq_fail(LQ_E_NUMERIC, "perplexity: not finite (%g nats per token)",
                       out->nats_per_token);
    return LQ_OK;
}

lq_status lq_perplexity_windows(const lq_weights *w, const lq_windows *in, lq_arena *arena,
                                lq_perplexity *out)
{
    const size_t T = in->T;
    memset(out, 0, sizeof *out);
    out->T = T;
    job j = {.w = w, .in = in, .out = out, .skip = in->context > 1 ? in->context - 1 : 0};
    if (T < 2 || in->n < T)
        return lq_fail(LQ_E_SHAPE, "perplexity: %zu tokens do not fill a window of %zu", in->n, T);
    if (j.skip + 1 >= T)
        return lq_fail(LQ_E_SHAPE, "perplexity: a window of %zu of which %zu are read only", T,
                       in->context);
    out->n_windows = in->n / T;
    if (in->limit > 0 && out->n_windows > in->limit)
        out->n_windows = in->limit;
    for (size_t i = 0; i < out->n_windows * T; i++)
        if (in->token[i] >= w->config.V)
            return lq_fail(LQ_E_OPTION, "perplexity: token %u at %zu is outside the vocabulary %zu",
                           (unsigned)in->token[i], i, w->config.V);
    if (in->begin != UINT32_MAX && in->begin >= w->config.V)
        return lq_fail(LQ_E_OPTION, "perplexity: the first token %u is outside the vocabulary %zu",
                       (unsigned)in->begin, w->config.V);
    LQ_TRY(lq_arena_new(arena, &out->window_nats, out->n_windows));
    LQ_TRY(lq_arena_new(arena, &j.squares, out->n_windows));
    j.batch = T >= 4096 / WINDOWS_AT_ONCE ? (4096 / T > 0 ? 4096 / T : 1) : WINDOWS_AT_ONCE;
    LQ_TRY(run_all(&j));
    return conclude(&j);
}

lq_status lq_perplexity_of(const lq_weights *w, const uint32_t *token, size_t n, size_t T,
                           size_t limit, lq_arena *arena, lq_perplexity *out)
{
    const lq_windows all = {.token = token, .n = n, .T = T, .limit = limit, .begin = UINT32_MAX};
    return lq_perplexity_windows(w, &all, arena, out);
}
