# Cases of ops run on the CPU or, told so by the environment, on a GPU (op_device.h). Of the room exec
# only what opens the CUDA module, so that these programs need no MPI.
add_library(memwall_op_case STATIC ${suite_folder}/op_case.cc ${suite_folder}/dual_case.cc
  ${suite_folder}/op_device.cc ${PROJECT_SOURCE_DIR}/runtime/exec/gpu/module.cc)
target_link_libraries(memwall_op_case PUBLIC memwall_kernels memwall_graph GTest::gtest
  ${CMAKE_DL_LIBS})
set(op_families elementwise rows fused gemm gemm_epilogues update curvature adahessian dual dual_rows device)
foreach(family vector_math half gemm_panels dual_numbers attention ${op_families})
  memwall_test(test_kernels_${family} ROOMS kernels LIBRARIES memwall_op_case)
endforeach()
memwall_test(openblas_core_test ROOMS kernels)

# The same programs again: on imitated GPUs, and, a program a test, on the machine's own GPU.
if(MEMWALL_CUDA_FOUND AND NOT MEMWALL_SANITIZE)
  # Of the twin headers (registers.h, moves.h) the GPU's.
  memwall_test(device_team_test ROOMS base LABELS cuda)
  target_include_directories(device_team_test PRIVATE ${PROJECT_SOURCE_DIR}/runtime/kernels/cuda)
  target_include_directories(device_team_test SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})

  if(MEMWALL_CUDNN_FOUND)
    list(APPEND op_families attention)
  endif()
  foreach(family ${op_families})
    set(name test_kernels_${family})
    add_dependencies(${name} memwall_cuda memwall_cuda_imitated)
    gtest_discover_tests(${name} TEST_SUFFIX .imitated TEST_LIST ${name}_imitated
      DISCOVERY_TIMEOUT 60
      PROPERTIES LABELS "all cuda" TIMEOUT 300 ENVIRONMENT MEMWALL_TEST_DEVICE=CUDA
                 ENVIRONMENT_MODIFICATION
                 MEMWALL_CUDA_MODULE=set:${PROJECT_BINARY_DIR}/libmemwall_cuda_imitated.so)
    add_test(NAME ${name}.gpu COMMAND ${name})
    set_tests_properties(${name}.gpu PROPERTIES
      LABELS gpu TIMEOUT 300 RESOURCE_LOCK gpu SKIP_REGULAR_EXPRESSION "no GPU: "
      ENVIRONMENT "MEMWALL_TEST_DEVICE=CUDA;MEMWALL_CUDA_MODULE=${PROJECT_BINARY_DIR}/libmemwall_cuda.so")
  endforeach()
endif()
