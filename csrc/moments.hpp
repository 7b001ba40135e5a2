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
    const Index wanted = smaller(size() / kGrain, kMaxBlocks);
    segments_per_block_ = wanted > 1 ? divide_up(segments, wanted) : larger(segments, 1);
    blocks_ = wanted > 1 ? divide_up(segments, segments_per_block_) : segments > 0;
  }

  Index size() const { return count_ * length_; }
  Index blocks() const { return blocks_; }
  Index grain() const { return blocks_ > 1 ? grain_of(size() / blocks_) : 1; }

  // body(offset, size) for each segment of a block
  template <class Body>
  XHAT_INLINE void each_segment(Index block, const Body& body) const {
    const Index first = block * segments_per_block_;
    const Index last = smaller(first + segments_per_block_, count_ * segments_per_run_);
    Index run = first == 0 ? 0 : first / segments_per_run_, start = (first - run * segments_per_run_) * kSegment;
    for (Index segment = first; segment < last; ++segment) {
      body(run * stride_ + start, smaller(kSegment, length_ - start));
      start += kSegment;
      if (start < length_) continue;
      start = 0;
      ++run;
    }
  }

  // Offset of the k-th of n evenly spread numbers.
  Index sample(Index k, Index n) const {
    const Index at = size() / n * k;
    return count_ == 1 ? at : at / length_ * stride_ + at % length_;
  }

 private:
  Index count_, stride_, length_, segments_per_run_, segments_per_block_, blocks_;
};

// work(block) for every block. Captures of work are best by value: a single block is worked on without a call, and only
// for several are they put into memory, for the threads. (A vector that is read back from memory right after it was put
// together there waits until all earlier stores have left the core.)
template <class Work>
XHAT_INLINE inline void each_block(const Runs& runs, const Work& work) {
  if (runs.blocks() == 1) return work(0);
  const Work shared = work;
  parallel_for(runs.blocks(), runs.grain(), [&](Index first, Index last) {
    const Work local = shared;    // in registers: nothing that is written can change it
    for (Index block = first; block < last; ++block) local(block);
  });
}

// The sums of the two terms that term(offset, lanes) returns.
template <class Term>
XHAT_INLINE inline Sums sum_over(const Runs& runs, const Term& term) {
  Sums partial[kMaxBlocks];
  each_block(runs, [=, into = partial](Index block) XHAT_INLINE {
    Terms<2> total = {};
    runs.each_segment(block, [&](Index offset, Index size) XHAT_INLINE {
      accumulate<2>(size, [&](Index j, auto lanes) XHAT_INLINE { return term(offset + j, lanes); }, total);
    });
    into[block] = {sum(total.term[0]), sum(total.term[1])};
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
XHAT_INLINE inline void for_each(const Runs& runs, const Body& body) {
  each_block(runs, [=](Index block) XHAT_INLINE {
    runs.each_segment(block, [&](Index offset, Index size) XHAT_INLINE {
      for_each(size, [&](Index j, auto lanes) XHAT_INLINE { body(offset + j, lanes); });
    });
  });
}

template <class T>
XHAT_INLINE inline double sample_mean(const T* x, const Runs& runs) {
  const Index samples = smaller(kSamples<T>, runs.size());
  const double first = x[0];
  double sum = 0;
  for (Index k = 1; k < samples; ++k) sum += x[runs.sample(k, samples)] - first;
  return finite_or_zero(first + sum / static_cast<double>(samples));
}

template <class T>
XHAT_INLINE inline Moments moments(const T* x, const Runs& runs) {
  if (runs.size() == 0) return kNoMoments;
  double shift = sample_mean(x, runs);
  for (bool first = true;; first = false) {
    const Sums sums = sum_over(runs, [=, shifts = splat(shift)](Index at, auto lanes) XHAT_INLINE {
      const Lanes shifted = load(x + at, lanes) - shifts;
      return Terms<2>{shifted, shifted * shifted};
    });
    const Moments result = moments_from<T>(shift, sums, static_cast<double>(runs.size()));
    if (result.reliable || !first) return result;
    shift = result.mean;
  }
}

// The mean taken to be 0: var is the mean of x².
template <class T>
XHAT_INLINE inline Moments moments_about_zero(const T* x, const Runs& runs) {
  if (runs.size() == 0) return kNoMoments;
  const Sums sums = sum_over(runs, [=](Index at, auto lanes) XHAT_INLINE {
    const Lanes here = load(x + at, lanes);
    return Terms<2>{here * here, {}};
  });
  return {0, 0, sums.first / static_cast<double>(runs.size()), true};
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
