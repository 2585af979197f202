#include "experiments/version.h"

#include "core/base/clock.h"
#include "core/math/gemm.h"
#include "core/math/kernels.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef LQ_VERSION
#define LQ_VERSION "unknown"
#endif
#ifndef LQ_CFLAGS
#define LQ_CFLAGS ""
#endif

const char *lq_version(void) { return LQ_VERSION; }

lq_json *lq_program_to_json(void)
{
    lq_json *json = lq_json_object();
    lq_json_set_string(json, "version", LQ_VERSION);
#ifdef __clang__
    lq_json_set_string(json, "compiler", "clang " __clang_version__);
#else
    lq_json_set_string(json, "compiler", "gcc " __VERSION__);
#endif
    lq_json_set_string(json, "flags", LQ_CFLAGS);
    lq_json_set_string(json, "blas", lq_blas_name());
    lq_json_set_string(json, "kernels", lq_kernels_isa());
    return json;
}

/* "model name" of /proc/cpuinfo, or the machine's architecture. */
static void processor(char *out, size_t room)
{
    struct utsname name;
    snprintf(out, room, "%s", uname(&name) == 0 ? name.machine : "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        snprintf(out, room, "%s", colon + 2);
        out[strcspn(out, "\n")] = '\0';
        break;
    }
    if (file != NULL)
        fclose(file);
}

lq_json *lq_machine_to_json(void)
{
    char name[256];
    lq_json *json = lq_json_object();
    processor(name, sizeof name);
    lq_json_set_string(json, "processor", name);
    lq_json_set_number(json, "cores", (double)sysconf(_SC_NPROCESSORS_ONLN));
    lq_json_set_number(json, "memory_bytes", (double)lq_clock_memory_bytes());
    return json;
}
