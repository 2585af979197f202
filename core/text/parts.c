/* A tokenizer from its parts, as binary files hold them. */
#include "core/text/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct builder {
    const lq_tokenizer_parts *parts;
    lq_tokenizer *tok;
    lq_arena scratch;
} builder;

static lq_token_type type_of(const lq_tokenizer_parts *p, size_t id)
{
    return p->type ? (lq_token_type)p->type[id] : LQ_TOKEN_NORMAL;
}

/* --- what is around the model ----------------------------------------------------------------- */

#define STRIP(n) ",{\"type\":\"Strip\",\"content\":\" \",\"start\":" n ",\"stop\":0}"

/* SentencePiece's own normalizer as Hugging Face writes it, the prefix and the extra spaces as asked. */
static const char *sentencepiece(const lq_tokenizer_parts *p, lq_arena *arena)
{
    const char *strip = p->no_space_prefix ? "" : p->squeeze_spaces ? STRIP("1000000") : STRIP("1");
    return lq_arena_printf(
        arena,
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s%s"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]},"
        "\"pre_tokenizer\":null,\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},"
        "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]}}",
        p->squeeze_spaces ? "{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
                            "\"\\\\A +|[ \xE2\x96\x81]+\\\\z| +(?= )\"},\"content\":\"\"},"
                          : "",
        p->no_space_prefix ? "" : "{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},", strip);
}

static lq_status read_components(builder *b, const char *json)
{
    lq_json *root;
    LQ_TRY(lq_json_parse(json, strlen(json), b->parts->where, &root));
    lq_status status = lq_components_read(b->tok, root, b->parts->where);
    lq_json_free(root);
    return status;
}

static lq_status set_family(builder *b)
{
    const char *pre = b->parts->pre && *b->parts->pre ? b->parts->pre : "default";
    if (b->parts->kind == LQ_PARTS_SCORES)
        return read_components(b, sentencepiece(b->parts, &b->scratch));
    const lq_family *family = lq_family_find(pre);
    if (!family)
        return lq_fail(LQ_E_FORMAT,
                       "%s: pre-tokenizer \"%.60s\" is not supported; give the tokenizer.json of "
                       "the model",
                       b->parts->where, pre);
    LQ_TRY(read_components(b, family->components));
    b->tok->bpe.ignore_merges = family->ignore_merges || b->parts->kind == LQ_PARTS_RANKS;
    return LQ_OK;
}

/* --- tokens ----------------------------------------------------------------------------------- */

/* The byte of "<0x0A>", -1: it is none. */
static int byte_of(const lq_bytes *token)
{
    static const char digits[] = "0123456789ABCDEF";
    if (token->bytes != 6 || memcmp(token->text, "<0x", 3) != 0 || token->text[5] != '>')
        return -1;
    const char *high = memchr(digits, token->text[3], 16);
    const char *low = memchr(digits, token->text[4], 16);
    return high && low ? (int)(16 * (high - digits) + (low - digits)) : -1;
}

/* An added token is found, and decodes to, what the file spells. SentencePiece looks for the tokens of
 * its user in the normalized text, where a space is U+2581. */
static lq_status set_added(builder *b, uint32_t id, bool special)
{
    lq_tokenizer *tok = b->tok;
    lq_added *added = &tok->added[tok->n_added++];
    const lq_bytes *t = &b->parts->token[id];
    *added = (lq_added){.bytes = t->bytes, .id = id, .special = special};
    added->normalized = added->verbatim = !special && b->parts->kind == LQ_PARTS_SCORES;
    return lq_tokenizer_keep(tok, t->text, t->bytes, &added->text);
}

static lq_status set_token(builder *b, uint32_t id)
{
    const lq_tokenizer_parts *p = b->parts;
    lq_tokenizer *tok = b->tok;
    const lq_bytes *t = &p->token[id];
    const lq_token_type type = type_of(p, id);
    const char *text;
    size_t bytes = t->bytes;
    if (!t->text || t->bytes == 0)
        return LQ_OK;
    bool mergeable = type == LQ_TOKEN_NORMAL || type == LQ_TOKEN_USER;
    LQ_TRY(lq_tokenizer_keep(tok, t->text, t->bytes, &text));
    if (mergeable && p->kind == LQ_PARTS_MERGES) {
        char *plain;
        LQ_TRY(lq_arena_new(&tok->arena, &plain, bytes + 1));
        mergeable = lq_byte_string(text, t->bytes, plain, &bytes) && bytes > 0;
        text = mergeable ? plain : text;
        bytes = mergeable ? bytes : t->bytes;
    }
    lq_bpe_set_token(&tok->bpe, id, text, bytes, mergeable);
    if (type == LQ_TOKEN_BYTE && !p->no_byte_fallback) {
        int byte = byte_of(t);
        if (byte < 0)
            return lq_fail(LQ_E_FORMAT, "%s: byte token %u is \"%.*s\"", p->where, id,
                           (int)(t->bytes > 20 ? 20 : t->bytes), t->text);
        tok->bpe.fallback[byte] = id;
        tok->bpe.byte_fallback = true;
    }
    if (type == LQ_TOKEN_UNKNOWN && p->kind == LQ_PARTS_SCORES)
        tok->bpe.unknown = id;
    if (type == LQ_TOKEN_CONTROL || type == LQ_TOKEN_UNKNOWN || type == LQ_TOKEN_USER)
        LQ_TRY(set_added(b, id, type != LQ_TOKEN_USER));
    return LQ_OK;
}

/* --- merges ----------------------------------------------------------------------------------- */

typedef struct scored {
    float score;
    uint32_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Equal scores are equal ranks: of such pairs the leftmost is merged first. */
static lq_status rank_by_score(builder *b, uint32_t *rank)
{
    const lq_tokenizer_parts *p = b->parts;
    scored *list;
    size_t n = 0;
    LQ_TRY(lq_arena_new(&b->scratch, &list, p->n));
    for (uint32_t id = 0; id < p->n; id++) {
        lq_token_type type = type_of(p, id);
        if (type != LQ_TOKEN_NORMAL && type != LQ_TOKEN_USER)
            continue;
        if (!(p->score[id] == p->score[id])) /* NaN has no place in an order */
            return lq_fail(LQ_E_FORMAT, "%s: the score of token %u is no number", p->where, id);
        list[n++] = (scored){p->score[id], id};
    }
    if (n > 0)
        qsort(list, n, sizeof *list, by_score);
    for (size_t i = 0, r = 0; i < n; i++) {
        r += i > 0 && list[i].score != list[i - 1].score;
        rank[list[i].id] = (uint32_t)r;
    }
    return LQ_OK;
}

static lq_status set_merges(builder *b)
{
    const lq_tokenizer_parts *p = b->parts;
    if (p->kind == LQ_PARTS_MERGES) {
        for (size_t i = 0; i < p->n_merges; i++) {
            lq_bytes left, right;
            if (!lq_merge_halves(p->merge[i].text, p->merge[i].bytes, &left, &right))
                return lq_fail(LQ_E_FORMAT, "%s: merge %zu is no pair of tokens", p->where, i);
            LQ_TRY(lq_tokenizer_set_merge(b->tok, left, right, i, p->where));
        }
        return LQ_OK;
    }
    uint32_t *rank;
    LQ_TRY(lq_arena_new(&b->scratch, &rank, p->n));
    for (uint32_t id = 0; id < p->n; id++)
        rank[id] = p->kind == LQ_PARTS_RANKS && type_of(p, id) == LQ_TOKEN_NORMAL ? id : LQ_NO_ID;
    if (p->kind == LQ_PARTS_SCORES)
        LQ_TRY(rank_by_score(b, rank));
    return lq_bpe_merge_all(&b->tok->bpe, rank, p->where, &b->tok->arena);
}

/* --- all together ----------------------------------------------------------------------------- */

static lq_status set_ends(builder *b)
{
    const lq_tokenizer_parts *p = b->parts;
    lq_template *t = &b->tok->around;
    if ((p->add_bos && (p->bos >= p->n || !p->token[p->bos].text)) ||
        (p->add_eos && (p->eos >= p->n || !p->token[p->eos].text)))
        return lq_fail(LQ_E_FORMAT, "%s: the beginning-of-text or end-of-text token is not there",
                       p->where);
    if (p->add_bos)
        t->before[t->n_before++] = p->bos;
    if (p->add_eos)
        t->after[t->n_after++] = p->eos;
    if (p->eos < p->n && p->token[p->eos].text)
        b->tok->end_of_text = p->eos;
    return LQ_OK;
}

static void add_number(lq_sha256 *sha, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)number);
    lq_sha256_add(sha, text, strlen(text));
}

static void add_texts(lq_sha256 *sha, const lq_bytes *list, size_t n)
{
    add_number(sha, n);
    for (size_t i = 0; i < n; i++) {
        add_number(sha, list[i].bytes);
        lq_sha256_add(sha, list[i].text ? list[i].text : "", list[i].text ? list[i].bytes : 0);
    }
}

/* Of all that decides about ids. */
static lq_status digest(builder *b)
{
    const lq_tokenizer_parts *p = b->parts;
    lq_sha256 *sha;
    LQ_TRY(lq_sha256_open(&sha));
    add_number(sha, (uint64_t)p->kind);
    add_texts(sha, &(lq_bytes){p->pre ? p->pre : "", p->pre ? strlen(p->pre) : 0}, 1);
    add_texts(sha, p->token, p->n);
    add_texts(sha, p->merge, p->n_merges);
    for (size_t i = 0; i < p->n; i++)
        add_number(sha, type_of(p, i));
    if (p->score)
        lq_sha256_add(sha, p->score, p->n * sizeof *p->score);
    add_number(sha, p->add_bos + 2u * p->add_eos + 4u * p->no_space_prefix +
                        8u * p->squeeze_spaces + 16u * p->no_byte_fallback);
    add_number(sha, p->bos);
    add_number(sha, p->eos);
    lq_sha256_close(sha, &b->tok->digest);
    return LQ_OK;
}

static lq_status build(builder *b)
{
    const lq_tokenizer_parts *p = b->parts;
    lq_tokenizer *tok = b->tok;
    size_t n_merges = p->kind == LQ_PARTS_MERGES ? p->n_merges : 0;
    if (p->n == 0 || p->n - 1 > LQ_BPE_HIGHEST_ID || (p->kind == LQ_PARTS_SCORES && !p->score))
        return lq_fail(LQ_E_FORMAT, "%s: no tokens, more than %d, or none with a score", p->where,
                       LQ_BPE_HIGHEST_ID);
    if (n_merges > UINT32_MAX / 2)
        return lq_fail(LQ_E_FORMAT, "%s: %zu merges are too many", p->where, n_merges);
    LQ_TRY(lq_bpe_init(&tok->bpe, p->n, n_merges, &tok->arena));
    LQ_TRY(set_family(b));
    tok->bpe.characters = p->kind == LQ_PARTS_SCORES;
    tok->bpe.fuse_unknown = p->kind == LQ_PARTS_SCORES;
    LQ_TRY(lq_arena_new(&tok->arena, &tok->added, p->n));
    for (uint32_t id = 0; id < p->n; id++)
        LQ_TRY(set_token(b, id));
    LQ_TRY(set_merges(b));
    LQ_TRY(lq_bpe_allow_cuts(&tok->bpe, &tok->arena));
    LQ_TRY(set_ends(b));
    LQ_TRY(lq_tokenizer_index_added(tok));
    return digest(b);
}

lq_status lq_tokenizer_from_parts(const lq_tokenizer_parts *parts, lq_tokenizer **out)
{
    *out = NULL;
    lq_tokenizer *tok = calloc(1, sizeof *tok);
    if (!tok)
        return lq_fail(LQ_E_MEMORY, "%s: no memory", parts->where);
    tok->end_of_text = LQ_NO_ID;
    builder b = {.parts = parts, .tok = tok};
    lq_status status = build(&b);
    lq_arena_close(&b.scratch);
    if (status != LQ_OK)
        lq_tokenizer_free(tok);
    else
        *out = tok;
    return status;
}
