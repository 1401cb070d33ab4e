// Who passes what to whom along a ring, as arithmetic.
//
// M nodes of g ranks (g = 1: every rank is a node of its own); the ranks at one place of their
// nodes form a ring, in the nodes' order. Each has a part of every other one's data, cut in chunks,
// and every chunk makes `hops` hops. Chunks go in blocks of kRingChunks: hop 0 of all of a block's
// chunks, then hop 1 of them, ..., then the next block. So while one chunk is on its way others are
// added, and what a rank sends in hop k + 1 it received kRingChunks messages earlier.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/base/collective.h"
#include "runtime/base/math.h"

namespace memwall {

class Ring {
 public:
  Ring(int rank, int ranks, int ranks_a_node)
      : nodes_(ranks / ranks_a_node),
        node_(rank / ranks_a_node),
        place_(rank % ranks_a_node),
        places_(ranks_a_node) {}

  int64_t nodes() const { return nodes_; }
  int64_t node() const { return node_; }
  int64_t place() const { return place_; }
  int64_t places() const { return places_; }
  int next() const { return static_cast<int>(rank_on(node_ + 1)); }
  int previous() const { return static_cast<int>(rank_on(node_ - 1)); }
  // The node `distance` places before this rank's.
  int64_t node_before(int64_t distance) const {
    return ((node_ - distance) % nodes_ + nodes_) % nodes_;
  }
  // This rank's counterpart there.
  int64_t rank_on(int64_t node) const {
    return (node % nodes_ + nodes_) % nodes_ * places_ + place_;
  }

 private:
  int64_t nodes_, node_, place_, places_;
};

class RingOrder {
 public:
  struct Item {
    int64_t chunk = 0, hop = 0;
    bool operator==(const Item&) const = default;
  };

  RingOrder(int64_t units, int64_t chunk_units, int64_t hops)
      : units_(units),
        chunk_units_(chunk_units),
        chunks_(units == 0 ? 0 : ceil_div(units, chunk_units)),
        hops_(hops) {}

  int64_t size() const { return chunks_ * hops_; }
  Item at(int64_t index) const {
    const int64_t block = index / (kRingChunks * hops_), width = width_of(block);
    const int64_t within = index - block * kRingChunks * hops_;
    return {block * kRingChunks + within % width, within / width};
  }
  int64_t index_of(const Item& item) const {
    const int64_t block = item.chunk / kRingChunks;
    return block * kRingChunks * hops_ + item.hop * width_of(block) + item.chunk % kRingChunks;
  }
  // Of a chunk, in units of the part it belongs to.
  int64_t begin(int64_t chunk) const { return chunk * chunk_units_; }
  int64_t count(int64_t chunk) const { return std::min(chunk_units_, units_ - begin(chunk)); }

 private:
  int64_t width_of(int64_t block) const {
    return std::min(kRingChunks, chunks_ - block * kRingChunks);
  }

  int64_t units_, chunk_units_, chunks_, hops_;
};

}  // namespace memwall
