#!/usr/bin/env bash
# One thread and two give the same numbers, bit for bit: they are work, not arithmetic.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

toy_teacher || { not_ok teacher "$(tail -n 1 "$here/err")" && exit 1; }
for method in '{"name": "paretoq", "bits": 2}' '{"name": "lcqat", "bits": 2}' \
    '{"name": "gptq", "bits": 3}'; do
    name=$(echo "$method" | cut -d'"' -f4)
    fraction=1
    [ "$name" != gptq ] || fraction=0
    toy_point "$method" $fraction 1 >"$here/$name.json"
    for threads in 1 2; do
        export OMP_NUM_THREADS=$threads
        runs "${name}_with_$threads" "$LCQAT" run "$here/$name.json" --store "$here/$threads/runs"
    done
    record=$(basename "$(records_with "$here/1/runs" "\"name\":\"$name\"")")
    metrics "$here/1/runs/$record" >"$here/one"
    metrics "$here/2/runs/$record" >"$here/two"
    if ! grep -q perplexity "$here/one"; then
        not_ok "${name}_threads" "no metrics in $record"
    elif cmp -s "$here/one" "$here/two"; then
        ok "${name}_threads"
    else
        not_ok "${name}_threads" "$(diff "$here/one" "$here/two" | tr '\n' ' ')"
    fi
done
exit $status
