// Rows of scores: softmax, and cross-entropy with its gradient. One visit per row; the shares lie in a workspace.
//
//   for each row:
//     top = max(row);   for each j: share[j] = exp(row[j] - top)
//     others = sum of share[j] for j != label;   total = others + share[label];   gap = top - row[label]
//     loss = gap + log1p(gap == 0 ? others : total - 1)        // total >= 1: where gap != 0, the top is an other
//     for each j != label: out[j] = share[j] / (total * rows);   out[label] = -others / (total * rows)
//
// exp and log1p are of double precision and within 2 ULP. Their coefficients interpolate at Chebyshev's nodes, with
// 60 digits, and are rounded to double: tests/kernels/test_softmax.py computes them again.
#pragma once

#include "lanes.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

using Bits = VectorOf<unsigned long long>::type;

constexpr double kPerLog2 = 0x1.71547652b82fep+0;     // 1 / log(2)
constexpr double kLog2High = 0x1.62e42fee00000p-1;    // log(2): 32 bits, so that its product with an exponent is exact
constexpr double kLog2Low = 0x1.a39ef35793c76p-33;    // and the rest
// (exp(r) - 1 - r) / r² for |r| <= log(2) / 2
constexpr double kExp[] = {0x1.0000000000001p-1,  0x1.5555555555556p-3,  0x1.5555555553d68p-5,  0x1.11111111109b5p-7,
                           0x1.6c16c17889ef1p-10, 0x1.a01a01a7c2efep-13, 0x1.a019b9149a41cp-16, 0x1.71de0db2f6b19p-19,
                           0x1.28917c89a43a7p-22, 0x1.af389ecfc4b9cp-26};
// (log((1 + s) / (1 - s)) - 2 s) / s³ as a polynomial in s², for sqrt(1/2) <= (1 + s) / (1 - s) <= sqrt(2)
constexpr double kLog[] = {0x1.5555555555558p-1, 0x1.99999999952d7p-2, 0x1.2492492df281ap-2, 0x1.c71c62e3f11e6p-3,
                           0x1.7462b51cb66b1p-3, 0x1.39fe51a7c18f9p-3, 0x1.2b5900de53b32p-3};

template <int Count>
XHAT_INLINE inline Vector polynomial(const double (&coefficients)[Count], const Vector& x) {
  Vector value = coefficients[Count - 1] - Vector{};
  for (int k = Count - 2; k >= 0; --k) value = value * x + coefficients[k];
  return value;
}

// exp(x + low) for x <= 0 and low no more than its rounding error. A NaN stays one.
//
//   exp(x) = 2^n exp(r),   n = round(x / log(2)),   r = x - n log(2)
XHAT_INLINE inline Vector exp(Vector x, Vector low) {
  constexpr double kRound = 0x1.8p52;    // added, it leaves the integer in the low bits
  constexpr double kZero = -752;         // from here on the result rounds to 0
  constexpr int kLift = 128;             // 2^n may be less than the least normal number; the result is rounded once
  low = x < kZero ? Vector{} : low;    // of -Inf it is NaN
  x = x < kZero ? kZero - Vector{} : x;
  const Vector shifted = x * kPerLog2 + kRound;
  const Vector n = shifted - kRound;
  const Vector r = (x - n * kLog2High) + (low - n * kLog2Low);
  const Vector value = 1 + (r + r * r * polynomial(kExp, r));
  const Mask tiny = n < -1022;
  const Bits exponent = (Bits)shifted + 1023 + ((Bits)tiny & kLift);
  return value * (Vector)(exponent << 52) * (tiny ? 0x1p-128 - Vector{} : 1 - Vector{});
}

// exp(x - top) for x <= top. The difference is rounded, and exp makes a relative error of as many times the rounding
// as the difference is large: for float it stays far below a unit in the last place, for double it is made good.
template <class T>
XHAT_INLINE inline Vector share_of(const Vector& x, double top) {
  const Vector difference = x - top;
  if (sizeof(T) < sizeof(double)) return exp(difference, Vector{});
  const Vector taken = difference - x;    // -top, but for what the difference lost
  return exp(difference, (x - (difference - taken)) - (top + taken));
}

// log(1 + u) for u >= 0. A NaN stays one.
//
//   log(1 + u) = log(w) + c / w,   w = 1 + u rounded, c what the rounding lost
//   log(w) = k log(2) + log(1 + f),   log(1 + f) = 2 s + s³ P(s²),   s = f / (2 + f)
//   2 s = f - s f and s f = f²/2 - s f²/2, so that the leading term, f, is exact
XHAT_INLINE inline Vector log1p(const Vector& u) {
  constexpr unsigned long long kSqrtHalf = 0x3fe6a09e00000000, kOne = 0x3ff0000000000000;
  const Vector w = 1 + u;
  const Vector c = u < 1 ? u - (w - 1) : 1 - (w - u);
  const Bits bits = (Bits)w + (kOne - kSqrtHalf);
  const Vector f = (Vector)((bits & ~(~0ull << 52)) + kSqrtHalf) - 1;
  const Vector k = (Vector)((bits >> 52) | 0x4330000000000000) - (0x1p52 + 1023);
  const Vector s = f / (2 + f);
  const Vector half = 0.5 * f * f;
  const Vector rest = s * (half + s * s * polynomial(kLog, s * s)) + (k * kLog2Low + c / w);
  const Vector value = k * kLog2High - ((half - rest) - f);
  return u == u ? value : u;
}

// body(j, lanes) for eight columns at a time; where they do not come out even, the last eight again.
template <class Body>
XHAT_INLINE inline void for_each_overlapping(Index columns, const Body& body) {
  if (columns < kLanes) return body(Index{0}, Part{columns});
  for (Index j = 0; j + kLanes <= columns; j += kLanes) body(j, Full{});
  if (columns % kLanes != 0) body(columns - kLanes, Full{});
}

// The largest entry; any of them if one is NaN.
template <class T>
XHAT_INLINE inline double top_of(const T* row, Index columns) {
  const auto larger = [](auto a, auto b) XHAT_INLINE { return a > b ? a : b; };
  if (columns < kLanes) {
    double top = row[0];
    for (Index j = 1; j < columns; ++j) top = larger(static_cast<double>(row[j]), top);
    return top;
  }
  Lanes tops = load(row);
  for_each_overlapping(columns, [&](Index j, auto lanes) XHAT_INLINE {
    const Lanes x = load(row + j, lanes);
    for (Index p = 0; p < kParts; ++p) tops.part[p] = larger(x.part[p], tops.part[p]);
  });
  double lane[kLanes];
  store(lane, tops);
  double top = lane[0];
  for (Index k = 1; k < kLanes; ++k) top = larger(lane[k], top);
  return top;
}

// The numbers of a row, filled up with zeros to whole lanes.
class Shares {
 public:
  explicit Shares(Index columns)
      : columns_(columns), padded_((columns + kLanes - 1) / kLanes * kLanes), memory_(padded_ + kLanes) {}

  double& operator[](Index j) const { return memory_.data()[j]; }

  // exp(row - top)
  template <class T>
  XHAT_INLINE void set(const T* row, double top) const {
    double* const shares = memory_.data();
    for_each_overlapping(columns_, [&](Index j, auto lanes) XHAT_INLINE {
      Lanes value = load(row + j, lanes);
      for (Index p = 0; p < kParts; ++p) value.part[p] = share_of<T>(value.part[p], top);
      store(shares + j, value);
    });
    for (Index j = columns_; j < padded_; ++j) shares[j] = 0;
  }

  XHAT_INLINE double total() const {
    const double* const shares = memory_.data();
    Terms<1> total = {};
    accumulate<1>(padded_, [&](Index j, auto) XHAT_INLINE { return Terms<1>{{load(shares + j)}}; }, total);
    return sum(total.term[0]);
  }

  template <class T>
  XHAT_INLINE void store_times(double factor, T* out) const {
    const double* const shares = memory_.data();
    const Lanes factors = splat(factor);
    for_each_overlapping(columns_, [&](Index j, auto lanes) XHAT_INLINE {
      store(out + j, load(shares + j) * factors, lanes);
    });
  }

 private:
  Index columns_, padded_;
  Workspace memory_;
};

inline Index rows_at_once(Index columns) {
  constexpr Index kGrain = 4096;    // numbers
  return columns < kGrain ? kGrain / (columns + 1) + 1 : 1;
}

template <class T>
void softmax(const T* scores, T* out, Index rows, Index columns) {
  parallel_for(rows, rows_at_once(columns), [&](Index first, Index last) {
    const Shares shares(columns);
    for (Index i = first; i < last && columns > 0; ++i) {
      const T* const row = scores + i * columns;
      shares.set(row, top_of(row, columns));
      shares.store_times(1 / shares.total(), out + i * columns);
    }
  });
}

template <class T>
void softmax_cross_entropy(const T* scores, const long long* labels, T* out, double* losses, Index rows,
                           Index columns) {
  parallel_for(rows, rows_at_once(columns), [&](Index first, Index last) {
    const Shares shares(columns);
    double gap[kLanes] = {}, argument[kLanes] = {};
    for (Index start = first; start < last; start += kLanes) {
      const Index count = last - start < kLanes ? last - start : kLanes;
      for (Index k = 0; k < count; ++k) {
        const T* const row = scores + (start + k) * columns;
        const Index label = static_cast<Index>(labels[start + k]);
        const double top = top_of(row, columns);
        shares.set(row, top);
        const double at_label = shares[label];
        shares[label] = 0;
        const double others = shares.total(), total = others + at_label;
        shares[label] = -others;
        shares.store_times(1 / (total * static_cast<double>(rows)), out + (start + k) * columns);
        gap[k] = top - static_cast<double>(row[label]);
        argument[k] = gap[k] == 0 ? others : total - 1;
      }
      Lanes loss = load(argument);
      for (Index p = 0; p < kParts; ++p) loss.part[p] = log1p(loss.part[p]);
      store(argument, load(gap) + loss);
      for (Index k = 0; k < count; ++k) losses[start + k] = argument[k];
    }
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
