/* Decoding: the forward pass of one token after another, with the keys and values of what came before
 * kept. B sequences lie side by side, each at a position of its own.
 *
 *     lq_decoder *d;
 *     LQ_TRY(lq_decoder_new(&w.config, B, T_max, arena, &d));
 *     lq_decoder_prefill(&w, d, 0, prompt, n, logits);       // sequence 0 reads its prompt
 *     lq_decoder_step(&w, d, 1, &sequence, &token, logits);  // and then one token after another
 *
 * The logits are those of lq_forward but for rounding. A sequence's bits depend neither on the sequences
 * beside it nor on the number of threads. A decoder belongs to one thread at a time; inside, it uses
 * those of OpenMP. */
#ifndef LQ_MODEL_DECODE_H
#define LQ_MODEL_DECODE_H

#include "core/model/weights.h"

typedef struct lq_cache { /* one layer's past: (B,Hkv,T_max,dh), rotated keys and values */
    float *k, *v;
} lq_cache;

typedef struct lq_decoder { /* R rows at once; E = (H + 2 Hkv) dh */
    lq_config config;
    size_t B, T_max, R, E;
    size_t *length;              /* (B) tokens that each sequence has read */
    uint32_t *sequence;          /* (R) of the rows at hand */
    size_t *position;            /* (R) */
    lq_cache *layer;             /* (L) */
    float *cosine, *sine;        /* (T_max,dh/2) */
    float *x, *h, *rstd;         /* (R,D), (R,D), (R H): the stream, its norm */
    float *qkv, *o;              /* (R,E), (R,H dh) */
    float *p;                    /* (R,H,T_max) attention probabilities */
    float *gate_up, *act, *wide; /* (R,2F), (R,F), (R,D): what is added to the stream */
} lq_decoder;

/* Bytes of a decoder of B sequences of at most T_max tokens. */
size_t lq_decoder_bytes(const lq_config *config, size_t B, size_t T_max);
lq_status lq_decoder_new(const lq_config *config, size_t B, size_t T_max, lq_arena *arena,
                         lq_decoder **out);
/* Sequence b forgets what it read, or all but its first n tokens. */
void lq_decoder_reset(lq_decoder *d, size_t b);
void lq_decoder_rewind(lq_decoder *d, size_t b, size_t n);
/* Sequence b reads n > 0 tokens, each < V, at most T_max in all. logits (V), if not NULL, receives the
 * prediction after the last. */
void lq_decoder_prefill(const lq_weights *w, lq_decoder *d, size_t b, const uint32_t *token,
                        size_t n, float *logits);
/* The same, n <= LQ_DECODER_READ, with the logits (n,V) after each of the tokens. */
enum { LQ_DECODER_READ = 64 };
void lq_decoder_read(const lq_weights *w, lq_decoder *d, size_t b, const uint32_t *token, size_t n,
                     float *logits);
/* n <= B different sequences read one token each; logits (n,V) as above. */
void lq_decoder_step(const lq_weights *w, lq_decoder *d, size_t n, const uint32_t *sequence,
                     const uint32_t *token, float *logits);

#endif
