memwall_test(nanogpt_test ROOMS base LABELS long LIBRARIES nlohmann_json::nlohmann_json)
add_dependencies(nanogpt_test memwall)
target_compile_definitions(nanogpt_test PRIVATE MEMWALL_BINARY="$<TARGET_FILE:memwall>")
