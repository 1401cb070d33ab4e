// The blocking helpers that are gathers, for transports that have one.
#pragma once

#include "comm/communicator.h"

namespace memwall {

class GatheringCommunicator : public Communicator {
 public:
  void barrier() override;
  std::vector<double> gather_all(const std::vector<double>& mine) override;
  std::vector<std::string> gather_text(const std::string& mine) override;

 protected:
  // As all_gather, but complete when it returns, and counted as Collective::kOther.
  virtual void gather_bytes(const void* shard, void* whole, int64_t shard_bytes) = 0;
};

}  // namespace memwall
