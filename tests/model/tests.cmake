memwall_test(parity_test ROOMS passes model exec data LABELS model)
