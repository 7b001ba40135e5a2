#include "variants.hpp"

#include <nanobind/nanobind.h>

#include <atomic>

namespace nb = nanobind;

namespace xhat {
namespace {

std::vector<const Variant*> available() {
  std::vector<const Variant*> result{&baseline::variant};
#ifdef XHAT_X86
  if (!__builtin_cpu_supports("f16c")) return result;
  if (__builtin_cpu_supports("avx2")) result.push_back(&avx2::variant);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    result.push_back(&avx512::variant);
#endif
  return result;
}

std::atomic<const Variant*> in_use{&baseline::variant};

}  // namespace

std::vector<std::string> variants() {
  std::vector<std::string> names;
  for (const Variant* variant : available()) names.emplace_back(variant->name);
  return names;
}

void use(const std::string& name) {
  for (const Variant* variant : available())
    if (name == variant->name) return in_use.store(variant);
  throw nb::value_error(("use: expected a name from variants(), got '" + name + "'. Choose one of them.").c_str());
}

const Variant& variant_in_use() { return *in_use.load(); }

}  // namespace xhat
