if(MEMWALL_CUDA_FOUND)
  memwall_test(module_test ROOMS base LABELS cuda)
  target_compile_definitions(module_test PRIVATE MEMWALL_PROGRAM="$<TARGET_FILE:memwall>"
    MEMWALL_MODULE="$<TARGET_FILE:memwall_cuda>")
  add_dependencies(module_test memwall memwall_cuda)

  memwall_test(gpu_graphs_test ROOMS exec LABELS cuda)
  target_compile_definitions(gpu_graphs_test PRIVATE
    MEMWALL_IMITATED_MODULE="${PROJECT_BINARY_DIR}/libmemwall_cuda_imitated.so")
  add_dependencies(gpu_graphs_test memwall_cuda_imitated)

  if(MEMWALL_CUDNN_FOUND)
    memwall_test(cudnn_plans_test ROOMS base LABELS cuda
      SOURCES ${PROJECT_SOURCE_DIR}/runtime/kernels/cuda/cudnn/attention_graph.cc
      LIBRARIES ${CMAKE_DL_LIBS})
    target_include_directories(cudnn_plans_test SYSTEM PRIVATE ${CUDNN_FRONTEND_INCLUDE_DIR}
      ${CUDNN_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
    target_compile_options(cudnn_plans_test PRIVATE -O1)
    add_library(driver_stub SHARED ${suite_folder}/driver_stub.cc)
    set_target_properties(driver_stub PROPERTIES PREFIX "" OUTPUT_NAME libcuda SUFFIX .so.1
      LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/driver_stub)
    target_compile_definitions(cudnn_plans_test PRIVATE
      MEMWALL_DRIVER_STUB="$<TARGET_FILE:driver_stub>")
    add_dependencies(cudnn_plans_test driver_stub)
  endif()

  # Everything that plans are made for: as far as CMake in every run; the build, about ten minutes on two
  # cores, in long ones.
  set(all_gpus ${PROJECT_BINARY_DIR}/all-gpus)
  set(for_all_gpus "${CMAKE_COMMAND} -S ${PROJECT_SOURCE_DIR} -G Ninja -DMEMWALL_TESTS=OFF -DMEMWALL_CUDA=ON -DCUDNN_FRONTEND_INCLUDE_DIR=${CUDNN_FRONTEND_INCLUDE_DIR} '-DMEMWALL_CUDA_ARCHITECTURES=80-real$<SEMICOLON>90a-real$<SEMICOLON>100-real$<SEMICOLON>100-virtual'")
  add_test(NAME CudaModule.IsConfiguredForAllGpus COMMAND sh -c
    "${for_all_gpus} -B ${all_gpus}-configured")
  set_tests_properties(CudaModule.IsConfiguredForAllGpus PROPERTIES LABELS "all cuda" TIMEOUT 300)
  add_test(NAME CudaModule.BuildsForAllGpus COMMAND sh -c
    "${for_all_gpus} -B ${all_gpus} && ${CMAKE_COMMAND} --build ${all_gpus} --target memwall_cuda")
  set_tests_properties(CudaModule.BuildsForAllGpus PROPERTIES
    LABELS "long cuda" TIMEOUT 3600 PROCESSORS 2)
endif()
