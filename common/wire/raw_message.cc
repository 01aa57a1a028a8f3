#include "common/wire/raw_message.h"

#include <google/protobuf/message.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include "common/check.h"
#include "common/status.h"

namespace conclave {
namespace {

// Sees what the bytes are marked with.
class MarkedBytes : public grpc::ProtoBufferReader {
 public:
  explicit MarkedBytes(grpc::ByteBuffer& bytes) : ProtoBufferReader(&bytes) {}

  bool compressed() {
    return status().ok() && reader()->buffer_in->data.raw.compression != GRPC_COMPRESS_NONE;
  }
};

}  // namespace

absl::Status ReadMessage(grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  if (!bytes.Valid()) return InvalidArgument("no {} came", message.GetDescriptor()->name());
  if (MarkedBytes(bytes).compressed()) {
    return Unimplemented("the {} is compressed; send it as it is", message.GetDescriptor()->name());
  }
  using Traits = grpc::SerializationTraits<google::protobuf::Message>;
  if (Traits::Deserialize(&bytes, &message).ok()) return absl::OkStatus();
  return InvalidArgument("the bytes are no {} with texts in UTF-8",
                         message.GetDescriptor()->name());
}

void WriteMessage(const google::protobuf::Message& message, grpc::ByteBuffer& bytes) {
  bool own_buffer = false;
  bytes.Clear();
  using Traits = grpc::SerializationTraits<google::protobuf::Message>;
  CHECK(Traits::Serialize(message, &bytes, &own_buffer).ok());
}

}  // namespace conclave
