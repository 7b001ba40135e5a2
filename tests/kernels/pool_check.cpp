// Puts the thread pool to the test without Python: prints "ok" or says what went wrong. "nofork" leaves fork out.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include "parallel.hpp"

using xhat::Index;

namespace {

void expect(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "%s\n", what);
  std::_Exit(1);
}

void each_item_once(Index count, Index grain) {
  std::vector<int> visits(static_cast<std::size_t>(count));
  xhat::parallel_for(count, grain, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i) ++visits[static_cast<std::size_t>(i)];
  });
  for (const int n : visits) expect(n == 1, "an item was left out or done twice");
}

void nested() {
  std::atomic<Index> total{0};
  xhat::parallel_for(40, 1, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i)
      xhat::parallel_for(50, 1, [&](Index from, Index to) { total += to - from; });
  });
  expect(total == 40 * 50, "nested loops lost items");
}

void exceptions() {
  for (int round = 0; round < 200; ++round) {
    bool caught = false;
    try {
      xhat::parallel_for(64, 1, [&](Index first, Index last) {
        for (Index i = first; i < last; ++i)
          if (i % 7 == round % 7) throw std::runtime_error("on purpose");
      });
    } catch (const std::runtime_error& error) {
      caught = std::strcmp(error.what(), "on purpose") == 0;
    }
    expect(caught, "an exception of a body did not reach the caller");
    each_item_once(64, 1);
  }
}

void many_callers() {
  std::vector<std::thread> callers;
  for (int c = 0; c < 8; ++c)
    callers.emplace_back([c] {
      for (int round = 0; round < 100; ++round) {
        if (c == 0) xhat::set_num_threads(1 + round % 6);
        each_item_once(300, 1 + c);
      }
    });
  for (std::thread& caller : callers) caller.join();
}

void fork_while_others_compute() {
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      while (!stop) each_item_once(300, 1);
    });
  for (int round = 0; round < 50; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);    // a hang ends the child with a signal
      each_item_once(300, 1);
      nested();
      std::_Exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    expect(status == 0, "a forked child hung or failed");
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
}

}  // namespace

int main(int argc, char** argv) {
  for (const int threads : {1, 2, 3, 5, 16, 2}) {
    xhat::set_num_threads(threads);
    for (const Index count : {0, 1, 2, 3, 7, 64, 1000})
      for (const Index grain : {1, 2, 64, 5000}) each_item_once(count, grain);
  }
  xhat::set_num_threads(4);
  nested();
  exceptions();
  many_callers();
  xhat::set_num_threads(4);
  if (argc < 2 || std::strcmp(argv[1], "nofork") != 0) fork_while_others_compute();
  std::puts("ok");
}
