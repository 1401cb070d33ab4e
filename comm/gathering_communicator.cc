#include "comm/gathering_communicator.h"

#include <algorithm>
#include <cstddef>

namespace memwall {

void GatheringCommunicator::barrier() {
  std::vector<std::byte> arrived(static_cast<size_t>(size()));
  gather_bytes(&arrived[static_cast<size_t>(rank())], arrived.data(), 1);
}

std::vector<double> GatheringCommunicator::gather_all(const std::vector<double>& mine) {
  std::vector<double> all(mine.size() * static_cast<size_t>(size()));
  gather_bytes(mine.data(), all.data(), static_cast<int64_t>(mine.size() * sizeof(double)));
  return all;
}

// Texts travel padded to the longest.
std::vector<std::string> GatheringCommunicator::gather_text(const std::string& mine) {
  const std::vector<double> lengths = gather_all({static_cast<double>(mine.size())});
  const auto longest = static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end()));
  std::string padded = mine;
  padded.resize(longest);
  std::string all(longest * static_cast<size_t>(size()), '\0');
  gather_bytes(padded.data(), all.data(), static_cast<int64_t>(longest));
  std::vector<std::string> texts;
  for (size_t rank = 0; rank < lengths.size(); ++rank) {
    texts.push_back(all.substr(rank * longest, static_cast<size_t>(lengths[rank])));
  }
  return texts;
}

}  // namespace memwall
