#include "runtime/cli/command_line.h"
#include "runtime/cli/cores.h"

int main(int argc, char** argv) {
  memwall::wait_briefly_when_idle(argv);
  return memwall::run_command_line(argc, argv);
}
