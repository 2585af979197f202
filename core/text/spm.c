/* SentencePiece's tokenizer.model (protobuf, sentencepiece_model.proto) and the vocabulary of llama2.c. */
#include "core/text/tokenizer_parts.h"

#include <string.h>

/* --- protobuf --------------------------------------------------------------------------------- */

typedef struct field {
    uint32_t number;
    enum { WIRE_VARINT = 0, WIRE_8 = 1, WIRE_BYTES = 2, WIRE_4 = 5 } wire;
    uint64_t value;   /* VARINT */
    const char *data; /* the others */
    size_t bytes;
} field;
typedef struct cursor {
    const char *at, *end;
} cursor;

static bool varint(cursor *c, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && c->at < c->end; shift += 7) {
        unsigned char byte = (unsigned char)*c->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The next field; false when there is none or the message is broken, which leaves c->at before c->end. */
static bool next_field(cursor *c, field *f)
{
    cursor start = *c;
    uint64_t key, length;
    if (!varint(c, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX)
        goto broken;
    f->number = (uint32_t)(key >> 3);
    f->wire = (unsigned)(key & 7);
    if (f->wire == WIRE_VARINT) {
        if (!varint(c, &f->value))
            goto broken;
        return true;
    }
    if (f->wire == WIRE_BYTES ? !varint(c, &length) : (f->wire != WIRE_4 && f->wire != WIRE_8))
        goto broken;
    if (f->wire != WIRE_BYTES)
        length = f->wire == WIRE_4 ? 4 : 8;
    if (length > (uint64_t)(c->end - c->at))
        goto broken;
    f->data = c->at;
    f->bytes = (size_t)length;
    c->at += length;
    return true;
broken:
    *c = start;
    return false;
}

/* --- the model -------------------------------------------------------------------------------- */

typedef struct model {
    const char *where;
    lq_arena arena;
    lq_bytes *token;
    float *score;
    int32_t *type;
    size_t n;
    uint64_t model_type;
    int64_t bos, eos;
    bool byte_fallback, suffix_spaces, dummy_prefix, squeeze, escape;
    size_t charsmap_bytes;
} model;

static lq_status broken(const char *where)
{
    return lq_fail(LQ_E_FORMAT, "%s: not a SentencePiece model, or cut short", where);
}

static lq_status read_piece(model *m, cursor c, size_t index)
{
    field f = {0};
    m->type[index] = LQ_TOKEN_NORMAL;
    while (next_field(&c, &f)) {
        if (f.number == 1 && f.wire == WIRE_BYTES)
            m->token[index] = (lq_bytes){f.data, f.bytes};
        else if (f.number == 2 && f.wire == WIRE_4)
            memcpy(&m->score[index], f.data, 4);
        else if (f.number == 3 && f.wire == WIRE_VARINT)
            m->type[index] = f.value <= LQ_TOKEN_BYTE ? (int32_t)f.value : 0;
    }
    if (c.at != c.end)
        return broken(m->where);
    if (m->type[index] < LQ_TOKEN_NORMAL || m->type[index] == LQ_TOKEN_UNUSED)
        return lq_fail(LQ_E_FORMAT, "%s: piece %zu: its type (%s) is not supported", m->where,
                       index, m->type[index] == LQ_TOKEN_UNUSED ? "unused" : "unknown number");
    if (m->token[index].bytes == 0)
        return lq_fail(LQ_E_FORMAT, "%s: piece %zu is empty", m->where, index);
    return LQ_OK;
}

static lq_status read_trainer(model *m, cursor c)
{
    field f = {0};
    while (next_field(&c, &f)) {
        if (f.wire != WIRE_VARINT)
            continue;
        if (f.number == 3)
            m->model_type = f.value;
        else if (f.number == 24)
            m->suffix_spaces = f.value != 0;
        else if (f.number == 35)
            m->byte_fallback = f.value != 0;
        else if (f.number == 41)
            m->bos = (int32_t)(uint32_t)f.value;
        else if (f.number == 42)
            m->eos = (int32_t)(uint32_t)f.value;
    }
    return c.at == c.end ? LQ_OK : broken(m->where);
}

static lq_status read_normalizer(model *m, cursor c)
{
    field f = {0};
    while (next_field(&c, &f)) {
        if (f.number == 2 && f.wire == WIRE_BYTES)
            m->charsmap_bytes = f.bytes;
        else if (f.number == 3 && f.wire == WIRE_VARINT)
            m->dummy_prefix = f.value != 0;
        else if (f.number == 4 && f.wire == WIRE_VARINT)
            m->squeeze = f.value != 0;
        else if (f.number == 5 && f.wire == WIRE_VARINT)
            m->escape = f.value != 0;
    }
    return c.at == c.end ? LQ_OK : broken(m->where);
}

static lq_status read_model(model *m, const char *data, size_t bytes)
{
    field f = {0};
    cursor c = {data, data + bytes};
    size_t n = 0;
    while (next_field(&c, &f))
        n += f.number == 1 && f.wire == WIRE_BYTES;
    if (c.at != c.end || n == 0)
        return broken(m->where);
    LQ_TRY(lq_arena_new(&m->arena, &m->token, n));
    LQ_TRY(lq_arena_new(&m->arena, &m->score, n));
    LQ_TRY(lq_arena_new(&m->arena, &m->type, n));
    c.at = data;
    while (next_field(&c, &f)) {
        cursor inside = {f.data, f.data + f.bytes};
        if (f.wire != WIRE_BYTES)
            continue;
        if (f.number == 1)
            LQ_TRY(read_piece(m, inside, m->n++));
        else if (f.number == 2)
            LQ_TRY(read_trainer(m, inside));
        else if (f.number == 3)
            LQ_TRY(read_normalizer(m, inside));
    }
    return LQ_OK;
}

/* What would give other ids is refused by name. */
static lq_status check_model(const model *m)
{
    static const char *const types[] = {"0", "Unigram", "BPE", "Word", "Char"};
    if (m->model_type != 2)
        return lq_fail(LQ_E_FORMAT, "%s: SentencePiece model \"%s\" is not supported", m->where,
                       m->model_type < 5 ? types[m->model_type] : "of an unknown type");
    if (m->charsmap_bytes > 0)
        return lq_fail(LQ_E_FORMAT, "%s: the normalizer \"precompiled_charsmap\" is not supported",
                       m->where);
    if (m->suffix_spaces || !m->escape)
        return lq_fail(LQ_E_FORMAT, "%s: \"%s\" is not supported", m->where,
                       m->escape ? "treat_whitespace_as_suffix" : "escape_whitespaces false");
    return LQ_OK;
}

static lq_status build(const model *m, const lq_json *config, lq_tokenizer **out)
{
    const bool has_bos = m->bos >= 0 && (uint64_t)m->bos < m->n;
    const bool has_eos = m->eos >= 0 && (uint64_t)m->eos < m->n;
    const lq_json *add_bos = lq_json_get(config, "add_bos_token");
    LQ_TRY(check_model(m));
    lq_tokenizer_parts parts = {
        .where = m->where,
        .kind = LQ_PARTS_SCORES,
        .n = m->n,
        .token = m->token,
        .score = m->score,
        .type = m->type,
        .bos = has_bos ? (uint32_t)m->bos : LQ_NO_ID,
        .eos = has_eos ? (uint32_t)m->eos : LQ_NO_ID,
        .add_bos = has_bos && (lq_json_type(add_bos) != LQ_JSON_BOOL || lq_json_true(add_bos)),
        .add_eos = has_eos && lq_json_true(lq_json_get(config, "add_eos_token")),
        .no_space_prefix = !m->dummy_prefix,
        .squeeze_spaces = m->squeeze,
        .no_byte_fallback = !m->byte_fallback};
    return lq_tokenizer_from_parts(&parts, out);
}

lq_status lq_spm_read(const char *data, size_t bytes, const char *where, const lq_json *config,
                      lq_tokenizer **out)
{
    /* the defaults of sentencepiece_model.proto */
    model m = {.where = where,
               .model_type = 1,
               .bos = 1,
               .eos = 2,
               .dummy_prefix = true,
               .squeeze = true,
               .escape = true};
    *out = NULL;
    lq_status status = read_model(&m, data, bytes);
    if (status == LQ_OK)
        status = build(&m, config, out);
    lq_arena_close(&m.arena);
    return status;
}

/* --- llama2.c --------------------------------------------------------------------------------- */

/* tokenizer.bin of karpathy/llama2.c (tokenizer.py, export): int32 longest piece, then for each id
 * float score, int32 bytes, the piece with spaces for U+2581; ids 1 and 2 are spelled "\n<s>\n" and
 * "\n</s>\n". Little-endian; the count is the model's, so the file is read to its end. */
static lq_status read_bin(const char *data, size_t bytes, model *m)
{
    size_t room = bytes / 8 + 1, at = 4;
    LQ_TRY(lq_arena_new(&m->arena, &m->token, room));
    LQ_TRY(lq_arena_new(&m->arena, &m->score, room));
    LQ_TRY(lq_arena_new(&m->arena, &m->type, room));
    for (; bytes >= 4 && bytes - at >= 8; m->n++) {
        int32_t length;
        memcpy(&m->score[m->n], data + at, 4);
        memcpy(&length, data + at + 4, 4);
        at += 8;
        if (length <= 0 || (size_t)length > bytes - at)
            break;
        lq_buffer piece = {0};
        lq_status status = LQ_OK;
        for (size_t i = 0; status == LQ_OK && i < (size_t)length; i++)
            status = data[at + i] == ' ' ? lq_buffer_add(&piece, "\xE2\x96\x81", 3)
                                         : lq_buffer_add(&piece, data + at + i, 1);
        char *copy = NULL;
        if (status == LQ_OK)
            status = lq_arena_new(&m->arena, &copy, piece.n + 1);
        if (status == LQ_OK) {
            memcpy(copy, piece.data, piece.n);
            m->token[m->n] = (lq_bytes){copy, piece.n};
        }
        lq_buffer_free(&piece);
        LQ_TRY(status);
        at += (size_t)length;
    }
    return bytes > 4 && at == bytes && m->n > 259
               ? LQ_OK
               : lq_fail(LQ_E_FORMAT, "%s: no vocabulary of llama2.c, or cut short", m->where);
}

lq_status lq_llama2c_read(const char *data, size_t bytes, const char *where, lq_tokenizer **out)
{
    model m = {.where = where,
               .model_type = 2,
               .bos = 1,
               .eos = 2,
               .byte_fallback = true,
               .dummy_prefix = true,
               .escape = true};
    *out = NULL;
    lq_status status = read_bin(data, bytes, &m);
    if (status == LQ_OK) {
        m.token[1] = (lq_bytes){"<s>", 3};
        m.token[2] = (lq_bytes){"</s>", 4};
        for (size_t id = 0; id < m.n; id++)
            m.type[id] = id == 0    ? LQ_TOKEN_UNKNOWN
                         : id < 3   ? LQ_TOKEN_CONTROL
                         : id < 259 ? LQ_TOKEN_BYTE
                                    : LQ_TOKEN_NORMAL;
        status = build(&m, NULL, out);
    }
    lq_arena_close(&m.arena);
    return status;
}
