set(train_libraries nlohmann_json::nlohmann_json)
memwall_test(train_parts_test ROOMS train passes model LABELS train LIBRARIES ${train_libraries})
memwall_test(trainer_test ROOMS train passes model RANKS 1 2 LABELS train
  LIBRARIES ${train_libraries})
memwall_test(checkpoint_test ROOMS train passes model RANKS 1 2 LABELS train
  LIBRARIES ${train_libraries})
memwall_test(mixed_precision_test ROOMS train passes model RANKS 1 2 LABELS train
  LIBRARIES ${train_libraries})
memwall_test(hessian_test ROOMS train passes model RANKS 1 2 LABELS train
  LIBRARIES ${train_libraries})
memwall_test(adahessian_training_test ROOMS train passes model RANKS 1 2 LABELS train
  LIBRARIES ${train_libraries})
memwall_test(lanczos_test ROOMS train LABELS train)
memwall_test(curvature_statistics_test ROOMS train LABELS train)
memwall_test(step_times_test ROOMS train LABELS train)
memwall_test(step_timer_test ROOMS train passes model RANKS 1 2 LABELS train
  LIBRARIES ${train_libraries})
memwall_test(trace_test ROOMS train passes model RANKS 1 2 LABELS train
  LIBRARIES ${train_libraries})
