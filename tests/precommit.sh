#!/usr/bin/env bash
# Before a commit, in half a minute: format of what is staged, forbidden words, layers, build, unit tests.
# `make hooks` installs it.
set -eu
cd "$(git rev-parse --show-toplevel)"
mapfile -t staged < <(git diff --cached --name-only --diff-filter=ACM -- '*.c' '*.h')
if [ ${#staged[@]} -gt 0 ] && command -v clang-format >/dev/null; then
    clang-format --dry-run -Werror "${staged[@]}"
fi
make --no-print-directory MODE=release BUILD=build/release all unit-programs
programs=()
for source in tests/unit/test_*.c; do
    programs+=("build/release/${source%.c}")
done
exec tests/run.sh -t 60 tests/check_layers.sh "tests/lint.sh --quick" "${programs[@]}"
