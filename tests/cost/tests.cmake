memwall_test(cost_test ROOMS cost comm LABELS cost)
