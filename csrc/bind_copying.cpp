// The copy, as Python calls it.
#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

void copy(nb::handle x_, nb::handle out_) {
  Arguments arguments("copy");
  const Array& x = arguments.x(x_, 1, "(size,)");
  const Array& out = arguments.like(x, "out", out_, Access::write);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.copy(x.data<T>(), out.data<T>(), x.size(0));
  });
}

}  // namespace

void bind_copying(nb::module_& m) {
  using namespace nb::literals;
  m.def("copy", copy, "x"_a.none(), "out"_a.none());
}

}  // namespace xhat
