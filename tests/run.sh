#!/usr/bin/env bash
# Runs test programs and counts what they say.
#
#   tests/run.sh [-j JOBS] [-t SECONDS] [-s "NAME: why"] "PROGRAM [ARGUMENT...]"...
#
# A program speaks one of three ways: cmocka's summary lines; `ok NAME`, `not ok NAME: why`,
# `skip NAME: why` (shell tests); or the golden runner's last line. -s adds a test that could not even be
# started. Whatever a program says, ending badly, running over the time, or testing nothing is a failure.
# What failing programs print is shown, and so is every test that was skipped. The last line is always
#
#   N passed, M failed, K skipped
#
# and the exit status is 0 only if nothing failed and something passed.
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C CMOCKA_MESSAGE_OUTPUT=stdout
# Programs share the cores: threads that wait must not spin.
export OMP_WAIT_POLICY=passive
# The stack stays where it is (no detect_stack_use_after_return): fake frames are not aligned for AVX-512.
export ASAN_OPTIONS="${ASAN_OPTIONS:-allocator_may_return_null=1:detect_stack_use_after_return=0}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
export LQ_SHARED="${LQ_SHARED:-../shared}"

jobs=$(nproc)
seconds=240
skipped=0
while getopts j:t:s: option; do
    case $option in
    j) jobs=$OPTARG ;;
    t) seconds=$OPTARG ;;
    s) skipped=$((skipped + 1)) && echo "    skip $OPTARG" ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
trap 'cat "$logs"/*.pid 2>/dev/null | xargs -r kill 2>/dev/null; exit 130' INT TERM

# Runs one program, then writes LOG.count: passed, failed, skipped, seconds, what was odd.
run_one() { # LOG COMMAND
    local log=$1 started status=0
    local -a words
    read -ra words <<<"$2"
    started=$(date +%s)
    timeout -k 5 "$seconds" "${words[@]}" >"$log" 2>&1 </dev/null &
    echo $! >"$log.pid"
    wait $! || status=$?
    awk -v status=$status -v seconds="$(($(date +%s) - started))" '
        /^\[=+\] Running [0-9]+ test\(s\)/ { promised += $3 }
        /^\[  (PASSED|SKIPPED|FAILED) +\] .*test\(s\)/ {
            n = $0
            sub(/ test\(s\).*/, "", n)
            sub(/.* /, "", n)
            count[$2] += n
            summed += n
        }
        /^ok / { shell++; count["PASSED"]++ }
        /^not ok / { shell++; count["FAILED"]++ }
        /^skip / { shell++; count["SKIPPED"]++ }
        /^golden: [0-9]+ ok, [0-9]+ failed, [0-9]+ not covered$/ {
            shell++
            count["PASSED"] += $2
            count["FAILED"] += $4
            count["SKIPPED"] += $6
        }
        END {
            why = ""
            if (status == 124 || status == 137) why = "ran over the time"
            else if (promised != summed) why = "ended early"
            else if (status != 0 && !count["FAILED"]) why = "ended with status " status
            else if (status == 0 && count["FAILED"]) why = "ended with status 0 all the same"
            else if (summed + shell == 0) why = "tested nothing"
            if (why != "") count["FAILED"]++
            printf "%d %d %d %d %s\n", count["PASSED"], count["FAILED"], count["SKIPPED"],
                seconds, why
        }' "$log" >"$log.count"
}

# Cores are kept busy by starting the next program when one ends.
n=0
for command; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    run_one "$logs/$n" "$command" &
    n=$((n + 1))
done
wait

passed=0 failed=0 i=0
for command; do
    read -r p f s t why <"$logs/$i.count" || { p=0 f=1 s=0 t=0 why="no count"; }
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    if [ "$f" != 0 ]; then
        echo "--- $command: $f failed${why:+, $why}"
        grep -vE '^(\[ RUN      \]|\[       OK \]|ok )| ok$' "$logs/$i" | tail -n 200
        echo "---"
    else
        printf '%-52s %4d passed %4d s\n' "${command#build/}" "$p" "$t"
    fi
    sed -nE -e 's/^(skip .*| *[^ ].* not covered: .*)$/    \1/p' \
        -e 's/^\[  SKIPPED \] ([^ ]*)$/    skip \1/p' "$logs/$i" | sort -u
    i=$((i + 1))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed -gt 0 ]
