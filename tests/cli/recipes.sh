#!/usr/bin/env bash
# Recipes from the command line: generated text, a teacher beside the student and in a file, a start, what is
# refused; the record says which recipe it was.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash"

toy_teacher || { not_ok teacher "$(tail -n 1 "$here/err")" && exit 1; }

recipe() { # NAME METHOD RECIPE MORE-TRAIN: runs it, the record in $record
    toy_point "{\"name\": \"$2\", \"bits\": 2}" 1 1 5120 |
        sed "s|\"lr\": 1e-3|\"lanes\": 2$4|; s|\"micro\": 2, \"lanes\": 2, \"lanes\": 2|\"micro\": 2, \"lanes\": 2|
             s|\"seed\": 1|\"seed\": 1, \"recipe\": \"$3\"|" >"$here/point.json"
    runs "$1" "$LCQAT" run "$here/point.json" --store "$here/$1/runs"
    record=$(ls "$here/$1/runs"/*.json)
}

recipe bitdistiller bitdistiller bitdistiller/published ""
is bitdistiller_measures_beta "$(flat "$record" | grep -cE '"cakld_beta":\{[^}]*"value":0\.')" 1
is bitdistiller_wrote_text "$(find "$LCQAT_CACHE/generated" -name '*.safetensors' | wc -l)" 1
is the_record_names_the_recipe \
    "$(flat "$record" | grep -o '"recipe":"[^"]*"')" '"recipe":"bitdistiller/published"'

recipe start paretoq upq/published ""
is a_start_is_resolved "$(flat "$record" | grep -c '"start":{"method":{')" 1

# Where the file has the whole vocabulary, the teacher in it is the one beside the student.
loss() { flat "$1" | sed -nE 's/.*"train_loss_final":\{[^}]*"value":([0-9.e-]+).*/\1/p'; }
recipe beside llmqat llmqat/real-data ""
beside=$(loss "$record")
recipe file llmqat llmqat/real-data ', "teacher_topk": 320'
if awk -v a="$(loss "$record")" -v b="$beside" 'BEGIN { exit !(a > 0 && b > 0 && a < b * 1.0001 && b < a * 1.0001) }'; then
    ok a_whole_file_is_the_teacher
else
    not_ok a_whole_file_is_the_teacher "$beside beside, $(loss "$record") from the file"
fi
is the_file_is_in_the_cache "$(find "$LCQAT_CACHE/teacher" -name '*.safetensors' | wc -l)" 1

fails unknown_recipe 1 'paretoq/published' "$LCQAT" train "$here/teacher" --method paretoq --bits 2 \
    --data "$here/text.txt" --tokens 512 --recipe nonsense --out "$here/none"
fails recipe_of_ptq 2 'rtn does not' "$LCQAT" quantize "$here/teacher" --method rtn --bits 2 \
    --recipe paretoq/published --out "$here/none"
runs train_takes_a_recipe "$LCQAT" train "$here/teacher" --method paretoq --bits 2 \
    --data "$here/text.txt" --tokens 512 --recipe paretoq/published --set train.micro=2 --out "$here/single"
exit $status
