#include "tests/integration/page.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <sstream>
#include <vector>

namespace conclave {

std::string PageOf(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(colon + 1))));
  inet_pton(AF_INET, address.substr(0, colon).c_str(), &where.sin_addr);
  const int page = socket(AF_INET, SOCK_STREAM, 0);
  std::string text;
  const std::string ask = "GET /metrics HTTP/1.0\r\n\r\n";
  if (connect(page, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) == 0 &&
      write(page, ask.data(), ask.size()) == static_cast<ssize_t>(ask.size())) {
    std::vector<char> part(65536);
    for (ssize_t n; (n = read(page, part.data(), part.size())) > 0;) {
      text.append(part.data(), static_cast<size_t>(n));
    }
  }
  close(page);
  return text;
}

double ValueIn(const std::string& page, const std::string& series) {
  const size_t at = page.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(page.substr(at + series.size() + 2));
}

double SumIn(const std::string& page, const std::string& name) {
  double sum = 0;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    const bool found = line.rfind(name + "{", 0) == 0 || line.rfind(name + " ", 0) == 0;
    if (found) sum += std::stod(line.substr(line.rfind(' ') + 1));
  }
  return sum;
}

}  // namespace conclave
