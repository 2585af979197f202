#include "core/data/techdocs.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/data/apt.h"
#include "core/data/archive.h"
#include "core/data/clean.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHORTEST_DOCUMENT = 500, /* bytes after cleaning: below are stubs and indexes */
    LONG_PARAGRAPH = 80,     /* bytes; shorter ones ("Return value:") may repeat as they like, */
    MOST_REPEATS = 20        /* longer ones in more documents than this are boilerplate and go */
};
static const char end_of_text[] = "<|endoftext|>\n";
const char *const lq_split_names[LQ_SPLITS] = {"train", "calib", "valid", "test"};

typedef struct package {
    const char *name, *deb; /* deb: path of the .deb, in the arena */
    char version[64];
    size_t bytes, documents;
    lq_digest digest;
} package;
static const char *const package_names[] = {"linux-doc-6.1", "python3.11-doc", "perl-doc"};
#define N_PACKAGES (sizeof package_names / sizeof *package_names)

typedef struct document {
    lq_digest name, text_digest; /* name: of "<package>:<path in package>" */
    char *text;
    size_t bytes, package;
    bool dropped;
} document;

typedef struct build {
    package packages[N_PACKAGES];
    size_t at; /* package in hand */
    document *documents;
    size_t n, room;
    lq_arena keep, scratch; /* texts and paths; one document's cleaning */
    lq_progress progress;
    size_t bytes_before; /* of the packages already read, for progress */
} build;

static bool ends_in(const char *text, const char *tail)
{
    size_t n = strlen(text), m = strlen(tail);
    return n >= m && strcmp(text + n - m, tail) == 0;
}

/* The source texts of each package. Left out: translations; devicetree bindings and feature tables,
 * which are lists of properties; perltoc and perluniprops, which are generated. */
static lq_markup markup_of(const char *package_name, const char *path)
{
    static const char *const perl_excluded[] = {"/perltoc.pod", "/perluniprops.pod", "/perlcn.pod",
                                                "/perljp.pod",  "/perlko.pod",       "/perltw.pod"};
    if (strcmp(package_name, "perl-doc") == 0) {
        for (size_t i = 0; i < sizeof perl_excluded / sizeof *perl_excluded; i++)
            if (ends_in(path, perl_excluded[i]))
                return LQ_MARKUP_NONE;
        if (strstr(path, "/man3/") && ends_in(path, ".3perl.gz"))
            return LQ_MARKUP_MAN; /* the modules, of which no POD is packaged */
        return ends_in(path, ".pod") ? LQ_MARKUP_POD : LQ_MARKUP_NONE;
    }
    if (strcmp(package_name, "python3.11-doc") == 0)
        return strstr(path, "/_sources/") && ends_in(path, ".rst.txt") ? LQ_MARKUP_RST
                                                                       : LQ_MARKUP_NONE;
    const char *inside = strstr(path, "/Documentation/");
    if (!inside || strstr(inside, "/translations/") || strstr(inside, "/Documentation/features/"))
        return LQ_MARKUP_NONE;
    if (strstr(inside, "/Documentation/ABI/"))
        return ends_in(path, "/README.gz") ? LQ_MARKUP_NONE : LQ_MARKUP_ABI;
    if (ends_in(path, ".rst") || ends_in(path, ".rst.gz"))
        return LQ_MARKUP_RST;
    bool text = ends_in(path, ".txt") || ends_in(path, ".txt.gz");
    return text && !strstr(inside, "/bindings/") ? LQ_MARKUP_RST : LQ_MARKUP_NONE;
}

static bool wanted(void *self, const char *path)
{
    const build *b = self;
    return markup_of(b->packages[b->at].name, path) != LQ_MARKUP_NONE;
}

static lq_status grow(build *b)
{
    if (b->n < b->room)
        return LQ_OK;
    size_t more = b->room ? 2 * b->room : 1024;
    document *grown = realloc(b->documents, more * sizeof *grown);
    if (!grown)
        return lq_fail(LQ_E_MEMORY, "techdocs: no memory for %zu documents", more);
    b->documents = grown;
    b->room = more;
    return LQ_OK;
}

/* Cleans one source in scratch memory and keeps what came out. */
static lq_status add_document(build *b, const lq_archived *file)
{
    package *p = &b->packages[b->at];
    const char *name = lq_arena_printf(&b->scratch, "%s:%s", p->name, file->path);
    char *source = NULL, *prose;
    size_t bytes = file->bytes, n;
    if (ends_in(file->path, ".gz"))
        LQ_TRY(lq_archive_unpack(name, file->data, file->bytes, &b->scratch, &source, &bytes));
    LQ_TRY(lq_clean(markup_of(p->name, file->path), source ? source : file->data, bytes,
                    &b->scratch, &prose, &n));
    if (n < SHORTEST_DOCUMENT)
        return LQ_OK;
    LQ_TRY(grow(b));
    document *d = &b->documents[b->n];
    *d = (document){.bytes = n, .package = b->at};
    LQ_TRY(lq_sha256_of(name, strlen(name), &d->name));
    LQ_TRY(lq_sha256_of(prose, n, &d->text_digest));
    LQ_TRY(lq_arena_new(&b->keep, &d->text, n));
    memcpy(d->text, prose, n);
    b->n++;
    return LQ_OK;
}

static lq_status on_file(void *self, const lq_archived *file)
{
    build *b = self;
    if (lq_stop_asked())
        return lq_fail(LQ_E_STOPPED, "techdocs: stopped; the packages stay in the cache");
    lq_mark mark = lq_arena_mark(&b->scratch);
    lq_status status = add_document(b, file);
    lq_arena_release(&b->scratch, mark);
    lq_progress_update(&b->progress, (b->bytes_before + file->packed_bytes) / 1000, "%zu documents",
                       b->n);
    return status;
}

static bool is_control(void *self, const char *path)
{
    (void)self;
    return strcmp(path, "control") == 0;
}

static lq_status on_control(void *self, const lq_archived *file)
{
    package *p = self;
    static const char key[] = "\nVersion: ";
    const char *at = strstr(file->data, key);
    if (!at)
        return lq_fail(LQ_E_FORMAT, "%s: its control file names no version", p->deb);
    at += sizeof key - 1;
    snprintf(p->version, sizeof p->version, "%.*s", (int)strcspn(at, "\r\n"), at);
    return LQ_OK;
}

/* The .deb in the cache (the last by name when there are several), or NULL. */
static lq_status cached_deb(const char *debs, const char *name, lq_arena *arena, const char **path)
{
    char **names;
    size_t n;
    *path = NULL;
    LQ_TRY(lq_path_list(debs, arena, &names, &n));
    for (size_t i = 0; i < n; i++)
        if (strncmp(names[i], name, strlen(name)) == 0 && names[i][strlen(name)] == '_' &&
            ends_in(names[i], ".deb"))
            *path = lq_arena_printf(arena, "%s/%s", debs, names[i]);
    return LQ_OK;
}

static lq_status fetch(package *p, const char *debs, lq_arena *arena)
{
    lq_log_info("fetching Debian package %s with apt-get download", p->name);
    return lq_apt_download(p->name, debs, arena, &p->deb);
}

static lq_status read_package(build *b, package *p)
{
    size_t first = b->n;
    lq_archive_visit control = {p, is_control, on_control}, data = {b, wanted, on_file};
    lq_status status = lq_archive_walk_deb(p->deb, "control.tar", &control);
    if (status == LQ_OK)
        status = lq_archive_walk_deb(p->deb, "data.tar", &data);
    if (status == LQ_OK && p->version[0] == '\0')
        status = lq_fail(LQ_E_FORMAT, "%s: no Debian package: it holds no control file", p->deb);
    if (status == LQ_OK && b->n == first)
        status = lq_fail(LQ_E_FORMAT, "%s: none of the documents we know of is in it", p->deb);
    if (status != LQ_OK)
        b->n = first;
    return status;
}

/* One package from the cache or the network; a cached .deb that turns out damaged is fetched again. */
static lq_status take_package(build *b, package *p, const char *debs)
{
    bool cached = p->deb != NULL;
    lq_status status = cached ? read_package(b, p) : LQ_E_FORMAT;
    if (status == LQ_E_FORMAT) {
        if (cached)
            lq_log_warn("%s; fetching it again", lq_status_note());
        if (cached && unlink(p->deb) != 0)
            return lq_fail(LQ_E_IO, "%s: cannot remove it: %s", p->deb, strerror(errno));
        LQ_TRY(fetch(p, debs, &b->keep));
        status = read_package(b, p);
    }
    LQ_TRY(status);
    struct stat about;
    if (stat(p->deb, &about) == 0 && about.st_size > 0)
        p->bytes = (size_t)about.st_size;
    b->bytes_before += p->bytes;
    return lq_sha256_file(p->deb, &p->digest);
}

/* --- duplicates ------------------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    const document *x = a, *y = b;
    int order = memcmp(x->text_digest.byte, y->text_digest.byte, sizeof x->text_digest.byte);
    return order ? order : memcmp(x->name.byte, y->name.byte, sizeof x->name.byte);
}

static int by_name(const void *a, const void *b)
{
    const document *x = a, *y = b;
    return memcmp(x->name.byte, y->name.byte, sizeof x->name.byte);
}

/* Of documents with one text the first by name digest stays. Leaves them ordered by name digest. */
static void drop_twins(build *b)
{
    qsort(b->documents, b->n, sizeof *b->documents, by_text);
    for (size_t i = 1; i < b->n; i++)
        b->documents[i].dropped =
            memcmp(b->documents[i].text_digest.byte, b->documents[i - 1].text_digest.byte, 32) == 0;
    qsort(b->documents, b->n, sizeof *b->documents, by_name);
}

typedef struct
    sighting {     /* of a paragraph, told by its hash alone: 64 bits for some 10^5 of them */
    uint64_t hash; /* 0: free */
    size_t documents, last;
} sighting;
typedef struct sightings {
    sighting *slot;
    size_t mask;
} sightings;

static uint64_t hash_of(const char *text, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001B3u;
    h ^= h >> 32; /* the low bits choose the slot */
    return h ? h : 1;
}

static sighting *look_up(const sightings *s, uint64_t hash)
{
    size_t i = (size_t)hash & s->mask;
    while (s->slot[i].hash != 0 && s->slot[i].hash != hash)
        i = (i + 1) & s->mask;
    return &s->slot[i];
}

/* The paragraph at text[*at], and *at moved past the blank line after it. Its line feed is left out. */
static size_t next_paragraph(const document *d, size_t *at)
{
    const char *from = d->text + *at, *feed = memchr(from, '\n', d->bytes - *at);
    size_t n = feed ? (size_t)(feed - from) : d->bytes - *at;
    *at += n;
    while (*at < d->bytes && d->text[*at] == '\n')
        ++*at;
    return n;
}

static lq_status count_paragraphs(build *b, sightings *seen)
{
    size_t n = 1, slots = 1024;
    for (size_t i = 0; i < b->n; i++)
        for (size_t at = 0; at < b->documents[i].bytes;)
            n += next_paragraph(&b->documents[i], &at) > LONG_PARAGRAPH;
    while (slots < 2 * n)
        slots *= 2;
    seen->mask = slots - 1;
    LQ_TRY(lq_arena_new(&b->scratch, &seen->slot, slots));
    for (size_t i = 0; i < b->n; i++) {
        const document *d = &b->documents[i];
        for (size_t at = 0; !d->dropped && at < d->bytes;) {
            const char *text = d->text + at;
            size_t bytes = next_paragraph(d, &at);
            if (bytes <= LONG_PARAGRAPH)
                continue;
            sighting *s = look_up(seen, hash_of(text, bytes));
            s->documents += s->hash == 0 || s->last != i;
            s->hash = hash_of(text, bytes);
            s->last = i;
        }
    }
    return LQ_OK;
}

static lq_status drop_boilerplate(build *b)
{
    sightings seen = {0};
    lq_mark mark = lq_arena_mark(&b->scratch);
    LQ_TRY(count_paragraphs(b, &seen));
    for (size_t i = 0; i < b->n; i++) {
        document *d = &b->documents[i];
        size_t kept = 0;
        for (size_t at = 0; !d->dropped && at < d->bytes;) {
            char *text = d->text + at;
            size_t bytes = next_paragraph(d, &at), after = (size_t)(d->text + at - text);
            if (bytes > LONG_PARAGRAPH &&
                look_up(&seen, hash_of(text, bytes))->documents > MOST_REPEATS)
                continue;
            memmove(d->text + kept, text, after);
            kept += after;
        }
        while (kept > 1 && d->text[kept - 1] == '\n' && d->text[kept - 2] == '\n')
            kept--;
        d->bytes = kept;
        d->dropped = d->dropped || kept < SHORTEST_DOCUMENT;
    }
    lq_arena_release(&b->scratch, mark);
    return LQ_OK;
}

/* --- splits and manifest ---------------------------------------------------------------------- */

/* test, valid, calib: 2 % each, by the first eight bytes of the name's digest as a fraction of 2^64. */
static lq_split split_of(const document *d)
{
    uint64_t u = 0;
    for (size_t i = 0; i < 8; i++)
        u = u << 8 | d->name.byte[i];
    uint64_t share = UINT64_MAX / 50;
    return u < share       ? LQ_SPLIT_TEST
           : u < 2 * share ? LQ_SPLIT_VALID
           : u < 3 * share ? LQ_SPLIT_CALIB
                           : LQ_SPLIT_TRAIN;
}

typedef struct written {
    size_t documents, bytes;
    lq_digest digest;
} written;

static lq_status write_documents(const build *b, lq_split split, lq_file *file, written *out)
{
    lq_sha256 *sha;
    lq_status status = lq_sha256_open(&sha);
    if (status != LQ_OK)
        return status;
    for (size_t i = 0; status == LQ_OK && i < b->n; i++) {
        const document *d = &b->documents[i];
        if (d->dropped || split_of(d) != split)
            continue;
        lq_sha256_add(sha, d->text, d->bytes);
        lq_sha256_add(sha, end_of_text, sizeof end_of_text - 1);
        status = lq_file_write(file, d->text, d->bytes);
        if (status == LQ_OK)
            status = lq_file_write(file, end_of_text, sizeof end_of_text - 1);
        out->documents++;
        out->bytes += d->bytes + sizeof end_of_text - 1;
    }
    lq_sha256_close(sha, &out->digest);
    return status;
}

static lq_status write_split(const build *b, lq_split split, const char *path, written *out)
{
    lq_file *file;
    LQ_TRY(lq_file_create(path, &file));
    lq_status status = write_documents(b, split, file, out);
    if (status != LQ_OK) {
        lq_file_abandon(file);
        return status;
    }
    return lq_file_commit(file);
}

lq_status lq_techdocs_whole(const lq_digest split[LQ_SPLITS], lq_digest *out)
{
    uint8_t bytes[LQ_SPLITS * sizeof split->byte];
    for (size_t s = 0; s < LQ_SPLITS; s++)
        memcpy(bytes + s * sizeof split->byte, split[s].byte, sizeof split->byte);
    return lq_sha256_of(bytes, sizeof bytes, out);
}

static lq_json *manifest_of(const build *b, const written split[LQ_SPLITS], const lq_digest *whole)
{
    lq_json *root = lq_json_object(), *packages = lq_json_array(), *splits = lq_json_object();
    lq_json_set_string(root, "format", "lcqat techdocs");
    lq_json_set_number(root, "recipe", LQ_TECHDOCS_RECIPE);
    for (size_t i = 0; i < N_PACKAGES; i++) {
        const package *p = &b->packages[i];
        lq_json *node = lq_json_object();
        lq_json_set_string(node, "name", p->name);
        lq_json_set_string(node, "version", p->version);
        lq_json_set_string(node, "file", lq_path_base(p->deb));
        lq_json_set_number(node, "bytes", (double)p->bytes);
        lq_json_set_string(node, "sha256", p->digest.hex);
        lq_json_set_number(node, "documents", (double)p->documents);
        lq_json_append(packages, node);
    }
    lq_json_set(root, "packages", packages);
    size_t documents = 0, bytes = 0;
    for (size_t s = 0; s < LQ_SPLITS; s++) {
        lq_json *node = lq_json_object();
        lq_json_set_number(node, "documents", (double)split[s].documents);
        lq_json_set_number(node, "bytes", (double)split[s].bytes);
        lq_json_set_string(node, "sha256", split[s].digest.hex);
        lq_json_set(splits, lq_split_names[s], node);
        documents += split[s].documents;
        bytes += split[s].bytes;
    }
    lq_json_set(root, "splits", splits);
    lq_json_set_number(root, "documents", (double)documents);
    lq_json_set_number(root, "bytes", (double)bytes);
    lq_json_set_string(root, "whole", whole->hex);
    return root;
}

static lq_status write_all(build *b, const char *dir)
{
    written split[LQ_SPLITS] = {0};
    lq_digest digests[LQ_SPLITS], whole;
    for (size_t s = 0; s < LQ_SPLITS; s++) {
        const char *path = lq_arena_printf(&b->keep, "%s/%s.txt", dir, lq_split_names[s]);
        LQ_TRY(write_split(b, (lq_split)s, path, &split[s]));
        digests[s] = split[s].digest;
    }
    LQ_TRY(lq_techdocs_whole(digests, &whole));
    for (size_t i = 0; i < b->n; i++)
        b->packages[b->documents[i].package].documents += !b->documents[i].dropped;
    lq_json *manifest = manifest_of(b, split, &whole);
    const char *text = lq_json_pretty(manifest, &b->keep);
    lq_json_free(manifest);
    return lq_file_write_all(lq_arena_printf(&b->keep, "%s/manifest.json", dir), text,
                             strlen(text));
}

static lq_status make(build *b, const char *debs, const char *dir)
{
    size_t total = 0;
    for (size_t i = 0; i < N_PACKAGES; i++) {
        b->packages[i].name = package_names[i];
        LQ_TRY(cached_deb(debs, package_names[i], &b->keep, &b->packages[i].deb));
        if (!b->packages[i].deb)
            LQ_TRY(fetch(&b->packages[i], debs, &b->keep));
        struct stat about;
        if (stat(b->packages[i].deb, &about) == 0)
            total += (size_t)about.st_size;
    }
    b->progress = lq_progress_start("techdocs", total / 1000, "kB");
    lq_status status = LQ_OK;
    for (b->at = 0; status == LQ_OK && b->at < N_PACKAGES; b->at++)
        status = take_package(b, &b->packages[b->at], debs);
    lq_progress_end(&b->progress);
    LQ_TRY(status);
    drop_twins(b);
    LQ_TRY(drop_boilerplate(b));
    return write_all(b, dir);
}

lq_status lq_techdocs_build(const char *debs, const char *dir)
{
    build b = {0};
    lq_status status = make(&b, debs, dir);
    free(b.documents);
    lq_arena_close(&b.keep);
    lq_arena_close(&b.scratch);
    return status;
}
