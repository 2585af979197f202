#!/usr/bin/env bash
# docs/add-a-method.md, followed to the letter in a copy of the source tree: its own commands copy the
# template, register it, build it and run it, until its row stands in a table. One new file, one new line.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

page=docs/add-a-method.md
tree=$here/tree
objects=build/release
case $LCQAT in */build/asan/*) objects=build/asan ;; esac

# The N-th indented block of a section of the page.
block() { # SECTION N
    awk -v section="## $1." -v wanted="$2" '
        /^## / { here = index($0, section) == 1; n = 0; inside = 0 }
        here && /^    / { if (!inside) n++; inside = 1; if (n == wanted) print substr($0, 5) }
        here && !/^    / { inside = 0 }' "$page"
}
# As the page has it, but for where this build and its program lie.
in_tree() { # NAME COMMANDS
    local commands=${2//build\/lcqat/${LCQAT_HERE:-build/lcqat}}
    runs "$1" env -u MAKEFLAGS MAKELEVEL=1 MODE="${objects#build/}" BUILD="$objects" \
        bash -euc "cd '$tree'; $commands"
}
digests() {
    (cd "$tree" && find . -path ./build -prune -o -type f -print0 | sort -z | xargs -0 sha256sum)
}

# ---- the copy, with the objects that are there: only what changes is compiled
mkdir -p "$tree/$objects"
{ git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
    find . \( -path ./build -o -path ./results \) -prune -o -type f -print0; } |
    while IFS= read -r -d '' file; do
        [ ! -f "$file" ] || printf '%s\0' "$file"
    done | xargs -0 cp -p --parents -t "$tree"
for part in core baselines experiments; do
    if ! cp -rp "$objects/$part" "$tree/$objects/"; then
        not_ok objects "no $objects/$part; type make" && exit 1
    fi
done
cp -p "$objects/dnnl.stamp" "$tree/$objects/" # or what depends on it would be compiled again
[ "$objects" = build/release ] || LCQAT_HERE=$objects/lcqat
before=$(digests)

# ---- 1. copy the template, 2. register it
in_tree copies_the_template "$(block 1 1)"
line=$(block 2 1)
case $line in
LQ_METHOD\(mine\)*) ok page_has_the_line ;;
*) not_ok page_has_the_line "section 2 begins with '$line'" ;;
esac
echo "$line" >>"$tree/experiments/methods.def"
in_tree builds "$(block 2 2)"
is lists_the_method "$(grep -c '^mine' "$here/out")" 1
compiled=$(grep '^CC' "$here/out" | grep -oE '[^ ]+\.c$' | sort | tr '\n' ' ')
is compiles_what_changed "$compiled" "baselines/mine.c experiments/methods.c experiments/version.c "

# ---- 5. run it: the page's variant and runs, on a text of our own and few tokens
toy_text 60 4321 >"$here/text.txt"
variant=$(block 5 2 | sed -nE 's/^"variants": \{ (.*) \},$/\1/p')
entry=$(block 5 2 | sed -nE 's/^"runs": \[ (.*) \]$/\1/p' | sed 's/MODEL/tiny-llama/')
case $variant$entry in
*'"mine"'*'"tiny-llama"'*) ok page_has_a_variant ;;
*) not_ok page_has_a_variant "section 5: '$variant', '$entry'" ;;
esac
cat >"$here/mine.json" <<JSON
{"experiment": "mine", "about": "the page's example", "reference": "mine",
 "defaults": {"model": "tiny-llama", "budget_tokens": 51200,
   "train": {"data": "$here/text.txt", "batch": 8, "context": 32, "micro": 2, "lanes": 1, "lr": 1e-3},
   "calib": {"data": "$here/text.txt", "tokens": 1024, "context": 32},
   "eval": {"data": "$here/text.txt", "context": 32, "windows": 20}},
 "variants": {"none": {"label": "full precision", "method": {"name": "none"}},
   "rtn": {"label": "RTN", "method": {"name": "rtn", "bits": 2}},
   $variant},
 "runs": [{"variant": ["none", "rtn"]}, $entry]}
JSON
commands=$(block 5 3)
case $commands in
*'sweep SPEC.json'*'report results/EXPERIMENT --out report'*) ok page_has_a_sweep ;;
*) not_ok page_has_a_sweep "section 5: '$commands'" ;;
esac
commands=${commands//SPEC.json/$here/mine.json}
commands=${commands//EXPERIMENT/mine}
in_tree sweeps_and_reports "${commands//--out report/--spec $here/mine.json --out $here/report}"
is the_runs_are_stored "$(find "$tree/results/mine/runs" -name '*.json' | wc -l)" 5
table=$(find "$here/report" -name '*.md' -exec grep -l 'full precision' {} + | head -n 1)
row=$(grep Mine "${table:-/dev/null}" | head -n 1)
is the_row_is_in_a_table "${row:+yes}" yes
# Steps of rows of 128 and 320 weights ship as fp16 beside 2 bits a weight: 2.1.
case $row in
*2.1*) ok with_true_bits ;;
*) not_ok with_true_bits "$row" ;;
esac

# ---- one new file and one new line, and nothing else
rm -rf "$tree/results/mine"
after=$(digests)
is one_new_file "$(comm -13 <(echo "$before" | cut -c67- | sort) <(echo "$after" | cut -c67- | sort))" \
    ./baselines/mine.c
is one_changed_file "$(comm -13 <(echo "$before" | sort) <(echo "$after" | sort) | cut -c67- |
    grep -v baselines/mine.c)" ./experiments/methods.def
echo >>"$tree/README.md"
is a_third_file_would_be_seen "$(comm -13 <(echo "$after" | sort) <(digests | sort) | cut -c67-)" ./README.md
is one_new_line "$(diff experiments/methods.def "$tree/experiments/methods.def" | tail -n +2)" "> $line"
exit $status
