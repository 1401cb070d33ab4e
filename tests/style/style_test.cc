// The rules of docs/contributing.md that a program can check, over the whole tree; and, for each,
// that it notices a file that breaks it.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "tests/style/rules.h"

namespace memwall::test {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kCode = {".cc", ".h", ".cu", ".cuh"};
const std::vector<std::string> kText = {".cc", ".h",  ".cu",    ".cuh",          ".proto",
                                        ".sh", ".py", ".cmake", "CMakeLists.txt"};
const fs::path kRoot = MEMWALL_SOURCE_DIR;

template <class Rule>
void expect_clean(const std::vector<std::string>& endings, Rule rule) {
  const std::vector<SourceFile> files = source_files(kRoot, endings);
  ASSERT_FALSE(files.empty());
  for (const SourceFile& file : files) {
    for (const std::string& finding : rule(file)) ADD_FAILURE() << finding;
  }
}

TEST(Style, IncludesRunDownTheRooms) {
  expect_clean(kCode, include_findings);
}
TEST(Style, ExecutorDecidesNothing) {
  std::vector<std::string> endings = kCode;
  endings.emplace_back("CMakeLists.txt");
  expect_clean(endings, executor_word_findings);
}
TEST(Style, FilesAreShort) {
  expect_clean(kText, length_findings);
}
TEST(Style, NothingIsLeftOver) {
  expect_clean(kText, leftover_findings);
}

TEST(StyleRules, NoticesAnIncludeThatRunsUp) {
  const SourceFile graph{"runtime/graph/a.h",
                         "#pragma once\n#include <vector>\n#include \"runtime/plan/plan.h\"\n"};
  EXPECT_EQ(include_findings(graph),
            (Findings{"runtime/graph/a.h:3: runtime/graph may not include runtime/plan "
                      "(\"runtime/plan/plan.h\")"}));
  const SourceFile base{"runtime/base/a.h", "#include \"memory/arena.h\"\n"};
  EXPECT_EQ(include_findings(base).size(), 1u);
  const SourceFile exec{"runtime/exec/a.cc", "#  include \"runtime/passes/compile.h\" // why\n"};
  EXPECT_EQ(include_findings(exec).size(), 1u);
  const SourceFile room{"comm/mpi/a.cc", "#include \"tests/support/pmpi_shim.h\"\n"};
  EXPECT_EQ(include_findings(room).size(), 1u);
}

TEST(StyleRules, NoticesAnIncludeNotFromTheRoot) {
  EXPECT_EQ(include_findings({"comm/a.cc", "#include \"a.h\"\n"}).size(), 1u);
  EXPECT_EQ(include_findings({"tests/comm/a.cc", "#include \"../a.h\"\n"}).size(), 1u);
}

TEST(StyleRules, NoticesARoomThatIsNotInTheTable) {
  EXPECT_EQ(include_findings({"runtime/attic/a.h", "int x;\n"}).size(), 1u);
  EXPECT_EQ(include_findings({"tests/a.cc", "#include \"runtime/attic/a.h\"\n"}).size(), 1u);
}

TEST(StyleRules, AllowsWhatRunsDown) {
  const std::string base = "#include \"runtime/base/error.h\"\n";
  for (const char* path :
       {"runtime/base/b.h", "optim/a.cc", "runtime/cli/a.cc", "tests/comm/a.cc", "examples/a.cc"}) {
    EXPECT_EQ(include_findings({path, base}), Findings{}) << path;
  }
  const SourceFile trainer{"runtime/train/a.cc",
                           "#include \"comm/communicator.h\"\n#include \"run.pb.h\"\n"};
  EXPECT_EQ(include_findings(trainer), Findings{});
  EXPECT_EQ(include_findings({"optim/a.cc", "// see #include \"comm/ledger.h\"\n"}), Findings{});
}

TEST(StyleRules, NoticesADecisionInTheExecutor) {
  const std::string code = "int a;\nif (zero_Stage == 3) return;\n// the Optimizer\nPolicy p;\n";
  EXPECT_EQ(executor_word_findings({"runtime/exec/cpu/a.cc", code}).size(), 3u);
  EXPECT_EQ(executor_word_findings({"runtime/passes/a.cc", code}), Findings{});
}

TEST(StyleRules, NoticesALongFile) {
  std::string text;
  for (int i = 0; i < kMaxLines; ++i) text += '\n';
  EXPECT_EQ(length_findings({"comm/a.h", text}), Findings{});
  EXPECT_EQ(length_findings({"comm/a.h", text + '\n'}).size(), 1u);
}

TEST(StyleRules, NoticesWhatIsLeftOver) {
  EXPECT_EQ(leftover_findings({"a.py",
                               "x = 1\n# TO"
                               "DO: more\n"}),
            (Findings{"a.py:2: TO"
                      "DO"}));
  EXPECT_EQ(leftover_findings({"a.h",
                               "// FIX"
                               "ME\n"})
                .size(),
            1u);
}

TEST(StyleRules, EntersOnlyOurFolders) {
  const fs::path folder = fs::path(testing::TempDir()) / "memwall-style-tree";
  fs::remove_all(folder);
  for (const char* path : {"comm/a.h", "runtime/data/b.h", "build-x/c.h", "data/d.h", ".git/e.h"}) {
    fs::create_directories((folder / path).parent_path());
    std::ofstream(folder / path) << "int x;\n";
  }
  std::vector<std::string> paths;
  for (const SourceFile& file : source_files(folder, {".h"})) paths.push_back(file.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"comm/a.h", "runtime/data/b.h"}));
  fs::remove_all(folder);
}

struct CommandResult {
  int status = -1;
  std::string output;
};

CommandResult run_command(const std::string& command) {
  CommandResult result;
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return result;
  std::array<char, 4096> part;
  while (const size_t n = fread(part.data(), 1, part.size(), pipe)) {
    result.output.append(part.data(), n);
  }
  const int status = pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

// Releases of clang-format differ, so one is the measure: Debian 12's.
constexpr const char* kClangFormatRelease = "version 14.";

std::string clang_format() {
  for (const char* name : {"clang-format-14", "clang-format"}) {
    const CommandResult found = run_command(std::string(name) + " --version");
    if (found.output.find(kClangFormatRelease) != std::string::npos) return name;
  }
  return "";
}

class ClangFormat : public testing::Test {
 protected:
  void SetUp() override {
    command_ = clang_format();
    if (!command_.empty()) return;
    if (std::getenv("MEMWALL_CI") != nullptr) FAIL() << "CI needs clang-format 14";
    GTEST_SKIP() << "clang-format 14 is not installed (bash tests/run.sh --deps)";
  }
  CommandResult check(const std::string& paths) const {
    return run_command("cd '" + kRoot.string() + "' && " + command_ +
                       " --dry-run -Werror --ferror-limit=1 --style=file " + paths);
  }
  std::string command_;
};

TEST_F(ClangFormat, EveryFileIsFormatted) {
  std::string paths;
  for (const SourceFile& file : source_files(kRoot, {".cc", ".h"})) paths += " '" + file.path + "'";
  const CommandResult result = check(paths);
  EXPECT_EQ(result.status, 0) << result.output << "\nclang-format -i FILE... mends it";
}

TEST_F(ClangFormat, NoticesAFileThatIsNot) {
  // clang-format looks for the style beside and above the file.
  const fs::path folder = fs::path(testing::TempDir()) / "memwall-style-format";
  fs::create_directories(folder);
  fs::copy_file(kRoot / ".clang-format", folder / ".clang-format",
                fs::copy_options::overwrite_existing);
  std::ofstream(folder / "bad.cc") << "int  f( ) {return 1 ;}\n";
  std::ofstream(folder / "good.cc") << "int f();\n";
  EXPECT_NE(check("'" + (folder / "bad.cc").string() + "'").status, 0);
  EXPECT_EQ(check("'" + (folder / "good.cc").string() + "'").status, 0);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace memwall::test
