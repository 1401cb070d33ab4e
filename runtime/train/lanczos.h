// Eigenvalues at the ends of a symmetric operator's spectrum, from products with vectors: Lanczos's
// method (1950) with full reorthogonalisation; Parlett, "The symmetric eigenvalue problem", 1998,
// chapters 13 and 6.9 ("twice is enough"). Every rank holds a shard of each vector.
//
// After k products the operator's restriction to the vectors seen is a k x k tridiagonal T. Its
// eigenvalues, the Ritz values, approach the operator's from inside, those at the ends first. Each
// lies within its `residual` of an eigenvalue.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace memwall {

// hv = H v, for this rank's shards of both. Both have the start vector's length.
using SymmetricProduct = std::function<void(std::span<const double> v, std::span<double> hv)>;

// Replaces each value by its sum over ranks, the same bits on all of them.
using SumOverRanks = std::function<void(std::span<double> values)>;

// Fills this rank's shard of vector `number` (from 0) with numbers that are, over all ranks,
// random; zero where the shard is padding. Number 0 starts the iteration. The others are needed
// only where products have led to no new direction, as with eigenvalues that are equal.
using RandomVector = std::function<void(int64_t number, std::span<double> v)>;

struct LanczosSettings {
  int64_t dimension = 0;              // of the whole vectors, without padding
  int64_t shard = 0;                  // elements of this rank's shard, with padding
  int64_t iterations = 0;             // products at most
  int64_t largest = 0, smallest = 0;  // eigenvalues wanted at each end
  double tolerance = 1e-6;            // of a residual, relative to the largest absolute Ritz value
};

enum class LanczosEnd : uint8_t {
  kConverged,  // the residuals of all wanted values are within the tolerance
  kComplete,   // as many products as dimensions: all eigenvalues are found
  kLimit,      // `iterations` products were not enough; each value says whether it converged
};

struct RitzPair {
  double value = 0.0;
  double residual = 0.0;  // |H y - value y| of the unit vector y
  bool converged = false;
  std::vector<double> vector;  // this rank's shard of y, zero in padding
};

struct LanczosResult {
  LanczosEnd end = LanczosEnd::kLimit;
  int64_t iterations = 0;  // products made
  // Outermost first. Fewer than wanted where there were fewer products.
  std::vector<RitzPair> largest, smallest;
  std::vector<double> ritz_values;  // all, ascending
  // How far products were from those of a symmetric operator, relative to the largest absolute Ritz
  // value: the precision of the products, which no residual shows.
  double asymmetry = 0.0;
};

// Bytes of a rank's vectors, held until it returns.
int64_t lanczos_bytes(const LanczosSettings& settings);

// Collective. Of an eigenvalue that occurs more than once it finds the other copies only where it
// goes on after a product without a new direction, which it then does to the limit. Throws a
// SharedError where a product is not finite.
LanczosResult lanczos(const SymmetricProduct& product, const SumOverRanks& sum,
                      const RandomVector& random, const LanczosSettings& settings);

}  // namespace memwall
