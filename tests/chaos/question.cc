#include "tests/chaos/question.h"

#include <fmt/format.h>

#include <string>

namespace conclave {

v1::GenerateRequest Question(int number) {
  v1::GenerateRequest request;
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  // Agents that search for an expression end at different times: some are there when others are
  // lost.
  const std::string text =
      number % 6 == 2 || number % 6 == 3
          ? fmt::format("Make {} from {}, {}, {}, {}. Use each number once.", 21 + number,
                        2 + number % 7, 3 + number % 5, 4 + number % 4, 9 - number % 3)
          : fmt::format(
                "Tom has {} apples and buys {} boxes with {} apples each. How many apples "
                "does Tom have now?",
                10 + number, 3 + number % 4, 12 + number);
  message->add_parts()->set_text(text);
  request.set_seed(1000 + static_cast<uint64_t>(number));
  for (const v1::Include each :
       {v1::INCLUDE_THINKING, v1::INCLUDE_AGENT_ANSWERS, v1::INCLUDE_TOKENS}) {
    request.add_include(each);
  }
  // Two of three resume.
  const v1::OnLoss on_loss[] = {v1::ON_LOSS_RESUME, v1::ON_LOSS_RESUME, v1::ON_LOSS_CONTINUE,
                                v1::ON_LOSS_RESUME, v1::ON_LOSS_RESUME, v1::ON_LOSS_FAIL};
  request.set_on_loss(on_loss[number % 6]);
  if (number % 3 == 1) {
    request.mutable_sampling()->set_repetition_penalty(1.05f);
    request.mutable_sampling()->set_frequency_penalty(0.1f);
  }
  if (number % 9 == 4) {
    request.set_mode(v1::MODE_THINKING);
    return request;
  }
  request.set_mode(v1::MODE_CONTEMPLATING);
  v1::Contemplation& how = *request.mutable_contemplation();
  how.set_max_agents(4 + number % 5);
  // Half of them run to every agent's end, so that all of their text can be compared.
  const v1::StopRule rules[] = {v1::STOP_RULE_NONE, v1::STOP_RULE_SETTLED, v1::STOP_RULE_NONE,
                                v1::STOP_RULE_QUORUM};
  how.set_stop_rule(rules[number % 4]);
  if (number % 4 == 3) how.set_aggregation(v1::AGGREGATION_SYNTHESISE);
  return request;
}

}  // namespace conclave
