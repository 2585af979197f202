#include "experiments/data.h"

#include "core/base/file.h"
#include "core/data/corpus.h"
#include "core/data/documents.h"
#include "core/data/safetensors.h"
#include "core/eval/protocol.h"
#include "experiments/catalog.h"

#include <stdlib.h>
#include <string.h>

enum { GPTQ_WINDOW = 2048, LLAMACPP_WINDOW = 512, OWN_WINDOW = 128 };

/* --- tokens in the cache ---------------------------------------------------------------------- */

static lq_status read_cached(const char *path, lq_arena *arena, lq_data *out)
{
    lq_safetensors file;
    LQ_TRY(lq_safetensors_open(path, arena, &file));
    const lq_tensor *t = lq_safetensors_find(&file, "tokens");
    lq_status status = LQ_OK;
    if (t == NULL || t->dtype != LQ_DTYPE_U32 || t->rank != 1)
        status = lq_fail(LQ_E_FORMAT, "%s: holds no tokens; remove it", path);
    if (status == LQ_OK)
        status = lq_arena_new(arena, &out->token, t->elements);
    if (status == LQ_OK) {
        memcpy(out->token, t->data, t->bytes);
        out->n = t->elements;
    }
    lq_safetensors_close(&file);
    return status;
}

static lq_status write_cached(const char *path, const lq_data *data)
{
    const lq_tensor t = {.name = "tokens",
                         .dtype = LQ_DTYPE_U32,
                         .rank = 1,
                         .shape = {data->n},
                         .elements = data->n,
                         .bytes = 4 * data->n,
                         .data = data->token};
    return lq_safetensors_write(path, &t, 1, NULL, 0);
}

/* TEXT-TOKENIZER[-WAY].safetensors; the way is how tokens were made of the text, "" for the plain one. */
static lq_status cached_path(const lq_data *data, const lq_tokenizer *tok, const char *way,
                             lq_arena *arena, const char **path)
{
    const char *cache;
    LQ_TRY(lq_cache_dir(arena, &cache));
    const char *dir = lq_arena_printf(arena, "%s/tokens", cache);
    *path = lq_arena_printf(arena, "%s/%.16s-%.16s%s%s.safetensors", dir, data->digest.hex,
                            lq_tokenizer_digest(tok)->hex, *way ? "-" : "", way);
    return lq_path_make_dirs(dir);
}

/* --- what the tokenizer puts around a text ---------------------------------------------------- */

typedef struct around { /* special tokens of the tokenizer's default, borrowed */
    const uint32_t *before, *after;
    size_t n_before, n_after;
} around;

/* The one place that asks. */
static around around_of(const lq_tokenizer *tok)
{
    around a;
    a.before = lq_tokenizer_before(tok, &a.n_before);
    a.after = lq_tokenizer_after(tok, &a.n_after);
    return a;
}

static lq_status put_around(const around *a, lq_arena *arena, uint32_t **ids, size_t *n)
{
    uint32_t *all;
    if (a->n_before + a->n_after == 0)
        return LQ_OK;
    LQ_TRY(lq_arena_new(arena, &all, a->n_before + *n + a->n_after));
    if (a->n_before > 0)
        memcpy(all, a->before, a->n_before * sizeof *all);
    if (*n > 0)
        memcpy(all + a->n_before, *ids, *n * sizeof *all);
    if (a->n_after > 0)
        memcpy(all + a->n_before + *n, a->after, a->n_after * sizeof *all);
    *ids = all;
    *n += a->n_before + a->n_after;
    return LQ_OK;
}

static lq_status encode_text(void *self, const char *text, size_t bytes, lq_arena *arena,
                             uint32_t **ids, size_t *n)
{
    const around special = around_of(self);
    LQ_TRY(lq_tokenizer_encode(self, text, bytes, arena, ids, n));
    return put_around(&special, arena, ids, n);
}

/* --- names ------------------------------------------------------------------------------------ */

typedef struct texts { /* the files behind a name */
    lq_form form;
    const char **path;
    size_t n;
    lq_digest digest; /* of the file, or of the files' digests in their order */
} texts;

static const lq_json *split_of(const lq_json *entry, const char *name)
{
    return lq_json_get(lq_json_get(entry, "splits"), name);
}

static const char *first_split(const lq_json *entry)
{
    return lq_json_key(lq_json_first(lq_json_get(entry, "splits")));
}

static lq_status add_digest(const lq_json *manifest, const char *name, const char *path,
                            lq_digest *out)
{
    const lq_json *files = lq_json_get(manifest, "files");
    for (const lq_json *f = lq_json_first(files); f != NULL; f = lq_json_next(f)) {
        const char *its = lq_json_string(lq_json_get(f, "name")),
                   *hex = lq_json_string(lq_json_get(f, "sha256"));
        if (its == NULL || strcmp(its, name) != 0 || hex == NULL || strlen(hex) != 64)
            continue;
        memcpy(out->hex, hex, 65);
        for (size_t i = 0; i < 32; i++) {
            const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
            out->byte[i] = (uint8_t)strtoul(pair, NULL, 16);
        }
        return LQ_OK;
    }
    return lq_sha256_file(path, out);
}

/* The split's files, in the folder of the fetched entry. */
static lq_status files_of_split(const lq_json *entry, const char *split, lq_arena *arena,
                                texts *out)
{
    const char *name = lq_json_string(lq_json_get(entry, "name")), *dir;
    const lq_json *s = split_of(entry, split), *file = lq_json_get(s, "file");
    const char *form = lq_json_string(lq_json_get(s, "form"));
    const bool one = lq_json_string(file) != NULL;
    LQ_TRY(lq_catalog_locate("datasets", name, arena, &dir));
    out->form = form ? lq_form_of(form) : LQ_FORM_COUNT;
    out->n = one ? 1 : lq_json_count(file);
    if (out->form == LQ_FORM_COUNT || out->n == 0)
        return lq_fail(LQ_E_FORMAT, "datasets/catalog.json: %s: the split %s is of no known form",
                       name, split);
    LQ_TRY(lq_arena_new(arena, &out->path, out->n));
    lq_json *manifest = lq_catalog_manifest("datasets", entry, arena);
    lq_digest *digests;
    lq_status status = lq_arena_new(arena, &digests, out->n);
    for (size_t i = 0; status == LQ_OK && i < out->n; i++) {
        const char *its = lq_json_string(one ? file : lq_json_at(file, i));
        out->path[i] = lq_arena_printf(arena, "%s/%s", dir, its ? its : "");
        status = add_digest(manifest, its ? its : "", out->path[i], &digests[i]);
    }
    lq_json_free(manifest);
    if (status == LQ_OK && out->n == 1)
        out->digest = digests[0];
    else if (status == LQ_OK)
        status = lq_sha256_of(digests, out->n * sizeof *digests, &out->digest);
    return status;
}

static lq_status one_file(const char *path, lq_form form, lq_arena *arena, texts *out)
{
    LQ_TRY(lq_arena_new(arena, &out->path, 1));
    out->path[0] = lq_arena_printf(arena, "%s", path);
    out->form = form;
    out->n = 1;
    return lq_sha256_file(path, &out->digest);
}

static lq_status no_such_split(const lq_json *entry, const char *name, const char *split,
                               lq_arena *arena)
{
    const char *known = "";
    const lq_json *splits = lq_json_get(entry, "splits");
    for (const lq_json *s = lq_json_first(splits); s != NULL; s = lq_json_next(s))
        known = lq_arena_printf(arena, "%s%s%s", known, *known ? ", " : "", lq_json_key(s));
    return lq_fail(LQ_E_OPTION, "%s:%s: no such split and no such file; there are %s", name, split,
                   known);
}

/* The files of "NAME[:SPLIT]" or "NAME:PATH". *found is false where NAME is none of the catalog with
 * splits of its own, as techdocs and paths are not. */
static lq_status find_texts(const lq_json *catalog, const char *data, bool to_score,
                            lq_arena *arena, texts *out, bool *found)
{
    const size_t n = strcspn(data, ":");
    const char *name = lq_arena_printf(arena, "%.*s", (int)n, data);
    const char *rest = data[n] == ':' ? data + n + 1 : NULL;
    const lq_json *entry = lq_catalog_find(catalog, "datasets", name);
    *found = entry != NULL && split_of(entry, first_split(entry)) != NULL &&
             strcmp(name, "techdocs") != 0;
    if (!*found)
        return LQ_OK;
    if (rest == NULL && to_score && strcasecmp(name, "c4") == 0)
        return lq_fail(LQ_E_OPTION, "c4: scored in two ways: name one, c4-crop or c4-new");
    if (rest == NULL)
        rest = to_score || split_of(entry, "train") == NULL ? first_split(entry) : "train";
    if (split_of(entry, rest) != NULL)
        return files_of_split(entry, rest, arena, out);
    if (!lq_path_exists(rest))
        return no_such_split(entry, name, rest, arena);
    const char *form = lq_json_string(lq_json_get(split_of(entry, first_split(entry)), "form"));
    return one_file(rest, lq_form_of(form ? form : ""), arena, out);
}

/* --- documents to tokens ---------------------------------------------------------------------- */

typedef struct collector { /* tokens of documents, one behind the other */
    const lq_tokenizer *tok;
    bool one; /* the file is one document: nothing ends it */
    uint32_t *token;
    size_t n, room, bytes;
    lq_arena scratch;
} collector;

static lq_status make_room(collector *c, size_t n)
{
    if (c->n + n <= c->room)
        return LQ_OK;
    const size_t room = 2 * (c->n + n);
    uint32_t *larger = realloc(c->token, room * sizeof *larger);
    if (larger == NULL)
        return lq_fail(LQ_E_MEMORY, "out of memory for %zu tokens", room);
    c->token = larger;
    c->room = room;
    return LQ_OK;
}

static lq_status collect(void *self, const char *text, size_t bytes)
{
    collector *c = self;
    uint32_t *ids;
    size_t n;
    const uint32_t end = lq_tokenizer_end_of_text(c->tok);
    const lq_mark mark = lq_arena_mark(&c->scratch);
    LQ_TRY(lq_tokenizer_encode(c->tok, text, bytes, &c->scratch, &ids, &n));
    LQ_TRY(make_room(c, n + 1));
    if (n > 0)
        memcpy(c->token + c->n, ids, n * sizeof *ids);
    c->n += n;
    c->bytes += bytes;
    if (!c->one && end != UINT32_MAX)
        c->token[c->n++] = end;
    lq_arena_release(&c->scratch, mark);
    return LQ_OK;
}

static lq_status collect_all(const texts *t, const lq_tokenizer *tok, lq_arena *arena, lq_data *out)
{
    collector c = {.tok = tok, .one = t->form == LQ_FORM_TEXT || t->form == LQ_FORM_WIKITEXT};
    lq_status status = LQ_OK;
    for (size_t i = 0; status == LQ_OK && i < t->n; i++)
        status = lq_documents_each(t->path[i], t->form, 0, &c, collect);
    if (status == LQ_OK)
        status = lq_arena_new(arena, &out->token, c.n);
    if (status == LQ_OK) {
        if (c.n > 0)
            memcpy(out->token, c.token, c.n * sizeof *c.token);
        out->n = c.n;
        out->bytes = c.bytes;
    }
    lq_arena_close(&c.scratch);
    free(c.token);
    return status;
}

static lq_status load_texts(const texts *t, const lq_tokenizer *tok, lq_arena *arena, lq_data *out)
{
    const char *path;
    out->digest = out->whole = t->digest;
    LQ_TRY(cached_path(out, tok, lq_form_word(t->form), arena, &path));
    if (lq_path_exists(path))
        return read_cached(path, arena, out);
    LQ_TRY(collect_all(t, tok, arena, out));
    return write_cached(path, out);
}

/* techdocs, and text files of one's own. */
static lq_status load_corpus(const char *name, const lq_tokenizer *tok, lq_arena *arena,
                             lq_data *out)
{
    const char *path;
    lq_corpus corpus;
    lq_arena text = {0};
    lq_status status = lq_corpus_load(name, &text, &corpus);
    if (status == LQ_OK) {
        out->bytes = corpus.bytes;
        out->digest = corpus.digest;
        out->whole = corpus.whole;
        status = cached_path(out, tok, "", arena, &path);
    }
    if (status == LQ_OK && lq_path_exists(path)) {
        status = read_cached(path, arena, out);
    } else if (status == LQ_OK) {
        status = lq_tokenizer_encode(tok, corpus.text, corpus.bytes, arena, &out->token, &out->n);
        if (status == LQ_OK)
            status = write_cached(path, out);
    }
    lq_arena_close(&text);
    return status;
}

static lq_status load(const char *name, const lq_tokenizer *tok, bool to_score, lq_arena *arena,
                      lq_data *out)
{
    lq_json *catalog;
    texts t = {0};
    bool found;
    *out = (lq_data){.name = name};
    LQ_TRY(lq_catalog_read(&catalog));
    lq_status status = find_texts(catalog, name, to_score, arena, &t, &found);
    lq_json_free(catalog);
    if (status == LQ_OK)
        status = found ? load_texts(&t, tok, arena, out) : load_corpus(name, tok, arena, out);
    return status;
}

lq_status lq_data_load(const char *name, const lq_tokenizer *tok, lq_arena *arena, lq_data *out)
{
    return load(name, tok, false, arena, out);
}

/* --- to be scored ----------------------------------------------------------------------------- */

/* "PROTOCOL" or "PROTOCOL:REST": the rest, or `fallback`; NULL: another protocol. */
static const char *after(const char *data, const char *protocol, const char *fallback)
{
    const size_t n = strlen(protocol);
    if (strncasecmp(data, protocol, n) != 0 || (data[n] != '\0' && data[n] != ':'))
        return NULL;
    return data[n] == ':' ? data + n + 1 : fallback;
}

typedef lq_status (*c4_protocol)(const char *path, size_t T, const lq_encode *encode,
                                 lq_arena *arena, uint32_t **ids, size_t *n);

static lq_status load_c4(const char *file, c4_protocol protocol, lq_tokenizer *tok, lq_arena *arena,
                         lq_eval_data *out)
{
    const char *cached;
    texts t = {0};
    bool found = true;
    const lq_encode encode = {tok, encode_text};
    lq_status status;
    if (*file != '\0') {
        status = one_file(file, LQ_FORM_JSONL, arena, &t);
    } else {
        lq_json *catalog;
        LQ_TRY(lq_catalog_read(&catalog));
        status = find_texts(catalog, "c4:validation", true, arena, &t, &found);
        lq_json_free(catalog);
    }
    LQ_TRY(status);
    out->data.digest = out->data.whole = t.digest;
    const char *way = lq_arena_printf(arena, "%s-%zu", out->protocol, out->windows.T);
    LQ_TRY(cached_path(&out->data, tok, way, arena, &cached));
    if (lq_path_exists(cached))
        return read_cached(cached, arena, &out->data);
    LQ_TRY(protocol(t.path[0], out->windows.T, &encode, arena, &out->data.token, &out->data.n));
    return write_cached(cached, &out->data);
}

/* llama.cpp reads the file as it is, rows not joined. */
static lq_status load_raw(const char *data, const lq_tokenizer *tok, lq_arena *arena, lq_data *out)
{
    lq_json *catalog;
    texts t = {0};
    bool found;
    LQ_TRY(lq_catalog_read(&catalog));
    lq_status status = find_texts(catalog, data, true, arena, &t, &found);
    lq_json_free(catalog);
    LQ_TRY(status);
    if (!found)
        return load_corpus(data, tok, arena, out);
    if (t.form != LQ_FORM_TEXT && t.form != LQ_FORM_WIKITEXT)
        return lq_fail(LQ_E_OPTION, "llama.cpp:%s: not one text; it scores wikitext2 or a file",
                       data);
    return load_corpus(t.path[0], tok, arena, out);
}

static lq_status load_stream(const char *data, const lq_tokenizer *tok, lq_arena *arena,
                             lq_eval_data *out)
{
    const around special = around_of(tok);
    const char *raw = after(data, "llama.cpp", "wikitext2");
    if (raw != NULL) {
        out->protocol = "llama.cpp";
        LQ_TRY(load_raw(raw, tok, arena, &out->data));
        if (out->windows.T == 0)
            out->windows.T = LLAMACPP_WINDOW;
        out->windows.context = out->windows.T / 2 + 1;
        if (special.n_before > 0)
            out->windows.begin = special.before[0];
    } else {
        LQ_TRY(load(data, tok, true, arena, &out->data));
        if (out->windows.T == 0)
            out->windows.T = strncmp(data, "techdocs", 8) == 0 || lq_path_exists(data)
                                 ? OWN_WINDOW
                                 : GPTQ_WINDOW;
    }
    return put_around(&special, arena, &out->data.token, &out->data.n);
}

lq_status lq_eval_data_load(const char *data, const lq_tokenizer *tok, size_t T, lq_arena *arena,
                            lq_eval_data *out)
{
    lq_tokenizer *self =
        (lq_tokenizer *)(uintptr_t)tok; /* lq_encode takes any; encoding reads only */
    const around special = around_of(tok);
    const char *crop = after(data, "c4-crop", ""), *new = after(data, "c4-new", "");
    *out = (lq_eval_data){.protocol = crop ? "c4-crop" : new ? "c4-new" : "gptq"};
    out->windows = (lq_windows){.T = T, .begin = UINT32_MAX};
    out->bos = special.n_before > 0 ? special.before[0] : UINT32_MAX;
    if (T == 0 && (crop || new))
        out->windows.T = GPTQ_WINDOW;
    if (crop)
        LQ_TRY(load_c4(crop, lq_c4_crop, self, arena, out));
    else if (new)
        LQ_TRY(load_c4(new, lq_c4_new, self, arena, out));
    else
        LQ_TRY(load_stream(data, tok, arena, out));
    out->data.name = data;
    out->windows.token = out->data.token;
    out->windows.n = out->data.n;
    return LQ_OK;
}
