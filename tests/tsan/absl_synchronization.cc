// Tells the thread sanitizer about absl's locks. Debian's absl is built without the sanitizer, so
// that a Mutex orders nothing in its eyes; the linker (--wrap, see CMakeLists.txt here) sends the
// calls of our own objects through these. Between the pre and post marks the sanitizer looks away:
// there absl evaluates the conditions of other waiters.
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#define CONCLAVE_REAL(name) __asm__("__real_" name)
#define CONCLAVE_WRAP(name) __asm__("__wrap_" name)

namespace conclave {
namespace {

class Locking {
 public:
  explicit Locking(absl::Mutex* mutex) : mutex_(mutex) { __tsan_mutex_pre_lock(mutex, 0); }
  ~Locking() { __tsan_mutex_post_lock(mutex_, 0, 1); }

 private:
  absl::Mutex* mutex_;
};

class Unlocking {
 public:
  explicit Unlocking(absl::Mutex* mutex) : mutex_(mutex) { __tsan_mutex_pre_unlock(mutex, 0); }
  ~Unlocking() { __tsan_mutex_post_unlock(mutex_, 0); }

 private:
  absl::Mutex* mutex_;
};

// The mutex is given up and taken again by a wait.
void GiveUp(absl::Mutex* mutex) { Unlocking unlocking(mutex); }

}  // namespace

void RealLock(absl::Mutex*) CONCLAVE_REAL("_ZN4absl7debian35Mutex4LockEv");
void WrapLock(absl::Mutex*) CONCLAVE_WRAP("_ZN4absl7debian35Mutex4LockEv");
void WrapLock(absl::Mutex* mutex) {
  Locking locking(mutex);
  RealLock(mutex);
}

void RealUnlock(absl::Mutex*) CONCLAVE_REAL("_ZN4absl7debian35Mutex6UnlockEv");
void WrapUnlock(absl::Mutex*) CONCLAVE_WRAP("_ZN4absl7debian35Mutex6UnlockEv");
void WrapUnlock(absl::Mutex* mutex) {
  Unlocking unlocking(mutex);
  RealUnlock(mutex);
}

void RealDestroy(absl::Mutex*) CONCLAVE_REAL("_ZN4absl7debian35MutexD1Ev");
void WrapDestroy(absl::Mutex*) CONCLAVE_WRAP("_ZN4absl7debian35MutexD1Ev");
void WrapDestroy(absl::Mutex* mutex) {
  RealDestroy(mutex);
  __tsan_mutex_destroy(mutex, 0);
}

void RealLockWhen(absl::Mutex*, const absl::Condition&)
    CONCLAVE_REAL("_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE");
void WrapLockWhen(absl::Mutex*, const absl::Condition&)
    CONCLAVE_WRAP("_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE");
void WrapLockWhen(absl::Mutex* mutex, const absl::Condition& condition) {
  Locking locking(mutex);
  RealLockWhen(mutex, condition);
}

void RealAwait(absl::Mutex*, const absl::Condition&)
    CONCLAVE_REAL("_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE");
void WrapAwait(absl::Mutex*, const absl::Condition&)
    CONCLAVE_WRAP("_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE");
void WrapAwait(absl::Mutex* mutex, const absl::Condition& condition) {
  GiveUp(mutex);
  Locking locking(mutex);
  RealAwait(mutex, condition);
}

bool RealAwaitFor(absl::Mutex*, const absl::Condition&, absl::Duration)
    CONCLAVE_REAL("_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
bool WrapAwaitFor(absl::Mutex*, const absl::Condition&, absl::Duration)
    CONCLAVE_WRAP("_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
bool WrapAwaitFor(absl::Mutex* mutex, const absl::Condition& condition, absl::Duration timeout) {
  GiveUp(mutex);
  Locking locking(mutex);
  return RealAwaitFor(mutex, condition, timeout);
}

bool RealAwaitUntil(absl::Mutex*, const absl::Condition&, absl::Time)
    CONCLAVE_REAL("_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
bool WrapAwaitUntil(absl::Mutex*, const absl::Condition&, absl::Time)
    CONCLAVE_WRAP("_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
bool WrapAwaitUntil(absl::Mutex* mutex, const absl::Condition& condition, absl::Time deadline) {
  GiveUp(mutex);
  Locking locking(mutex);
  return RealAwaitUntil(mutex, condition, deadline);
}

void RealWait(absl::CondVar*, absl::Mutex*)
    CONCLAVE_REAL("_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
void WrapWait(absl::CondVar*, absl::Mutex*)
    CONCLAVE_WRAP("_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
void WrapWait(absl::CondVar* changed, absl::Mutex* mutex) {
  GiveUp(mutex);
  Locking locking(mutex);
  RealWait(changed, mutex);
}

void RealNotify(absl::Notification*) CONCLAVE_REAL("_ZN4absl7debian312Notification6NotifyEv");
void WrapNotify(absl::Notification*) CONCLAVE_WRAP("_ZN4absl7debian312Notification6NotifyEv");
void WrapNotify(absl::Notification* notification) {
  __tsan_release(notification);
  RealNotify(notification);
}

void RealAwaitNotification(const absl::Notification*)
    CONCLAVE_REAL("_ZNK4absl7debian312Notification19WaitForNotificationEv");
void WrapAwaitNotification(const absl::Notification*)
    CONCLAVE_WRAP("_ZNK4absl7debian312Notification19WaitForNotificationEv");
void WrapAwaitNotification(const absl::Notification* notification) {
  RealAwaitNotification(notification);
  __tsan_acquire(const_cast<absl::Notification*>(notification));
}

bool RealAwaitNotificationFor(const absl::Notification*, absl::Duration)
    CONCLAVE_REAL("_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
bool WrapAwaitNotificationFor(const absl::Notification*, absl::Duration)
    CONCLAVE_WRAP("_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
bool WrapAwaitNotificationFor(const absl::Notification* notification, absl::Duration timeout) {
  const bool notified = RealAwaitNotificationFor(notification, timeout);
  if (notified) __tsan_acquire(const_cast<absl::Notification*>(notification));
  return notified;
}

}  // namespace conclave
