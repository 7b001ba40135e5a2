// The largest entry of every window of x (planes, height, width), and which of the window's entries it is.
//
// Plan: a thread owns whole planes. Windows do not leave the image.
#pragma once

#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

// Where the entries of a window lie, counted from its first.
struct Offsets {
  Index of[256] = {};    // as many as a byte can name: none leads out of the image

  Offsets(const Windows& windows, Index width) {
    for (Index k = 0, i = 0; i < windows.rows.size; ++i)
      for (Index j = 0; j < windows.columns.size; ++j) of[k++] = i * width + j;
  }
};

// An integer of the width of T, so that a vector of numbers and one of their indices have the same lanes.
template <class T>
struct IntegerOf;
template <>
struct IntegerOf<float> {
  using type = int;
};
template <>
struct IntegerOf<double> {
  using type = long long;
};

// Entries 0, step, 2 * step, ... and none beyond the last of them.
template <class T>
XHAT_INLINE inline typename VectorOf<T>::type load_strided(const T* from, Index step) {
  typename VectorOf<T>::type result = {};
  if (step == 1)
    __builtin_memcpy(&result, from, sizeof result);
  else
    for (Index c = 0; c < kWidth; ++c) result[c] = from[c * step];
  return result;
}

// The largest of kWidth windows in a row, which begin at `from`, `step` apart.
template <class T>
XHAT_INLINE inline void largest_of_some(const T* from, Index step, const Offsets& offsets, Index size, T* out,
                                        unsigned char* argmax) {
  using Integer = typename VectorOf<typename IntegerOf<T>::type>::type;
  auto best = load_strided(from, step);
  Integer at = {};
  for (Index k = 1; k < size; ++k) {
    const auto value = load_strided(from + offsets.of[k], step);
    const Integer takes = ~(value <= best) & (best == best);
    best = takes ? value : best;
    at = takes ? static_cast<typename IntegerOf<T>::type>(k) - Integer{} : at;
  }
  __builtin_memcpy(out, &best, sizeof best);
  const auto bytes = __builtin_convertvector(at, typename VectorOf<unsigned char>::type);
  __builtin_memcpy(argmax, &bytes, sizeof bytes);
}

// The largest of `count` windows in a row.
template <Index kStep, class T>
XHAT_INLINE inline void largest(const T* from, Index step_or_fixed, const Offsets& offsets, Index size, Index count,
                                T* out, unsigned char* argmax) {
  const Index step = kStep ? kStep : step_or_fixed;
  // Scalar: if (!(value <= best) && best == best) best = value, at = k
  // so that the first of equal numbers stays, and a NaN beats all numbers and stays.
  if (count < kWidth) {
    for (Index c = 0; c < count; ++c) {
      T best = from[c * step];
      Index at = 0;
      for (Index k = 1; k < size; ++k) {
        const T value = from[c * step + offsets.of[k]];
        const bool takes = !(value <= best) & (best == best);
        best = takes ? value : best;
        at = takes ? k : at;
      }
      out[c] = best;
      argmax[c] = static_cast<unsigned char>(at);
    }
    return;
  }
  for (Index c = 0; c < count; c += kWidth) {
    const Index start = smaller(c, count - kWidth);    // the last few once more, with some before them
    largest_of_some(from + start * step, step, offsets, size, out + start, argmax + start);
  }
}

template <class T>
void max_pool_forward(const T* x, T* out, unsigned char* argmax, Planes planes, Windows windows) {
  const auto [rows, columns] = windows;
  const Index size = rows.size * columns.size, count = rows.count * columns.count;
  parallel_for(planes.count(), grain_of(size * count), [=](Index begin, Index end) {
    const Offsets offsets(windows, planes.width);
    for (Index plane = begin; plane < end; ++plane)
      for (Index r = 0; r < rows.count; ++r) {
        const T* const from = x + (plane * planes.height + r * rows.stride) * planes.width;
        const Index to = plane * count + r * columns.count;
        if (columns.stride == 1)
          largest<1>(from, 1, offsets, size, columns.count, out + to, argmax + to);
        else if (columns.stride == 2)
          largest<2>(from, 2, offsets, size, columns.count, out + to, argmax + to);
        else
          largest<0>(from, columns.stride, offsets, size, columns.count, out + to, argmax + to);
      }
  });
}

template <class T>
void max_pool_backward(const T* dy, const unsigned char* argmax, T* out, Planes planes, Windows windows) {
  const auto [rows, columns] = windows;
  const Index count = rows.count * columns.count, pixels = planes.height * planes.width;
  const bool overlap = rows.stride < rows.size || columns.stride < columns.size;
  parallel_for(planes.count(), grain_of(pixels), [=](Index begin, Index end) {
    const Workspace memory(overlap ? pixels : 0);
    double* const sum = memory.data();
    const Offsets offsets(windows, planes.width);
    for (Index plane = begin; plane < end; ++plane) {
      T* const to = out + plane * pixels;
      for (Index p = 0; p < pixels; ++p) to[p] = 0;
      if (overlap)
        for (Index p = 0; p < pixels; ++p) sum[p] = 0;
      // Scalar: the entry at the window's index gets dy; where windows overlap, the sum of theirs, rounded once.
      for (Index r = 0; r < rows.count; ++r)
        for (Index c = 0; c < columns.count; ++c) {
          const Index from = plane * count + r * columns.count + c;
          const Index at = r * rows.stride * planes.width + c * columns.stride + offsets.of[argmax[from]];
          if (overlap)
            sum[at] += static_cast<double>(dy[from]);
          else
            to[at] = dy[from];
        }
      if (overlap)
        for (Index p = 0; p < pixels; ++p) to[p] = static_cast<T>(sum[p]);
    }
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
