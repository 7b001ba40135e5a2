// The largest entry of every window of x (planes, height, width), and which of the window's entries it is.
//
// Plan: a thread owns whole planes. A window may reach over the edge of the image, where it has fewer entries, but meets
// it: the caller sees to that. Windows that lie inside from left to right are taken kWidth at a time, others one by one.
#pragma once

#include "convolution.hpp"
#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

// Where the entries of a window lie, counted from its first.
struct Offsets {
  Index of[256] = {};    // as many as a byte can name

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

// A range of what is counted along one axis: [first, last).
struct Range {
  Index first, last;

  Index size() const { return last - first; }
};

// The entries of a window that lie inside the image.
inline Range entries_inside(Index window, Index length, const WindowAxis& axis) {
  const Index start = window * axis.stride - axis.padding;
  return {larger(-start, 0), smaller(length - start, axis.size)};
}

// The windows that lie inside the image with all their entries.
inline Range windows_inside(Index length, const WindowAxis& axis) {
  const Index first = Inside(0, length, axis).first;
  return {first, larger(first, Inside(axis.size - 1, length, axis).last)};
}

// The largest of kWidth windows in a row, which begin at `from` with their entry `first`, `step` apart.
template <class T>
XHAT_INLINE inline void largest_of_some(const T* from, Index step, const Offsets& offsets, Index first, Index size,
                                        T* out, unsigned char* argmax) {
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
  at += static_cast<typename IntegerOf<T>::type>(first);
  const auto bytes = __builtin_convertvector(at, typename VectorOf<unsigned char>::type);
  __builtin_memcpy(argmax, &bytes, sizeof bytes);
}

// The largest of `count` windows in a row.
template <Index kStep, class T>
XHAT_INLINE inline void largest(const T* from, Index step_or_fixed, const Offsets& offsets, Index first, Index size,
                                Index count, T* out, unsigned char* argmax) {
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
      argmax[c] = static_cast<unsigned char>(first + at);
    }
    return;
  }
  for (Index c = 0; c < count; c += kWidth) {
    const Index start = smaller(c, count - kWidth);    // the last few once more, with some before them
    largest_of_some(from + start * step, step, offsets, first, size, out + start, argmax + start);
  }
}

// The largest of those entries of one window that lie in some of its rows and columns, the first of them at `from`.
template <class T>
void largest_of_part(const T* from, const Offsets& offsets, Range rows, Range columns, Index row_size, T* out,
                     unsigned char* argmax) {
  T best = *from;
  Index at = 0;
  for (Index i = 0; i < rows.size(); ++i)
    for (Index k = i * row_size; k < i * row_size + columns.size(); ++k) {
      const T value = from[offsets.of[k]];
      const bool takes = !(value <= best) & (best == best);
      best = takes ? value : best;
      at = takes ? k : at;
    }
  *out = best;
  *argmax = static_cast<unsigned char>(rows.first * row_size + columns.first + at);
}

// The largest of all windows of some planes; compiled for itself where no window reaches over an edge.
template <bool kPadded, class T>
void largest_of_planes(const T* x, T* out, unsigned char* argmax, Range some, Planes planes, Windows windows) {
  const auto [rows, columns] = windows;
  const Offsets offsets(windows, planes.width);
  const Range whole = kPadded ? windows_inside(planes.width, columns) : Range{0, columns.count};
  for (Index plane = some.first; plane < some.last; ++plane)
    for (Index r = 0; r < rows.count; ++r) {
      const Range high = kPadded ? entries_inside(r, planes.height, rows) : Range{0, rows.size};
      const Index row = plane * planes.height + r * rows.stride - (kPadded ? rows.padding - high.first : 0);
      const T* const line = x + row * planes.width;
      const T* const from = line + (kPadded ? whole.first * columns.stride - columns.padding : 0);
      const Index first = high.first * columns.size, size = high.size() * columns.size;
      const Index to = (plane * rows.count + r) * columns.count, start = to + whole.first;
      if (columns.stride == 1)
        largest<1>(from, 1, offsets, first, size, whole.size(), out + start, argmax + start);
      else if (columns.stride == 2)
        largest<2>(from, 2, offsets, first, size, whole.size(), out + start, argmax + start);
      else
        largest<0>(from, columns.stride, offsets, first, size, whole.size(), out + start, argmax + start);
      if constexpr (kPadded) {
        const auto over_the_edge = [&](Index c) {
          const Range wide = entries_inside(c, planes.width, columns);
          const Index left = c * columns.stride - columns.padding + wide.first;
          largest_of_part(line + left, offsets, high, wide, columns.size, out + to + c, argmax + to + c);
        };
        for (Index c = 0; c < whole.first; ++c) over_the_edge(c);
        for (Index c = whole.last; c < columns.count; ++c) over_the_edge(c);
      }
    }
}

template <class T>
void max_pool_forward(const T* x, T* out, unsigned char* argmax, Planes planes, Windows windows) {
  const auto [rows, columns] = windows;
  const bool padded = rows.padding > 0 || columns.padding > 0;
  const Index work = rows.size * columns.size * rows.count * columns.count;
  parallel_for(planes.count(), grain_of(work), [=](Index begin, Index end) {
    const auto of_planes = padded ? largest_of_planes<true, T> : largest_of_planes<false, T>;
    of_planes(x, out, argmax, {begin, end}, planes, windows);
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
          const Index row = (r * rows.stride - rows.padding) * planes.width - columns.padding;
          const Index at = row + c * columns.stride + offsets.of[argmax[from]];
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
