// What one compiled variant offers: the functions of the two loops, for both storage types.
//
// Arrays are C-contiguous and do not overlap. gamma and beta may be null (1 and 0). All arithmetic is double;
// results are rounded once, to T.
#pragma once

#include <cstddef>

namespace xhat {

using Index = std::ptrdiff_t;

// One entry per row or channel. The mean is mean + mean_low, to more than double precision; var is biased;
// rstd = 1 / sqrt(var + eps), and 0 where var + eps is 0, so that x_hat is 0 there.
struct Statistics {
  double* mean;
  double* mean_low;
  double* var;
  double* rstd;
};

// What backward and fixed statistics need. mean_low may be null (0).
struct Centre {
  const double* mean;
  const double* mean_low;
  const double* rstd;
};

// x, dy and out are (rows, columns); gamma, beta and their gradients (groups, entries), which divide them. Row i goes
// by line i % groups, column j by entry j / (columns / entries). Rows that are not `centred` have a mean of 0, and for
// var the mean of x².
struct RowsShape {
  Index rows, columns, groups, entries;
};

template <class T>
struct Kernels {
  void (*rows_forward)(const T* x, const double* gamma, const double* beta, double eps, bool centred, T* out,
                       Statistics statistics, RowsShape shape);
  void (*rows_backward)(const T* dy, const T* x, const double* gamma, Centre centre, bool centred, T* out,
                        double* dgamma, double* dbeta, RowsShape shape);
  // x, out (outer, channels, inner); gamma, beta (channels,)
  void (*channels_forward)(const T* x, const double* gamma, const double* beta, double eps, T* out,
                           Statistics statistics, Index outer, Index channels, Index inner);
  void (*channels_apply)(const T* x, const double* gamma, const double* beta, Centre centre, T* out, Index outer,
                         Index channels, Index inner);
  // dy, x, out (outer, channels, inner); gamma, dgamma, dbeta (channels,)
  void (*channels_backward)(const T* dy, const T* x, const double* gamma, Centre centre, T* out, double* dgamma,
                            double* dbeta, Index outer, Index channels, Index inner);
  void (*channels_apply_backward)(const T* dy, const T* x, const double* gamma, Centre centre, T* out, double* dgamma,
                                  double* dbeta, Index outer, Index channels, Index inner);
};

struct Variant {
  const char* name;
  Kernels<float> float32;
  Kernels<double> float64;
};

namespace baseline {
extern const Variant variant;
}
namespace avx2 {
extern const Variant variant;
}
namespace avx512 {
extern const Variant variant;
}

}  // namespace xhat
