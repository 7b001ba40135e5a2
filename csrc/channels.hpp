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
  Shape(Index outer, Index channels, Index inner)
      : outer(channels == 1 ? 1 : outer), channels(channels), inner(channels == 1 ? outer * inner : inner) {}

  Index count() const { return outer * inner; }
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
        channel_(channel),
        start_(channel * shape.inner) {}

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
        const Moments m = moments_from<T>(shift[c], {first[c], second[c]}, shape_.count());
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

// work(channels) once for every channel, in groups: one by one, or all together
template <class Work>
void by_group(const Shape& shape, const Work& work) {
  const auto each = [&](Index first, Index last) {
    for (Index c = first; c < last; ++c) work(Wide(shape, c));
  };
  if (shape.inner < kWideFrom)
    work(Narrow(shape));
  else if (shape.channels < kManyChannels)
    each(0, shape.channels);    // the threads share each channel
  else
    parallel_for(shape.channels, grain_of(shape.count()), each);
}

inline double gamma_of(const double* gamma, Index c) { return gamma ? gamma[c] : 1; }
inline double beta_of(const double* beta, Index c) { return beta ? beta[c] : 0; }
inline double mean_low_of(const Centre& centre, Index c) { return centre.mean_low ? centre.mean_low[c] : 0; }

// Scalar: out = ((x - mean) - mean_low) * rstd * gamma + beta
template <class T, class Group>
void normalize(const Group& group, const T* x, const double* gamma, const double* beta, Centre centre, T* out) {
  group.map(
      [=](Index c) {
        return Constants<5>{
            {centre.mean[c], mean_low_of(centre, c), centre.rstd[c], gamma_of(gamma, c), beta_of(beta, c)}};
      },
      [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
        const auto& [mean, mean_low, rstd, gamma, beta] = constants;
        store(out + at, ((load(x + at, lanes) - mean) - mean_low) * rstd * gamma + beta, lanes);
      });
}

// Scalar: dgamma = sum of dy * (x - mean) * rstd     dbeta = sum of dy
template <class T, class Group>
void parameter_gradients(const Group& group, const T* dy, const T* x, Centre centre, double* dgamma, double* dbeta) {
  group.sum([=](Index c) { return Constants<2>{{centre.mean[c], mean_low_of(centre, c)}}; },
            [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
              const auto& [mean, mean_low] = constants;
              const Lanes dy_here = load(dy + at, lanes);
              return Terms<2>{dy_here, dy_here * ((load(x + at, lanes) - mean) - mean_low)};
            },
            dbeta, dgamma);
  for (Index c = group.first(); c < group.last(); ++c) dgamma[c] *= centre.rstd[c];
}

template <class T>
void channels_forward(const T* x, const double* gamma, const double* beta, double eps, T* out, Statistics statistics,
                      Index outer, Index channels, Index inner) {
  const Shape shape(outer, channels, inner);
  if (shape.count() == 0) {
    for (Index c = 0; c < channels; ++c) set_statistics(statistics, c, kNoMoments, eps);
    return;
  }
  by_group(shape, [=](const auto& group) {
    group.moments(x, [=](Index c, const Moments& moments) { set_statistics(statistics, c, moments, eps); });
    normalize(group, x, gamma, beta, {statistics.mean, statistics.mean_low, statistics.rstd}, out);
  });
}

template <class T>
void channels_apply(const T* x, const double* gamma, const double* beta, Centre centre, T* out, Index outer,
                    Index channels, Index inner) {
  const Shape shape(outer, channels, inner);
  if (shape.count() == 0) return;
  by_group(shape, [=](const auto& group) { normalize(group, x, gamma, beta, centre, out); });
}

template <class T>
void channels_backward(const T* dy, const T* x, const double* gamma, Centre centre, T* out, double* dgamma,
                       double* dbeta, Index outer, Index channels, Index inner) {
  const Shape shape(outer, channels, inner);
  const double n = static_cast<double>(shape.count());
  by_group(shape, [=](const auto& group) {
    parameter_gradients(group, dy, x, centre, dgamma, dbeta);
    // Scalar: out = gamma * rstd * (dy - mean(dy) - (x - mean) * (rstd * mean(dy * x_hat)))
    group.map(
        [=](Index c) {
          return Constants<5>{{centre.mean[c], mean_low_of(centre, c), gamma_of(gamma, c) * centre.rstd[c],
                               dbeta[c] / n, centre.rstd[c] * (dgamma[c] / n)}};
        },
        [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
          const auto& [mean, mean_low, scale, along_ones, along_x] = constants;
          const Lanes centred = (load(x + at, lanes) - mean) - mean_low;
          store(out + at, scale * ((load(dy + at, lanes) - along_ones) - centred * along_x), lanes);
        });
  });
}

template <class T>
void channels_apply_backward(const T* dy, const T* x, const double* gamma, Centre centre, T* out, double* dgamma,
                             double* dbeta, Index outer, Index channels, Index inner) {
  const Shape shape(outer, channels, inner);
  by_group(shape, [=](const auto& group) {
    parameter_gradients(group, dy, x, centre, dgamma, dbeta);
    // Scalar: out = gamma * rstd * dy
    group.map([=](Index c) { return Constants<1>{{gamma_of(gamma, c) * centre.rstd[c]}}; },
              [=](Index at, auto lanes, const auto& constants) XHAT_INLINE {
                store(out + at, constants[0] * load(dy + at, lanes), lanes);
              });
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
