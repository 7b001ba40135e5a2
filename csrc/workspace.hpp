// Memory for intermediate results, aligned to a cache line. Its contents are not set.
#pragma once

#include "kernels.hpp"

namespace xhat {

class Workspace {
 public:
  explicit Workspace(Index size);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  double* data() const { return data_; }

 private:
  double* data_;
};

}  // namespace xhat
