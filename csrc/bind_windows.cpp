// Windows that move over images, as Python calls them.
#include <algorithm>
#include <vector>

#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

constexpr char kImages[] = "(samples, channels, height, width)";
constexpr char kColumns[] = "(groups, channels, window rows, window columns, members, rows, columns)";
constexpr char kPlanes[] = "(planes, height, width)";

// im2col reads images and writes columns, col2im reads columns and writes images.
template <class Call>
void convert(Arguments& arguments, const Array& images, const Array& columns, Pair stride, Pair padding,
             const Call& call) {
  images.expect_dimensions(4, kImages);
  columns.expect_dimensions(7, kColumns);
  const Planes planes{columns.size(0), columns.size(4), columns.size(1), images.size(2), images.size(3)};
  images.expect_shape({planes.groups * planes.members, planes.channels, planes.height, planes.width});
  const Windows windows = arguments.windows(planes, {columns.size(2), columns.size(3)}, stride, padding);
  columns.expect_shape({planes.groups, planes.channels, windows.rows.size, windows.columns.size, planes.members,
                        windows.rows.count, windows.columns.count});
  arguments.run(images, [&](const auto& kernels, auto zero) { call(kernels, zero, planes, windows); });
}

void im2col(nb::handle x_, nb::handle out_, Pair stride, Pair padding) {
  Arguments arguments("im2col");
  const Array& x = arguments.array("x", x_);
  const Array& out = arguments.typed(x, "out", out_, Access::write);
  convert(arguments, x, out, stride, padding, [&](const auto& kernels, auto zero, Planes planes, Windows windows) {
    using T = decltype(zero);
    kernels.im2col(x.data<T>(), out.data<T>(), planes, windows);
  });
}

void col2im(nb::handle columns_, nb::handle out_, Pair stride, Pair padding) {
  Arguments arguments("col2im");
  const Array& columns = arguments.array("columns", columns_);
  const Array& out = arguments.typed(columns, "out", out_, Access::write);
  convert(arguments, out, columns, stride, padding,
          [&](const auto& kernels, auto zero, Planes planes, Windows windows) {
            using T = decltype(zero);
            kernels.col2im(columns.data<T>(), out.data<T>(), planes, windows);
          });
}

void max_pool_forward(nb::handle x_, nb::handle out_, nb::handle argmax_, Pair size, Pair stride, Pair padding) {
  Arguments arguments("max_pool_forward");
  const Array& x = arguments.x(x_, 3, kPlanes);
  const Planes planes{1, 1, x.size(0), x.size(1), x.size(2)};
  const Windows windows = arguments.windows(planes, size, stride, padding);
  arguments.expect_small(windows);
  arguments.expect_met(planes, windows);
  const Array& out = arguments.typed(x, "out", out_, Access::write);
  out.expect_shape({planes.channels, windows.rows.count, windows.columns.count});
  unsigned char* const argmax = arguments.argmax(out, argmax_, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.max_pool_forward(x.data<T>(), out.data<T>(), argmax, planes, windows);
  });
}

// Whether each index names an entry of its window that lies inside the image.
bool all_inside(const unsigned char* argmax, const Planes& planes, const Windows& windows) {
  const auto [rows, columns] = windows;
  const Index count = planes.count() * rows.count * columns.count;
  if (count == 0) return true;
  if (*std::max_element(argmax, argmax + count) >= rows.size * columns.size) return false;
  if (rows.padding == 0 && columns.padding == 0) return true;
  for (Index plane = 0; plane < planes.count(); ++plane)
    for (Index r = 0; r < rows.count; ++r)
      for (Index c = 0; c < columns.count; ++c, ++argmax) {
        const Index top = r * rows.stride - rows.padding, left = c * columns.stride - columns.padding;
        if (top >= 0 && top + rows.size <= planes.height && left >= 0 && left + columns.size <= planes.width) continue;
        const Index row = top + *argmax / columns.size, column = left + *argmax % columns.size;
        if (row < 0 || row >= planes.height || column < 0 || column >= planes.width) return false;
      }
  return true;
}

void max_pool_backward(nb::handle dy_, nb::handle argmax_, nb::handle out_, Pair size, Pair stride, Pair padding) {
  Arguments arguments("max_pool_backward");
  const Array& dy = arguments.array("dy", dy_);
  const Array& out = arguments.typed(dy, "out", out_, Access::write);
  out.expect_dimensions(3, kPlanes);
  const Planes planes{1, 1, out.size(0), out.size(1), out.size(2)};
  const Windows windows = arguments.windows(planes, size, stride, padding);
  arguments.expect_small(windows);
  arguments.expect_met(planes, windows);
  dy.expect_shape({planes.channels, windows.rows.count, windows.columns.count});
  const unsigned char* const given = arguments.argmax(dy, argmax_, Access::read);
  // A copy of its own is judged and used: another thread may write to the caller's meanwhile.
  const std::vector<unsigned char> indices(given, given + dy.size(0) * dy.size(1) * dy.size(2));
  const unsigned char* const argmax = indices.data();
  if (!all_inside(argmax, planes, windows))
    throw nb::value_error(
        "max_pool_backward: expected argmax inside its window and the image, got one outside. "
        "Pass the one that max_pool_forward wrote.");
  arguments.run(dy, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.max_pool_backward(dy.data<T>(), argmax, out.data<T>(), planes, windows);
  });
}

}  // namespace

void bind_windows(nb::module_& m) {
  using namespace nb::literals;
  // None gets our own message.
  m.def("im2col", im2col, "x"_a.none(), "out"_a.none(), "stride"_a, "padding"_a);
  m.def("col2im", col2im, "columns"_a.none(), "out"_a.none(), "stride"_a, "padding"_a);
  m.def("max_pool_forward", max_pool_forward, "x"_a.none(), "out"_a.none(), "argmax"_a.none(), "size"_a,
        "stride"_a, "padding"_a);
  m.def("max_pool_backward", max_pool_backward, "dy"_a.none(), "argmax"_a.none(), "out"_a.none(), "size"_a,
        "stride"_a, "padding"_a);
}

}  // namespace xhat
