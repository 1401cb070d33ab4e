set(shim ${PROJECT_SOURCE_DIR}/tests/support/pmpi_shim.cc)

# Counts what passes through shared windows; tests/support/window_shim.h. LIBRARIES window_shim.
add_library(window_shim INTERFACE)
target_sources(window_shim INTERFACE ${PROJECT_SOURCE_DIR}/tests/support/window_shim.cc)
target_link_options(window_shim INTERFACE
  LINKER:--wrap=memwall_window_write LINKER:--wrap=memwall_window_read)

memwall_test(rank_sum_test ROOMS comm LABELS comm)
memwall_test(collectives_test ROOMS comm RANKS 1 2 3 4 LABELS comm SOURCES ${shim})
memwall_test(traffic_test ROOMS comm RANKS 1 3 LABELS comm SOURCES ${shim} LIBRARIES window_shim)
memwall_test(ring_test ROOMS comm RANKS 2 3 4 LABELS comm SOURCES ${shim})
memwall_test(shared_memory_test ROOMS comm RANKS 2 4 LABELS comm)
memwall_test(staged_test ROOMS comm RANKS 2 3 LABELS comm)
memwall_test(transport_test ROOMS comm LABELS comm)
memwall_test(oversubscribed_test ROOMS comm RANKS 8 LABELS comm)
memwall_test(agree_test ROOMS comm RANKS 3 LABELS comm)

add_executable(failing_job ${suite_folder}/failing_job.cc)
target_link_libraries(failing_job PRIVATE memwall_comm)
memwall_test(failure_test ROOMS comm LABELS comm)
target_compile_definitions(failure_test PRIVATE MEMWALL_FAILING_JOB="$<TARGET_FILE:failing_job>")
add_dependencies(failure_test failing_job)
