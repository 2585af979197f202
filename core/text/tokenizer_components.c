/* The components of a tokenizer.json around its model. Every one that we do not know is refused by name,
 * since leaving one out would give other ids without a word. */
#include "core/text/tokenizer_parts.h"

#include <string.h>

#define PUNCTUATION "[\\p{P}$+<=>^`|~]" /* Unicode's P and ASCII's */

typedef struct reader {
    lq_tokenizer *tok;
    const char *where;
    bool alphabet; /* a step has turned bytes into the alphabet: the last one turns them back */
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

static lq_status lacks(const reader *r, const char *role, const lq_json *node, const char *what)
{
    return lq_fail(LQ_E_FORMAT, "%s: %s \"%s\": %s is not supported", r->where, role, type_of(node),
                   what);
}

/* A boolean that may be absent. */
static bool flag(const lq_json *node, const char *key, bool fallback)
{
    const lq_json *value = lq_json_get(node, key);
    return is_null(value) ? fallback : lq_json_true(value);
}

static lq_status new_step(reader *r, lq_step_kind kind, lq_step **out)
{
    lq_pieces *p = &r->tok->pieces;
    *out = &p->step[p->n_steps];
    if (p->n_steps + 1 >= LQ_PIECE_STEPS) /* one is kept for the way back from the alphabet */
        return lq_fail(LQ_E_FORMAT, "%s: more than %d normalizers and pre_tokenizers", r->where,
                       LQ_PIECE_STEPS);
    p->n_steps++;
    **out = (lq_step){.kind = kind};
    return LQ_OK;
}

static lq_status add_step(reader *r, lq_step_kind kind)
{
    lq_step *step;
    return new_step(r, kind, &step);
}

static lq_status keep_string(reader *r, const char *text, const char **out, size_t *bytes)
{
    *bytes = strlen(text);
    return lq_tokenizer_keep(r->tok, text, *bytes, out);
}

static lq_status add_split(reader *r, const char *regex, lq_behavior behavior, bool invert)
{
    lq_step *step;
    LQ_TRY(new_step(r, LQ_STEP_SPLIT, &step));
    step->behavior = behavior;
    step->invert = invert;
    return lq_pattern_open(regex, r->where, &step->pattern);
}

/* {"Regex": ...} or {"String": ...} into *out; a plain string too, as old files have it. */
static lq_status open_pattern(reader *r, const char *role, const lq_json *node, lq_pattern **out,
                              const char **literal)
{
    const lq_json *pattern = lq_json_get(node, "pattern");
    const char *regex = lq_json_string(lq_json_get(pattern, "Regex"));
    *literal = lq_json_string(lq_json_get(pattern, "String"));
    if (!*literal)
        *literal = lq_json_string(pattern);
    if (*literal && **literal != '\0')
        return lq_pattern_open_literal(*literal, strlen(*literal), r->where, out);
    return regex ? lq_pattern_open(regex, r->where, out) : lacks(r, role, node, "its pattern");
}

static lq_status add_replace(reader *r, const char *literal, const char *content)
{
    lq_step *step;
    LQ_TRY(new_step(r, LQ_STEP_REPLACE, &step));
    step->one_character = true;
    LQ_TRY(keep_string(r, content, &step->content, &step->content_bytes));
    return lq_pattern_open_literal(literal, strlen(literal), r->where, &step->pattern);
}

static lq_status add_prepend(reader *r, const char *content, lq_when when)
{
    lq_step *step;
    LQ_TRY(new_step(r, LQ_STEP_PREPEND, &step));
    step->when = when;
    return keep_string(r, content, &step->content, &step->content_bytes);
}

/* --- normalizers ------------------------------------------------------------------------------ */

static lq_status read_replace(reader *r, const lq_json *node)
{
    const char *content = lq_json_string(lq_json_get(node, "content")), *literal;
    lq_step *step;
    if (!content)
        return lacks(r, "normalizer", node, "its content");
    LQ_TRY(new_step(r, LQ_STEP_REPLACE, &step));
    LQ_TRY(keep_string(r, content, &step->content, &step->content_bytes));
    LQ_TRY(open_pattern(r, "normalizer", node, &step->pattern, &literal));
    step->one_character = literal && strlen(literal) == lq_utf8_length(literal);
    return LQ_OK;
}

static lq_status read_alphabet(reader *r, const char *role, const lq_json *node)
{
    if (r->tok->byte_level)
        return lacks(r, role, node, "a second one");
    r->tok->byte_level = true;
    return LQ_OK;
}

static lq_status read_normalizer(reader *r, const lq_json *node, int depth)
{
    static const struct {
        const char *type;
        lq_step_kind kind;
    } plain[] = {{"NFC", LQ_STEP_NFC},
                 {"NFD", LQ_STEP_NFD},
                 {"NFKC", LQ_STEP_NFKC},
                 {"NFKD", LQ_STEP_NFKD},
                 {"Lowercase", LQ_STEP_LOWERCASE},
                 {"StripAccents", LQ_STEP_STRIP_ACCENTS}};
    lq_step *step;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (is_type(node, plain[i].type))
            return add_step(r, plain[i].kind);
    if (is_type(node, "Replace"))
        return read_replace(r, node);
    if (is_type(node, "Prepend")) {
        const char *content = lq_json_string(lq_json_get(node, "prepend"));
        return content ? add_prepend(r, content, LQ_WHEN_ALWAYS)
                       : lacks(r, "normalizer", node, "its text");
    }
    if (is_type(node, "Strip")) {
        LQ_TRY(new_step(r, LQ_STEP_STRIP, &step));
        step->left = flag(node, "strip_left", true);
        step->right = flag(node, "strip_right", true);
        return LQ_OK;
    }
    if (is_type(node, "ByteLevel")) {
        r->alphabet = true;
        LQ_TRY(read_alphabet(r, "normalizer", node));
        return add_step(r, LQ_STEP_ALPHABET);
    }
    const lq_json *list = lq_json_get(node, "normalizers");
    if (!is_type(node, "Sequence") || lq_json_type(list) != LQ_JSON_ARRAY || depth > 4)
        return refuse(r, "normalizer", node);
    for (const lq_json *one = lq_json_first(list); one; one = lq_json_next(one))
        LQ_TRY(read_normalizer(r, one, depth + 1));
    return LQ_OK;
}

/* --- pre-tokenizers --------------------------------------------------------------------------- */

static lq_status read_behavior(reader *r, const lq_json *node, const char *fallback,
                               lq_behavior *out)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = lq_json_string(lq_json_get(node, "behavior"));
    if (!name)
        name = fallback ? fallback : "(none)";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (lq_behavior)i;
            return LQ_OK;
        }
    return lacks(r, "pre_tokenizer", node, name);
}

static lq_status read_split(reader *r, const lq_json *node)
{
    lq_step *step;
    const char *literal;
    LQ_TRY(new_step(r, LQ_STEP_SPLIT, &step));
    LQ_TRY(read_behavior(r, node, NULL, &step->behavior));
    step->invert = flag(node, "invert", false);
    return open_pattern(r, "pre_tokenizer", node, &step->pattern, &literal);
}

static lq_status read_byte_level(reader *r, const lq_json *node, bool last)
{
    LQ_TRY(read_alphabet(r, "pre_tokenizer", node));
    if (flag(node, "add_prefix_space", false))
        LQ_TRY(add_prepend(r, " ", LQ_WHEN_MISSING));
    if (flag(node, "use_regex", true))
        LQ_TRY(add_split(r, LQ_PIECES_GPT2, LQ_SPLIT_ISOLATED, false));
    if (last)
        return LQ_OK; /* the model takes the bytes as they are */
    r->alphabet = true;
    return add_step(r, LQ_STEP_ALPHABET);
}

static lq_status read_metaspace(reader *r, const lq_json *node)
{
    const char *mark = lq_json_string(lq_json_get(node, "replacement"));
    const char *scheme = lq_json_string(lq_json_get(node, "prepend_scheme"));
    if (!mark)
        mark = "\xE2\x96\x81";
    if (!scheme) /* the older key */
        scheme = flag(node, "add_prefix_space", true) ? "always" : "never";
    if (*mark == '\0' || strlen(mark) != lq_utf8_length(mark))
        return lacks(r, "pre_tokenizer", node, "a replacement that is no character");
    LQ_TRY(add_replace(r, " ", mark));
    if (strcmp(scheme, "always") == 0)
        LQ_TRY(add_prepend(r, mark, LQ_WHEN_MISSING));
    else if (strcmp(scheme, "first") == 0)
        LQ_TRY(add_prepend(r, mark, LQ_WHEN_MISSING_FIRST));
    else if (strcmp(scheme, "never") != 0)
        return lacks(r, "pre_tokenizer", node, scheme);
    if (!flag(node, "split", true))
        return LQ_OK;
    lq_step *step;
    LQ_TRY(new_step(r, LQ_STEP_SPLIT, &step));
    step->behavior = LQ_SPLIT_MERGED_WITH_NEXT;
    return lq_pattern_open_literal(mark, strlen(mark), r->where, &step->pattern);
}

static lq_status read_delimiter(reader *r, const lq_json *node)
{
    const char *delimiter = lq_json_string(lq_json_get(node, "delimiter"));
    lq_step *step;
    if (!delimiter || *delimiter == '\0')
        return lacks(r, "pre_tokenizer", node, "its delimiter");
    LQ_TRY(new_step(r, LQ_STEP_SPLIT, &step));
    step->behavior = LQ_SPLIT_REMOVED;
    return lq_pattern_open_literal(delimiter, strlen(delimiter), r->where, &step->pattern);
}

/* `last`: no pre-tokenizer follows. */
static lq_status read_pre_tokenizer(reader *r, const lq_json *node, bool last, int depth)
{
    lq_behavior behavior = LQ_SPLIT_ISOLATED;
    if (is_type(node, "ByteLevel"))
        return read_byte_level(r, node, last);
    if (is_type(node, "Split"))
        return read_split(r, node);
    if (is_type(node, "Digits")) /* the library's digits are \p{N}: Nd, Nl and No */
        return add_split(r, flag(node, "individual_digits", false) ? "\\p{N}" : "\\p{N}+",
                         LQ_SPLIT_ISOLATED, false);
    if (is_type(node, "Punctuation")) {
        LQ_TRY(read_behavior(r, node, "Isolated", &behavior));
        return add_split(r, PUNCTUATION, behavior, false);
    }
    if (is_type(node, "Metaspace"))
        return read_metaspace(r, node);
    if (is_type(node, "Whitespace"))
        return add_split(r,
                         "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]+|"
                         "[^\\s\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]+",
                         LQ_SPLIT_REMOVED, true);
    if (is_type(node, "WhitespaceSplit"))
        return add_split(r, "\\s", LQ_SPLIT_REMOVED, false);
    if (is_type(node, "CharDelimiterSplit"))
        return read_delimiter(r, node);
    const lq_json *list = lq_json_get(node, "pretokenizers");
    if (!is_type(node, "Sequence") || lq_json_type(list) != LQ_JSON_ARRAY || depth > 4)
        return refuse(r, "pre_tokenizer", node);
    for (const lq_json *one = lq_json_first(list); one; one = lq_json_next(one))
        LQ_TRY(read_pre_tokenizer(r, one, last && !lq_json_next(one), depth + 1));
    return LQ_OK;
}

/* --- post-processors -------------------------------------------------------------------------- */

static lq_status add_id(const reader *r, const lq_json *node, uint32_t *ids, size_t *n)
{
    double id = lq_json_number(node);
    if (!(id >= 0 && id <= LQ_BPE_HIGHEST_ID) || id != (double)(uint32_t)id ||
        *n == LQ_TEMPLATE_IDS)
        return lq_fail(LQ_E_FORMAT, "%s: post_processor: no token ids, or more than %d", r->where,
                       LQ_TEMPLATE_IDS);
    ids[(*n)++] = (uint32_t)id;
    return LQ_OK;
}

static lq_status add_special(const reader *r, const lq_json *node, const lq_json *item,
                             uint32_t *ids, size_t *n)
{
    const char *name = lq_json_string(lq_json_get(lq_json_get(item, "SpecialToken"), "id"));
    const lq_json *token = name ? lq_json_get(lq_json_get(node, "special_tokens"), name) : NULL;
    const lq_json *list = lq_json_get(token, "ids");
    if (lq_json_type(list) != LQ_JSON_ARRAY)
        return lacks(r, "post_processor", node, "a special token without ids");
    for (const lq_json *id = lq_json_first(list); id; id = lq_json_next(id))
        LQ_TRY(add_id(r, id, ids, n));
    return LQ_OK;
}

static lq_status read_template(const reader *r, const lq_json *node, lq_template *t)
{
    const lq_json *single = lq_json_get(node, "single");
    bool text = false;
    for (const lq_json *item = lq_json_first(single); item; item = lq_json_next(item)) {
        const char *id = lq_json_string(lq_json_get(lq_json_get(item, "Sequence"), "id"));
        if (!id)
            LQ_TRY(text ? add_special(r, node, item, t->after, &t->n_after)
                        : add_special(r, node, item, t->before, &t->n_before));
        else if (text || strcmp(id, "A") != 0)
            return lacks(r, "post_processor", node, "a template of other than one text A");
        else
            text = true;
    }
    return text ? LQ_OK : lacks(r, "post_processor", node, "a template without a text");
}

/* The ids of `inner` come next to the text. */
static lq_status wrap(const reader *r, lq_template *outer, const lq_template *inner)
{
    if (outer->n_before + inner->n_before > LQ_TEMPLATE_IDS ||
        outer->n_after + inner->n_after > LQ_TEMPLATE_IDS)
        return lq_fail(LQ_E_FORMAT, "%s: post_processor: more than %d token ids", r->where,
                       LQ_TEMPLATE_IDS);
    memcpy(outer->before + outer->n_before, inner->before, inner->n_before * sizeof(uint32_t));
    memmove(outer->after + inner->n_after, outer->after, outer->n_after * sizeof(uint32_t));
    memcpy(outer->after, inner->after, inner->n_after * sizeof(uint32_t));
    outer->n_before += inner->n_before;
    outer->n_after += inner->n_after;
    return LQ_OK;
}

/* ByteLevel moves offsets and no ids. */
static lq_status read_post_processor(const reader *r, const lq_json *node, lq_template *out,
                                     int depth)
{
    lq_template t = {0};
    const lq_json *list = lq_json_get(node, "processors");
    if (is_null(node) || is_type(node, "ByteLevel"))
        return LQ_OK;
    if (is_type(node, "TemplateProcessing")) {
        LQ_TRY(read_template(r, node, &t));
    } else if (is_type(node, "BertProcessing") || is_type(node, "RobertaProcessing")) {
        LQ_TRY(add_id(r, lq_json_at(lq_json_get(node, "cls"), 1), t.before, &t.n_before));
        LQ_TRY(add_id(r, lq_json_at(lq_json_get(node, "sep"), 1), t.after, &t.n_after));
    } else if (is_type(node, "Sequence") && lq_json_type(list) == LQ_JSON_ARRAY && depth <= 4) {
        for (const lq_json *one = lq_json_first(list); one; one = lq_json_next(one))
            LQ_TRY(read_post_processor(r, one, out, depth + 1));
        return LQ_OK;
    } else {
        return refuse(r, "post_processor", node);
    }
    LQ_TRY(wrap(r, &t, out));
    *out = t;
    return LQ_OK;
}

/* --- decoders --------------------------------------------------------------------------------- */

static lq_status new_op(reader *r, lq_decode_kind kind, lq_decode_op **out)
{
    lq_decoder *d = &r->tok->decoder;
    *out = &d->op[d->n < LQ_DECODE_OPS ? d->n : 0];
    if (d->n == LQ_DECODE_OPS)
        return lq_fail(LQ_E_FORMAT, "%s: more than %d decoders", r->where, LQ_DECODE_OPS);
    d->n++;
    **out = (lq_decode_op){.kind = kind};
    return LQ_OK;
}

static lq_status read_strip_op(reader *r, const lq_json *node, lq_decode_op *op)
{
    const char *content = lq_json_string(lq_json_get(node, "content"));
    if (!content || *content == '\0' ||
        lq_json_size(node, r->where, "start", 0, UINT32_MAX, 0, &op->start) != LQ_OK ||
        lq_json_size(node, r->where, "stop", 0, UINT32_MAX, 0, &op->stop) != LQ_OK)
        return lacks(r, "decoder", node, "its content, start or stop");
    return keep_string(r, content, &op->content, &op->content_bytes);
}

static lq_status read_metaspace_op(reader *r, const lq_json *node, lq_decode_op *op)
{
    const char *mark = lq_json_string(lq_json_get(node, "replacement"));
    const char *scheme = lq_json_string(lq_json_get(node, "prepend_scheme"));
    op->start = scheme ? strcmp(scheme, "never") != 0 : flag(node, "add_prefix_space", true);
    if (mark && *mark == '\0')
        return lacks(r, "decoder", node, "an empty replacement");
    return keep_string(r, mark ? mark : "\xE2\x96\x81", &op->content, &op->content_bytes);
}

static lq_status read_decoder(reader *r, const lq_json *node, int depth)
{
    static const struct {
        const char *type;
        lq_decode_kind kind;
    } kinds[] = {{"ByteLevel", LQ_DECODE_BYTE_LEVEL}, {"Replace", LQ_DECODE_REPLACE_ALL},
                 {"ByteFallback", LQ_DECODE_BYTES},   {"Fuse", LQ_DECODE_FUSE},
                 {"Strip", LQ_DECODE_STRIP},          {"Metaspace", LQ_DECODE_METASPACE}};
    lq_decode_op *op;
    if (is_null(node))
        return new_op(r, LQ_DECODE_JOIN, &op);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!is_type(node, kinds[i].type))
            continue;
        LQ_TRY(new_op(r, kinds[i].kind, &op));
        if (op->kind == LQ_DECODE_STRIP)
            return read_strip_op(r, node, op);
        if (op->kind == LQ_DECODE_METASPACE)
            return read_metaspace_op(r, node, op);
        if (op->kind != LQ_DECODE_REPLACE_ALL)
            return LQ_OK;
        const char *content = lq_json_string(lq_json_get(node, "content")), *literal;
        if (!content)
            return lacks(r, "decoder", node, "its content");
        LQ_TRY(keep_string(r, content, &op->content, &op->content_bytes));
        return open_pattern(r, "decoder", node, &op->pattern, &literal);
    }
    const lq_json *list = lq_json_get(node, "decoders");
    if (!is_type(node, "Sequence") || lq_json_type(list) != LQ_JSON_ARRAY || depth > 4)
        return refuse(r, "decoder", node);
    for (const lq_json *one = lq_json_first(list); one; one = lq_json_next(one))
        LQ_TRY(read_decoder(r, one, depth + 1));
    return LQ_OK;
}

lq_status lq_components_read(lq_tokenizer *tok, const lq_json *root, const char *where)
{
    reader r = {.tok = tok, .where = where};
    const lq_json *normalizer = lq_json_get(root, "normalizer");
    const lq_json *pre = lq_json_get(root, "pre_tokenizer");
    if (!is_null(normalizer))
        LQ_TRY(read_normalizer(&r, normalizer, 0));
    tok->pieces.n_normal = tok->pieces.n_steps;
    if (!is_null(pre))
        LQ_TRY(read_pre_tokenizer(&r, pre, true, 0));
    if (r.alphabet)
        tok->pieces.step[tok->pieces.n_steps++] = (lq_step){.kind = LQ_STEP_BYTES};
    LQ_TRY(read_post_processor(&r, lq_json_get(root, "post_processor"), &tok->around, 0));
    return read_decoder(&r, lq_json_get(root, "decoder"), 0);
}
