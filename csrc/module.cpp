// The Python module xhat._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "array.hpp"
#include "bindings.hpp"
#include "parallel.hpp"
#include "variants.hpp"

NB_MODULE(_native, m) {
  xhat::import_numpy();
  m.def("variants", xhat::variants);
  m.def("use", xhat::use);
  m.def("set_num_threads", xhat::set_num_threads);
  m.def("get_num_threads", xhat::get_num_threads);
  xhat::bind_fused(m);
  xhat::bind_losses(m);
  xhat::bind_memory(m);
  xhat::bind_norms(m);
  xhat::bind_small(m);
  xhat::bind_windows(m);
  xhat::bind_copying(m);
  xhat::bind_updates(m);
}
