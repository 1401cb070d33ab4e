#!/usr/bin/env bash
# The checks and measurements that need a GPU, in one command that ends within its time limit:
#
#   bash tests/gpu/run.sh [tests] [train] [sanitize] [bench] [all]     default: all
#
#   tests     every gpu_*_test, and every test_kernels_* with the GPU's kernels
#   train     the quickstart's model on the GPU beside the CPU in FP32 and FP16; stages 0 to 3 on
#             several ranks that share the GPU, bit for bit, and planned against measured; CUDA graphs
#             against none, bit for bit; with two or more GPUs also over NCCL
#   sanitize  compute-sanitizer's memcheck and racecheck on a tiny model
#   bench     GPT-2 of 124M and 1558M parameters beside tests/gpu/torch_gpt2.py
#
# A failure does not stop the rest. The table of results comes last; exit status 1 where one failed.
# environment: OUT=DIR                  results.txt and logs.tar.gz go there
#              MEMWALL_GPU_SECONDS=520  what is not done by then is left out
#              MEMWALL_GPU_DEVICE=CPU   try the script without a GPU: fewer and smaller steps
#              MEMWALL_GPU_BATCH=16  MEMWALL_GPU_BATCH_XL=8    sequences a step of the benchmarks
#              and those of tests/gpu/env.sh
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
device=${MEMWALL_GPU_DEVICE:-CUDA}
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
deadline=$((SECONDS + ${MEMWALL_GPU_SECONDS:-520}))
work=$(mktemp -d)
logs=$work/logs
table=$work/results.txt
mkdir -p "$logs"
: >"$table"
wrapper=()            # what a program of ours runs under
declare -A running=() ended=()  # processes in the background and their statuses, by name
complete=no

# result NAME STATUS TEXT: one line of the table, printed and kept at once.
failures=0
result() {
  if [[ $2 == FAIL ]]; then failures=$((failures + 1)); fi
  printf '%-26s %-5s %s\n' "$1" "$2" "${3//$'\n'/ }" | tee -a "$table"
  if [[ -n ${OUT:-} ]]; then cp "$table" "$OUT/results.txt"; fi
}

# shellcheck disable=SC2317  # called by the trap
finish() {
  trap - EXIT
  local name
  for name in "${!running[@]}"; do stop "$name"; done
  if [[ $complete == no ]]; then result script FAIL "ended early"; fi
  echo
  echo "===== results, $device, ${SECONDS} s ====="
  cat "$table"
  if [[ -n ${OUT:-} ]]; then tar -czf "$OUT/logs.tar.gz" -C "$work" logs; fi
  echo "===== $failures failed ====="
  rm -rf "$work"
  exit $((failures > 0))
}
trap finish EXIT
trap 'exit 1' INT TERM

# limited SECONDS COMMAND...: ended after that, or when the whole time is over; status 124 then.
limited() {
  local left=$((deadline - SECONDS)) limit=$1
  shift
  if ((left < 5)); then
    echo "no time left"
    return 124
  fi
  timeout --kill-after=5 "$((limit < left ? limit : left))" "$@"
}

# What went wrong, in one line: the program's word, else the last error, else the last.
reason() {
  local line
  line=$(grep -aE '^(memwall|error):|= (Error|Invalid|Race)' "$1" | head -n 1)
  if [[ -z $line ]]; then
    line=$(grep -aiE 'error|refused|abort|cannot|fail|killed' "$1" | grep -avE 'ORTE_ERROR|errorcode' | tail -n 1)
  fi
  [[ -n $line ]] || line=$(grep -avE '^ *$|^-+$' "$1" | tail -n 1)
  printf '%s\n' "${line:0:220}"
}

# report NAME LOG STATUS TEXT: PASS with the text, or FAIL with the reason found in LOG.
report() {
  if (($3 == 0)); then
    result "$1" PASS "$4"
  elif (($3 == 124 || $3 == 137)); then
    result "$1" FAIL "out of time: $(reason "$2")"
  else
    result "$1" FAIL "status $3: $(reason "$2")"
  fi
}

# start NAME COMMAND...: in the background, output in the log of that name; `join NAME` has its status.
start() {
  local name=$1
  shift
  "$@" >"$logs/$name.log" 2>&1 </dev/null &
  running[$name]=$!
}
join() {
  if [[ -n ${running[$1]:-} ]]; then
    wait "${running[$1]}"
    ended[$1]=$?
    unset "running[$1]"
  fi
  return "${ended[$1]}"
}

# stop NAME: ends it, `timeout` and what that watches.
stop() {
  local process=${running[$1]:-}
  if [[ -n $process ]]; then
    # shellcheck disable=SC2046  # numbers
    kill $(cat "/proc/$process/task/$process/children" 2>/dev/null) "$process" 2>/dev/null
  fi
  join "$1" 2>/dev/null
}

# memwall_train NAME RANKS SECONDS CONFIG SETTING...: a run in $work/NAME, alone or under mpirun.
memwall_train() {
  local name=$1 ranks=$2 seconds=$3 config=$4 setting words=() launch=()
  shift 4
  for setting in data.text="$MEMWALL_GPU_TEXT" run.eval_every=0 run.save_every=0 run.log_every=5 "$@"; do
    words+=(--set "$setting")
  done
  if ((ranks > 0)); then launch=(mpirun --oversubscribe --bind-to none -np "$ranks"); fi
  if ((ranks > cores)); then launch+=(--mca mpi_yield_when_idle 1); fi
  limited "$seconds" "${launch[@]}" "${wrapper[@]}" "$MEMWALL_GPU_BIN/memwall" train "$config" "${words[@]}" \
    --run-dir "$work/$name"
}

# Python without the packed libraries: PyTorch has its own.
compare() { LD_LIBRARY_PATH=$MEMWALL_GPU_HOST_LIBRARIES python3 tests/gpu/compare.py "$@"; }
host_python() { LD_LIBRARY_PATH=$MEMWALL_GPU_HOST_LIBRARIES limited "$1" python3 "${@:2}"; }

# verdict NAME VERB ARGUMENT...: what compare.py says, as a result.
verdict() {
  local name=$1 text status
  shift
  text=$(compare "$@" 2>&1) && status=PASS || status=FAIL
  result "$name" "$status" "${text//$work\//}"
}

stage_machine() {
  local line
  line=$(nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.sm --format=csv,noheader 2>/dev/null) ||
    line="no nvidia-smi"
  result machine INFO "$line; $cores cores, $(grep -m 1 'model name' /proc/cpuinfo | cut -d : -f 2)"
  line=$("$MEMWALL_GPU_BIN/memwall" --version 2>&1 | head -n 1)
  result memwall INFO "$line; text of $(stat --format=%s "$MEMWALL_GPU_TEXT" 2>&1) bytes"
}

run_test() {  # NAME PROGRAM RANKS: RANKS of 0 is one process without mpirun
  local log=$logs/$1.log status
  if (($3 > 0)); then
    MEMWALL_TEST_RANKS=$3 limited 60 "$2" >"$log" 2>&1
  else
    limited 60 "$2" >"$log" 2>&1
  fi
  status=$?
  local passed failed skipped
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | tail -n 1)
  skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$log" | tail -n 1)
  failed=$(sed -n 's/^\[  FAILED  \] \([A-Za-z][^ ,]*\).*/\1/p' "$log" | sort -u | tr '\n' ' ')
  if grep -q '^no GPU: ' "$log"; then
    result "$1" FAIL "$(grep -m 1 '^no GPU: ' "$log")"
  elif ((status == 0)) && ((${passed:-0} > 0)); then
    result "$1" PASS "${passed} passed, ${skipped:-0} skipped; $(grep -a ': [0-9]* calls' "$log" | tail -n 1)"
  elif ((status == 0)); then
    result "$1" FAIL "nothing passed, ${skipped:-0} skipped"
  else
    result "$1" FAIL "status $status, ${passed:-0} passed: ${failed:-$(reason "$log")}"
  fi
}

stage_tests() {
  local program name ranks found=no
  for program in "$MEMWALL_GPU_TESTS"/gpu_*_test; do
    [[ -x $program ]] || continue
    found=yes name=${program##*/}
    if grep -q MEMWALL_TEST_RANKS "$program"; then
      for ranks in 1 2 4; do run_test "$name.np$ranks" "$program" "$ranks"; done
    else
      run_test "$name" "$program" 0
    fi
  done
  # Those that know the device: what of them tests the CPU alone skips itself.
  for program in "$MEMWALL_GPU_TESTS"/test_kernels_*; do
    if [[ ! -x $program ]] || ! grep -q MEMWALL_TEST_DEVICE "$program"; then continue; fi
    found=yes
    MEMWALL_TEST_DEVICE=$device run_test "${program##*/}" "$program" 0
  done
  if [[ $found == no ]]; then result tests SKIP "no test in $MEMWALL_GPU_TESTS"; fi
}

# The quickstart's configuration without its precision block, which names FP16's loss scale.
quickstart() {
  sed '/^precision {/,/^}/d' configs/quickstart.textproto >"$work/quickstart.textproto"
  echo "$work/quickstart.textproto"
}

precision_settings() {  # MODE [LOSS_SCALE]: a line each
  printf '%s\n' "precision.mode=$1"
  if [[ $1 == FP16 ]]; then printf '%s\n' precision.initial_loss_scale="${2:-16384}"; fi
}

stage_train() {
  local config steps=100 few=10 shape=() mode tolerance precision cpu_threads
  config=$(quickstart)
  if [[ $device == CPU ]]; then steps=4 few=3 shape=(data.micro_batch_size=2); fi
  shape+=(run.peak_flops=1e12)  # not measured at start

  # On the CPU in the background, on half of the cores.
  cpu_threads=$((cores > 4 ? cores / 4 : 1))
  for mode in FP32 FP16; do
    mapfile -t precision < <(precision_settings "$mode")
    OMP_NUM_THREADS=$cpu_threads start "cpu-$mode" memwall_train "cpu-$mode" 0 110 "$config" \
      run.steps=$steps run.device=CPU "${precision[@]}" "${shape[@]}"
    start "$device-$mode" memwall_train "$device-$mode" 0 60 "$config" \
      run.steps=$steps run.device="$device" "${precision[@]}" "${shape[@]}"
  done
  for mode in FP32 FP16; do
    join "$device-$mode"
    report "train $mode" "$logs/$device-$mode.log" $? "$steps steps on $device, one rank"
    if ((ended[$device-$mode] != 0)); then stop "cpu-$mode"; fi
  done
  train_stages "$config" $few
  if [[ $device != CPU ]]; then train_graphs "$config" $few; fi
  for mode in FP32 FP16; do
    if ((ended[$device-$mode] != 0)); then continue; fi
    join "cpu-$mode" || result "cpu $mode" FAIL "$(reason "$logs/cpu-$mode.log")"
    if [[ $mode == FP32 ]]; then tolerance=1e-3; else tolerance=1e-2; fi
    verdict "loss $mode CPU, $device" close "$work/cpu-$mode" "$work/$device-$mode" --tolerance $tolerance
  done
}

# Stages 0 to 3, one after the other, for an arena's measured size is what the driver's free memory
# fell by: traffic and arena as planned; losses and gradient norms bit for
# bit, between all with one micro-step a step, else between 0 and 1 and between 2 and 3.
train_stages() {  # CONFIG STEPS
  local config=$1 steps=$2 ranks stage mode micro over precision name folders kind
  # Ranks, precision, micro-steps, transport.
  local kinds=("2 FP32 1 STAGED" "4 FP32 1 STAGED" "4 FP32 2 STAGED" "2 BF16 1 STAGED")
  if ((gpus > 1)); then kinds+=("2 FP32 2 NCCL" "$gpus FP32 1 NCCL" "$gpus BF16 1 NCCL"); fi
  if [[ $device == CPU ]]; then kinds=("2 FP32 1 AUTO" "4 FP32 2 AUTO" "2 FP16 1 AUTO"); fi
  for kind in "${kinds[@]}"; do
    read -r ranks mode micro over <<<"$kind"
    mapfile -t precision < <(precision_settings "$mode" 1024)
    folders=()
    for stage in 0 1 2 3; do
      name=stage$stage-np$ranks-$mode-micro$micro-$over
      folders+=("$work/$name")
      start "$name" memwall_train "$name" "$ranks" 60 "$config" run.steps="$steps" run.device="$device" \
        "${precision[@]}" parallel.zero_stage=$stage data.micro_batch_size=2 \
        data.global_batch_size=$((2 * ranks * micro)) run.peak_flops=1e12 communication.transport="$over"
      join "$name"
    done
    for stage in 0 1 2 3; do
      name=stage$stage-np$ranks-$mode-micro$micro-$over
      join "$name" || report "$name" "$logs/$name.log" $? ""
    done
    name="np$ranks $mode micro$micro $over"
    if ((micro == 1)); then
      verdict "$name stages equal" equal "${folders[@]}"
    else
      verdict "$name 0, 1 equal" equal "${folders[@]:0:2}"
      verdict "$name 2, 3 equal" equal "${folders[@]:2:2}"
    fi
    verdict "$name as planned" plan "${folders[@]}"
  done
}

# With CUDA graphs and without: alone, on two ranks that share the GPU, and over NCCL where there are
# more; several micro-steps; losses and gradient norms bit for bit, traffic and arena as planned.
train_graphs() {  # CONFIG STEPS
  local config=$1 steps=$2 ranks over kind graphs name folders
  local kinds=("1 AUTO" "2 STAGED")
  if ((gpus > 1)); then kinds+=("$gpus NCCL"); fi
  for kind in "${kinds[@]}"; do
    read -r ranks over <<<"$kind"
    folders=()
    for graphs in false true; do
      name=graphs-$graphs-np$ranks-$over
      folders+=("$work/$name")
      start "$name" memwall_train "$name" $((ranks > 1 ? ranks : 0)) 60 "$config" run.steps="$steps" \
        run.device="$device" parallel.zero_stage=2 data.micro_batch_size=2 \
        data.global_batch_size=$((6 * ranks)) run.peak_flops=1e12 run.cuda_graphs=$graphs \
        communication.transport="$over"
      join "$name" || report "$name" "$logs/$name.log" $? ""
    done
    verdict "np$ranks $over graphs equal" equal "${folders[@]}"
    verdict "np$ranks $over graphs as planned" plan "${folders[@]}"
  done
}

stage_sanitize() {
  local sanitizer case tool mode ranks name setting wrapper=()
  # Tool, precision, ranks (0: without mpirun).
  local cases=("memcheck FP32 0" "memcheck BF16 0" "memcheck FP16 2" "racecheck FP32 0" "racecheck BF16 0")
  sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  if [[ $device == CPU ]]; then
    cases=("memcheck FP32 0" "memcheck FP16 2")  # only the runs
  elif [[ ! -x $sanitizer ]]; then
    result sanitize SKIP "no compute-sanitizer"
    return
  fi
  cat >"$work/tiny.textproto" <<END
model { num_layers: 2 hidden_size: 64 num_heads: 2 context_length: 64 vocab_size: 256 }
data { micro_batch_size: 2 global_batch_size: 4 }
parallel { zero_stage: 3 }
activation_checkpointing { policy: BLOCK }
run { name: "tiny" steps: 3 peak_flops: 1e12 }
END
  for case in "${cases[@]}"; do
    read -r tool mode ranks <<<"$case"
    name=$tool-$mode-np$ranks
    mapfile -t setting < <(precision_settings "$mode" 1024)
    if [[ $device != CPU ]]; then
      if ((ranks > 0)); then setting+=(communication.transport=STAGED); fi
      wrapper=("$sanitizer" --tool "$tool" --error-exitcode 9 --print-limit 20)
    fi
    start "$name" memwall_train "$name" "$ranks" 100 "$work/tiny.textproto" run.device="$device" "${setting[@]}"
  done
  for case in "${cases[@]}"; do
    read -r tool mode ranks <<<"$case"
    name=$tool-$mode-np$ranks
    join "$name"
    report "$tool $mode np$ranks" "$logs/$name.log" $? \
      "$(grep -a '= .*SUMMARY' "$logs/$name.log" | sort -u | sed 's/^=* *//' | paste -sd ';')"
  done
}

# bench_case NAME CONFIG BATCH MODE TORCH_ARGUMENTS SETTING...: one model on both sides, in turn.
bench_case() {
  local name=$1 config=$2 batch=$3 mode=$4 torch_words status precision torch_log=$logs/torch-$1.log
  read -ra torch_words <<<"$5"
  shift 5
  mapfile -t precision < <(precision_settings "$mode")
  memwall_train "bench-$name" 0 100 "$config" run.steps="$bench_steps" run.device="$device" \
    parallel.zero_stage=0 data.micro_batch_size="$batch" "${precision[@]}" "$@" >"$logs/bench-$name.log" 2>&1
  status=$?
  report "bench $name" "$logs/bench-$name.log" $status \
    "$(compare speed "$work/bench-$name" --after "$bench_after" 2>&1)"
  host_python 100 tests/gpu/torch_gpt2.py --batch "$batch" --precision "${mode,,}" --peak \
    --text "$MEMWALL_GPU_TEXT" "${torch_words[@]}" >"$torch_log" 2>&1
  status=$?
  report "torch $name" "$torch_log" $status "$(compare torch "$torch_log" 2>&1)"
  if ((status == 0)); then
    verdict "versus $name" versus "$work/bench-$name" "$torch_log" --after "$bench_after"
  fi
}

# bench_graphs NAME CONFIG BATCH MODE SETTING...: without CUDA graphs, unless bench_case did that, and with
# them; losses and gradient norms bit for bit.
bench_graphs() {
  local name=$1 config=$2 batch=$3 mode=$4 graphs run status precision
  shift 4
  mapfile -t precision < <(precision_settings "$mode")
  for graphs in false true; do
    run=bench-$name
    if [[ $graphs == true ]]; then run+=-graphs; fi
    if [[ -d $work/$run ]]; then continue; fi
    memwall_train "$run" 0 100 "$config" run.steps="$bench_steps" run.device="$device" \
      parallel.zero_stage=0 data.micro_batch_size="$batch" run.cuda_graphs=$graphs "${precision[@]}" "$@" \
      >"$logs/$run.log" 2>&1
    status=$?
    report "${run/-/ }" "$logs/$run.log" $status "$(compare speed "$work/$run" --after "$bench_after" 2>&1)"
  done
  verdict "graphs equal $name" equal "$work/bench-$name" "$work/bench-$name-graphs"
}

# bench_body NAME CONFIG BATCH MODE: attention by products and softmax, beside bench_case's by cuDNN.
bench_body() {
  local name=$1 run=bench-$1-body status precision
  mapfile -t precision < <(precision_settings "$4")
  memwall_train "$run" 0 100 "$2" run.steps="$bench_steps" run.device="$device" parallel.zero_stage=0 \
    data.micro_batch_size="$3" run.fused_attention=false "${precision[@]}" >"$logs/$run.log" 2>&1
  status=$?
  report "${run/-/ }" "$logs/$run.log" $status "$(compare speed "$work/$run" --after "$bench_after" 2>&1)"
  verdict "attention close $name" close "$work/bench-$name" "$work/$run" --tolerance 1e-2
}

# bench_nccl: GPT-2 of 1558M over all GPUs at stages 0 to 3, nothing prefetched: the links' share.
bench_nccl() {
  local stage name status
  for stage in 0 1 2 3; do
    name=bench-1558M-np$gpus-stage$stage
    memwall_train "$name" "$gpus" 60 configs/gpt2-xl.textproto run.steps=8 run.device="$device" \
      precision.mode=BF16 parallel.zero_stage=$stage data.micro_batch_size=2 \
      data.global_batch_size=$((2 * gpus)) communication.transport=NCCL >"$logs/$name.log" 2>&1
    status=$?
    report "${name/-/ }" "$logs/$name.log" $status "$(compare speed "$work/$name" --after 3 2>&1)"
    if ((status == 0)); then
      verdict "as planned, stage $stage" plan "$work/$name"
      verdict "bus bandwidth, stage $stage" bus "$work/$name" --after 3
    fi
  done
}

stage_bench() {
  local bench_steps=25 bench_after=5 batch=${MEMWALL_GPU_BATCH:-16} xl=${MEMWALL_GPU_BATCH_XL:-8}
  if [[ $device == CPU ]]; then
    bench_steps=3 bench_after=1
    local tiny=(model.num_layers=2 model.hidden_size=64 model.num_heads=2 model.context_length=64)
    bench_case 124M-FP32 configs/gpt2-small.textproto 2 FP32 \
      "--device cpu --layers 2 --hidden 64 --heads 2 --context 64 --steps 3 --warmup 1" "${tiny[@]}"
    return
  fi
  bench_case 124M-BF16 configs/gpt2-small.textproto "$batch" BF16 ""
  bench_body 124M-BF16 configs/gpt2-small.textproto "$batch" BF16
  bench_graphs 124M-BF16 configs/gpt2-small.textproto "$batch" BF16
  # Small enough for the host to be the slower side.
  bench_graphs 124M-BF16-micro1 configs/gpt2-small.textproto 1 BF16 data.global_batch_size=4
  bench_case 1558M-BF16 configs/gpt2-xl.textproto "$xl" BF16 "--layers 48 --hidden 1600 --heads 25"
  bench_case 124M-FP32 configs/gpt2-small.textproto "$batch" FP32 ""
  bench_case 124M-FP16 configs/gpt2-small.textproto "$batch" FP16 ""

  if ((gpus > 1)); then bench_nccl; fi

  local log=$logs/torch-compile.log
  host_python 90 tests/gpu/torch_gpt2.py --batch "$batch" --precision bf16 --peak \
    --text "$MEMWALL_GPU_TEXT" --compile >"$log" 2>&1
  report "torch compile 124M-BF16" "$log" $? "$(compare torch "$log" 2>&1)"
  if [[ -d $work/bench-124M-BF16 ]]; then
    verdict "versus compile 124M-BF16" versus "$work/bench-124M-BF16" "$log" --after $bench_after
  fi
}

stages=()
for argument in "${@:-all}"; do
  case $argument in
    tests | train | sanitize | bench) stages+=("$argument") ;;
    all) stages+=(tests train sanitize bench) ;;
    *) echo "unknown stage $argument (tests, train, sanitize, bench, all)" >&2 && trap - EXIT && exit 2 ;;
  esac
done

# shellcheck source=tests/gpu/env.sh
source tests/gpu/env.sh || { result environment FAIL "see above" && exit 1; }
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > 8 ? 4 : 1))}
stage_machine
for stage in "${stages[@]}"; do
  began=$SECONDS
  echo "--- $stage"
  "stage_$stage"
  result "time $stage" INFO "$((SECONDS - began)) s"
done
complete=yes
