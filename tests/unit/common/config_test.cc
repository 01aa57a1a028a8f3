#include "common/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "common/status.h"

namespace conclave {
namespace {

enum class Colour { kRed, kBlue };

struct Shape {
  bool round = false;
  std::string name = "none";
  int sides = 4;
  double scale = 1;
  absl::Duration wait = absl::Seconds(1);
  ByteSize size{10};
  Colour colour = Colour::kRed;
  std::vector<std::string> tags;
  std::vector<int> rows;
};

absl::StatusOr<Shape> ParseShape(const std::string& text,
                                 const std::vector<std::string>& overrides = {}) {
  ASSIGN_OR_RETURN(Config config, Config::Parse(text, "shape.yaml", overrides));
  Shape shape;
  ConfigNode root = config.root();
  root.Read("round", &shape.round);
  root.Read("name", &shape.name);
  root.Read("tags", &shape.tags);
  ConfigNode body = root.Section("body");
  body.Read("sides", &shape.sides, {3, 12, "corners"});
  body.Read("scale", &shape.scale, {0.5, 2});
  body.Read("wait", &shape.wait, {absl::Milliseconds(1), absl::Hours(1)});
  body.Read("size", &shape.size, {{1}, {1 << 30}});
  body.ReadChoice("colour", &shape.colour, {{"red", Colour::kRed}, {"blue", Colour::kBlue}});
  for (ConfigNode& row : root.Items("rows", 2)) {
    shape.rows.push_back(0);
    row.Read("length", &shape.rows.back());
  }
  RETURN_IF_ERROR(config.Finish());
  return shape;
}

std::string Complaint(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return std::string(MessageOf(ParseShape(text, overrides).status()));
}

TEST(ConfigTest, AnEmptyDocumentLeavesTheDefaults) {
  const auto shape = ParseShape("# nothing\n");

  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_EQ(shape->sides, 4);
  EXPECT_EQ(shape->name, "none");
}

TEST(ConfigTest, EveryKindOfValueIsRead) {
  const auto shape = ParseShape(R"(
round: true
name: "a b"
tags: [x, y]
rows: [{length: 1}, {length: 2}]
body: {sides: 6, scale: 1.5, wait: 250ms, size: 2 KiB, colour: blue}
)");

  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_TRUE(shape->round);
  EXPECT_EQ(shape->name, "a b");
  EXPECT_EQ(shape->tags, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(shape->rows, (std::vector<int>{1, 2}));
  EXPECT_EQ(shape->sides, 6);
  EXPECT_EQ(shape->scale, 1.5);
  EXPECT_EQ(shape->wait, absl::Milliseconds(250));
  EXPECT_EQ(shape->size, ByteSize{2048});
  EXPECT_EQ(shape->colour, Colour::kBlue);
}

TEST(ConfigTest, AnUnknownKeyIsRefusedWithItsPlaceAndTheKeyThatWasMeant) {
  EXPECT_EQ(Complaint("name: a\nbody:\n  sidse: 4\n"),
            "shape.yaml:3:3: body.sidse: unknown key; did you mean \"body.sides\"?");
}

TEST(ConfigTest, AnUnknownKeyThatResemblesNothingIsRefusedWithoutAdvice) {
  EXPECT_EQ(Complaint("elephant: 1\n"), "shape.yaml:1:1: elephant: unknown key");
}

TEST(ConfigTest, AnUnknownSectionIsRefused) {
  EXPECT_EQ(Complaint("bodi: {sides: 4}\n"),
            "shape.yaml:1:1: bodi: unknown key; did you mean \"body\"?");
}

TEST(ConfigTest, AnUnknownKeyInAListIsRefused) {
  EXPECT_EQ(Complaint("rows:\n  - lenght: 4\n"),
            "shape.yaml:2:5: rows[0].lenght: unknown key; did you mean \"rows[0].length\"?");
}

TEST(ConfigTest, EachWrongValueIsNamedWithItsPlaceAndWhatIsAllowed) {
  const std::pair<const char*, const char*> table[] = {
      {"round: yes", "shape.yaml:1:8: round: \"yes\" is neither true nor false"},
      {"name: [a]", "shape.yaml:1:7: name: needs a text; it has a list"},
      {"tags: x", "shape.yaml:1:7: tags: needs a list of texts, as [a, b]; it has a single value"},
      {"tags: [x, {y: z}]", "shape.yaml:1:11: tags: needs a list of texts; one has keys"},
      {"body: 3", "shape.yaml:1:7: body: needs keys under it; it has a single value"},
      {"body: {sides: 2}",
       "shape.yaml:1:15: body.sides: \"2\" is out of range; it can be 3 to 12 corners"},
      {"body: {sides: 4.5}", "shape.yaml:1:15: body.sides: \"4.5\" is not a whole number"},
      {"body: {sides: 99999999999999999999}",
       "shape.yaml:1:15: body.sides: \"99999999999999999999\" is too great a number"},
      {"body: {sides: }", "shape.yaml:1:15: body.sides: needs a whole number; it has nothing"},
      {"body: {scale: nan}", "shape.yaml:1:15: body.scale: \"nan\" is not a number"},
      {"body: {scale: 9}",
       "shape.yaml:1:15: body.scale: \"9\" is out of range; it can be 0.5 to 2"},
      {"body: {wait: 2h}",
       "shape.yaml:1:14: body.wait: \"2h\" is out of range; it can be 1ms to 1h"},
      {"body: {size: 2GiB}",
       "shape.yaml:1:14: body.size: \"2GiB\" is out of range; it can be 1B to 1GiB"},
      {"body: {colour: green}", "shape.yaml:1:16: body.colour: \"green\" is not one of red, blue"},
      {"body: {colour: bleu}",
       "shape.yaml:1:16: body.colour: \"bleu\" is not one of red, blue; did you mean \"blue\"?"},
      {"rows: [{}, {}, {}]", "shape.yaml:1:7: rows: has 3 entries; the limit is 2"},
      {"rows: [4]", "shape.yaml:1:8: rows[0]: needs keys under it; it has a single value"},
      {"name: a\nname: b", "shape.yaml:2:1: name: the key is there twice"},
      {"- a", "shape.yaml:1:1: needs keys"},
  };
  for (const auto& [text, complaint] : table) EXPECT_EQ(Complaint(text), complaint) << text;
}

TEST(ConfigTest, AKeyInTheWrongSectionIsToldItsOwn) {
  EXPECT_EQ(Complaint("sides: 4\n"),
            "shape.yaml:1:1: sides: unknown key; did you mean \"body.sides\"?");
  EXPECT_EQ(Complaint("body: {naem: a}\n"),
            "shape.yaml:1:8: body.naem: unknown key; did you mean \"name\"?");
  EXPECT_EQ(Complaint("rows: [{length: 1}]\nbody: {lenght: 4}\n"),
            "shape.yaml:2:8: body.lenght: unknown key; did you mean \"rows[].length\"?");
}

TEST(ConfigTest, EveryMistakeIsNamedInTheOrderOfTheFileThenTheOverrides) {
  EXPECT_EQ(Complaint("rund: true\nbody:\n  sides: x\n  wait: 5s\n  wait: 6s\nname: [a]\n",
                      {"body.scale=9", "nothing"}),
            "shape.yaml:1:1: rund: unknown key; did you mean \"round\"?\n"
            "shape.yaml:3:10: body.sides: \"x\" is not a whole number\n"
            "shape.yaml:5:3: body.wait: the key is there twice\n"
            "shape.yaml:6:7: name: needs a text; it has a list\n"
            "--set nothing: needs the form key=value, as group.threads=4\n"
            "--set body.scale=9: body.scale: \"9\" is out of range; it can be 0.5 to 2");
}

TEST(ConfigTest, NoMoreThanTwentyMistakesAreListed) {
  std::string text;
  for (int i = 0; i < 30; ++i) text += fmt::format("quux{}: 1\n", i);
  const std::string complaint = Complaint(text);

  EXPECT_EQ(std::count(complaint.begin(), complaint.end(), '\n'), 20);
  EXPECT_TRUE(complaint.ends_with("\nshape.yaml: 10 more complaints")) << complaint;
}

TEST(ConfigTest, AComplaintOfTheCallersAboutAValueThatCouldNotBeReadIsLeftOut) {
  auto config = Config::Parse("port: x", "a.yaml");
  int port = 0;
  ConfigNode root = config->root();
  root.Read("port", &port);
  root.Fail("port", "must not be 0");

  EXPECT_EQ(MessageOf(config->Finish()), "a.yaml:1:7: port: \"x\" is not a whole number");
}

TEST(ConfigTest, AUnitThatDoesNotExistIsToldTheOnesThatDo) {
  const std::pair<const char*, const char*> table[] = {{"5", "; did you mean \"5s\"?"},
                                                       {"5 sec", "; did you mean \"5s\"?"},
                                                       {"10 Minutes", "; did you mean \"10m\"?"},
                                                       {"5 parsecs", "\"1m30s\""},
                                                       {"soon", "\"1m30s\""},
                                                       {"inf", "\"1m30s\""}};
  for (const auto& [text, end] : table) {
    const std::string complaint = Complaint(fmt::format("body: {{wait: {}}}", text));
    EXPECT_NE(complaint.find("with ns, us, ms, s, m or h behind it"), std::string::npos);
    EXPECT_TRUE(complaint.ends_with(end)) << complaint;
  }
  for (const auto& [text, end] : std::initializer_list<std::pair<const char*, const char*>>{
           {"64mib", "; did you mean \"64MiB\"?"},
           {"64 M", "; did you mean \"64MiB\"?"},
           {"64KB", "; did you mean \"64kB\"?"},
           {"5 parsecs", "\"64MiB\""},
           {"much", "\"64MiB\""}}) {
    const std::string complaint = Complaint(fmt::format("body: {{size: {}}}", text));
    EXPECT_NE(complaint.find("with B, kB, MB, GB, KiB, MiB, GiB"), std::string::npos);
    EXPECT_TRUE(complaint.ends_with(end)) << complaint;
  }
}

TEST(ConfigTest, ComplaintsOfAProgramNameItInEveryLine) {
  EXPECT_EQ(ComplaintText("conclave-x", InvalidArgument("a\nb")), "conclave-x: a\nconclave-x: b\n");
  EXPECT_EQ(ComplaintText("conclave-x", InvalidArgument("\x1b[2J")), "conclave-x: \\x1b[2J\n");
}

TEST(ConfigTest, ASecondDocumentIsNotPassedOver) {
  EXPECT_EQ(Complaint("name: a\n---\nnonsense: 1"),
            "shape.yaml:3:1: a second document begins; only one is read");
  EXPECT_EQ(Complaint("---\nname: a\n...\n"), "");
}

TEST(ConfigTest, TextThatIsNotYamlIsRefusedWithItsPlace) {
  EXPECT_EQ(Complaint("name: \"a\nbody: [").substr(0, 11), "shape.yaml:");
}

TEST(ConfigTest, ASizeThatOverflowsIsRefused) {
  EXPECT_FALSE(ParseShape("body: {size: 99999999999999GiB}").ok());
}

TEST(ConfigTest, AnOverrideReplacesAValueAndAddsOne) {
  const auto shape = ParseShape("name: a\n", {"name=b", "body.sides=7", "tags=[p, q]"});

  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_EQ(shape->name, "b");
  EXPECT_EQ(shape->sides, 7);
  EXPECT_EQ(shape->tags.size(), 2u);
}

TEST(ConfigTest, AnOverrideReachesIntoAList) {
  const auto shape = ParseShape("rows: [{length: 1}, {length: 2}]", {"rows.1.length=9"});

  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_EQ(shape->rows, (std::vector<int>{1, 9}));
}

TEST(ConfigTest, AWrongOverrideIsNamed) {
  EXPECT_EQ(Complaint("", {"body.sides=two"}),
            "--set body.sides=two: body.sides: \"two\" is not a whole number");
  EXPECT_EQ(Complaint("", {"body.sidse=4"}),
            "--set body.sidse=4: body.sidse: unknown key; did you mean \"body.sides\"?");
  EXPECT_EQ(Complaint("", {"sides"}), "--set sides: needs the form key=value, as group.threads=4");
  EXPECT_EQ(Complaint("name: a", {"name.x=4"}), "--set name.x=4: there is no place \"x\"");
}

TEST(ConfigTest, ADocumentThatGrowsByReferencesIsRefused) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    text += fmt::format("a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]\n", i,
                        i - 1);
  }

  EXPECT_EQ(Complaint(text), "shape.yaml: more than 20000 values");
}

TEST(ConfigTest, AFileThatIsMissingIsNotFound) {
  EXPECT_EQ(Config::Load("/nonexistent/a.yaml").status().code(), absl::StatusCode::kNotFound);
}

TEST(ConfigTest, AFolderIsNotTakenForAnEmptyFile) {
  EXPECT_EQ(Config::Load(testing::TempDir()).status().code(), absl::StatusCode::kNotFound);
}

TEST(ConfigTest, AFileIsReadByItsPath) {
  const std::string path = testing::TempDir() + "/config_test.yaml";
  std::ofstream(path) << "name: from file\n";

  auto config = Config::Load(path);

  ASSERT_TRUE(config.ok()) << config.status();
  std::string name;
  config->root().Read("name", &name);
  EXPECT_EQ(name, "from file");
}

TEST(ConfigTest, ACallersOwnComplaintCarriesThePlace) {
  auto config = Config::Parse("server:\n  port: 4\n", "a.yaml");
  ConfigNode server = config->root().Section("server");
  int port = 0;
  server.Read("port", &port);

  server.Fail("port", "is taken");

  EXPECT_EQ(MessageOf(config->Finish()), "a.yaml:2:9: server.port: is taken");
}

TEST(NearestWordTest, ADistantWordIsNotSuggested) {
  EXPECT_EQ(NearestWord("listn", {"listen", "tls"}), "listen");
  EXPECT_EQ(NearestWord("quux", {"listen", "tls"}), "");
}

}  // namespace
}  // namespace conclave
