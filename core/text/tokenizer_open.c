/* Which files make up a tokenizer, and vocab.json with merges.txt. */
#include "core/base/file.h"
#include "core/text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

/* --- vocab.json and merges.txt ---------------------------------------------------------------- */

/* Lines of the file as merges, without those that begin with "#version". */
static lq_status read_lines(char *text, size_t bytes, lq_arena *arena, lq_bytes **out, size_t *n)
{
    size_t lines = 1;
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    LQ_TRY(lq_arena_new(arena, out, lines));
    *n = 0;
    for (size_t at = 0, end; at < bytes; at = end + 1) {
        const char *found = memchr(text + at, '\n', bytes - at);
        end = found ? (size_t)(found - text) : bytes;
        size_t length = end - at - (end > at && text[end - 1] == '\r');
        if (length > 0 && !(length >= 8 && memcmp(text + at, "#version", 8) == 0))
            (*out)[(*n)++] = (lq_bytes){text + at, length};
    }
    return LQ_OK;
}

/* A token of the config: a string, or an object with a "content". */
static const char *token_of(const lq_json *config, const char *key)
{
    const lq_json *node = lq_json_get(config, key);
    const char *text = lq_json_string(node);
    return text ? text : lq_json_string(lq_json_get(node, "content"));
}

/* The family by its vocabulary, which is fixed for each, else by the class of the config. SmolLM's class
 * is GPT2Tokenizer, of which only its tokenizer.json says that digits stand alone. */
static const char *family_of(const lq_json *vocab, const lq_json *config)
{
    const size_t n = lq_json_count(vocab);
    const char *class = lq_json_string(lq_json_get(config, "tokenizer_class"));
    const double end = lq_json_number(lq_json_get(vocab, LQ_END_OF_TEXT));
    if (n == 49152 && end == 0)
        return "smollm";
    if (n == 50257 && end == 50256)
        return "gpt-2";
    if (n == 151643)
        return "qwen2";
    if (n == 128000 || n == 128256)
        return "llama-bpe";
    if (class && strncmp(class, "Qwen2Tokenizer", 14) == 0)
        return "qwen2";
    return class && strncmp(class, "GPT2Tokenizer", 13) == 0 ? "gpt-2" : NULL;
}

static void add_token(lq_json *list, const char *content, double id)
{
    lq_json *token = lq_json_object();
    lq_json_set_string(token, "content", content);
    lq_json_set_number(token, "id", id);
    lq_json_set_bool(token, "special", true);
    lq_json_append(list, token);
}

static bool is_listed(const lq_json *list, double id)
{
    for (const lq_json *t = lq_json_first(list); t; t = lq_json_next(t))
        if (lq_json_number(lq_json_get(t, "id")) == id)
            return true;
    return false;
}

/* The tokens of the config, then those that the family always has. */
static lq_json *added_tokens(const char *family, const lq_json *vocab, const lq_json *config)
{
    static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    static const char *const qwen[] = {LQ_END_OF_TEXT, "<|im_start|>", "<|im_end|>"};
    lq_json *list = lq_json_array();
    const lq_json *decoder = lq_json_get(config, "added_tokens_decoder");
    for (const lq_json *t = lq_json_first(decoder); t; t = lq_json_next(t)) {
        lq_json *copy = lq_json_copy(t);
        char *end;
        double id = strtod(lq_json_key(t), &end);
        if (copy && *end == '\0')
            lq_json_set_number(copy, "id", id);
        if (copy)
            lq_json_append(list, copy);
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        const char *text = token_of(config, roles[i]);
        const double id = text ? lq_json_number(lq_json_get(vocab, text)) : -1;
        if (id >= 0 && !is_listed(list, id))
            add_token(list, text, id);
    }
    if (lq_json_count(list) > 0)
        return list;
    if (strcmp(family, "gpt-2") == 0 && lq_json_get(vocab, LQ_END_OF_TEXT))
        add_token(list, LQ_END_OF_TEXT, lq_json_number(lq_json_get(vocab, LQ_END_OF_TEXT)));
    for (size_t i = 0; strcmp(family, "qwen2") == 0 && i < 3; i++)
        add_token(list, qwen[i], 151643 + (double)i);
    for (unsigned i = 0; strcmp(family, "llama-bpe") == 0 && i < 256; i++) {
        char text[40];
        lq_llama3_special(i, text);
        add_token(list, text, 128000 + (double)i);
    }
    if (strcmp(family, "smollm") == 0)
        for (const lq_json *v = lq_json_first(vocab); v; v = lq_json_next(v))
            if (lq_json_number(v) < 17)
                add_token(list, lq_json_key(v), lq_json_number(v));
    return list;
}

/* One document of the two files and the family's components, as a tokenizer.json would be. Takes the
 * vocabulary over. */
static lq_status compose(lq_json *vocab, const lq_json *config, const char *where, lq_json **out)
{
    const char *family = family_of(vocab, config);
    lq_json *model = lq_json_object(), *root = NULL;
    lq_json *added = family ? added_tokens(family, vocab, config) : NULL;
    lq_json_set_string(model, "type", "BPE");
    lq_json_set(model, "vocab", vocab);
    lq_status status =
        family ? LQ_OK
               : lq_fail(LQ_E_FORMAT,
                         "%s: the family of this vocabulary is not known, so neither is its "
                         "pre_tokenizer; give the tokenizer.json",
                         where);
    if (status == LQ_OK) {
        const lq_family *f = lq_family_find(family);
        lq_json_set_bool(model, "ignore_merges", f->ignore_merges);
        status = lq_json_parse(f->components, strlen(f->components), where, &root);
    }
    if (status != LQ_OK) {
        lq_json_free(model);
        lq_json_free(added);
        return status;
    }
    lq_json_set(root, "model", model);
    lq_json_set(root, "added_tokens", added);
    *out = root;
    return LQ_OK;
}

/* The token before each text: asked for by the config, or Llama 3's. */
static void set_bos(lq_tokenizer *tok, const lq_json *config)
{
    const char *bos = token_of(config, "bos_token");
    const lq_json *add = lq_json_get(config, "add_bos_token");
    if (!bos && !config)
        bos = "<|begin_of_text|>";
    bool wanted = lq_json_type(add) == LQ_JSON_BOOL ? lq_json_true(add)
                                                    : bos && strcmp(bos, "<|begin_of_text|>") == 0;
    for (size_t i = 0; wanted && bos && i < tok->n_added; i++)
        if (strcmp(tok->added[i].text, bos) == 0) {
            tok->around.before[0] = tok->added[i].id;
            tok->around.n_before = 1;
        }
}

static lq_status read_vocab(const char *vocab_path, const char *merges_path, const lq_json *config,
                            lq_arena *arena, lq_tokenizer **out)
{
    char *vocab_text, *merges_text;
    size_t vocab_bytes, merges_bytes, n;
    lq_bytes *merge;
    lq_json *vocab, *root;
    LQ_TRY(lq_file_read(merges_path, arena, &merges_text, &merges_bytes));
    LQ_TRY(read_lines(merges_text, merges_bytes, arena, &merge, &n));
    LQ_TRY(lq_file_read(vocab_path, arena, &vocab_text, &vocab_bytes));
    LQ_TRY(lq_json_parse(vocab_text, vocab_bytes, vocab_path, &vocab));
    LQ_TRY(compose(vocab, config, vocab_path, &root));
    lq_status status = lq_tokenizer_from_json(root, merge, n, vocab_path, out);
    lq_json_free(root);
    LQ_TRY(status);
    set_bos(*out, config);
    lq_sha256 *sha;
    status = lq_sha256_open(&sha);
    if (status != LQ_OK) {
        lq_tokenizer_free(*out);
        *out = NULL;
        return status;
    }
    lq_sha256_add(sha, vocab_text, vocab_bytes);
    lq_sha256_add(sha, merges_text, merges_bytes);
    if (config) {
        const char *text = lq_json_canonical(config, arena);
        lq_sha256_add(sha, text, strlen(text));
    }
    lq_sha256_close(sha, &(*out)->digest);
    return LQ_OK;
}

lq_status lq_vocab_read(const char *vocab_path, const char *merges_path, const lq_json *config,
                        lq_tokenizer **out)
{
    lq_arena arena = {0};
    *out = NULL;
    lq_status status = read_vocab(vocab_path, merges_path, config, &arena, out);
    lq_arena_close(&arena);
    return status;
}

/* --- files and directories -------------------------------------------------------------------- */

/* Groups of files, the first that is complete is read. A config is read where it is there. */
static const char *const groups[][2] = {
    {"tokenizer.json", NULL},    {"vocab.json", "merges.txt"},   {"encoder.json", "vocab.bpe"},
    {"vocab.json", "vocab.bpe"}, {"encoder.json", "merges.txt"}, {"tokenizer.model", NULL},
    {"tokenizer.bin", NULL}};
#define CONFIG "tokenizer_config.json"

static bool is_in(const char *dir, const char *name, lq_arena *arena)
{
    return lq_path_exists(lq_arena_printf(arena, "%s/%s", dir, name));
}

/* Names of the files to read, the config last. */
static lq_status files_of(const char *dir, lq_arena *arena, const char *names[3], size_t *n)
{
    *n = 0;
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        if (!is_in(dir, groups[g][0], arena) || (groups[g][1] && !is_in(dir, groups[g][1], arena)))
            continue;
        for (size_t i = 0; i < 2 && groups[g][i]; i++)
            names[(*n)++] = groups[g][i];
        if (g > 0 && is_in(dir, CONFIG, arena))
            names[(*n)++] = CONFIG;
        return LQ_OK;
    }
    return lq_fail(LQ_E_MISSING,
                   "%s: no tokenizer.json here, nor vocab.json with merges.txt, tokenizer.model or "
                   "tokenizer.bin",
                   dir);
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static lq_status read_file(const char *path, const lq_json *config, lq_arena *arena,
                           lq_tokenizer **out)
{
    char *data;
    size_t bytes;
    LQ_TRY(lq_file_read(path, arena, &data, &bytes));
    if ((bytes > 0 && data[0] == '{') || ends_in(path, ".json"))
        return lq_tokenizer_parse(data, bytes, path, out);
    if (ends_in(path, ".bin"))
        return lq_llama2c_read(data, bytes, path, out);
    if (lq_tiktoken_is_one(data, bytes))
        return lq_tiktoken_read(data, bytes, path, out);
    return lq_spm_read(data, bytes, path, config, out);
}

static lq_status open_dir(const char *dir, lq_arena *arena, lq_json **config, lq_tokenizer **out)
{
    const char *names[3] = {NULL};
    size_t n;
    LQ_TRY(files_of(dir, arena, names, &n));
    if (strcmp(names[n - 1], CONFIG) == 0)
        LQ_TRY(lq_json_read(lq_arena_printf(arena, "%s/%s", dir, names[--n]), config));
    const char *first = lq_arena_printf(arena, "%s/%s", dir, names[0] ? names[0] : "");
    if (n == 2)
        return lq_vocab_read(first, lq_arena_printf(arena, "%s/%s", dir, names[1]), *config, out);
    return read_file(first, *config, arena, out);
}

lq_status lq_tokenizer_open(const char *path, lq_tokenizer **out)
{
    lq_arena arena = {0};
    lq_json *config = NULL;
    *out = NULL;
    lq_status status = lq_path_is_dir(path) ? open_dir(path, &arena, &config, out)
                                            : read_file(path, NULL, &arena, out);
    lq_json_free(config);
    lq_arena_close(&arena);
    return status;
}
