#include "core/text/pieces.h"

#include <stdlib.h>
#include <string.h>

struct lq_splitter {
    const lq_pieces *pieces;
    bool plain;
    lq_on_piece on_piece;
    void *self;
    lq_pattern_run *run;
    size_t n_whole;   /* steps that the stretch between two added tokens goes through as a whole */
    bool streams;     /* the text can be cut at all */
    bool begun;       /* pieces of what the normalizer sees as one text are out */
    bool piece_begun; /* pieces of what the pre-tokenizer sees as one text are out */
    bool text_begun;  /* pieces of this text are out */
    lq_buffer buffer[LQ_PIECE_STEPS + 1]; /* what each step wrote; the last joins */
};

/* A piece on its way through the steps. */
typedef struct piece {
    const char *text;
    size_t bytes;
    bool begun; /* it goes on from text that is gone */
    bool first; /* it is where the whole text begins */
} piece;

/* Steps under which a text may be cut before an ASCII character, its parts written one by one. */
static bool cuts_through(const lq_step *step)
{
    return step->kind != LQ_STEP_STRIP && (step->kind != LQ_STEP_REPLACE || step->one_character);
}

/* A text that comes in parts is possible when the steps before the first split are of that kind, the
 * split needs no text before the match, and no added token asks what is before it. */
static bool can_stream(const lq_splitter *s)
{
    const lq_pieces *p = s->pieces;
    for (size_t i = 0; i < s->n_whole; i++)
        if (!cuts_through(&p->step[i]))
            return false;
    if (p->raw.looks_back || p->normalized.looks_back)
        return false;
    if (s->n_whole == p->n_steps)
        return p->cut != NULL;
    return p->step[s->n_whole].kind == LQ_STEP_SPLIT &&
           !lq_pattern_looks_behind(p->step[s->n_whole].pattern);
}

lq_status lq_splitter_open(const lq_pieces *pieces, bool plain, lq_on_piece on_piece, void *self,
                           lq_splitter **out)
{
    lq_splitter *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return lq_fail(LQ_E_MEMORY, "no memory to cut a text");
    *s = (lq_splitter){.pieces = pieces, .plain = plain, .on_piece = on_piece, .self = self};
    s->n_whole = pieces->n_normal;
    while (pieces->normalized.n == 0 && s->n_whole < pieces->n_steps &&
           pieces->step[s->n_whole].kind != LQ_STEP_SPLIT)
        s->n_whole++;
    s->streams = can_stream(s);
    lq_status status = lq_pattern_run_open(&s->run);
    if (status != LQ_OK)
        free(s);
    else
        *out = s;
    return status;
}

void lq_splitter_close(lq_splitter *splitter)
{
    if (!splitter)
        return;
    for (size_t i = 0; i < sizeof splitter->buffer / sizeof *splitter->buffer; i++)
        lq_buffer_free(&splitter->buffer[i]);
    lq_pattern_run_close(splitter->run);
    free(splitter);
}

/* --- steps ------------------------------------------------------------------------------------ */

static bool prepends(const lq_step *step, const piece *p)
{
    if (p->bytes == 0 || p->begun)
        return false;
    if (step->when == LQ_WHEN_ALWAYS)
        return true;
    return (step->when == LQ_WHEN_MISSING || p->first) &&
           !(p->bytes >= step->content_bytes &&
             memcmp(p->text, step->content, step->content_bytes) == 0);
}

/* One rewriting step: the piece becomes what is in the step's buffer, or stays. */
static lq_status rewrite(lq_splitter *s, size_t k, piece *p)
{
    const lq_step *step = &s->pieces->step[k];
    lq_buffer *out = &s->buffer[k];
    if (step->kind == LQ_STEP_PREPEND && !prepends(step, p))
        return LQ_OK;
    out->n = 0;
    LQ_TRY(lq_step_rewrite(step, s->run, p->text, p->bytes, out));
    p->text = out->n > 0 ? out->data : "";
    p->bytes = out->n;
    return LQ_OK;
}

static lq_status apply(lq_splitter *s, size_t k, piece p, bool more, size_t *used);

static lq_status emit(lq_splitter *s, size_t k, const piece *whole, size_t from, size_t to)
{
    size_t used;
    if (from == to)
        return LQ_OK;
    return apply(s, k,
                 (piece){.text = whole->text + from,
                         .bytes = to - from,
                         .first = whole->first && !whole->begun && from == 0},
                 false, &used);
}

/* The pieces of a split: matches and what lies between them, in order, some of them joined. */
typedef struct cutter {
    lq_splitter *s;
    size_t k; /* the step after the split */
    const piece *whole;
    const lq_step *step;
    size_t from, to; /* the piece that may still grow; empty: none */
    bool is_match;   /* what was added last */
    bool lone;       /* it is one match and nothing else */
} cutter;

static lq_status flush(cutter *c)
{
    size_t from = c->from;
    c->from = c->to;
    return emit(c->s, c->k, c->whole, from, c->to);
}

static lq_status add(cutter *c, size_t from, size_t to, bool match)
{
    match ^= c->step->invert;
    if (c->step->behavior == LQ_SPLIT_ISOLATED)
        return emit(c->s, c->k, c->whole, from, to);
    if (c->step->behavior == LQ_SPLIT_REMOVED)
        return match ? LQ_OK : emit(c->s, c->k, c->whole, from, to);
    bool holds = c->to > c->from, joins = false;
    if (c->step->behavior == LQ_SPLIT_CONTIGUOUS)
        joins = match == c->is_match;
    else if (c->step->behavior == LQ_SPLIT_MERGED_WITH_PREVIOUS)
        joins = match && !c->is_match;
    else if (c->step->behavior == LQ_SPLIT_MERGED_WITH_NEXT)
        joins = !match && c->lone;
    if (!holds || !joins) {
        LQ_TRY(flush(c));
        c->from = from;
        c->lone = match;
    } else {
        c->lone = false;
    }
    c->to = to;
    c->is_match = match;
    return LQ_OK;
}

static lq_status split(lq_splitter *s, size_t k, const piece *p, bool more, size_t *used)
{
    const lq_step *step = &s->pieces->step[k];
    cutter c = {.s = s, .k = k + 1, .whole = p, .step = step};
    lq_match m = {0};
    size_t at = 0;
    for (;; at = m.end) {
        LQ_TRY(lq_pattern_next(step->pattern, s->run, p->text, p->bytes, more, &m));
        if (m.kind != LQ_MATCH_FOUND)
            break;
        if (m.start > at)
            LQ_TRY(add(&c, at, m.start, false));
        LQ_TRY(add(&c, m.start, m.end, true));
    }
    if (more) { /* what comes may begin before the end of what there is, and join the last piece */
        *used = c.to > c.from ? c.from : at;
        return LQ_OK;
    }
    *used = p->bytes;
    if (at < p->bytes)
        LQ_TRY(add(&c, at, p->bytes, false));
    return flush(&c);
}

/* Steps k, k + 1, ... for a piece. `more`: it goes on, and step k is a split or the end; *used bytes of
 * it are done with then. */
static lq_status apply(lq_splitter *s, size_t k, piece p, bool more, size_t *used)
{
    *used = p.bytes;
    for (; k < s->pieces->n_steps && p.bytes > 0; k++) {
        if (s->pieces->step[k].kind == LQ_STEP_SPLIT)
            return split(s, k, &p, more, used);
        LQ_TRY(rewrite(s, k, &p));
    }
    if (more)
        *used = p.bytes = p.bytes > 0 ? s->pieces->cut(s->pieces->model, p.text, p.bytes) : 0;
    return p.bytes > 0 ? s->on_piece(s->self, p.text, p.bytes, NULL) : LQ_OK;
}

/* --- a stretch between two added tokens ------------------------------------------------------- */

static lq_status on_added(lq_splitter *s, const char *text, const lq_added_match *m)
{
    s->piece_begun = false;
    s->text_begun = true;
    return s->on_piece(s->self, text + m->start, m->end - m->start, m->token);
}

/* Normalized text: looks for the added tokens of such text, and applies the other steps to the rest. */
static lq_status split_normalized(lq_splitter *s, const char *text, size_t bytes, bool more,
                                  size_t *used)
{
    const size_t k = s->n_whole;
    for (size_t from = 0;;) {
        lq_added_match m;
        lq_added_find(&s->pieces->normalized, text, bytes, from, from, more, s->plain, &m);
        size_t to = m.token ? m.start : m.end, done = 0;
        piece p = {text + from, to > from ? to - from : 0, s->piece_begun, !s->text_begun};
        if (p.bytes > 0)
            LQ_TRY(apply(s, k, p, more && !m.token, &done));
        *used = from + done;
        if (done > 0)
            s->begun = s->piece_begun = s->text_begun = true;
        if (!m.token)
            return LQ_OK;
        LQ_TRY(on_added(s, text, &m));
        s->begun = true; /* what follows is not normalized again */
        *used = from = m.end;
    }
}

/* Where a text that goes on may be cut: before its last ASCII character, which joins nothing. */
static size_t safe_end(const char *text, size_t bytes)
{
    while (bytes > 0 && (unsigned char)text[bytes - 1] >= 0x80)
        bytes--;
    return bytes > 0 ? bytes - 1 : 0;
}

/* Valid UTF-8, of which the first `done` bytes are through the steps of the whole already. */
static lq_status stretch(lq_splitter *s, const char *text, size_t bytes, size_t done, bool more,
                         lq_rest *rest)
{
    size_t end = bytes, used = 0;
    piece p = {text, bytes, s->begun, !s->text_begun};
    if (s->n_whole > 0) {
        end = more ? safe_end(text, bytes) : bytes;
        end = end < done ? done : end;
        p = (piece){text + done, end - done, s->begun || done > 0, !s->text_begun && done == 0};
        for (size_t k = 0; k < s->n_whole; k++)
            LQ_TRY(rewrite(s, k, &p));
        if (done > 0) {
            lq_buffer *joined = &s->buffer[LQ_PIECE_STEPS];
            joined->n = 0;
            LQ_TRY(lq_buffer_add(joined, text, done));
            LQ_TRY(lq_buffer_add(joined, p.text, p.bytes));
            p.text = joined->data;
            p.bytes = joined->n;
        }
    }
    if (p.bytes > 0)
        LQ_TRY(split_normalized(s, p.text, p.bytes, more, &used));
    if (more)
        *rest = (lq_rest){.text = p.text + used, .bytes = p.bytes - used, .from = end};
    return LQ_OK;
}

/* Where the bytes that are no UTF-8 end, of those that begin at `at`. */
static size_t broken_end(const char *text, size_t at, size_t bytes)
{
    uint32_t code;
    while (at < bytes && lq_utf8_next(text + at, bytes - at, &code) == 0)
        at++;
    return at;
}

/* Text between added tokens, of any bytes. rest->from counts from `text`. */
static lq_status split_text(lq_splitter *s, const char *text, size_t bytes, size_t done, bool more,
                            lq_rest *rest)
{
    for (size_t at = 0; at < bytes || (more && at == bytes); done = 0) {
        size_t end = at + lq_utf8_prefix(text + at, bytes - at);
        bool open = more && (end == bytes || lq_utf8_begun(text + end, bytes - end));
        LQ_TRY(stretch(s, text + at, end - at, done, open, rest));
        if (open) {
            rest->from += at;
            return LQ_OK;
        }
        const size_t broken = broken_end(text, end, bytes);
        if (more && broken > end && broken == bytes) { /* it may go on */
            *rest = (lq_rest){.text = "", .from = end};
            return LQ_OK;
        }
        if (broken > end) {
            s->begun = s->piece_begun = s->text_begun = true;
            LQ_TRY(s->on_piece(s->self, text + end, broken - end, NULL));
        }
        at = broken;
    }
    return LQ_OK;
}

lq_status lq_splitter_feed(lq_splitter *splitter, const char *text, size_t bytes, size_t done,
                           bool last, lq_rest *rest)
{
    lq_splitter *s = splitter;
    *rest = (lq_rest){.text = "", .from = last ? bytes : 0};
    if (!last && !s->streams)
        return LQ_OK;
    for (size_t from = 0;;) {
        lq_added_match m;
        size_t search = from > done ? from : done;
        lq_added_find(&s->pieces->raw, text, bytes, search, search, !last, s->plain, &m);
        size_t to = m.token ? m.start : m.end;
        bool more = !last && !m.token;
        LQ_TRY(split_text(s, text + from, to - from, from == 0 ? done : 0, more, rest));
        if (more)
            rest->from += from;
        if (!m.token)
            return LQ_OK;
        LQ_TRY(on_added(s, text, &m));
        s->begun = false;
        from = m.end;
    }
}

lq_status lq_pieces_normalize(const lq_pieces *pieces, const char *text, size_t bytes,
                              lq_buffer *out)
{
    lq_splitter *s;
    LQ_TRY(lq_splitter_open(pieces, false, NULL, NULL, &s));
    lq_status status = LQ_OK;
    piece p = {.text = text, .bytes = bytes, .first = true};
    for (size_t k = 0; status == LQ_OK && k < pieces->n_normal; k++)
        status = rewrite(s, k, &p);
    if (status == LQ_OK)
        status = lq_buffer_add(out, p.text, p.bytes);
    lq_splitter_close(s);
    return status;
}
