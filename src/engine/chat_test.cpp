#include "engine/chat.h"

#include <unistd.h>

#include "engine/test_model.h"

namespace fr {
namespace {

Chat new_chat(const ChatOptions& options = {}) {
  auto chat = Chat::make(shipped_engine(), options);
  FR_CHECK(chat.ok());
  return std::move(*chat);
}

std::string say(Chat& chat, std::string_view text, int max_tokens = 60) {
  Sampler sampler = greedy_sampler(*shipped_engine());
  GenerateOptions options;
  options.max_tokens = max_tokens;
  const auto reply = chat.send(text, sampler, options, false, {});
  EXPECT_TRUE(reply.ok()) << reply.error().message;
  return reply.ok() ? reply->text : "";
}

// What the model says to a prompt given as one text.
std::string continuation(const std::string& prompt) {
  const auto engine = shipped_engine();
  State state = new_state(engine);
  Sampler sampler = greedy_sampler(*engine);
  GenerateOptions options;
  options.stops = {"\n\n"};
  options.max_tokens = 60;
  const auto g = generate(state, encode(*engine, prompt), sampler, options, {});
  return g.ok() ? g->text.substr(1) : g.error().message;  // without the space it begins with
}

TEST(Chat, RemembersAndEqualsTheWholeConversationAsOneText) {
  Chat chat = new_chat();
  const std::string first = say(chat, "My name is Anna. I have a red kite and a blue ball.");
  const std::string second = say(chat, "What is my name?");
  EXPECT_NE(second.find("Anna"), std::string::npos) << second;
  EXPECT_EQ(second, continuation("User: My name is Anna. I have a red kite and a blue ball.\n\nAssistant: " +
                                 first + "\n\nUser: What is my name?\n\nAssistant:"));
  EXPECT_EQ(chat.turns(), 2);
}

TEST(Chat, SystemTextComesFirst) {
  Chat chat = new_chat({"world", "", "You tell stories."});
  EXPECT_EQ(say(chat, "Hello"), continuation("System: You tell stories.\n\nUser: Hello\n\nAssistant:"));
}

TEST(Chat, UndoRetryForkAndResetGoBackExactly) {
  Chat chat = new_chat();
  say(chat, "My name is Anna.");
  Chat fork = std::move(*chat.fork());
  const std::string once = say(chat, "What is my name?");
  ASSERT_TRUE(chat.undo().ok());
  EXPECT_EQ(say(chat, "What is my name?"), once);
  Sampler sampler = greedy_sampler(*shipped_engine());
  GenerateOptions options;
  options.max_tokens = 60;
  const auto again = chat.retry(sampler, options, false, {});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->text, once);
  EXPECT_EQ(say(fork, "What is my name?"), once);
  EXPECT_EQ(chat.turns(), 2);
  ASSERT_TRUE(chat.reset().ok());
  EXPECT_EQ(chat.turns(), 0);
  EXPECT_FALSE(chat.undo().ok());
  EXPECT_EQ(say(chat, "What is my name?"), continuation("User: What is my name?\n\nAssistant:"));
}

TEST(Chat, KeepsABoundedNumberOfSnapshots) {
  Chat chat = new_chat();
  for (int i = 0; i < 12; ++i) say(chat, "Hello", 3);
  for (std::size_t i = 0; i < Chat::max_snapshots; ++i) EXPECT_TRUE(chat.undo().ok()) << i;
  EXPECT_FALSE(chat.undo().ok());
}

TEST(Chat, ResumesAReplyThatALimitCut) {
  Chat whole = new_chat(), cut = new_chat();
  const std::string question = "Tell me a short story about a dog named Max.";
  const std::string expected = say(whole, question, 30);
  std::string text = say(cut, question, 11);
  Sampler sampler = greedy_sampler(*shipped_engine());
  GenerateOptions options;
  options.max_tokens = 19;
  const auto rest = cut.resume(sampler, options, false, [&](std::string_view piece) {
    text += piece;
    return true;
  });
  ASSERT_TRUE(rest.ok()) << rest.error().message;
  EXPECT_EQ(text, expected);
  EXPECT_EQ(say(cut, "Go on."), say(whole, "Go on."));
  Chat finished = new_chat();
  say(finished, "What is 17 plus 25?");
  EXPECT_FALSE(finished.resume(sampler, options, false, {}).ok()) << "that reply is complete";
}

TEST(Chat, SavedConversationsGoOn) {
  const std::string path = testing::TempDir() + "frwkv_chat_" + std::to_string(::getpid());
  Chat chat = new_chat({"world", "", "You are kind."});
  say(chat, "My name is Anna.", 5);  // cut by the limit: the last token is still to be fed
  ASSERT_TRUE(chat.save(path).ok());
  Chat other = new_chat();
  ASSERT_TRUE(other.load(path).ok());
  EXPECT_EQ(other.chat_template().name, "world");
  EXPECT_EQ(say(other, "What is my name?"), say(chat, "What is my name?"));
  ::unlink(path.c_str());
}

TEST(Chat, ReasoningIsDroppedFromTheConversation) {
  Chat chat = new_chat({"g1", "fast", ""});
  const std::string first = say(chat, "My name is Anna.", 20);
  const std::string second = say(chat, "What is my name?", 20);
  // The same conversation given as messages: the template closes earlier turns without a think block.
  const ChatTemplate& g1 = chat.chat_template();
  const Message messages[] = {
      {Role::user, "My name is Anna."}, {Role::assistant, first}, {Role::user, "What is my name?"}};
  const auto engine = shipped_engine();
  std::vector<std::int32_t> prompt{kEndOfText};
  const auto ids = encode(*engine, g1.render(messages, Think::fast));
  prompt.insert(prompt.end(), ids.begin(), ids.end());
  State state = new_state(engine);
  Sampler sampler = greedy_sampler(*engine);
  GenerateOptions options;
  options.max_tokens = 20;
  options.stops = g1.stops(Think::fast);
  const auto expected = generate(state, prompt, sampler, options, {});
  ASSERT_TRUE(expected.ok());
  EXPECT_EQ(chat.turns(), 2);
  EXPECT_NE(expected->text.find(second), std::string::npos) << expected->text << " | " << second;
}

TEST(Chat, CancellingDuringThePromptTakesTheTurnBack) {
  Chat chat = new_chat();
  Sampler sampler = greedy_sampler(*shipped_engine());
  std::string longer;
  for (int i = 0; i < 400; ++i) longer += "hello ";
  const auto reply = chat.send(longer, sampler, {}, false, [](std::string_view) { return false; });
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->finish, Finish::cancelled);
  EXPECT_EQ(chat.turns(), 0);
  EXPECT_EQ(say(chat, "Hello"), continuation("User: Hello\n\nAssistant:"));
}

TEST(Chat, NamesWhatIsWrong) {
  EXPECT_FALSE(Chat::make(shipped_engine(), {"nosuch", "", ""}).ok());
  EXPECT_FALSE(Chat::make(shipped_engine(), {"world", "on", ""}).ok());
  EXPECT_FALSE(Chat::make(shipped_engine(), {"g1", "hard", ""}).ok());
}

}  // namespace
}  // namespace fr
