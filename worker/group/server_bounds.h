#pragma once

#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <grpcpp/alarm.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>

namespace conclave::worker {

// Bounds what strangers cost a server that gives each call a thread: no more than `calls` calls at
// a time, others get RESOURCE_EXHAUSTED; and who is silent is asked whether he is there, as a
// router is. `name`: of the quota.
void BoundServer(const char* name, int calls, grpc::ServerBuilder& builder);

// For a caller to say who it is: one that stays silent gives its thread back.
constexpr absl::Duration kHelloPatience = absl::Seconds(5);

// The first message of a call; false when none came, or none in time: then the call is cancelled.
template <class Stream, class Request>
bool ReadHello(grpc::ServerContext& context, absl::Duration patience, Stream& stream,
               Request& hello) {
  absl::Notification over;  // The alarm looks at the call no more.
  grpc::Alarm alarm;
  alarm.Set(absl::ToChronoTime(absl::Now() + patience), [&](bool expired) {
    if (expired) context.TryCancel();
    over.Notify();
  });
  const bool came = stream.Read(&hello);
  alarm.Cancel();
  over.WaitForNotification();
  return came;
}

}  // namespace conclave::worker
