#!/usr/bin/env bash
# What ZeRO's stages cost and save: trains the quickstart's model for a few steps on 1, 2 and 4 MPI
# ranks at stages 0 to 3, always on the same 16 sequences a step, and prints tokens/s, memory and
# traffic of a rank as one table, planned beside measured. About three minutes on two cores.
# `memwall scale` does it.
#
#   bash examples/scale_out.sh                     on the King James Bible (Debian's bible-kjv)
#   DATA=my.txt bash examples/scale_out.sh         on your own text, UTF-8, a megabyte or more
#   STEPS=50 bash examples/scale_out.sh            longer runs, steadier rates
#   bash examples/scale_out.sh --json              the figures as JSON on standard output
#
# The figures are also written to runs/scale_out/scale.json, and drawn in scale.svg, beside the
# folders of the runs.
set -euo pipefail

steps=${STEPS:-15}
text=
if [[ -n ${DATA:-} ]]; then
  text=$(realpath -- "$DATA")  # relative to where the user is
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/install.sh
source tests/install.sh

case "$*" in
  '' | --json) ;;
  *) fail 2 "unknown option: $* (allowed: --json; DATA and STEPS by the environment)" ;;
esac
if ! [[ $steps =~ ^[0-9]+$ ]] || ((steps < 2)); then
  fail 2 "STEPS=$steps is no number of steps, 2 or more"
fi
if [[ -n $text && ! (-f $text && -r $text && -s $text) ]]; then
  fail 2 "DATA=$DATA is not a readable file with text in it"
fi
exec 3>&1  # the table or the JSON; what the script does goes to standard error
exec 1>&2

# 1. Packages, build, text.
packages=("${build_packages[@]}")
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

# 2. Runs and table.
rm -rf runs/scale_out
"$memwall" scale configs/quickstart.textproto --ranks 1,2,4 --stages 0,1,2,3 --strong \
  --steps "$steps" --set "data.text=$text" --set data.global_batch_size=16 \
  --folder runs/scale_out "$@" >&3
