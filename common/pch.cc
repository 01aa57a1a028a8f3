// Carries the precompiled gRPC headers that the rooms marked GRPC share.
