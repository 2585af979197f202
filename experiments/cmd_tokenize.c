/* lcqat tokenize: token ids of a text, or the text of ids. */
#include "core/base/file.h"
#include "experiments/command.h"
#include "experiments/model.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static lq_status read_stdin(lq_arena *arena, char **text, size_t *bytes)
{
    size_t room = 1 << 16;
    char *data = lq_arena_alloc(arena, room);
    *bytes = 0;
    while (data != NULL) {
        const size_t n = fread(data + *bytes, 1, room - *bytes, stdin);
        if (n == 0)
            break;
        *bytes += n;
        if (*bytes < room)
            continue;
        char *wider = lq_arena_alloc(arena, 2 * room);
        if (wider != NULL)
            memcpy(wider, data, *bytes);
        data = wider;
        room *= 2;
    }
    if (data == NULL)
        return lq_fail(LQ_E_MEMORY, "standard input: out of memory after %zu bytes", *bytes);
    if (ferror(stdin))
        return lq_fail(LQ_E_IO, "standard input: %s", strerror(errno));
    *text = data;
    return LQ_OK;
}

/* Whole numbers apart by blanks or commas. */
static lq_status parse_ids(const char *text, size_t bytes, lq_arena *arena, uint32_t **ids,
                           size_t *n)
{
    LQ_TRY(lq_arena_new(arena, ids, bytes / 2 + 1));
    *n = 0;
    for (size_t i = 0; i < bytes;) {
        if (isspace((unsigned char)text[i]) || text[i] == ',') {
            i++;
            continue;
        }
        uint64_t id = 0;
        size_t digits = 0;
        for (; i < bytes && isdigit((unsigned char)text[i]) && digits < 10; i++, digits++)
            id = 10 * id + (uint64_t)(text[i] - '0');
        if (digits == 0 || digits == 10 || id > UINT32_MAX)
            return lq_fail(LQ_E_OPTION, "tokenize --decode: byte %zu is no token id", i);
        (*ids)[(*n)++] = (uint32_t)id;
    }
    return LQ_OK;
}

static lq_status decode(const lq_tokenizer *tok, const char *text, size_t bytes, lq_arena *arena)
{
    uint32_t *ids;
    size_t n, length;
    char *out;
    LQ_TRY(parse_ids(text, bytes, arena, &ids, &n));
    LQ_TRY(lq_tokenizer_decode(tok, ids, n, arena, &out, &length));
    fwrite(out, 1, length, stdout);
    return LQ_OK;
}

static lq_status encode(const lq_args *args, const lq_tokenizer *tok, const char *text,
                        size_t bytes, lq_arena *arena)
{
    uint32_t *ids;
    size_t n;
    LQ_TRY(lq_tokenizer_encode(tok, text, bytes, arena, &ids, &n));
    if (lq_args_flag(args, "json")) {
        lq_json *json = lq_json_object(), *list = lq_json_array();
        for (size_t i = 0; i < n; i++)
            lq_json_append(list, lq_json_of_number((double)ids[i]));
        lq_json_set_number(json, "tokens", (double)n);
        lq_json_set_number(json, "bytes", (double)bytes);
        lq_json_set(json, "ids", list);
        lq_print_json(json);
        return LQ_OK;
    }
    if (!lq_args_flag(args, "ids")) {
        printf("%zu tokens, %zu bytes\n", n, bytes);
        return LQ_OK;
    }
    for (size_t i = 0; i < n; i++)
        printf("%u%c", (unsigned)ids[i], i + 1 < n ? ' ' : '\n');
    return LQ_OK;
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    const char *path = lq_args_text(args, "file", NULL);
    char *text;
    size_t bytes;
    const char *dir; /* only its tokenizer.json is read */
    lq_tokenizer *tok;
    LQ_TRY(lq_model_dir(lq_args_at(args, 0), arena, &dir));
    LQ_TRY(lq_tokenizer_read(lq_arena_printf(arena, "%s/tokenizer.json", dir), &tok));
    lq_status status =
        path != NULL ? lq_file_read(path, arena, &text, &bytes) : read_stdin(arena, &text, &bytes);
    if (status == LQ_OK)
        status = lq_args_flag(args, "decode") ? decode(tok, text, bytes, arena)
                                              : encode(args, tok, text, bytes, arena);
    lq_tokenizer_free(tok);
    return status;
}

static const lq_arg_spec spec[] = {
    {"file", 0, LQ_ARG_TEXT, "F", "the text (standard input)"},
    {"ids", 0, LQ_ARG_FLAG, NULL, "print the ids, not only their count"},
    {"decode", 0, LQ_ARG_FLAG, NULL, "the input is ids; print their text"},
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
