#include "runtime/train/lanczos.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "comm/agree.h"

namespace memwall {
namespace {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

// What is left of a vector after projection is new where it is longer than rounding makes it.
constexpr double kRounding = 100.0 * std::numeric_limits<double>::epsilon();
constexpr int kMostPasses = 4;

class Lanczos {
 public:
  Lanczos(const SymmetricProduct& product, const SumOverRanks& sum, const RandomVector& random,
          const LanczosSettings& settings)
      : product_(product),
        sum_(sum),
        random_(random),
        settings_(settings),
        most_(std::min(settings.iterations, settings.dimension)),
        basis_(settings.shard, most_),
        next_(settings.shard) {
    diagonal_.reserve(static_cast<size_t>(most_));
  }

  LanczosResult run() {
    start();
    while (true) {
      multiply();
      solve();
      if (count() == settings_.dimension) return result(LanczosEnd::kComplete);
      if (coupling_ > 0.0 && !restarted_ && all_converged()) return result(LanczosEnd::kConverged);
      if (count() == most_) {
        return result(all_converged() ? LanczosEnd::kConverged : LanczosEnd::kLimit);
      }
      if (coupling_ == 0.0) {
        restarted_ = true;
        start();
      } else {
        basis_.col(count()) = next_ / coupling_;
      }
      below_.push_back(coupling_);
    }
  }

 private:
  int64_t count() const { return static_cast<int64_t>(diagonal_.size()); }

  double norm(const Vector& v) const {
    double squares = v.squaredNorm();
    sum_({&squares, 1});
    return std::sqrt(squares);
  }

  // Takes out of `v` what lies in the first `columns` of the basis and returns those parts. Takes
  // its `length` and leaves the new one: 0 where nothing but rounding, relative to `scale`, is
  // left.
  Vector orthogonalise(Vector& v, int64_t columns, double scale, double& length) const {
    Vector parts = Vector::Zero(columns);
    for (int pass = 0; pass < kMostPasses; ++pass) {
      Vector part = basis_.leftCols(columns).transpose() * v;
      sum_({part.data(), static_cast<size_t>(columns)});
      v.noalias() -= basis_.leftCols(columns) * part;
      parts += part;
      const double last = length;
      length = norm(v);
      if (length <= kRounding * scale) {
        length = 0.0;
        break;
      }
      if (pass > 0 && length > 0.7 * last) break;  // it no longer shrinks: orthogonal
    }
    return parts;
  }

  // Column `count()` becomes a random unit vector orthogonal to those before.
  void start() {
    double length = 0.0;
    while (length == 0.0) {
      check(numbers_ < 16 + 2 * most_, "a random vector has a new direction", "Lanczos");
      next_.setZero();
      random_(numbers_++, {next_.data(), static_cast<size_t>(next_.size())});
      length = norm(next_);
      orthogonalise(next_, count(), length, length);
    }
    basis_.col(count()) = next_ / length;
  }

  // A row of T: the product with the last column, in terms of the columns and what is new in it.
  void multiply() {
    const int64_t k = count();
    const auto size = static_cast<size_t>(settings_.shard);
    product_({basis_.col(k).data(), size}, {next_.data(), size});
    coupling_ = norm(next_);
    if (!std::isfinite(coupling_)) {
      throw SharedError("the product with the Hessian is not finite",
                        fmt::format("Lanczos, product {}", k + 1),
                        "look whether weights and loss are finite");
    }
    scale_ = std::max(scale_, coupling_);
    Vector parts = orthogonalise(next_, k + 1, scale_, coupling_);
    diagonal_.push_back(parts[k]);
    if (k > 0) parts[k - 1] -= below_.back();
    if (k > 0) asymmetry_ = std::max(asymmetry_, parts.head(k).cwiseAbs().maxCoeff());
  }

  void solve() {
    const int64_t k = count();
    const Eigen::Map<const Vector> diagonal(diagonal_.data(), k), below(below_.data(), k - 1);
    solver_.computeFromTridiagonal(diagonal, below, Eigen::ComputeEigenvectors);
    if (solver_.info() != Eigen::Success) {
      throw SharedError("the tridiagonal eigenproblem did not converge",
                        fmt::format("Lanczos, product {}", k));
    }
  }

  double largest_magnitude() const { return solver_.eigenvalues().cwiseAbs().maxCoeff(); }
  double residual(int64_t i) const {
    return std::abs(coupling_ * solver_.eigenvectors()(count() - 1, i));
  }
  bool has_converged(int64_t i) const {
    return residual(i) <= settings_.tolerance * largest_magnitude();
  }
  bool all_converged() const {
    const int64_t k = count();
    if (k < settings_.largest + settings_.smallest) return false;
    for (int64_t i = 0; i < settings_.smallest; ++i) {
      if (!has_converged(i)) return false;
    }
    for (int64_t i = 0; i < settings_.largest; ++i) {
      if (!has_converged(k - 1 - i)) return false;
    }
    return true;
  }

  RitzPair pair(int64_t i) const {
    RitzPair out{solver_.eigenvalues()[i], residual(i), has_converged(i), {}};
    out.vector.resize(static_cast<size_t>(settings_.shard));
    Eigen::Map<Vector>(out.vector.data(), settings_.shard).noalias() =
        basis_.leftCols(count()) * solver_.eigenvectors().col(i);
    return out;
  }

  LanczosResult result(LanczosEnd end) const {
    LanczosResult out;
    const int64_t k = count();
    out.end = end;
    out.iterations = k;
    for (int64_t i = 0; i < std::min(k, settings_.smallest); ++i) out.smallest.push_back(pair(i));
    for (int64_t i = 0; i < std::min(k, settings_.largest); ++i) {
      out.largest.push_back(pair(k - 1 - i));
    }
    const Vector& values = solver_.eigenvalues();
    out.ritz_values.assign(values.data(), values.data() + k);
    const double scale = largest_magnitude();
    out.asymmetry = scale > 0.0 ? asymmetry_ / scale : 0.0;
    return out;
  }

  const SymmetricProduct& product_;
  const SumOverRanks& sum_;
  const RandomVector& random_;
  const LanczosSettings settings_;
  const int64_t most_;
  Matrix basis_;  // (shard, most_): orthonormal columns, the first count() or one more of them set
  Vector next_;
  std::vector<double> diagonal_, below_;  // of T
  double coupling_ = 0.0;                 // length of what the last product has outside the basis
  double scale_ = 0.0;                    // the longest product
  double asymmetry_ = 0.0;
  int64_t numbers_ = 0;  // random vectors drawn
  bool restarted_ = false;
  Eigen::SelfAdjointEigenSolver<Matrix> solver_;
};

}  // namespace

int64_t lanczos_bytes(const LanczosSettings& settings) {
  const int64_t columns = std::min(settings.iterations, settings.dimension);
  const int64_t vectors = columns + 1 + settings.largest + settings.smallest;
  return vectors * settings.shard * static_cast<int64_t>(sizeof(double));
}

LanczosResult lanczos(const SymmetricProduct& product, const SumOverRanks& sum,
                      const RandomVector& random, const LanczosSettings& settings) {
  check(settings.dimension >= 1 && settings.iterations >= 1 && settings.shard >= 0,
        "a space and products to explore it with", "Lanczos");
  check(settings.largest >= 0 && settings.smallest >= 0 && settings.tolerance >= 0.0,
        "what is wanted is not negative", "Lanczos");
  return Lanczos(product, sum, random, settings).run();
}

}  // namespace memwall
