# Sourced by tests/run.sh and examples/quickstart.sh: the one list of packages, and how the scripts
# install and time things. Needs bash with `set -euo pipefail`.

# What the build needs, by Debian's names.
# shellcheck disable=SC2034  # used by the scripts that source this one
build_packages=(
  g++ cmake ninja-build pkg-config
  openmpi-bin libopenmpi-dev
  protobuf-compiler libprotobuf-dev
  libdnnl-dev ocl-icd-opencl-dev  # oneDNN's CMake package looks for OpenCL
  libcli11-dev libfmt-dev nlohmann-json3-dev librandom123-dev libxxhash-dev libhwloc-dev
  libsentencepiece-dev libpcre2-dev libeigen3-dev libisal-dev libjs-chart.js
  libgtest-dev
)

say() { printf '==> %s\n' "$*"; }

# fail STATUS LINE...
fail() {
  local status=$1
  shift
  printf 'error: %s\n' "$1" >&2
  shift
  if (($#)); then printf '       %s\n' "$@" >&2; fi
  exit "$status"
}

# timed "what it does" COMMAND...: says so, runs it, says how long it took; ends the script where
# the command fails.
timed() {
  local what=$1 start=$SECONDS
  shift
  say "$what"
  "$@" || fail $? "this failed after $((SECONDS - start)) s: $what"
  say "$what: $((SECONDS - start)) s"
}

is_installed() {
  [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed* ]]
}

apt() {
  local as_root=()
  if ((EUID != 0)); then as_root=(sudo); fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

apt_install() {
  apt -qq update && apt -qq install --yes --no-install-recommends "$@"
}

# install PACKAGE...: installs what is missing. Where it cannot, it names what to install and ends
# with status 2. MEMWALL_INSTALL=no leaves the packages to the user, e.g. on another distribution.
install() {
  local package missing=()
  if [[ ${MEMWALL_INSTALL:-yes} == no ]]; then
    say "not looking for packages (MEMWALL_INSTALL=no)"
    return
  fi
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    fail 2 "this system has no apt. Install what these Debian packages contain:" "$*" \
      "and run this again with MEMWALL_INSTALL=no"
  fi
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    say "nothing to install"
    return
  fi
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    fail 2 "packages are missing, and installing them needs root or sudo. As root, run:" \
      "apt-get update && apt-get install ${missing[*]}"
  fi
  say "missing: ${missing[*]}"
  timed "install" apt_install "${missing[@]}"
}

# fetch_cudnn_frontend BUILD_DIR: where the CUDA module is built and cuDNN is there, the headers of
# cuDNN's C++ front end, which PyPI has and Debian has not. Without them a build says so, and its
# attention on GPUs is products and softmax.
cudnn_frontend_version=1.32.0
fetch_cudnn_frontend() {
  local nvcc folder cudnn='' into=$1/cudnn_frontend package=nvidia-cudnn-frontend==$cudnn_frontend_version
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  for folder in "${nvcc%/bin/nvcc}/include" /usr/include /usr/include/x86_64-linux-gnu; do
    if [[ -x $nvcc && -f $folder/cudnn_graph.h ]]; then cudnn=$folder; fi
  done
  if [[ -z $cudnn || $(cat "$into/version" 2>/dev/null) == "$cudnn_frontend_version" ]]; then return; fi
  if [[ ${MEMWALL_INSTALL:-yes} == no ]]; then
    say "without cuDNN's attention, unless CMake finds cudnn_frontend.h (MEMWALL_INSTALL=no)"
    return
  fi
  if ! python3 -m pip --version >/dev/null 2>&1; then install python3-pip; fi
  say "fetch $package"
  rm -rf "$into"
  if PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
    python3 -m pip install --quiet --no-deps --target "$into" "$package"; then
    echo "$cudnn_frontend_version" >"$into/version"
    return
  fi
  if [[ -n ${MEMWALL_CI:-} ]]; then fail 1 "$package cannot be fetched"; fi
  say "without cuDNN's attention on GPUs: $package cannot be fetched"
}
