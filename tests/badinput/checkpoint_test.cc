// Checkpoints of strangers: each is the model that ships with one thing changed, and is read as a
// worker reads it: checked before a rank starts, loaded as a rank loads it, asked to render.

#include "tests/unit/worker/model/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/status.h"
#include "tests/badinput/table.h"
#include "worker/backend/cpu/cpu_device.h"
#include "worker/collective/shared_collective.h"
#include "worker/model/model.h"
#include "worker/text/text_model.h"
#include "worker/worker_config.h"

namespace conclave {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using worker::TemporaryFolder;

const fs::path kShipped = CONCLAVE_SOURCE_DIR "/models/conclave-demo";
const std::string kPrompts = CONCLAVE_SOURCE_DIR "/configs/prompts/default.yaml";
constexpr char kPatternPath[] = "/pre_tokenizer/pretokenizers/0/pattern/Regex";

std::string Bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::Status LoadAndRender(const fs::path& dir) {
  RETURN_IF_ERROR(
      worker::LoadWorkerConfig("",
                               {"model.directory=" + dir.string(),
                                "model.fallback_profile=" + kPrompts, "group.tensor_parallel=1"},
                               NamedFiles::kCheck)
          .status());
  ASSIGN_OR_RETURN(const auto device, worker::MakeCpuDevice("plain"));
  worker::ThreadGroup group(1);
  RETURN_IF_ERROR(worker::LoadModel(dir, *device, *group.Rank(0), {.max_rows = 4}).status());
  ASSIGN_OR_RETURN(const auto text, worker::TextModel::Load(dir, kPrompts));
  const Message question{.role = Role::kUser, .parts = {{std::string(3000, 'a')}}};
  return text->Render({question}, {}).status();
}

// The folder of one case.
class Folder {
 public:
  Folder() {
    for (const char* name : {"config.json", "generation_config.json", "model.safetensors",
                             "tokenizer.json", "tokenizer_config.json", "conclave.yaml"}) {
      fs::copy_file(kShipped / name, folder_.path() / name);
    }
  }
  const fs::path& path() const { return folder_.path(); }
  fs::path operator/(const std::string& name) const { return path() / name; }

  void Write(const std::string& name, const std::string& bytes) const {
    folder_.Write(name, bytes);
  }
  void Remove(const std::string& name) const { fs::remove(path() / name); }
  void Cut(const std::string& name, size_t bytes) const { fs::resize_file(path() / name, bytes); }
  // Sets the member at the path of a JSON file.
  void Set(const std::string& name, const std::string& pointer, const json& value) const {
    json file = json::parse(Bytes(path() / name));
    file[json::json_pointer(pointer)] = value;
    Write(name, file.dump());
  }
  void Replace(const std::string& name, const std::string& from, const std::string& to) const {
    std::string text = Bytes(path() / name);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << name << " has no " << from;
    Write(name, text.replace(at, from.size(), to));
  }
  // Changes the weights' header; the data stays.
  void Header(const std::function<void(json&)>& change) const {
    const std::string bytes = Bytes(path() / "model.safetensors");
    json header = json::parse(HeaderOf(bytes));
    change(header);
    WriteWeights(header.dump(), bytes.substr(8 + HeaderOf(bytes).size()));
  }
  void WriteWeights(const std::string& header, const std::string& data) const {
    uint64_t length = header.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    Write("model.safetensors", bytes + header + data);
  }

 private:
  static std::string HeaderOf(const std::string& bytes) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    return bytes.substr(8, length);
  }
  TemporaryFolder folder_;
};

struct Case {
  std::string kind;
  std::function<void(const Folder&)> change;
};

void ExpectCases(const std::string& section, const std::vector<Case>& cases) {
  std::vector<BadInput> rows;
  std::vector<std::pair<std::string, std::string>> names = {{kPrompts, "PROMPTS"}};
  for (const Case& each : cases) {
    const Folder folder;
    each.change(folder);
    const absl::Status status = LoadAndRender(folder.path());
    EXPECT_FALSE(status.ok()) << each.kind;
    rows.push_back(Refused(each.kind, status));
    names.emplace_back(folder.path().string(), "MODEL");
  }
  ExpectTable(section, std::move(rows), names);
}

// `config.json` with a number that JSON cannot write.
Case Number(const std::string& kind, const std::string& key, const std::string& number) {
  return {kind, [=](const Folder& folder) {
            json config = json::parse(Bytes(folder / "config.json"));
            config.erase(key);
            folder.Write("config.json",
                         "{\"" + key + "\": " + number + "," + config.dump().substr(1));
          }};
}

Case Config(const std::string& kind, const std::string& key, const json& value) {
  return {kind, [=](const Folder& folder) { folder.Set("config.json", "/" + key, value); }};
}

TEST(CheckpointTest, TheModelThatShipsIsTaken) {
  const Folder folder;
  EXPECT_TRUE(LoadAndRender(folder.path()).ok()) << LoadAndRender(folder.path());
}

TEST(CheckpointTest, ConfigsAreRefusedByKeyAndValue) {
  ExpectCases("config.json",
              {{"there is none", [](const Folder& folder) { folder.Remove("config.json"); }},
               {"cut in the middle", [](const Folder& folder) { folder.Cut("config.json", 100); }},
               {"2 MiB of it",
                [](const Folder& folder) {
                  folder.Write("config.json", "{\"a\": \"" + std::string(2 << 20, 'a') + "\"}");
                }},
               {"100,000 brackets in each other",
                [](const Folder& folder) {
                  folder.Write("config.json", "{\"a\":" + std::string(100'000, '[') + "}");
                }},
               {"a list", [](const Folder& folder) { folder.Write("config.json", "[]"); }},
               {"a key that is there twice",
                [](const Folder& folder) {
                  folder.Replace("config.json", "\"hidden_size\"",
                                 "\"vocab_size\": 8, \"hidden_size\"");
                }},
               {"a pipe in its place",
                [](const Folder& folder) {
                  folder.Remove("config.json");
                  ASSERT_EQ(mkfifo((folder / "config.json").c_str(), 0600), 0);
                }},
               Number("NaN", "rms_norm_eps", "NaN"),
               Number("infinity, as Python writes it", "rms_norm_eps", "Infinity"),
               Number("a number beyond all doubles", "rope_theta", "1e999"),
               Number("an integer beyond 64 bits", "hidden_size", "99999999999999999999"),
               Config("a negative epsilon", "rms_norm_eps", -1e-6),
               Config("an epsilon that is no f32", "rms_norm_eps", 1e300),
               Config("an epsilon that vanishes", "rms_norm_eps", 1e-60),
               Config("a RoPE base of 0", "rope_theta", 0),
               Config("RoPE that changes with the length", "rope_scaling",
                      {{"rope_type", "dynamic"}, {"factor", 2.0}}),
               Config("a RoPE factor that leaves no finite frequency", "rope_scaling",
                      {{"rope_type", "linear"}, {"factor", 1e-300}}),
               Config("a hidden size of 2^62", "hidden_size", int64_t{1} << 62),
               Config("100,000 layers", "num_hidden_layers", 100'000),
               Config("a negative number of heads", "num_attention_heads", -4),
               Config("heads that do not divide", "num_key_value_heads", 3),
               Config("the greatest sizes that are allowed, in no weights", "vocab_size", 1 << 22),
               Config("quantised weights", "quantization_config", {{"quant_method", "awq"}}),
               Config("another architecture", "model_type", "gemma3")});
}

TEST(CheckpointTest, WeightsAreRefusedByFileAndTensor) {
  const std::string norm = "model.norm.weight";
  const auto entry = [norm](const std::function<void(json&)>& change) {
    return
        [=](const Folder& folder) { folder.Header([&](json& header) { change(header[norm]); }); };
  };
  const auto in_its_place = [](const std::function<void(const fs::path&)>& make) {
    return [=](const Folder& folder) {
      folder.Remove("model.safetensors");
      make(folder / "model.safetensors");
    };
  };
  const auto index = [](const std::string& text) {
    return [=](const Folder& folder) {
      folder.Remove("model.safetensors");
      folder.Write("model.safetensors.index.json", text);
    };
  };
  ExpectCases(
      "model.safetensors",
      {{"there is none", [](const Folder& folder) { folder.Remove("model.safetensors"); }},
       {"empty", [](const Folder& folder) { folder.Cut("model.safetensors", 0); }},
       {"cut in the header", [](const Folder& folder) { folder.Cut("model.safetensors", 500); }},
       {"cut in the data",
        [](const Folder& folder) { folder.Cut("model.safetensors", 2'000'000); }},
       {"a header length of 2^64 - 1",
        [](const Folder& folder) {
          folder.Write("model.safetensors", std::string(8, '\xFF') + "{}");
        }},
       {"a header of 5,000 brackets",
        [](const Folder& folder) { folder.WriteWeights(std::string(5000, '['), ""); }},
       {"a header of 4 million values",
        [](const Folder& folder) {
          folder.WriteWeights("{\"a\":[0" + std::string(4'000'000, ',') + "]}", "");
        }},
       {"a tensor that is there twice",
        [](const Folder& folder) {
          folder.WriteWeights(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                              R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                              "12345678");
        }},
       {"offsets that overlap",
        [](const Folder& folder) {
          folder.Header([](json& header) {
            header["model.layers.0.input_layernorm.weight"]["data_offsets"] =
                header["model.layers.1.input_layernorm.weight"]["data_offsets"];
          });
        }},
       {"offsets beyond the file", entry([](json& norms) {
          norms["data_offsets"] = {1 << 30, (1 << 30) + 256};
        })},
       {"offsets that wrap around", entry([](json& norms) {
          norms["data_offsets"] = {UINT64_MAX - 255, 1};
        })},
       {"a negative dimension", entry([](json& norms) { norms["shape"] = {-128}; })},
       {"dimensions whose product overflows", entry([](json& norms) {
          norms["shape"] = {65536, 65536, 65536, 65536};
        })},
       {"a dtype that is not served", entry([](json& norms) { norms["dtype"] = "I16"; })},
       {"a shape that is not the config's", entry([](json& norms) {
          norms["shape"] = {64, 2};
        })},
       {"a tensor is missing",
        [&](const Folder& folder) { folder.Header([&](json& header) { header.erase(norm); }); }},
       {"a tensor too many",
        [&](const Folder& folder) {
          folder.Header([&](json& header) {
            header["model.layers.9.input_layernorm.weight"] = {
                {"dtype", "F32"}, {"shape", {0}}, {"data_offsets", {0, 0}}};
          });
        }},
       {"a pipe in its place",
        in_its_place([](const fs::path& path) { ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); })},
       {"a folder in its place",
        in_its_place([](const fs::path& path) { fs::create_directory(path); })},
       {"a link to itself in its place",
        in_its_place([](const fs::path& path) { fs::create_symlink(path, path); })},
       {"an endless device in its place",
        in_its_place([](const fs::path& path) { fs::create_symlink("/dev/zero", path); })},
       {"an index that leads out of the folder", index(R"({"weight_map": {"a": "../../x"}})")},
       {"an index of a file that is not there", index(R"({"weight_map": {"a": "x"}})")},
       {"an index without a map", index("{}")}});
}

TEST(CheckpointTest, TokenizersAreRefusedByTheirPath) {
  const auto set = [](const std::string& pointer, const json& value) {
    return [=](const Folder& folder) { folder.Set("tokenizer.json", pointer, value); };
  };
  const auto pattern = [](const std::string& text) {
    return [=](const Folder& folder) {
      json file = json::parse(Bytes(folder / "tokenizer.json"));
      const json split = {
          {"type", "Split"}, {"pattern", {{"Regex", text}}}, {"behavior", "Isolated"}};
      file["pre_tokenizer"] = {{"type", "Sequence"},
                               {"pretokenizers", {split, file["pre_tokenizer"]}}};
      folder.Write("tokenizer.json", file.dump());
    };
  };
  ExpectCases(
      "tokenizer.json",
      {{"there is none", [](const Folder& folder) { folder.Remove("tokenizer.json"); }},
       {"cut in the middle", [](const Folder& folder) { folder.Cut("tokenizer.json", 5000); }},
       {"another model", set("/model/type", "WordPiece")},
       {"no vocabulary", set("/model/vocab", json::array())},
       {"an id that is no number", set("/model/vocab/a", "x")},
       {"an id of 2^40", set("/model/vocab/a", int64_t{1} << 40)},
       {"an id that is there twice", set("/model/vocab/a", 5)},
       {"a merge of what is no token", set("/model/merges", {"a \xE2\x82\xAC"})},
       {"a step that is not known", set("/normalizer", {{"type", "Precompiled"}})},
       {"steps in each other 60 deep",
        [](const Folder& folder) {
          json nested = {{"type", "NFC"}};
          for (int i = 0; i < 60; ++i) {
            nested = {{"type", "Sequence"}, {"normalizers", {nested}}};
          }
          folder.Set("tokenizer.json", "/normalizer", nested);
        }},
       {"17 steps",
        [](const Folder& folder) {
          folder.Set("tokenizer.json", "/normalizer",
                     {{"type", "Sequence"}, {"normalizers", json(17, {{"type", "NFC"}})}});
        }},
       {"a replacement that multiplies the text",
        set("/normalizer", {{"type", "Replace"},
                            {"pattern", {{"String", "a"}}},
                            {"content", std::string(300, 'a')}})},
       {"a pattern that is not valid", pattern("(")},
       {"a pattern with a reference back", pattern("(a*)\\1b|.")},
       {"a pattern that repeats 60,000 times", pattern("a{60000}b|.")},
       {"a pattern that grows when it is compiled", pattern("(?:(?:(?:abc){90}){90}){90}")},
       {"a pattern of exponential time", pattern("(a+)+[xy]|.")},
       {"a pattern of quadratic time", pattern("a*+[xy]|.")},
       {"a pattern of 5,000 bytes", pattern(std::string(5000, 'a'))}});
}

TEST(CheckpointTest, TemplatesAreRefusedByLineAndConstruct) {
  const auto source = [](const std::string& text) {
    return [=](const Folder& folder) { folder.Write("chat_template.jinja", text); };
  };
  ExpectCases(
      "chat_template.jinja",
      {{"there is none", [](const Folder& folder) { folder.Write("tokenizer_config.json", "{}"); }},
       {"2 MiB of it", source(std::string(2 << 20, 'a'))},
       {"a link to itself in its place",
        [](const Folder& folder) {
          fs::create_symlink("chat_template.jinja", folder / "chat_template.jinja");
        }},
       {"a block that is not closed", source("a\n{% for m in messages %}{{ m }}")},
       {"a tag that is not known", source("{% include 'secrets' %}")},
       {"a filter that is not known", source("{{ messages | shell }}")},
       {"an attribute of Python's inside", source("{{ messages.__class__.__mro__ }}{{ 1/0 }}")},
       {"a value that is not defined", source("\n{{ nothing.at_all }}")},
       {"a loop of 10^9 turns", source("{% for i in range(1000000000) %}{% endfor %}")},
       {"loops in loops",
        source("{% for a in range(9999) %}{% for b in range(9999) %}{% set x = a %}"
               "{% endfor %}{% endfor %}")},
       {"a macro that calls itself for ever",
        source("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")},
       {"a text that is doubled for ever",
        source("{% set ns = namespace(t='aaaaaaaa') %}{% for i in range(99) %}"
               "{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}")},
       {"a power of a power", source("{{ 9 ** 9 ** 9 }}")},
       {"brackets in each other", source("{{ " + std::string(5000, '(') + " }}")},
       {"an exception of its own", source("{{ raise_exception('no user turn') }}")}});
}

TEST(CheckpointTest, GenerationDefaultsAndProfilesAreRefusedByKey) {
  const auto profile = [](const std::string& text) {
    return [=](const Folder& folder) { folder.Write("conclave.yaml", text); };
  };
  ExpectCases(
      "generation_config.json and conclave.yaml",
      {{"a folder in its place",
        [](const Folder& folder) {
          folder.Remove("generation_config.json");
          fs::create_directory(folder / "generation_config.json");
        }},
       {"a profile that is no YAML", profile("thinking: [1, {")},
       {"a profile with a key that is misspelt",
        [](const Folder& folder) {
          folder.Replace("conclave.yaml", "max_candidates", "max_candidate");
        }},
       {"a profile with a number out of range",
        [](const Folder& folder) {
          folder.Replace("conclave.yaml", "max_candidates: 8", "max_candidates: 1");
        }},
       {"a profile that refers to itself many times",
        profile("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n"
                "c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n"
                "e: [*d, *d, *d, *d, *d, *d, *d, *d]\n")},
       {"a profile without its wording", profile("thinking:\n  tokens: 5\n")}});
}

}  // namespace
}  // namespace conclave
