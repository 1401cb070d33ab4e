# memwall_blas: the library of FP32 products, MEMWALL_BLAS; its code is runtime/kernels/cpu/<folder>.
set(MEMWALL_BLAS "ONEDNN" CACHE STRING "Library of FP32 products: ONEDNN or OPENBLAS; recorded in runs")
set_property(CACHE MEMWALL_BLAS PROPERTY STRINGS ONEDNN OPENBLAS)

add_library(memwall_blas INTERFACE)
if(MEMWALL_BLAS STREQUAL "ONEDNN")
  set(MEMWALL_BLAS_FOLDER cpu/onednn)
  find_package(dnnl REQUIRED)
  target_link_libraries(memwall_blas INTERFACE DNNL::dnnl)
elseif(MEMWALL_BLAS STREQUAL "OPENBLAS")
  set(MEMWALL_BLAS_FOLDER cpu/openblas)
  # Debian keeps the builds of OpenBLAS apart; the one without a folder of its own may be any.
  find_path(OPENBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-openmp openblas)
  find_library(OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-openmp)
  if(NOT OPENBLAS_INCLUDE_DIR OR NOT OPENBLAS_LIBRARY)
    message(FATAL_ERROR "MEMWALL_BLAS=OPENBLAS: OpenBLAS is missing: install libopenblas-openmp-dev")
  endif()
  include(CheckCXXSourceRuns)
  set(CMAKE_REQUIRED_INCLUDES ${OPENBLAS_INCLUDE_DIR})
  set(CMAKE_REQUIRED_LIBRARIES ${OPENBLAS_LIBRARY})
  check_cxx_source_runs("#include <cblas.h>
    int main() { return openblas_get_parallel() == OPENBLAS_OPENMP ? 0 : 1; }"
    OPENBLAS_USES_OPENMP)
  unset(CMAKE_REQUIRED_INCLUDES)
  unset(CMAKE_REQUIRED_LIBRARIES)
  if(NOT OPENBLAS_USES_OPENMP)
    set(found ${OPENBLAS_LIBRARY})
    foreach(variable OPENBLAS_USES_OPENMP OPENBLAS_LIBRARY OPENBLAS_INCLUDE_DIR)
      unset(${variable} CACHE)  # looked for anew once it is installed
    endforeach()
    message(FATAL_ERROR "MEMWALL_BLAS=OPENBLAS: ${found} is not OpenBLAS's OpenMP build, and threads "
      "of its own would fight with OpenMP's: install libopenblas-openmp-dev, or set OPENBLAS_LIBRARY "
      "and OPENBLAS_INCLUDE_DIR")
  endif()
  target_include_directories(memwall_blas SYSTEM INTERFACE ${OPENBLAS_INCLUDE_DIR})
  target_link_libraries(memwall_blas INTERFACE ${OPENBLAS_LIBRARY})
else()
  message(FATAL_ERROR "MEMWALL_BLAS is \"${MEMWALL_BLAS}\"; allowed are ONEDNN and OPENBLAS")
endif()
