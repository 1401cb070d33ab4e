// The rules of the source tree that a program can check. Each takes one file's path, relative to
// the repository, and its text, and returns what is wrong, as "path:line: what".
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace memwall::test {

using Findings = std::vector<std::string>;

struct SourceFile {
  std::string path;  // relative to the repository, with /
  std::string text;
};

// Every file of ours with one of the extensions or names, sorted by path: what .gitignore leaves
// out (builds, runs, data) and hidden folders are not entered.
std::vector<SourceFile> source_files(const std::filesystem::path& root,
                                     const std::vector<std::string>& endings);

// The room a path lies in, "runtime/graph" or "comm"; empty outside the rooms.
std::string_view room_of(std::string_view path);

// Includes of ours name the file from the repository's root and run down the table of rooms in
// docs/design.md.
Findings include_findings(const SourceFile& file);

// The executor decides nothing: what it runs has no word for how the plan came about.
Findings executor_word_findings(const SourceFile& file);

constexpr int kMaxLines = 500;
Findings length_findings(const SourceFile& file);

// Notes of work left undone belong in an issue.
Findings leftover_findings(const SourceFile& file);

}  // namespace memwall::test
