#pragma once

#include <memory>
#include <utility>

#include "worker/text/template_machine.h"

namespace conclave::worker {

// A new scope below `parent`, for a C++ block.
class TemplateMachine::Inside {
 public:
  Inside(TemplateMachine& machine, TemplateScope* parent)
      : machine_(machine), outer_(machine.scope_), own_(std::make_unique<TemplateScope>()) {
    own_->parent = parent;
    machine.scope_ = own_.get();
  }
  explicit Inside(TemplateMachine& machine) : Inside(machine, machine.scope_) {}
  ~Inside() {
    machine_.scope_ = outer_;
    if (own_->captured) machine_.remembered_.push_back(std::move(own_));
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  TemplateMachine& machine_;
  TemplateScope* const outer_;
  std::unique_ptr<TemplateScope> own_;
};

class TemplateMachine::Deeper {
 public:
  explicit Deeper(TemplateMachine& machine) : machine_(machine) { ++machine.depth_; }
  ~Deeper() { --machine_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;
  absl::Status Check() const {
    if (machine_.depth_ <= machine_.limits_.depth) return absl::OkStatus();
    return ResourceExhausted("calls, blocks and expressions are nested deeper than {}",
                             machine_.limits_.depth);
  }

 private:
  TemplateMachine& machine_;
};

}  // namespace conclave::worker
