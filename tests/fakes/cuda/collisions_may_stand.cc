// For tests of a whole device, whose padded rows all stand in one block of the KV pool.

#include "emulated_block.h"

namespace conclave::worker::cuda::emulated {

[[maybe_unused]] static const bool kSet = (collisions_may_stand = true);

}  // namespace conclave::worker::cuda::emulated
