#!/usr/bin/env bash
# The floors of docs/architecture.md: a file includes lower floors and its own folder only; folders on one
# floor do not see each other. What a file includes, directly or not, is asked of the compiler.
set -u
cd "$(dirname "$0")/.." || exit 1

# Reads the rules of `gcc -MM`; a rule's first dependency is the file itself.
judge() {
    awk '
        function folder(path,  part) {
            split(path, part, "/")
            return part[1] == "core" ? part[1] "/" part[2] : part[1]
        }
        BEGIN {
            n = split("core/base 0 core/math 1 core/store 1 core/data 2 core/text 2 core/model 3 " \
                "core/quant 3 core/method 4 baselines 4 core/train 5 core/eval 5 experiments 6", f, " ")
            for (i = 1; i < n; i += 2) floor[f[i]] = f[i + 1]
        }
        { sub(/^[^:]*:/, ""); line = line $0; more = sub(/\\$/, "", line) }
        more { next }
        {
            m = split(line, dep, " ")
            line = ""
            mine = folder(dep[1])
            if (!(mine in floor)) { print dep[1] " lies on no floor"; next }
            for (i = 2; i <= m; i++) {
                theirs = folder(dep[i])
                sub(/^\.\//, "", dep[i])
                if (theirs == mine || dep[i] ~ /^\//) continue
                if (!(theirs in floor) || floor[theirs] >= floor[mine])
                    print dep[1] " includes " dep[i]
            }
        }'
}

# The checker is shown what it must refuse and what it must not.
expect() { # NAME WANT RULE
    local got
    got=$(printf '%s\n' "$3" | judge)
    if [ "$got" = "$2" ]; then
        echo "ok layers_$1"
    else
        echo "not ok layers_$1: said '$got'"
        status=1
    fi
}
status=0
expect upward_is_refused "core/base/a.c includes core/train/b.h" "a.o: core/base/a.c core/train/b.h"
expect sister_is_refused "core/model/a.c includes core/quant/b.h" \
    "a.o: core/model/a.c core/base/s.h \\
 core/quant/b.h"
expect tests_are_refused "core/base/a.c includes tests/b.h" "a.o: core/base/a.c tests/b.h"
expect downward_is_fine "" "a.o: baselines/a.c core/quant/b.h core/math/c.h"
expect own_folder_is_fine "" "a.o: core/math/ref/a.c core/math/b.h"

found=$(find core baselines experiments -name '*.[ch]' | sort |
    xargs "${CC:-gcc}" -MM -MG -I. -D_POSIX_C_SOURCE=200809L | judge)
if [ -z "$found" ]; then
    echo "ok layers"
else
    echo "$found"
    echo "not ok layers: $(echo "$found" | wc -l) includes go up or sideways"
    status=1
fi
exit $status
