// What each room of the native module offers to Python.
#pragma once

#include <nanobind/nanobind.h>

namespace xhat {

void bind_fused(nanobind::module_& m);
void bind_losses(nanobind::module_& m);
void bind_memory(nanobind::module_& m);
void bind_norms(nanobind::module_& m);
void bind_small(nanobind::module_& m);
void bind_windows(nanobind::module_& m);
void bind_copying(nanobind::module_& m);
void bind_updates(nanobind::module_& m);

}  // namespace xhat
