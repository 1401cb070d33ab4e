# shellcheck shell=bash
# Sourced, by bash, on the machine with the GPU: unpacks what tests/gpu/pack.sh gathered and makes the
# shell find it, Open MPI's parts and CUDA's libraries (of the toolkit or of PyTorch's packages).
#
#   source tests/gpu/env.sh
#
# Without a pack it takes a build of this machine: MEMWALL_GPU_BUILD, default build/.
# environment: MEMWALL_GPU_PACK=DIR  where pack.tar.gz lies, default .gpu/
#              MEMWALL_GPU_HOME=DIR  where to unpack it, default /tmp/memwall-gpu
# Sets MEMWALL_GPU_BIN and MEMWALL_GPU_TESTS (the folders of memwall and of gpu_*_test), MEMWALL_GPU_TEXT,
# PATH, LD_LIBRARY_PATH, and MEMWALL_GPU_HOST_LIBRARIES: LD_LIBRARY_PATH as it was, for Python.

# Folders that hold NAME, the system's loader aside.
memwall_gpu_folders_of() {
  local folder
  for folder in "${memwall_gpu_candidates[@]}"; do
    if [[ -e $folder/$1 ]]; then printf '%s\n' "$folder" && return; fi
  done
}

memwall_gpu_unpack() {
  local root=$1 pack stamp
  pack=${MEMWALL_GPU_PACK:-$root/.gpu}/pack.tar.gz
  if [[ ! -r $pack ]]; then
    local build=${MEMWALL_GPU_BUILD:-$root/build}
    export MEMWALL_GPU_BIN=$build MEMWALL_GPU_TESTS=$build/tests
    export MEMWALL_GPU_TEXT=${MEMWALL_TEST_DATA:-$root/data}/tinyshakespeare.txt
    return
  fi
  local home=${MEMWALL_GPU_HOME:-${TMPDIR:-/tmp}/memwall-gpu}
  stamp=$(cksum <"$pack")
  if [[ $(cat "$home/stamp" 2>/dev/null) != "$stamp" ]]; then
    rm -rf "$home" && mkdir -p "$home" && tar -xzf "$pack" -C "$home" || return 1
    printf '%s\n' "$stamp" >"$home/stamp"
  fi
  export MEMWALL_GPU_BIN=$home/bin MEMWALL_GPU_TESTS=$home/bin
  export MEMWALL_GPU_TEXT=$home/data/tinyshakespeare.txt
  export OPAL_PREFIX=$home/ompi PMIX_MCA_mca_base_component_path=$home/ompi/pmix
  memwall_gpu_paths=("$home/bin" "$home/lib")
  memwall_gpu_fallback=$home/lib-common
  PATH=$home/bin:$home/ompi/bin:$PATH

  # Tests know their sources and build by the path they were built at: make it lead here.
  local source_folder="" build_folder=""
  # shellcheck disable=SC1091  # written by pack.sh
  source "$home/built-in.sh"
  if [[ -n $source_folder && ! -e $source_folder ]]; then
    mkdir -p "${source_folder%/*}" && ln -s "$root" "$source_folder"
  fi
  if [[ -n $build_folder && ! -e $build_folder/memwall ]]; then
    mkdir -p "$build_folder" && ln -s "$home/bin/memwall" "$build_folder/memwall"
  fi
}

memwall_gpu_environment() {
  local root name folder packages
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  export MEMWALL_GPU_HOST_LIBRARIES=${MEMWALL_GPU_HOST_LIBRARIES-${LD_LIBRARY_PATH-}}
  local memwall_gpu_paths=() memwall_gpu_fallback=""
  memwall_gpu_unpack "$root" || return 1

  # CUDA's libraries. PyTorch's packages lie in folders below the namespace package `nvidia`.
  packages=$(python3 -c 'import importlib.util as u
s = u.find_spec("nvidia")
print("\n".join(s.submodule_search_locations) if s else "")' 2>/dev/null)
  local memwall_gpu_candidates=(/usr/local/cuda/lib64 /usr/local/cuda-*/lib64 /usr/local/cuda/lib)
  while read -r folder; do
    if [[ -n $folder ]]; then memwall_gpu_candidates+=("$folder"/*/lib); fi
  done <<<"$packages"
  memwall_gpu_candidates+=(/usr/lib/x86_64-linux-gnu /usr/lib64 /usr/local/nvidia/lib64)
  for name in libcudart.so.13 libcublasLt.so.13 libcublas.so.13 libnccl.so.2 libcudnn.so.9 libnvrtc.so.13 libcuda.so.1; do
    folder=$(memwall_gpu_folders_of "$name")
    if [[ -z $folder ]]; then
      if ! ldconfig -p 2>/dev/null | grep -qF "$name"; then echo "env.sh: no $name found" >&2; fi
    elif [[ $folder != /usr/lib/x86_64-linux-gnu && " ${memwall_gpu_paths[*]} " != *" $folder "* ]]; then
      memwall_gpu_paths+=("$folder")
    fi
  done

  LD_LIBRARY_PATH=$(IFS=: && echo "${memwall_gpu_paths[*]}")
  LD_LIBRARY_PATH+=${MEMWALL_GPU_HOST_LIBRARIES:+:$MEMWALL_GPU_HOST_LIBRARIES}
  export LD_LIBRARY_PATH PATH
  if [[ -n $memwall_gpu_fallback ]] && ldd "$MEMWALL_GPU_BIN/memwall" 2>&1 | grep -q 'not found'; then
    LD_LIBRARY_PATH+=:$memwall_gpu_fallback  # something common is missing here, or older
  fi

  # One machine, no ssh, no network cards; process_vm_readv may be forbidden in a container.
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm=isolated
  export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
  export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
  if ! "$MEMWALL_GPU_BIN/memwall" --version >/dev/null; then
    echo "env.sh: $MEMWALL_GPU_BIN/memwall does not start (status $?; 132: built for another processor)" >&2
    ldd "$MEMWALL_GPU_BIN/memwall" 2>&1 | grep 'not found' >&2
    return 1
  fi
}

memwall_gpu_environment
