#!/usr/bin/env bash
# From a bare Debian machine to a trained GPT: installs what is missing, builds Memwall, trains a
# small GPT on two MPI ranks with parameters, gradients and optimizer state sharded (ZeRO stage 3),
# shows what each rank held and sent, and lets the model write. Run it again as you like: what is
# installed and built stays, and every training gets a folder of its own in runs/.
#
#   bash examples/quickstart.sh                   learns the King James Bible (Debian's bible-kjv)
#   DATA=my.txt bash examples/quickstart.sh       learns your own text, UTF-8, a megabyte or more
#   bash examples/quickstart.sh --set run.steps=100     further options go to `memwall train`
set -euo pipefail

ranks=2
text=
if [[ -n ${DATA:-} ]]; then
  text=$(realpath -- "$DATA")  # relative to where the user is
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/install.sh
source tests/install.sh

if [[ -n $text && ! (-f $text && -r $text && -s $text) ]]; then
  fail 2 "DATA=$DATA is not a readable file with text in it"
fi

# 1. Packages and build.
packages=("${build_packages[@]}")
if [[ -z $text ]]; then packages+=(bible-kjv); fi
install "${packages[@]}"
fetch_cudnn_frontend build

build_memwall() {
  cmake --preset cpu && cmake --build --preset cpu --parallel "$(env -u OMP_NUM_THREADS nproc)" --target memwall
}
timed "build Memwall" build_memwall

# 2. Text.
write_bible() {
  mkdir -p data && bible -f gen1:1-rev22:21 >data/bible.txt.part && [[ -s data/bible.txt.part ]] &&
    mv data/bible.txt.part data/bible.txt
}
if [[ -z $text ]]; then
  text=data/bible.txt
  if [[ ! -s $text ]]; then
    command -v bible >/dev/null ||
      fail 2 "the program \`bible\` (package bible-kjv) is missing; name a text yourself: DATA=my.txt"
    timed "write $text" write_bible
  fi
fi
say "text: $text, $(stat --dereference --format=%s -- "$text") bytes"

# 3. Training. Open MPI refuses to start as root, and more ranks than cores, unless it is told
# otherwise. Its own binding would give a rank one core, however many threads it has: no binding.
launch=(mpirun --bind-to none --oversubscribe)
cores=$(env -u OMP_NUM_THREADS nproc)
if ((cores < ranks)); then launch+=(--mca mpi_yield_when_idle 1); fi
launch+=(-np "$ranks")
root=
if ((EUID == 0)); then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  root="OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > ranks ? cores / ranks : 1))}

train=(build/memwall train configs/quickstart.textproto --set "data.text=$text")
timed "train on $ranks ranks, threads a rank: $OMP_NUM_THREADS" "${launch[@]}" "${train[@]}" "$@"

# 4. A sample.
prompt="In the beginning"
timed "generate" build/memwall generate runs/latest --prompt "$prompt" --tokens 200

cat <<END

To try next:

  # more of its writing, bolder
  build/memwall generate runs/latest --prompt "And God said" --tokens 400 --temperature 1.2

  # its loss on the whole validation text
  build/memwall eval runs/latest

  # the same training with nothing sharded: compare the memory of a rank, and see the same losses
  $root${launch[*]} $(printf '%q ' "${train[@]}")--set parallel.zero_stage=0

  # what each of 64 ranks would hold and send to train GPT-2 XL
  build/memwall plan configs/gpt2-xl.textproto --ranks 64
END
