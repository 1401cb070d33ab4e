# Whole runs on imitated GPUs; what they do on real ones is shown elsewhere (tests/gpu).
if(MEMWALL_CUDA_FOUND)
  set(names cuda_equal_test cuda_graphs_test cuda_options_test cuda_planned_test cuda_products_test
    cuda_resume_test cuda_faults_test cuda_windows_test)
  if(MEMWALL_CUDNN_FOUND)
    list(APPEND names cuda_attention_test)
  endif()
  foreach(name ${names})
    memwall_test(${name} ROOMS base LABELS cuda LIBRARIES nlohmann_json::nlohmann_json)
    target_compile_definitions(${name} PRIVATE
      MEMWALL_BINARY="$<TARGET_FILE:memwall>"
      MEMWALL_IMITATED_MODULE="$<TARGET_FILE:memwall_cuda_imitated>"
      MEMWALL_REAL_MODULE="$<TARGET_FILE:memwall_cuda>")
    add_dependencies(${name} memwall memwall_cuda_imitated)
  endforeach()
endif()
