# Writes OUTPUT, a C++ source that holds the files of ASSETS (name=file|name=file...) as raw string
# literals.
string(REPLACE "|" ";" assets "${ASSETS}")
set(text "#include \"runtime/report/assets.h\"\n\nnamespace memwall::assets {\n")
foreach(asset ${assets})
  string(REGEX MATCH "^([^=]*)=(.*)$" matched "${asset}")
  set(name ${CMAKE_MATCH_1})
  file(READ "${CMAKE_MATCH_2}" content)
  string(APPEND text "\nconst std::string_view ${name} = R\"memwall_asset(")
  string(APPEND text "${content}")
  string(APPEND text ")memwall_asset\";\n")
endforeach()
string(APPEND text "\n}  // namespace memwall::assets\n")
file(WRITE "${OUTPUT}" "${text}")
