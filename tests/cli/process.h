// Runs the command as a user does, in a process of its own.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tenon/base/file.h"

extern char** environ;

namespace tenon::cli {

struct Finished {
  int code = -1;  // exit code; minus the signal's number if a signal ended it
  std::string out;
  std::string err;
};

// `poke` is called with the process's id every 10 ms until it returns true or the process ends.
inline Finished run_process(const std::vector<std::string>& words, const std::string& scratch,
                            const std::function<bool(pid_t)>& poke = {}, const std::string& program = TENON_COMMAND) {
  std::vector<std::string> all{program};
  all.insert(all.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (auto& word : all) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::filesystem::create_directories(scratch);
  const std::string out = scratch + "/stdout", err = scratch + "/stderr";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  pid_t pid = 0;
  Finished finished;
  if (posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ) != 0) return finished;
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  bool poked = !poke;
  while (waitpid(pid, &status, poked ? 0 : WNOHANG) == 0) {
    poked = poke(pid);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  finished.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  finished.out = read_text_file(out);
  finished.err = read_text_file(err);
  return finished;
}

}  // namespace tenon::cli
