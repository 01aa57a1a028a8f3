#pragma once

#include <absl/status/status.h>
#include <grpcpp/support/byte_buffer.h>

namespace google::protobuf {
class Message;
}

// Messages of calls that are read and written as bytes. A call of a typed one hides what is wrong
// with it: gRPC's callback API refuses a request that it cannot read without a word, and reports
// one of a stream as if its peer had closed its side.
namespace conclave {

// kInvalidArgument: `bytes` hold no message, no protobuf, or text that is not UTF-8;
// kUnimplemented: it is compressed, which is switched off. Empties `bytes`.
absl::Status ReadMessage(grpc::ByteBuffer& bytes, google::protobuf::Message& message);

void WriteMessage(const google::protobuf::Message& message, grpc::ByteBuffer& bytes);

}  // namespace conclave
