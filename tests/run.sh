#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests. Safe to run again; it rebuilds only what
# changed.
set -euo pipefail

usage() {
  cat <<'END'
usage: bash tests/run.sh [--deps] [--long] [--sanitize] [--filter REGEX]

  --deps          only install what is missing
  --long          also run the tests that take minutes
  --sanitize      build with AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/
  --filter REGEX  only the tests whose names match (ctest -R)

environment: MEMWALL_CI=1           warnings are errors, and no check is skipped for a missing tool
             MEMWALL_INSTALL=no     install nothing
             MEMWALL_TEST_DATA=DIR  where the tests find texts that are not in the repository
END
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/install.sh
source tests/install.sh

preset=cpu
build=build
deps_only=no
selection=(--label-exclude '(^| )long( |$)')  # labels may be several words
filter=()
while (($#)); do
  case $1 in
    --deps) deps_only=yes ;;
    --long) selection=() ;;
    --sanitize) preset=cpu-asan build=build-asan ;;
    --filter)
      (($# > 1)) || fail 2 "--filter needs a regular expression"
      filter=(--tests-regex "$2")
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail 2 "unknown option: $1" ;;
  esac
  shift
done

install "${build_packages[@]}" clang-format iproute2  # iproute2: for memwall scale --link
fetch_cudnn_frontend "$build"
if [[ $deps_only == yes ]]; then exit 0; fi

# Tests start mpirun themselves, also as root in a container.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

warnings=OFF
if [[ -n ${MEMWALL_CI:-} ]]; then warnings=ON; fi
jobs=$(env -u OMP_NUM_THREADS nproc)

timed "configure $build/" cmake --preset "$preset" -DMEMWALL_WARNINGS_AS_ERRORS="$warnings"
timed "build $build/ with $jobs jobs" cmake --build --preset "$preset" --parallel "$jobs"

# Last, so that the output ends with ctest's own summary and time.
say "test $build/ with $jobs jobs"
exec ctest --preset "$preset" --parallel "$jobs" "${selection[@]}" "${filter[@]}"
