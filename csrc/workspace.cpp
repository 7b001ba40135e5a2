#include "workspace.hpp"

#include <new>

namespace xhat {
namespace {

constexpr std::align_val_t kCacheLine{64};

}  // namespace

Workspace::Workspace(Index size)
    : data_(static_cast<double*>(::operator new(static_cast<std::size_t>(size) * sizeof(double), kCacheLine))) {}

Workspace::~Workspace() { ::operator delete(data_, kCacheLine); }

}  // namespace xhat
