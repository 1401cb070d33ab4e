memwall_test(process_test ROOMS launch LABELS launch)
memwall_test(hosts_test ROOMS launch LABELS launch)
memwall_test(namespaces_test ROOMS launch LABELS launch LOCK namespaces)
