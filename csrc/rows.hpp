// Normalize each row of x (rows, columns).
//
// gamma and beta are (groups, entries): row i goes by line i % groups, and an entry serves `inner` adjacent columns.
// Layer norm has one line and an entry per column; group norm a line per group and an entry per channel, which serves
// its positions; instance norm a line of one entry per channel.
//
// Plan: a thread owns whole rows; a row is read, its statistics are taken, and it is written while it is in the
// cache. Few long rows come one after the other, and the threads share each.
//
// dgamma and dbeta, two ways. Kept: an entry serves a long run; it stays in registers, and a run gives one pair of
// sums. Spread: an entry serves few columns; the entries are spread over the columns, and a block of samples (a sample
// is `groups` rows) gives a pair of sums per column. Either way the pairs belong to a fixed partition and are added up
// in order.
//
// What stands beside the norm (see epilogue.hpp) may also be something added to the rows before.
#pragma once

#include "epilogue.hpp"
#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

constexpr Index kKeptFrom = 64;         // columns of an entry; the ends of shorter runs cost more than the spreading
constexpr Index kManyRows = 16;         // enough to share out whole rows among the threads
constexpr Index kTotalsAtOnce = 512;    // stay in the first-level cache
constexpr Index kPairsAtOnce = 64;      // short sums added up keep rounding errors few

inline Index inner_of(const RowsShape& shape) { return shape.entries > 0 ? shape.columns / shape.entries : 0; }

inline bool is_kept(const RowsShape& shape) {
  return inner_of(shape) >= (shape.entries == 1 ? 2 : kKeptFrom);
}

inline bool few_long(const RowsShape& shape) { return shape.rows < kManyRows && shape.columns >= 2 * kGrain; }

// body(first, last, writer) for some rows at a time, few enough to stay in the first-level cache
template <class T, class Body>
void each_rows(const RowsShape& shape, const Body& body) {
  const bool streamed = is_streamed<T>(shape.rows * shape.columns);
  const Index at_once = larger(kAhead / static_cast<Index>(sizeof(T)) / larger(shape.columns, 1), 1);
  const auto some = [&](Index first, Index last) {
    Writer<T> writer(streamed);
    for (Index i = first; i < last; i += at_once) body(i, smaller(i + at_once, last), writer);
  };
  if (few_long(shape)) return some(0, shape.rows);
  parallel_for(shape.rows, grain_of(shape.columns), some);
}

// A parameter for each column: of one line per group, or of one for all where it is not given.
class PerColumn {
 public:
  PerColumn(const double* given, double otherwise, const RowsShape& shape)
      : columns_(shape.columns),
        groups_(given ? shape.groups : 1),
        memory_(given && inner_of(shape) == 1 ? 0 : groups_ * columns_),
        data_(given && inner_of(shape) == 1 ? given : memory_.data()) {
    double* to = memory_.data();
    if (!given)
      for (Index j = 0; j < columns_; ++j) to[j] = otherwise;
    else if (data_ != given)
      for (Index k = 0; k < groups_ * shape.entries; ++k)
        for (Index i = 0; i < inner_of(shape); ++i) *to++ = given[k];
  }

  const double* line(Index row) const { return data_ + (groups_ == 1 ? 0 : row % groups_ * columns_); }

 private:
  Index columns_, groups_;
  Workspace memory_;
  const double* data_;
};

// The parameters of the backward pass. Only what follows the norm asks for beta.
struct Line {
  const double *gamma, *beta;
};

template <class E>
class Lines {
 public:
  Lines(const double* gamma, const E& epilogue, const RowsShape& shape)
      : gamma_(gamma, 1, shape), beta_(epilogue.beta, 0, shape) {}

  Line line(Index row) const { return {gamma_.line(row), beta_.line(row)}; }

 private:
  PerColumn gamma_, beta_;
};

template <>
class Lines<Alone> {
 public:
  Lines(const double* gamma, const Alone&, const RowsShape& shape) : gamma_(gamma, 1, shape) {}

  Line line(Index row) const { return {gamma_.line(row), nullptr}; }

 private:
  PerColumn gamma_;
};

class Spread {
 public:
  Spread(const double* gamma, const double* beta, const RowsShape& shape)
      : columns_(shape.columns), gamma_(gamma, 1, shape), beta_(beta, 0, shape) {}

  // to[j] = formula(j, lanes, gamma, beta) for all columns of a row
  template <class T, class Formula>
  XHAT_INLINE void map(Index row, T* to, Writer<T>& writer, const Formula& formula) const {
    const double *const gamma = gamma_.line(row), *const beta = beta_.line(row);
    const auto with_parameters = [=](Index j, auto lanes) XHAT_INLINE {
      return formula(j, lanes, load(gamma + j, lanes), load(beta + j, lanes));
    };
    const Runs<T> whole(1, columns_, columns_);
    if (whole.blocks() > 1)
      write_runs(whole, NoReads{}, to, writer.streamed(), with_parameters);
    else
      writer.write(to, columns_, with_parameters);
  }

 private:
  Index columns_;
  PerColumn gamma_, beta_;
};

class Kept {
 public:
  Kept(const double* gamma, const double* beta, const RowsShape& shape)
      : shape_(shape), inner_(inner_of(shape)), gamma_(gamma), beta_(beta) {}

  double gamma(Index row, Index entry) const { return gamma_ ? line(gamma_, row)[entry] : 1; }
  double beta(Index row, Index entry) const { return beta_ ? line(beta_, row)[entry] : 0; }

  template <class T, class Formula>
  XHAT_INLINE void map(Index row, T* to, Writer<T>& writer, const Formula& formula) const {
    const Runs<T> runs(shape_.entries, inner_, inner_);
    const double *const gamma = line(gamma_, row), *const beta = line(beta_, row);
    const auto write_block = [=, inner = inner_](Index block, Writer<T>& writer) XHAT_INLINE {
      runs.each_segment(block, [&](Index start, Index size, Index) XHAT_INLINE {
        const Lanes gamma_here = splat(gamma ? gamma[start / inner] : 1);
        const Lanes beta_here = splat(beta ? beta[start / inner] : 0);
        writer.write(to + start, size, [&](Index j, auto lanes) XHAT_INLINE {
          return formula(start + j, lanes, gamma_here, beta_here);
        });
      });
    };
    if (runs.blocks() == 1) return write_block(0, writer);
    each_block(runs, [=, streamed = writer.streamed()](Index block) XHAT_INLINE {
      Writer<T> own(streamed);
      write_block(block, own);
    });
  }

 private:
  const double* line(const double* given, Index row) const {
    return given ? given + row % shape_.groups * shape_.entries : nullptr;
  }

  RowsShape shape_;
  Index inner_;
  const double *gamma_, *beta_;
};

// What stands beside a norm of rows. All that is not given is null.
template <class T>
struct FusedRows : Fused<T> {
  FusedRows(const Fused<T>& fused, Index columns) : Fused<T>(fused), columns(columns) {}

  // Scalar: total[j] = x[j] + added[j]
  void add(Index row) const {
    if (!addition.total) return;
    const Runs<T> runs(1, columns, columns);
    const T *const from = x + row * columns, *const term = addition.added + row * addition.stride;
    T* const to = addition.total + row * columns;
    const auto sum = [=](Index j, auto lanes) XHAT_INLINE { return load(from + j, lanes) + load(term + j, lanes); };
    if (addition.stride == 0)
      write_runs(runs, reads(from), to, false, sum);
    else
      write_runs(runs, reads(from, term), to, false, sum);
  }

  Index columns;
  const T* x = nullptr;
  Addition<T> addition = {};
  const T* also = nullptr;
  double* dbias = nullptr;
};

template <class T, class Parameters, class E>
void rows_forward_with(const Parameters& parameters, const T* x, double eps, bool centred, T* out,
                       Statistics statistics, RowsShape shape, const E& epilogue) {
  each_rows<T>(shape, [=, &parameters](Index first, Index last, Writer<T>& writer) {
    const Runs<T> row(1, shape.columns, shape.columns);
    if constexpr (E::given)
      for (Index i = first; i < last; ++i) epilogue.add(i);
    // All statistics first: their roots and quotients are waited for once.
    for (Index i = first; i < last; ++i) {
      const T* const from = x + i * shape.columns;
      set_statistics<T>(statistics, i, centred ? moments(from, row) : moments_about_zero(from, row), eps);
    }
    // Scalar: to[j] = ((from[j] - mean) - mean_low) * rstd * gamma[j] + beta[j], and what follows
    for (Index i = first; i < last; ++i) {
      const Lanes mean = splat(statistics.mean[i]), mean_low = splat(statistics.mean_low[i]);
      const Lanes rstd = splat(statistics.rstd[i]);
      parameters.map(i, out + i * shape.columns, writer,
                     [=, start = i * shape.columns, from = x + i * shape.columns](
                         Index j, auto lanes, const Lanes& gamma, const Lanes& beta) XHAT_INLINE {
                       const Lanes x_hat = centre<T>(load(from + j, lanes), mean, mean_low) * rstd;
                       return epilogue.forward(start + j, x_hat * gamma + beta);
                     });
    }
  });
}

template <class T, class... E>
void rows_forward(const T* x, const double* gamma, const double* beta, double eps, bool centred, T* out,
                  Statistics statistics, RowsShape shape, const E&... epilogue) {
  if (is_kept(shape))
    rows_forward_with(Kept(gamma, beta, shape), x, eps, centred, out, statistics, shape, the(epilogue...));
  else
    rows_forward_with(Spread(gamma, beta, shape), x, eps, centred, out, statistics, shape, the(epilogue...));
}

// Scalar: out[j] = dy[j] behind what follows the norm
template <class T, class Parameters>
void gate_rows_with(const Parameters& parameters, const T* dy, const T* x, Centre centre, T* out, RowsShape shape,
                    const Fused<T>& epilogue) {
  each_rows<T>(shape, [=, &parameters](Index first, Index last, Writer<T>& writer) {
    for (Index i = first; i < last; ++i) {
      const Lanes mean = splat(centre.mean[i]), mean_low = splat(centre.mean_low[i]), rstd = splat(centre.rstd[i]);
      parameters.map(i, out + i * shape.columns, writer,
                     [=, start = i * shape.columns](Index j, auto lanes, const Lanes& gamma, const Lanes& beta)
                         XHAT_INLINE {
                           return epilogue.backward(start + j, load(dy + start + j, lanes), [&]() XHAT_INLINE {
                             const Lanes x_here = load(x + start + j, lanes);
                             return XHAT_VARIANT::centre<T>(x_here, mean, mean_low) * rstd * gamma + beta;
                           });
                         });
    }
  });
}

template <class T>
void gate_rows(const T* dy, const T* x, const double* gamma, Centre centre, T* out, RowsShape shape,
               const Fused<T>& epilogue) {
  if (is_kept(shape))
    gate_rows_with(Kept(gamma, epilogue.beta, shape), dy, x, centre, out, shape, epilogue);
  else
    gate_rows_with(Spread(gamma, epilogue.beta, shape), dy, x, centre, out, shape, epilogue);
}

// What the backward pass reads, and where dx goes.
template <class T, class E>
struct Gradient {
  const T *dy, *x;
  Centre centre;
  bool centred;
  T* out;
  Index rows, columns;
  E epilogue;

  bool streamed() const { return is_streamed<T>(rows * columns); }
};

// R rows, `step` rows apart, that go by the same line of parameters.
template <int R, class T, class E>
struct Several {
  Several(const Gradient<T, E>& of, Index first, Index step)
      : dy(of.dy + first * of.columns),
        x(of.x + first * of.columns),
        start(first * of.columns),
        stride(step * of.columns),
        epilogue(of.epilogue) {
    for (int r = 0; r < R; ++r) {
      mean[r] = splat(of.centre.mean[first + r * step] + (kIsDouble<T> ? 0 : of.centre.mean_low[first + r * step]));
      mean_low[r] = splat(of.centre.mean_low[first + r * step]);
      rstd[r] = splat(of.centre.rstd[first + r * step]);
    }
  }

  // What arrives at the norm, behind what follows it. beta() is asked for only then.
  template <class Count, class Beta>
  XHAT_INLINE Lanes dy_at(int r, Index j, Count lanes, const Lanes& x_hat, const Lanes& gamma, const Beta& beta) const {
    const Index at = r * stride + j;
    return epilogue.backward(start + at, load(dy + at, lanes), [&]() XHAT_INLINE { return x_hat * gamma + beta(); });
  }

  template <class Count>
  XHAT_INLINE Lanes x_hat_at(int r, Index j, Count lanes) const {
    return centre<T>(load(x + r * stride + j, lanes), mean[r], mean_low[r]) * rstd[r];
  }

  // Scalar: dx[j] = rstd * (dx_hat[j] - along_ones - x_hat[j] * along_x_hat), with dx_hat[j] = dy[j] * gamma[j]
  // and what arrives at x itself
  template <class Count, class Beta>
  XHAT_INLINE Lanes dx_at(int r, Index j, Count lanes, const Lanes& gamma, const Beta& beta, const Lanes& along_ones,
                          const Lanes& along_x_hat) const {
    const Lanes x_hat = x_hat_at(r, j, lanes), dx_hat = dy_at(r, j, lanes, x_hat, gamma, beta) * gamma;
    const Lanes dx = rstd[r] * ((dx_hat - along_ones) - x_hat * along_x_hat);
    if constexpr (E::given)
      if (epilogue.also) return dx + load(epilogue.also + start + r * stride + j, lanes);
    return dx;
  }

  // Asks for what is needed some time after column j of row r.
  XHAT_INLINE void fetch(int r, Index j) const {
    const Index ahead = r * stride + j + larger(R * stride, kAhead / static_cast<Index>(sizeof(T)));
    __builtin_prefetch(dy + ahead);
    __builtin_prefetch(x + ahead);
  }

  const T *dy, *x;
  Index start, stride;
  E epilogue;
  Lanes mean[R], mean_low[R], rstd[R];
};

// Scalar: dgamma[j] += dy[j] * x_hat[j]     dbeta[j] += dy[j]     for some columns of R rows
//         sums[0] += dx_hat[j]              sums[1] += dx_hat[j] * x_hat[j]
template <int R, class T, class E>
XHAT_INLINE inline void add_rows(const Several<R, T, E>& rows, const Line& line, Index first, Index last,
                                 double* dgamma, double* dbeta, double* sums) {
  Terms<2 * R> total = {};
  for (Index start = first; start < last; start += kSegment<T>)
    accumulate<2 * R>(smaller(kSegment<T>, last - start), [&](Index k, auto lanes) XHAT_INLINE {
      const Index j = start + k;
      const Lanes gamma_j = load(line.gamma + j, lanes);
      const auto beta_j = [=, &line]() XHAT_INLINE { return load(line.beta + j, lanes); };
      Lanes dgamma_j = load(dgamma + j, lanes), dbeta_j = load(dbeta + j, lanes);
      Terms<2 * R> terms;
      for (int r = 0; r < R; ++r) {
        rows.fetch(r, j);
        const Lanes x_hat_j = rows.x_hat_at(r, j, lanes), dy_j = rows.dy_at(r, j, lanes, x_hat_j, gamma_j, beta_j);
        dgamma_j = dgamma_j + dy_j * x_hat_j;
        dbeta_j = dbeta_j + dy_j;
        terms.term[2 * r] = dy_j * gamma_j;
        terms.term[2 * r + 1] = terms.term[2 * r] * x_hat_j;
      }
      store(dgamma + j, dgamma_j, lanes);
      store(dbeta + j, dbeta_j, lanes);
      return terms;
    }, total);
  for (int k = 0; k < 2 * R; ++k) sums[k] += sum(total.term[k]);
}

// The same over all columns, in the pieces and the order in which a few long rows are shared out: how many rows there
// are must not show in any.
template <int R, class T, class E>
void add_long_rows(const Several<R, T, E>& rows, const Line& line, Index columns, double* dgamma, double* dbeta,
                   double* sums) {
  for (Index piece = 0; piece < columns; piece += kGrain) {
    double along[2 * R] = {};
    for (Index start = piece; start < smaller(piece + kGrain, columns); start += kSegment<T>)
      add_rows(rows, line, start, smaller(start + kSegment<T>, columns), dgamma, dbeta, along);
    for (int k = 0; k < 2 * R; ++k) sums[k] = piece == 0 ? along[k] : sums[k] + along[k];
  }
}

// Scalar: out[j] = dx[j], dbias[j] += dx[j]     for some columns of R rows
template <int R, class T, class E>
XHAT_INLINE inline void write_rows(const Gradient<T, E>& of, const Several<R, T, E>& rows, const Line& line,
                                   Index first, Index last, const double* sums, double* dbias, T* out,
                                   Writer<T>& writer) {
  const double n = static_cast<double>(of.columns);
  for (int r = 0; r < R; ++r) {
    const Lanes along_ones = splat(of.centred ? sums[2 * r] / n : 0), along_x_hat = splat(sums[2 * r + 1] / n);
    writer.write(out + r * rows.stride + first, last - first, [&](Index k, auto lanes) XHAT_INLINE {
      const Index j = first + k;
      const auto beta_j = [&]() XHAT_INLINE { return load(line.beta + j, lanes); };
      const Lanes dx = rows.dx_at(r, j, lanes, load(line.gamma + j, lanes), beta_j, along_ones, along_x_hat);
      if constexpr (E::given)
        if (dbias) store(dbias + j, load(dbias + j, lanes) + dx, lanes);
      return dx;
    });
  }
}

// total[j] = the sum of pairs[i, j] over i, of pairs (count, stride)
inline void add_up(const double* pairs, Index count, Index stride, Index size, double* total) {
  parallel_for(size, grain_of(count), [=](Index first, Index last) {
    double local[kTotalsAtOnce];
    for (Index start = first; start < last; start += kTotalsAtOnce) {
      const Index width = smaller(kTotalsAtOnce, last - start);
      const auto add = [=](const double* term, double* sum) {
        for_each(width, [=](Index j, auto lanes) XHAT_INLINE {
          store(sum + j, load(sum + j, lanes) + load(term + j, lanes), lanes);
        });
      };
      for (Index j = 0; j < width; ++j) total[start + j] = 0;
      for (Index from = 0; from < count; from += kPairsAtOnce) {
        double* const sums = from == 0 ? total + start : local;
        for (Index j = 0; from > 0 && j < width; ++j) local[j] = 0;
        for (Index i = from; i < smaller(from + kPairsAtOnce, count); ++i) add(pairs + i * stride + start, sums);
        if (from > 0) add(local, total + start);
      }
    }
  });
}

// total[k] = the sum of the columns of entry k
inline void add_columns(const double* columns, Index count, Index inner, double* total) {
  for (Index k = 0; k < count; ++k) {
    total[k] = 0;
    for (Index j = k * inner; j < (k + 1) * inner; ++j) total[k] += columns[j];
  }
}

template <int R, class T, class E>
void backward_at_once(const Lines<E>& lines, const Gradient<T, E>& of, Index first, Index step, double* dgamma,
                      double* dbeta, double* dbias, Writer<T>& writer) {
  const Several<R, T, E> rows(of, first, step);
  const Line line = lines.line(first);
  double sums[2 * R] = {};
  if (of.columns < 2 * kGrain)
    add_rows(rows, line, 0, of.columns, dgamma, dbeta, sums);
  else
    add_long_rows(rows, line, of.columns, dgamma, dbeta, sums);
  write_rows(of, rows, line, 0, of.columns, sums, dbias, of.out + first * of.columns, writer);
}

// Many rows: the threads share blocks of samples, each with sums of its own, (blocks, groups, columns).
template <class T, class E>
void spread_many_backward(const Lines<E>& lines, const Gradient<T, E>& of, double* block_dgamma, double* block_dbeta,
                          double* block_dbias, Index samples, Index samples_per_block, Index groups) {
  constexpr int kRowsAtOnce = 2;    // dgamma and dbeta are read and written once for all of them
  const Index columns = of.columns, size = groups * columns;
  const Index blocks = divide_up(samples, samples_per_block);
  parallel_for(blocks, grain_of(samples_per_block * size), [=, &lines](Index first, Index last) {
    Writer<T> writer(of.streamed());
    for (Index block = first; block < last; ++block) {
      double *const dgamma = block_dgamma + block * size, *const dbeta = block_dbeta + block * size;
      for (Index j = 0; j < size; ++j) dgamma[j] = 0;
      for (Index j = 0; j < size; ++j) dbeta[j] = 0;
      double* const dbias = block_dbias ? block_dbias + block * columns : nullptr;
      for (Index j = 0; dbias && j < columns; ++j) dbias[j] = 0;
      const Index end = smaller((block + 1) * samples_per_block, samples);
      Index sample = block * samples_per_block;
      for (; sample + kRowsAtOnce <= end; sample += kRowsAtOnce)
        for (Index g = 0; g < groups; ++g)
          backward_at_once<kRowsAtOnce>(lines, of, sample * groups + g, groups, dgamma + g * columns,
                                        dbeta + g * columns, dbias, writer);
      for (; sample < end; ++sample)
        for (Index g = 0; g < groups; ++g)
          backward_at_once<1>(lines, of, sample * groups + g, groups, dgamma + g * columns, dbeta + g * columns, dbias,
                              writer);
    }
  });
}

// Few long rows: the threads share pieces of the columns.
template <class T, class E>
void spread_few_backward(const Lines<E>& lines, const Gradient<T, E>& of, double* dgamma, double* dbeta, double* dbias,
                         Index groups) {
  const Index rows = of.rows, columns = of.columns;
  const Index pieces = divide_up(columns, kGrain);
  const Workspace partial(pieces * rows * 2);
  double* const sums = partial.data();    // (pieces, rows, 2)
  parallel_for(pieces, 1, [=, &lines](Index first, Index last) {
    for (Index start = first * kGrain; start < smaller(last * kGrain, columns); start += kSegment<T>) {
      const Index end = smaller(start + kSegment<T>, columns);
      double* const along = sums + start / kGrain * rows * 2;
      for (Index k = 0; start % kGrain == 0 && k < 2 * rows; ++k) along[k] = 0;
      for (Index g = 0; g < groups; ++g) {
        for (Index j = g * columns + start; j < g * columns + end; ++j) dgamma[j] = 0;
        for (Index j = g * columns + start; j < g * columns + end; ++j) dbeta[j] = 0;
      }
      for (Index i = 0; i < rows; ++i)
        add_rows(Several<1, T, E>(of, i, 1), lines.line(i), start, end, dgamma + i % groups * columns,
                 dbeta + i % groups * columns, along + 2 * i);
    }
  });
  for (Index piece = 1; piece < pieces; ++piece)
    for (Index k = 0; k < 2 * rows; ++k) sums[k] += sums[piece * rows * 2 + k];
  parallel_for(pieces, 1, [=, &lines](Index first, Index last) {
    Writer<T> writer(of.streamed());
    for (Index j = first * kGrain; dbias && j < smaller(last * kGrain, columns); ++j) dbias[j] = 0;
    for (Index i = 0; i < rows; ++i)
      write_rows(of, Several<1, T, E>(of, i, 1), lines.line(i), first * kGrain, smaller(last * kGrain, columns),
                 sums + 2 * i, dbias, of.out + i * columns, writer);
  });
}

template <class T, class E>
void spread_backward(const Lines<E>& lines, const Gradient<T, E>& of, double* dgamma, double* dbeta, double* dbias,
                     RowsShape shape) {
  constexpr Index kMinSamples = 4;    // per block, so that the blocks' sums take no more memory than x
  const Index groups = shape.groups, columns = shape.columns, size = groups * columns, inner = inner_of(shape);
  const Index samples = groups > 0 ? shape.rows / groups : 0;
  const Index wanted = smaller(smaller(samples / kMinSamples, shape.rows * columns / kGrain), kMaxBlocks);
  const Index samples_per_block = larger(divide_up(samples, larger(wanted, 1)), 1);
  const Index blocks = few_long(shape) ? 1 : divide_up(samples, samples_per_block);
  const bool direct = blocks == 1 && inner == 1;    // nothing to add up
  const Workspace memory(direct ? 0 : (2 * blocks + 1) * size + (dbias ? blocks * columns : 0));
  double* const block_dgamma = direct ? dgamma : memory.data();    // (blocks, size)
  double* const block_dbeta = direct ? dbeta : block_dgamma + blocks * size;
  double* const of_columns = block_dbeta + blocks * size;    // where the sums are of columns first
  double* const block_dbias = dbias && blocks != 1 ? of_columns + size : dbias;    // (blocks, columns)
  if (few_long(shape))
    spread_few_backward(lines, of, block_dgamma, block_dbeta, block_dbias, groups);
  else
    spread_many_backward(lines, of, block_dgamma, block_dbeta, block_dbias, samples, samples_per_block, groups);
  if (block_dbias != dbias) add_up(block_dbias, blocks, columns, columns, dbias);
  if (direct) return;
  const auto total = [=](const double* block_sums, double* result) {
    add_up(block_sums, blocks, size, size, inner == 1 ? result : of_columns);
    if (inner != 1) add_columns(of_columns, groups * shape.entries, inner, result);
  };
  total(block_dgamma, dgamma);
  total(block_dbeta, dbeta);
}

template <class T, class E>
void kept_backward(const Kept& parameters, const Gradient<T, E>& of, double* dgamma, double* dbeta, RowsShape shape) {
  const Index entries = shape.entries, size = shape.groups * entries, inner = inner_of(shape);
  const Index samples = size > 0 ? shape.rows / shape.groups : 0;
  const Workspace pairs(samples * 2 * size);
  double* const sums = pairs.data();    // (samples, 2, groups, entries)
  const auto go_back = [=, &parameters](Index i, Writer<T>& writer) {
    const Several<1, T, E> row(of, i, 1);
    double* const of_dy = sums + i / shape.groups * 2 * size + i % shape.groups * entries;
    double* const of_dy_x_hat = of_dy + size;
    // Scalar: of_dy[e] = sum of dy[j]     of_dy_x_hat[e] = sum of dy[j] * x_hat[j], over the columns of entry e
    const auto add_entries = [=, &parameters](Index first, Index last) XHAT_INLINE {
      for (Index e = first; e < last; ++e) {
        const Index start = e * inner;
        const Lanes gamma = splat(E::given ? parameters.gamma(i, e) : 1);
        const Lanes beta = splat(E::given ? parameters.beta(i, e) : 0);
        const Sums here = sum_over(Runs<T>(1, inner, inner), reads(row.dy + start, row.x + start),
                                   [=](Index k, auto lanes) XHAT_INLINE {
                                     const Lanes x_hat_j = row.x_hat_at(0, start + k, lanes);
                                     const auto beta_j = [&]() XHAT_INLINE { return beta; };
                                     const Lanes dy_j = row.dy_at(0, start + k, lanes, x_hat_j, gamma, beta_j);
                                     return Terms<2>{dy_j, dy_j * x_hat_j};
                                   });
        of_dy[e] = here.first;
        of_dy_x_hat[e] = here.second;
      }
    };
    if (few_long(shape)) {
      const auto shared = add_entries;    // in memory, for the threads; see each_block
      parallel_for(entries, grain_of(inner), shared);
    } else {
      add_entries(0, entries);
    }
    Sums along = {};
    for (Index e = 0; e < entries; ++e) {
      along.first += parameters.gamma(i, e) * of_dy[e];
      along.second += parameters.gamma(i, e) * of_dy_x_hat[e];
    }
    const double n = static_cast<double>(shape.columns);
    const Lanes along_ones = splat(of.centred ? along.first / n : 0), along_x_hat = splat(along.second / n);
    parameters.map(i, of.out + i * shape.columns, writer,
                   [=](Index j, auto lanes, const Lanes& gamma, const Lanes& beta) XHAT_INLINE {
                     const auto beta_j = [&]() XHAT_INLINE { return beta; };
                     return row.dx_at(0, j, lanes, gamma, beta_j, along_ones, along_x_hat);
                   });
  };
  each_rows<T>(shape, [&](Index first, Index last, Writer<T>& writer) {
    for (Index i = first; i < last; ++i) go_back(i, writer);
  });
  add_up(sums, samples, 2 * size, size, dbeta);
  add_up(sums + size, samples, 2 * size, size, dgamma);
}

template <class T, class E>
void rows_backward_with(const double* gamma, const double* beta, const Gradient<T, E>& of, double* dgamma,
                        double* dbeta, double* dbias, RowsShape shape) {
  if (is_kept(shape) && !dbias)
    kept_backward(Kept(gamma, beta, shape), of, dgamma, dbeta, shape);
  else
    spread_backward(Lines<E>(gamma, of.epilogue, shape), of, dgamma, dbeta, dbias, shape);
}

template <class T>
void rows_backward(const T* dy, const T* x, const double* gamma, Centre centre, bool centred, T* out, double* dgamma,
                   double* dbeta, RowsShape shape) {
  const Gradient<T, Alone> of{dy, x, centre, centred, out, shape.rows, shape.columns, {}};
  rows_backward_with(gamma, nullptr, of, dgamma, dbeta, nullptr, shape);
}

template <class T>
void rows_backward(const T* dy, const T* x, const double* gamma, Centre centre, bool centred, T* out, double* dgamma,
                   double* dbeta, RowsShape shape, const FusedRows<T>& epilogue) {
  const Gradient<T, FusedRows<T>> of{dy, x, centre, centred, out, shape.rows, shape.columns, epilogue};
  rows_backward_with(gamma, epilogue.beta, of, dgamma, dbeta, epilogue.dbias, shape);
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
