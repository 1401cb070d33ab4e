set(report_libraries nlohmann_json::nlohmann_json)
memwall_test(event_file_test ROOMS train LABELS report LIBRARIES ${report_libraries})
