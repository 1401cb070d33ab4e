foreach(name schedule_test optimizer_test)
  memwall_test(${name} ROOMS optim LABELS optim)
endforeach()
