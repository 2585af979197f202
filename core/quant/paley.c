#include "core/quant/paley.h"

#include <string.h>

enum { MAX_DEGREE = 3 };

/* The field of q = p^degree elements. Element number a is a polynomial: its digits in base p are the
 * coefficients, the lowest first. x^degree = tail. */
typedef struct field {
    size_t q, p, degree;
    size_t tail[MAX_DEGREE];
} field;

static bool is_prime(size_t p)
{
    for (size_t i = 2; i * i <= p; i++)
        if (p % i == 0)
            return false;
    return p >= 2;
}

static void digits(const field *f, size_t a, size_t out[MAX_DEGREE])
{
    for (size_t i = 0; i < MAX_DEGREE; i++, a /= f->p)
        out[i] = a % f->p;
}

static size_t number(const field *f, const size_t digit[MAX_DEGREE])
{
    size_t a = 0;
    for (size_t i = f->degree; i-- > 0;)
        a = a * f->p + digit[i];
    return a;
}

static size_t subtract(const field *f, size_t a, size_t b)
{
    size_t x[MAX_DEGREE], y[MAX_DEGREE];
    digits(f, a, x);
    digits(f, b, y);
    for (size_t i = 0; i < MAX_DEGREE; i++)
        x[i] = (x[i] + f->p - y[i]) % f->p;
    return number(f, x);
}

static size_t square(const field *f, size_t a)
{
    size_t x[MAX_DEGREE], product[2 * MAX_DEGREE] = {0};
    digits(f, a, x);
    for (size_t i = 0; i < f->degree; i++)
        for (size_t j = 0; j < f->degree; j++)
            product[i + j] += x[i] * x[j];
    for (size_t i = 2 * f->degree; i-- > f->degree;)
        for (size_t j = 0; j < f->degree; j++)
            product[i - f->degree + j] += product[i] % f->p * f->tail[j];
    for (size_t i = 0; i < MAX_DEGREE; i++)
        x[i] = product[i] % f->p;
    return number(f, x);
}

/* Has x^degree - tail a root? Of degree 2 or 3 it is irreducible if not. */
static bool has_root(const field *f)
{
    for (size_t x = 0; x < f->p; x++) {
        size_t power = 1, sum = 0;
        for (size_t i = 0; i < f->degree; i++) {
            sum = (sum + f->tail[i] * power) % f->p;
            power = power * x % f->p;
        }
        if (sum == power)
            return true;
    }
    return false;
}

/* False: q is no prime, nor the square or cube of one. */
static bool field_of(size_t q, field *f)
{
    for (size_t degree = 1; degree <= MAX_DEGREE; degree++)
        for (size_t p = 2; p <= q; p++) {
            const size_t power = degree == 1 ? p : degree == 2 ? p * p : p * p * p;
            if (power > q)
                break;
            if (power != q || !is_prime(p))
                continue;
            *f = (field){.q = q, .p = p, .degree = degree};
            for (size_t tail = 1; degree > 1 && has_root(f); tail++)
                digits(f, tail, f->tail);
            return true;
        }
    return false;
}

static bool is_paley_1(size_t order, field *f) { return order % 4 == 0 && field_of(order - 1, f); }

static bool is_paley_2(size_t order, field *f)
{
    return order % 4 == 0 && order / 2 % 4 == 2 && field_of(order / 2 - 1, f);
}

/* The smallest factor of a product; 0 when there is none. Halving first keeps the search short. */
static size_t factor_of(size_t order)
{
    if (order % 2 != 0)
        return 0;
    for (size_t k = 2; k * k <= order; k += 2)
        if (order % k == 0 && lq_paley_exists(k) && lq_paley_exists(order / k))
            return k;
    return 0;
}

bool lq_paley_exists(size_t order)
{
    field f;
    if (order == 1 || order == 2)
        return true;
    if (order == 0 || order > LQ_PALEY_LARGEST || order % 4 != 0)
        return false;
    return is_paley_1(order, &f) || is_paley_2(order, &f) || factor_of(order) != 0;
}

/* Jacobsthal's matrix with a border: (q+1,q+1), S_ij = chi(a_i - a_j), chi the quadratic character. */
static lq_status conference(const field *f, float *S, lq_arena *scratch)
{
    const size_t n = f->q + 1;
    float *chi;
    LQ_TRY(lq_arena_new(scratch, &chi, f->q));
    for (size_t a = 1; a < f->q; a++)
        chi[a] = -1;
    for (size_t a = 1; a < f->q; a++)
        chi[square(f, a)] = 1;
    S[0] = 0;
    for (size_t i = 1; i < n; i++) {
        S[i] = 1;
        S[i * n] = f->q % 4 == 3 ? -1 : 1;
        for (size_t j = 1; j < n; j++)
            S[i * n + j] = chi[subtract(f, i - 1, j - 1)];
    }
    return LQ_OK;
}

static lq_status paley_1(const field *f, float *H, lq_arena *scratch)
{
    LQ_TRY(conference(f, H, scratch));
    for (size_t i = 0; i <= f->q; i++)
        H[i * (f->q + 1) + i] += 1;
    return LQ_OK;
}

/* Each entry of the symmetric conference matrix becomes a square: 0 that of the diagonal, +-1 a signed
 * Hadamard of order 2. */
static lq_status paley_2(const field *f, float *H, lq_arena *scratch)
{
    static const float of_zero[2][2] = {{1, -1}, {-1, -1}}, of_one[2][2] = {{1, 1}, {1, -1}};
    const size_t n = f->q + 1;
    float *S;
    LQ_TRY(lq_arena_new(scratch, &S, n * n));
    LQ_TRY(conference(f, S, scratch));
    for (size_t i = 0; i < 2 * n; i++)
        for (size_t j = 0; j < 2 * n; j++) {
            const float s = S[i / 2 * n + j / 2];
            H[i * 2 * n + j] = s == 0 ? of_zero[i % 2][j % 2] : s * of_one[i % 2][j % 2];
        }
    return LQ_OK;
}

static lq_status kronecker(size_t a, size_t b, float *H, lq_arena *scratch)
{
    float *left, *right;
    LQ_TRY(lq_arena_new(scratch, &left, a * a));
    LQ_TRY(lq_arena_new(scratch, &right, b * b));
    LQ_TRY(lq_paley_fill(a, left, scratch));
    LQ_TRY(lq_paley_fill(b, right, scratch));
    for (size_t i = 0; i < a * b; i++)
        for (size_t j = 0; j < a * b; j++)
            H[i * a * b + j] = left[i / b * a + j / b] * right[i % b * b + j % b];
    return LQ_OK;
}

lq_status lq_paley_fill(size_t order, float *H, lq_arena *scratch)
{
    static const float two[] = {1, 1, 1, -1};
    field f;
    LQ_ASSERT(lq_paley_exists(order));
    if (order <= 2) {
        memcpy(H, two, order * order * sizeof *H);
        return LQ_OK;
    }
    lq_mark mark = lq_arena_mark(scratch);
    lq_status status;
    if (is_paley_1(order, &f)) {
        status = paley_1(&f, H, scratch);
    } else if (is_paley_2(order, &f)) {
        status = paley_2(&f, H, scratch);
    } else {
        const size_t k = factor_of(order);
        status = kronecker(k, order / k, H, scratch);
    }
    lq_arena_release(scratch, mark);
    return status;
}
