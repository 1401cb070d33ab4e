memwall_test(gradient_test ROOMS passes model exec LABELS passes)
memwall_test(plan_test ROOMS passes model exec LABELS passes)
