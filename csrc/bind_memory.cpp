// Memory as Python sees it: an object that others look into, and that gives its block back at its end.
#include <nanobind/nanobind.h>

#include "bindings.hpp"
#include "memory.hpp"

namespace nb = nanobind;

namespace xhat {
namespace {

class Buffer {
 public:
  explicit Buffer(std::size_t size) : size_(size), block_(take_memory(size)) {}
  ~Buffer() { give_memory(block_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return block_.data; }
  std::size_t size() const { return size_; }

 private:
  const std::size_t size_;
  const Block block_;
};

int show(PyObject* self, Py_buffer* view, int flags) {
  if (!nb::inst_ready(self)) {    // made by __new__ alone
    PyErr_SetString(PyExc_BufferError, "Buffer: expected a buffer of some size, got none. Call Buffer(size).");
    return -1;
  }
  const Buffer& buffer = *nb::inst_ptr<Buffer>(self);
  return PyBuffer_FillInfo(view, self, buffer.data(), static_cast<Py_ssize_t>(buffer.size()), 0, flags);
}

PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(show)}, {0, nullptr}};

nb::tuple held() {
  const MemoryHeld now = memory_held();
  return nb::make_tuple(now.used, now.idle);
}

}  // namespace

void bind_memory(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<Buffer>(m, "Buffer", nb::type_slots(slots), nb::is_final()).def(nb::init<std::size_t>(), "size"_a);
  m.def("set_idle_memory", set_idle_memory, "limit"_a);
  m.def("get_idle_memory", get_idle_memory);
  m.def("memory_held", held);
}

}  // namespace xhat
