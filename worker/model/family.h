#pragma once

#include <string>

#include "worker/model/config.h"

namespace conclave::worker {

class ConfigKeys;

// What tells one family of decoders from another: which tensors a block has beside the common ones,
// and what its class makes of a key that config.json leaves out. Source: the classes of
// transformers 5.23.
struct Family {
  enum class Bias { kNone, kQkv, kByKey };  // kByKey: attention_bias, on q, k, v and o.
  enum class Window {
    kNone,
    kEveryLayer,        // sliding_window; null switches it off.
    kWhenUsed,          // The same, if use_sliding_window.
    kWhenUsedFromLayer  // And from max_window_layers on only, unless layer_types names the layers.
  };
  const char* model_type;
  Bias bias = Bias::kNone;
  bool mlp_bias = false;  // By the key of this name.
  bool qk_norm = false;   // RMS over each head of q and k, before RoPE.
  Window window = Window::kNone;
  bool experts = false;  // Layers may be mixtures of experts.
  int kv_heads = 0;      // When left out; 0: as many as query heads.
  int head_width = 0;    // When left out; 0: hidden_size over heads.
};

// Null when no decoder of this model_type is built.
const Family* FindFamily(const std::string& model_type);
// "llama, mistral, ...", for messages.
std::string FamilyNames();

// Fills model.layer and model.experts: which layers have a window, and how wide; which are mixtures
// of experts. Complaints go to `keys`.
void ReadLayers(const Family& family, ConfigKeys& keys, ModelConfig& model);

}  // namespace conclave::worker
