memwall_test(style_test SOURCES ${suite_folder}/rules.cc)
