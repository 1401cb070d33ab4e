set(shim ${PROJECT_SOURCE_DIR}/tests/support/pmpi_shim.cc)

memwall_test(rank_sum_test ROOMS comm LABELS comm)
memwall_test(collectives_test ROOMS comm RANKS 1 2 3 4 LABELS comm SOURCES ${shim})
memwall_test(traffic_test ROOMS comm RANKS 1 3 LABELS comm SOURCES ${shim})
memwall_test(oversubscribed_test ROOMS comm RANKS 8 LABELS comm)
memwall_test(agree_test ROOMS comm RANKS 3 LABELS comm)

add_executable(failing_job ${suite_folder}/failing_job.cc)
target_link_libraries(failing_job PRIVATE memwall_comm)
memwall_test(failure_test ROOMS comm LABELS comm)
target_compile_definitions(failure_test PRIVATE MEMWALL_FAILING_JOB="$<TARGET_FILE:failing_job>")
add_dependencies(failure_test failing_job)

# Not a test: see its head.
add_executable(comm_bench EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/tests/benchmarks/comm_bench.cc)
target_link_libraries(comm_bench PRIVATE memwall_comm memwall_memory)
