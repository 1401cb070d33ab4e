// Cross-entropy of rows of logits (rows, V), `stride` apart, against one target a row.
#pragma once

#include <cmath>

#include "runtime/kernels/team.h"
#include "runtime/kernels/vector_math.h"

namespace memwall {

// log_sum_exp = log(sum(exp(logits))), row_loss = log_sum_exp - logits[target].
template <class T, class C, class Views = ValueViews>
struct CrossEntropy {
  InputOf<Views, T, C> logits;
  const int32_t* targets;
  OutputOf<Views, C> row_loss, log_sum_exp;
  int64_t width, stride;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto in = logits.from(row * stride);
    const auto peak = team.max(width, [&](auto at) { return in(at); });
    const auto total = team.sum(width, [&](auto at) { return exp(in(at)-peak); });
    team.lead([&] {
      using std::log;
      const auto lse = peak + log(total);
      log_sum_exp.set(row, lse);
      row_loss.set(row, lse - in.scalar(targets[row]));
    });
  }
};

// dlogits = (exp(logits - log_sum_exp) - onehot(target)) drow_loss; the padding of a row is zero.
template <class T, class C, class Views = ValueViews>
struct CrossEntropyGrad {
  InputOf<Views, C> drow_loss;
  InputOf<Views, T, C> logits;
  const int32_t* targets;
  InputOf<Views, C> log_sum_exp;
  OutputOf<Views, T, C> dlogits;
  int64_t width, stride;

  template <class Team>
  MEMWALL_HOST_DEVICE void operator()(Team& team, int64_t row) const {
    const auto in = logits.from(row * stride);
    const auto out = dlogits.from(row * stride);
    const auto drow = drow_loss.scalar(row), lse = log_sum_exp.scalar(row);
    // Of the logit, which the result may overwrite.
    const auto hit =
        team.only(targets[row], [&](auto at) { return exp(in(at)-lse) * drow - drow; });
    team.each(0, width, [&](auto at) { out.store(at, exp(in(at)-lse) * drow); });
    team.only(targets[row], [&](auto at) { out.store(at, hit); });
    team.each(width, stride, [&](auto at) { out.store(at, C{0}); });
  }
};

}  // namespace memwall
