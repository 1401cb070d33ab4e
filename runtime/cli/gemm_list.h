// The products of a training step, and the time that they take by themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace memwall {

// One product of the step: an iteration of it, where it stands in a body.
struct GemmCall {
  const Step* step = nullptr;  // of the plan, if of any
  GemmAttributes whole;        // before the iteration's limit
  int64_t iteration = 0;
  DType a = DType::kF32, b = DType::kF32, c = DType::kF32;
  bool accumulate = false;

  GemmAttributes limited() const;  // what this iteration computes
  int64_t flops() const;           // of that, all of the batch
};

// Of a step, one that measures curvature or one that does not, in the order of execution: all
// micro-steps and the update; bodies entered, iteration by iteration. `plan` must outlive it.
std::vector<GemmCall> gemm_list(const Plan& plan, bool curvature);

// The same products on operands and results of another type.
std::vector<GemmCall> in_type(std::vector<GemmCall> calls, DType dtype);

int64_t total_flops(const std::vector<GemmCall>& calls);

// Runs products on buffers of its own: one for each operand and the result, as large as the largest
// product needs and filled with numbers between 1/4 and 1, so that weights may still be in the
// cache from the product before: a step by itself can hardly be faster.
class GemmBench {
 public:
  // Allocates, for these products or smaller ones.
  GemmBench(const std::vector<GemmCall>& calls, int threads);

  void run_kernel(const GemmCall& call);   // the kernel that steps run
  void run_library(const GemmCall& call);  // library_gemm.h; FP32 only

  double kernel_seconds(const std::vector<GemmCall>& calls);
  double library_seconds(const std::vector<GemmCall>& calls);

 private:
  class Buffer {  // at a page's start
   public:
    void allocate(int64_t bytes) {
      storage_.resize(static_cast<size_t>(bytes + kAlignment));
      void* at = storage_.data();
      size_t space = storage_.size();
      std::align(kAlignment, static_cast<size_t>(bytes), at, space);
      bytes_ = {static_cast<std::byte*>(at), static_cast<size_t>(bytes)};
    }
    std::span<std::byte> bytes() const { return bytes_; }

   private:
    static constexpr size_t kAlignment = 4096;
    std::vector<std::byte> storage_;
    std::span<std::byte> bytes_;
  };

  int threads_;
  Buffer a_, b_, c_, workspace_;
};

}  // namespace memwall
