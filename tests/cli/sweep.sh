#!/usr/bin/env bash
# A sweep from a spec to a table and a figure; killed half-way it shows no half run, goes on, and ends with
# the numbers of a sweep that nobody disturbed.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

toy_teacher || { not_ok teacher "$(tail -n 1 "$here/err")" && exit 1; }
cat >"$here/toy.json" <<JSON
{"experiment": "toy", "about": "two methods on a toy teacher", "reference": "lcqat",
 "defaults": {"model": "$here/teacher", "budget_tokens": 16000,
   "train": {"data": "$here/text.txt", "batch": 8, "context": 32, "micro": 2, "lanes": 2, "lr": 1e-3},
   "calib": {"data": "$here/text.txt", "tokens": 1024, "context": 32},
   "eval": {"data": "$here/text.txt", "context": 32, "windows": 40}},
 "variants": {"none": {"label": "full precision", "method": {"name": "none"}},
   "rtn": {"label": "RTN", "method": {"name": "rtn", "bits": 2}},
   "paretoq": {"label": "ParetoQ", "method": {"name": "paretoq", "bits": 2}},
   "lcqat": {"label": "LC-QAT", "method": {"name": "lcqat", "bits": 2}}},
 "search": [{"variant": "paretoq", "fraction": 0.25, "seed": 1,
             "grid": [{"train": {"lr": 1e-5}}, {"train": {"lr": 3e-3}}]}],
 "runs": [{"variant": ["none", "rtn"]},
          {"variant": ["paretoq", "lcqat"], "fraction": [0.25, 1], "seed": [1, 2]}]}
JSON

started=$(date +%s%N)
runs undisturbed "$LCQAT" sweep "$here/toy.json" -j 2 --store "$here/whole/runs"
whole_ms=$((($(date +%s%N) - started) / 1000000))
# Two of the search, ten results; none of them the same.
is all_runs_are_stored "$(find "$here/whole/runs" -name '*.json' | wc -l)" 12

# ---- killed half-way: the parent alone is hit, and takes its children with it
"$LCQAT" sweep "$here/toy.json" -j 2 --store "$here/broken/runs" >"$here/out" 2>"$here/err" </dev/null &
pid=$!
sleep "$((whole_ms / 2000)).$(printf '%03d' $((whole_ms / 2 % 1000)))"
kill -KILL $pid || not_ok killed "it was over before the signal"
wait $pid 2>/dev/null
sleep 1
is children_died_too "$(grep -la "[${here:0:1}]${here:1}/broken" /proc/[0-9]*/cmdline 2>/dev/null | head -n 1)" ""
stored=$(find "$here/broken/runs" -name '*.json' | wc -l)
if [ "$stored" -lt 12 ]; then ok killed_half_way; else not_ok killed_half_way "$stored runs stored"; fi
is killed_shows_no_half_run "$(find "$here/broken/runs" -type f ! -name '*.json')" ""
for record in "$here/broken/runs"/*.json; do
    [ "$(tail -c 2 "$record")" = "}" ] || not_ok record_is_whole "$record"
done
runs goes_on "$LCQAT" sweep "$here/toy.json" -j 2 --store "$here/broken/runs"
is same_runs "$(ls "$here/broken/runs")" "$(ls "$here/whole/runs")"
differing=
for record in "$here/whole/runs"/*.json; do
    [ "$(metrics "$record")" = "$(metrics "$here/broken/runs/$(basename "$record")")" ] ||
        differing="$differing $(basename "$record")"
done
is same_numbers "$differing" ""
is numbers_are_there "$(records_with "$here/whole/runs" '"perplexity":{' | wc -l)" 12
is work_is_cleared "$(ls "$here/broken/work")" ""

# ---- the shipped specifications, each name of a model or a text replaced: all that they ask for can be laid out
for spec in "${0%/*}"/../../experiments/specs/*.json; do
    sed -E "s#\"(tiny-llama|tiny-qwen3|SmolLM2-135M|Qwen3-1.7B|Qwen3-8B|Llama-3.2-3B)\"#\"$here/teacher\"#g
            s#\"((techdocs|redpajama|c4):[a-z]+|wikitext2)\"#\"$here/text.txt\"#g" "$spec" >"$here/shipped.json"
    runs "dry_run_of_$(basename "$spec" .json)" "$LCQAT" sweep "$here/shipped.json" --dry-run --store "$here/shipped"
    if grep -q '^results' "$here/out"; then ok results_are_laid_out; else not_ok results_are_laid_out "$spec"; fi
done
is dry_runs_run_nothing "$(find "$here/shipped" -name '*.json' 2>/dev/null)" ""

# ---- again: nothing is run, and soon
before=$(cd "$here/broken/runs" && stat -c '%n %Y %i' ./*.json)
id=$(find "$here/broken/runs" -name "*.json" -printf "%f\n" -quit)
touch "$here/broken/work/${id%.json}".{log,lock,point.json,checkpoint} # as of a process killed at its very end
started=$(date +%s%N)
runs again "$LCQAT" sweep "$here/toy.json" -j 2 --store "$here/broken/runs"
again_ms=$((($(date +%s%N) - started) / 1000000))
is again_writes_nothing "$(cd "$here/broken/runs" && stat -c '%n %Y %i' ./*.json)" "$before"
is again_clears_what_is_stored "$(ls "$here/broken/work")" ""
if [ $((again_ms * 4)) -lt $whole_ms ]; then
    ok again_is_quick
else
    not_ok again_is_quick "$again_ms ms, the sweep itself took $whole_ms ms"
fi
runs dry_run "$LCQAT" sweep "$here/toy.json" --dry-run --store "$here/broken/runs"
is dry_run_lists_all "$(grep -c ' stored$' "$here/out")" 12

# ---- what comes out
runs report "$LCQAT" report "$here/whole" --spec "$here/toy.json" --out "$here/whole"
for label in 'full precision' RTN ParetoQ LC-QAT; do
    if grep -q "$label" "$here/whole/index.html"; then
        ok "index_names_$label"
    else
        not_ok "index_names_$label" "not in index.html"
    fi
done
for kind in md csv tex; do
    if [ -n "$(find "$here/whole" -name "*.$kind" -size +0)" ]; then
        ok "table_$kind"
    else
        not_ok "table_$kind" "no such file"
    fi
done
if ! command -v gnuplot >/dev/null; then
    skip figure "no gnuplot"
elif [ -n "$(find "$here/whole" -name '*.svg' -size +0)" ]; then
    ok figure
else
    not_ok figure "no .svg"
fi
# A perplexity of a record stands in the table, rounded as it may be.
record=$(records_with "$here/whole/runs" '"variant":"rtn"')
ppl=$(flat "$record" | sed -nE 's/.*"perplexity":\{[^}]*"value":([0-9]+).*/\1/p')
is one_record_of_rtn "$(echo "$record" | wc -w)${ppl:+ with a number}" "1 with a number"
if find "$here/whole" -name '*.md' -exec grep -l "RTN.*\b$ppl\b" {} + | grep -q .; then
    ok table_has_the_number
else
    not_ok table_has_the_number "$ppl.* of RTN is in no table"
fi

# ---- a second text is measured where it is there, and left out where not
cat >"$here/also.json" <<JSON
{"experiment": "also", "figures": {"bits": ["none"]},
 "defaults": {"model": "$here/teacher",
   "eval": {"data": "$here/text.txt", "context": 32, "windows": 40, "also": "$here/second.txt", "also_windows": 10}},
 "variants": {"none": {"method": {"name": "none"}}, "rtn": {"method": {"name": "rtn", "bits": 2}}},
 "runs": [{"variant": ["none", "rtn"]}]}
JSON
runs without_a_second_text "$LCQAT" sweep "$here/also.json" --store "$here/also/runs"
is says_so_once "$(grep -c 'second.txt is left out' "$here/err")" 1
is record_has_one_text "$(records_with "$here/also/runs" '"perplexity_also"' | wc -w)" 0
tail -c 3000 "$here/text.txt" >"$here/second.txt"
runs with_a_second_text "$LCQAT" sweep "$here/also.json" --store "$here/also2/runs"
is record_has_both "$(records_with "$here/also2/runs" '"perplexity_also"' | wc -w)" 2
runs report_of_both "$LCQAT" report "$here/also2" --spec "$here/also.json" --out "$here/also2"
is column_of_the_second "$(head -n 1 "$here/also2/table.csv" | grep -c perplexity_also)" 1
is no_column_without "$(head -n 1 "$here/whole/table.csv" | grep -c perplexity_also)" 0
sed 's/"also": "[^"]*", //' "$here/also.json" >"$here/wrong.json"
is windows_of_no_second_text \
    "$("$LCQAT" sweep "$here/wrong.json" --store "$here/x/runs" 2>&1 | grep -c 'also_windows is of a second text')" 1
sed 's/\["none"\]}/["nome"]}/' "$here/also.json" >"$here/wrong.json"
fails figure_of_unknown_variant 2 "nome" "$LCQAT" sweep "$here/wrong.json" --store "$here/x/runs"

sed 's/"runs"/"rums"/' "$here/toy.json" >"$here/wrong.json"
fails spec_with_unknown_key 2 "rums" "$LCQAT" sweep "$here/wrong.json" --store "$here/x/runs"
sed 's/\["none", "rtn"\]/["none", "rtm"]/' "$here/toy.json" >"$here/wrong.json"
fails spec_with_unknown_variant 2 "rtm" "$LCQAT" sweep "$here/wrong.json" --store "$here/x/runs"
exit $status
