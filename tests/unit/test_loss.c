/* Losses with a teacher through a whole model: gradients against central differences, a teacher computed
 * beside the student against one read from a file, resumes bit for bit, memory as planned. */
#include "tests/check.h"

#include "core/base/file.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"
#include "core/train/slots.h"
#include "core/train/trainer.h"
#include "experiments/methods.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { T = 8, B = 2, V = 17, N_TOKENS = 400 };

static lq_config shape(void)
{
    return (lq_config){.arch = LQ_ARCH_LLAMA,
                       .D = 16,
                       .F = 24,
                       .L = 2,
                       .H = 2,
                       .Hkv = 1,
                       .dh = 8,
                       .V = V,
                       .max_positions = 64,
                       .eps = 1e-5,
                       .rope_theta = 1e4,
                       .tied = true};
}

typedef struct scene { /* a teacher, a student near it, data */
    lq_arena arena;
    lq_weights teacher, student, grad;
    lq_batches data;
    lq_lane *acts;
    uint32_t tokens[B * T], targets[B * T];
} scene;

static void open_scene(scene *s)
{
    const lq_config c = shape();
    lq_rng rng = lq_rng_seed(5);
    uint32_t *token;
    memset(s, 0, sizeof *s);
    check_ok(lq_weights_new(&c, &s->arena, &s->teacher));
    check_ok(lq_weights_new(&c, &s->arena, &s->student));
    check_ok(lq_weights_new(&c, &s->arena, &s->grad));
    for (size_t i = 0; i < s->teacher.n_tensors; i++) {
        const lq_weight *t = &s->teacher.tensor[i];
        for (size_t j = 0; j < t->rows * t->cols; j++) {
            const float x = (float)lq_rng_normal(&rng), off = (float)lq_rng_normal(&rng);
            t->data[j] = t->kind == LQ_WEIGHT_NORM ? 1 + 0.2f * x : 0.4f * x;
            s->student.flat[t->offset + j] = t->data[j] + 0.1f * off;
        }
    }
    check_ok(lq_arena_new(&s->arena, &token, N_TOKENS));
    for (size_t i = 0; i < N_TOKENS; i++)
        token[i] = (uint32_t)lq_rng_below(&rng, V);
    check_ok(lq_batches_new(token, N_TOKENS, T, &rng, &s->arena, &s->data));
    for (size_t b = 0; b < B; b++)
        lq_batches_get(&s->data, b, s->tokens + b * T, s->targets + b * T);
    s->targets[3] = UINT32_MAX; /* a position that does not count */
    check_ok(lq_lane_new(&c, B, T, LQ_KEEP_ALL, &s->arena, &s->acts));
}

static void close_scene(scene *s) { lq_arena_close(&s->arena); }

static const lq_loss_config losses[] = {
    {LQ_LOSS_KL, 1, 0, 1, 0},          {LQ_LOSS_REVERSE_KL, 1, 0, 1, 0},
    {LQ_LOSS_CAKLD, 1, 0, 1, 0.3},     {LQ_LOSS_JSD, 1, 0, 1, 0.4},
    {LQ_LOSS_KL, 0.5, 0.5, 2.5, 0},    {LQ_LOSS_JSD, 2, 0.25, 0.7, 0.9},
    {LQ_LOSS_REVERSE_KL, 1, 1, 1.5, 0}};
enum { N_LOSSES = sizeof losses / sizeof losses[0] };

/* L over the scene's sequences; grad is added to. */
static double loss_of(scene *s, const lq_loss_config *c, const lq_teacher_source *teacher,
                      float scale)
{
    lq_arena arena = {0};
    lq_teacher_lane lane;
    lq_loss_rows rows;
    const lq_config config = shape();
    check_ok(lq_teacher_lane_new(teacher, &config, B, T, c->temperature, &arena, &lane));
    check_ok(lq_loss_rows_new(V, &arena, &rows));
    lq_forward(&s->student, s->acts, s->tokens, B);
    lq_teacher_read(&lane, s->tokens, 0, B);
    const double nats = lq_loss_distill(c, &s->student, s->acts, s->targets, lq_teacher_rows, &lane,
                                        &rows, scale, &s->grad);
    lq_backward(&s->student, s->acts, s->tokens, &s->grad);
    lq_arena_close(&arena);
    return nats;
}

/* Largest disagreement of gradient and differences along one direction in each tensor, relative to the
 * gradient's length there. Reference arithmetic: sums in double. */
static double disagreement(scene *s, const lq_loss_config *c, const lq_teacher_source *teacher,
                           lq_rng *rng)
{
    const float h = 5e-4f, scale = 0.5f;
    double worst = 0;
    float *along = lq_arena_f32(&s->arena, 4096), *saved = lq_arena_f32(&s->arena, 4096);
    float *gradient = lq_arena_f32(&s->arena, s->grad.n);
    lq_kernels_use_reference(1);
    lq_gemm_use_reference(1);
    memset(s->grad.flat, 0, s->grad.n * sizeof *gradient);
    loss_of(s, c, teacher, scale);
    memcpy(gradient, s->grad.flat, s->grad.n * sizeof *gradient);
    for (size_t i = 0; i < s->student.n_tensors; i++) {
        const lq_weight *t = &s->student.tensor[i];
        const size_t n = t->rows * t->cols;
        double dot = 0, norm = 0, side[2];
        lq_fill_normal(along, n, rng);
        for (size_t j = 0; j < n; j++) {
            const double g = (double)gradient[t->offset + j];
            dot += g * (double)along[j];
            norm += g * g;
        }
        memcpy(saved, t->data, n * sizeof *saved);
        for (int k = 0; k < 2; k++) {
            for (size_t j = 0; j < n; j++)
                t->data[j] = saved[j] + (k == 0 ? h : -h) * along[j];
            side[k] = (double)scale * loss_of(s, c, teacher, scale);
        }
        memcpy(t->data, saved, n * sizeof *saved);
        const double off = fabs(dot - (side[0] - side[1]) / (2 * (double)h)) / (sqrt(norm) + 1e-3);
        if (!(off <= worst))
            worst = off;
    }
    lq_kernels_use_reference(0);
    lq_gemm_use_reference(0);
    return worst;
}

static void every_loss_has_the_gradient_of_itself(void **state)
{
    (void)state;
    scene s;
    lq_rng rng = lq_rng_seed(11);
    open_scene(&s);
    const lq_teacher_source teacher = {.w = &s.teacher};
    for (size_t i = 0; i < N_LOSSES; i++) {
        const double off = disagreement(&s, &losses[i], &teacher, &rng);
        if (!(off < 1e-2))
            fail_msg("loss %zu: gradient and differences disagree by %g", i, off);
    }
    close_scene(&s);
}

/* The value from its definition, in double, for one loss with everything in it. */
static void a_mixture_has_the_documented_value(void **state)
{
    (void)state;
    scene s;
    open_scene(&s);
    const lq_config config = shape();
    const lq_teacher_source teacher = {.w = &s.teacher};
    const lq_loss_config c = {LQ_LOSS_CAKLD, 0.7, 0.4, 2, 0.3};
    lq_lane *acts;
    float q_logits[B * T * V], p_logits[B * T * V];
    double want = 0;
    check_ok(lq_lane_new(&config, B, T, LQ_KEEP_NOTHING, &s.arena, &acts));
    lq_forward(&s.teacher, acts, s.tokens, B);
    lq_logits(&s.teacher, acts, 0, B * T, p_logits);
    lq_forward(&s.student, acts, s.tokens, B);
    lq_logits(&s.student, acts, 0, B * T, q_logits);
    for (size_t r = 0; r < B * T; r++) {
        double sum[3] = {0, 0, 0}, there = 0, back = 0;
        for (size_t j = 0; j < V; j++) {
            sum[0] += exp((double)p_logits[r * V + j] / 2);
            sum[1] += exp((double)q_logits[r * V + j] / 2);
            sum[2] += exp((double)q_logits[r * V + j]);
        }
        for (size_t j = 0; j < V; j++) {
            const double p = exp((double)p_logits[r * V + j] / 2) / sum[0];
            const double q = exp((double)q_logits[r * V + j] / 2) / sum[1];
            there += p * log(p / q);
            back += q * log(q / p);
        }
        if (s.targets[r] < V)
            want += 0.7 * 4 * (0.3 * back + 0.7 * there) +
                    0.4 * (log(sum[2]) - (double)q_logits[r * V + s.targets[r]]);
    }
    check_close(loss_of(&s, &c, &teacher, 1), want, 1e-5, 0);
    close_scene(&s);
}

static void the_teacher_itself_has_nothing_to_learn(void **state)
{
    (void)state;
    scene s;
    open_scene(&s);
    const lq_teacher_source teacher = {.w = &s.student};
    for (size_t i = 0; i < 4; i++) {
        memset(s.grad.flat, 0, s.grad.n * sizeof(float));
        check_close(loss_of(&s, &losses[i], &teacher, 1), 0, 0, 1e-4);
        for (size_t j = 0; j < s.grad.n; j++)
            assert_true(fabsf(s.grad.flat[j]) < 1e-4f);
    }
    close_scene(&s);
}

/* ---- A teacher in a file ----------------------------------------------------------------------- */

static char path[64];

static int make_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/lcqat-test-teacher-XXXXXX");
    const int fd = mkstemp(path);
    return fd >= 0 ? close(fd) : -1;
}

static int remove_path(void **state)
{
    (void)state;
    return remove(path);
}

static void store(scene *s, size_t k, double temperature, size_t n, lq_teacher_file *out)
{
    const lq_teacher_plan plan = {n, T, k, temperature, 2, 2};
    check_ok(lq_teacher_store(&s->teacher, &s->data, &plan, path, "of a test"));
    check_ok(lq_teacher_open(path, "of a test", &plan, V, &s->arena, out));
}

static void a_file_of_the_whole_vocabulary_is_the_teacher(void **state)
{
    (void)state;
    scene s;
    open_scene(&s);
    for (size_t i = 0; i < N_LOSSES; i++) {
        lq_teacher_file file;
        const lq_loss_config *c = &losses[i];
        float *online = lq_arena_f32(&s.arena, s.grad.n);
        store(&s, V, c->temperature, 5, &file);
        const lq_teacher_source beside = {.w = &s.teacher}, stored = {.file = &file};
        memset(s.grad.flat, 0, s.grad.n * sizeof(float));
        const double want = loss_of(&s, c, &beside, 1);
        memcpy(online, s.grad.flat, s.grad.n * sizeof(float));
        memset(s.grad.flat, 0, s.grad.n * sizeof(float));
        check_close(loss_of(&s, c, &stored, 1), want, 1e-5, 1e-5);
        assert_true(lq_worst(s.grad.flat, online, s.grad.n) < 2e-4);
        lq_teacher_close(&file);
    }
    close_scene(&s);
}

static void a_few_tokens_and_the_rest_are_a_coarser_teacher(void **state)
{
    (void)state;
    scene s;
    lq_rng rng = lq_rng_seed(12);
    open_scene(&s);
    for (size_t i = 0; i < N_LOSSES; i++) {
        lq_teacher_file file;
        store(&s, 4, losses[i].temperature, 70, &file); /* two chunks */
        const lq_teacher_source stored = {.file = &file}, beside = {.w = &s.teacher};
        const double off = disagreement(&s, &losses[i], &stored, &rng);
        if (!(off < 1e-2))
            fail_msg("loss %zu of 4 tokens: gradient and differences disagree by %g", i, off);
        const double coarse = loss_of(&s, &losses[i], &stored, 1);
        const double whole = loss_of(&s, &losses[i], &beside, 1);
        assert_true(coarse < whole && coarse > 0.2 * whole);
        for (size_t r = 0; r < T; r++) { /* descending, and with the rest a distribution */
            double sum = (double)file.rest[0][r];
            for (size_t j = 0; j < 4; j++)
                sum += exp((double)file.logp[0][4 * r + j]);
            check_close(sum, 1, 1e-5, 0);
            assert_true(file.logp[0][4 * r] >= file.logp[0][4 * r + 1]);
            assert_true(file.logp[0][4 * r + 2] >= file.logp[0][4 * r + 3]);
        }
        lq_teacher_close(&file);
    }
    close_scene(&s);
}

static void a_file_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    scene s;
    lq_teacher_file file;
    char *bytes;
    size_t n;
    open_scene(&s);
    store(&s, 4, 1, 5, &file);
    lq_teacher_close(&file);
    lq_teacher_plan plan = {5, T, 4, 1, 2, 2};
    assert_int_equal(lq_teacher_open(path, "of another", &plan, V, &s.arena, &file), LQ_E_FORMAT);
    plan.n_sequences = 6;
    assert_int_equal(lq_teacher_open(path, "of a test", &plan, V, &s.arena, &file), LQ_E_FORMAT);
    plan.n_sequences = 5;
    assert_int_equal(lq_teacher_open(path, "of a test", &plan, 3, &s.arena, &file), LQ_E_SHAPE);
    assert_int_equal(lq_teacher_open(path, "of a test", &plan, 5, &s.arena, &file), LQ_E_FORMAT);
    check_ok(lq_file_read(path, &s.arena, &bytes, &n));
    memset(bytes + n - 4, 0xff, 4); /* the last of "rest", or of whatever comes last */
    check_ok(lq_file_write_all(path, bytes, n));
    assert_int_equal(lq_teacher_open(path, "of a test", &plan, V, &s.arena, &file), LQ_E_FORMAT);
    /* more than any disk holds, and more than a size_t does: said at once */
    plan.n_sequences = (size_t)1 << 48;
    assert_int_equal(lq_teacher_store(&s.teacher, &s.data, &plan, path, ""), LQ_E_IO);
    plan.n_sequences = SIZE_MAX / 2;
    assert_int_equal(lq_teacher_store(&s.teacher, &s.data, &plan, path, ""), LQ_E_SHAPE);
    s.teacher.flat[0] = NAN;
    plan.n_sequences = 5;
    assert_int_equal(lq_teacher_store(&s.teacher, &s.data, &plan, path, ""), LQ_E_NUMERIC);
    close_scene(&s);
}

/* ---- Training ---------------------------------------------------------------------------------- */

static lq_train_config plain_config(void)
{
    lq_train_config c = {.batch = 4,
                         .T = T,
                         .micro = 1,
                         .lanes = 2,
                         .steps = 6,
                         .lr = 1e-2,
                         .train_rest = true,
                         .fingerprint = "test",
                         .checkpoint_s = 1e9};
    c.adamw = (lq_adamw){0.9, 0.95, 1e-8, 1};
    return c;
}

static lq_status stop_at_three(void *context, size_t step, double loss, double factor)
{
    (void)context, (void)loss, (void)factor;
    return step == 4 ? lq_fail(LQ_E_STOPPED, "enough") : LQ_OK;
}

/* Trains a fresh copy of the scene's student; its weights afterwards. */
static float *train(scene *s, const lq_train_config *c, lq_on_step on_step, lq_status expect,
                    lq_train_result *r)
{
    lq_qmodel q;
    check_ok(lq_qmodel_new(&s->student, NULL, NULL, &s->arena, &q));
    assert_int_equal(lq_train(&q, &s->data, c, &s->arena, on_step, NULL, r), expect);
    return q.w.flat;
}

static void every_loss_resumes_in_the_same_bits(void **state)
{
    (void)state;
    scene s;
    lq_teacher_file file;
    open_scene(&s);
    lq_loss_config list[N_LOSSES + 2];
    memcpy(list, losses, sizeof losses);
    list[N_LOSSES] = (lq_loss_config){.kind = LQ_LOSS_CE};
    list[N_LOSSES + 1] = (lq_loss_config){LQ_LOSS_CAKLD, 1, 0, 1, 0}; /* beta is measured */
    for (size_t i = 0; i < 2 * (N_LOSSES + 2); i++) {
        lq_train_config c = plain_config();
        lq_train_result whole, part;
        c.loss = list[i / 2];
        c.teacher.w = &s.teacher;
        if (i % 2 == 1) {
            const double temperature = c.loss.kind == LQ_LOSS_CE ? 1 : c.loss.temperature;
            store(&s, 3, temperature, lq_train_sequences(&c), &file);
            c.teacher = (lq_teacher_source){.file = &file};
        }
        const float *want = train(&s, &c, NULL, LQ_OK, &whole);
        char checkpoint[80];
        snprintf(checkpoint, sizeof checkpoint, "%s.checkpoint", path);
        c.checkpoint = checkpoint;
        c.checkpoint_s = -1; /* after every step */
        train(&s, &c, stop_at_three, LQ_E_STOPPED, &part);
        const float *got = train(&s, &c, NULL, LQ_OK, &part);
        assert_memory_equal(got, want, s.student.n * sizeof(float));
        assert_memory_equal(part.loss, whole.loss, c.steps * sizeof(double));
        assert_true(part.beta >= whole.beta && part.beta <= whole.beta);
        remove(checkpoint);
        if (i % 2 == 1)
            lq_teacher_close(&file);
    }
    close_scene(&s);
}

static void distillation_approaches_the_teacher(void **state)
{
    (void)state;
    scene s;
    open_scene(&s);
    for (size_t i = 0; i < 4; i++) {
        lq_train_config c = plain_config();
        lq_train_result r;
        c.steps = 40;
        c.loss = losses[i];
        c.teacher.w = &s.teacher;
        train(&s, &c, NULL, LQ_OK, &r);
        if (!(r.loss[39] < 0.7 * r.loss[0]))
            fail_msg("loss %zu: %g, first %g", i, r.loss[39], r.loss[0]);
    }
    close_scene(&s);
}

static void beta_is_measured_as_released(void **state)
{
    (void)state;
    scene s;
    lq_train_result r;
    open_scene(&s);
    lq_train_config c = plain_config();
    c.loss = (lq_loss_config){LQ_LOSS_CAKLD, 1, 0, 1, 0};
    memset(s.teacher.flat, 0, s.teacher.n * sizeof(float)); /* all tokens alike */
    c.teacher.w = &s.teacher;
    assert_int_equal(lq_train_sequences(&c), 11 * 4);
    train(&s, &c, NULL, LQ_OK, &r);
    check_close(r.beta, 1.1 / V, 1e-6, 0);
    c.loss.beta = 0.25;
    assert_int_equal(lq_train_sequences(&c), 6 * 4);
    train(&s, &c, NULL, LQ_OK, &r);
    check_close(r.beta, 0.25, 0, 0);
    close_scene(&s);
}

/* With an epsilon above any gradient Adam's step is proportional to it. */
static void a_sum_per_sequence_is_T_times_the_mean(void **state)
{
    (void)state;
    scene s;
    lq_train_result r;
    double moved[2] = {0, 0}, loss[2];
    open_scene(&s);
    for (int i = 0; i < 2; i++) {
        lq_train_config c = plain_config();
        c.steps = 1;
        c.adamw = (lq_adamw){0.9, 0.95, 1e6, 0};
        c.lr = 1e3;
        c.loss = losses[0];
        c.teacher.w = &s.teacher;
        c.sum_per_sequence = i == 1;
        const float *w = train(&s, &c, NULL, LQ_OK, &r);
        for (size_t j = 0; j < s.student.n; j++)
            moved[i] += fabs((double)w[j] - (double)s.student.flat[j]);
        loss[i] = r.loss[0];
    }
    check_close(moved[1], T * moved[0], 0.02, 0);
    check_close(loss[1], loss[0], 0, 0); /* nats per token either way */
    close_scene(&s);
}

static void planned_memory_covers_the_teacher(void **state)
{
    (void)state;
    scene s;
    open_scene(&s);
    for (int i = 0; i < 2; i++) {
        lq_arena arena = {0};
        lq_teacher_file file;
        lq_train_config c = plain_config();
        lq_train_result r;
        lq_qmodel q;
        c.loss = losses[3];
        c.teacher.w = &s.teacher;
        if (i == 1) {
            store(&s, 3, 1, lq_train_sequences(&c), &file);
            c.teacher = (lq_teacher_source){.file = &file};
        }
        check_ok(lq_qmodel_new(&s.student, NULL, NULL, &arena, &q));
        check_ok(lq_train(&q, &s.data, &c, &arena, NULL, NULL, &r));
        /* the teacher's weights are the scene's */
        const double planned =
            (double)lq_train_bytes(&q, &c) - (i == 0 ? 4 * (double)s.teacher.n : 0);
        const double used = (double)arena.peak_bytes;
        assert_true(used >= 0.9 * planned);
        assert_true(used <= 1.5 * planned + 65536); /* lists, rounding to 64 bytes */
        lq_arena_close(&arena);
        if (i == 1)
            lq_teacher_close(&file);
    }
    close_scene(&s);
}

/* ---- Slots ------------------------------------------------------------------------------------- */

static void only_listed_slots_move(void **state)
{
    (void)state;
    scene s;
    const lq_method *method;
    void *opts;
    open_scene(&s);
    check_ok(lq_method_find("paretoq", &method));
    check_ok(lq_method_options(method, NULL, "test", &s.arena, &opts));
    static const char *const list[] = {NULL, "all", "scales", "latent", "alpha"};
    static const bool moves[][2] = {
        {true, true}, {true, true}, {false, true}, {true, false}, {false, true}};
    for (size_t i = 0; i < 5; i++) {
        lq_qmodel q, fresh;
        lq_train_result r;
        lq_train_config c = plain_config();
        c.slots = list[i];
        c.train_rest = false;
        lq_qmodel *const both[] = {&q, &fresh};
        for (size_t k = 0; k < 2; k++) {
            const lq_rng rng = lq_rng_seed(1);
            check_ok(lq_qmodel_new(&s.student, method, opts, &s.arena, both[k]));
            for (size_t j = 0; j < q.n_theta && k < 2; j++)
                check_ok(method->init(&both[k]->theta[j],
                                      s.student.flat + lq_qmodel_weight(both[k], j)->offset, NULL,
                                      &rng, &s.arena));
        }
        check_ok(lq_train(&q, &s.data, &c, &s.arena, NULL, NULL, &r));
        for (size_t slot = 0; slot < 2; slot++) {
            const size_t n = q.theta[0].slot[slot].rows * q.theta[0].slot[slot].cols;
            const double off = lq_worst(q.theta[0].data[slot], fresh.theta[0].data[slot], n);
            assert_int_equal(off > 0, moves[i][slot]);
        }
        assert_memory_equal(q.w.final_norm, s.student.final_norm, 16 * sizeof(float));
        c.slots = "alpha,nonsense";
        assert_int_equal(lq_train(&q, &s.data, &c, &s.arena, NULL, NULL, &r), LQ_E_OPTION);
        assert_non_null(strstr(lq_status_note(), "latent alpha"));
    }
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_loss_has_the_gradient_of_itself),
        cmocka_unit_test(a_mixture_has_the_documented_value),
        cmocka_unit_test(the_teacher_itself_has_nothing_to_learn),
        cmocka_unit_test_setup_teardown(a_file_of_the_whole_vocabulary_is_the_teacher, make_path,
                                        remove_path),
        cmocka_unit_test_setup_teardown(a_few_tokens_and_the_rest_are_a_coarser_teacher, make_path,
                                        remove_path),
        cmocka_unit_test_setup_teardown(a_file_that_does_not_fit_is_refused, make_path,
                                        remove_path),
        cmocka_unit_test_setup_teardown(every_loss_resumes_in_the_same_bits, make_path,
                                        remove_path),
        cmocka_unit_test(distillation_approaches_the_teacher),
        cmocka_unit_test(beta_is_measured_as_released),
        cmocka_unit_test(a_sum_per_sequence_is_T_times_the_mean),
        cmocka_unit_test_setup_teardown(planned_memory_covers_the_teacher, make_path, remove_path),
        cmocka_unit_test(only_listed_slots_move),
    };
    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
