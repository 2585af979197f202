/* lcqat doctor: what this machine offers, and what each missing piece would give. */
#include "core/data/corpus.h"
#include "core/math/gemm.h"
#include "core/math/gemm_bf16.h"
#include "core/math/kernels.h"
#include "experiments/command.h"
#include "experiments/version.h"

#include <glob.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef struct piece { /* something the machine may have */
    const char *name;
    const char *look; /* a command on the PATH, or, with a '/', a pattern of files */
    const char *gives;
} piece;
static const piece pieces[] = {
    {"gnuplot", "gnuplot", "figures of `lcqat report`"},
    {"TeX", "pdflatex", "paper/main.pdf of `make paper`"},
    {"apt-get", "apt-get", "the corpus techdocs, made from Debian's documentation packages"},
    {"MPI", "mpirun", "nothing in this version: sweeps are divided by `sweep --shard I/N`"},
    {"oneDNN", "/usr/lib/*/libdnnl.so*", "products in bfloat16 (train.compute=bf16)"},
};
enum { N_PIECES = sizeof pieces / sizeof pieces[0] };

typedef struct flag { /* an instruction set, as /proc/cpuinfo names it */
    const char *flag, *use;
} flag;
static const flag flags[] = {
    {"avx2", "kernels v3"},
    {"avx512f", "kernels v4"},
    {"avx512_bf16", "train.compute=bf16"},
    {"amx_bf16", "train.compute=bf16"},
};
enum { N_FLAGS = sizeof flags / sizeof flags[0] };

static bool on_path(const char *command, lq_arena *arena)
{
    const char *path = getenv("PATH");
    for (const char *at = path; at != NULL && *at != '\0';) {
        const size_t n = strcspn(at, ":");
        if (access(lq_arena_printf(arena, "%.*s/%s", (int)n, at, command), X_OK) == 0)
            return true;
        at += n + (at[n] == ':');
    }
    return false;
}

static bool has(const piece *p, lq_arena *arena)
{
    if (strchr(p->look, '/') == NULL)
        return on_path(p->look, arena);
    glob_t found;
    const bool yes = glob(p->look, 0, NULL, &found) == 0;
    globfree(&found);
    return yes;
}

/* The line of a processor's flags, blanks around each; "" where there is none (not x86). */
static const char *cpu_flags(lq_arena *arena)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char *line = NULL;
    size_t room = 0;
    const char *out = "";
    while (file != NULL && *out == '\0' && getline(&line, &room, file) > 0)
        if (strncmp(line, "flags", 5) == 0) {
            line[strcspn(line, "\n")] = '\0';
            out = lq_arena_printf(arena, "%s ", line);
        }
    free(line);
    if (file != NULL)
        fclose(file);
    return out;
}

static bool has_flag(const char *all, const char *one, lq_arena *arena)
{
    return strstr(all, lq_arena_printf(arena, " %s ", one)) != NULL;
}

typedef struct cache {
    const char *dir, *trouble; /* trouble: NULL, or why it cannot be used */
    double free_bytes;
    bool techdocs;
} cache;

static cache look_at_cache(lq_arena *arena)
{
    cache c = {.dir = ""};
    struct statvfs about;
    if (lq_cache_dir(arena, &c.dir) != LQ_OK) {
        c.trouble = lq_arena_printf(arena, "%s", lq_status_note());
        return c;
    }
    if (statvfs(c.dir, &about) == 0)
        c.free_bytes = (double)about.f_bavail * (double)about.f_frsize;
    c.techdocs = lq_techdocs_ready();
    return c;
}

static lq_json *to_json(lq_arena *arena)
{
    const cache c = look_at_cache(arena);
    const char *all = cpu_flags(arena);
    lq_json *json = lq_json_object(), *isa = lq_json_object(), *tool = lq_json_object();
    lq_json *where = lq_json_object();
    lq_json_set(json, "program", lq_program_to_json());
    lq_json_set(json, "machine", lq_machine_to_json());
    lq_json_set_number(json, "threads", omp_get_max_threads());
    lq_json_set_bool(json, "bf16", lq_bf16_check() == LQ_OK);
    lq_json_set_string(json, "bf16_library", lq_bf16_library());
    for (size_t i = 0; i < N_FLAGS; i++)
        lq_json_set_bool(isa, flags[i].flag, has_flag(all, flags[i].flag, arena));
    for (size_t i = 0; i < N_PIECES; i++)
        lq_json_set_bool(tool, pieces[i].name, has(&pieces[i], arena));
    lq_json_set_string(where, "dir", c.dir);
    lq_json_set_bool(where, "writable", c.trouble == NULL);
    lq_json_set_number(where, "free_bytes", c.free_bytes);
    lq_json_set_bool(where, "techdocs", c.techdocs);
    lq_json_set(json, "instruction_sets", isa);
    lq_json_set(json, "tools", tool);
    lq_json_set(json, "cache", where);
    return json;
}

static void print_machine(lq_arena *arena)
{
    const char *all = cpu_flags(arena);
    lq_json *machine = lq_machine_to_json();
    printf("%-12s %s\n", "processor", lq_json_string(lq_json_get(machine, "processor")));
    printf("%-12s %.0f, %d OpenMP threads\n", "cores",
           lq_json_number(lq_json_get(machine, "cores")), omp_get_max_threads());
    printf("%-12s %.1f GB\n", "memory", lq_json_number(lq_json_get(machine, "memory_bytes")) / 1e9);
    lq_json_free(machine);
    printf("%-12s %s\n", "BLAS", lq_blas_name());
    printf("%-12s %s\n", "kernels", lq_kernels_isa());
    if (lq_bf16_check() == LQ_OK)
        printf("%-12s %s\n", "bf16", lq_bf16_library());
    else
        printf("%-12s no (%s)\n", "bf16", lq_status_note());
    for (size_t i = 0; i < N_FLAGS; i++)
        printf("%-12s %s (%s)\n", flags[i].flag, has_flag(all, flags[i].flag, arena) ? "yes" : "no",
               flags[i].use);
}

static lq_status run(const lq_args *args, lq_arena *arena)
{
    if (lq_args_flag(args, "json")) {
        lq_print_json(to_json(arena));
        return LQ_OK;
    }
    const cache c = look_at_cache(arena);
    printf("%-12s %s\n", "lcqat", lq_version());
    print_machine(arena);
    for (size_t i = 0; i < N_PIECES; i++)
        printf("%-12s %s (gives %s)\n", pieces[i].name, has(&pieces[i], arena) ? "yes" : "no",
               pieces[i].gives);
    if (c.trouble != NULL)
        printf("%-12s %s\n", "cache", c.trouble);
    else
        printf("%-12s %s, %.1f GB free, techdocs %s\n", "cache", c.dir, c.free_bytes / 1e9,
               c.techdocs ? "ready" : "not there: type `lcqat fetch techdocs`");
    return LQ_OK;
}

static const lq_arg_spec spec[] = {LQ_ARG_JSON};
const lq_command lq_command_doctor = {
    .name = "doctor",
    .summary = "says what this machine offers, and what missing pieces would give",
    .positionals = "",
    .lowest = 0,
    .highest = 0,
    .spec = spec,
    .n_spec = sizeof spec / sizeof spec[0],
    .run = run,
};
