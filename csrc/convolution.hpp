// Images as columns and back: what turns a convolution into a product of matrices.
//
// A column holds what one window sees: columns (groups, channels, size, members, windows) for the images
// (groups * members, channels, height, width), where `size` is the two axes of a window and `windows` the two axes of
// the output. The images of a group lie side by side, so that one product serves them all.
//
// Plan: a thread owns whole planes (one channel of one image). Nothing is added up across planes, and within one in a
// fixed order.
#pragma once

#include "moments.hpp"
#include "workspace.hpp"

namespace xhat::XHAT_VARIANT {
namespace {

// The windows along one axis that entry `at` of the window finds inside the image: [first, last).
struct Inside {
  Index first, last;

  Inside(Index at, Index length, const WindowAxis& axis) {
    const Index before = axis.padding - at;    // entries of padding
    const Index reached = length - 1 + before;
    first = before > 0 ? smaller(divide_up(before, axis.stride), axis.count) : 0;
    last = reached < 0 ? first : larger(smaller(reached / axis.stride + 1, axis.count), first);
  }
};

// Where the columns of one plane lie.
struct Place {
  Index start, step;    // entry k of the window begins at start + k * step

  Place(Index plane, const Planes& planes, const Windows& windows) {
    const Index image = plane / planes.channels, channel = plane % planes.channels;
    const Index group = image / planes.members, member = image % planes.members;
    const Index count = windows.rows.count * windows.columns.count;
    step = planes.members * count;
    start = (group * planes.channels + channel) * windows.rows.size * windows.columns.size * step + member * count;
  }
};

template <class T>
void im2col(const T* x, T* out, Planes planes, Windows windows) {
  const auto [rows, columns] = windows;
  const Index size = rows.size * columns.size, count = rows.count * columns.count;
  parallel_for(planes.count(), grain_of(size * count), [=](Index begin, Index end) {
    for (Index plane = begin; plane < end; ++plane) {
      const T* const from = x + plane * planes.height * planes.width;
      const Place place(plane, planes, windows);
      // Scalar: to[r * columns.count + c] = from[r * rows.stride + i - rows.padding]
      //                                         [c * columns.stride + j - columns.padding], or 0 outside the image
      for (Index k = 0; k < size; ++k) {
        const Index i = k / columns.size, j = k % columns.size;
        const Inside high(i, planes.height, rows), wide(j, planes.width, columns);
        T* to = out + place.start + k * place.step;
        for (Index r = 0; r < rows.count; ++r, to += columns.count) {
          const bool inside = r >= high.first && r < high.last && wide.first < wide.last;
          const Index first = inside ? wide.first : columns.count;
          for (Index c = 0; c < first; ++c) to[c] = 0;
          if (!inside) continue;
          const Index row = (r * rows.stride + i - rows.padding) * planes.width + j - columns.padding;
          if (columns.stride == 1)
            for (Index c = first; c < wide.last; ++c) to[c] = from[row + c];
          else if (columns.stride == 2)
            for (Index c = first; c < wide.last; ++c) to[c] = from[row + 2 * c];
          else
            for (Index c = first; c < wide.last; ++c) to[c] = from[row + c * columns.stride];
          for (Index c = wide.last; c < columns.count; ++c) to[c] = 0;
        }
      }
    }
  });
}

// The transpose of im2col: every pixel gets the sum of what stands in the columns for it.
template <class T>
void col2im(const T* from, T* out, Planes planes, Windows windows) {
  const auto [rows, columns] = windows;
  const Index size = rows.size * columns.size, count = rows.count * columns.count;
  parallel_for(planes.count(), grain_of(size * count), [=](Index begin, Index end) {
    const Workspace memory(planes.width);
    double* const sum = memory.data();    // of one row of the image
    for (Index plane = begin; plane < end; ++plane) {
      const Place place(plane, planes, windows);
      for (Index h = 0; h < planes.height; ++h) {
        for (Index w = 0; w < planes.width; ++w) sum[w] = 0;
        // Scalar: sum[c * columns.stride + j - columns.padding] += entry (i, j) of the columns of window (r, c)
        for (Index i = 0; i < rows.size; ++i) {
          const Index distance = h + rows.padding - i, r = distance / rows.stride;
          if (distance < 0 || r >= rows.count || r * rows.stride != distance) continue;
          for (Index j = 0; j < columns.size; ++j) {
            const Inside wide(j, planes.width, columns);
            const T* const part = from + place.start + (i * columns.size + j) * place.step + r * columns.count;
            const Index shift = j - columns.padding;
            if (columns.stride == 1)
              for (Index c = wide.first; c < wide.last; ++c) sum[shift + c] += static_cast<double>(part[c]);
            else
              for (Index c = wide.first; c < wide.last; ++c)
                sum[shift + c * columns.stride] += static_cast<double>(part[c]);
          }
        }
        T* const to = out + (plane * planes.height + h) * planes.width;
        for (Index w = 0; w < planes.width; ++w) to[w] = static_cast<T>(sum[w]);
      }
    }
  });
}

}  // namespace
}  // namespace xhat::XHAT_VARIANT
