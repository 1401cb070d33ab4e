#!/usr/bin/env bash
# Gathers what a machine with a GPU needs to run a build of this machine: the stripped programs, the
# libraries they name, Open MPI and a text. Not CUDA's own libraries: those tests/gpu/env.sh finds
# there.
#
#   bash tests/gpu/pack.sh [BUILD_DIR] [OUT_DIR]     default: build .gpu
#
# OUT_DIR gets pack.tar.gz, which tests/gpu/env.sh unpacks, and contents.txt. Build with
# -DMEMWALL_ARCH=x86-64-v3: code for this machine's own processor may not run on another.
# environment: MEMWALL_TEST_DATA=DIR  where tinyshakespeare.txt lies, default data/
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/install.sh
source tests/install.sh

build=$(realpath -- "${1:-build}")
out=${2:-.gpu}
text=${MEMWALL_TEST_DATA:-data}/tinyshakespeare.txt
gpu_tests="$build/tests/gpu_*_test $build/tests/test_kernels_*"  # patterns: packed where there are any

# Found there, not packed: CUDA's, and what belongs to the system's own C library.
not_packed='^(lib(cuda|cudart|cublas|cublasLt|cudnn.*|cupti|cufft|curand|cusolver|cusparse|nccl|nv.*)\.so.*|'
not_packed+='linux-vdso.*|ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|anl)\.so\..*)$'
# In a folder of their own, for systems that lack them or have older ones: other programs use these too.
common='^lib(stdc\+\+|gcc_s|gomp|z|udev|pcre2-8)\.so'
# Transports of network cards and Open SHMEM, with libraries of their own: no use within one machine.
unused_plugins='_(ucx|ofi|openib|psm|psm2|monitoring|netlink)\.so$|mca_(atomic|memheap|scoll|spml|sshmem)_'

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage"/{bin,lib,lib-common,data} "$out"

# Of the tests of kernels those that are told the device by the environment (tests/kernels/op_device.h).
runs_on_gpu() { [[ -x $1 ]] && grep -q MEMWALL_TEST_DEVICE "$1"; }

add_programs() {
  local program
  [[ -x $build/memwall ]] || fail 2 "$build/memwall is missing: build it first"
  # shellcheck disable=SC2086  # patterns
  for program in "$build"/memwall "$build"/libmemwall_{sentencepiece,cuda}.so $gpu_tests; do
    if [[ $program == */test_kernels_* ]] && ! runs_on_gpu "$program"; then continue; fi
    if [[ -e $program ]]; then
      cp "$program" "$stage/bin/"
      strip --strip-unneeded "$stage/bin/${program##*/}"
    elif [[ $program == *.so ]]; then
      say "without ${program##*/}: $build has none"
    fi
  done
}

# Open MPI as a prefix for OPAL_PREFIX, with the folders below it that are compiled in.
add_open_mpi() {
  local target=$stage/ompi plugins help plugin pmix
  plugins=$(ompi_info --parsable --path pkglibdir | sed -n 's/^path:pkglibdir://p')
  help=$(ompi_info --parsable --path pkgdatadir | sed -n 's/^path:pkgdatadir://p')
  [[ $plugins == /usr/* && $help == /usr/* ]] || fail 2 "Open MPI lies in $plugins, not below /usr"
  mkdir -p "$target/bin" "$target${plugins#/usr}" "$target${help#/usr}"
  cp -L "$(command -v orterun)" "$(command -v orted)" "$target/bin/"
  ln -s orterun "$target/bin/mpirun"
  cp -L "$help"/*.txt "$target${help#/usr}/"
  for plugin in "$plugins"/mca_*.so; do
    [[ $plugin =~ $unused_plugins ]] || cp -L "$plugin" "$target${plugins#/usr}/"
  done
  pmix=$(ldconfig -p | awk '$1 == "libpmix.so.2" {print $NF; exit}')
  pmix=$(dirname -- "$(realpath -- "$pmix")")/pmix  # its plugins
  if [[ -d $pmix ]]; then
    mkdir "$target/pmix"
    cp -L "$pmix"/*.so "$target/pmix/"
  fi
}

# Every library that the programs and plugins name, and those that these name.
add_libraries() {
  local lines name path
  lines=$(find "$stage" -type f \( -name '*.so*' -o -perm -u+x \) -print0 |
    LD_LIBRARY_PATH=$build xargs -0 ldd 2>/dev/null |
    sed -n -e 's/^\t\([^ ]*\) => not found/\1 missing/p' -e 's/^\t\([^ ]*\) => \(\/[^ ]*\) (.*/\1 \2/p' | sort -u)
  while read -r name path; do
    if [[ $name =~ $not_packed || -e $stage/bin/$name ]]; then continue; fi
    [[ $path != missing ]] || fail 2 "the library $name is missing on this machine"
    if [[ $name =~ $common ]]; then
      cp -L "$path" "$stage/lib-common/$name"
    elif [[ ! -e $stage/lib/$name ]]; then
      cp -L "$path" "$stage/lib/$name"
    fi
  done <<<"$lines"
}

say "pack $build"
add_programs
add_open_mpi
add_libraries
if [[ -r $text ]]; then cp -L "$text" "$stage/data/"; else say "without $text: there is none"; fi

# Where tests look for sources and the build, as compiled in.
sources=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt")
printf 'source_folder=%q\nbuild_folder=%q\n' "$sources" "$build" >"$stage/built-in.sh"
arch=$(sed -n 's/^MEMWALL_ARCH:STRING=//p' "$build/CMakeCache.txt")
if [[ $arch == native ]]; then
  say "warning: built for this machine's own processor; -DMEMWALL_ARCH=x86-64-v3 runs on others too"
fi

tar --create --owner=0 --group=0 --directory "$stage" . | gzip --best >"$out/pack.tar.gz"
(cd "$stage" && find . -type f -printf '%s %P\n' | sort --numeric-sort --reverse) >"$out/contents.txt"
say "built for ${arch:-unknown}; programs: $(cd "$stage/bin" && echo *)"
say "$out/pack.tar.gz: $(stat --format=%s "$out/pack.tar.gz") bytes," \
  "$(du --bytes --summarize "$stage" | cut -f1) unpacked"
if [[ $(realpath -- "$out") == "$PWD"/* ]] && ! git check-ignore --quiet "$out/pack.tar.gz" 2>/dev/null; then
  say "warning: git does not ignore $out/"
fi
