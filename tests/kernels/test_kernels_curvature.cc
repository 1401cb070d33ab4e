// Random signs, sums of z * (H z), and their averages over space.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include <Random123/philox.h>

#include "runtime/base/half.h"
#include "runtime/base/workspace.h"
#include "tests/kernels/curvature_unit.h"

namespace memwall::test {
namespace {

constexpr int64_t kBlocks[] = {32, 48, 1, kWholeRows};

// z of element `e` of tensor `index`, from Random123 itself.
double plain_sign(int64_t seed, uint32_t index, int64_t e, uint32_t draw) {
  const auto block = static_cast<uint64_t>(e / 128);
  const r123::Philox4x32::ctr_type counter{
      {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), index, draw}};
  const r123::Philox4x32::key_type key{
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32)}};
  const auto words = r123::Philox4x32()(counter, key);
  const auto word = static_cast<size_t>(e % 128 / 32);
  return (words[word] >> (e % 32)) & 1 ? -1.0 : 1.0;
}

// z of the whole unit.
Values plain_signs(const Unit& unit, int64_t seed, uint32_t draw) {
  Values z;
  for (int64_t e = 0; e < unit.padded; ++e) {
    const Segment* s = tensor_at(unit, e);
    z.push_back(s == nullptr ? 0.0 : plain_sign(seed, s->index, e - s->offset, draw));
  }
  return z;
}

UnitAttributes with_seed(int64_t seed) {
  UnitAttributes a;
  a.seed = seed;
  return a;
}

OpCase sign_case(const Unit& unit, int64_t seed, uint32_t draw, double scale) {
  OpCase c;
  c.name = "seed " + std::to_string(seed) + " draw " + std::to_string(draw);
  c.op = Op::kSign;
  c.attributes = with_seed(seed);
  c.unit = &unit;
  c.ranks = 3;
  c.inputs = {input({kScalarCount},
                    scalars_with({{Scalar::kDraw, draw}, {Scalar::kSignScale, scale}}),
                    Kind::kF64)};
  c.outputs = {output({unit.padded})};
  c.tolerance_f32 = c.tolerance_f64 = 0.0;
  c.reference = [&unit, seed, draw, scale](const auto&) {
    Values z = plain_signs(unit, seed, draw);
    for (double& x : z) x *= scale;
    return std::vector<Values>{z};
  };
  return c;
}

TEST(Signs, AreBitsOfPhilox) {
  const Unit unit = curvature_unit(3, kUnitAlignment);
  expect_correct(sign_case(unit, 987654321012, 1, 1.0));
  expect_correct(sign_case(unit, -5, 0xFFFFFFFF, 0x1p-6));
}

TEST(Signs, OfLongTensors) {
  Unit unit;
  unit.padded = 128 * 64;  // more than one tile
  unit.segments = {Segment{.name = "t", .shape = {unit.padded - 3}, .count = unit.padded - 3}};
  expect_correct(sign_case(unit, 3, 2, 1.0));
}

// The test vectors of docs/adahessian.md, from tests/golden/make_sign_vectors.py: a Philox of its
// own.
TEST(Signs, TestVectors) {
  struct Vector {
    int64_t seed;
    uint32_t tensor, draw;
    int64_t first;
    std::string signs;
  };
  for (const Vector& v :
       {Vector{0, 0, 1, 0, "-+-++-----++---++---++---+--+-++------+++-+++---"},
        {1234, 7, 10, 0, "++++-++-++++----++--+--+-++--+------++--+-+--+-+"},
        {987654321012, 147, 1000000, 4096, "+-+++--+-++-+--+-+---+-+--++-++---+----++----+++"}}) {
    Unit unit;
    unit.padded = 8192;
    unit.segments = {Segment{.name = "t", .shape = {8192}, .count = 8192, .index = v.tensor}};
    const auto bytes = run(sign_case(unit, v.seed, v.draw, 1.0), DType::kF32, 0, 1, {})[0];
    const auto* z = reinterpret_cast<const float*>(bytes.data());
    std::string got;
    for (size_t i = 0; i < v.signs.size(); ++i) {
      got += z[static_cast<size_t>(v.first) + i] > 0 ? '+' : '-';
    }
    EXPECT_EQ(got, v.signs) << "seed " << v.seed;
  }
}

OpCase sign_product_case(const Unit& unit, bool accumulate) {
  OpCase c;
  c.name = accumulate ? "added" : "written";
  c.op = Op::kSignProduct;
  c.attributes = with_seed(77);
  c.unit = &unit;
  c.ranks = 3;
  c.accumulate = accumulate;
  Values x = noise(unit.padded, 5);
  for (int64_t e = 0; e < unit.padded; ++e) {
    if (tensor_at(unit, e) == nullptr) x[static_cast<size_t>(e)] = 0.0;
  }
  c.inputs = {input({unit.padded}, x),
              input({kScalarCount}, scalars_with({{Scalar::kDraw, 9}, {Scalar::kSignScale, 0.25}}),
                    Kind::kF64)};
  c.outputs = {output({unit.padded})};
  if (!accumulate) c.in_place = {{0, 0}};
  c.also_wide = true;
  c.tolerance_f32 = accumulate ? 1e-6 : 0.0, c.tolerance_f64 = accumulate ? 1e-15 : 0.0;
  c.reference = [&unit](const std::vector<Values>& in) {
    Values y = plain_signs(unit, 77, 9);
    for (size_t i = 0; i < y.size(); ++i) y[i] *= in[0][i];
    return std::vector<Values>{y};
  };
  return c;
}

TEST(Signs, Product) {
  const Unit unit = curvature_unit(3, kUnitAlignment);
  expect_correct(sign_product_case(unit, false));
  expect_correct(sign_product_case(unit, true));
}

TEST(SumParts, AddsEachPart) {
  for (bool accumulate : {false, true}) {
    OpCase c;
    c.op = Op::kSumParts;
    c.attributes = UnitAttributes{.parts = 3};
    c.accumulate = accumulate;
    c.inputs = {input({3 * 9001}, noise(3 * 9001, 4))};
    c.outputs = {output({3}, Kind::kF64)};
    c.workspace_bytes = sum_workspace_bytes(3 * 9001, 3);
    c.tolerance_f32 = c.tolerance_f64 = 1e-12;
    c.reference = [](const std::vector<Values>& in) {
      Values sums(3, 0.0);
      for (size_t i = 0; i < in[0].size(); ++i) sums[i / 9001] += in[0][i];
      return std::vector<Values>{sums};
    };
    expect_correct(c);
  }
}

TEST(Averaging, AlignmentKeepsBlocksInShards) {
  EXPECT_EQ(averaging_alignment(32), 64);
  EXPECT_EQ(averaging_alignment(48), 192);
  EXPECT_EQ(averaging_alignment(1), 64);
  EXPECT_EQ(averaging_alignment(7), 448);
  EXPECT_EQ(averaging_alignment(kWholeRows), 64);
}

TEST(Averaging, CountsEntries) {
  // By hand, in blocks of 48: 100 + ceil(1961 / 48) + 64 + ceil(3500 / 48) + 4 + 10.
  const Unit blocks = curvature_unit(1, averaging_alignment(48));
  EXPECT_EQ(averaged_elements(blocks, 1, 48), 100 + 41 + 64 + 73 + 4 + 10);
  const Unit unit = curvature_unit(1, kUnitAlignment);
  EXPECT_EQ(averaged_elements(unit, 1, kWholeRows), 100 + 37 + 64 + 5 + 3 + 10);
  for (int64_t block : kBlocks) {
    for (int64_t ranks : {1, 3, 31}) {
      const Unit u = curvature_unit(ranks, averaging_alignment(block));
      size_t most = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const int64_t begin = rank * u.shard(ranks), end = begin + u.shard(ranks);
        const size_t entries = entries_of(u, begin, end, block).size();
        EXPECT_EQ(averaged_entries(u, begin, end, block), static_cast<int64_t>(entries));
        most = std::max(most, entries);
      }
      EXPECT_EQ(averaged_elements(u, ranks, block), static_cast<int64_t>(most));
    }
  }
}

UnitAttributes averaging(int64_t parts, int64_t block) {
  UnitAttributes a;
  a.parts = parts;
  a.averaging_block = block;
  return a;
}

// Of the whole buffer in a run of `ranks` (parts = 1), or of `rank`'s shard (parts = ranks).
OpCase average_case(const Unit& unit, int rank, int ranks, int64_t parts, int64_t block) {
  const int64_t count = unit.padded / parts, first = parts == 1 ? 0 : rank * count;
  OpCase c;
  c.name = "block " + std::to_string(block) + " rank " + std::to_string(rank) + " of " +
           std::to_string(ranks) + " parts " + std::to_string(parts);
  c.op = Op::kSpatialAverage;
  c.attributes = averaging(parts, block);
  c.unit = &unit;
  c.rank = rank, c.ranks = ranks;
  c.inputs = {input({count}, noise(count, 6))};
  const bool rows = parts > 1 && block == kWholeRows;
  if (rows) c.inputs.push_back(input({2}, {21.0, 35.5}, Kind::kF64));
  const int64_t size = averaged_elements(unit, parts, block);
  c.outputs = {output({size}, Kind::kStatistic)};
  c.tolerance_f32 = 1e-7, c.tolerance_f64 = 1e-14;
  c.reference = [&unit, first, count, size, block, rows](const std::vector<Values>& in) {
    Values h(static_cast<size_t>(size), 0.0);
    size_t i = 0;
    for (const Entry& entry : entries_of(unit, first, first + count, block)) {
      double sum = 0.0;
      for (int64_t e = std::max(entry.begin, first); e < std::min(entry.end, first + count); ++e) {
        sum += std::abs(in[0][static_cast<size_t>(e - first)]);
      }
      const Segment* s = tensor_at(unit, entry.begin);
      if (rows && s->shape.rank() == 2) {  // the shard's first and last rows come complete
        if (entry == entry_at(unit, first, block))
          sum = in[1][0];
        else if (entry == entry_at(unit, first + count - 1, block))
          sum = in[1][1];
      }
      h[i++] = sum / static_cast<double>(entry.end - entry.begin);
    }
    return std::vector<Values>{h};
  };
  return c;
}

TEST(Averaging, OfWholeBuffers) {
  for (int64_t block : kBlocks) {
    for (int ranks : {1, 3, 31}) {
      if (ranks != 3 && block != kWholeRows) continue;  // blocks end with shards
      const Unit unit = curvature_unit(ranks, averaging_alignment(block));
      expect_correct(average_case(unit, 0, ranks, 1, block));
    }
  }
}

TEST(Averaging, OfShards) {
  for (int64_t block : kBlocks) {
    for (int ranks : {3, 31}) {
      const Unit unit = curvature_unit(ranks, averaging_alignment(block));
      for (int rank = 0; rank < ranks; rank += ranks == 3 ? 1 : 5) {
        expect_correct(average_case(unit, rank, ranks, ranks, block));
      }
    }
  }
}

OpCase row_partials_case(const Unit& unit, int rank, int ranks) {
  const int64_t count = unit.padded / ranks, own = rank * count;
  OpCase c;
  c.name = "rank " + std::to_string(rank) + " of " + std::to_string(ranks);
  c.op = Op::kRowPartials;
  c.attributes = averaging(ranks, kWholeRows);
  c.unit = &unit;
  c.rank = rank, c.ranks = ranks;
  c.inputs = {input({count}, noise(count, static_cast<uint32_t>(100 + rank)))};
  c.outputs = {output({ranks, 2}, Kind::kF64)};
  c.tolerance_f32 = c.tolerance_f64 = 1e-12;
  c.reference = [&unit, ranks, count, own](const std::vector<Values>& in) {
    Values sums(static_cast<size_t>(ranks) * 2, 0.0);
    for (int64_t part = 0; part < ranks; ++part) {
      for (int64_t which : {0, 1}) {
        const int64_t e = which == 0 ? part * count : (part + 1) * count - 1;
        const Segment* s = tensor_at(unit, e);
        if (s == nullptr || s->shape.rank() == 1) continue;
        const Entry row = entry_at(unit, e, kWholeRows);
        for (int64_t i = 0; i < count; ++i) {
          if (own + i < row.begin || own + i >= row.end) continue;
          sums[static_cast<size_t>(2 * part + which)] += std::abs(in[0][static_cast<size_t>(i)]);
        }
      }
    }
    return std::vector<Values>{sums};
  };
  return c;
}

TEST(Averaging, PartialSumsOfRows) {
  for (int ranks : {2, 3, 31}) {
    const Unit unit = curvature_unit(ranks, kUnitAlignment);
    for (int rank = 0; rank < ranks; rank += ranks == 31 ? 4 : 1) {
      expect_correct(row_partials_case(unit, rank, ranks));
    }
  }
}

// Averages of all shards, with rows completed by an exchange as the ranks make it, are those of the
// whole buffer, bit by bit.
TEST(Averaging, OfShardsIsThatOfTheWhole) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    for (int64_t block : kBlocks) {
      for (int ranks : {2, 3, 31}) {
        const Unit unit = curvature_unit(ranks, averaging_alignment(block));
        const OpCase whole = average_case(unit, 0, ranks, 1, block);
        const auto expected = run(whole, dtype, 0, 2, {})[0];
        const int64_t count = unit.shard(ranks), size = size_of(accumulator_of(dtype));
        const auto shard_of = [&](int rank) {
          const auto begin = whole.inputs[0].values.begin() + rank * count;
          return Values(begin, begin + count);
        };
        Values totals(static_cast<size_t>(ranks) * 2, 0.0);
        for (int rank = 0; rank < ranks && block == kWholeRows; ++rank) {
          OpCase partials = row_partials_case(unit, rank, ranks);
          partials.inputs[0].values = shard_of(rank);
          const auto bytes = run(partials, dtype, 0, 1, {})[0];
          const auto* sums = reinterpret_cast<const double*>(bytes.data());
          for (size_t i = 0; i < totals.size(); ++i) totals[i] += sums[i];
        }
        const auto all = entries_of(unit, 0, unit.padded, block);
        for (int rank = 0; rank < ranks; ++rank) {
          OpCase shard = average_case(unit, rank, ranks, ranks, block);
          shard.inputs[0].values = shard_of(rank);
          if (block == kWholeRows) {
            shard.inputs[1].values.assign(totals.begin() + rank * 2, totals.begin() + rank * 2 + 2);
          }
          const auto got = run(shard, dtype, 0, 1, {})[0];
          int64_t i = 0;
          for (const Entry& e : entries_of(unit, rank * count, (rank + 1) * count, block)) {
            const int64_t at = std::find(all.begin(), all.end(), e) - all.begin();
            ASSERT_EQ(std::memcmp(got.data() + i * size, expected.data() + at * size,
                                  static_cast<size_t>(size)),
                      0)
                << shard.name << " entry " << i << " in " << name_of(dtype);
            ++i;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace memwall::test
