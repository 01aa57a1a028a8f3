// Configuration files that are wrong, read as the programs and `conclave check` read them.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/status.h"
#include "router/router_config.h"
#include "tests/badinput/table.h"
#include "tests/unit/worker/model/checkpoint.h"

namespace conclave {
namespace {

std::string Times(int count, const std::string& text) {
  std::string all;
  while (count-- > 0) all += text;
  return all;
}

TEST(ConfigurationTest, EveryMistakeIsNamedWithItsPlace) {
  std::string unknown;
  for (int i = 0; i < 15'000; ++i) unknown += "server_listen_" + std::to_string(i) + ": 1\n";
  const std::vector<std::pair<std::string, std::string>> files = {
      {"a bracket that is not closed", "server: {listen: [\n"},
      {"a tab", "server:\n\tlisten: a\n"},
      {"a key that is misspelt", "server:\n  listn: 127.0.0.1:1\n"},
      {"a key in the wrong place", "listen: 127.0.0.1:1\n"},
      {"a key that is there twice", "server:\n  threads: 1\n  threads: 2\n"},
      {"15,000 keys that are not known", unknown},
      {"a list where a value belongs", "server:\n  threads: [1, 2]\n"},
      {"a value where keys belong", "server: 5\n"},
      {"a number out of range", "server:\n  threads: 100000\n"},
      {"a number beyond 64 bits", "limits:\n  max_tokens: 99999999999999999999\n"},
      {"a duration without a unit", "limits:\n  deadline: 5\n"},
      {"a negative duration", "limits:\n  deadline: -5s\n"},
      {"a size beyond 64 bits", "server:\n  max_message: 99999999999GiB\n"},
      {"a second document", "server:\n  threads: 1\n---\nserver:\n  threads: 2\n"},
      {"5,000 lists in each other", "server: " + Times(5000, "[")},
      {"40 lists in each other", "server: " + Times(40, "[") + Times(40, "]")},
      {"a list that refers to itself many times",
       "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
       "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n"
       "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n"},
      {"2 MiB of it", "# " + std::string(2 << 20, 'a')},
      {"bytes that are no text", std::string("server: \x00\x01\xFF\xFE", 12)},
      {"a key's digest that is none", "admission:\n  tenants:\n    - {name: a, keys: [secret]}\n"},
  };
  const worker::TemporaryFolder folder;
  std::vector<BadInput> rows;
  for (const auto& [kind, text] : files) {
    folder.Write("router.yaml", text);
    const absl::Status status =
        router::LoadRouterConfig((folder.path() / "router.yaml").string(), {}, NamedFiles::kCheck)
            .status();
    EXPECT_FALSE(status.ok()) << kind;
    rows.push_back(Refused(kind, status));
  }
  ExpectTable("Configuration", std::move(rows), {{folder.path().string() + "/", ""}});
}

}  // namespace
}  // namespace conclave
