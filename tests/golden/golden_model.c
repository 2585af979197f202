/* Cases i1 to i4: whole models, in full precision and with every linear layer quantized. */
#include "tests/golden/golden.h"

#include "core/model/llama.h"
#include "core/quant/lcqat.h"

#include <math.h>
#include <string.h>

typedef struct model {
    golden *g, *source; /* outputs; weights and tokens, which may lie in another file */
    lq_weights weights, grad;
    lq_lane *lane;
    size_t B, T;
    uint32_t *ids, *targets; /* (B,T) */
} model;

static lq_status read_config(const golden *g, lq_config *c)
{
    const lq_json *json = lq_json_get(g->params, "config");
    const struct {
        const char *key;
        size_t *to;
    } sizes[] = {{"vocab", &c->V},      {"dim", &c->D},       {"layers", &c->L}, {"heads", &c->H},
                 {"kv_heads", &c->Hkv}, {"head_dim", &c->dh}, {"ffn", &c->F}};
    *c = (lq_config){.tied = true, .qk_norm = lq_json_true(lq_json_get(json, "qk_norm"))};
    c->arch = c->qk_norm ? LQ_ARCH_QWEN3 : LQ_ARCH_LLAMA;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        LQ_TRY(lq_json_size(json, g->file, sizes[i].key, 0, 1 << 20, 0, sizes[i].to));
        if (*sizes[i].to == 0)
            return lq_fail(LQ_E_FORMAT, "%s: config has no size '%s'", g->file, sizes[i].key);
    }
    LQ_TRY(lq_json_real(json, g->file, "eps", 0, 1, 0, &c->eps));
    LQ_TRY(lq_json_real(json, g->file, "theta", 0, 1e12, 0, &c->rope_theta));
    if (!(c->eps > 0 && c->rope_theta > 1) || c->H % c->Hkv != 0 || c->dh % 2 != 0)
        return lq_fail(LQ_E_FORMAT, "%s: config does not describe a model", g->file);
    return LQ_OK;
}

static lq_status read_tokens(model *m, size_t V)
{
    const lq_tensor *shape;
    float *ids;
    LQ_TRY(golden_matrix(m->source, "ids", 2, &shape, &ids));
    m->B = shape->shape[0];
    m->T = shape->shape[1];
    LQ_TRY(lq_arena_new(m->g->arena, &m->ids, m->B * m->T));
    LQ_TRY(lq_arena_new(m->g->arena, &m->targets, m->B * m->T));
    for (size_t i = 0; i < m->B * m->T; i++) {
        if (!(ids[i] >= 0 && ids[i] < (float)V) || m->T < 2)
            return lq_fail(LQ_E_FORMAT, "%s: ids outside the vocabulary, or one alone", m->g->file);
        m->ids[i] = (uint32_t)ids[i];
    }
    for (size_t i = 0; i < m->B * m->T; i++)
        m->targets[i] = i % m->T + 1 < m->T ? m->ids[i + 1] : UINT32_MAX;
    return LQ_OK;
}

static lq_status read_model(model *m)
{
    golden *g = m->g;
    lq_config config;
    LQ_TRY(read_config(g, &config));
    LQ_TRY(read_tokens(m, config.V));
    config.max_positions = m->T;
    LQ_TRY(lq_weights_new(&config, g->arena, &m->weights));
    LQ_TRY(lq_weights_new(&config, g->arena, &m->grad));
    LQ_TRY(lq_lane_new(&config, m->B, m->T, LQ_KEEP_ALL, g->arena, &m->lane));
    for (size_t i = 0; i < m->weights.n_tensors; i++) {
        const lq_weight *t = &m->weights.tensor[i];
        float *values;
        LQ_TRY(golden_vector(m->source, t->name, t->rows * t->cols, &values));
        memcpy(t->data, values, t->rows * t->cols * sizeof *values);
    }
    return LQ_OK;
}

/* The stream after layer l is what enters the next one. */
static lq_status check_forward(model *m)
{
    golden *g = m->g;
    const lq_config *c = &m->weights.config;
    const size_t N = m->B * m->T;
    float *logits = golden_floats(g, N * c->V);
    const char *layer;
    lq_forward(&m->weights, m->lane, m->ids, m->B);
    lq_logits(&m->weights, m->lane, 0, N, logits);
    LQ_TRY(golden_check(g, "logits", logits, N * c->V));
    for (size_t i = 0; (layer = golden_output(g, "hidden_", "", i)) != NULL; i++) {
        const size_t l = (size_t)(layer[0] - '0');
        if (layer[0] < '0' || layer[0] > '9' || layer[1] != 0 || l >= c->L)
            return lq_fail(LQ_E_FORMAT, "%s: no layer '%s'", g->file, layer);
        const float *x = l + 1 < c->L ? m->lane->layer[l + 1].x : m->lane->x_final;
        LQ_TRY(golden_check(g, golden_name(g, "hidden_%s", layer), x, N * c->D));
    }
    return LQ_OK;
}

static lq_status check_loss(model *m)
{
    const size_t n = m->B * (m->T - 1);
    double nats =
        lq_loss(&m->weights, m->lane, m->targets, (float)(1.0 / (double)n), &m->grad, NULL);
    lq_backward(&m->weights, m->lane, m->ids, &m->grad);
    return golden_check_one(m->g, "loss", nats / (double)n);
}

static bool is_quantized(const lq_weight *t) { return t->kind == LQ_WEIGHT_LINEAR; }

static lq_status check_plain_gradients(model *m, bool all)
{
    for (size_t i = 0; i < m->grad.n_tensors; i++) {
        const lq_weight *t = &m->grad.tensor[i];
        if (all || !is_quantized(t))
            LQ_TRY(golden_check(m->g, golden_name(m->g, "grad.%s", t->name), t->data,
                                t->rows * t->cols));
    }
    return LQ_OK;
}

static const char *stem_of(golden *g, const lq_weight *t)
{
    return golden_name(g, "%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name);
}

/* theta from the proxy weight, and the weight replaced by what theta stands for. */
static lq_status quantize(model *m, const lq_weight *t, lq_theta *th)
{
    double q_max;
    float *su, *sv;
    const char *stem = stem_of(m->g, t);
    LQ_TRY(golden_param(m->g, "qmax", &q_max));
    LQ_TRY(golden_lcqat(m->g, q_max, t->rows, t->cols, th));
    LQ_TRY(golden_set_proxy(m->g, th, t->data));
    LQ_TRY(golden_vector(m->source, golden_name(m->g, "%s.SU", stem), t->cols, &su));
    LQ_TRY(golden_vector(m->source, golden_name(m->g, "%s.SV", stem), t->rows, &sv));
    memcpy(lq_theta_f32(th, "su"), su, t->cols * sizeof *su);
    memcpy(lq_theta_f32(th, "sv"), sv, t->rows * sizeof *sv);
    th->method->effective(th, t->data, m->g->arena);
    return LQ_OK;
}

static lq_status check_theta_gradient(model *m, const lq_weight *dw, const lq_theta *th)
{
    golden *g = m->g;
    const size_t count = dw->rows * dw->cols;
    const char *stem = stem_of(g, dw);
    float *grad[LQ_MAX_SLOTS] = {0}, *du = golden_floats(g, count);
    float *d_su = golden_floats(g, dw->cols), *d_sv = golden_floats(g, dw->rows);
    grad[lq_theta_find(th, "u")] = du;
    grad[lq_theta_find(th, "su")] = d_su;
    grad[lq_theta_find(th, "sv")] = d_sv;
    th->method->backward(th, dw->data, grad, g->arena);
    for (size_t i = 0; i < count; i++)
        du[i] *= (float)lq_lcqat_kappa(dw->rows, dw->cols);
    LQ_TRY(golden_check(g, golden_name(g, "grad.%s.weight", stem), du, count));
    LQ_TRY(golden_check(g, golden_name(g, "grad.%s.SU", stem), d_su, dw->cols));
    return golden_check(g, golden_name(g, "grad.%s.SV", stem), d_sv, dw->rows);
}

static lq_status run_dense(model *m)
{
    LQ_TRY(read_model(m));
    LQ_TRY(check_forward(m));
    LQ_TRY(check_loss(m));
    return check_plain_gradients(m, true);
}

static lq_status run_quantized(model *m)
{
    lq_theta *th;
    LQ_TRY(read_model(m));
    LQ_TRY(lq_arena_new(m->g->arena, &th, m->weights.n_tensors));
    for (size_t i = 0; i < m->weights.n_tensors; i++)
        if (is_quantized(&m->weights.tensor[i]))
            LQ_TRY(quantize(m, &m->weights.tensor[i], &th[i]));
    LQ_TRY(check_forward(m));
    LQ_TRY(check_loss(m));
    LQ_TRY(check_plain_gradients(m, false));
    for (size_t i = 0; i < m->weights.n_tensors; i++)
        if (is_quantized(&m->weights.tensor[i]))
            LQ_TRY(check_theta_gradient(m, &m->grad.tensor[i], &th[i]));
    return LQ_OK;
}

/* With the weights of the file that the parameters name, or of the case's own. */
static lq_status with_weights(golden *g, lq_status (*run)(model *m))
{
    golden other = *g;
    model m = {.g = g, .source = g};
    const char *file = lq_json_string(lq_json_get(g->params, "weights"));
    if (file == NULL)
        return run(&m);
    if (strchr(file, '/') != NULL)
        return lq_fail(LQ_E_FORMAT, "%s: weights '%s' is no file name", g->file, file);
    other.file = file;
    LQ_TRY(lq_safetensors_open(golden_name(g, "%s/%s", g->dir, file), g->arena, &other.data));
    m.source = &other;
    lq_status status = run(&m);
    lq_safetensors_close(&other.data);
    return status;
}

lq_status golden_dense_model(golden *g) { return with_weights(g, run_dense); }

lq_status golden_lcqat_model(golden *g) { return with_weights(g, run_quantized); }

lq_status golden_weights_only(golden *g)
{
    (void)g; /* nothing to compute: inputs of other cases */
    return LQ_OK;
}
