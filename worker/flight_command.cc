#include "worker/flight_command.h"

#include <iostream>
#include <memory>
#include <utility>

#include "common/config.h"
#include "common/plain_text.h"
#include "common/status.h"
#include "worker/launch/flight_file.h"
#include "worker/launch/flight_text.h"
#include "worker/launch/flight_watch.h"
#include "worker/runner/device_choice.h"
#include "worker/runner/local_runner.h"
#include "worker/runner_options.h"

namespace conclave::worker {
namespace {

absl::StatusOr<FlightGroup> MakeGroup(const WorkerConfig& config) {
  LocalRunnerOptions options;
  static_cast<RunnerOptions&>(options) = RunnerOptionsOf(config);
  options.tp = config.group.tensor_parallel;
  options.make_device = [&config](int rank) -> absl::StatusOr<std::unique_ptr<Device>> {
    ASSIGN_OR_RETURN(ChosenDevice chosen,
                     ChooseDevice(DeviceOptionsOf(config, rank, config.group.tensor_parallel),
                                  DefaultCudaPlaces()));
    if (chosen.cuda != nullptr && config.group.tensor_parallel > 1) {
      return Unimplemented("a flight of {} ranks on GPUs is not replayed; one rank's is",
                           config.group.tensor_parallel);
    }
    return std::move(chosen.device);
  };
  ASSIGN_OR_RETURN(std::unique_ptr<LocalRunner> made, LocalRunner::Create(options));
  const std::shared_ptr<LocalRunner> runner = std::move(made);
  const auto step = [runner](const StepPlan& plan) -> absl::StatusOr<StepResult> {
    RETURN_IF_ERROR(runner->Submit(plan));
    return runner->Await();
  };
  return FlightGroup{.shape = runner->shape(), .step = step};
}

}  // namespace

int ReplayFlightFile(const std::string& path, const WorkerConfig& config) {
  const absl::StatusOr<Flight> flight = ReadFlight(path);
  if (!flight.ok()) {
    std::cerr << ComplaintText("conclave-worker", flight.status()) << std::flush;
    return static_cast<int>(FlightEnd::kUnusable);
  }
  std::cout << PlainText(DescribeFlight(*flight));
  return static_cast<int>(WatchReplay(
      *flight, [&config] { return MakeGroup(config); }, config.launcher.judge.ready));
}

}  // namespace conclave::worker
