// From words to a verb, and from errors to an exit code.
#pragma once

namespace memwall {

// The whole command; its return value is the process's exit code (ExitCode in base/error.h).
int run_command_line(int argc, char** argv);

}  // namespace memwall
