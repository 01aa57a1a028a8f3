#pragma once

#include <string>

#include "router/api/request_parser.h"

namespace conclave::router {

inline RequestDraws Draws() { return {.seed = 77, .id = "drawn", .time_of_day = 1'700'000'000}; }

// What a request that asks for nothing special looks like.
inline v1::GenerateRequest Question(const std::string& text = "How many?") {
  v1::GenerateRequest wire;
  v1::Message& message = *wire.add_messages();
  message.set_role(v1::ROLE_USER);
  message.add_parts()->set_text(text);
  return wire;
}

}  // namespace conclave::router
