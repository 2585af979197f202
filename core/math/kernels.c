/* The kernel table: references first, then the overlay of the best instruction set of this processor. */
#include "core/math/kernels.h"

#include <stdlib.h>
#include <string.h>

/* Each instruction set's object file fills in the kernels that it has. */
void lq_kernels_fill_ref(lq_kernel_table *table);
void lq_kernels_fill_ref_quant(lq_kernel_table *table);
void lq_kernels_fill_ref_seq(lq_kernel_table *table);
void lq_kernels_fill_ref_round(lq_kernel_table *table);
enum { N_FAMILIES = 4 }; /* source files of kernels; an instruction set has one object of each */
typedef void fill_family(lq_kernel_table *table);
#define LQ_FILL(isa)                                                                           \
    fill_family lq_kernels_fill_##isa, lq_kernels_fill_quant_##isa, lq_kernels_fill_seq_##isa, \
        lq_kernels_fill_round_##isa;                                                           \
    static fill_family *const of_##isa[N_FAMILIES] = {                                         \
        lq_kernels_fill_##isa, lq_kernels_fill_quant_##isa, lq_kernels_fill_seq_##isa,         \
        lq_kernels_fill_round_##isa};
LQ_FILL(base)
#ifdef __x86_64__
LQ_FILL(v3)
LQ_FILL(v4)
#endif

typedef struct variant {
    const char *name;
    lq_kernel_table table;
} variant;
static variant variants[4];
static size_t n_variants;
static int use_reference;

/* families NULL: the reference itself. */
static void add_variant(const char *name, fill_family *const *families)
{
    variant *v = &variants[n_variants++];
    v->name = name;
    lq_kernels_fill_ref(&v->table);
    lq_kernels_fill_ref_quant(&v->table);
    lq_kernels_fill_ref_seq(&v->table);
    lq_kernels_fill_ref_round(&v->table);
    for (size_t i = 0; families != NULL && i < N_FAMILIES; i++)
        families[i](&v->table);
}

/* Runs before main, on one thread: the table is constant afterwards. */
__attribute__((constructor)) static void detect(void)
{
    add_variant("ref", NULL);
    add_variant("base", of_base);
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        add_variant("v3", of_v3);
    if (n_variants == 3 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        add_variant("v4", of_v4);
#endif
    const char *wish = getenv("LQ_KERNELS");
    use_reference = wish != NULL && strcmp(wish, "ref") == 0;
}

const lq_kernel_table *lq_kernels(void)
{
    return &variants[use_reference ? 0 : n_variants - 1].table;
}

void lq_kernels_use_reference(int on) { use_reference = on; }

const char *lq_kernels_isa(void) { return variants[use_reference ? 0 : n_variants - 1].name; }

const lq_kernel_table *lq_kernels_variant(size_t i, const char **name)
{
    if (i >= n_variants)
        return NULL;
    *name = variants[i].name;
    return &variants[i].table;
}

double lq_sum_squares(const float *x, size_t n)
{
    enum { CHUNK = 4096 };
    double total = 0;
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t end = at + CHUNK < n ? at + CHUNK : n;
        double part[8] = {0};
        size_t i = at;
        for (; i + 8 <= end; i += 8)
            for (size_t j = 0; j < 8; j++)
                part[j] += (double)x[i + j] * (double)x[i + j];
        for (; i < end; i++)
            part[0] += (double)x[i] * (double)x[i];
        total += ((part[0] + part[1]) + (part[2] + part[3])) +
                 ((part[4] + part[5]) + (part[6] + part[7]));
    }
    return total;
}
