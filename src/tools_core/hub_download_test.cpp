// Downloads from a server that misbehaves.
#include <random>

#include "tools_core/hub_fixture.h"

namespace fr::test {
namespace {

using HubDownload = HubTest;

void expect_error(const Result<HubModel>& got, ErrorCode code, const std::string& part) {
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, code) << got.error().message;
  EXPECT_NE(got.error().message.find(part), std::string::npos) << got.error().message;
  EXPECT_EQ(got.error().message.find('\n'), std::string::npos);
}

TEST_F(HubDownload, PutsTheFileWhereOtherProgramsLook) {
  const auto got = pull_file();
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->path, pointer());
  EXPECT_EQ(got->received, content.size());
  EXPECT_EQ(read(pointer()), content);
  EXPECT_EQ(std::filesystem::read_symlink(pointer()), "../../blobs/" + sha256_of(content));
  EXPECT_EQ(read(root() + "/refs/main"), HubServer::commit_id);
  EXPECT_TRUE(exists(settings.cache + "/.locks/models--org--model/" + sha256_of(content) + ".lock"));
  EXPECT_FALSE(exists(partial()));
}

TEST_F(HubDownload, TheSecondTimeNothingIsDownloaded) {
  ASSERT_TRUE(pull_file().ok());
  const auto again = pull_file();
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->path, pointer());
  EXPECT_EQ(again->received, 0u);
  EXPECT_EQ(server.bytes_sent("model.pth"), content.size());
}

TEST_F(HubDownload, ADropIsResumedWhereItHappened) {
  server.set({.drop_after = 90000, .drops = 3});
  const auto got = pull_file();
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(read(pointer()), content);
  int ranges = 0;
  for (const Request& r : server.requests()) ranges += r.headers.contains("range") ? 1 : 0;
  EXPECT_GE(ranges, 3);
  EXPECT_LT(got->received, content.size() + 1);  // no byte twice
}

TEST_F(HubDownload, ManyDropsThatMakeProgressAreNoFailure) {
  settings.limits.tries = 2;
  server.set({.drop_after = 50000, .drops = 7});
  const auto got = pull_file();
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(read(pointer()), content);
}

TEST_F(HubDownload, DropsWithoutProgressEndAsANetworkError) {
  server.set({.drop_after = 0, .drops = 1000});
  expect_error(pull_file(), ErrorCode::network, server.endpoint());
  int gets = 0;
  for (const Request& r : server.requests())
    gets += r.method == "GET" && r.target.starts_with("/cdn/") ? 1 : 0;
  EXPECT_EQ(gets, settings.limits.tries);
  expect_nothing(true);
}

TEST_F(HubDownload, AServerThatIgnoresTheRangeStartsOver) {
  server.set({.drop_after = 300000, .drops = 1, .ignore_range = true});
  const auto got = pull_file();
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(read(pointer()), content);
}

// Otherwise the part would grow and shrink for ever.
TEST_F(HubDownload, AServerThatIgnoresTheRangeAndDropsIsGivenUp) {
  server.set({.drop_after = 300000, .drops = 1000, .ignore_range = true});
  expect_error(pull_file(), ErrorCode::network, server.endpoint());
  expect_nothing(true);
}

TEST_F(HubDownload, AnotherRangeThanAskedForIsRefused) {
  server.set({.drop_after = 300000, .drops = 1, .range_shift = -1000});
  expect_error(pull_file(), ErrorCode::network, "sends another part");
  expect_nothing(true);
}

TEST_F(HubDownload, AWrongLengthIsRefused) {
  for (const std::int64_t wrong : {-5, 5}) {
    for (const bool chunked : {false, true}) {
      server.set({.length_error = wrong, .chunked = chunked});
      expect_error(pull_file(), ErrorCode::invalid_file, "bytes");
      expect_nothing(false);
    }
  }
}

TEST_F(HubDownload, AWrongChecksumIsRefused) {
  server.set({.flip_byte = true});
  expect_error(pull_file(), ErrorCode::invalid_file, "checksum");
  expect_nothing(false);
  server.set({});
  ASSERT_TRUE(pull_file().ok());
}

TEST_F(HubDownload, APartOfAnotherFileIsNoticed) {
  std::filesystem::create_directories(root() + "/blobs");
  std::ofstream(partial()) << "not the beginning of this file";
  expect_error(pull_file(), ErrorCode::invalid_file, "checksum");
  expect_nothing(false);
  std::ofstream(partial()) << content << "more than all of it";
  const auto got = pull_file();
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(read(pointer()), content);
}

TEST_F(HubDownload, ACompletePartNeedsNoDownload) {
  std::filesystem::create_directories(root() + "/blobs");
  std::ofstream(partial()) << content;
  const auto got = pull_file();
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->received, 0u);
  EXPECT_EQ(read(pointer()), content);
}

TEST_F(HubDownload, AStalledConnectionIsReplaced) {
  settings.limits.stall = std::chrono::milliseconds(100);
  server.set({.stall_ms = 20000, .stalls = 1});
  const auto start = std::chrono::steady_clock::now();
  const auto got = pull_file();
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(read(pointer()), content);
  server.add("other.pth", random_bytes(2, 100000));
  server.set({.stall_ms = 20000, .stalls = 1000});
  settings.limits.tries = 2;
  expect_error(pull({"org/model", "main", "other.pth"}, settings), ErrorCode::network, "stalled");
}

TEST_F(HubDownload, ASlowServerIsFine) {
  server.set({.stall_ms = 150, .stalls = 1});
  ASSERT_TRUE(pull_file().ok());
  EXPECT_EQ(server.bytes_sent("model.pth"), content.size());
}

TEST_F(HubDownload, ServerFaultsPass) {
  server.set({.status_500 = 3});
  ASSERT_TRUE(pull_file().ok());
  server.set({.status_500 = 1000});
  expect_error(pull_file(), ErrorCode::network, "503");
}

TEST_F(HubDownload, NoServerIsANetworkError) {
  settings.endpoint = "http://127.0.0.1:1";
  expect_error(pull_file(), ErrorCode::network, "127.0.0.1");
}

TEST_F(HubDownload, RefusalsAreNotRepeatedAndSayWhatToDo) {
  struct Case {
    int status;
    const char *code, *part;
  };
  for (const auto& [status, code, part] :
       {Case{401, "GatedRepo", "HF_TOKEN"}, Case{401, "RepoNotFound", "HF_TOKEN"}, Case{403, "", "HF_TOKEN"},
        Case{404, "RepoNotFound", "no repository org/model"},
        Case{404, "RevisionNotFound", "no revision main"}, Case{429, "", "wait 7 seconds"},
        Case{418, "", "status 418"}}) {
    server.set({.status = status, .error_code = code});
    const std::size_t before = server.requests().size();
    expect_error(pull({"org/model", "main", ""}, settings), ErrorCode::network, part);
    EXPECT_EQ(server.requests().size(), before + 1) << status;
  }
}

TEST_F(HubDownload, AMissingFileGetsSuggestions) {
  server.add("something-else.bin", "x");
  expect_error(pull({"org/model", "main", "modle.pth"}, settings), ErrorCode::network,
               "one of model.pth, something-else.bin");
}

TEST_F(HubDownload, TheTokenStaysWithTheEndpoint) {
  HubServer other;
  other.add("model.pth", content);
  settings.token = "hf_secret";
  server.set({.redirect_base = other.endpoint()});
  ASSERT_TRUE(pull_file().ok());
  for (const Request& r : server.requests()) EXPECT_EQ(r.headers.at("authorization"), "Bearer hf_secret");
  ASSERT_EQ(other.requests().size(), 1u);
  EXPECT_FALSE(other.requests()[0].headers.contains("authorization"));
  EXPECT_EQ(other.bytes_sent("model.pth"), content.size());
}

TEST_F(HubDownload, RedirectsToNowhereAreRefused) {
  for (const std::string& base : {std::string("file://"), std::string("ftp://127.0.0.1"),
                                  server.endpoint() + "/org/model/resolve/main/model.pth?again="}) {
    server.set({.redirect_base = base});
    expect_error(pull_file(), ErrorCode::network, "redirect");
  }
  EXPECT_LT(server.requests().size(), 30u);
}

TEST_F(HubDownload, NotEnoughSpaceIsSaidBefore) {
  server.set({.linked_size = std::uint64_t{1} << 60});
  expect_error(pull_file(), ErrorCode::runtime, "not enough space");
  EXPECT_EQ(server.bytes_sent("model.pth"), 0u);
}

}  // namespace
}  // namespace fr::test
