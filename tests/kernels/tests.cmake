add_library(memwall_op_case STATIC ${suite_folder}/op_case.cc ${suite_folder}/dual_case.cc)
target_link_libraries(memwall_op_case PUBLIC memwall_kernels GTest::gtest)
foreach(family vector_math half elementwise rows fused gemm gemm_panels update curvature adahessian
        dual dual_rows dual_numbers)
  memwall_test(test_kernels_${family} ROOMS kernels LIBRARIES memwall_op_case)
endforeach()
memwall_test(openblas_core_test ROOMS kernels)
