/* tokenizer.json of Hugging Face `tokenizers`: what we read of it, and how we write ours. Every component
 * that we do not know is refused by name, since leaving one out would give other ids without a word. */
#include "core/base/json.h"
#include "core/text/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the byte-level alphabet ------------------------------------------------------------------ */

static bool is_printable(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

/* A printable byte is its own character; the other 68, in order, are U+0100, U+0101, ... */
uint32_t lq_byte_character(unsigned char byte)
{
    uint32_t others = 0;
    if (is_printable(byte))
        return byte;
    for (unsigned b = 0; b < byte; b++)
        others += !is_printable(b);
    return 0x100 + others;
}

bool lq_byte_string(const char *text, size_t n, char *out, size_t *out_bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t k = 0;
    for (size_t i = 0; i < n; k++) {
        uint32_t c = s[i++];
        if (c >= 0x80) {
            if (c < 0xC2 || c > 0xC5 || i == n) /* U+0080 .. U+017F: two bytes */
                return false;
            c = (c & 0x1F) << 6 | (s[i++] & 0x3F);
        }
        if (c < 0x100 && !is_printable(c))
            return false;
        unsigned byte = c;
        uint32_t others = 0x100;
        for (byte = c < 0x100 ? c : 0; c >= 0x100 && byte < 256; byte++)
            if (!is_printable(byte) && others++ == c)
                break;
        if (byte == 256)
            return false;
        out[k] = (char)byte;
    }
    *out_bytes = k;
    return true;
}

/* --- reading ---------------------------------------------------------------------------------- */

typedef struct reader {
    lq_tokenizer *tok;
    const char *where;
    lq_arena scratch;
} reader;

static const char *type_of(const lq_json *node)
{
    const char *type = lq_json_string(lq_json_get(node, "type"));
    return type ? type : "(without a type)";
}

static bool is_null(const lq_json *node) { return !node || lq_json_type(node) == LQ_JSON_NULL; }

static bool is_type(const lq_json *node, const char *type)
{
    return strcmp(type_of(node), type) == 0;
}

static lq_status refuse(const reader *r, const char *role, const lq_json *node)
{
    return lq_fail(LQ_E_FORMAT, "%s: %s \"%s\" is not supported", r->where, role,
                   is_null(node) ? "null" : type_of(node));
}

static lq_status add_step(reader *r, const char *regex)
{
    lq_pieces *p = &r->tok->pieces;
    if (p->n_steps == LQ_PIECE_STEPS)
        return lq_fail(LQ_E_FORMAT, "%s: more than %d pre_tokenizers in a row", r->where,
                       LQ_PIECE_STEPS);
    LQ_TRY(lq_pattern_open(regex, r->where, &p->step[p->n_steps]));
    p->n_steps++;
    return LQ_OK;
}

static lq_status read_split(reader *r, const lq_json *node)
{
    const char *regex = lq_json_string(lq_json_get(lq_json_get(node, "pattern"), "Regex"));
    const char *behavior = lq_json_string(lq_json_get(node, "behavior"));
    if (!regex || !behavior || strcmp(behavior, "Isolated") != 0 ||
        lq_json_true(lq_json_get(node, "invert")))
        return lq_fail(LQ_E_FORMAT,
                       "%s: pre_tokenizer \"Split\" is supported with a Regex, isolated and not "
                       "inverted, only",
                       r->where);
    return add_step(r, regex);
}

/* ByteLevel comes last: what follows it would see bytes as characters. */
static lq_status read_byte_level(reader *r, const lq_json *node)
{
    const lq_json *use_regex = lq_json_get(node, "use_regex"); /* absent: true */
    if (lq_json_true(lq_json_get(node, "add_prefix_space")))
        return lq_fail(LQ_E_FORMAT,
                       "%s: pre_tokenizer \"ByteLevel\": add_prefix_space is not supported",
                       r->where);
    return is_null(use_regex) || lq_json_true(use_regex) ? add_step(r, LQ_PIECES_GPT2) : LQ_OK;
}

static lq_status read_pre_tokenizer(reader *r, const lq_json *node)
{
    const lq_json *list = is_type(node, "Sequence") ? lq_json_get(node, "pretokenizers") : NULL;
    const lq_json *one = list ? lq_json_first(list) : node;
    for (; one; one = list ? lq_json_next(one) : NULL) {
        bool last = !list || !lq_json_next(one);
        if (last && is_type(one, "ByteLevel"))
            return read_byte_level(r, one);
        if (last)
            break;
        if (is_type(one, "Split"))
            LQ_TRY(read_split(r, one));
        else if (is_type(one, "Digits")) /* the library's digits are \p{N}: Nd, Nl and No */
            LQ_TRY(add_step(r, lq_json_true(lq_json_get(one, "individual_digits")) ? "\\p{N}"
                                                                                   : "\\p{N}+"));
        else
            break;
    }
    return refuse(r, "pre_tokenizer", one ? one : node);
}

/* Everything around the model. The post-processor ByteLevel moves offsets and no ids. */
static lq_status read_components(reader *r, const lq_json *root)
{
    const lq_json *normalizer = lq_json_get(root, "normalizer");
    const lq_json *post = lq_json_get(root, "post_processor"),
                  *decoder = lq_json_get(root, "decoder");
    if (!is_null(normalizer))
        return refuse(r, "normalizer", normalizer);
    LQ_TRY(read_pre_tokenizer(r, lq_json_get(root, "pre_tokenizer")));
    if (!is_null(post) && !is_type(post, "ByteLevel"))
        return refuse(r, "post_processor", post);
    if (!is_type(decoder, "ByteLevel"))
        return refuse(r, "decoder", decoder);
    return LQ_OK;
}

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

/* A copy of the string that lives as long as the tokenizer. */
static lq_status keep(reader *r, const char *text, size_t bytes, const char **out)
{
    char *copy;
    LQ_TRY(lq_arena_new(&r->tok->arena, &copy, bytes + 1));
    memcpy(copy, text, bytes);
    *out = copy;
    return LQ_OK;
}

/* Vocabulary strings outside the byte-level alphabet stand for themselves and cannot be merged. */
static lq_status read_vocab(reader *r, const lq_json *vocab)
{
    lq_bpe *bpe = &r->tok->bpe;
    for (const lq_json *v = lq_json_first(vocab); v; v = lq_json_next(v)) {
        const char *key = lq_json_key(v), *text;
        size_t n = strlen(key), bytes = n;
        uint32_t id = 0;
        LQ_TRY(read_id(r, v, key, &id));
        if (bpe->token[id].text)
            return lq_fail(LQ_E_FORMAT, "%s: two entries of the vocabulary have the id %u",
                           r->where, id);
        char *plain;
        LQ_TRY(lq_arena_new(&r->tok->arena, &plain, n + 1));
        bool mapped = lq_byte_string(key, n, plain, &bytes);
        text = plain;
        if (!mapped) {
            bytes = n;
            LQ_TRY(keep(r, key, n, &text));
        }
        lq_bpe_set_token(bpe, id, text, bytes, mapped && bytes > 0);
    }
    return LQ_OK;
}

/* The two halves of "a b" or ["a", "b"], as strings of the file. */
static lq_status halves(const reader *r, const lq_json *node, size_t index, const char **left,
                        size_t *left_bytes, const char **right)
{
    const char *text = lq_json_string(node);
    const char *blank = text ? strchr(text, ' ') : NULL;
    if (blank && blank != text && blank[1] != '\0' && !strchr(blank + 1, ' ')) {
        *left = text;
        *left_bytes = (size_t)(blank - text);
        *right = blank + 1;
        return LQ_OK;
    }
    *left = lq_json_string(lq_json_at(node, 0));
    *right = lq_json_string(lq_json_at(node, 1));
    if (text || lq_json_count(node) != 2 || !*left || !*right)
        return lq_fail(LQ_E_FORMAT, "%s: merge %zu is no pair of tokens", r->where, index);
    *left_bytes = strlen(*left);
    return LQ_OK;
}

static lq_status read_merge(reader *r, const lq_json *node, size_t index)
{
    lq_bpe *bpe = &r->tok->bpe;
    const char *left, *right;
    size_t left_bytes = 0, a, b;
    LQ_TRY(halves(r, node, index, &left, &left_bytes, &right));
    lq_mark mark = lq_arena_mark(&r->scratch);
    char *joined;
    LQ_TRY(lq_arena_new(&r->scratch, &joined, left_bytes + strlen(right) + 1));
    bool mapped = lq_byte_string(left, left_bytes, joined, &a) &&
                  lq_byte_string(right, strlen(right), joined + a, &b);
    uint32_t ids[3] = {LQ_NO_ID, LQ_NO_ID, LQ_NO_ID};
    if (mapped) {
        ids[0] = lq_bpe_find(bpe, joined, a);
        ids[1] = lq_bpe_find(bpe, joined + a, b);
        ids[2] = lq_bpe_find(bpe, joined, a + b);
    }
    lq_arena_release(&r->scratch, mark);
    for (int i = 0; i < 3; i++)
        if (ids[i] == LQ_NO_ID)
            return lq_fail(LQ_E_FORMAT,
                           "%s: merge %zu (\"%.*s\" and \"%.60s\"): %s is not in the vocabulary",
                           r->where, index, (int)(left_bytes > 60 ? 60 : left_bytes), left, right,
                           i == 0   ? "the first"
                           : i == 1 ? "the second"
                                    : "what they make");
    lq_bpe_set_merge(bpe, ids[0], ids[1], (uint32_t)index, ids[2]);
    return LQ_OK;
}

static lq_status read_merges(reader *r, const lq_json *merges)
{
    size_t index = 0;
    for (const lq_json *m = lq_json_first(merges); m; m = lq_json_next(m), index++) {
        const char *text = lq_json_string(m);
        if (text && strncmp(text, "#version", 8) == 0)
            continue;
        LQ_TRY(read_merge(r, m, index));
    }
    return LQ_OK;
}

/* Options of the model under which ids would come out otherwise than we make them. */
static lq_status check_model(const reader *r, const lq_json *model)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (!is_type(model, "BPE"))
        return refuse(r, "model", model);
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
        lq_json_type(lq_json_get(model, "merges")) != LQ_JSON_ARRAY)
        return lq_fail(LQ_E_FORMAT, "%s: the model has no vocab or no merges", r->where);
    return LQ_OK;
}

/* Without a token for some byte the unknown token and the byte fallback would come into play. */
static lq_status check_bytes(const reader *r, const lq_json *model)
{
    bool fallback = lq_json_true(lq_json_get(model, "byte_fallback"));
    bool unknown = !is_null(lq_json_get(model, "unk_token"));
    for (size_t b = 0; b < 256 && (fallback || unknown); b++)
        if (r->tok->bpe.byte_id[b] == LQ_NO_ID)
            return lq_fail(LQ_E_FORMAT,
                           "%s: byte 0x%02zX has no token, and %s is not supported for it",
                           r->where, b, fallback ? "byte_fallback" : "unk_token");
    return LQ_OK;
}

static lq_status read_added_token(reader *r, const lq_json *node, lq_added *out)
{
    static const char *const flags[] = {"lstrip", "rstrip", "single_word"};
    lq_bpe *bpe = &r->tok->bpe;
    const char *text = lq_json_string(lq_json_get(node, "content"));
    if (!text || *text == '\0')
        return lq_fail(LQ_E_FORMAT, "%s: an added token without content", r->where);
    LQ_TRY(read_id(r, lq_json_get(node, "id"), text, &out->id));
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (lq_json_true(lq_json_get(node, flags[i])))
            return lq_fail(LQ_E_FORMAT, "%s: added token \"%.60s\": %s is not supported", r->where,
                           text, flags[i]);
    out->bytes = strlen(text);
    LQ_TRY(keep(r, text, out->bytes, &out->text));
    const lq_bpe_token *taken = &bpe->token[out->id];
    if (!taken->text) {
        lq_bpe_set_token(bpe, out->id, out->text, out->bytes, false);
        return LQ_OK;
    }
    char *plain;
    size_t bytes;
    LQ_TRY(lq_arena_new(&r->scratch, &plain, out->bytes + 1));
    bool same = taken->bytes == out->bytes && memcmp(taken->text, text, out->bytes) == 0;
    bool mapped = lq_byte_string(text, out->bytes, plain, &bytes) && taken->bytes == bytes &&
                  memcmp(taken->text, plain, bytes) == 0;
    if (!same && !mapped)
        return lq_fail(LQ_E_FORMAT, "%s: added token \"%.60s\" has the id %u of another token",
                       r->where, text, out->id);
    bpe->token[out->id] = (lq_bpe_token){out->text, out->bytes}; /* it decodes to itself */
    return LQ_OK;
}

static lq_status read_added(reader *r, const lq_json *added)
{
    static const char *const ends[] = {LQ_END_OF_TEXT, "<|end_of_text|>", "</s>"};
    lq_pieces *p = &r->tok->pieces;
    LQ_TRY(lq_arena_new(&r->tok->arena, &p->added, lq_json_count(added) + 1));
    for (const lq_json *a = lq_json_first(added); a; a = lq_json_next(a)) {
        LQ_TRY(read_added_token(r, a, &p->added[p->n_added]));
        p->n_added++;
    }
    lq_pieces_index(p);
    r->tok->end_of_text = LQ_NO_ID;
    for (size_t e = 0; e < sizeof ends / sizeof *ends && r->tok->end_of_text == LQ_NO_ID; e++)
        for (size_t i = 0; i < p->n_added; i++)
            if (strcmp(p->added[i].text, ends[e]) == 0)
                r->tok->end_of_text = p->added[i].id;
    return LQ_OK;
}

static lq_status read_root(reader *r, const lq_json *root)
{
    lq_tokenizer *tok = r->tok;
    const lq_json *model = lq_json_get(root, "model"), *added = lq_json_get(root, "added_tokens");
    size_t n_ids;
    LQ_TRY(check_model(r, model));
    LQ_TRY(read_components(r, root));
    const lq_json *vocab = lq_json_get(model, "vocab"), *merges = lq_json_get(model, "merges");
    LQ_TRY(highest_id(r, vocab, added, &n_ids));
    LQ_TRY(lq_bpe_init(&tok->bpe, n_ids, lq_json_count(merges), &tok->arena));
    tok->bpe.ignore_merges = lq_json_true(lq_json_get(model, "ignore_merges"));
    LQ_TRY(read_vocab(r, vocab));
    LQ_TRY(read_merges(r, merges));
    LQ_TRY(check_bytes(r, model));
    return read_added(r, added);
}

lq_status lq_tokenizer_parse(const char *json, size_t bytes, const char *where, lq_tokenizer **out)
{
    lq_json *root;
    *out = NULL;
    LQ_TRY(lq_json_parse(json, bytes, where, &root));
    lq_tokenizer *tok = calloc(1, sizeof *tok);
    reader r = {.tok = tok, .where = where};
    lq_status status = tok ? read_root(&r, root) : lq_fail(LQ_E_MEMORY, "%s: no memory", where);
    if (status == LQ_OK)
        status = keep(&r, json, bytes, &tok->json);
    if (status == LQ_OK) {
        tok->json_bytes = bytes;
        status = lq_sha256_of(json, bytes, &tok->digest);
    }
    lq_arena_close(&r.scratch);
    lq_json_free(root);
    if (status != LQ_OK) {
        lq_tokenizer_free(tok);
        return status;
    }
    *out = tok;
    return LQ_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

typedef struct writer {
    char *text;
    size_t n, room;
} writer;

static void put(writer *w, const char *text)
{
    size_t n = strlen(text);
    LQ_ASSERT(n <= w->room - w->n);
    memcpy(w->text + w->n, text, n);
    w->n += n;
}

/* A token in the byte-level alphabet, escaped for JSON. */
static void put_token(writer *w, const lq_bpe_token *t)
{
    for (size_t i = 0; i < t->bytes; i++) {
        uint32_t c = lq_byte_character((unsigned char)t->text[i]);
        char utf8[4] = {(char)c, '\0'};
        if (c == '"' || c == '\\')
            put(w, "\\");
        if (c >= 0x80) {
            utf8[0] = (char)(0xC0 | c >> 6);
            utf8[1] = (char)(0x80 | (c & 0x3F));
        }
        put(w, utf8);
    }
}

static const char head[] =
    "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  "
    "\"added_tokens\": [\n"
    "    {\"id\": 0, \"content\": \"" LQ_END_OF_TEXT
    "\", \"single_word\": false, \"lstrip\": false, "
    "\"rstrip\": false, \"normalized\": false, \"special\": true}\n  ],\n  \"normalizer\": null,\n"
    "  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": "
    "true, "
    "\"use_regex\": true},\n  \"post_processor\": null,\n"
    "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
    "\"use_regex\": true},\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
    "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
    "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n"
    "    \"ignore_merges\": false,\n    \"vocab\": {\n      \"" LQ_END_OF_TEXT "\": 0";

/* Merges are written in the old form, "a b", which every version of the library reads; no token holds
 * a blank in the byte-level alphabet. */
lq_status lq_tokenizer_compose(const lq_bpe *bpe, const uint64_t *merges, size_t n_merges,
                               lq_arena *arena, char **json, size_t *bytes)
{
    writer w = {.room = sizeof head + 64};
    for (size_t id = 0; id < bpe->n; id++)
        w.room +=
            2 * bpe->token[id].bytes + 32; /* a character is at most two bytes, escapes included */
    for (size_t i = 0; i < n_merges; i++)
        w.room +=
            2 * (bpe->token[merges[i] >> 32].bytes + bpe->token[merges[i] & UINT32_MAX].bytes) + 16;
    LQ_TRY(lq_arena_new(arena, &w.text, w.room + 1));
    put(&w, head);
    for (size_t id = 1; id < bpe->n; id++) {
        char number[24];
        snprintf(number, sizeof number, "\": %zu", id);
        put(&w, ",\n      \"");
        put_token(&w, &bpe->token[id]);
        put(&w, number);
    }
    put(&w, "\n    },\n    \"merges\": [");
    for (size_t i = 0; i < n_merges; i++) {
        put(&w, i ? ",\n      \"" : "\n      \"");
        put_token(&w, &bpe->token[merges[i] >> 32]);
        put(&w, " ");
        put_token(&w, &bpe->token[merges[i] & UINT32_MAX]);
        put(&w, "\"");
    }
    put(&w, n_merges ? "\n    ]\n  }\n}\n" : "]\n  }\n}\n");
    *json = w.text;
    *bytes = w.n;
    return LQ_OK;
}
