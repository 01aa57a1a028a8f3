#include "cli/tokenize.h"

#include <fmt/format.h>

#include <memory>
#include <vector>

#include "cli/connection.h"
#include "cli/exit_code.h"
#include "cli/prompt_text.h"
#include "common/status.h"
#include "worker/text/tokenizer.h"

namespace conclave::cli {
namespace {

absl::StatusOr<std::vector<PromptToken>> TokensOf(const TokenizeOptions& options,
                                                  const std::string& text) {
  const auto tokenizer = worker::Tokenizer::Load(options.model);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), "--model " + options.model);
  const worker::Tokenizer& with = **tokenizer;
  ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                   options.special ? with.EncodeWithSpecials(text) : with.Encode(text));
  std::vector<PromptToken> tokens;
  tokens.reserve(ids.size());
  for (const TokenId id : ids) {
    tokens.push_back({id, std::string(with.token_bytes(id)), with.is_added(id)});
  }
  return tokens;
}

}  // namespace

int Tokenize(const TokenizeOptions& options, std::ostream& out, std::ostream& notes, bool color) {
  const absl::StatusOr<std::string> text = TextArgument(options.text, "the text");
  if (!text.ok()) return Usage(text.status());
  const auto tokens = TokensOf(options, *text);
  if (!tokens.ok()) return Usage(tokens.status());
  if (options.json) {
    out << TokensToJson(*tokens, *text) << std::flush;
    return kExitOk;
  }
  out << TokensText(*tokens, options.ids ? TokenStyle::kIds : TokenStyle::kTable, color)
      << std::flush;
  notes << fmt::format("{} tokens, {} bytes\n", tokens->size(), text->size()) << std::flush;
  return kExitOk;
}

}  // namespace conclave::cli
