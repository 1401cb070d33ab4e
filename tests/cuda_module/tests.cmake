if(MEMWALL_CUDA_FOUND)
  memwall_test(module_test ROOMS base LABELS cuda)
  target_compile_definitions(module_test PRIVATE MEMWALL_PROGRAM="$<TARGET_FILE:memwall>"
    MEMWALL_MODULE="$<TARGET_FILE:memwall_cuda>")
  add_dependencies(module_test memwall memwall_cuda)
endif()
