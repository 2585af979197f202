/* tokenizer.json of Hugging Face `tokenizers`: the model and the added tokens; what is around them is
 * read in tokenizer_components.c. */
#include "core/text/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    lq_tokenizer *tok;
    const char *where;
    const lq_bytes *merge; /* (n_merges); NULL: the model has them */
    size_t n_merges;
    lq_arena scratch;
} reader;

static bool is_null(const lq_json *node) { return !node || lq_json_type(node) == LQ_JSON_NULL; }

static lq_status read_id(const reader *r, const lq_json *node, const char *what, uint32_t *id)
{
    double value = lq_json_number(node);
    if (!(value >= 0 && value <= LQ_BPE_HIGHEST_ID) || value != (double)(uint32_t)value)
        return lq_fail(LQ_E_FORMAT, "%s: the id of \"%.60s\" is no whole number from 0 to %d",
                       r->where, what, LQ_BPE_HIGHEST_ID);
    *id = (uint32_t)value;
    return LQ_OK;
}

static lq_status highest_id(const reader *r, const lq_json *vocab, const lq_json *added, size_t *n)
{
    uint32_t id = 0, highest = 0;
    for (const lq_json *v = lq_json_first(vocab); v; v = lq_json_next(v)) {
        LQ_TRY(read_id(r, v, lq_json_key(v), &id));
        highest = id > highest ? id : highest;
    }
    for (const lq_json *a = lq_json_first(added); a; a = lq_json_next(a)) {
        LQ_TRY(read_id(r, lq_json_get(a, "id"), "an added token", &id));
        highest = id > highest ? id : highest;
    }
    *n = (size_t)highest + 1;
    return LQ_OK;
}

/* --- the model -------------------------------------------------------------------------------- */

/* Of a byte-level model, strings outside the alphabet stand for themselves and cannot be merged. */
static lq_status read_vocab(reader *r, const lq_json *vocab)
{
    lq_tokenizer *tok = r->tok;
    for (const lq_json *v = lq_json_first(vocab); v; v = lq_json_next(v)) {
        const char *key = lq_json_key(v), *text;
        size_t n = strlen(key), bytes = n;
        uint32_t id = 0;
        LQ_TRY(read_id(r, v, key, &id));
        if (tok->bpe.token[id].text)
            return lq_fail(LQ_E_FORMAT, "%s: two entries of the vocabulary have the id %u",
                           r->where, id);
        bool mergeable = true;
        LQ_TRY(lq_tokenizer_keep(tok, key, n, &text));
        if (tok->byte_level) {
            char *plain;
            LQ_TRY(lq_arena_new(&tok->arena, &plain, n + 1));
            mergeable = lq_byte_string(key, n, plain, &bytes);
            text = mergeable ? plain : text;
            bytes = mergeable ? bytes : n;
        }
        lq_bpe_set_token(&tok->bpe, id, text, bytes, mergeable && bytes > 0);
    }
    return LQ_OK;
}

bool lq_merge_halves(const char *text, size_t n, lq_bytes *left, lq_bytes *right)
{
    const char *blank = memchr(text, ' ', n);
    size_t a = blank ? (size_t)(blank - text) : n;
    if (a == 0 || a + 1 >= n || memchr(blank + 1, ' ', n - a - 1))
        return false;
    *left = (lq_bytes){text, a};
    *right = (lq_bytes){blank + 1, n - a - 1};
    return true;
}

lq_status lq_tokenizer_set_merge(lq_tokenizer *tok, lq_bytes left, lq_bytes right, size_t rank,
                                 const char *where)
{
    uint32_t ids[3] = {LQ_NO_ID, LQ_NO_ID, LQ_NO_ID};
    size_t a = left.bytes, b = right.bytes;
    lq_buffer joined = {0};
    lq_status status = lq_buffer_reserve(&joined, a + b + 1);
    if (status == LQ_OK) {
        bool plain = true;
        memcpy(joined.data, left.text, a);
        memcpy(joined.data + a, right.text, b);
        if (tok->byte_level)
            plain = lq_byte_string(left.text, left.bytes, joined.data, &a) &&
                    lq_byte_string(right.text, right.bytes, joined.data + a, &b);
        if (plain) {
            ids[0] = lq_bpe_find(&tok->bpe, joined.data, a);
            ids[1] = lq_bpe_find(&tok->bpe, joined.data + a, b);
            ids[2] = lq_bpe_find(&tok->bpe, joined.data, a + b);
        }
    }
    lq_buffer_free(&joined);
    LQ_TRY(status);
    for (int i = 0; i < 3; i++)
        if (ids[i] == LQ_NO_ID)
            return lq_fail(LQ_E_FORMAT,
                           "%s: merge %zu (\"%.*s\" and \"%.*s\"): %s is not in the vocabulary",
                           where, rank, (int)(left.bytes > 60 ? 60 : left.bytes), left.text,
                           (int)(right.bytes > 60 ? 60 : right.bytes), right.text,
                           i == 0   ? "the first"
                           : i == 1 ? "the second"
                                    : "what they make");
    lq_bpe_set_merge(&tok->bpe, ids[0], ids[1], (uint32_t)rank, ids[2]);
    return LQ_OK;
}

/* "a b", the old form, or ["a", "b"]. */
static lq_status read_merges(reader *r, const lq_json *merges)
{
    size_t index = 0;
    for (const lq_json *m = lq_json_first(merges); m; m = lq_json_next(m), index++) {
        const char *text = lq_json_string(m), *one = NULL, *other = NULL;
        lq_bytes left = {0}, right = {0};
        if (text && strncmp(text, "#version", 8) == 0)
            continue;
        if (!text && lq_json_count(m) == 2) {
            one = lq_json_string(lq_json_at(m, 0));
            other = lq_json_string(lq_json_at(m, 1));
        }
        if (one && other) {
            left = (lq_bytes){one, strlen(one)};
            right = (lq_bytes){other, strlen(other)};
        } else if (!text || !lq_merge_halves(text, strlen(text), &left, &right)) {
            return lq_fail(LQ_E_FORMAT, "%s: merge %zu is no pair of tokens", r->where, index);
        }
        LQ_TRY(lq_tokenizer_set_merge(r->tok, left, right, index, r->where));
    }
    return LQ_OK;
}

static lq_status read_merge_list(reader *r)
{
    for (size_t i = 0; i < r->n_merges; i++) {
        lq_bytes left, right;
        if (!lq_merge_halves(r->merge[i].text, r->merge[i].bytes, &left, &right))
            return lq_fail(LQ_E_FORMAT, "%s: merge %zu is no pair of tokens", r->where, i);
        LQ_TRY(lq_tokenizer_set_merge(r->tok, left, right, i, r->where));
    }
    return LQ_OK;
}

/* Options of the model under which ids would come out otherwise than we make them. */
static lq_status check_model(const reader *r, const lq_json *model)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = lq_json_string(lq_json_get(model, "type"));
    if (!type || strcmp(type, "BPE") != 0)
        return lq_fail(LQ_E_FORMAT, "%s: model \"%.60s\" is not supported", r->where,
                       type ? type : "(without a type)");
    if (lq_json_only_keys(model, r->where, "type", "dropout", "unk_token",
                          "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                          "byte_fallback", "ignore_merges", "vocab", "merges", NULL) != LQ_OK) {
        char note[512];
        snprintf(note, sizeof note, "%s", lq_status_note());
        return lq_fail(LQ_E_FORMAT, "%s", note);
    }
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        const lq_json *node = lq_json_get(model, empty[i]);
        const char *text = lq_json_string(node);
        if (!is_null(node) && !(text && *text == '\0'))
            return lq_fail(LQ_E_FORMAT, "%s: %s is not supported", r->where, empty[i]);
    }
    const lq_json *dropout = lq_json_get(model, "dropout");
    if (!is_null(dropout) && !(lq_json_number(dropout) == 0))
        return lq_fail(LQ_E_FORMAT, "%s: dropout is not supported", r->where);
    if (lq_json_type(lq_json_get(model, "vocab")) != LQ_JSON_OBJECT ||
        (!r->merge && lq_json_type(lq_json_get(model, "merges")) != LQ_JSON_ARRAY))
        return lq_fail(LQ_E_FORMAT, "%s: the model has no vocab or no merges", r->where);
    return LQ_OK;
}

/* What becomes of characters without a token. */
static lq_status read_unknown(reader *r, const lq_json *model)
{
    lq_bpe *bpe = &r->tok->bpe;
    const char *unknown = lq_json_string(lq_json_get(model, "unk_token"));
    const lq_json *id = unknown ? lq_json_get(lq_json_get(model, "vocab"), unknown) : NULL;
    bool total = true;
    bpe->fuse_unknown = lq_json_true(lq_json_get(model, "fuse_unk"));
    bpe->byte_fallback = lq_json_true(lq_json_get(model, "byte_fallback"));
    if (id)
        LQ_TRY(read_id(r, id, unknown, &bpe->unknown));
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        bpe->fallback[b] = lq_bpe_find(bpe, name, 6);
        total &= (r->tok->byte_level ? bpe->byte_id[b] : bpe->fallback[b]) != LQ_NO_ID;
    }
    if (r->tok->byte_level && bpe->byte_fallback && !total)
        return lq_fail(
            LQ_E_FORMAT,
            "%s: a byte has no token, and byte_fallback is not supported for a ByteLevel "
            "model",
            r->where);
    if (unknown && !id && !(total && (r->tok->byte_level || bpe->byte_fallback)))
        return lq_fail(LQ_E_FORMAT, "%s: unk_token \"%.60s\" is not in the vocabulary", r->where,
                       unknown);
    return LQ_OK;
}

/* --- added tokens ----------------------------------------------------------------------------- */

static lq_status place_added(reader *r, const lq_added *added)
{
    lq_bpe *bpe = &r->tok->bpe;
    const lq_bpe_token *taken = &bpe->token[added->id];
    if (!taken->text) {
        lq_bpe_set_token(bpe, added->id, added->text, added->bytes, false);
        return LQ_OK;
    }
    char *plain;
    size_t bytes;
    LQ_TRY(lq_arena_new(&r->scratch, &plain, added->bytes + 1));
    bool same = taken->bytes == added->bytes && memcmp(taken->text, added->text, added->bytes) == 0;
    bool mapped = r->tok->byte_level && lq_byte_string(added->text, added->bytes, plain, &bytes) &&
                  taken->bytes == bytes && memcmp(taken->text, plain, bytes) == 0;
    if (!same && !mapped)
        return lq_fail(LQ_E_FORMAT, "%s: added token \"%.60s\" has the id %u of another token",
                       r->where, added->text, added->id);
    return LQ_OK;
}

static lq_status read_added_token(reader *r, const lq_json *node, lq_added *out)
{
    const char *text = lq_json_string(lq_json_get(node, "content"));
    if (!text || *text == '\0')
        return lq_fail(LQ_E_FORMAT, "%s: an added token without content", r->where);
    LQ_TRY(read_id(r, lq_json_get(node, "id"), text, &out->id));
    out->bytes = strlen(text);
    LQ_TRY(lq_tokenizer_keep(r->tok, text, out->bytes, &out->text));
    out->special = lq_json_true(lq_json_get(node, "special"));
    out->normalized = lq_json_true(lq_json_get(node, "normalized"));
    out->single_word = lq_json_true(lq_json_get(node, "single_word"));
    out->lstrip = lq_json_true(lq_json_get(node, "lstrip"));
    out->rstrip = lq_json_true(lq_json_get(node, "rstrip"));
    return place_added(r, out);
}

static lq_status read_added(reader *r, const lq_json *list)
{
    lq_tokenizer *tok = r->tok;
    LQ_TRY(lq_arena_new(&tok->arena, &tok->added, lq_json_count(list)));
    for (const lq_json *a = lq_json_first(list); a; a = lq_json_next(a), tok->n_added++)
        LQ_TRY(read_added_token(r, a, &tok->added[tok->n_added]));
    return lq_tokenizer_index_added(tok);
}

static lq_status read_root(reader *r, const lq_json *root)
{
    lq_tokenizer *tok = r->tok;
    const lq_json *model = lq_json_get(root, "model"), *added = lq_json_get(root, "added_tokens");
    size_t n_ids;
    LQ_TRY(check_model(r, model));
    LQ_TRY(lq_components_read(tok, root, r->where));
    const lq_json *vocab = lq_json_get(model, "vocab"), *merges = lq_json_get(model, "merges");
    LQ_TRY(highest_id(r, vocab, added, &n_ids));
    LQ_TRY(
        lq_bpe_init(&tok->bpe, n_ids, r->merge ? r->n_merges : lq_json_count(merges), &tok->arena));
    tok->bpe.characters = !tok->byte_level;
    tok->bpe.ignore_merges = lq_json_true(lq_json_get(model, "ignore_merges"));
    LQ_TRY(read_vocab(r, vocab));
    LQ_TRY(r->merge ? read_merge_list(r) : read_merges(r, merges));
    LQ_TRY(read_unknown(r, model));
    LQ_TRY(lq_bpe_allow_cuts(&tok->bpe, &tok->arena));
    return read_added(r, added);
}

lq_status lq_tokenizer_from_json(const lq_json *root, const lq_bytes *merge, size_t n_merges,
                                 const char *where, lq_tokenizer **out)
{
    *out = NULL;
    lq_tokenizer *tok = calloc(1, sizeof *tok);
    if (!tok)
        return lq_fail(LQ_E_MEMORY, "%s: no memory", where);
    tok->end_of_text = LQ_NO_ID;
    reader r = {.tok = tok, .where = where, .merge = merge, .n_merges = n_merges};
    lq_status status = read_root(&r, root);
    lq_arena_close(&r.scratch);
    if (status != LQ_OK)
        lq_tokenizer_free(tok);
    else
        *out = tok;
    return status;
}

lq_status lq_tokenizer_parse(const char *json, size_t bytes, const char *where, lq_tokenizer **out)
{
    lq_json *root;
    lq_tokenizer *tok = NULL;
    *out = NULL;
    LQ_TRY(lq_json_parse(json, bytes, where, &root));
    lq_status status = lq_tokenizer_from_json(root, NULL, 0, where, &tok);
    lq_json_free(root);
    if (status == LQ_OK)
        status = lq_tokenizer_keep(tok, json, bytes, &tok->json);
    if (status == LQ_OK) {
        tok->json_bytes = bytes;
        status = lq_sha256_of(json, bytes, &tok->digest);
    }
    if (status != LQ_OK)
        lq_tokenizer_free(tok);
    else
        *out = tok;
    return status;
}
