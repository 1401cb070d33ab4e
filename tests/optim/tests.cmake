memwall_test(schedule_test ROOMS optim LABELS optim)
