#pragma once

#include "common/wire/credentials.h"

namespace conclave {

// Complains about the files of a `tls` section that gRPC would only find wrong in a handshake, or
// never: files that cannot be read, that hold no certificate or key, a key that is not the
// certificate's, a certificate that has run out or is not valid yet. `node` is the section that
// `options` were read from.
void CheckTlsFiles(ConfigNode node, const TlsOptions& options);

}  // namespace conclave
