// Dropout and the losses, as Python calls them.
#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

void dropout(nb::handle x_, unsigned long long key, double rate, nb::handle out_) {
  Arguments arguments("dropout");
  const Array& x = arguments.array("x", x_);
  const Array& out = arguments.like(x, "out", out_, Access::write);
  const Dropping dropping = arguments.dropping(key, rate);
  arguments.run(x, [&](const auto& kernels, auto zero) {
    using T = decltype(zero);
    kernels.dropout(x.data<T>(), dropping, out.data<T>(), x.bytes() / static_cast<Index>(sizeof(T)));
  });
}

}  // namespace

void bind_losses(nb::module_& m) {
  using namespace nb::literals;
  // None gets our own message.
  m.def("dropout", dropout, "x"_a.none(), "key"_a, "rate"_a, "out"_a.none());
}

}  // namespace xhat
