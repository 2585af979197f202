/* lcqat tokenize: token ids of a text, or the text of ids. Texts are read in parts, so a file may be larger
 * than the memory. */
#include "core/base/file.h"
#include "experiments/command.h"
#include "experiments/model.h"
#include "experiments/tokenizer.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PART_BYTES = 1 << 20 };

typedef struct source {
    FILE *file;
    const char *name; /* for notes */
} source;

static lq_status open_source(const lq_args *args, source *s)
{
    const char *path = lq_args_text(args, "file", NULL);
    *s = (source){.file = stdin, .name = "standard input"};
    if (path == NULL)
        return LQ_OK;
    s->name = path;
    s->file = fopen(path, "rb");
    if (s->file == NULL)
        return lq_fail(errno == ENOENT ? LQ_E_MISSING : LQ_E_IO, "%s: %s", path, strerror(errno));
    return LQ_OK;
}

static void close_source(source *s)
{
    if (s->file != NULL && s->file != stdin)
        fclose(s->file);
}

/* The next part of the text; *last: nothing follows. */
static lq_status read_part(const source *s, char *part, size_t *bytes, bool *last)
{
    *bytes = fread(part, 1, PART_BYTES, s->file);
    if (ferror(s->file))
        return lq_fail(LQ_E_IO, "%s: %s", s->name, strerror(errno));
    *last = *bytes < PART_BYTES;
    return LQ_OK;
}

/* --- ids to text ------------------------------------------------------------------------------ */

typedef struct id_reader { /* whole numbers apart by blanks, commas or brackets */
    uint64_t id;
    size_t digits, at;
    uint32_t *ids; /* (room) in the arena, copied when it grows */
    size_t n, room;
} id_reader;

static lq_status add_id(id_reader *r, lq_arena *arena)
{
    if (r->n == r->room) {
        uint32_t *wider;
        LQ_TRY(lq_arena_new(arena, &wider, 2 * r->room + 1024));
        if (r->n > 0)
            memcpy(wider, r->ids, r->n * sizeof *wider);
        r->ids = wider;
        r->room = 2 * r->room + 1024;
    }
    r->ids[r->n++] = (uint32_t)r->id;
    r->id = r->digits = 0;
    return LQ_OK;
}

static lq_status read_ids(id_reader *r, const char *text, size_t bytes, bool last, lq_arena *arena)
{
    for (size_t i = 0; i < bytes; i++, r->at++) {
        if (isdigit((unsigned char)text[i]) && r->digits < 10) {
            r->id = 10 * r->id + (uint64_t)(text[i] - '0');
            r->digits++;
        } else if (strchr(" \t\r\n,[]", text[i]) == NULL || text[i] == '\0') {
            return lq_fail(LQ_E_OPTION, "tokenize --decode: byte %zu is part of no token id",
                           r->at);
        } else if (r->digits > 0) {
            LQ_TRY(add_id(r, arena));
        }
        if (r->id > UINT32_MAX)
            return lq_fail(LQ_E_OPTION,
                           "tokenize --decode: the id that ends at byte %zu is too large", r->at);
    }
    return last && r->digits > 0 ? add_id(r, arena) : LQ_OK;
}

static lq_status decode(const lq_args *args, const lq_tokenizer *tok, const source *s, char *part,
                        lq_arena *arena)
{
    id_reader r = {0};
    size_t bytes;
    char *text;
    const bool json = lq_args_flag(args, "json");
    const unsigned flags = (lq_args_flag(args, "skip-special") ? LQ_DECODE_NO_SPECIAL : 0) |
                           (json ? LQ_DECODE_REPLACE : 0);
    for (bool last = false; !last;) {
        LQ_TRY(read_part(s, part, &bytes, &last));
        LQ_TRY(read_ids(&r, part, bytes, last, arena));
    }
    LQ_TRY(lq_tokenizer_decode_with(tok, r.ids, r.n, flags, arena, &text, &bytes));
    if (!json) {
        fwrite(text, 1, bytes, stdout);
        return LQ_OK;
    }
    if (memchr(text, '\0', bytes) != NULL)
        return lq_fail(LQ_E_OPTION, "tokenize --json: the text holds a NUL; leave --json out");
    lq_json *out = lq_json_object();
    lq_json_set_number(out, "tokens", (double)r.n);
    lq_json_set_number(out, "bytes", (double)bytes);
    lq_json_set_string(out, "text", text);
    lq_print_json(out);
    return LQ_OK;
}

/* --- text to ids ------------------------------------------------------------------------------ */

static void print_ids(const uint32_t *ids, size_t n, size_t before, const char *between)
{
    for (size_t i = 0; i < n; i++)
        printf("%s%u", before + i > 0 ? between : "", (unsigned)ids[i]);
}

/* Ids are printed as they come; JSON is written by hand for that. */
static lq_status print_encoded(const lq_args *args, lq_encoder *e, const source *s, char *part)
{
    const bool json = lq_args_flag(args, "json"), show = json || lq_args_flag(args, "ids");
    size_t bytes, total = 0, n_ids = 0;
    if (json)
        printf("{\n  \"ids\": [");
    for (bool last = false; !last;) {
        size_t n;
        LQ_TRY(read_part(s, part, &bytes, &last));
        LQ_TRY(lq_encoder_feed(e, part, bytes, last));
        const uint32_t *ids = lq_encoder_take(e, &n);
        if (show)
            print_ids(ids, n, n_ids, json ? ", " : " ");
        total += bytes;
        n_ids += n;
    }
    if (json)
        printf("],\n  \"tokens\": %zu,\n  \"bytes\": %zu\n}\n", n_ids, total);
    else if (show)
        printf("%s", n_ids > 0 ? "\n" : "");
    else
        printf("%zu tokens, %zu bytes\n", n_ids, total);
    return LQ_OK;
}

static lq_status encode(const lq_args *args, const lq_tokenizer *tok, const source *s, char *part)
{
    lq_encoder *e;
    const unsigned flags = (lq_args_flag(args, "special") ? LQ_ENCODE_SPECIAL : 0) |
                           (lq_args_flag(args, "plain") ? LQ_ENCODE_PLAIN : 0);
    LQ_TRY(lq_encoder_open(tok, flags, &e));
    const lq_status status = print_encoded(args, e, s, part);
    lq_encoder_close(e);
    return status;
}

/* --- the command ------------------------------------------------------------------------------ */

/* MODEL is what other commands take, or the files of a tokenizer alone. */
static lq_status open_model(const char *model, lq_arena *arena, lq_tokenizer **out)
{
    return lq_path_exists(model) ? lq_open_tokenizer(model, out)
                                 : lq_model_tokenizer(model, arena, out);
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    source s;
    lq_tokenizer *tok;
    char *part;
    LQ_TRY(lq_arena_new(arena, &part, PART_BYTES));
    LQ_TRY(open_model(lq_args_at(args, 0), arena, &tok));
    lq_status status = open_source(args, &s);
    if (status == LQ_OK)
        status = lq_args_flag(args, "decode") ? decode(args, tok, &s, part, arena)
                                              : encode(args, tok, &s, part);
    close_source(&s);
    lq_tokenizer_free(tok);
    return status;
}

static const lq_arg_spec spec[] = {
    {"file", 0, LQ_ARG_TEXT, "F", "the text (standard input)"},
    {"ids", 0, LQ_ARG_FLAG, NULL, "print the ids, not only their count"},
    {"decode", 0, LQ_ARG_FLAG, NULL, "the input is ids; print their text"},
    {"special", 0, LQ_ARG_FLAG, NULL, "with the tokens that the model wants around a text (BOS)"},
    {"plain", 0, LQ_ARG_FLAG, NULL, "special tokens written in the text are text"},
    {"skip-special", 0, LQ_ARG_FLAG, NULL, "with --decode: leave special tokens out"},
    LQ_ARG_JSON,
};
const lq_command lq_command_tokenize = {
    .name = "tokenize",
    .summary = "turns a text into token ids, or ids into text",
    .positionals = "MODEL [--file F] [--ids] [--decode]",
    .lowest = 1,
    .highest = 1,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
