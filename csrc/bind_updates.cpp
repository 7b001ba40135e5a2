// One step of an optimizer over many parameters, as Python calls it.
#include <algorithm>
#include <deque>
#include <vector>

#include "arguments.hpp"
#include "bindings.hpp"

namespace xhat {
namespace {

constexpr char kWho[] = "update";

[[noreturn]] void raise_value(const std::string& expected) { throw nb::value_error((kWho + expected).c_str()); }

struct Named {
  const char* name;
  Rule rule;
  int slots;
};

constexpr Named kRules[] = {{"sgd", Rule::sgd, 0},
                            {"momentum", Rule::momentum, 1},
                            {"nesterov", Rule::nesterov, 1},
                            {"rmsprop", Rule::rmsprop, 1},
                            {"adam", Rule::adam, 2}};

const Named& rule_named(const std::string& name) {
  for (const Named& rule : kRules)
    if (name == rule.name) return rule;
  raise_value(": expected rule 'sgd', 'momentum', 'nesterov', 'rmsprop' or 'adam', got '" + name +
              "'. Choose one of these.");
}

// A tuple of its own, so that nobody changes it meanwhile.
nb::tuple sequence(const std::string& name, nb::handle object) {
  PyObject* const tuple = PySequence_Tuple(object.ptr());
  if (tuple) return nb::steal<nb::tuple>(tuple);
  PyErr_Clear();
  throw nb::type_error((std::string(kWho) + ": expected " + name + " as a list, got " + nb::inst_name(object).c_str() +
                        ". Pass one item for each parameter.").c_str());
}

nb::tuple sequence(const std::string& name, nb::handle object, std::size_t size) {
  nb::tuple items = sequence(name, object);
  if (items.size() == size) return items;
  raise_value(": expected " + name + " with " + std::to_string(size) + " items, got " + std::to_string(items.size()) +
              ". Make the lists fit each other and the rule.");
}

// All arrays of one call, held until it ends.
class Lists {
 public:
  Lists(const Named& rule, nb::handle parameters_, nb::handle gradients_, nb::handle memory_, nb::handle decay_) {
    const nb::tuple parameters = sequence("parameters", parameters_);
    const std::size_t count = parameters.size();
    const nb::tuple gradients = sequence("gradients", gradients_, count);
    const nb::tuple memory = sequence("memory", memory_, count);
    const nb::tuple decay = sequence("decay", decay_, count);
    // What may run Python code comes first: it could change an array whose pointer is taken already.
    std::vector<double> shares(count);
    std::vector<nb::tuple> slots_of(count);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string place = '[' + std::to_string(i) + ']';
      if (!nb::try_cast(decay[i], shares[i]))
        throw nb::type_error((std::string(kWho) + ": expected decay" + place + " as a number, got " +
                              nb::inst_name(decay[i]).c_str() + ". Give 0 for none.").c_str());
      slots_of[i] = sequence("memory" + place, memory[i], rule.slots);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::string place = '[' + std::to_string(i) + ']';
      const double share = shares[i];
      const nb::tuple& slots = slots_of[i];
      const Array& values = add("parameters" + place, parameters[i], Access::write);
      values.expect_float32_or_float64();
      const Array& gradient = add("gradients" + place, gradients[i], Access::read, &values);
      const Array* kept_of[2] = {};
      for (int slot = 0; slot < rule.slots; ++slot)
        kept_of[slot] = &add("memory" + place + '[' + std::to_string(slot) + ']', slots[slot], Access::write, &values);
      if (values.type() == Type::float32) {
        put(floats_, values, gradient, kept_of, share);
      } else {
        values.expect_float64();
        put(doubles_, values, gradient, kept_of, share);
      }
    }
  }

  // Whether nothing that is written is anything else, too.
  bool apart() const {
    struct Range {
      const char *begin, *end;
      bool written;
    };
    std::vector<Range> ranges;
    for (const Array& array : arrays_)
      if (array.bytes() > 0) {
        const char* const begin = array.data<const char>();
        ranges.push_back({begin, begin + array.bytes(), array.access() == Access::write});
      }
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    const char *end = nullptr, *written_end = nullptr;    // of all before
    for (const Range& range : ranges) {
      if (range.begin < (range.written ? end : written_end)) return false;
      end = std::max(end, range.end);
      if (range.written) written_end = std::max(written_end, range.end);
    }
    return true;
  }

  const std::vector<Parameter<float>>& floats() const { return floats_; }
  const std::vector<Parameter<double>>& doubles() const { return doubles_; }

 private:
  const Array& add(std::string name, nb::handle object, Access access, const Array* like = nullptr) {
    const std::string& kept = names_.emplace_back(std::move(name));
    const Array& array = arrays_.emplace_back(kWho, kept.c_str(), object, access);
    if (like) {
      array.expect_type_of(*like);
      array.expect_shape_of(*like);
    }
    return array;
  }

  template <class T>
  static void put(std::vector<Parameter<T>>& list, const Array& values, const Array& gradient,
                  const Array* const (&memory)[2], double decay) {
    const auto data = [](const Array* array) { return array ? array->data<T>() : nullptr; };
    const Index start = list.empty() ? 0 : list.back().start + list.back().size;
    list.push_back({values.data<T>(), gradient.data<const T>(), {data(memory[0]), data(memory[1])}, decay, start,
                    values.bytes() / static_cast<Index>(sizeof(T))});
  }

  std::deque<std::string> names_;    // their places do not change
  std::deque<Array> arrays_;
  std::vector<Parameter<float>> floats_;
  std::vector<Parameter<double>> doubles_;
};

bool update(const std::string& rule_, double rate, double kept1, double kept2, double correction, double eps,
            nb::handle parameters, nb::handle gradients, nb::handle memory, nb::handle decay) {
  const Named& rule = rule_named(rule_);
  const Lists lists(rule, parameters, gradients, memory, decay);
  if (!lists.apart()) return false;
  const Update update{rule.rule, rate, {kept1, kept2}, correction, eps};
  const Variant& variant = variant_in_use();
  without_lock([&] {
    variant.float32.update(lists.floats().data(), static_cast<Index>(lists.floats().size()), update);
    variant.float64.update(lists.doubles().data(), static_cast<Index>(lists.doubles().size()), update);
  });
  return true;
}

}  // namespace

void bind_updates(nb::module_& m) {
  using namespace nb::literals;
  // None gets our own message.
  m.def("update", update, "rule"_a, "rate"_a, "kept1"_a, "kept2"_a, "correction"_a, "eps"_a, "parameters"_a.none(),
        "gradients"_a.none(), "memory"_a.none(), "decay"_a.none());
}

}  // namespace xhat
