#include "core/eval/perplexity.h"

#include "core/base/clock.h"
#include "core/base/log.h"

#include <math.h>
#include <string.h>

enum { WINDOWS_AT_ONCE = 8 }; /* a lane's batch, at short windows; tokens at once stay below 4096 */

typedef struct job {
    const lq_weights *w;
    const uint32_t *token;
    lq_perplexity *out;
    size_t batch;
} job;

/* Windows [first, first + n) of one lane. */
static void run_windows(const job *j, lq_lane *lane, uint32_t *targets, float *nll, size_t first,
                        size_t n)
{
    const size_t T = j->out->T;
    const uint32_t *from = j->token + first * T;
    for (size_t b = 0; b < n; b++) {
        memcpy(targets + b * T, from + b * T + 1, (T - 1) * sizeof *targets);
        targets[b * T + T - 1] = UINT32_MAX;
    }
    lq_forward(j->w, lane, from, n);
    lq_loss(j->w, lane, targets, 0, NULL, nll);
    for (size_t b = 0; b < n; b++) {
        double sum = 0;
        for (size_t t = 0; t + 1 < T; t++)
            sum += (double)nll[b * T + t];
        j->out->window_nats[first + b] = sum / (double)(T - 1);
    }
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
        lq_lane *lane = NULL;
        uint32_t *targets = NULL;
        float *nll = NULL;
        lq_status status =
            lq_lane_new(&j->w->config, j->batch, j->out->T, LQ_KEEP_NOTHING, &own, &lane);
        if (status == LQ_OK)
            status = lq_arena_new(&own, &targets, j->batch * j->out->T);
        if (status == LQ_OK)
            status = lq_arena_new(&own, &nll, j->batch * j->out->T);
#pragma omp for schedule(dynamic, 1)
        for (size_t at = 0; at < j->out->n_windows; at += j->batch) {
            const size_t left = j->out->n_windows - at;
            const size_t n = left < j->batch ? left : j->batch;
            if (status == LQ_OK && !lq_stop_asked())
                run_windows(j, lane, targets, nll, at, n);
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

lq_status lq_perplexity_of(const lq_weights *w, const uint32_t *token, size_t n, size_t T,
                           size_t limit, lq_arena *arena, lq_perplexity *out)
{
    memset(out, 0, sizeof *out);
    out->T = T;
    if (T < 2 || n < T)
        return lq_fail(LQ_E_SHAPE, "perplexity: %zu tokens do not fill a window of %zu", n, T);
    out->n_windows = n / T;
    if (limit > 0 && out->n_windows > limit)
        out->n_windows = limit;
    for (size_t i = 0; i < out->n_windows * T; i++)
        if (token[i] >= w->config.V)
            return lq_fail(LQ_E_OPTION, "perplexity: token %u at %zu is outside the vocabulary %zu",
                           (unsigned)token[i], i, w->config.V);
    LQ_TRY(lq_arena_new(arena, &out->window_nats, out->n_windows));
    job j = {.w = w, .token = token, .out = out};
    j.batch = T >= 4096 / WINDOWS_AT_ONCE ? (4096 / T > 0 ? 4096 / T : 1) : WINDOWS_AT_ONCE;
    LQ_TRY(run_all(&j));
    double sum = 0;
    for (size_t i = 0; i < out->n_windows; i++)
        sum += out->window_nats[i];
    out->nats_per_token = sum / (double)out->n_windows;
    out->n_predicted = out->n_windows * (T - 1);
    out->ppl = exp(out->nats_per_token);
    if (!isfinite(out->ppl))
        return lq_fail(LQ_E_NUMERIC, "perplexity: not finite (%g nats per token)",
                       out->nats_per_token);
    return LQ_OK;
}
