#pragma once

#include <string>

namespace conclave {

// Files of a key and the certificate that it signs for itself, good for an hour: as authority, it
// trusts whoever has it. Paths.
struct Certificate {
  std::string certificate, key;
};

// `names`: whom it is for, as "IP:127.0.0.1, DNS:localhost".
Certificate MakeCertificate(const std::string& folder, const std::string& name,
                            const std::string& names);

}  // namespace conclave
