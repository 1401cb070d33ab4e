memwall_test(token_source_test ROOMS data)
memwall_test(sampler_test ROOMS data)
memwall_test(safetensors_test ROOMS data LIBRARIES nlohmann_json::nlohmann_json)
memwall_test(hugging_face_test ROOMS data LIBRARIES nlohmann_json::nlohmann_json)
