// Mean and variance, without loss of digits whatever the offset.
//
// One pass over x - shift gives both, with the shift an average of a few samples. The variance is a difference then:
// it loses digits as far as the shift is from the mean, measured in standard deviations. Where that is too far (an
// outlier among the samples, sorted data) a second pass is taken, with the first one's mean as shift.
#pragma once

#include "lanes.hpp"
#include "parallel.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kGrain = 65536;         // elements worth a thread
constexpr Index kMaxBlocks = 64;
constexpr Index kSegment = 4096;        // short sums added up keep rounding errors few

// How far the shift may be, (mean - shift)² / var, and how many numbers are averaged to get it. Double sums have
// digits to spare for float32.
template <class T>
constexpr double kShiftLimit = sizeof(T) == 4 ? 1e4 : 1;
template <class T>
constexpr Index kSamples = sizeof(T) == 4 ? 4 : 16;

inline Index smaller(Index a, Index b) { return a < b ? a : b; }
inline Index larger(Index a, Index b) { return a > b ? a : b; }
inline Index divide_up(Index a, Index b) { return (a + b - 1) / b; }

// How many items of `elements` each are worth a thread.
inline Index grain_of(Index elements) { return divide_up(kGrain, larger(elements, 1)); }

struct Sums {
  double first, second;
};

struct Moments {
  double mean, mean_low, var;
  bool reliable;
};

constexpr Moments kNoMoments{0, 0, 0, true};    // of no numbers

inline void set_statistics(const Statistics& statistics, Index i, const Moments& moments, double eps) {
  statistics.mean[i] = moments.mean;
  statistics.mean_low[i] = moments.mean_low;
  statistics.var[i] = moments.var;
  statistics.rstd[i] = moments.var + eps == 0 ? 0 : 1 / __builtin_sqrt(moments.var + eps);
}

inline double finite_or_zero(double value) { return value - value == 0 ? value : 0; }

// sums: of x - shift and of its square, over n numbers, or with weights of sum n.
template <class T>
Moments moments_from(double shift, Sums sums, double n) {
  const double offset = sums.first / n;
  const double mean = shift + offset;
  const double rounded = mean - shift;
  const double mean_low = (shift - (mean - rounded)) + (offset - rounded);    // exactly what the addition lost
  const double var = sums.second / n - offset * offset;
  return {mean, mean_low, var < 0 ? 0 : var, !(offset * offset > kShiftLimit<T> * var)};
}

// The numbers of one row, or of one channel: `count` runs of `length` adjacent numbers, `stride` apart.
// Fixed partition: segments inside a run, blocks of segments.
class Runs {
 public:
  Runs(Index count, Index stride, Index length)
      : count_(count), stride_(stride), length_(length), segments_per_run_(divide_up(length, kSegment)) {
    const Index segments = count_ * segments_per_run_;
    const Index wanted = smaller(larger(size() / kGrain, 1), kMaxBlocks);
    segments_per_block_ = larger(divide_up(segments, wanted), 1);
    blocks_ = divide_up(segments, segments_per_block_);
  }

  Index size() const { return count_ * length_; }
  Index blocks() const { return blocks_; }
  Index grain() const { return grain_of(size() / larger(blocks_, 1)); }

  // body(offset, size) for each segment of a block
  template <class Body>
  XHAT_INLINE void each_segment(Index block, const Body& body) const {
    const Index last = smaller((block + 1) * segments_per_block_, count_ * segments_per_run_);
    for (Index segment = block * segments_per_block_; segment < last; ++segment) {
      const Index start = segment % segments_per_run_ * kSegment;
      body(segment / segments_per_run_ * stride_ + start, smaller(kSegment, length_ - start));
    }
  }

  // Offset of the k-th of n evenly spread numbers.
  Index sample(Index k, Index n) const {
    const Index at = size() / n * k;
    return at / length_ * stride_ + at % length_;
  }

 private:
  Index count_, stride_, length_, segments_per_run_, segments_per_block_, blocks_;
};

// The sums of the two terms that term(offset, lanes) returns. Captures of term are best by value.
template <class Term>
Sums sum_over(const Runs& runs, const Term& term) {
  Sums partial[kMaxBlocks];
  parallel_for(runs.blocks(), runs.grain(), [&](Index first, Index last) {
    const Term local = term;    // in registers: nothing that is written can change it
    for (Index block = first; block < last; ++block) {
      Terms<2> total = {};
      runs.each_segment(block, [&](Index offset, Index size) XHAT_INLINE {
        accumulate<2>(size, [&](Index j, auto lanes) XHAT_INLINE { return local(offset + j, lanes); }, total);
      });
      partial[block] = {sum(total.term[0]), sum(total.term[1])};
    }
  });
  Sums result = {};
  for (Index block = 0; block < runs.blocks(); ++block) {
    result.first += partial[block].first;
    result.second += partial[block].second;
  }
  return result;
}

// body(offset, lanes) for all numbers of the runs
template <class Body>
void for_each(const Runs& runs, const Body& body) {
  parallel_for(runs.blocks(), runs.grain(), [&](Index first, Index last) {
    const Body local = body;
    for (Index block = first; block < last; ++block)
      runs.each_segment(block, [&](Index offset, Index size) XHAT_INLINE {
        for_each(size, [&](Index j, auto lanes) XHAT_INLINE { local(offset + j, lanes); });
      });
  });
}

template <class T>
double sample_mean(const T* x, const Runs& runs) {
  const Index samples = smaller(kSamples<T>, runs.size());
  const double first = x[0];
  double sum = 0;
  for (Index k = 1; k < samples; ++k) sum += x[runs.sample(k, samples)] - first;
  return finite_or_zero(first + sum / static_cast<double>(samples));
}

template <class T>
Moments moments(const T* x, const Runs& runs) {
  if (runs.size() == 0) return kNoMoments;
  const auto shifted_by = [&](double shift) {
    const Lanes shifts = splat(shift);
    const Sums sums = sum_over(runs, [=](Index at, auto lanes) XHAT_INLINE {
      const Lanes shifted = load(x + at, lanes) - shifts;
      return Terms<2>{shifted, shifted * shifted};
    });
    return moments_from<T>(shift, sums, static_cast<double>(runs.size()));
  };
  const Moments once = shifted_by(sample_mean(x, runs));
  return once.reliable ? once : shifted_by(once.mean);
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
