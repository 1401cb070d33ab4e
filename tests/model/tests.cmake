memwall_test(parity_test ROOMS passes model exec data LABELS model)
memwall_test(adahessian_parity_test ROOMS passes model exec data LABELS model
  LIBRARIES nlohmann_json::nlohmann_json)
