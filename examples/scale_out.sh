#!/usr/bin/env bash
# What ZeRO's stages cost and save: trains the quickstart's model for a few steps on 1, 2 and 4 MPI
# ranks at stages 0 to 3, always on the same 16 sequences a step, and prints tokens/s, memory and
# traffic of a rank as one table, planned beside measured. About three minutes on two cores.
#
#   bash examples/scale_out.sh                     on the King James Bible (Debian's bible-kjv)
#   DATA=my.txt bash examples/scale_out.sh         on your own text, UTF-8, a megabyte or more
#   STEPS=50 bash examples/scale_out.sh            longer runs, steadier rates
#   bash examples/scale_out.sh --json              the figures as JSON on standard output
#
# The figures are also written to runs/scale_out/scale_out.json, beside the folders of the runs.
set -euo pipefail

sequences=16
steps=${STEPS:-15}
warm_up=5  # steps that do not count towards tokens/s
text=
if [[ -n ${DATA:-} ]]; then
  text=$(realpath -- "$DATA")  # relative to where the user is
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/install.sh
source tests/install.sh

json=no
case "$*" in
  '') ;;
  --json) json=yes ;;
  *) fail 2 "unknown option: $* (allowed: --json; DATA and STEPS by the environment)" ;;
esac
if ! [[ $steps =~ ^[0-9]+$ ]] || ((steps <= warm_up)); then
  fail 2 "STEPS=$steps is no number of steps above $warm_up"
fi
if [[ -n $text && ! (-f $text && -r $text && -s $text) ]]; then
  fail 2 "DATA=$DATA is not a readable file with text in it"
fi
exec 3>&1  # the table or the JSON; what the script does goes to standard error
exec 1>&2

# 1. Packages, build, text.
packages=("${build_packages[@]}" jq)
if [[ -z $text ]]; then packages+=(bible-kjv); fi
install "${packages[@]}"
cores=$(env -u OMP_NUM_THREADS nproc)
build_memwall() {
  cmake --preset cpu && cmake --build --preset cpu --parallel "$cores" --target memwall
}
if [[ -n ${MEMWALL:-} ]]; then
  memwall=$(realpath -- "$MEMWALL")
else
  timed "build Memwall" build_memwall
  memwall=build/memwall
fi
if [[ -z $text ]]; then
  text=data/bible.txt
  if [[ ! -s $text ]]; then
    mkdir -p data
    if ! bible -f gen1:1-rev22:21 >data/bible.txt.part || [[ ! -s data/bible.txt.part ]]; then
      fail 2 "the program \`bible\` (package bible-kjv) wrote nothing; name a text yourself: DATA=my.txt"
    fi
    mv data/bible.txt.part data/bible.txt
  fi
fi

# 2. Runs. Open MPI refuses to start as root, and more ranks than cores, unless it is told
# otherwise; its own binding would give a rank one core, however many threads it has.
if ((EUID == 0)); then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
folder=runs/scale_out
figures=$folder/scale_out.json
rm -rf "$folder"
mkdir -p "$folder"

# train RANKS STAGE THREADS: a run in $folder/RANKS-STAGE.
train() {
  local ranks=$1 stage=$2 threads=$3
  local launch=(mpirun --bind-to none --oversubscribe)
  if ((ranks * threads > cores)); then launch+=(--mca mpi_yield_when_idle 1); fi
  OMP_NUM_THREADS=$threads "${launch[@]}" -np "$ranks" "$memwall" train \
    configs/quickstart.textproto --run-dir "$folder/$ranks-$stage" --set "data.text=$text" \
    --set "data.micro_batch_size=$((sequences / ranks))" \
    --set "data.global_batch_size=$sequences" --set "parallel.zero_stage=$stage" \
    --set "run.steps=$steps" --set run.eval_every=0 --set run.save_every=0 \
    --set run.peak_flops=1e12 >"$folder/$ranks-$stage.log" 2>&1 ||
    fail $? "$ranks ranks at stage $stage failed; the end of $folder/$ranks-$stage.log:" \
      "$(tail -n 5 "$folder/$ranks-$stage.log")"
}

# figures RANKS STAGE THREADS: one JSON object of that run. Memory: the rank with the most; traffic:
# what rank 0 sends a step; tokens/s: the median step after the warm-up.
figures() {
  local ranks=$1 stage=$2 threads=$3 run=$folder/$1-$2 rate
  rate=$(jq --slurp --argjson skip "$warm_up" \
    'map(.tokens_per_second)[$skip:] | sort | .[length / 2 | floor]' "$run/metrics/rank-00000.jsonl")
  "$memwall" show "$run" --json | jq --argjson ranks "$ranks" --argjson stage "$stage" \
    --argjson threads "$threads" --argjson cores "$cores" --argjson rate "$rate" '
    def sent: [.traffic[].wire_bytes] | add;
    {ranks: $ranks, zero_stage: $stage, threads: $threads,
     oversubscribed: ($ranks * $threads > $cores), tokens_per_second: $rate, loss: .loss,
     planned: {memory: (.ranks | map(.planned.memory) | max_by(.peak)),
               sent_bytes: (.ranks[0].planned | sent)},
     measured: {memory_peak: (.ranks | map(.measured.memory.peak) | max),
                sent_bytes: (.ranks[0].measured | sent)}}'
}

run_all() {
  local ranks stage threads
  for ranks in 1 2 4; do
    threads=$((cores > ranks ? cores / ranks : 1))
    for stage in 0 1 2 3; do
      say "$ranks ranks of $threads threads, stage $stage" >&2
      train "$ranks" "$stage" "$threads"
      figures "$ranks" "$stage" "$threads"
    done
  done
}
start=$SECONDS
run_all | jq --slurp . >"$figures.part"
mv "$figures.part" "$figures"
say "12 runs: $((SECONDS - start)) s; figures in $figures"

# 3. The table. "States" are parameters, gradients and optimizer state; MiB = 2^20 bytes.
if [[ $json == yes ]]; then
  cat "$figures" >&3
  exit 0
fi
{
  printf '%5s %7s %5s %9s %8s %8s %9s %9s %9s %9s %9s\n' ranks threads stage tokens/s \
    states gathered 'peak, MiB' measured 'sent, MiB' measured loss
  jq --raw-output '.[] | def mib: . / 1048576;
    [.ranks, .threads, .zero_stage, .tokens_per_second,
     (.planned.memory | .parameters + .gradients + .optimizer_state | mib),
     (.planned.memory.gathered_parameters | mib), (.planned.memory.peak | mib),
     (.measured.memory_peak | mib), (.planned.sent_bytes | mib), (.measured.sent_bytes | mib),
     .loss, (if .oversubscribed then "oversubscribed" else "" end)] | @tsv' "$figures" |
    while IFS=$'\t' read -r ranks threads stage rate states gathered peak resident sent wire loss note; do
      printf '%5d %7d %5d %9.0f %8.1f %8.1f %9.1f %9.1f %9.1f %9.1f %9.4f  %s\n' "$ranks" \
        "$threads" "$stage" "$rate" "$states" "$gathered" "$peak" "$resident" "$sent" "$wire" \
        "$loss" "$note"
    done
  echo
  echo "A rank and step: memory of the rank with the most, what rank 0 sends; $sequences sequences a step over"
  echo "all ranks. Peaks and sent bytes are planned, then measured. This machine has $cores cores: a run"
  echo "with more ranks than that is oversubscribed, and its tokens/s say nothing of scaling."
} >&3
