#!/usr/bin/env bash
# Stopped or killed half-way, a run goes on and ends with the numbers of one that nobody disturbed.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

toy_teacher || { not_ok teacher "$(tail -n 1 "$here/err")" && exit 1; }

# ---- one run: asked to stop, then killed, then left alone
toy_point '{"name": "paretoq", "bits": 2}' 1 1 60000 >"$here/point.json"
started=$(date +%s%N)
runs undisturbed "$LCQAT" run "$here/point.json" --store "$here/whole/runs"
whole_ms=$((($(date +%s%N) - started) / 1000000))
record=$(basename "$(ls "$here/whole/runs"/*.json)")

interrupt() { # SIGNAL PART: starts the run, signals after 1/PART of its time; leaves its status in $code
    code=0
    "$LCQAT" run "$here/point.json" --store "$here/broken/runs" >"$here/out" 2>"$here/err" &
    local pid=$!
    sleep "$((whole_ms / $2 / 1000)).$(printf '%03d' $((whole_ms / $2 % 1000)))"
    kill "-$1" $pid 2>/dev/null || not_ok "interrupt_$1" "it was over before the signal"
    wait $pid 2>/dev/null || code=$?
}
interrupt TERM 4
is stopped_is_status_1 "$code" 1
is stopped_is_one_line "$(grep -c '^lcqat: ' "$here/err")" 1
is stopped_leaves_no_record "$(ls "$here/broken/runs")" ""
is stopped_leaves_a_checkpoint "$(find "$here/broken/work" -name "*checkpoint" | wc -l)" 1
interrupt KILL 10
is killed_is_status_137 "$code" 137
is killed_leaves_no_record "$(ls "$here/broken/runs")" ""
runs resumed "$LCQAT" run "$here/point.json" --store "$here/broken/runs"
is resumed_has_the_same_id "$(ls "$here/broken/runs")" "$record"
is resumed_has_the_same_numbers "$(metrics "$here/broken/runs/$record")" \
    "$(metrics "$here/whole/runs/$record")"
is numbers_are_there "$(records_with "$here/whole/runs" '"perplexity":{' | wc -l)" 1
is resumed_leaves_no_checkpoint "$(ls "$here/broken/work")" ""

stamp=$(stat -c '%Y %i' "$here/broken/runs/$record")
started=$(date +%s%N)
runs again "$LCQAT" run "$here/point.json" --store "$here/broken/runs"
again_ms=$((($(date +%s%N) - started) / 1000000))
is again_writes_nothing "$(stat -c '%Y %i' "$here/broken/runs/$record")" "$stamp"
if [ $((again_ms * 4)) -lt $whole_ms ]; then
    ok again_is_quick
else
    not_ok again_is_quick "$again_ms ms, the run itself took $whole_ms ms"
fi
exit $status
