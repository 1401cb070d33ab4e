memwall_test(program_segments_test ROOMS exec LABELS exec)
