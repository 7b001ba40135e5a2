// Normalize each row of x (rows, columns); gamma and beta belong to the columns.
//
// Plan: a thread owns whole rows; a row is read, its statistics are taken, and it is written while it is in the
// cache. dgamma and dbeta: one pair of sums per block of rows, of a fixed partition, added up in block order.
#pragma once

#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

// The array itself, or one filled with a value in its place.
class Filled {
 public:
  Filled(const double* given, double value, Index size) : memory_(given ? 0 : size), data_(given) {
    if (given) return;
    for (Index j = 0; j < size; ++j) memory_.data()[j] = value;
    data_ = memory_.data();
  }
  const double* data() const { return data_; }

 private:
  Workspace memory_;
  const double* data_;
};

template <class T>
void rows_forward(const T* x, const double* gamma_or_null, const double* beta_or_null, double eps, T* out,
                  Statistics statistics, Index rows, Index columns) {
  const Filled gammas(gamma_or_null, 1, columns), betas(beta_or_null, 0, columns);
  const double *const gamma = gammas.data(), *const beta = betas.data();
  parallel_for(rows, grain_of(columns), [=](Index first, Index last) {
    for (Index i = first; i < last; ++i) {
      const Runs row(1, columns, columns);
      const T* const from = x + i * columns;
      T* const to = out + i * columns;
      const Moments m = moments(from, row);
      set_statistics(statistics, i, m, eps);

      // Scalar: to[j] = ((from[j] - mean) - mean_low) * rstd * gamma[j] + beta[j]
      const Lanes mean = splat(m.mean), mean_low = splat(m.mean_low), rstd = splat(statistics.rstd[i]);
      for_each(row, [=](Index j, auto lanes) XHAT_INLINE {
        const Lanes x_hat = ((load(from + j, lanes) - mean) - mean_low) * rstd;
        store(to + j, x_hat * load(gamma + j, lanes) + load(beta + j, lanes), lanes);
      });
    }
  });
}

// One row, or R rows at a time: dgamma and dbeta are then read and written once for all of them.
template <int R, class T>
void rows_backward_some(const T* dy, const T* x, const double* gamma, Centre centre, Index first, T* out,
                        double* dgamma, double* dbeta, Index columns) {
  Lanes mean[R], mean_low[R], rstd[R];
  for (int r = 0; r < R; ++r) {
    mean[r] = splat(centre.mean[first + r]);
    mean_low[r] = splat(centre.mean_low[first + r]);
    rstd[r] = splat(centre.rstd[first + r]);
  }
  const auto x_hat = [&](int r, Index j, auto lanes) XHAT_INLINE {
    return ((load(x + (first + r) * columns + j, lanes) - mean[r]) - mean_low[r]) * rstd[r];
  };

  // Scalar: dgamma[j] += dy[j] * x_hat[j]     dbeta[j] += dy[j]
  //         sum of dx_hat[j] and of dx_hat[j] * x_hat[j], with dx_hat[j] = dy[j] * gamma[j]
  Terms<2 * R> total = {};
  for (Index start = 0; start < columns; start += kSegment)
    accumulate<2 * R>(smaller(kSegment, columns - start), [&](Index k, auto lanes) XHAT_INLINE {
      const Index j = start + k;
      const Lanes gamma_j = load(gamma + j, lanes);
      Lanes dgamma_j = load(dgamma + j, lanes), dbeta_j = load(dbeta + j, lanes);
      Terms<2 * R> terms;
      for (int r = 0; r < R; ++r) {
        const Lanes x_hat_j = x_hat(r, j, lanes), dy_j = load(dy + (first + r) * columns + j, lanes);
        dgamma_j = dgamma_j + dy_j * x_hat_j;
        dbeta_j = dbeta_j + dy_j;
        terms.term[2 * r] = dy_j * gamma_j;
        terms.term[2 * r + 1] = terms.term[2 * r] * x_hat_j;
      }
      store(dgamma + j, dgamma_j, lanes);
      store(dbeta + j, dbeta_j, lanes);
      return terms;
    }, total);

  // Scalar: out[j] = rstd * (dx_hat[j] - mean(dx_hat) - x_hat[j] * mean(dx_hat * x_hat))
  const double n = static_cast<double>(columns);
  for (int r = 0; r < R; ++r) {
    const Lanes along_ones = splat(sum(total.term[2 * r]) / n), along_x_hat = splat(sum(total.term[2 * r + 1]) / n);
    for_each(columns, [&](Index j, auto lanes) XHAT_INLINE {
      const Index at = (first + r) * columns + j;
      const Lanes dx_hat = load(dy + at, lanes) * load(gamma + j, lanes);
      store(out + at, rstd[r] * ((dx_hat - along_ones) - x_hat(r, j, lanes) * along_x_hat), lanes);
    });
  }
}

template <class T>
void rows_backward(const T* dy, const T* x, const double* gamma_or_null, Centre centre, T* out, double* dgamma,
                   double* dbeta, Index rows, Index columns) {
  constexpr int kRowsAtOnce = 2;
  constexpr Index kMinRows = 4;    // per block, so that the blocks' sums take no more memory than x
  const Filled gammas(gamma_or_null, 1, columns);
  const double* const gamma = gammas.data();
  const Index wanted = smaller(smaller(rows / kMinRows, rows * columns / kGrain), kMaxBlocks);
  const Index rows_per_block = larger(divide_up(rows, larger(wanted, 1)), 1);
  const Index blocks = divide_up(rows, rows_per_block);
  const Workspace partial(blocks * 2 * columns);
  double* const sums = partial.data();    // (blocks, 2, columns)
  parallel_for(blocks, grain_of(rows_per_block * columns), [=](Index first, Index last) {
    for (Index block = first; block < last; ++block) {
      double* const block_dgamma = sums + block * 2 * columns;
      double* const block_dbeta = block_dgamma + columns;
      for (Index j = 0; j < 2 * columns; ++j) block_dgamma[j] = 0;
      const Index end = smaller((block + 1) * rows_per_block, rows);
      Index i = block * rows_per_block;
      for (; i + kRowsAtOnce <= end; i += kRowsAtOnce)
        rows_backward_some<kRowsAtOnce>(dy, x, gamma, centre, i, out, block_dgamma, block_dbeta, columns);
      for (; i < end; ++i)
        rows_backward_some<1>(dy, x, gamma, centre, i, out, block_dgamma, block_dbeta, columns);
    }
  });
  parallel_for(columns, grain_of(2 * blocks), [=](Index first, Index last) {
    for (Index j = first; j < last; ++j) dgamma[j] = dbeta[j] = 0;
    for (Index block = 0; block < blocks; ++block)
      for (Index j = first; j < last; ++j) {
        dgamma[j] += sums[block * 2 * columns + j];
        dbeta[j] += sums[(block * 2 + 1) * columns + j];
      }
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
