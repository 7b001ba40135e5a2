// The largest entry of every window of x (planes, height, width), and which of the window's entries it is.
//
// Plan: a thread owns whole planes. Windows do not leave the image.
#pragma once

#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

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

// best[c] and at[c] of `count` windows in a row, which begin at `from`; kStride 0 means `stride`.
template <Index kStride, class T>
void largest(const T* __restrict from, Index width, Index stride, const Windows& windows, Index count,
             T* __restrict best, typename IntegerOf<T>::type* __restrict at) {
  const Index step = kStride ? kStride : stride;
  for (Index c = 0; c < count; ++c) {
    best[c] = from[c * step];
    at[c] = 0;
  }
  // Scalar: if (!(value <= best) && best == best) best = value, at = k
  // so that the first of equal numbers stays, and a NaN beats all numbers and stays.
  const Index size = windows.rows.size * windows.columns.size;
  for (Index k = 1; k < size; ++k) {
    const T* const row = from + k / windows.columns.size * width + k % windows.columns.size;
    const auto here = static_cast<typename IntegerOf<T>::type>(k);
    for (Index c = 0; c < count; ++c) {
      const T value = row[c * step];
      const bool takes = !(value <= best[c]) & (best[c] == best[c]);
      best[c] = takes ? value : best[c];
      at[c] = takes ? here : at[c];
    }
  }
}

template <class T>
void max_pool_forward(const T* x, T* out, unsigned char* argmax, Planes planes, Windows windows) {
  constexpr Index kAtOnce = 256;
  const auto [rows, columns] = windows;
  const Index count = rows.count * columns.count;
  parallel_for(planes.count(), grain_of(rows.size * columns.size * count), [=](Index begin, Index end) {
    T best[kAtOnce];
    typename IntegerOf<T>::type at[kAtOnce];
    for (Index plane = begin; plane < end; ++plane)
      for (Index r = 0; r < rows.count; ++r)
        for (Index start = 0; start < columns.count; start += kAtOnce) {
          const Index some = smaller(kAtOnce, columns.count - start);
          const T* const from =
              x + (plane * planes.height + r * rows.stride) * planes.width + start * columns.stride;
          if (columns.stride == 1)
            largest<1>(from, planes.width, 1, windows, some, best, at);
          else if (columns.stride == 2)
            largest<2>(from, planes.width, 2, windows, some, best, at);
          else
            largest<0>(from, planes.width, columns.stride, windows, some, best, at);
          const Index to = plane * count + r * columns.count + start;
          for (Index c = 0; c < some; ++c) {
            out[to + c] = best[c];
            argmax[to + c] = static_cast<unsigned char>(at[c]);
          }
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
    Index offset[256] = {};    // of each entry of a window, from the window's first; no byte leads out of the image
    for (Index k = 0; k < rows.size * columns.size; ++k)
      offset[k] = k / columns.size * planes.width + k % columns.size;
    for (Index plane = begin; plane < end; ++plane) {
      T* const to = out + plane * pixels;
      for (Index p = 0; p < pixels; ++p) to[p] = 0;
      if (overlap)
        for (Index p = 0; p < pixels; ++p) sum[p] = 0;
      // Scalar: the entry at the window's index gets dy; where windows overlap, the sum of theirs, rounded once.
      for (Index r = 0; r < rows.count; ++r)
        for (Index c = 0; c < columns.count; ++c) {
          const Index from = plane * count + r * columns.count + c;
          const Index at = r * rows.stride * planes.width + c * columns.stride + offset[argmax[from]];
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
