#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace conclave {

using Random = std::mt19937_64;

// How many mutants: `usual`, times CONCLAVE_FUZZ where the environment has it.
int Rounds(int usual);
// The seed of one: the same in every run, unless CONCLAVE_FUZZ_SEED asks for others.
uint64_t SeedOf(int round);

size_t Below(Random& random, size_t n);

// One change of a text: bytes go, come, change, are repeated, or the end is cut off. `words` are
// what such a text is made of.
void Mutate(Random& random, const std::vector<std::string>& words, std::string& text);

// One node of a JSON tree, at random.
nlohmann::json& AnyNode(Random& random, nlohmann::json& root);

}  // namespace conclave
