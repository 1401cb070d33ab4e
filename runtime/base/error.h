// Errors carry what went wrong, where, and what the user can do about it.
#pragma once

#include <stdexcept>
#include <string>

namespace memwall {

// The process exit codes of `memwall` (docs/user-guide.md).
enum class ExitCode : int { kDone = 0, kFailed = 1, kBadInput = 2, kOverBudget = 3 };

class Error : public std::runtime_error {
 public:
  // `where`: file and line, node name, or rank; `remedy`: what to do. Either may be empty.
  Error(const std::string& what, const std::string& where = "", const std::string& remedy = "",
        ExitCode code = ExitCode::kFailed)
      : std::runtime_error((where.empty() ? "" : where + ": ") + what +
                           (remedy.empty() ? "" : " (" + remedy + ")")),
        code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// A bad command, configuration or input file: exit code 2.
class InputError : public Error {
 public:
  explicit InputError(const std::string& what, const std::string& where = "",
                      const std::string& remedy = "")
      : Error(what, where, remedy, ExitCode::kBadInput) {}
};

// The plan does not fit the memory budget: exit code 3.
class BudgetError : public Error {
 public:
  explicit BudgetError(const std::string& what, const std::string& where = "",
                       const std::string& remedy = "")
      : Error(what, where, remedy, ExitCode::kOverBudget) {}
};

// A broken invariant of the graph, the plan or the runtime: always a defect of Memwall itself.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& what, const std::string& where = "")
      : Error("internal: " + what, where, "please report this") {}
};

inline void check(bool condition, const char* what, const std::string& where = "") {
  if (!condition) throw InternalError(what, where);
}

}  // namespace memwall
