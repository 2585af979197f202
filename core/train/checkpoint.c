#include "core/train/checkpoint.h"

#include "core/base/args.h"
#include "core/data/safetensors.h"

#include <string.h>

/* Three tensors a parameter. */
static const char *const part[] = {"w", "m", "v"};

static float *part_data(const lq_param *p, size_t which)
{
    return which == 0 ? p->w : which == 1 ? p->m : p->v;
}

static lq_status write_with(const lq_checkpoint *now, lq_arena *scratch)
{
    lq_tensor *list;
    const size_t n = 3 * now->n_params + 1;
    LQ_TRY(lq_arena_new(scratch, &list, n));
    for (size_t i = 0; i < 3 * now->n_params; i++) {
        const lq_param *p = &now->param[i / 3];
        list[i] = (lq_tensor){.name = lq_arena_printf(scratch, "%s/%s", p->name, part[i % 3]),
                              .dtype = LQ_DTYPE_F32,
                              .rank = 1,
                              .shape = {p->n},
                              .elements = p->n,
                              .bytes = 4 * p->n,
                              .data = part_data(p, i % 3)};
    }
    list[n - 1] = (lq_tensor){.name = "loss",
                              .dtype = LQ_DTYPE_F64,
                              .rank = 1,
                              .shape = {now->step},
                              .elements = now->step,
                              .bytes = 8 * now->step,
                              .data = now->loss};
    const char *metadata[] = {"step", lq_arena_printf(scratch, "%zu", now->step), "fingerprint",
                              now->fingerprint};
    return lq_safetensors_write(now->path, list, n, metadata, 2);
}

lq_status lq_checkpoint_write(const lq_checkpoint *now)
{
    lq_arena scratch = {0};
    lq_status status = write_with(now, &scratch);
    lq_arena_close(&scratch);
    return status;
}

static lq_status take(const lq_safetensors *file, const char *name, lq_dtype dtype, size_t n,
                      void *out)
{
    const lq_tensor *t = lq_safetensors_find(file, name);
    if (t == NULL || t->dtype != dtype || t->elements != n)
        return lq_fail(LQ_E_FORMAT,
                       "%s: tensor %s is missing or of another size; remove the file "
                       "to start afresh",
                       file->path, name);
    memcpy(out, t->data, t->bytes);
    return LQ_OK;
}

static lq_status read_with(lq_checkpoint *out, const lq_safetensors *file, lq_arena *scratch)
{
    const char *step = lq_safetensors_metadata(file, "step");
    const char *fingerprint = lq_safetensors_metadata(file, "fingerprint");
    if (step == NULL || fingerprint == NULL || strcmp(fingerprint, out->fingerprint) != 0)
        return lq_fail(LQ_E_FORMAT, "%s: the checkpoint of another run; remove it to start afresh",
                       out->path);
    LQ_TRY(lq_text_size(step, out->path, 0, out->n_loss, &out->step));
    for (size_t i = 0; i < 3 * out->n_params; i++) {
        lq_param *p = &out->param[i / 3];
        const char *name = lq_arena_printf(scratch, "%s/%s", p->name, part[i % 3]);
        LQ_TRY(take(file, name, LQ_DTYPE_F32, p->n, part_data(p, i % 3)));
    }
    return take(file, "loss", LQ_DTYPE_F64, out->step, out->loss);
}

lq_status lq_checkpoint_read(lq_checkpoint *out, lq_arena *scratch)
{
    lq_safetensors file;
    LQ_TRY(lq_safetensors_open(out->path, scratch, &file));
    lq_status status = read_with(out, &file, scratch);
    lq_safetensors_close(&file);
    return status;
}
