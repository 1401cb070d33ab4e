memwall_test(sampling_test ROOMS cli LABELS cli)
memwall_test(text_test ROOMS cli LABELS cli)
