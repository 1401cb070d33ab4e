# Imitated GPUs are built where there is a CUDA compiler; a GPU is not needed.
if(MEMWALL_CUDA_FOUND)
  add_subdirectory(${suite_folder})
endif()
