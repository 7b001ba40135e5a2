// Puts the thread pool to the test without Python: prints "ok" or says what went wrong. "nofork" leaves fork out.
#include <signal.h>
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

// Each piece waits until a second thread has come.
void others_help() {
  std::atomic<int> arrived{0};
  alarm(20);    // if none comes, a signal ends the process
  xhat::parallel_for(64, 1, [&](Index, Index) {
    for (++arrived; arrived < 2;) std::this_thread::yield();
  });
  alarm(0);
}

// The pieces of one caller wait until another caller, who finds the pool in use, is done.
void nobody_waits_for_the_pool() {
  std::atomic<bool> started{false}, done{false};
  alarm(20);
  std::thread other([&] {
    while (!started) std::this_thread::yield();
    each_item_once(300, 1);
    done = true;
  });
  xhat::parallel_for(64, 1, [&](Index, Index) {
    for (started = true; !done;) std::this_thread::yield();
  });
  other.join();
  alarm(0);
}

// Sent to the process while the only other thread blocks it: a thread of the pool that took it would end the process.
void signals_are_left_alone() {
  sigset_t user, pending;
  sigemptyset(&user);
  sigaddset(&user, SIGUSR1);
  others_help();    // there are threads
  pthread_sigmask(SIG_BLOCK, &user, nullptr);
  kill(getpid(), SIGUSR1);
  each_item_once(64, 1);
  sigpending(&pending);
  expect(sigismember(&pending, SIGUSR1) == 1, "a thread of the pool took a signal");
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
      others_help();
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
  others_help();
  nobody_waits_for_the_pool();
  exceptions();
  many_callers();
  xhat::set_num_threads(4);
  if (argc < 2 || std::strcmp(argv[1], "nofork") != 0) fork_while_others_compute();
  signals_are_left_alone();
  std::puts("ok");
}
