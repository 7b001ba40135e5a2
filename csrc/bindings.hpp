// What each room of the native module offers to Python.
#pragma once

#include <nanobind/nanobind.h>

namespace xhat {

void bind_losses(nanobind::module_& m);
void bind_norms(nanobind::module_& m);
void bind_windows(nanobind::module_& m);

}  // namespace xhat
