/* Text to ids: pieces come from the splitter, their ids from the model or from the pieces met before. */
#include "core/text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

/* Pieces up to this length are looked up before they are merged. */
enum { LONGEST_CACHED = 64, CACHE_FIRST = 64, CACHE_LARGEST = 1 << 20, CHUNK = 1 << 18 };

/* A piece met before: its text and its ids are kept beside the table. */
typedef struct met {
    size_t text, ids;      /* where */
    uint32_t bytes, n_ids; /* bytes 0: free */
} met;
typedef struct id_list { /* grown with realloc */
    uint32_t *id;
    size_t n, room;
} id_list;

struct lq_encoder {
    const lq_tokenizer *tok;
    unsigned flags;
    lq_splitter *splitter;
    lq_bpe_work work;
    id_list out;
    met *cache; /* open addressing, at most half full */
    size_t n_cached, cache_mask;
    lq_buffer met_text;
    id_list met_ids;
    lq_buffer pending,
        spare; /* text that waits; its first `done` bytes went through the first steps */
    size_t done, fresh, chunk;
    bool begun, taken;
};

static lq_status reserve(id_list *list, size_t more)
{
    if (more <= list->room - list->n)
        return LQ_OK;
    size_t room = list->room;
    while (more > room - list->n)
        room = room ? 2 * room : 1024;
    uint32_t *grown =
        room <= SIZE_MAX / sizeof *grown ? realloc(list->id, room * sizeof *grown) : NULL;
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "no memory for %zu token ids", room);
    list->id = grown;
    list->room = room;
    return LQ_OK;
}

static lq_status add_ids(id_list *list, const uint32_t *ids, size_t n)
{
    LQ_TRY(reserve(list, n));
    if (n > 0)
        memcpy(list->id + list->n, ids, n * sizeof *ids);
    list->n += n;
    return LQ_OK;
}

/* --- pieces met before ------------------------------------------------------------------------ */

static met *met_at(const lq_encoder *e, met *cache, size_t mask, const char *text, size_t bytes)
{
    size_t i = (size_t)lq_bpe_hash(text, bytes) & mask;
    while (cache[i].bytes != 0 &&
           (cache[i].bytes != bytes || memcmp(e->met_text.data + cache[i].text, text, bytes) != 0))
        i = (i + 1) & mask;
    return &cache[i];
}

static lq_status grow_cache(lq_encoder *e, size_t size)
{
    met *grown = calloc(size, sizeof *grown);
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "no memory to tokenize");
    for (size_t i = 0; e->cache && i <= e->cache_mask; i++)
        if (e->cache[i].bytes != 0)
            *met_at(e, grown, size - 1, e->met_text.data + e->cache[i].text, e->cache[i].bytes) =
                e->cache[i];
    free(e->cache);
    e->cache = grown;
    e->cache_mask = size - 1;
    return LQ_OK;
}

static lq_status remember(lq_encoder *e, const char *text, size_t bytes, const uint32_t *ids,
                          size_t n)
{
    if (2 * (e->n_cached + 1) > e->cache_mask) {
        if (e->cache_mask + 1 >= CACHE_LARGEST)
            return LQ_OK; /* full: what is rarer than the first half million is merged anew */
        LQ_TRY(grow_cache(e, 4 * (e->cache_mask + 1)));
    }
    const met m = {e->met_text.n, e->met_ids.n, (uint32_t)bytes, (uint32_t)n};
    LQ_TRY(lq_buffer_add(&e->met_text, text, bytes));
    LQ_TRY(add_ids(&e->met_ids, ids, n));
    *met_at(e, e->cache, e->cache_mask, text, bytes) = m;
    e->n_cached++;
    return LQ_OK;
}

/* --- pieces ----------------------------------------------------------------------------------- */

static lq_status encode_piece(lq_encoder *e, const char *text, size_t bytes)
{
    LQ_TRY(reserve(&e->out, bytes));
    if (bytes <= LONGEST_CACHED) {
        const met *m = met_at(e, e->cache, e->cache_mask, text, bytes);
        if (m->bytes != 0)
            return add_ids(&e->out, e->met_ids.id + m->ids, m->n_ids);
    }
    uint32_t *ids = e->out.id + e->out.n;
    size_t n;
    LQ_TRY(lq_bpe_encode(&e->tok->bpe, &e->work, text, bytes, ids, &n));
    e->out.n += n;
    return bytes <= LONGEST_CACHED ? remember(e, text, bytes, ids, n) : LQ_OK;
}

/* A long piece, which without a pre-tokenizer is the whole document, is cut where no merge reaches
 * across: the parts repeat, the piece does not. */
static lq_status on_piece(void *self, const char *text, size_t bytes, const lq_added *added)
{
    lq_encoder *e = self;
    if (added)
        return add_ids(&e->out, &added->id, 1);
    while (bytes > LONGEST_CACHED) {
        size_t cut = lq_bpe_first_cut(&e->tok->bpe, text, bytes);
        if (cut == 0)
            break;
        LQ_TRY(encode_piece(e, text, cut));
        text += cut;
        bytes -= cut;
    }
    return encode_piece(e, text, bytes);
}

/* --- texts ------------------------------------------------------------------------------------ */

lq_status lq_encoder_open(const lq_tokenizer *tok, unsigned flags, lq_encoder **out)
{
    lq_encoder *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return lq_fail(LQ_E_MEMORY, "no memory to tokenize");
    *e = (lq_encoder){.tok = tok, .flags = flags, .chunk = CHUNK};
    lq_status status =
        lq_splitter_open(&tok->pieces, flags & LQ_ENCODE_PLAIN, on_piece, e, &e->splitter);
    if (status == LQ_OK)
        status = grow_cache(e, CACHE_FIRST);
    if (status == LQ_OK)
        *out = e;
    else
        lq_encoder_close(e);
    return status;
}

void lq_encoder_close(lq_encoder *encoder)
{
    if (!encoder)
        return;
    lq_splitter_close(encoder->splitter);
    lq_bpe_work_free(&encoder->work);
    lq_buffer_free(&encoder->met_text);
    lq_buffer_free(&encoder->pending);
    lq_buffer_free(&encoder->spare);
    free(encoder->met_ids.id);
    free(encoder->out.id);
    free(encoder->cache);
    free(encoder);
}

void lq_encoder_set_chunk(lq_encoder *encoder, size_t bytes) { encoder->chunk = bytes; }

/* Splits the text; what is left waits for more. */
static lq_status work_on(lq_encoder *e, const char *text, size_t bytes, bool last)
{
    lq_rest rest;
    LQ_TRY(lq_splitter_feed(e->splitter, text, bytes, e->done, last, &rest));
    e->spare.n = 0; /* the rest may lie in e->pending */
    LQ_TRY(lq_buffer_add(&e->spare, rest.text, rest.bytes));
    LQ_TRY(lq_buffer_add(&e->spare, text + rest.from, bytes - rest.from));
    lq_buffer left = e->spare;
    e->spare = e->pending;
    e->pending = left;
    e->done = rest.bytes;
    e->fresh = 0;
    return LQ_OK;
}

lq_status lq_encoder_feed(lq_encoder *encoder, const char *text, size_t bytes, bool last)
{
    lq_encoder *e = encoder;
    const lq_template *around = &e->tok->around;
    if (e->taken)
        e->out.n = 0;
    e->taken = false;
    if (!e->begun && e->flags & LQ_ENCODE_SPECIAL)
        LQ_TRY(add_ids(&e->out, around->before, around->n_before));
    e->begun = true;
    if (e->pending.n == 0 && (last || bytes >= e->chunk)) {
        LQ_TRY(work_on(e, text, bytes, last));
    } else {
        LQ_TRY(lq_buffer_add(&e->pending, text, bytes));
        e->fresh += bytes;
        /* what waits is looked at again only when as much has come: a text without any place to cut
         * takes linear time */
        if (last || (e->fresh >= e->chunk && e->fresh >= e->pending.n / 2))
            LQ_TRY(work_on(e, e->pending.data ? e->pending.data : "", e->pending.n, last));
    }
    if (last && e->flags & LQ_ENCODE_SPECIAL)
        LQ_TRY(add_ids(&e->out, around->after, around->n_after));
    return LQ_OK;
}

const uint32_t *lq_encoder_take(lq_encoder *encoder, size_t *n)
{
    encoder->taken = true;
    *n = encoder->out.n;
    return encoder->out.id;
}

lq_status lq_tokenizer_encode_with(const lq_tokenizer *tok, const char *text, size_t bytes,
                                   unsigned flags, lq_arena *arena, uint32_t **ids, size_t *n)
{
    lq_encoder *e;
    *ids = NULL;
    *n = 0;
    LQ_TRY(lq_encoder_open(tok, flags, &e));
    lq_status status = lq_encoder_feed(e, text, bytes, true);
    if (status == LQ_OK)
        status = lq_arena_new(arena, ids, e->out.n);
    if (status == LQ_OK) {
        if (e->out.n > 0)
            memcpy(*ids, e->out.id, e->out.n * sizeof **ids);
        *n = e->out.n;
    }
    lq_encoder_close(e);
    return status;
}

lq_status lq_tokenizer_encode(const lq_tokenizer *tok, const char *text, size_t bytes,
                              lq_arena *arena, uint32_t **ids, size_t *n)
{
    return lq_tokenizer_encode_with(tok, text, bytes, 0, arena, ids, n);
}
