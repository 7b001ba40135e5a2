// What one compiled variant offers: the functions of the loops, for each type that they store.
//
// Arrays are C-contiguous and do not overlap. gamma and beta may be null (1 and 0). The arithmetic of norms is double;
// results are rounded once, to T.
#pragma once

#include <cstddef>

namespace xhat {

using Index = std::ptrdiff_t;

// Numbers of 16 bits, as they lie in memory: IEEE's half precision, and the upper half of a float. They convert
// exactly. Inlined always: a function that is compiled for several instruction sets must not be the linker's to choose.
struct Half {
  unsigned short bits;

  __attribute__((always_inline)) operator double() const {
    constexpr double smallest = 0x1p-24;
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 0 ? fraction : 1024 + fraction;
    if (exponent == 31) size = fraction == 0 ? __builtin_inf() : __builtin_nan("");
    for (int e = 1; e < exponent; ++e) size += size;
    return (bits >> 15 ? -size : size) * smallest;
  }
};

struct BFloat16 {
  unsigned short bits;

  __attribute__((always_inline)) operator double() const {
    return __builtin_bit_cast(float, static_cast<unsigned>(bits) << 16);
  }
};

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

// x, dy and out are (outer, channels, inner); gamma, beta and their gradients (channels,).
struct ChannelsShape {
  Index outer, channels, inner;
};

// How often each entry counts, (outer, inner), the same for all channels; null if each counts once. `total` is their
// sum. What is NaN or Inf under a weight of 0 is missing: y and dx are 0 there, and dy counts for nothing.
struct Weights {
  const double* entries;
  double total;
};

// One of the two axes along which a window moves over images: `count` windows of `size` entries, `stride` apart, the
// first of which begins `padding` entries before the image.
struct WindowAxis {
  Index size, stride, padding, count;
};

struct Windows {
  WindowAxis rows, columns;
};

// Images (groups * members, channels, height, width). A plane is one channel of one image.
struct Planes {
  Index groups, members, channels, height, width;

  Index count() const { return groups * members * channels; }
};

// What dropout does to the number at a flat index: the key gives it 32 random bits. At `threshold` or above, from 0 to
// 2^32, it is kept and multiplied by `scale`; below, it becomes 0.
struct Dropping {
  unsigned long long key;
  long long threshold;
  double scale;
};

enum class Rule { sgd, momentum, nesterov, rmsprop, adam };

// A rule of an optimizer and its numbers, the same for all parameters; see updates.hpp. What a rule does not know is
// not read.
struct Update {
  Rule rule;
  double rate;
  double kept[2];    // share of its memory
  double correction;
  double eps;
};

// What follows a norm: ReLU, then dropout.
struct Epilogue {
  bool rectified, drops;
  Dropping dropping;
};

// What rows get before they are normalized, x + added; in `added`, rows are `stride` apart (0: one row for all). Without
// a total nothing is added.
template <class T>
struct Addition {
  const T* added;
  Index stride;
  T* total;
};

// One parameter, its gradient and what the rule keeps of it (null where it keeps less). `decay` is the share that
// weight decay takes off; `start` the number of entries of all parameters before it.
template <class T>
struct Parameter {
  T* values;
  const T* gradient;
  T* memory[2];
  double decay;
  Index start, size;
};

// Of float, double, Half and BFloat16.
template <class T>
struct NormKernels {
  void (*rows_forward)(const T* x, const double* gamma, const double* beta, double eps, bool centred, T* out,
                       Statistics statistics, RowsShape shape);
  void (*rows_backward)(const T* dy, const T* x, const double* gamma, Centre centre, bool centred, T* out,
                        double* dgamma, double* dbeta, RowsShape shape);
  // statistics: written
  void (*channels_statistics)(const T* x, Weights weights, double eps, Statistics statistics, ChannelsShape shape);
  void (*channels_forward)(const T* x, Weights weights, const double* gamma, const double* beta, double eps, T* out,
                           Statistics statistics, ChannelsShape shape);
  void (*channels_apply)(const T* x, Weights weights, const double* gamma, const double* beta, Centre centre, T* out,
                         ChannelsShape shape);
  // dgamma, dbeta: written
  void (*channels_sums)(const T* dy, const T* x, Weights weights, Centre centre, double* dgamma, double* dbeta,
                        ChannelsShape shape);
  // dgamma, dbeta: read; sums over all that weights.total counts
  void (*channels_gradient)(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre,
                            const double* dgamma, const double* dbeta, T* out, ChannelsShape shape);
  // the two in one, channel by channel
  void (*channels_backward)(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre, T* out,
                            double* dgamma, double* dbeta, ChannelsShape shape);
  void (*channels_apply_backward)(const T* dy, const T* x, Weights weights, const double* gamma, Centre centre, T* out,
                                  double* dgamma, double* dbeta, ChannelsShape shape);
};

// The norms with what stands beside them. Of float and double; for the rest as in NormKernels.
template <class T>
struct FusedKernels {
  // the total may be x or `added`
  void (*rows_forward)(const T* x, Addition<T> addition, const double* gamma, const double* beta, double eps,
                       bool centred, Epilogue epilogue, T* out, Statistics statistics, RowsShape shape);
  // `also` is added to dx; dbias, (columns), gets the sum of dx over the rows; both may be null
  void (*rows_backward)(const T* dy, const T* x, const T* also, const double* gamma, const double* beta, Centre centre,
                        bool centred, Epilogue epilogue, T* out, double* dgamma, double* dbeta, double* dbias,
                        RowsShape shape);
  void (*channels_forward)(const T* x, Weights weights, const double* gamma, const double* beta, double eps,
                           Epilogue epilogue, T* out, Statistics statistics, ChannelsShape shape);
  void (*channels_apply)(const T* x, Weights weights, const double* gamma, const double* beta, Centre centre,
                         Epilogue epilogue, T* out, ChannelsShape shape);
  void (*channels_backward)(const T* dy, const T* x, Weights weights, const double* gamma, const double* beta,
                            Centre centre, Epilogue epilogue, T* out, double* dgamma, double* dbeta,
                            ChannelsShape shape);
  void (*channels_apply_backward)(const T* dy, const T* x, Weights weights, const double* gamma, const double* beta,
                                  Centre centre, Epilogue epilogue, T* out, double* dgamma, double* dbeta,
                                  ChannelsShape shape);
};

// Of float and double.
template <class T>
struct Kernels : NormKernels<T> {
  // x (groups * members, channels, height, width), out (groups, channels, size, members, windows); col2im the other way
  void (*im2col)(const T* x, T* out, Planes planes, Windows windows);
  void (*col2im)(const T* columns, T* out, Planes planes, Windows windows);
  // x (planes, height, width), out, argmax (planes, windows); argmax counts within its window, of at most 255 entries
  void (*max_pool_forward)(const T* x, T* out, unsigned char* argmax, Planes planes, Windows windows);
  void (*max_pool_backward)(const T* dy, const unsigned char* argmax, T* out, Planes planes, Windows windows);
  // scores and out (rows, columns); labels (rows,) in 0 ... columns - 1; losses (rows,): written
  void (*softmax)(const T* scores, T* out, Index rows, Index columns);
  void (*softmax_cross_entropy)(const T* scores, const long long* labels, T* out, double* losses, Index rows,
                                Index columns);
  void (*dropout)(const T* x, Dropping dropping, T* out, Index size);
  void (*copy)(const T* x, T* out, Index count);
  // the parameters may not overlap; each without entries or not
  void (*update)(const Parameter<T>* parameters, Index count, const Update& update);
  const FusedKernels<T>* fused;
};

struct Variant {
  const char* name;
  Kernels<float> float32;
  Kernels<double> float64;
  NormKernels<Half> float16;
  NormKernels<BFloat16> bfloat16;
};

namespace baseline {
extern const Variant variant;
extern const FusedKernels<float> fused_float32;
extern const FusedKernels<double> fused_float64;
}
namespace avx2 {
extern const Variant variant;
extern const FusedKernels<float> fused_float32;
extern const FusedKernels<double> fused_float64;
}
namespace avx512 {
extern const Variant variant;
extern const FusedKernels<float> fused_float32;
extern const FusedKernels<double> fused_float64;
}

}  // namespace xhat
