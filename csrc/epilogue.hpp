// What follows a norm and is worked on in the same pass: ReLU, then dropout.
//
// The loops are compiled for two: Alone leaves them as they are, Fused asks at each vector what there is to do.
#pragma once

#include "random.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

struct Alone {
  static constexpr bool given = false;

  XHAT_INLINE Lanes forward(Index, const Lanes& y) const { return y; }

  template <class Y>
  XHAT_INLINE Lanes backward(Index, const Lanes& dy, const Y&) const {
    return dy;
  }
};

// Half of the smallest number: what is not above it rounds to 0 or less.
template <class T>
constexpr double kRoundsToZero = 0;
template <>
constexpr double kRoundsToZero<float> = 0x1p-150;

// Where chosen is at most `limit`: zero. NaN is not.
XHAT_INLINE inline Lanes where_above(double limit, const Lanes& chosen, Lanes value) {
  for (Index p = 0; p < kParts; ++p) value.part[p] = chosen.part[p] <= limit ? Vector{} : value.part[p];
  return value;
}

// Small: the loops keep a copy of it in registers. The key's schedule lies elsewhere.
template <class T>
class Fused {
 public:
  static constexpr bool given = true;

  // beta may be null (0); `dropped` is null where nothing is.
  Fused(bool rectified, const Dropout* dropped, const double* beta)
      : beta(beta), rectified_(rectified), dropped_(dropped) {}

  // Scalar: T(y) <= 0 ? 0 : y, then dropped; `at` is its flat index
  XHAT_INLINE Lanes forward(Index at, const Lanes& y) const {
    Lanes result = y;
    if (rectified_) result = where_above(kRoundsToZero<T>, y, y);
    if (dropped_) result = (*dropped_)(at, result);
    return result;
  }

  // Scalar: T(y) <= 0 ? 0 : dy, then dropped; y() is what the norm gave
  template <class Y>
  XHAT_INLINE Lanes backward(Index at, const Lanes& dy, const Y& y) const {
    Lanes result = dy;
    if (rectified_) result = where_above(kRoundsToZero<T>, y(), dy);
    if (dropped_) result = (*dropped_)(at, result);
    return result;
  }

  const double* beta;    // for y()

 private:
  bool rectified_;
  const Dropout* dropped_;
};

// The one that a function was given, or Alone.
inline Alone the() { return {}; }
template <class E>
const E& the(const E& epilogue) {
  return epilogue;
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
