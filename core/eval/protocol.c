#include "core/eval/protocol.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/data/documents.h"
#include "core/eval/pyrandom.h"

#include <stdlib.h>
#include <string.h>

/* --- documents in memory ---------------------------------------------------------------------- */

typedef struct shelf { /* all documents, one behind the other, a NUL after each */
    char *text;
    size_t bytes, room;
    size_t *start; /* (n + 1) */
    size_t n, n_room;
} shelf;

static lq_status put(void *self, const char *text, size_t bytes)
{
    shelf *s = self;
    if (s->n + 2 > s->n_room) {
        const size_t room = 2 * s->n_room + 1024;
        size_t *start = realloc(s->start, room * sizeof *start);
        if (start == NULL)
            return lq_fail(LQ_E_MEMORY, "out of memory for %zu documents", room);
        s->start = start;
        s->n_room = room;
    }
    if (s->bytes + bytes + 1 > s->room) {
        const size_t room = 2 * (s->bytes + bytes + 1);
        char *larger = realloc(s->text, room);
        if (larger == NULL)
            return lq_fail(LQ_E_MEMORY, "out of memory for %zu bytes of documents", room);
        s->text = larger;
        s->room = room;
    }
    s->start[s->n++] = s->bytes;
    memcpy(s->text + s->bytes, text, bytes);
    s->text[s->bytes + bytes] = '\0';
    s->bytes += bytes + 1;
    s->start[s->n] = s->bytes;
    return LQ_OK;
}

static void clear(shelf *s)
{
    free(s->text);
    free(s->start);
}

/* --- c4-crop ---------------------------------------------------------------------------------- */

typedef struct draw {
    const shelf *docs;
    const lq_encode *encode;
    size_t T;
    lq_pyrandom random;
    uint32_t *length; /* (docs) tokens of each; UINT32_MAX: not counted yet */
    size_t n_short;   /* documents known to be too short */
    lq_arena scratch;
} draw;

static lq_status tokens_of(draw *d, size_t i, uint32_t **ids, size_t *n)
{
    const shelf *s = d->docs;
    LQ_TRY(d->encode->run(d->encode->self, s->text + s->start[i], s->start[i + 1] - s->start[i] - 1,
                          &d->scratch, ids, n));
    if (d->length[i] == UINT32_MAX) {
        d->length[i] = *n < UINT32_MAX ? (uint32_t)*n : UINT32_MAX - 1;
        d->n_short += *n < d->T;
    }
    return LQ_OK;
}

/* One crop of T tokens to `out`. */
static lq_status draw_crop(draw *d, uint32_t *out)
{
    for (;;) {
        uint32_t *ids;
        size_t n;
        if (lq_stop_asked())
            return lq_fail(LQ_E_STOPPED, "c4-crop: stopped");
        if (d->n_short == d->docs->n)
            return lq_fail(LQ_E_SHAPE, "c4-crop: no document has %zu tokens", d->T);
        const size_t i = lq_pyrandom_int(&d->random, 0, d->docs->n - 1);
        if (d->length[i] != UINT32_MAX && d->length[i] < d->T)
            continue; /* drawn before: no need to tokenize it again */
        const lq_mark mark = lq_arena_mark(&d->scratch);
        LQ_TRY(tokens_of(d, i, &ids, &n));
        const bool long_enough = n >= d->T;
        if (long_enough) {
            const size_t from = n > d->T ? lq_pyrandom_int(&d->random, 0, n - d->T - 1) : 0;
            memcpy(out, ids + from, d->T * sizeof *out);
        }
        lq_arena_release(&d->scratch, mark);
        if (long_enough)
            return LQ_OK;
    }
}

static lq_status draw_all(draw *d, uint32_t *out)
{
    lq_progress progress = lq_progress_start("c4-crop", LQ_C4_WINDOWS, "crop");
    lq_status status = LQ_OK;
    for (size_t k = 0; status == LQ_OK && k < LQ_C4_WINDOWS; k++) {
        status = draw_crop(d, out + k * d->T);
        lq_progress_update(&progress, k + 1, "%s", "");
    }
    lq_progress_end(&progress);
    return status;
}

lq_status lq_c4_crop(const char *path, size_t T, const lq_encode *encode, lq_arena *arena,
                     uint32_t **ids, size_t *n)
{
    shelf docs = {0};
    draw d = {.docs = &docs, .encode = encode, .T = T};
    lq_status status = lq_documents_each(path, LQ_FORM_JSONL, 0, &docs, put);
    if (status == LQ_OK && (docs.n == 0 || docs.n >= UINT32_MAX))
        status = lq_fail(LQ_E_FORMAT, "%s: %zu documents", path, docs.n);
    if (status == LQ_OK)
        status = lq_arena_new(&d.scratch, &d.length, docs.n);
    if (status == LQ_OK)
        status = lq_arena_new(arena, ids, LQ_C4_WINDOWS * T);
    if (status == LQ_OK) {
        memset(d.length, 0xff, docs.n * sizeof *d.length);
        lq_pyrandom_seed(&d.random, 0);
        *n = LQ_C4_WINDOWS * T;
        status = draw_all(&d, *ids);
    }
    lq_arena_close(&d.scratch);
    clear(&docs);
    return status;
}

/* --- c4-new ----------------------------------------------------------------------------------- */

lq_status lq_c4_new(const char *path, size_t T, const lq_encode *encode, lq_arena *arena,
                    uint32_t **ids, size_t *n)
{
    shelf docs = {0};
    lq_status status = lq_documents_each(path, LQ_FORM_JSONL, LQ_C4_NEW_DOCUMENTS, &docs, put);
    if (status == LQ_OK && docs.n == 0)
        status = lq_fail(LQ_E_FORMAT, "%s: no documents", path);
    if (status == LQ_OK) {
        for (size_t i = 1; i < docs.n; i++)
            docs.text[docs.start[i] - 1] = ' '; /* where the NUL of the one before was */
        status = encode->run(encode->self, docs.text, docs.bytes - 1, arena, ids, n);
    }
    if (status == LQ_OK && *n > LQ_C4_WINDOWS * T)
        *n = LQ_C4_WINDOWS * T;
    clear(&docs);
    return status;
}
