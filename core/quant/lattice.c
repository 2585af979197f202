#include "core/quant/lattice.h"

#include "core/math/linalg.h"

#include <math.h>
#include <string.h>

enum { D_MAX = LQ_LATTICE_LARGEST, CHUNK = 64 };

double lq_lattice_step(size_t levels)
{
    return 1.0 / sqrt(((double)levels * (double)levels - 1.0) / 12.0);
}

/* ---- The scalar grid and a normal source -------------------------------------------------------- */

static double density(double x)
{
    return isinf(x) ? 0 : exp(-x * x / 2) / sqrt(2 * 3.14159265358979323846);
}

static double below(double x) { return 0.5 * erfc(-x / sqrt(2.0)); }

/* Sum over levels c with cell (a,b) of the integral of (x-c)^2 density(x). */
double lq_lattice_normal_mse(size_t levels, double g)
{
    const double step = lq_lattice_step(levels) / g, mu = (double)(levels - 1) / 2;
    double mse = 0;
    for (size_t i = 0; i < levels; i++) {
        const double c = ((double)i - mu) * step;
        const double a = i == 0 ? -(double)INFINITY : c - step / 2;
        const double b = i + 1 == levels ? (double)INFINITY : c + step / 2;
        const double mass = below(b) - below(a);
        const double edges = (isinf(a) ? 0 : a * density(a)) - (isinf(b) ? 0 : b * density(b));
        mse += mass + edges - 2 * c * (density(a) - density(b)) + c * c * mass;
    }
    return mse;
}

/* The error has one minimum in g; golden section. */
double lq_lattice_best_scale(size_t levels)
{
    const double ratio = (sqrt(5.0) - 1) / 2;
    double low = 0.2, high = 1.5;
    while (high - low > 1e-7) {
        const double left = high - ratio * (high - low), right = low + ratio * (high - low);
        if (lq_lattice_normal_mse(levels, left) < lq_lattice_normal_mse(levels, right))
            high = right;
        else
            low = left;
    }
    return (low + high) / 2;
}

/* ---- Lattices ----------------------------------------------------------------------------------- */

/* A = turn' R by Gram-Schmidt with a second pass; a column that depends on those before it gets R_kk = 0
 * and a zero row in turn, which the search takes as "this digit makes no difference". */
static void factor(lq_lattice *l)
{
    const size_t d = l->d;
    memset(l->R, 0, sizeof l->R);
    for (size_t k = 0; k < d; k++) {
        double column[D_MAX], norm = 0, before = 0;
        for (size_t i = 0; i < d; i++) {
            column[i] = (double)l->A[i * d + k];
            before += column[i] * column[i];
        }
        for (size_t j = 0; j < 2 * k; j++) {
            double *axis = l->turn + j % k * d, dot = 0;
            for (size_t i = 0; i < d; i++)
                dot += axis[i] * column[i];
            for (size_t i = 0; i < d; i++)
                column[i] -= dot * axis[i];
            l->R[j % k * d + k] += dot;
        }
        for (size_t i = 0; i < d; i++)
            norm += column[i] * column[i];
        const bool independent = norm > 1e-20 * before;
        norm = independent ? sqrt(norm) : 0;
        l->R[k * d + k] = norm;
        for (size_t i = 0; i < d; i++)
            l->turn[k * d + i] = independent ? column[i] / norm : 0;
    }
}

void lq_lattice_of(size_t levels, size_t d, const float *A, const float *B, lq_lattice *out)
{
    LQ_ASSERT(d >= 1 && d <= D_MAX && levels >= 2 && levels <= 256);
    *out = (lq_lattice){.d = d, .levels = levels};
    memcpy(out->A, A, d * d * sizeof *A);
    memcpy(out->B, B, d * sizeof *B);
    factor(out);
}

void lq_lattice_uniform(size_t levels, size_t d, const float *G, lq_lattice *out)
{
    const double step = lq_lattice_step(levels), mu = (double)(levels - 1) / 2;
    float A[LQ_LATTICE_NUMBERS], B[D_MAX];
    for (size_t i = 0; i < d; i++) {
        double sum = 0;
        for (size_t j = 0; j < d; j++) {
            const double a = step * (G != NULL ? (double)G[i * d + j] : i == j);
            A[i * d + j] = (float)a;
            sum += a;
        }
        B[i] = (float)(-mu * sum);
    }
    lq_lattice_of(levels, d, A, B, out);
}

/* Gram-Schmidt on normal vectors; with the positive diagonal this is the Haar measure. */
void lq_random_orthogonal(size_t d, lq_rng *rng, float *G)
{
    lq_lattice l = {.d = d};
    LQ_ASSERT(d >= 1 && d <= D_MAX);
    for (size_t i = 0; i < d * d; i++)
        l.A[i] = (float)lq_rng_normal(rng);
    factor(&l);
    for (size_t i = 0; i < d * d; i++)
        G[i] = (float)l.turn[i];
}

void lq_lattice_decode(const lq_lattice *l, const uint8_t *code, size_t count, float *word)
{
    const size_t d = l->d;
    for (size_t v = 0; v < count; v++)
        for (size_t i = 0; i < d; i++) {
            float sum = l->B[i];
            for (size_t j = 0; j < d; j++)
                sum += l->A[i * d + j] * (float)code[v * d + j];
            word[v * d + i] = sum;
        }
}

/* ---- The nearest word --------------------------------------------------------------------------- */

/* One digit of the search: digits low+1 .. high-1 have been tried, nearest to `centre` first. */
typedef struct digit {
    double centre; /* what is left for this digit, in its own units; R_kk scales the distance */
    double spent;  /* squared distance of the digits above */
    long low, high;
    long now;
} digit;

static void open_digit(digit *g, double centre, double spent, long top)
{
    const double first = rint(centre < 0 ? 0 : centre > (double)top ? (double)top : centre);
    g->centre = centre;
    g->spent = spent;
    g->now = (long)first;
    g->low = g->now - 1;
    g->high = g->now + 1;
}

/* The next nearest digit into now; false when all were tried. */
static bool next_digit(digit *g, long top)
{
    const bool down = g->low >= 0, up = g->high <= top;
    if (!down && !up)
        return false;
    if (!up || (down && g->centre - (double)g->low <= (double)g->high - g->centre))
        g->now = g->low--;
    else
        g->now = g->high++;
    return true;
}

/* What is left for digit k: (y_k - sum_{j>k} R_kj z_j) / R_kk. */
static double centre_of(const lq_lattice *l, const double *y, const digit *g, size_t k)
{
    const double *row = l->R + k * l->d;
    double rest = y[k];
    for (size_t j = k + 1; j < l->d; j++)
        rest -= row[j] * (double)g[j].now;
    return row[k] > 0 ? rest / row[k] : 0;
}

/* min |y - R z| over the box, from the last digit to the first: a branch is left as soon as its distance
 * reaches the best so far, and since its siblings are sorted, so are they. */
static void nearest(const lq_lattice *l, const double *y, long z[D_MAX])
{
    const size_t d = l->d;
    const long top = (long)l->levels - 1;
    double best = (double)INFINITY;
    digit g[D_MAX];
    size_t k = d - 1;
    open_digit(&g[k], centre_of(l, y, g, k), 0, top);
    for (;;) {
        const double gap = l->R[k * d + k] * ((double)g[k].now - g[k].centre);
        const double distance = g[k].spent + gap * gap;
        bool here = distance < best;
        if (here && k > 0) {
            k--;
            open_digit(&g[k], centre_of(l, y, g, k), distance, top);
            continue;
        }
        if (here) {
            best = distance;
            for (size_t j = 0; j < d; j++)
                z[j] = g[j].now;
        } /* the first digit's siblings are farther: up at once */
        do {
            if (++k >= d)
                return;
        } while (!next_digit(&g[k], top));
    }
}

static void round_lattice(const void *context, const float *target, size_t count, size_t ld,
                          size_t d, float *value, uint16_t *code)
{
    const lq_lattice *l = context;
    for (size_t v = 0; v < count; v++) {
        double y[D_MAX] = {0};
        long z[D_MAX] = {0};
        for (size_t i = 0; i < d; i++) {
            const double x = (double)target[i * ld + v] - (double)l->B[i];
            for (size_t k = 0; k < d; k++)
                y[k] += l->turn[k * d + i] * x;
        }
        nearest(l, y, z);
        for (size_t i = 0; i < d; i++) {
            float sum = l->B[i];
            for (size_t j = 0; j < d; j++)
                sum += l->A[i * d + j] * (float)z[j];
            value[i * ld + v] = sum;
            code[i * ld + v] = (uint16_t)z[i];
        }
    }
}

lq_rounder lq_rounder_lattice(const lq_lattice *lattice)
{
    return (lq_rounder){.round = round_lattice, .context = lattice, .vector = lattice->d};
}

/* ---- Learning A and B --------------------------------------------------------------------------- */

enum { UNKNOWNS = D_MAX + 1 };

/* Sums over all vectors: of (z-mu,1)(z-mu,1)', of x (z-mu,1)', and of the error. */
typedef struct moments {
    double normal[UNKNOWNS * UNKNOWNS], right[D_MAX * UNKNOWNS], error;
} moments;

static void gather(const lq_lattice *l, const float *x, size_t count, moments *out)
{
    const size_t d = l->d;
    const lq_rounder rounder = lq_rounder_lattice(l);
    const double mu = (double)(l->levels - 1) / 2;
    float value[CHUNK * D_MAX];
    uint16_t code[CHUNK * D_MAX];
    *out = (moments){0};
    for (size_t at = 0; at < count; at += CHUNK) {
        const size_t here = count - at < CHUNK ? count - at : CHUNK;
        lq_round_vectors(&rounder, x + at * d, here, d, value, code);
        for (size_t v = 0; v < here; v++) {
            double z[UNKNOWNS];
            for (size_t j = 0; j < d; j++)
                z[j] = (double)code[v * d + j] - mu;
            z[d] = 1;
            for (size_t j = 0; j <= d; j++)
                for (size_t k = 0; k <= d; k++)
                    out->normal[j * (d + 1) + k] += z[j] * z[k];
            for (size_t i = 0; i < d; i++) {
                const double xi = (double)x[(at + v) * d + i];
                const double gap = xi - (double)value[v * d + i];
                out->error += gap * gap;
                for (size_t j = 0; j <= d; j++)
                    out->right[i * (d + 1) + j] += xi * z[j];
            }
        }
    }
}

/* False: the codes do not determine A. */
static bool solve(lq_lattice *l, moments *sums)
{
    const size_t d = l->d, u = d + 1;
    const double mu = (double)(l->levels - 1) / 2;
    float A[LQ_LATTICE_NUMBERS], B[D_MAX];
    if (lq_spd_inverse(sums->normal, u) != LQ_OK)
        return false;
    for (size_t i = 0; i < d; i++) {
        double row[UNKNOWNS] = {0};
        for (size_t j = 0; j < u; j++)
            for (size_t k = 0; k < u; k++)
                row[j] += sums->right[i * u + k] * sums->normal[k * u + j];
        double offset = row[d];
        for (size_t j = 0; j < d; j++) {
            A[i * d + j] = (float)row[j];
            offset -= mu * row[j];
            if (!isfinite(row[j]))
                return false;
        }
        B[i] = (float)offset;
    }
    lq_lattice_of(l->levels, d, A, B, l);
    return true;
}

lq_status lq_lattice_fit(lq_lattice *lattice, const float *x, size_t count, size_t rounds,
                         double *mse, lq_arena *scratch)
{
    moments *sums;
    lq_lattice best = *lattice;
    double last = (double)INFINITY;
    LQ_TRY(lq_arena_new(scratch, &sums, 1));
    for (size_t r = 0;; r++) {
        gather(lattice, x, count, sums);
        if (sums->error < last)
            best = *lattice;
        const bool falls = sums->error < last * (1 - 1e-5);
        last = sums->error < last ? sums->error : last;
        if (r == rounds || !falls || !solve(lattice, sums))
            break;
    }
    *lattice = best;
    *mse = count > 0 ? last / (double)(count * lattice->d) : 0;
    return LQ_OK;
}
