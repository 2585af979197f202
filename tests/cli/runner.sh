#!/usr/bin/env bash
# The runner of the tests is shown programs that end in every bad way: each must count as a failure.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

n=0
last_line() { # SCRIPT [OPTION...]: the runner's last line and status for one program
    local script=$1 code=0
    shift
    n=$((n + 1))
    printf '#!/bin/sh\n%s\n' "$script" >"$here/program$n"
    chmod +x "$here/program$n"
    tests/run.sh "$@" "$here/program$n" >"$here/out" 2>"$here/err" || code=$?
    echo "$(tail -n 1 "$here/out"), status $code"
}
cmocka() { # PASSED FAILED: what cmocka prints
    echo "echo '[==========] Running $(($1 + $2)) test(s).'"
    echo "echo '[  PASSED  ] $1 test(s).'"
    [ "$2" = 0 ] || echo "echo '[  FAILED  ] $2 test(s), listed below:'; echo '[  FAILED  ] x'; exit $2"
}
is good "$(last_line "echo 'ok a'; echo 'skip b: why'")" "1 passed, 0 failed, 1 skipped, status 0"
is cmocka_good "$(last_line "$(cmocka 3 0)")" "3 passed, 0 failed, 0 skipped, status 0"
is cmocka_bad "$(last_line "$(cmocka 3 2)")" "3 passed, 2 failed, 0 skipped, status 1"
is not_ok "$(last_line "echo 'ok a'; echo 'not ok b: why'; exit 1")" \
    "1 passed, 1 failed, 0 skipped, status 1"
is not_ok_with_status_0 "$(last_line "echo 'not ok b: why'")" "0 passed, 2 failed, 0 skipped, status 1"
is nothing_said "$(last_line true)" "0 passed, 1 failed, 0 skipped, status 1"
is only_skipped "$(last_line "echo 'skip a: why'")" "0 passed, 0 failed, 1 skipped, status 1"
is bad_status "$(last_line "echo 'ok a'; exit 3")" "1 passed, 1 failed, 0 skipped, status 1"
is crash "$(last_line "echo 'ok a'; kill -SEGV \$\$")" "1 passed, 1 failed, 0 skipped, status 1"
is cut_off "$(last_line "echo '[==========] Running 4 test(s).'; kill -9 \$\$")" \
    "0 passed, 1 failed, 0 skipped, status 1"
is over_time "$(last_line "echo 'ok a'; sleep 30" -t 1)" "1 passed, 1 failed, 0 skipped, status 1"
is not_started "$(last_line "echo 'ok a'" -s "x: not here")" "1 passed, 0 failed, 1 skipped, status 0"
is golden "$(last_line "echo 'golden: 7 ok, 1 failed, 2 not covered'; exit 1")" \
    "7 passed, 1 failed, 2 skipped, status 1"
tests/run.sh "$here/no-such-program" >"$here/out" 2>&1
is no_such_program "$(tail -n 1 "$here/out")" "0 passed, 1 failed, 0 skipped"
exit $status
