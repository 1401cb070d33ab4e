#!/usr/bin/env bash
# Eight ranks train a model nearly eight times as large as one rank does, each within the same
# memory budget: FP16, recomputation by blocks, ZeRO stage 3. Width 512, one sequence of 128 bytes a
# rank. `memwall fit` finds the deepest GPT for one rank and for eight; both train ten steps on the
# King James Bible, and one layer more is refused. The figures go to eight_times.json.
#
#   bash examples/eight_times.sh                   some minutes; 8 x the budget of free memory
#   bash examples/eight_times.sh --folder DIR      runs and figures go there (default: runs/eight_times)
#   bash examples/eight_times.sh --budget 1GiB     what a rank may hold
#   bash examples/eight_times.sh --binary FILE     this memwall; nothing is built
#
# Ends with status 1 where a goal is missed: at least 20 layers on one rank and less than 2 % of its
# budget unused, at least 7.6 times the parameters on eight, and every rank's anonymous memory at most
# the budget and the allowance below.
set -euo pipefail

folder=runs/eight_times
budget=1GiB
memwall=
ranks=8
steps=10
# What may lie outside the planned memory: MPI, the compiled plan, scratch of the matrix library. The
# metrics list these bytes as measured.memory.outside; they are in no budget.
allowance_bytes=$((96 << 20))

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/install.sh
source tests/install.sh

while (($#)); do
  case $1 in
    --folder | --budget | --binary)
      (($# > 1)) || fail 2 "$1 needs a value"
      case $1 in
        --folder) folder=$2 ;;
        --budget) budget=$2 ;;
        --binary) memwall=$2 ;;
      esac
      shift
      ;;
    -h | --help) sed -n '2,/^set /{/^#/p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) fail 2 "unknown option: $1 (--folder, --budget, --binary, --help)" ;;
  esac
  shift
done

# 1. Packages, build, text.
packages=(bible-kjv jq)
if [[ -z $memwall ]]; then packages+=("${build_packages[@]}"); fi
install "${packages[@]}"
build_memwall() {
  cmake --preset cpu && cmake --build --preset cpu --parallel "$(env -u OMP_NUM_THREADS nproc)" --target memwall
}
if [[ -z $memwall ]]; then
  timed "build Memwall" build_memwall
  memwall=build/memwall
fi
mkdir -p "$folder"
text=$folder/bible.txt
if [[ ! -s $text ]]; then
  bible -f gen1:1-rev22:21 >"$text.part"
  mv "$text.part" "$text"
fi

# 2. The model, but for its depth. Both runs differ in the stage and in the number of ranks only.
config=$folder/eight_times.textproto
cat >"$config" <<END
model { num_layers: 20 hidden_size: 512 num_heads: 8 context_length: 128 vocab_size: 256 }
data { text: "$text" micro_batch_size: 1 }
optimizer { learning_rate: 1e-4 }
schedule { warmup_steps: $steps }
precision { mode: FP16 initial_loss_scale: 4096 }
activation_checkpointing { policy: BLOCK }
run { name: "eight_times" steps: $steps log_every: 1 }
END

launch=(mpirun --bind-to none --oversubscribe)
if (($(env -u OMP_NUM_THREADS nproc) < ranks)); then launch+=(--mca mpi_yield_when_idle 1); fi
if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

# deepest N [--set ...]: what `memwall fit` finds for N ranks, as JSON.
deepest() {
  local n=$1
  shift
  "$memwall" fit "$config" --ranks "$n" --budget "$budget" --vary layers --json "$@"
}

# train_on N STAGE LAYERS RUN_FOLDER
train_on() {
  local n=$1 stage=$2 layers=$3 run=$4
  rm -rf "$run"
  "${launch[@]}" -np "$n" "$memwall" train "$config" --run-dir "$run" --set memory.budget="$budget" \
    --set parallel.zero_stage="$stage" --set model.num_layers="$layers"
}

# refuse_on N STAGE LAYERS: the command must end with status 3, which is "over the budget".
refuse_on() {
  local status=0
  say "one layer more: $3 on $1 rank(s)"
  train_on "$@" "$folder/refused" >"$folder/refused.log" 2>&1 || status=$?
  sed -n '/^memwall:/,/^ /p' "$folder/refused.log"
  ((status == 3)) || fail 1 "$3 layers on $1 rank(s) ended with status $status instead of 3" \
    "see $folder/refused.log"
}

# report FIT RUN_FOLDER: the figures of one side. The peak is the arena of the rank that holds most;
# the windows that ranks share lie beside it.
report() {
  jq --slurp --argjson fit "$1" '
    {parameters: $fit.best.parameters, layers: $fit.best.layers, ranks: $fit.ranks,
     budget_bytes: $fit.budget_bytes, planned_bytes: $fit.best.planned_bytes,
     peak_bytes: (map(.measured.memory.peak) | max),
     windows_bytes: (map(.planned.memory.windows // 0) | max),
     rss_anon_bytes: (map(.measured.memory.rss_anon) | max),
     outside_bytes: (map(.measured.memory.outside | add) | max),
     outside: (max_by(.measured.memory.outside | add) | .measured.memory.outside),
     losses: (group_by(.step) | map(.[0].loss)),
     step_seconds: (map(.step_seconds) | sort | .[length / 2 | floor])}' "$2"/metrics/rank-*.jsonl
}

# 3. One rank, then eight.
declare -A side_ranks=([one_rank]=1 [eight_ranks]=$ranks) side_stage=([one_rank]=0 [eight_ranks]=3)
for side in one_rank eight_ranks; do
  n=${side_ranks[$side]} stage=${side_stage[$side]}
  fit=$(deepest "$n" --set parallel.zero_stage="$stage")
  layers=$(jq .best.layers <<<"$fit")
  if [[ -z ${OMP_NUM_THREADS:-} && $n == "$ranks" ]]; then export OMP_NUM_THREADS=1; fi
  timed "train $layers layers on $n rank(s)" train_on "$n" "$stage" "$layers" "$folder/$side"
  refuse_on "$n" "$stage" $((layers + 1))
  report "$fit" "$folder/$side" >"$folder/$side.json"
done

figures=$folder/eight_times.json
jq --null-input --slurpfile one "$folder/one_rank.json" --slurpfile eight "$folder/eight_ranks.json" \
  --argjson allowance "$allowance_bytes" '
  {one_rank: $one[0], eight_ranks: $eight[0], times: ($eight[0].parameters / $one[0].parameters),
   allowance_bytes: $allowance}' >"$figures"
rm "$folder/one_rank.json" "$folder/eight_ranks.json"

# 4. What came of it.
jq --raw-output '
  def mib: . / 1048576 * 10 | round / 10 | tostring + " MiB";
  def side: "\(.layers) layers, \(.parameters) parameters; a rank: \(.peak_bytes | mib) resident " +
            "and \(.windows_bytes | mib) of shared windows (planned \(.planned_bytes | mib)) of \(.budget_bytes | mib), \(.outside_bytes | mib) " +
            "outside; loss \(.losses[0]) to \(.losses[-1]); \(.step_seconds) s a step";
  "\none rank:    \(.one_rank | side)\neight ranks: \(.eight_ranks | side)",
  "times the parameters: \(.times)"' "$figures"

# Without a goal: width 768 and sequences of 1024. With x = B T / width and one FP16 value kept a
# block, a layer takes (192 + 2x) d^2 bytes on one rank and (24 + 2x) d^2 on eight; about three layers
# of gather buffers come off.
wide=(--set model.hidden_size=768 --set model.num_heads=12 --set model.context_length=1024)
one=$(budget=4GiB deepest 1 "${wide[@]}")
filled=$(jq .best.planned_bytes <<<"$one")B # all of which one rank uses
eight=$(budget=$filled deepest "$ranks" "${wide[@]}" --set parallel.zero_stage=3)
jq --null-input --raw-output --argjson one "$one" --argjson eight "$eight" '
  (1024 / 768) as $x |
  "width 768, T = 1024, \($one.best.planned_bytes | . / 1048576 | floor) MiB a rank, planned only: \($one.best.layers) and \($eight.best.layers) " +
  "layers, \($eight.best.parameters / $one.best.parameters) times the parameters; by the formula " +
  "\((192 + 2 * $x) / (24 + 2 * $x)) before buffers"'

goal() { # goal "what" JQ_CONDITION
  jq --exit-status "$2" "$figures" >/dev/null || fail 1 "goal missed: $1" "see $figures"
}
goal "at least 20 layers on one rank" '.one_rank.layers >= 20'
goal "less than 2 % of one rank's budget unused" \
  '.one_rank | (.budget_bytes - .peak_bytes) < 0.02 * .budget_bytes'
goal "ten losses on both" '[.one_rank, .eight_ranks] | all(.losses | length == 10)'
goal "no rank over its budget" '[.one_rank, .eight_ranks] | all(.peak_bytes + .windows_bytes <= .budget_bytes)'
goal "anonymous memory within budget and allowance" \
  '.allowance_bytes as $allowance | [.one_rank, .eight_ranks] |
   all(.rss_anon_bytes <= .budget_bytes + $allowance and .outside_bytes <= $allowance)'
goal "at least 7.6 times the parameters" '.times >= 7.6'
say "all goals reached: $figures"
