// Runs the loops of one variant on numbers made here and prints a hash of the bits of each result. What it prints
// must be the same whatever it was compiled for. `make arm` compares ARM with this machine.
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels.hpp"

using namespace xhat;

namespace {

// A random number in [-2, 2), a multiple of 2^-13: the same on every machine.
class Numbers {
 public:
  double next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 50) * 0x1p-12 - 2;
  }

 private:
  unsigned long long state_ = 1;
};

// The bits of a number in [-2, 2) as each type has them; every other one of 16 bits is small, some are subnormal.
void set(float& to, double number) { to = static_cast<float>(number); }
void set(double& to, double number) { to = number; }
void set(Half& to, double number) {
  const int pattern = static_cast<int>((number + 2) * 0x1p12);    // 14 bits
  to.bits = static_cast<unsigned short>((pattern & 1) << 15 | (pattern & 2 ? 0x3000 : 0) | (pattern >> 2));
}
void set(BFloat16& to, double number) {
  const float narrow = static_cast<float>(number);
  unsigned bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  to.bits = static_cast<unsigned short>(bits >> 16);
}

template <class T>
std::vector<T> some(Numbers& numbers, Index size) {
  std::vector<T> result(static_cast<std::size_t>(size));
  for (T& one : result) set(one, numbers.next());
  return result;
}

template <class T>
void print(const char* what, const std::vector<T>& values) {
  unsigned long long hash = 14695981039346656037u;
  const auto* const bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (std::size_t i = 0; i < values.size() * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
  std::printf("  %s %016llx\n", what, hash);
}

struct Room {
  explicit Room(Index n) : mean(n), mean_low(n), var(n), rstd(n), dgamma(n), dbeta(n) {}

  Statistics statistics() { return {mean.data(), mean_low.data(), var.data(), rstd.data()}; }
  Centre centre() const { return {mean.data(), mean_low.data(), rstd.data()}; }

  void print_all() const {
    print("mean", mean);
    print("mean_low", mean_low);
    print("var", var);
    print("rstd", rstd);
    print("dgamma", dgamma);
    print("dbeta", dbeta);
  }

  std::vector<double> mean, mean_low, var, rstd, dgamma, dbeta;
};

template <class T>
void rows(const NormKernels<T>& kernels, Index rows, Index columns, Index groups, Index entries) {
  Numbers numbers;
  const auto x = some<T>(numbers, rows * columns), dy = some<T>(numbers, rows * columns);
  const auto gamma = some<double>(numbers, groups * entries), beta = some<double>(numbers, groups * entries);
  std::vector<T> out(x.size());
  for (const bool centred : {true, false}) {
    Room room(rows > groups * entries ? rows : groups * entries);
    const RowsShape shape{rows, columns, groups, entries};
    kernels.rows_forward(x.data(), gamma.data(), beta.data(), 1e-5, centred, out.data(), room.statistics(), shape);
    print("rows_forward", out);
    kernels.rows_backward(dy.data(), x.data(), gamma.data(), room.centre(), centred, out.data(), room.dgamma.data(),
                          room.dbeta.data(), shape);
    print("rows_backward", out);
    room.print_all();
  }
}

template <class T>
void channels(const NormKernels<T>& kernels, Index outer, Index count, Index inner) {
  Numbers numbers;
  const ChannelsShape shape{outer, count, inner};
  const auto x = some<T>(numbers, outer * count * inner), dy = some<T>(numbers, outer * count * inner);
  const auto gamma = some<double>(numbers, count), beta = some<double>(numbers, count);
  auto entries = some<double>(numbers, outer * inner);
  double total = 0;
  for (double& entry : entries) {
    entry = entry < 0 ? 0 : entry;
    total += entry;
  }
  std::vector<T> out(x.size());
  for (const Weights weights : {Weights{nullptr, static_cast<double>(outer * inner)}, Weights{entries.data(), total}}) {
    Room room(count);
    double *const dgamma = room.dgamma.data(), *const dbeta = room.dbeta.data();
    kernels.channels_statistics(x.data(), weights, 1e-5, room.statistics(), shape);
    room.print_all();
    kernels.channels_forward(x.data(), weights, gamma.data(), beta.data(), 1e-5, out.data(), room.statistics(), shape);
    print("channels_forward", out);
    kernels.channels_backward(dy.data(), x.data(), weights, gamma.data(), room.centre(), out.data(), dgamma, dbeta,
                              shape);
    print("channels_backward", out);
    room.print_all();
    kernels.channels_apply(x.data(), weights, gamma.data(), beta.data(), room.centre(), out.data(), shape);
    print("channels_apply", out);
    kernels.channels_apply_backward(dy.data(), x.data(), weights, gamma.data(), room.centre(), out.data(), dgamma,
                                    dbeta, shape);
    print("channels_apply_backward", out);
    kernels.channels_sums(dy.data(), x.data(), weights, room.centre(), dgamma, dbeta, shape);
    kernels.channels_gradient(dy.data(), x.data(), weights, gamma.data(), room.centre(), dgamma, dbeta, out.data(),
                              shape);
    print("channels_gradient", out);
    room.print_all();
  }
}

// Every pattern of a type of 16 bits as it is read, and numbers around it as they are written.
template <class T>
void patterns(const NormKernels<T>& kernels) {
  constexpr Index n = 65536;
  const ChannelsShape shape{1, n, 1};
  std::vector<T> all(n), minus_zero(n), out(n);
  std::vector<double> zeros(n), ones(n, 1.0), read(n), sums(n), near(n);
  for (Index i = 0; i < n; ++i) {
    all[static_cast<std::size_t>(i)].bits = static_cast<unsigned short>(i);
    minus_zero[static_cast<std::size_t>(i)].bits = 0x8000;
  }
  kernels.channels_sums(all.data(), minus_zero.data(), {nullptr, 1}, {zeros.data(), nullptr, ones.data()}, sums.data(),
                        read.data(), shape);
  for (double& number : read)
    if (number != number) number = 0;    // the sign of NaN is the machine's
  print("read", read);
  for (std::size_t i = 0; i < read.size(); ++i)
    if (static_cast<double>(all[i]) == static_cast<double>(all[i]) && static_cast<double>(all[i]) != read[i])
      std::printf("  pattern %zu is read as %g\n", i, read[i]);
  const double upper = 1 + 0x1p-8;    // between two numbers, for a BFloat16
  for (const double factor : {1.0, 1 + 0x1p-11, 1 - 0x1p-12, upper, upper + 0x1p-40, upper - 0x1p-52}) {
    for (std::size_t i = 0; i < read.size(); ++i) near[i] = read[i] * factor;
    kernels.channels_apply(minus_zero.data(), {nullptr, 1}, nullptr, near.data(),
                           {zeros.data(), nullptr, ones.data()}, out.data(), shape);
    print("written", out);
  }
}

template <class T>
void every(const char* type, const NormKernels<T>& kernels) {
  std::printf("%s\n", type);
  rows(kernels, 3, 1, 1, 1);
  rows(kernels, 37, 1025, 1, 1025);
  rows(kernels, 6, 35, 2, 5);
  rows(kernels, 9, 129, 3, 1);
  rows(kernels, 2, 140'001, 1, 140'001);
  channels(kernels, 2, 3, 1);
  channels(kernels, 131, 17, 1);
  channels(kernels, 5, 3, 31);
  channels(kernels, 3, 5, 1031);
  channels(kernels, 2, 2, 70'001);
}

}  // namespace

int main() {
  const Variant& variant = baseline::variant;
  every("float32", variant.float32);
  every("float64", variant.float64);
  every("float16", variant.float16);
  every("bfloat16", variant.bfloat16);
  patterns(variant.float16);
  patterns(variant.bfloat16);
}
