// Normalize each channel of x (outer, channels, inner); gamma and beta belong to the channels.
//
// Two ways through memory. Wide: a channel's numbers lie in long runs; one channel at a time is read, and written
// while it is in the cache. Narrow: x is a matrix of channels * inner columns, all channels at a time, in tiles of some
// rows and columns; the sums of a channel's columns are its sums. Either way offers moments, sum and map; what they
// are used for is written once. Blocks and tiles depend on the shape alone and their sums are added up in order.
#pragma once

#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kWideFrom = 128;       // numbers in a run; the ends of shorter ones cost more than the cache gives
constexpr Index kManyChannels = 16;    // enough to share out whole channels among the threads
constexpr Index kTileColumns = 512;    // a tile's sums and constants stay in the first-level cache
constexpr Index kTileRows = 64;        // short sums added up keep rounding errors few
constexpr Index kRowsAtOnce = 4;       // sums and constants are then read once for all of them

struct AllRows {
  static constexpr Index count = kRowsAtOnce;
};

struct Shape {
  Index outer, channels, inner;

  // One channel is one run.
  explicit Shape(const ChannelsShape& shape)
      : outer(shape.channels == 1 ? 1 : shape.outer),
        channels(shape.channels),
        inner(shape.channels == 1 ? shape.outer * shape.inner : shape.inner) {}

  Index count() const { return outer * inner; }
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

// What a formula needs to know of one channel.
template <int K>
struct Constants {
  static constexpr int kSize = K;
  double value[K];
};

template <class ConstantsOf>
constexpr int kSizeOf = decltype(static_cast<ConstantsOf*>(nullptr)->operator()(Index{}))::kSize;

// One channel.
class Wide {
 public:
  Wide(const Shape& shape, Index channel)
      : runs_(shape.outer, shape.channels * shape.inner, shape.inner),
        shape_(shape),
        channel_(channel),
        start_(channel * shape.inner) {}

  RunWeights weights(const double* entries) const { return {entries, start_, shape_}; }

  Index first() const { return channel_; }
  Index last() const { return channel_ + 1; }

  // take(c, moments) for each channel
  template <class T, class Take>
  void moments(const T* x, const Take& take) const {
    take(channel_, XHAT_VARIANT::moments(x + start_, runs_));
  }

  // first[c], second[c] = the sums of the two terms that term(offset, lanes, constants) returns
  template <class ConstantsOf, class Term>
  void sum(const ConstantsOf& constants_of, const Term& term, double* first, double* second) const {
    const auto constants = splat_all(constants_of);
    const Sums sums = sum_over(runs_, [=, start = start_](Index at, auto lanes) XHAT_INLINE {
      return term(start + at, lanes, constants.term);
    });
    first[channel_] = sums.first;
    second[channel_] = sums.second;
  }

  // body(offset, lanes, constants) for all numbers
  template <class ConstantsOf, class Body>
  void map(const ConstantsOf& constants_of, const Body& body) const {
    const auto constants = splat_all(constants_of);
    for_each(runs_, [=, start = start_](Index at, auto lanes) XHAT_INLINE { body(start + at, lanes, constants.term); });
  }

 private:
  template <class ConstantsOf>
  Terms<kSizeOf<ConstantsOf>> splat_all(const ConstantsOf& constants_of) const {
    const auto constants = constants_of(channel_);
    Terms<kSizeOf<ConstantsOf>> result;
    for (int k = 0; k < kSizeOf<ConstantsOf>; ++k) result.term[k] = splat(constants.value[k]);
    return result;
  }

  Runs runs_;
  Shape shape_;
  Index channel_, start_;
};

// All channels.
class Narrow {
 public:
  explicit Narrow(const Shape& shape)
      : shape_(shape), columns_(shape.channels * shape.inner), tiles_across_(divide_up(columns_, kTileColumns)) {
    const Index wanted = larger(smaller(columns_ * shape.outer / kGrain, kMaxBlocks) / larger(tiles_across_, 1), 1);
    rows_per_block_ = larger(divide_up(divide_up(shape.outer, wanted), kTileRows), 1) * kTileRows;
    blocks_ = divide_up(shape.outer, rows_per_block_);
  }

  Index first() const { return 0; }
  Index last() const { return shape_.channels; }

  // For an inner size of 1.
  RowWeights weights(const double* entries) const { return {entries, columns_}; }

  template <class T, class Take>
  void moments(const T* x, const Take& take) const {
    const Index channels = shape_.channels;
    const Workspace memory(3 * channels);
    double *const shift = memory.data(), *const first = shift + channels, *const second = first + channels;
    const auto shifted = [&] {
      sum([=](Index c) { return Constants<1>{{shift[c]}}; },
          [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
            const Lanes difference = load(x + at, lanes) - constants[0];
            return Terms<2>{difference, difference * difference};
          },
          first, second);
      bool reliable = true;
      for (Index c = 0; c < channels; ++c) {
        const Moments m = moments_from<T>(shift[c], {first[c], second[c]}, static_cast<double>(shape_.count()));
        take(c, m);
        shift[c] = m.mean;
        reliable = reliable && m.reliable;
      }
      return reliable;
    };
    sample(x, shift);
    if (!shifted()) shifted();
  }

  template <class ConstantsOf, class Term>
  void sum(const ConstantsOf& constants_of, const Term& term, double* first_sum, double* second_sum) const {
    const Spread<ConstantsOf> constants(*this, constants_of);
    const Workspace partial_sums(blocks_ * 2 * columns_);
    double* const partial = partial_sums.data();    // (blocks, 2, columns)
    each_tile([&](Index block, Index first, Index last, Index start, Index width) {
      double* const tile_sums = partial + block * 2 * columns_ + start;
      for (Index j = 0; j < width; ++j) tile_sums[j] = tile_sums[columns_ + j] = 0;
      for (Index i = first; i < last; i += kTileRows)
        add_rows(i, smaller(i + kTileRows, last), start, width, constants, term, tile_sums);
    });
    for (Index c = 0; c < shape_.channels; ++c) first_sum[c] = second_sum[c] = 0;
    for (Index block = 0; block < blocks_; ++block)
      for (Index c = 0; c < shape_.channels; ++c)
        for (Index j = c * shape_.inner; j < (c + 1) * shape_.inner; ++j) {
          first_sum[c] += partial[block * 2 * columns_ + j];
          second_sum[c] += partial[(block * 2 + 1) * columns_ + j];
        }
  }

  template <class ConstantsOf, class Body>
  void map(const ConstantsOf& constants_of, const Body& body) const {
    const Spread<ConstantsOf> constants(*this, constants_of);
    each_tile([&, columns = columns_](Index, Index first, Index last, Index start, Index width) {
      const Body local = body;
      const auto map_rows = [&](Index i, auto rows) XHAT_INLINE {
        for_each(width, [=, &constants](Index j, auto lanes) XHAT_INLINE {
          const auto constant = constants.at(start + j);
          for (Index r = 0; r < rows.count; ++r) local((i + r) * columns + start + j, lanes, constant.term);
        });
      };
      Index i = first;
      for (; i + kRowsAtOnce <= last; i += kRowsAtOnce) map_rows(i, AllRows{});
      if (i < last) map_rows(i, Part{last - i});
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

  // The constants of each column's channel.
  template <class ConstantsOf>
  class Spread {
   public:
    Spread(const Narrow& narrow, const ConstantsOf& constants_of)
        : stride_(divide_up(narrow.columns_, kLanes) * kLanes), memory_(kSizeOf<ConstantsOf> * stride_) {
      for (Index c = 0, j = 0; c < narrow.shape_.channels; ++c) {
        const auto constants = constants_of(c);
        for (const Index end = j + narrow.shape_.inner; j < end; ++j)
          for (int k = 0; k < kSizeOf<ConstantsOf>; ++k) memory_.data()[k * stride_ + j] = constants.value[k];
      }
      for (int k = 0; k < kSizeOf<ConstantsOf>; ++k)
        for (Index j = narrow.columns_; j < stride_; ++j) memory_.data()[k * stride_ + j] = 0;
    }

    XHAT_INLINE Terms<kSizeOf<ConstantsOf>> at(Index j) const {
      Terms<kSizeOf<ConstantsOf>> result;
      for (int k = 0; k < kSizeOf<ConstantsOf>; ++k) result.term[k] = load(memory_.data() + k * stride_ + j);
      return result;
    }

   private:
    Index stride_;
    Workspace memory_;
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

  // Scalar: sums[j] += the first term of x[i, start + j], sums[columns + j] += the second, for some rows
  template <class Spread, class Term>
  void add_rows(Index first, Index last, Index start, Index width, const Spread& constants, const Term& term,
                double* sums) const {
    alignas(64) double local[2][kTileColumns] = {};
    const Index columns = columns_;
    Index i = first;
    for (; i + kRowsAtOnce <= last; i += kRowsAtOnce)
      for_each(width, [=, &constants, &local](Index j, auto lanes) XHAT_INLINE {
        const auto constant = constants.at(start + j);
        const Index at = i * columns + start + j;
        const Terms<2> a = term(at, lanes, constant.term), b = term(at + columns, lanes, constant.term);
        const Terms<2> c = term(at + 2 * columns, lanes, constant.term);
        const Terms<2> d = term(at + 3 * columns, lanes, constant.term);
        for (int k = 0; k < 2; ++k)
          store(local[k] + j, load(local[k] + j) + ((a.term[k] + b.term[k]) + (c.term[k] + d.term[k])));
      });
    for (; i < last; ++i)
      for_each(width, [=, &constants, &local](Index j, auto lanes) XHAT_INLINE {
        const Terms<2> a = term(i * columns + start + j, lanes, constants.at(start + j).term);
        for (int k = 0; k < 2; ++k) store(local[k] + j, load(local[k] + j) + a.term[k]);
      });
    for (int k = 0; k < 2; ++k)
      for (Index j = 0; j < width; ++j) sums[k * columns_ + j] += local[k][j];
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

inline double gamma_of(const double* gamma, Index c) { return gamma ? gamma[c] : 1; }
inline double beta_of(const double* beta, Index c) { return beta ? beta[c] : 0; }
inline double mean_low_of(const Centre& centre, Index c) { return centre.mean_low ? centre.mean_low[c] : 0; }

// Scalar: centred = (x - mean) - mean_low, and 0 where x is missing
template <class W, class L>
XHAT_INLINE inline Lanes centred_at(const W& weights, Index at, L lanes, const Lanes& x, const Lanes& mean,
                                const Lanes& mean_low) {
  const Lanes centred = (x - mean) - mean_low;
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
    group.moments(x, [=](Index c, const Moments& moments) { set_statistics(statistics, c, moments, eps); });
  } else {
    // The first pass measures from 0. Where that was far from the mean, another one measures from what was found, and
    // where weights are so unequal that this was rough, a third. What a pass adds up lies where the statistics will be;
    // the mean that it finds is the next one's shift.
    double *const shift = statistics.mean, *const first = statistics.mean_low, *const second = statistics.var;
    for (Index c = group.first(); c < group.last(); ++c) shift[c] = 0;
    bool reliable = false;
    for (int pass = 0; pass < 3 && !reliable; ++pass) {
      group.sum([=](Index c) { return Constants<1>{{shift[c]}}; },
                [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
                  const Lanes weight = weights.at(at, lanes);
                  const Lanes difference = where_counted(weight, load(x + at, lanes) - constants[0]);
                  return Terms<2>{weight * difference, weight * difference * difference};
                },
                first, second);
      reliable = true;
      for (Index c = group.first(); c < group.last(); ++c) {
        const Moments m = total > 0 ? moments_from<T>(shift[c], {first[c], second[c]}, total) : kNoMoments;
        set_statistics(statistics, c, m, eps);
        reliable = reliable && m.reliable;
      }
    }
  }
}

// Scalar: out = centred * rstd * gamma + beta, and 0 where x is missing
template <class T, class Group, class W>
void normalize(const Group& group, const T* x, const W& weights, const double* gamma, const double* beta, Centre centre,
               T* out) {
  group.map(
      [=](Index c) {
        return Constants<5>{
            {centre.mean[c], mean_low_of(centre, c), centre.rstd[c], gamma_of(gamma, c), beta_of(beta, c)}};
      },
      [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
        const auto& [mean, mean_low, rstd, gamma, beta] = constants;
        const Lanes x_here = load(x + at, lanes);
        const Lanes y = ((x_here - mean) - mean_low) * rstd * gamma + beta;
        if constexpr (W::given)
          store(out + at, where_there(weights.at(at, lanes), x_here, y), lanes);
        else
          store(out + at, y, lanes);
      });
}

// Scalar: dgamma = sum of dy * centred * rstd     dbeta = sum of dy, but for where x is missing
template <class T, class Group, class W>
void parameter_gradients(const Group& group, const T* dy, const T* x, const W& weights, Centre centre, double* dgamma,
                         double* dbeta) {
  group.sum([=](Index c) { return Constants<2>{{centre.mean[c], mean_low_of(centre, c)}}; },
            [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
              const auto& [mean, mean_low] = constants;
              const Lanes x_here = load(x + at, lanes);
              Lanes dy_here = load(dy + at, lanes);
              if constexpr (W::given) dy_here = where_there(weights.at(at, lanes), x_here, dy_here);
              return Terms<2>{dy_here, dy_here * centred_at(weights, at, lanes, x_here, mean, mean_low)};
            },
            dbeta, dgamma);
  for (Index c = group.first(); c < group.last(); ++c) dgamma[c] *= centre.rstd[c];
}

// Scalar: out = gamma * rstd * (dy - w * mean(dy) - w * centred * (rstd * mean(dy * x_hat))), and 0 where x is missing
template <class T, class Group, class W>
void input_gradient(const Group& group, const T* dy, const T* x, const W& weights, double total, const double* gamma,
                    Centre centre, const double* dgamma, const double* dbeta, T* out) {
  group.map(
      [=](Index c) {
        return Constants<5>{{centre.mean[c], mean_low_of(centre, c), gamma_of(gamma, c) * centre.rstd[c],
                             dbeta[c] / total, centre.rstd[c] * (dgamma[c] / total)}};
      },
      [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
        const auto& [mean, mean_low, scale, along_ones, along_x] = constants;
        const Lanes x_here = load(x + at, lanes), dy_here = load(dy + at, lanes);
        const Lanes centred = centred_at(weights, at, lanes, x_here, mean, mean_low);
        if constexpr (W::given) {
          const Lanes weight = weights.at(at, lanes);
          const Lanes dx = scale * ((dy_here - weight * along_ones) - weight * centred * along_x);
          store(out + at, where_there(weight, x_here, dx), lanes);
        } else {
          store(out + at, scale * ((dy_here - along_ones) - centred * along_x), lanes);
        }
      });
}

template <class T>
void channels_statistics(const T* x, Weights weights, double eps, Statistics statistics, ChannelsShape sizes) {
  const Shape shape(sizes);
  if (shape.count() == 0) {
    for (Index c = 0; c < sizes.channels; ++c) set_statistics(statistics, c, kNoMoments, eps);
    return;
  }
  by_group(shape, weights.entries, [=](const auto& group, const auto& each) {
    channel_statistics(group, x, each, weights.total, eps, statistics);
  });
}

template <class T>
void channels_forward(const T* x, Weights weights, const double* gamma, const double* beta, double eps, T* out,
                      Statistics statistics, ChannelsShape sizes) {
  const Shape shape(sizes);
  if (shape.count() == 0) return channels_statistics(x, weights, eps, statistics, sizes);
  by_group(shape, weights.entries, [=](const auto& group, const auto& each) {
    channel_statistics(group, x, each, weights.total, eps, statistics);
    normalize(group, x, each, gamma, beta, {statistics.mean, statistics.mean_low, statistics.rstd}, out);
  });
}

template <class T>
void channels_apply(const T* x, Weights weights, const double* gamma, const double* beta, Centre centre, T* out,
                    ChannelsShape sizes) {
  const Shape shape(sizes);
  if (shape.count() == 0) return;
  by_group(shape, weights.entries,
           [=](const auto& group, const auto& each) { normalize(group, x, each, gamma, beta, centre, out); });
}

template <class T>
void channels_sums(const T* dy, const T* x, Weights weights, Centre centre, double* dgamma, double* dbeta,
                   ChannelsShape sizes) {
  by_group(Shape(sizes), weights.entries, [=](const auto& group, const auto& each) {
    parameter_gradients(group, dy, x, each, centre, dgamma, dbeta);
  });
}

template <class T>
void channels_gradient(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre,
                       const double* dgamma, const double* dbeta, T* out, ChannelsShape sizes) {
  by_group(Shape(sizes), weights.entries, [=](const auto& group, const auto& each) {
    input_gradient(group, dy, x, each, weights.total, gamma, centre, dgamma, dbeta, out);
  });
}

template <class T>
void channels_backward(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre, T* out,
                       double* dgamma, double* dbeta, ChannelsShape sizes) {
  by_group(Shape(sizes), weights.entries, [=](const auto& group, const auto& each) {
    parameter_gradients(group, dy, x, each, centre, dgamma, dbeta);
    input_gradient(group, dy, x, each, weights.total, gamma, centre, dgamma, dbeta, out);
  });
}

template <class T>
void channels_apply_backward(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre, T* out,
                             double* dgamma, double* dbeta, ChannelsShape sizes) {
  by_group(Shape(sizes), weights.entries, [=]<class W>(const auto& group, const W& each) {
    parameter_gradients(group, dy, x, each, centre, dgamma, dbeta);
    // Scalar: out = gamma * rstd * dy, and 0 where x is missing
    group.map([=](Index c) { return Constants<1>{{gamma_of(gamma, c) * centre.rstd[c]}}; },
              [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
                Lanes dx = constants[0] * load(dy + at, lanes);
                if constexpr (W::given)
                  dx = where_there(each.at(at, lanes), load(x + at, lanes), dx);
                store(out + at, dx, lanes);
              });
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
