/* The corpus "techdocs": English technical prose from Debian's documentation packages, and any plain
 * text file as a corpus of one split. One place makes both: bytes in, documents and splits out.
 *
 * techdocs: packages linux-doc-6.1, python3.11-doc, perl-doc, brought with `apt-get download` into
 * $LCQAT_CACHE/debs, unpacked with libarchive, their sources (reStructuredText and POD; the kernel's
 * ABI records; the manual pages of Perl's modules, whose POD is not packaged) cleaned to prose,
 * de-duplicated by digest, and split by the SHA-256 of the document's name: train, calib, valid, test.
 * The result is $LCQAT_CACHE/techdocs/{train,calib,valid,test}.txt plus manifest.json (packages with
 * version and digest, documents, bytes, digest of each split and of the whole). */
#ifndef LQ_DATA_CORPUS_H
#define LQ_DATA_CORPUS_H

#include "core/base/arena.h"
#include "core/base/sha256.h"
#include "core/base/status.h"

/* $LCQAT_CACHE, else $XDG_CACHE_HOME/lcqat, else $HOME/.cache/lcqat; made when missing. In the arena.
 * LQ_E_IO when it cannot be made or written to. */
lq_status lq_cache_dir(lq_arena *arena, const char **out);

/* Makes techdocs in the cache unless it is there and its digests hold. LQ_E_MISSING: neither a cached
 * copy nor apt-get is there, or apt-get failed (the note says which package, and what to do). Two
 * processes at once do not collide. */
lq_status lq_techdocs_prepare(void);
bool lq_techdocs_ready(void); /* cached and complete; no work, no network */

typedef struct lq_corpus { /* one split, in memory */
    const char *name;      /* "techdocs:test" or the path */
    char *text;            /* documents, each ended by "<|endoftext|>\n" ... see docs/formats.md */
    size_t bytes;
    lq_digest digest; /* of the split's bytes */
    lq_digest whole;  /* of the whole corpus; equals digest for a file */
} lq_corpus;
/* DATA of the command line: "techdocs" (= train), "techdocs:SPLIT", or the path of a text file.
 * LQ_E_OPTION: unknown split; LQ_E_MISSING: not in the cache (type `lcqat fetch techdocs`), no file. */
lq_status lq_corpus_load(const char *data, lq_arena *arena, lq_corpus *out);

#endif
