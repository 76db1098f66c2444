// SPDX-License-Identifier: GPL-2.0-only
#include "step.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace nemesis {

namespace {

constexpr int kNotStarted = 127;
constexpr int kSignalled = 128;

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    close();
    number_ = std::exchange(other.number_, -1);
    return *this;
  }
  ~Descriptor() { close(); }
  [[nodiscard]] int number() const { return number_; }
  void close() {
    if (number_ >= 0) ::close(number_);
    number_ = -1;
  }

 private:
  int number_ = -1;
};

struct Pipe {
  Descriptor read;
  Descriptor write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return Error{errno, "pipe2"};
  Pipe made;
  made.read = Descriptor(ends[0]);
  made.write = Descriptor(ends[1]);
  return made;
}

[[noreturn]] void become(std::span<char* const> command, const Pipe& out, const Pipe& err) {
  const Descriptor nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
  dup2(nothing.number(), STDIN_FILENO);
  dup2(out.write.number(), STDOUT_FILENO);
  dup2(err.write.number(), STDERR_FILENO);
  std::vector<char*> words(command.begin(), command.end());
  words.push_back(nullptr);
  execvp(words[0], words.data());
  // cppcheck-suppress invalidFunctionArg
  dprintf(STDERR_FILENO, "%s: %s\n", words[0], std::strerror(errno));
  _exit(kNotStarted);
}

/// What comes out of both, until the command itself has ended: what it leaves behind, a daemon, may
/// keep them open.
Status drain(Pipe& out, Pipe& err, const Descriptor& child, Step& step) {
  std::array<char, 4096> buffer{};
  bool ended = false;
  for (;;) {
    std::array<pollfd, 3> sources{{{out.read.number(), POLLIN, 0},
                                   {err.read.number(), POLLIN, 0},
                                   {child.number(), POLLIN, 0}}};
    if (poll(sources.data(), sources.size(), ended ? 0 : -1) < 0) {
      if (errno == EINTR) continue;
      return Error{errno, "poll"};
    }
    bool more = false;
    for (std::size_t i = 0; i < 2; ++i) {
      if (sources.at(i).revents == 0) continue;
      const ssize_t got = read(sources.at(i).fd, buffer.data(), buffer.size());
      if (got > 0) {
        (i == 0 ? step.out : step.err).append(buffer.data(), static_cast<std::size_t>(got));
        more = true;
      } else {
        (i == 0 ? out : err).read.close();
      }
    }
    if (more) continue;
    if (ended) return Done{};
    ended = sources[2].revents != 0;
  }
}

}  // namespace

Result<Step> run_step(std::span<char* const> command) {
  if (command.empty()) return Error{EINVAL, "no command"};
  auto out = make_pipe();
  auto err = make_pipe();
  if (!out) return out.error();
  if (!err) return err.error();
  const pid_t child = fork();
  if (child < 0) return Error{errno, "fork"};
  if (child == 0) become(command, *out, *err);
  out->write.close();
  err->write.close();

  Step step;
  int raw = 0;
  const Descriptor ends(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  if (ends.number() < 0) return Error{errno, "pidfd_open"};
  const Status drained = drain(*out, *err, ends, step);
  if (!drained) return drained.error();
  if (waitpid(child, &raw, 0) != child) return Error{errno, "waitpid"};
  step.status = WIFSIGNALED(raw) ? kSignalled + WTERMSIG(raw) : WEXITSTATUS(raw);
  return step;
}

std::string step_record(const std::string& name, const Step& step) {
  const nlohmann::json record = {{"type", "step"},
                                 {"name", name},
                                 {"status", step.status},
                                 {"stdout", step.out},
                                 {"stderr", step.err}};
  return record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace nemesis
