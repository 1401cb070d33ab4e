// Hosts of network namespaces: their links are as slow as asked for, and nothing is left of them.
#include "runtime/launch/namespaces.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <vector>

#include "tests/data/temporary_folder.h"
#include "tests/launch/namespace_support.h"

namespace memwall {
namespace {

TEST(LinkRate, IsInBitsASecond) {
  EXPECT_EQ(parse_link_rate("100mbit"), 100'000'000);
  EXPECT_EQ(parse_link_rate("2.5gbit"), 2'500'000'000);
  EXPECT_EQ(parse_link_rate("64kbit"), 64'000);
  for (const char* wrong : {"", "100", "0mbit", "-1gbit", "100mbps", "mbit", "1e9gbit", "nangbit",
                            "100 mbit", "1kbit"}) {
    expect_input_error([&] { parse_link_rate(wrong); }, {"--link", "no rate of a link"});
  }
}

class Namespaces : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why = test::no_namespaces();
    if (!why.empty()) GTEST_SKIP() << why;
  }
  const TemporaryFolder folder;
  const ProcessGuard guard;
};

void enter(const std::string& name) {
  const int fd = ::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) ::_exit(10);
}

sockaddr_in address_of(int64_t host) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(5001);
  ::inet_pton(AF_INET, NamespaceHosts::address(host).c_str(), &out.sin_addr);
  return out;
}

// A process in host 2 that takes one connection and reads it to its end.
pid_t start_reader(const NamespaceHosts& hosts) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  enter(hosts.name(2));
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in here = address_of(2);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof(here)) != 0) ::_exit(11);
  ::listen(listener, 1);
  const int connection = ::accept(listener, nullptr, nullptr);
  std::vector<char> buffer(1 << 16);
  while (::read(connection, buffer.data(), buffer.size()) > 0) {
  }
  ::_exit(0);
}

// A process in host 1 that sends so many bytes there.
pid_t start_writer(const NamespaceHosts& hosts, size_t bytes) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  enter(hosts.name(1));
  const sockaddr_in there = address_of(2);
  for (int attempt = 0; attempt < 100; ++attempt) {
    const int connection = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(connection, reinterpret_cast<const sockaddr*>(&there), sizeof(there)) == 0) {
      const std::vector<char> data(bytes);
      for (size_t sent = 0; sent < bytes;) {
        const ssize_t n = ::write(connection, data.data() + sent, bytes - sent);
        if (n <= 0) ::_exit(12);
        sent += static_cast<size_t>(n);
      }
      ::_exit(0);
    }
    ::close(connection);
    ::usleep(20'000);
  }
  ::_exit(13);
}

int exit_code_of(pid_t pid) {
  int status = -1;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(Namespaces, HaveLinksOfTheRateAskedFor) {
  constexpr size_t kBytes = 5'000'000;
  const NamespaceHosts hosts(2, parse_link_rate("100mbit"), folder.at(""));
  const int64_t before = hosts.sent_bytes(1);
  const auto start = std::chrono::steady_clock::now();
  const pid_t reader = start_reader(hosts), writer = start_writer(hosts, kBytes);
  EXPECT_EQ(exit_code_of(writer), 0);
  EXPECT_EQ(exit_code_of(reader), 0);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  // 40 Mbit take 0.4 s, less the 128 KiB that pass at once, and TCP's headers more.
  EXPECT_GT(taken.count(), 0.38);
  EXPECT_LT(taken.count(), 1.5);
  const int64_t sent = hosts.sent_bytes(1) - before;
  EXPECT_GT(sent, static_cast<int64_t>(kBytes));
  EXPECT_LT(sent, static_cast<int64_t>(1.06 * kBytes));
}

// The hosts are another process's, so that what runs in them is no child of their maker's.
TEST(NamespacesOfAnother, AreGoneAfterwardsWithWhatRanInThem) {
  const std::string why = test::no_namespaces();
  if (!why.empty()) GTEST_SKIP() << why;
  const TemporaryFolder folder;
  int made[2], done[2];
  ASSERT_EQ(::pipe(made) + ::pipe(done), 0);
  char byte = 0;
  const pid_t maker = ::fork();
  if (maker == 0) {
    const ProcessGuard guard;
    const NamespaceHosts hosts(2, 1'000'000'000, folder.at(""));
    (void)!::write(made[1], &byte, 1);
    (void)!::read(done[0], &byte, 1);
  }
  if (maker == 0) ::_exit(0);
  ASSERT_EQ(::read(made[0], &byte, 1), 1);
  EXPECT_EQ(test::namespaces_of(maker).size(), 3u);  // and the switch
  EXPECT_EQ(folder.files(), std::vector<std::string>{"reach-host.sh"});
  const pid_t sleeper = ::fork();
  if (sleeper == 0) {
    enter("memwall-" + std::to_string(maker) + "-2");
    ::pause();
    ::_exit(0);
  }
  ::usleep(100'000);
  EXPECT_EQ(::waitpid(sleeper, nullptr, WNOHANG), 0);  // it is there, and waits
  ASSERT_EQ(::write(done[1], &byte, 1), 1);
  EXPECT_EQ(exit_code_of(maker), 0);
  EXPECT_TRUE(test::namespaces_of(maker).empty());
  EXPECT_TRUE(folder.files().empty());
  int status = 0;
  ASSERT_EQ(::waitpid(sleeper, &status, 0), sleeper);
  EXPECT_TRUE(WIFSIGNALED(status));
}

TEST_F(Namespaces, OfAProcessThatIsGoneAreRemoved) {
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  const std::string left = "memwall-" + std::to_string(gone) + "-1";
  const std::string ours = "memwall-" + std::to_string(::getpid()) + "-7";
  const std::string other = "memwallish-" + std::to_string(gone) + "-1";
  for (const std::string& name : {left, ours, other}) {
    ASSERT_TRUE(run_and_read({{"ip", "netns", "add", name}, {}}).ended.ok());
  }
  const std::vector<std::string> removed = remove_abandoned_namespaces();
  EXPECT_NE(std::find(removed.begin(), removed.end(), left), removed.end());
  EXPECT_FALSE(std::filesystem::exists("/run/netns/" + left));
  for (const std::string& name : {ours, other}) {
    EXPECT_TRUE(std::filesystem::exists("/run/netns/" + name)) << name;
    run_and_read({{"ip", "netns", "delete", name}, {}});
  }
}

TEST_F(Namespaces, AreAtMostTwoHundredAndFifty) {
  expect_input_error([&] { NamespaceHosts(251, 1'000'000'000, folder.at("")); }, {"251 hosts"});
  EXPECT_TRUE(test::namespaces_of(::getpid()).empty());
}

}  // namespace
}  // namespace memwall
