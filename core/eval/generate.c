#include "core/eval/generate.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/model/decode.h"

#include <math.h>
#include <stdlib.h>

/* ---- One token --------------------------------------------------------------------------------- */

typedef struct candidate {
    double p; /* not normalized */
    uint32_t id;
} candidate;

static int by_probability(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t draw(const candidate *c, size_t n, double sum, lq_rng *rng)
{
    double left = lq_rng_uniform(rng) * sum;
    for (size_t i = 0; i + 1 < n; i++) {
        left -= c[i].p;
        if (left < 0)
            return c[i].id;
    }
    return c[n - 1].id;
}

/* The fewest tokens that hold the share top_p, one at least. What comes after the likeliest (p = 1) and is
 * less likely than an equal part of the rest cannot be among them and is not sorted. */
static size_t nucleus(candidate *c, size_t V, double top_p, double *sum)
{
    const double least = V > 1 ? (1 - top_p) * *sum / (double)(V - 1) : 0, share = top_p * *sum;
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < V; i++)
        if (c[i].p >= least || c[i].p >= 1)
            c[n++] = c[i];
    qsort(c, n, sizeof *c, by_probability);
    *sum = 0;
    while (kept < n && (kept == 0 || *sum < share))
        *sum += c[kept++].p;
    return kept;
}

lq_status lq_sample(const float *logits, size_t V, const lq_sampling *how, lq_rng *rng,
                    lq_arena *scratch, uint32_t *out)
{
    uint32_t best = 0;
    for (size_t i = 0; i < V; i++) {
        if (!isfinite(logits[i]))
            return lq_fail(LQ_E_NUMERIC, "the logit of token %zu is not finite", i);
        best = logits[i] > logits[best] ? (uint32_t)i : best;
    }
    *out = best;
    if (how->temperature <= 0)
        return LQ_OK;
    const lq_mark mark = lq_arena_mark(scratch);
    candidate *c = lq_arena_alloc(scratch, V * sizeof *c);
    if (c == NULL)
        return lq_fail(LQ_E_MEMORY, "sampling: out of memory");
    double sum = 0;
    for (size_t i = 0; i < V; i++) {
        c[i].p = exp(((double)logits[i] - (double)logits[best]) / how->temperature);
        c[i].id = (uint32_t)i;
        sum += c[i].p;
    }
    const size_t n = how->top_p < 1 ? nucleus(c, V, how->top_p, &sum) : V;
    *out = draw(c, n, sum, rng);
    lq_arena_release(scratch, mark);
    return LQ_OK;
}

static bool is_among(const uint32_t *list, size_t n, uint32_t id)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == id)
            return true;
    return false;
}

/* ---- One text ---------------------------------------------------------------------------------- */

static lq_status check_tokens(const lq_weights *w, const char *what, const uint32_t *token,
                              size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (token[i] >= w->config.V)
            return lq_fail(LQ_E_OPTION,
                           "generate: token %u of the %s is outside the vocabulary %zu",
                           (unsigned)token[i], what, w->config.V);
    return LQ_OK;
}

static lq_status generate(const lq_weights *w, const uint32_t *prompt, size_t n_prompt,
                          const lq_generate_how *how, lq_rng *rng, lq_on_token on_token,
                          void *context, lq_arena *arena, lq_generated *out)
{
    const uint32_t sequence = 0;
    lq_decoder *d;
    float *logits;
    LQ_TRY(lq_decoder_new(&w->config, 1, n_prompt + how->n, arena, &d));
    LQ_TRY(lq_arena_new(arena, &logits, w->config.V));
    double started = lq_clock_wall_s();
    lq_decoder_prefill(w, d, 0, prompt, n_prompt, logits);
    out->prefill_s = lq_clock_wall_s() - started;
    started = lq_clock_wall_s();
    while (out->n < how->n) {
        uint32_t token;
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "generate: stopped after %zu tokens", out->n);
        LQ_TRY(lq_sample(logits, w->config.V, &how->sampling, rng, arena, &token));
        out->ended = is_among(how->stop, how->n_stop, token);
        if (out->ended)
            break;
        LQ_TRY(on_token(context, token));
        if (++out->n < how->n)
            lq_decoder_step(w, d, 1, &sequence, &token, logits);
        out->decode_s = lq_clock_wall_s() - started;
    }
    return LQ_OK;
}

lq_status lq_generate(const lq_weights *w, const uint32_t *prompt, size_t n_prompt,
                      const lq_generate_how *how, lq_rng *rng, lq_on_token on_token, void *context,
                      lq_generated *out)
{
    const size_t most = w->config.max_positions;
    *out = (lq_generated){.n_prompt = n_prompt};
    if (n_prompt == 0)
        return lq_fail(LQ_E_OPTION, "generate: the prompt has no tokens");
    if (n_prompt > most || how->n > most - n_prompt)
        return lq_fail(LQ_E_OPTION,
                       "generate: %zu tokens of prompt and %zu new ones are more than the "
                       "model's %zu positions",
                       n_prompt, how->n, most);
    LQ_TRY(check_tokens(w, "prompt", prompt, n_prompt));
    lq_arena arena = {0};
    lq_status status = generate(w, prompt, n_prompt, how, rng, on_token, context, &arena, out);
    lq_arena_close(&arena);
    return status;
}

/* ---- Many texts -------------------------------------------------------------------------------- */

typedef struct flock { /* the sequences at hand, all at the same position */
    const lq_weights *w;
    const lq_generate_tokens_how *how;
    lq_decoder *d;
    lq_rng *rng;   /* (at_once) */
    size_t *age;   /* (at_once) tokens of the text so far */
    float **after; /* (at_once) logits after its last token; NULL at the start of a text */
    uint32_t *row; /* (at_once) the sequence of each row that is fed */
    uint32_t *fed; /* (at_once) and its token */
    float *logits; /* (at_once,V) of the rows */
    lq_arena *arena;
} flock;

static lq_status flock_new(flock *f, lq_arena *arena)
{
    const size_t n = f->how->at_once;
    f->arena = arena;
    LQ_TRY(lq_decoder_new(&f->w->config, n, f->how->T, arena, &f->d));
    LQ_TRY(lq_arena_new(arena, &f->rng, n));
    LQ_TRY(lq_arena_new(arena, &f->age, n));
    LQ_TRY(lq_arena_new(arena, &f->after, n));
    LQ_TRY(lq_arena_new(arena, &f->row, n));
    LQ_TRY(lq_arena_new(arena, &f->fed, n));
    return lq_arena_new(arena, &f->logits, n * f->w->config.V);
}

static lq_status next_token(flock *f, size_t b, uint32_t *out)
{
    const lq_generate_tokens_how *how = f->how;
    const size_t age = f->age[b], given = how->n_start > 0 ? how->n_start : 1;
    const lq_sampling greedy = {0};
    if (age >= given)
        return lq_sample(f->after[b], f->w->config.V,
                         age < given + how->n_greedy ? &greedy : &how->sampling, &f->rng[b],
                         f->arena, out);
    *out = how->n_start > 0 ? how->start[age] : (uint32_t)lq_rng_below(&f->rng[b], f->w->config.V);
    return LQ_OK;
}

static void begin_text(flock *f, size_t b)
{
    f->age[b] = 0;
    f->after[b] = NULL;
    lq_decoder_reset(f->d, b);
}

/* Token t of n sequences, each into token[b T + t]; then the model reads them. */
static lq_status advance(flock *f, size_t n, size_t t, uint32_t *token)
{
    const lq_generate_tokens_how *how = f->how;
    size_t fed = 0;
    for (size_t b = 0; b < n; b++) {
        uint32_t *out = &token[b * how->T + t];
        LQ_TRY(next_token(f, b, out));
        if (++f->age[b] > how->n_start && is_among(how->stop, how->n_stop, *out)) {
            begin_text(f, b);
            continue;
        }
        f->row[fed] = (uint32_t)b;
        f->fed[fed++] = *out;
    }
    if (fed > 0 && t + 1 < how->T)
        lq_decoder_step(f->w, f->d, fed, f->row, f->fed, f->logits);
    for (size_t r = 0; r < fed; r++)
        f->after[f->row[r]] = f->logits + r * f->w->config.V;
    return LQ_OK;
}

static lq_status fill(flock *f, const lq_rng *rng, size_t n_sequences, uint32_t *token)
{
    const size_t T = f->how->T;
    lq_progress progress = lq_progress_start("generating", n_sequences * T, "token");
    for (size_t first = 0; first < n_sequences; first += f->how->at_once) {
        const size_t left = n_sequences - first,
                     n = left < f->how->at_once ? left : f->how->at_once;
        for (size_t b = 0; b < n; b++) {
            f->rng[b] = lq_rng_split(rng, "sequence", first + b);
            begin_text(f, b);
        }
        for (size_t t = 0; t < T; t++) {
            if (lq_stop_asked())
                return lq_fail(LQ_E_STOPPED, "generation stopped at sequence %zu of %zu", first,
                               n_sequences);
            LQ_TRY(advance(f, n, t, token + first * T));
            lq_progress_update(&progress, first * T + n * (t + 1), "%s", "");
        }
    }
    lq_progress_end(&progress);
    return LQ_OK;
}

lq_status lq_generate_tokens(const lq_weights *w, const lq_generate_tokens_how *how,
                             const lq_rng *rng, size_t n_sequences, uint32_t *token)
{
    LQ_ASSERT(how->at_once > 0 && how->T > 0);
    if (how->T > w->config.max_positions)
        return lq_fail(LQ_E_OPTION,
                       "generate: sequences of %zu tokens, the model has %zu positions", how->T,
                       w->config.max_positions);
    LQ_TRY(check_tokens(w, "start", how->start, how->n_start));
    lq_arena arena = {0};
    flock f = {.w = w, .how = how};
    lq_status status = flock_new(&f, &arena);
    if (status == LQ_OK)
        status = fill(&f, rng, n_sequences, token);
    lq_arena_close(&arena);
    return status;
}
