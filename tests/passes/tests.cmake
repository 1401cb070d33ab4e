memwall_test(gradient_test ROOMS passes model exec LABELS passes)
memwall_test(categories_test ROOMS passes model exec LABELS passes)
memwall_test(plan_test ROOMS passes model exec LABELS passes)
memwall_test(mutants_test ROOMS passes model exec LABELS passes)
memwall_test(select_test ROOMS passes model exec LABELS passes)
memwall_test(epilogues_test ROOMS passes model exec LABELS passes)
memwall_test(fuse_attention_test ROOMS passes model exec LABELS passes)
memwall_test(vjp_test ROOMS passes graph LABELS passes)
memwall_test(dual_test ROOMS passes model exec LABELS passes)
memwall_test(stages_test ROOMS passes model exec RANKS 2 3 4 LABELS passes
  SOURCES ${PROJECT_SOURCE_DIR}/tests/support/pmpi_shim.cc LIBRARIES window_shim)
memwall_test(algorithms_test ROOMS passes model exec RANKS 2 3 4 LABELS passes
  SOURCES ${PROJECT_SOURCE_DIR}/tests/support/pmpi_shim.cc LIBRARIES window_shim)
memwall_test(curvature_stages_test ROOMS passes model exec RANKS 2 3 4 LABELS passes
  SOURCES ${PROJECT_SOURCE_DIR}/tests/support/pmpi_shim.cc LIBRARIES window_shim)
memwall_test(resident_test ROOMS passes model exec RANKS 2 LABELS passes)
