/* How our own tokenizer.json is written. */
#include "core/text/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

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
