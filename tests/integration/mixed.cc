#include "tests/integration/mixed.h"

#include <fmt/format.h>

#include <string>

namespace conclave {
namespace {

std::string Apples(int number) {
  return fmt::format(
      "Tom has {} apples and buys {} boxes with {} apples each. How many apples does Tom have now?",
      10 + number % 50, 3 + number % 4, 12 + number % 30);
}

std::string Target(int number) {
  return fmt::format("Make {} from {}, {}, {}. Use each number once.", 20 + number % 9,
                     2 + number % 7, 3 + number % 5, 4 + number % 4);
}

std::string TwoParts(int number) {
  return fmt::format("First: {} Second: {} What is the sum of the two answers?", Apples(number),
                     Apples(number + 7));
}

void AskInWords(const std::string& text, v1::GenerateRequest& request) {
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text(text);
}

// What makes it its kind.
void Shape(int kind, int number, v1::Contemplation& how, v1::GenerateRequest& request) {
  switch (kind) {
    case 2:  // The default.
      break;
    case 3:
      how.set_stop_rule(v1::STOP_RULE_NONE);
      how.set_aggregation(v1::AGGREGATION_VOTE);
      break;
    case 4:
      how.set_strategy(v1::STRATEGY_REFINE);
      how.set_rounds(1 + number / kMixedKinds % 2);
      break;
    case 6:
      how.set_strategy(v1::STRATEGY_ROLES);
      how.add_roles("Be careful.");
      how.add_roles("Check each step twice.");
      break;
    case 7:
      how.set_strategy(v1::STRATEGY_AUTO);
      how.clear_max_agents();
      how.set_effort(v1::EFFORT_LOW);
      break;
    case 8:
      how.mutable_probes()->set_every(16);
      how.mutable_probes()->set_answer_tokens(8);
      how.set_stop_rule(v1::STOP_RULE_NONE);
      break;
    case 9:
      how.mutable_probes()->set_every(24);
      how.mutable_probes()->set_agree(2);
      how.set_wave(3);
      break;
    case 10:
      how.mutable_checker()->mutable_arithmetic()->set_value(fmt::to_string(20 + number % 9));
      for (const int each : {2 + number % 7, 3 + number % 5, 4 + number % 4}) {
        how.mutable_checker()->mutable_arithmetic()->add_numbers(each);
      }
      break;
    case 11:  // The end of thinking is forced, and the total is tight.
      request.mutable_budget()->set_thinking_tokens(24);
      request.mutable_budget()->set_total_tokens(160 + 200 * (number / kMixedKinds % 3));
      break;
    case 12:
      how.set_aggregation(v1::AGGREGATION_SYNTHESISE);
      break;
    case 13:
      how.set_aggregation(v1::AGGREGATION_WEIGHTED_VOTE);
      how.set_confidence_bar(1);
      how.set_confidence_window(16);
      break;
    case 14:
      how.set_stop_rule(v1::STOP_RULE_LEADER_BEATS_RUNNER_UP);
      how.set_wave(2);
      how.set_max_agents(8);
      break;
    case 15:
      how.set_aggregation(v1::AGGREGATION_SELECT);
      request.mutable_sampling()->set_temperature(2);
      break;
    default:  // 5.
      how.set_strategy(v1::STRATEGY_DECOMPOSE);
      break;
  }
}

}  // namespace

v1::GenerateRequest MixedRequest(int number) {
  v1::GenerateRequest request;
  const int kind = number % kMixedKinds;
  AskInWords(kind == 5                 ? TwoParts(number)
             : kind == 10 || kind == 4 ? Target(number)
                                       : Apples(number),
             request);
  request.set_seed(5000 + static_cast<uint64_t>(number));
  request.set_request_id(fmt::format("mixed-{}", number));
  if (kind < 2) {
    request.set_mode(kind == 0 ? v1::MODE_INSTANT : v1::MODE_THINKING);
    return request;
  }
  request.set_mode(v1::MODE_CONTEMPLATING);
  request.mutable_contemplation()->set_max_agents(3 + number % 4);
  Shape(kind, number, *request.mutable_contemplation(), request);
  return request;
}

}  // namespace conclave
