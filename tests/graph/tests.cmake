memwall_test(op_gradient_test ROOMS passes exec LABELS graph)
memwall_test(graph_test ROOMS passes model LABELS graph)
