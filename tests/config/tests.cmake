memwall_test(config_test ROOMS config LABELS config)
memwall_test(config_rules_test ROOMS config LABELS config)
memwall_test(cluster_test ROOMS config LABELS config)
