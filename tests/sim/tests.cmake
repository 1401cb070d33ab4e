memwall_test(simulate_test ROOMS sim LABELS sim)
memwall_test(simulated_plans_test ROOMS sim passes model LABELS sim)
