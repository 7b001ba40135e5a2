// Which of the compiled variants runs here.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace xhat {

std::vector<std::string> variants();    // that can run on this machine, slowest first
void use(const std::string& name);      // for the whole process; raises ValueError for another name
const Variant& variant_in_use();

}  // namespace xhat
