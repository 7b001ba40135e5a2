// Mean and variance, without loss of digits whatever the offset.
//
// One pass over x - shift gives both, with the shift an average of a few samples. The variance is a difference then:
// it loses digits as far as the shift is from the mean, measured in standard deviations. Where that is too far (an
// outlier among the samples, sorted data) a second pass is taken, with the first one's mean as shift.
#pragma once

#include "parallel.hpp"
#include "traffic.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kGrain = 65536;         // elements worth a thread
constexpr Index kMaxBlocks = 64;
constexpr Index kSegment = 512;         // short sums added up keep rounding errors few
constexpr Index kFetched = 4096;        // numbers between what is used and what is asked for

// Double arithmetic has digits to spare for all other types.
template <class T>
constexpr bool kIsDouble = false;
template <>
constexpr bool kIsDouble<double> = true;

// How far the shift may be, (mean - shift)² / var, and how many numbers are averaged to get it.
template <class T>
constexpr double kShiftLimit = kIsDouble<T> ? 1 : 1e4;
template <class T>
constexpr Index kSamples = kIsDouble<T> ? 16 : 4;

// Variances of doubles that cannot be trusted: squares may have overflowed or lost digits to underflow. With a mean
// beyond the third, deviations are large enough for their squares.
constexpr double kLargestVar = 1e290, kLeastVar = 1e-280, kSafeMean = 1e-130;

// How many items of `elements` each are worth a thread.
inline Index grain_of(Index elements) { return divide_up(kGrain, larger(elements, 1)); }

// Scalar: (x - mean) - mean_low. What the second number adds shows in doubles only.
template <class T>
XHAT_INLINE inline Lanes centre(const Lanes& x, const Lanes& mean, const Lanes& mean_low) {
  if constexpr (kIsDouble<T>)
    return (x - mean) - mean_low;
  else
    return x - mean;
}

struct Sums {
  double first, second;
};

// var is measured in 1 / unit².
struct Moments {
  double mean, mean_low, var;
  bool reliable;
  double unit = 1;    // a power of two
};

constexpr Moments kNoMoments{0, 0, 0, true};    // of no numbers

template <class T>
inline void set_statistics(const Statistics& statistics, Index i, const Moments& moments, double eps) {
  const double unit = kIsDouble<T> ? moments.unit : 1;
  const double var = kIsDouble<T> ? moments.var / unit / unit : moments.var;
  const double spread = moments.var + eps * unit * unit;
  statistics.mean[i] = moments.mean;
  statistics.mean_low[i] = moments.mean_low;
  statistics.var[i] = var;
  if (!kIsDouble<T> || spread - spread == 0)
    statistics.rstd[i] = spread == 0 ? 0 : unit / __builtin_sqrt(spread);
  else
    statistics.rstd[i] = 1 / __builtin_sqrt(var + eps);    // beside this eps, var is nothing
  if (kIsDouble<T> && statistics.rstd[i] == __builtin_inf()) statistics.rstd[i] = 0;    // deviations below 1e-308
}

inline double finite_or_zero(double value) { return value - value == 0 ? value : 0; }

template <class Number>
struct MomentsAt {
  Number mean, mean_low, var, offset;    // from the shift to the mean
};

// From the sums of x - shift and of its square, over n numbers, or with weights of sum n: of one channel, or of some.
template <class Number>
XHAT_INLINE inline MomentsAt<Number> moments_at(const Number& shift, const Number& first, const Number& second,
                                                const Number& n) {
  const Number offset = first / n, mean = shift + offset, rounded = mean - shift;
  const Number var = second / n - offset * offset, zero = n - n;
  const Number lost = (shift - (mean - rounded)) + (offset - rounded);    // exactly what the addition lost
  return {mean, lost, where_positive(zero - var, zero, var), offset};
}

template <class T>
XHAT_INLINE inline Moments moments_from(double shift, Sums sums, double n) {
  const MomentsAt<double> at = moments_at(shift, sums.first, sums.second, n);
  return {at.mean, at.mean_low, at.var, !(at.offset * at.offset > kShiftLimit<T> * at.var)};
}

// The numbers of one row, or of one channel: `count` runs of `length` adjacent numbers, `stride` apart.
// Fixed partition: segments inside a run, blocks of segments.
class Runs {
 public:
  // next: how much later begins what will be worked on after these runs, if there is room for it in the cache.
  Runs(Index count, Index stride, Index length, Index next = 0)
      : count_(count), stride_(stride), length_(length), next_(next), segments_per_run_(divide_up(length, kSegment)) {
    const Index segments = count_ * segments_per_run_;
    const Index wanted = smaller(size() / kGrain, kMaxBlocks);
    segments_per_block_ = wanted > 1 ? divide_up(segments, wanted) : larger(segments, 1);
    blocks_ = wanted > 1 ? divide_up(segments, segments_per_block_) : segments > 0;
  }

  Index size() const { return count_ * length_; }
  Index blocks() const { return blocks_; }
  Index grain() const { return blocks_ > 1 ? grain_of(size() / blocks_) : 1; }

  // body(offset, size, ahead) for each segment of a block, where `ahead` is how much later a number lies that will be
  // needed some time after this one
  template <class Body>
  XHAT_INLINE void each_segment(Index block, const Body& body) const {
    const Index first = block * segments_per_block_;
    const Index last = smaller(first + segments_per_block_, count_ * segments_per_run_);
    const Index runs_ahead = divide_up(kFetched, larger(length_, 1));
    Index run = first == 0 ? 0 : first / segments_per_run_, start = (first - run * segments_per_run_) * kSegment;
    for (Index segment = first; segment < last; ++segment) {
      const Index ahead = next_ > 0 ? next_ : start + kFetched < length_ ? kFetched : runs_ahead * stride_ - start;
      body(run * stride_ + start, smaller(kSegment, length_ - start), ahead);
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
  Index count_, stride_, length_, next_, segments_per_run_, segments_per_block_, blocks_;
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

// The sums of the two terms that term(offset, lanes) returns, of what `reads` will be read from.
template <class Reads, class Term>
XHAT_INLINE inline Sums sum_over(const Runs& runs, const Reads& reads, const Term& term) {
  Sums partial[kMaxBlocks];
  each_block(runs, [=, into = partial](Index block) XHAT_INLINE {
    Terms<2> total = {};
    runs.each_segment(block, [&](Index offset, Index size, Index ahead) XHAT_INLINE {
      accumulate<2>(size, [&](Index j, auto lanes) XHAT_INLINE {
        reads.fetch(offset + ahead + j);
        return term(offset + j, lanes);
      }, total);
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

// to[k] = formula(k, lanes) for all numbers of the runs
template <class T, class Reads, class Formula>
XHAT_INLINE inline void write_runs(const Runs& runs, const Reads& reads, T* to, bool streamed, const Formula& formula) {
  each_block(runs, [=](Index block) XHAT_INLINE {
    Writer<T> writer(streamed);
    runs.each_segment(block, [&](Index offset, Index size, Index ahead) XHAT_INLINE {
      writer.write(to + offset, size, [&](Index j, auto lanes) XHAT_INLINE {
        reads.fetch(offset + ahead + j);
        return formula(offset + j, lanes);
      });
    });
  });
}

template <class T>
XHAT_INLINE inline double sample_mean(const T* x, const Runs& runs, double unit) {
  const Index samples = smaller(kSamples<T>, runs.size());
  const double first = static_cast<double>(x[0]) * unit;
  double sum = 0;
  for (Index k = 1; k < samples; ++k) sum += static_cast<double>(x[runs.sample(k, samples)]) * unit - first;
  return finite_or_zero(first + sum / static_cast<double>(samples));
}

// Of x * unit.
template <class T>
XHAT_INLINE inline Moments moments_in(const T* x, const Runs& runs, double unit) {
  double shift = sample_mean(x, runs, unit);
  for (bool first = true;; first = false) {
    const Sums sums = sum_over(runs, reads(x), [=, shifts = splat(shift), units = splat(unit)](Index at, auto lanes)
                                                   XHAT_INLINE {
      Lanes shifted = load(x + at, lanes);
      if constexpr (kIsDouble<T>) shifted = shifted * units;
      shifted = shifted - shifts;
      return Terms<2>{shifted, shifted * shifted};
    });
    const Moments result = moments_from<T>(shift, sums, static_cast<double>(runs.size()));
    if (result.reliable || !first) return {result.mean / unit, result.mean_low / unit, result.var, true, unit};
    shift = result.mean;
  }
}

// Of x * unit, its mean taken to be 0: var is the mean of (x * unit)².
template <class T>
XHAT_INLINE inline Moments moments_about_zero_in(const T* x, const Runs& runs, double unit) {
  const Sums sums = sum_over(runs, reads(x), [=, units = splat(unit)](Index at, auto lanes) XHAT_INLINE {
    Lanes here = load(x + at, lanes);
    if constexpr (kIsDouble<T>) here = here * units;
    return Terms<2>{here * here, {}};
  });
  return {0, 0, sums.first / static_cast<double>(runs.size()), true, unit};
}

// What brings the largest of some numbers near 1. 0 if one of them is NaN or Inf.
template <class T>
double unit_of(const T* x, const Runs& runs) {
  double largest = 0;
  for (Index block = 0; block < runs.blocks(); ++block)
    runs.each_segment(block, [&](Index offset, Index size, Index) {
      for (Index j = offset; j < offset + size; ++j) {
        const double size_of = __builtin_fabs(static_cast<double>(x[j]));
        largest = size_of <= largest ? largest : size_of;    // NaN stays, and so does Inf
        if (size_of != size_of) largest = __builtin_inf();
      }
    });
  if (largest == 0 || largest - largest != 0) return 0;
  const int exponent = __builtin_ilogb(largest);
  return __builtin_ldexp(1, exponent < -1000 ? 1000 : -exponent);
}

inline bool is_within_range(const Moments& found) {
  const bool too_small = found.var < kLeastVar && __builtin_fabs(found.mean) < kSafeMean;
  return found.var <= kLargestVar && !too_small;
}

// What was found, or, where the squares of doubles left their range, the same found in a fitting unit by `measure(unit)`.
template <class T, class Measure>
XHAT_INLINE inline Moments within_range(const T* x, const Runs& runs, const Moments& found, const Measure& measure) {
  if constexpr (kIsDouble<T>) {
    if (is_within_range(found)) return found;
    const double unit = unit_of(x, runs);
    return unit == 0 ? found : measure(unit);
  } else {
    return found;
  }
}

template <class T>
Moments moments(const T* x, const Runs& runs) {
  if (runs.size() == 0) return kNoMoments;
  return within_range(x, runs, moments_in(x, runs, 1), [&](double unit) { return moments_in(x, runs, unit); });
}

template <class T>
Moments moments_about_zero(const T* x, const Runs& runs) {
  if (runs.size() == 0) return kNoMoments;
  return within_range(x, runs, moments_about_zero_in(x, runs, 1),
                      [&](double unit) { return moments_about_zero_in(x, runs, unit); });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
