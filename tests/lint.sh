#!/usr/bin/env bash
# What a compiler does not say. `make lint` runs all of it; `tests/lint.sh --quick` what takes a second or
# two. A tool that is not installed is skipped, visibly.
#
#   LINT_FLAGS   the flags of the Makefile, for clang, clang-tidy and cppcheck
set -u
cd "$(dirname "$0")/.." || exit 1
mapfile -t sources < <(find core baselines experiments -name '*.c' | sort)
mapfile -t headers < <(find core baselines experiments -name '*.h' | sort)
mapfile -t tests < <(find tests -name '*.[ch]' | sort)
mapfile -t scripts < <(find tests experiments .ci -name '*.sh' -o -path '.ci/run' -o -name '*.bash' | sort)
read -ra flags <<<"${LINT_FLAGS--I. -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE}"
status=0

report() { # NAME OUTPUT: nothing said is good
    if [ -z "$2" ]; then
        echo "ok lint_$1"
    else
        printf '%s\n' "$2" | head -n 60
        echo "not ok lint_$1: $(printf '%s\n' "$2" | wc -l) lines"
        status=1
    fi
}

has() { # TOOL
    command -v "$1" >/dev/null || { echo "skip lint_$1: not installed" && return 1; }
}

# The words of style that must not come back. `exit(` belongs to no one: main returns.
words() { # FILE...
    grep -nE '(^|[^_[:alnum:]>.])(exit|rand|srand|atoi|atof|sprintf|vsprintf|strcpy|strcat|gets) ?\(|^ *# *if 0\b' "$@"
    grep -nE '\b(TODO|FIXME|XXX)\b' "$@" | grep -vE 'TODO\([a-z]+\)'
    grep -nE 'f(ast-math|unsafe-math-optimizations)|-Ofast' "$@" | grep -v '^tests/lint.sh:'
}

# Each library has one door.
doors() {
    local pair header door
    for pair in cjson/cJSON.h=core/base/json.c openssl/=core/base/sha256.c \
        cblas.h=core/math/gemm.c,core/math/linalg.c archive=core/data/archive.c \
        curl/=core/data/fetch.c pcre2.h=core/text/pattern.c utf8proc.h=core/text/unicode.c \
        oneapi/dnnl=core/math/gemm_bf16.c; do
        header=${pair%%=*} door=${pair#*=}
        grep -nE "#include <$header" "${sources[@]}" "${headers[@]}" |
            grep -vE "^(${door//,/|}):"
    done
}

# Paths of somebody's machine, in whatever is committed.
machine_paths() {
    git ls-files -z --cached --others --exclude-standard 2>/dev/null |
        grep -zvE '^(tests/lint.sh|LICENSE|.*\.safetensors)$' |
        xargs -0 -r grep -nIE '(^|[^[:alnum:]._~-])/(home|root|work|Users)/[[:alnum:]]' 2>/dev/null
}

formatted() {
    clang-format --dry-run "${sources[@]}" "${headers[@]}" "${tests[@]}" 2>&1 |
        grep -E 'warning: code should be clang-formatted' | cut -d: -f1 | sort | uniq -c
}

# Each checker is shown what it must refuse.
refuses() { # NAME TEXT
    local file
    file=$(mktemp)
    printf '%s\n' "$2" >"$file"
    if [ -n "$(words "$file")" ]; then
        echo "ok lint_refuses_$1"
    else
        echo "not ok lint_refuses_$1: '$2' was let through"
        status=1
    fi
    rm -f "$file"
}

refuses exit '    exit(1);'
refuses sprintf 'n = sprintf(a, b);'
refuses if_0 '#if 0'
refuses todo '/* TODO later */'
report words "$(words "${sources[@]}" "${headers[@]}" "${tests[@]}" Makefile)"
report doors "$(doors)"
report machine_paths "$(machine_paths)"
has clang-format && report format "$(formatted)"
[ "${1-}" != --quick ] || exit $status

report layers "$(tests/check_layers.sh | grep -E '^not ok')"
has clang && report clang "$(printf '%s\0' "${sources[@]}" |
    xargs -0 -P "$(nproc)" -n 8 clang -fsyntax-only "${flags[@]}" -std=c17 2>&1)"
# POSIX's NULL is a pointer; cppcheck knows neither that LQ_ASSERT ends the program nor that V > 0.
has cppcheck && report cppcheck "$(cppcheck -q -j "$(nproc)" -I. --std=c11 --inline-suppr \
    --enable=warning,performance,portability --template='{file}:{line}: {message} [{id}]' \
    --suppress=unknownMacro --suppress=missingInclude \
    --suppress=varFuncNullUB --suppress=nullPointerRedundantCheck \
    --suppress=nullPointerArithmeticRedundantCheck --suppress=invalidFunctionArg \
    "${sources[@]}" 2>&1)"
has clang-tidy && report clang-tidy "$(printf '%s\0' "${sources[@]}" |
    xargs -0 -P "$(nproc)" -n 4 sh -c 'clang-tidy --quiet "$@" -- $LINT_FLAGS -std=c17 2>/dev/null' sh |
    grep -E 'warning:|error:')"
has shellcheck && report shellcheck "$(shellcheck -x -P SCRIPTDIR -S warning -f gcc "${scripts[@]}" 2>&1)"
exit $status
