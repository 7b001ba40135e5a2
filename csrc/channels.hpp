// Normalize each channel of x (outer, channels, inner); gamma and beta belong to the channels.
//
// Two ways through memory. Wide: a channel's numbers lie in long runs; one channel at a time is read, and written
// while it is in the cache. Narrow: x is a matrix of channels * inner columns, all channels at a time, in tiles of some
// rows and columns; the sums of a channel's columns are its sums. Either way offers moments, sum and map; what they
// are used for is written once. Blocks and tiles depend on the shape alone and their sums are added up in order.
#pragma once

#include "epilogue.hpp"
#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kWideFrom = 64;        // numbers in a run; the ends of shorter ones cost more than the cache gives
constexpr Index kStreamedRun = 1024;   // shorter ones have too many lines that are written in part
constexpr Index kManyChannels = 16;    // enough to share out whole channels among the threads
constexpr Index kTileColumns = 1024;   // a tile's sums and constants stay in the first-level cache
constexpr Index kTileRows = 128;       // short sums added up keep rounding errors few: half as many of doubles
constexpr Index kBlockRows = 256;      // the sums of blocks of so many rows are few beside their numbers

// Rows that are worked on at once: sums and constants are then read once for all of them. Where several arrays are read
// from beyond the cache, and where results go past it, one row at a time is faster.
template <Index R, bool kStreamed = false>
struct Rows {
  static constexpr Index count = R;
  static constexpr bool streamed = kStreamed;
};
constexpr Index kRowsAtOnce = 4;

struct Shape {
  Index outer, channels, inner;

  // One channel is one run.
  explicit Shape(const ChannelsShape& shape)
      : outer(shape.channels == 1 ? 1 : shape.outer),
        channels(shape.channels),
        inner(shape.channels == 1 ? shape.outer * shape.inner : shape.inner) {}

  Index count() const { return outer * inner; }
  Index size() const { return count() * channels; }
};

// Every entry counts once.
struct Unweighted {
  static constexpr bool given = false;
};

// The weights of what lies at an offset of x, where the numbers of a channel lie in runs.
class RunWeights {
 public:
  static constexpr bool given = true;

  RunWeights(const double* entries, Index start, const Shape& shape)
      : entries_(entries), start_(start), row_(shape.channels * shape.inner), others_(row_ - shape.inner) {}

  template <class L>
  XHAT_INLINE Lanes at(Index at, L lanes) const {
    return load(entries_ + (at - start_ - at / row_ * others_), lanes);
  }

 private:
  const double* entries_;
  Index start_, row_, others_;
};

// The same where all numbers of a row have one weight.
class RowWeights {
 public:
  static constexpr bool given = true;

  RowWeights(const double* entries, Index row) : entries_(entries), row_(row) {}

  template <class L>
  XHAT_INLINE Lanes at(Index at, L) const {
    return splat(entries_[at / row_]);
  }

 private:
  const double* entries_;
  Index row_;
};

// What a formula needs to know of a channel: constants_of(c, lanes) returns it for some channels from c on.
template <int K>
constexpr int size_of(const Terms<K>*) {
  return K;
}
template <class ConstantsOf>
constexpr int kSizeOf = size_of(
    static_cast<decltype(static_cast<ConstantsOf*>(nullptr)->operator()(Index{}, Full{}))*>(nullptr));

// One channel.
class Wide {
 public:
  Wide(const Shape& shape, Index channel)
      : shape_(shape),
        channel_(channel),
        start_(channel * shape.inner) {}

  RunWeights weights(const double* entries) const { return {entries, start_, shape_}; }

  Index first() const { return channel_; }
  Index last() const { return channel_ + 1; }

  template <class T>
  void statistics_of(const T* x, double eps, Statistics statistics) const {
    set_statistics<T>(statistics, channel_, moments(x + start_, runs<T>(1)), eps);
  }

  // first[c], second[c] = the sums of the two terms that term(offset, lanes, constants) returns
  template <class T, int N, class ConstantsOf, class Term>
  void sum(const Reads<T, N>& reads, const ConstantsOf& constants_of, const Term& term, double* first,
           double* second) const {
    const auto constants = splat_all(constants_of);
    const Sums sums = sum_over(runs<T>(N), reads.at(start_), [=, start = start_](Index at, auto lanes) XHAT_INLINE {
      return term(start + at, lanes, constants.term);
    });
    first[channel_] = sums.first;
    second[channel_] = sums.second;
  }

  // out = formula(offset, lanes, constants) for all numbers
  template <class T, int N, class ConstantsOf, class Formula>
  void map(const Reads<T, N>& reads, const ConstantsOf& constants_of, T* out, const Formula& formula) const {
    const auto constants = splat_all(constants_of);
    const bool streamed = is_streamed<T>(shape_.size()) && shape_.inner >= kStreamedRun;
    const Runs<T> runs(shape_.outer, shape_.channels * shape_.inner, shape_.inner, next());
    write_runs(runs, reads.at(start_), out + start_, streamed,
               [=, start = start_](Index at, auto lanes) XHAT_INLINE {
                 return formula(start + at, lanes, constants.term);
               });
  }

 private:
  // Where the next channel begins: it is fetched while this one is written, and also while it is summed if both fit.
  Index next() const { return shape_.channels > 1 ? shape_.inner : 0; }

  template <class T>
  Runs<T> runs(int arrays) const {
    const bool both_fit = shape_.count() * arrays * static_cast<Index>(sizeof(T)) <= kBeyondCache;
    return {shape_.outer, shape_.channels * shape_.inner, shape_.inner, both_fit ? next() : 0};
  }

  template <class ConstantsOf>
  Terms<kSizeOf<ConstantsOf>> splat_all(const ConstantsOf& constants_of) const {
    auto constants = constants_of(channel_, Part{1});
    for (Lanes& constant : constants.term) constant = splat(constant.part[0][0]);
    return constants;
  }

  Shape shape_;
  Index channel_, start_;
};

// All channels.
class Narrow {
 public:
  explicit Narrow(const Shape& shape)
      : shape_(shape), columns_(shape.channels * shape.inner), tiles_across_(divide_up(columns_, kTileColumns)) {
    const Index worthwhile = smaller(columns_ * shape.outer / kGrain, kMaxBlocks) / larger(tiles_across_, 1);
    const Index wanted = larger(smaller(worthwhile, shape.outer / kBlockRows), 1);
    rows_per_block_ = larger(divide_up(divide_up(shape.outer, wanted), kTileRows), 1) * kTileRows;
    blocks_ = divide_up(shape.outer, rows_per_block_);
  }

  Index first() const { return 0; }
  Index last() const { return shape_.channels; }

  // For an inner size of 1.
  RowWeights weights(const double* entries) const { return {entries, columns_}; }

  template <class T>
  void statistics_of(const T* x, double eps, Statistics statistics) const {
    const Workspace memory(3 * shape_.channels);
    double *const shift = memory.data(), *const first = shift + shape_.channels, *const second = first + shape_.channels;
    sample(x, shift);
    if (!measured_from(shift, x, first, second, eps, statistics)) {
      for (Index c = 0; c < shape_.channels; ++c) shift[c] = statistics.mean[c];
      measured_from(shift, x, first, second, eps, statistics);
    }
    if constexpr (kIsDouble<T>)
      for (Index c = 0; c < shape_.channels; ++c) {
        const Moments found{statistics.mean[c], statistics.mean_low[c], statistics.var[c], true};
        if (is_within_range(found)) continue;
        const Workspace channel(shape_.count());
        double* to = channel.data();
        for (const T *from = x + c * shape_.inner, *end = from + shape_.outer * columns_; from < end; from += columns_)
          for (Index j = 0; j < shape_.inner; ++j) *to++ = from[j];
        const Runs<double> run(1, shape_.count(), shape_.count());
        set_statistics<T>(statistics, c, moments(channel.data(), run), eps);
      }
  }

  template <class T, int N, class ConstantsOf, class Term>
  void sum(const Reads<T, N>& reads, const ConstantsOf& constants_of, const Term& term, double* first_sum,
           double* second_sum) const {
    if (N > 1 && is_beyond_cache<T>(shape_.size()))
      sum_rows(Rows<1>{}, reads, constants_of, term, first_sum, second_sum);
    else
      sum_rows(Rows<kRowsAtOnce>{}, reads, constants_of, term, first_sum, second_sum);
  }

  template <class T, int N, class ConstantsOf, class Formula>
  void map(const Reads<T, N>& reads, const ConstantsOf& constants_of, T* out, const Formula& formula) const {
    const bool streamed = is_streamed<T>(shape_.size());
    const bool aligned = until_aligned(out) == 0 && columns_ % kLanes == 0;
    const Spread<ConstantsOf> constants(*this, constants_of, streamed ? until_aligned(out) : 0);
    each_tile([&, columns = columns_](Index, Index first, Index last, Index start, Index width) {
      const Formula local = formula;
      const Reads<T, N> from = reads;
      Writer<T> writer(streamed);
      const auto map_rows = [&](Index i, auto rows) XHAT_INLINE {
        const Index ahead = rows_ahead<T>(rows.count) * columns;
        const auto row = [&](Index r, Index j, auto lanes, const auto& constant) XHAT_INLINE {
          const Index at = (i + r) * columns + start + j;
          from.fetch(at + ahead);
          return local(at, lanes, constant.term);
        };
        if constexpr (rows.count == 1)
          writer.write(out + i * columns + start, width, [&](Index j, auto lanes) XHAT_INLINE {
            return row(0, j, lanes, constants.at(start + j));
          });
        else
          for_each(width, [&](Index j, auto lanes) XHAT_INLINE {
            const auto constant = constants.at(start + j);
            for (Index r = 0; r < rows.count; ++r) {
              const Lanes result = row(r, j, lanes, constant);
              T* const to = out + (i + r) * columns + start + j;
              if constexpr (rows.streamed)
                stream(to, result);
              else
                store(to, result, lanes);
            }
          });
      };
      Index i = first;
      if (!streamed)
        for (; i + kRowsAtOnce <= last; i += kRowsAtOnce) map_rows(i, Rows<kRowsAtOnce>{});
      else if (N == 1 && aligned)
        for (; i + kRowsAtOnce <= last; i += kRowsAtOnce) map_rows(i, Rows<kRowsAtOnce, true>{});
      for (; i < last; ++i) map_rows(i, Rows<1>{});
    });
  }

 private:
  // average[c] = the average of a few of the channel's numbers
  template <class T>
  void sample(const T* x, double* average) const {
    const Workspace of_columns(columns_);
    const Index samples = smaller(kSamples<T>, shape_.outer);
    for_each(columns_, [&](Index j, auto lanes) XHAT_INLINE {
      const Lanes first = load(x + j, lanes);
      Lanes sum = {};
      for (Index k = 1; k < samples; ++k)
        sum = sum + (load(x + shape_.outer / samples * k * columns_ + j, lanes) - first);
      store(of_columns.data() + j, first + sum * splat(1 / static_cast<double>(samples)), lanes);
    });
    for (Index c = 0; c < shape_.channels; ++c) average[c] = finite_or_zero(of_columns.data()[c * shape_.inner]);
  }

  // Scalar: statistics from first = sum of x - shift and second = sum of (x - shift)². False if they are not reliable.
  template <class T>
  bool measured_from(const double* shift, const T* x, double* first, double* second, double eps,
                     Statistics statistics) const {
    sum(reads(x), [=](Index c, auto lanes) XHAT_INLINE { return Terms<1>{load(shift + c, lanes)}; },
        [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
          const Lanes difference = load(x + at, lanes) - constants[0];
          return Terms<2>{difference, difference * difference};
        },
        first, second);
    const Lanes count = splat(static_cast<double>(shape_.count())), limit = splat(kShiftLimit<T>);
    double far = 0;
    for_each(shape_.channels, [=, &far, epsilon = splat(eps), ones = splat(1), zeros = splat(0)](
                                  Index c, auto lanes) XHAT_INLINE {
      const auto at = moments_at(load(shift + c, lanes), load(first + c, lanes), load(second + c, lanes), count);
      const Lanes spread = at.var + epsilon;
      const Lanes rstd = where_positive(spread, ones / square_root(spread), spread * zeros);
      store(statistics.mean + c, at.mean, lanes);
      store(statistics.mean_low + c, at.mean_low, lanes);
      store(statistics.var + c, at.var, lanes);
      store(statistics.rstd + c, rstd, lanes);
      far += XHAT_VARIANT::sum(keep(where_positive(at.offset * at.offset - limit * at.var, ones, zeros), lanes));
    });
    return far == 0;
  }

  // The constants of each column's channel. Those of the column that the results are aligned at are aligned.
  template <class ConstantsOf>
  class Spread {
    static constexpr int K = kSizeOf<ConstantsOf>;

   public:
    Spread(const Narrow& narrow, const ConstantsOf& constants_of, Index aligned_at = 0)
        : stride_((narrow.columns_ / kLanes + 3) * kLanes),
          memory_(K * stride_),
          data_(memory_.data() + (kLanes - aligned_at % kLanes) % kLanes) {
      const Index inner = narrow.shape_.inner;
      for_each(narrow.shape_.channels, [&](Index c, auto lanes) XHAT_INLINE {
        const Terms<K> constants = constants_of(c, lanes);
        for (int k = 0; k < K; ++k) {
          double* const to = data_ + k * stride_;
          store(to + c, constants.term[k], lanes);
        }
      });
      if (inner == 1) return;
      for (int k = 0; k < K; ++k)
        for (Index c = narrow.shape_.channels, j = c * inner; c-- > 0;)
          for (Index i = 0; i < inner; ++i) {
            const double value = data_[k * stride_ + c];
            data_[k * stride_ + --j] = value;
          }
    }

    XHAT_INLINE Terms<K> at(Index j) const {
      Terms<K> result;
      for (int k = 0; k < K; ++k) result.term[k] = load(data_ + k * stride_ + j);
      return result;
    }

   private:
    Index stride_;
    Workspace memory_;
    double* data_;
  };

  // body(block, first row, last row, first column, columns)
  template <class Body>
  void each_tile(const Body& body) const {
    const Index elements = smaller(rows_per_block_, shape_.outer) * smaller(columns_, kTileColumns);
    parallel_for(blocks_ * tiles_across_, grain_of(elements), [&](Index first, Index last) {
      for (Index tile = first; tile < last; ++tile) {
        const Index block = tile / tiles_across_, row = block * rows_per_block_;
        const Index start = tile % tiles_across_ * kTileColumns;
        body(block, row, smaller(row + rows_per_block_, shape_.outer), start, smaller(kTileColumns, columns_ - start));
      }
    });
  }

  // How many rows lie between what is used and what is asked for.
  template <class T>
  Index rows_ahead(Index at_once) const {
    return larger(divide_up(kAhead / static_cast<Index>(sizeof(T)), columns_), at_once);
  }

  template <Index R, class T, int N, class ConstantsOf, class Term>
  void sum_rows(Rows<R> rows, const Reads<T, N>& reads, const ConstantsOf& constants_of, const Term& term,
                double* first_sum, double* second_sum) const {
    const Spread<ConstantsOf> constants(*this, constants_of);
    const Workspace partial_sums(blocks_ * 2 * columns_);
    double* const partial = partial_sums.data();    // (blocks, 2, columns)
    each_tile([&](Index block, Index first, Index last, Index start, Index width) {
      double* const tile_sums = partial + block * 2 * columns_ + start;
      for (Index j = 0; j < width; ++j) tile_sums[j] = tile_sums[columns_ + j] = 0;
      constexpr Index kRows = kIsDouble<T> ? kTileRows / 2 : kTileRows;
      for (Index i = first; i < last; i += kRows)
        add_rows(rows, reads, i, smaller(i + kRows, last), start, width, constants, term, tile_sums);
    });
    for (Index block = 1; block < blocks_; ++block)
      for_each(2 * columns_, [=, columns = columns_](Index j, auto lanes) XHAT_INLINE {
        store(partial + j, load(partial + j, lanes) + load(partial + block * 2 * columns + j, lanes), lanes);
      });
    for (Index c = 0; c < shape_.channels; ++c) {
      first_sum[c] = second_sum[c] = 0;
      for (Index j = c * shape_.inner; blocks_ > 0 && j < (c + 1) * shape_.inner; ++j) {
        first_sum[c] += partial[j];
        second_sum[c] += partial[columns_ + j];
      }
    }
  }

  // Scalar: sums[j] += the first term of x[i, start + j], sums[columns + j] += the second, for some rows
  template <Index R, class T, int N, class Spread, class Term>
  void add_rows(Rows<R>, const Reads<T, N>& reads, Index first, Index last, Index start, Index width,
                const Spread& constants, const Term& term, double* sums) const {
    alignas(64) double local[2 * kTileColumns];    // the two sums of eight columns side by side
    for (Index j = 0; j < 2 * width + 2 * kLanes && j < 2 * kTileColumns; ++j) local[j] = 0;
    const Index columns = columns_, ahead = rows_ahead<T>(R) * columns;
    const auto add = [=, &constants, &local](Index i, auto count) XHAT_INLINE {
      for_each(width, [=, &constants, &local](Index j, auto lanes) XHAT_INLINE {
        const auto constant = constants.at(start + j);
        const auto row = [&](Index r) XHAT_INLINE {
          const Index at = (i + r) * columns + start + j;
          reads.fetch(at + ahead);
          return term(at, lanes, constant.term);
        };
        Terms<2> total = row(0);
        if constexpr (count.count == kRowsAtOnce) {
          const Terms<2> second = row(1), third = row(2), fourth = row(3);
          for (int k = 0; k < 2; ++k)
            total.term[k] = (total.term[k] + second.term[k]) + (third.term[k] + fourth.term[k]);
        }
        double* const to = local + 2 * j;
        store(to, load(to) + total.term[0]);
        store(to + kLanes, load(to + kLanes) + total.term[1]);
      });
    };
    Index i = first;
    for (; i + R <= last; i += R) add(i, Rows<R>{});
    for (; i < last; ++i) add(i, Rows<1>{});
    for_each(width, [=, &local, columns = columns_](Index j, auto lanes) XHAT_INLINE {
      for (int k = 0; k < 2; ++k) {
        double* const to = sums + k * columns + j;
        store(to, load(to, lanes) + load(local + 2 * j + k * kLanes, lanes), lanes);
      }
    });
  }

  Shape shape_;
  Index columns_, tiles_across_, rows_per_block_, blocks_;
};

// work(channels, weights) once for every channel, in groups: one by one, or all together
template <class Work>
void by_group(const Shape& shape, const double* weights, const Work& work) {
  const auto each = [&](Index first, Index last) {
    for (Index c = first; c < last; ++c) {
      const Wide channel(shape, c);
      if (weights)
        work(channel, channel.weights(weights));
      else
        work(channel, Unweighted{});
    }
  };
  if (weights ? shape.inner == 1 : shape.inner < kWideFrom) {
    const Narrow all(shape);
    if (weights)
      work(all, all.weights(weights));
    else
      work(all, Unweighted{});
  } else if (shape.channels < kManyChannels) {
    each(0, shape.channels);    // the threads share each channel
  } else {
    parallel_for(shape.channels, grain_of(shape.count()), each);
  }
}

// Entries that may not be given.
template <class L>
XHAT_INLINE inline Lanes load_or(double otherwise, const double* entries, Index c, L lanes) {
  return entries ? load(entries + c, lanes) : splat(otherwise);
}

// The mean that centre<T> takes: in one number where that is enough.
template <class T, class L>
XHAT_INLINE inline Lanes mean_of(const Centre& centre, Index c, L lanes) {
  const Lanes mean = load(centre.mean + c, lanes);
  return kIsDouble<T> ? mean : mean + load_or(0, centre.mean_low, c, lanes);
}

// Scalar: centred = (x - mean) - mean_low, and 0 where x is missing
template <class T, class W, class L>
XHAT_INLINE inline Lanes centred_at(const W& weights, Index at, L lanes, const Lanes& x, const Lanes& mean,
                                    const Lanes& mean_low) {
  const Lanes centred = centre<T>(x, mean, mean_low);
  if constexpr (W::given)
    return where_there(weights.at(at, lanes), x, centred);
  else
    return centred;
}

// Scalar: statistics of x, each entry counted as often as its weight says
template <class T, class Group, class W>
void channel_statistics(const Group& group, const T* x, const W& weights, double total, double eps,
                        Statistics statistics) {
  if constexpr (!W::given) {
    group.statistics_of(x, eps, statistics);
  } else {
    // The first pass measures from 0. Where that was far from the mean, another one measures from what was found, and
    // where weights are so unequal that this was rough, a third. What a pass adds up lies where the statistics will be;
    // the mean that it finds is the next one's shift.
    double *const shift = statistics.mean, *const first = statistics.mean_low, *const second = statistics.var;
    for (Index c = group.first(); c < group.last(); ++c) shift[c] = 0;
    bool reliable = false;
    for (int pass = 0; pass < 3 && !reliable; ++pass) {
      group.sum(reads(x), [=](Index c, auto lanes) XHAT_INLINE { return Terms<1>{load(shift + c, lanes)}; },
                [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
                  const Lanes weight = weights.at(at, lanes);
                  const Lanes difference = where_counted(weight, load(x + at, lanes) - constants[0]);
                  return Terms<2>{weight * difference, weight * difference * difference};
                },
                first, second);
      reliable = true;
      for (Index c = group.first(); c < group.last(); ++c) {
        const Moments m = total > 0 ? moments_from<T>(shift[c], {first[c], second[c]}, total) : kNoMoments;
        set_statistics<T>(statistics, c, m, eps);
        reliable = reliable && m.reliable;
      }
    }
  }
}

// What y is made of: the mean, its lower part, rstd, the scale and beta.
template <class T, class L>
XHAT_INLINE inline Terms<5> constants_of_y(const Centre& centre, const double* gamma, const double* beta, Index c,
                                           L lanes) {
  const Lanes rstd = load(centre.rstd + c, lanes), gamma_c = load_or(1, gamma, c, lanes);
  return {mean_of<T>(centre, c, lanes), load_or(0, centre.mean_low, c, lanes), rstd,
          kIsDouble<T> ? gamma_c : rstd * gamma_c, load_or(0, beta, c, lanes)};
}

// Scalar: y = centred * rstd * gamma + beta
template <class T>
XHAT_INLINE inline Lanes y_of(const Lanes& x, const Lanes* constants) {
  Lanes x_hat = centre<T>(x, constants[0], constants[1]);
  if constexpr (kIsDouble<T>) x_hat = x_hat * constants[2];    // rstd * gamma might overflow
  return x_hat * constants[3] + constants[4];
}

// What arrives at the norm, behind what follows it, which asks for the constants of y then.
template <class T, class E>
XHAT_INLINE inline Lanes gradient_of_y(const E& epilogue, Index at, const Lanes& dy, const Lanes& x,
                                       const Lanes* constants) {
  return epilogue.backward(at, dy, [&]() XHAT_INLINE { return y_of<T>(x, constants); });
}

template <int K, int More>
XHAT_INLINE inline Terms<K + More> joined(const Terms<K>& some, const Terms<More>& others) {
  Terms<K + More> result;
  for (int k = 0; k < K; ++k) result.term[k] = some.term[k];
  for (int k = 0; k < More; ++k) result.term[K + k] = others.term[k];
  return result;
}

// Scalar: out = y, then what follows, and 0 where x is missing
template <class T, class Group, class W, class E>
void normalize(const Group& group, const T* x, const W& weights, const double* gamma, const double* beta, Centre centre,
               T* out, const E& epilogue) {
  group.map(
      reads(x),
      [=](Index c, auto lanes) XHAT_INLINE { return constants_of_y<T>(centre, gamma, beta, c, lanes); }, out,
      [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
        const Lanes x_here = load(x + at, lanes);
        const Lanes y = epilogue.forward(at, y_of<T>(x_here, constants));
        if constexpr (W::given)
          return where_there(weights.at(at, lanes), x_here, y);
        else
          return y;
      });
}

// Scalar: dgamma = sum of dy * centred * rstd     dbeta = sum of dy, but for where x is missing
template <class T, class Group, class W, class E>
void parameter_gradients(const Group& group, const T* dy, const T* x, const W& weights, const double* gamma,
                         Centre centre, double* dgamma, double* dbeta, const E& epilogue) {
  group.sum(
      reads(dy, x),
      [=](Index c, auto lanes) XHAT_INLINE {
        if constexpr (E::given)
          return constants_of_y<T>(centre, gamma, epilogue.beta, c, lanes);
        else
          return Terms<3>{mean_of<T>(centre, c, lanes), load_or(0, centre.mean_low, c, lanes),
                          load(centre.rstd + c, lanes)};
      },
      [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
        const Lanes &mean = constants[0], &mean_low = constants[1], &rstd = constants[2];
        const Lanes x_here = load(x + at, lanes);
        Lanes dy_here = gradient_of_y<T>(epilogue, at, load(dy + at, lanes), x_here, constants);
        if constexpr (W::given) dy_here = where_there(weights.at(at, lanes), x_here, dy_here);
        Lanes centred = centred_at<T>(weights, at, lanes, x_here, mean, mean_low);
        if constexpr (kIsDouble<T>) centred = centred * rstd;    // their products with dy might leave the range
        return Terms<2>{dy_here, dy_here * centred};
      },
      dbeta, dgamma);
  if constexpr (!kIsDouble<T>)
    for (Index c = group.first(); c < group.last(); ++c) dgamma[c] *= centre.rstd[c];
}

// Scalar: out = gamma * rstd * (dy - w * mean(dy) - w * centred * (rstd * mean(dy * x_hat))), and 0 where x is missing
template <class T, class Group, class W, class E>
void input_gradient(const Group& group, const T* dy, const T* x, const W& weights, double total, const double* gamma,
                    Centre centre, const double* dgamma, const double* dbeta, T* out, const E& epilogue) {
  group.map(
      reads(dy, x),
      [=, count = splat(total)](Index c, auto lanes) XHAT_INLINE {
        const Lanes rstd = load(centre.rstd + c, lanes);
        const Terms<3> of_dx{load_or(1, gamma, c, lanes) * rstd, load(dbeta + c, lanes) / count,
                             rstd * (load(dgamma + c, lanes) / count)};
        if constexpr (E::given)
          return joined(constants_of_y<T>(centre, gamma, epilogue.beta, c, lanes), of_dx);
        else
          return joined(Terms<2>{mean_of<T>(centre, c, lanes), load_or(0, centre.mean_low, c, lanes)}, of_dx);
      },
      out,
      [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
        constexpr int kOfDx = E::given ? 5 : 2;
        const Lanes &scale = constants[kOfDx], &along_ones = constants[kOfDx + 1], &along_x = constants[kOfDx + 2];
        const Lanes x_here = load(x + at, lanes);
        const Lanes dy_here = gradient_of_y<T>(epilogue, at, load(dy + at, lanes), x_here, constants);
        const Lanes centred = centred_at<T>(weights, at, lanes, x_here, constants[0], constants[1]);
        if constexpr (W::given) {
          const Lanes weight = weights.at(at, lanes);
          const Lanes dx = scale * ((dy_here - weight * along_ones) - weight * centred * along_x);
          return where_there(weight, x_here, dx);
        } else {
          return scale * ((dy_here - along_ones) - centred * along_x);
        }
      });
}

// Scalar: out = gamma * rstd * dy, and 0 where x is missing
template <class T, class Group, class W, class E>
void fixed_gradient(const Group& group, const T* dy, const T* x, const W& weights, const double* gamma, Centre centre,
                    T* out, const E& epilogue) {
  const auto scale_of = [=](Index c, auto lanes) XHAT_INLINE {
    return Terms<1>{load_or(1, gamma, c, lanes) * load(centre.rstd + c, lanes)};
  };
  const auto there = [=](Index at, auto lanes, const Lanes& dx) XHAT_INLINE {
    if constexpr (W::given)
      return where_there(weights.at(at, lanes), load(x + at, lanes), dx);
    else
      return dx;
  };
  if constexpr (E::given)
    group.map(
        reads(dy, x),
        [=](Index c, auto lanes) XHAT_INLINE {
          return joined(constants_of_y<T>(centre, gamma, epilogue.beta, c, lanes), scale_of(c, lanes));
        },
        out,
        [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
          const Lanes x_here = load(x + at, lanes);
          const Lanes dy_here = gradient_of_y<T>(epilogue, at, load(dy + at, lanes), x_here, constants);
          return there(at, lanes, constants[5] * dy_here);
        });
  else
    group.map(reads(dy), scale_of, out, [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
      return there(at, lanes, constants[0] * load(dy + at, lanes));
    });
}

// Scalar: out = dy behind what follows the norm
template <class T>
void gate_channels(const T* dy, const T* x, const double* gamma, Centre centre, T* out, ChannelsShape sizes,
                   const Fused<T>& epilogue) {
  by_group(Shape(sizes), nullptr, [=](const auto& group, const auto&) {
    group.map(
        reads(dy, x),
        [=](Index c, auto lanes) XHAT_INLINE { return constants_of_y<T>(centre, gamma, epilogue.beta, c, lanes); }, out,
        [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
          return gradient_of_y<T>(epilogue, at, load(dy + at, lanes), load(x + at, lanes), constants);
        });
  });
}

template <class T>
void channels_statistics(const T* x, Weights weights, double eps, Statistics statistics, ChannelsShape sizes) {
  const Shape shape(sizes);
  if (shape.count() == 0) {
    for (Index c = 0; c < sizes.channels; ++c) set_statistics<T>(statistics, c, kNoMoments, eps);
    return;
  }
  by_group(shape, weights.entries, [=](const auto& group, const auto& each) {
    channel_statistics(group, x, each, weights.total, eps, statistics);
  });
}

template <class T, class... E>
void channels_forward(const T* x, Weights weights, const double* gamma, const double* beta, double eps, T* out,
                      Statistics statistics, ChannelsShape sizes, const E&... epilogue) {
  const Shape shape(sizes);
  const auto after = the(epilogue...);
  if (shape.count() == 0) return channels_statistics(x, weights, eps, statistics, sizes);
  by_group(shape, weights.entries, [=](const auto& group, const auto& each) {
    channel_statistics(group, x, each, weights.total, eps, statistics);
    normalize(group, x, each, gamma, beta, {statistics.mean, statistics.mean_low, statistics.rstd}, out, after);
  });
}

template <class T, class... E>
void channels_apply(const T* x, Weights weights, const double* gamma, const double* beta, Centre centre, T* out,
                    ChannelsShape sizes, const E&... epilogue) {
  const Shape shape(sizes);
  const auto after = the(epilogue...);
  if (shape.count() == 0) return;
  by_group(shape, weights.entries,
           [=](const auto& group, const auto& each) { normalize(group, x, each, gamma, beta, centre, out, after); });
}

template <class T>
void channels_sums(const T* dy, const T* x, Weights weights, Centre centre, double* dgamma, double* dbeta,
                   ChannelsShape sizes) {
  by_group(Shape(sizes), weights.entries, [=](const auto& group, const auto& each) {
    parameter_gradients(group, dy, x, each, nullptr, centre, dgamma, dbeta, Alone{});
  });
}

template <class T>
void channels_gradient(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre,
                       const double* dgamma, const double* dbeta, T* out, ChannelsShape sizes) {
  by_group(Shape(sizes), weights.entries, [=](const auto& group, const auto& each) {
    input_gradient(group, dy, x, each, weights.total, gamma, centre, dgamma, dbeta, out, Alone{});
  });
}

template <class T, class... E>
void channels_backward(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre, T* out,
                       double* dgamma, double* dbeta, ChannelsShape sizes, const E&... epilogue) {
  const auto after = the(epilogue...);
  by_group(Shape(sizes), weights.entries, [=](const auto& group, const auto& each) {
    parameter_gradients(group, dy, x, each, gamma, centre, dgamma, dbeta, after);
    input_gradient(group, dy, x, each, weights.total, gamma, centre, dgamma, dbeta, out, after);
  });
}

template <class T, class... E>
void channels_apply_backward(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre, T* out,
                             double* dgamma, double* dbeta, ChannelsShape sizes, const E&... epilogue) {
  const auto after = the(epilogue...);
  by_group(Shape(sizes), weights.entries, [=](const auto& group, const auto& each) {
    parameter_gradients(group, dy, x, each, gamma, centre, dgamma, dbeta, after);
    fixed_gradient(group, dy, x, each, gamma, centre, out, after);
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
