#include "core/text/tokenizer.h"

#include "core/base/file.h"
#include "core/text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

void lq_tokenizer_free(lq_tokenizer *tok)
{
    if (!tok)
        return;
    for (size_t i = 0; i < tok->pieces.n_steps; i++)
        lq_pattern_close(tok->pieces.step[i].pattern);
    for (size_t i = 0; i < tok->decoder.n; i++)
        lq_pattern_close(tok->decoder.op[i].pattern);
    lq_arena_close(&tok->arena);
    free(tok);
}

lq_status lq_tokenizer_keep(lq_tokenizer *tok, const char *text, size_t bytes, const char **out)
{
    char *copy;
    LQ_TRY(lq_arena_new(&tok->arena, &copy, bytes + 1));
    memcpy(copy, text, bytes);
    *out = copy;
    return LQ_OK;
}

lq_status lq_tokenizer_read(const char *path, lq_tokenizer **out)
{
    lq_arena scratch = {0};
    char *json;
    size_t bytes;
    lq_status status = lq_file_read(path, &scratch, &json, &bytes);
    if (status == LQ_OK)
        status = lq_tokenizer_parse(json, bytes, path, out);
    lq_arena_close(&scratch);
    return status;
}

lq_status lq_tokenizer_write(const lq_tokenizer *tok, const char *path)
{
    if (!tok->json)
        return lq_fail(
            LQ_E_UNAVAILABLE,
            "%s: this tokenizer comes from other files than a tokenizer.json; copy those", path);
    return lq_file_write_all(path, tok->json, tok->json_bytes);
}

size_t lq_tokenizer_vocab(const lq_tokenizer *tok) { return tok->bpe.n; }
uint32_t lq_tokenizer_end_of_text(const lq_tokenizer *tok) { return tok->end_of_text; }
const lq_digest *lq_tokenizer_digest(const lq_tokenizer *tok) { return &tok->digest; }

const uint32_t *lq_tokenizer_before(const lq_tokenizer *tok, size_t *n)
{
    *n = tok->around.n_before;
    return tok->around.before;
}

const uint32_t *lq_tokenizer_after(const lq_tokenizer *tok, size_t *n)
{
    *n = tok->around.n_after;
    return tok->around.after;
}

/* --- added tokens ----------------------------------------------------------------------------- */

/* The text of a token that is looked for in normalized text, itself normalized. */
static lq_status normalized_text(lq_tokenizer *tok, const lq_added *added, lq_added_entry *entry)
{
    lq_buffer text = {0};
    lq_status status = added->verbatim
                           ? lq_buffer_add(&text, added->text, added->bytes)
                           : lq_pieces_normalize(&tok->pieces, added->text, added->bytes, &text);
    if (status == LQ_OK)
        status = lq_tokenizer_keep(tok, text.n > 0 ? text.data : "", text.n, &entry->text);
    entry->bytes = text.n;
    entry->token = added;
    lq_buffer_free(&text);
    return status;
}

static void find_end_of_text(lq_tokenizer *tok)
{
    static const char *const ends[] = {LQ_END_OF_TEXT, "<|end_of_text|>", "</s>"};
    for (size_t e = 0; e < sizeof ends / sizeof *ends && tok->end_of_text == LQ_NO_ID; e++)
        for (size_t i = 0; i < tok->n_added; i++)
            if (strcmp(tok->added[i].text, ends[e]) == 0)
                tok->end_of_text = tok->added[i].id;
}

static size_t cut_piece(const void *model, const char *text, size_t bytes)
{
    return lq_bpe_last_cut(model, text, bytes);
}

lq_status lq_tokenizer_index_added(lq_tokenizer *tok)
{
    lq_added_set *raw = &tok->pieces.raw, *normalized = &tok->pieces.normalized;
    LQ_TRY(lq_arena_new(&tok->arena, &raw->entry, tok->n_added));
    LQ_TRY(lq_arena_new(&tok->arena, &normalized->entry, tok->n_added));
    LQ_TRY(lq_arena_new(&tok->arena, &tok->added_of, tok->bpe.n));
    for (size_t i = 0; i < tok->n_added; i++) {
        lq_added *a = &tok->added[i];
        tok->added_of[a->id] = a;
        a->shown = a->text;
        a->shown_bytes = a->bytes;
        if (!a->normalized) {
            raw->entry[raw->n++] = (lq_added_entry){a->text, a->bytes, a};
            continue;
        }
        lq_added_entry *entry = &normalized->entry[normalized->n];
        LQ_TRY(normalized_text(tok, a, entry));
        a->shown = entry->text; /* "_<s>" of Llama takes a space and gives it back */
        a->shown_bytes = entry->bytes;
        normalized->n += entry->bytes > 0;
    }
    LQ_TRY(lq_added_index(raw, &tok->arena));
    LQ_TRY(lq_added_index(normalized, &tok->arena));
    find_end_of_text(tok);
    if (tok->bpe.joins) {
        tok->pieces.cut = cut_piece;
        tok->pieces.model = &tok->bpe;
    }
    return LQ_OK;
}

/* --- decoding --------------------------------------------------------------------------------- */

static lq_status check_ids(const lq_tokenizer *tok, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= tok->bpe.n || !tok->bpe.token[ids[i]].text)
            return lq_fail(LQ_E_OPTION, "token id %u is not in the vocabulary of %zu", ids[i],
                           tok->bpe.n);
    return LQ_OK;
}

static bool left_out(const lq_tokenizer *tok, uint32_t id, unsigned flags)
{
    return flags & LQ_DECODE_NO_SPECIAL && tok->added_of[id] && tok->added_of[id]->special;
}

/* The usual decoder of byte-level models: a token's text is its bytes, an added one's is itself. */
static lq_status join_bytes(const lq_tokenizer *tok, const uint32_t *ids, size_t n, unsigned flags,
                            lq_buffer *out)
{
    for (size_t i = 0; i < n; i++) {
        const lq_added *added = tok->added_of[ids[i]];
        const lq_bpe_token *t = &tok->bpe.token[ids[i]];
        if (!left_out(tok, ids[i], flags))
            LQ_TRY(lq_buffer_add(out, added ? added->shown : t->text,
                                 added ? added->shown_bytes : t->bytes));
    }
    if (!(flags & LQ_DECODE_REPLACE))
        return LQ_OK;
    lq_buffer clean = {0};
    lq_status status = lq_utf8_replace(out->data, out->n, &clean);
    lq_buffer_free(out);
    *out = clean;
    return status;
}

/* A token as the file spells it. */
static lq_status add_spelling(const lq_tokenizer *tok, uint32_t id, lq_strings *strings)
{
    static const lq_step alphabet = {.kind = LQ_STEP_ALPHABET};
    const lq_bpe_token *t = &tok->bpe.token[id];
    if (tok->added_of[id])
        return lq_strings_add(strings, tok->added_of[id]->shown, tok->added_of[id]->shown_bytes);
    if (!tok->byte_level || lq_bpe_find(&tok->bpe, t->text, t->bytes) != id)
        return lq_strings_add(strings, t->text, t->bytes);
    LQ_TRY(lq_step_rewrite(&alphabet, NULL, t->text, t->bytes, &strings->text));
    return lq_strings_add(strings, "", 0);
}

static lq_status decode(const lq_tokenizer *tok, const uint32_t *ids, size_t n, unsigned flags,
                        lq_buffer *out)
{
    lq_strings strings = {0};
    lq_status status = LQ_OK;
    if (tok->byte_level && tok->decoder.n == 1 && tok->decoder.op[0].kind == LQ_DECODE_BYTE_LEVEL)
        return join_bytes(tok, ids, n, flags, out);
    for (size_t i = 0; status == LQ_OK && i < n; i++)
        if (!left_out(tok, ids[i], flags))
            status = add_spelling(tok, ids[i], &strings);
    if (status == LQ_OK)
        status = lq_decoder_run(&tok->decoder, flags & LQ_DECODE_REPLACE, &strings);
    if (status == LQ_OK) {
        *out = strings.text;
        strings.text = (lq_buffer){0};
    }
    lq_strings_free(&strings);
    return status;
}

lq_status lq_tokenizer_decode_with(const lq_tokenizer *tok, const uint32_t *ids, size_t n,
                                   unsigned flags, lq_arena *arena, char **text, size_t *bytes)
{
    lq_buffer out = {0};
    LQ_TRY(check_ids(tok, ids, n));
    lq_status status = decode(tok, ids, n, flags, &out);
    if (status == LQ_OK)
        status = lq_arena_new(arena, text, out.n + 1);
    if (status == LQ_OK) {
        if (out.n > 0)
            memcpy(*text, out.data, out.n);
        *bytes = out.n;
    }
    lq_buffer_free(&out);
    return status;
}

lq_status lq_tokenizer_decode(const lq_tokenizer *tok, const uint32_t *ids, size_t n,
                              lq_arena *arena, char **text, size_t *bytes)
{
    return lq_tokenizer_decode_with(tok, ids, n, 0, arena, text, bytes);
}
