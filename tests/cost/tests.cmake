memwall_test(cost_test ROOMS cost comm LABELS cost)
memwall_test(cost_fit_test ROOMS cost LABELS cost)
