#include "comm/agree.h"

#include <algorithm>
#include <string_view>

#include "comm/host.h"

namespace memwall {

namespace {

// Fields with their lengths, so that any byte may stand in them: "3:abc0:1:x".
void append_field(std::string& text, std::string_view field) {
  text += std::to_string(field.size()) + ':';
  text += field;
}

std::vector<std::string> fields_of(std::string_view text) {
  std::vector<std::string> fields;
  while (!text.empty()) {
    const size_t colon = text.find(':');
    check(colon != std::string_view::npos, "malformed text from another rank");
    const size_t length = std::stoul(std::string(text.substr(0, colon)));
    fields.emplace_back(text.substr(colon + 1, length));
    text.remove_prefix(std::min(text.size(), colon + 1 + length));
  }
  return fields;
}

std::vector<std::vector<std::string>> gather_fields(Communicator& comm,
                                                    const std::vector<std::string>& mine) {
  std::string text;
  for (const std::string& field : mine) append_field(text, field);
  std::vector<std::vector<std::string>> out;
  for (const std::string& theirs : comm.gather_text(text)) out.push_back(fields_of(theirs));
  return out;
}

std::string rank_on_host(size_t rank, const std::string& host) {
  return "rank " + std::to_string(rank) + " on " + host;
}

constexpr const char* kNoAnswer = "no answer";

// {} without an error, else {host, exit code, message, kNoAnswer or ""}.
std::vector<std::string> describe(std::exception_ptr error) {
  if (!error) return {};
  const auto fields = [](const char* message, ExitCode code, const char* kind = "") {
    return std::vector<std::string>{host_name(), std::to_string(static_cast<int>(code)), message,
                                    kind};
  };
  try {
    std::rethrow_exception(error);
  } catch (const NoAnswer& e) {
    return fields(e.what(), e.code(), kNoAnswer);
  } catch (const Error& e) {
    return fields(e.what(), e.code());
  } catch (const std::exception& e) {
    return fields(e.what(), ExitCode::kFailed);
  } catch (...) {
    return fields("unknown error", ExitCode::kFailed);
  }
}

}  // namespace

void check_agreement(Communicator& comm,
                     const std::vector<std::pair<std::string, std::string>>& items) {
  std::vector<std::string> mine = {host_name()};  // then name, value, name, value, ...
  for (const auto& [name, value] : items) mine.insert(mine.end(), {name, value});
  const auto all = gather_fields(comm, mine);
  const auto& first = all[0];
  const auto field = [](const std::vector<std::string>& fields, size_t i) {
    return i < fields.size() ? "'" + fields[i] + "'" : std::string("nothing");
  };
  size_t longest = 0;
  for (const auto& fields : all) longest = std::max(longest, fields.size());
  for (size_t i = 1; i < longest; i += 2) {
    for (size_t rank = 1; rank < all.size(); ++rank) {
      const auto& theirs = all[rank];
      if (field(theirs, i) == field(first, i) && field(theirs, i + 1) == field(first, i + 1)) {
        continue;
      }
      throw SharedError("the ranks disagree about the " +
                            (i < first.size() ? first[i] : theirs[i]) + ": " +
                            rank_on_host(rank, theirs[0]) + " has " + field(theirs, i + 1) + ", " +
                            rank_on_host(0, first[0]) + " has " + field(first, i + 1),
                        "", "start every rank with the same binary and files", ExitCode::kBadInput);
    }
  }
}

void throw_together(Communicator& comm, std::exception_ptr mine) {
  const auto all = gather_fields(comm, describe(mine));
  const auto failed = [](const std::vector<std::string>& fields) { return !fields.empty(); };
  auto first = std::find_if(all.begin(), all.end(), [&](const auto& fields) {
    return failed(fields) && fields[3] != kNoAnswer;
  });
  if (first == all.end()) first = std::find_if(all.begin(), all.end(), failed);
  if (first == all.end()) return;
  const std::string& message = (*first)[2];
  const bool alike = std::all_of(all.begin(), all.end(), [&](const auto& fields) {
    return failed(fields) && fields[2] == message;
  });
  throw SharedError(
      message, alike ? "" : rank_on_host(static_cast<size_t>(first - all.begin()), (*first)[0]), "",
      static_cast<ExitCode>(std::stoi((*first)[1])));
}

}  // namespace memwall
