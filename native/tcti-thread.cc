// What the TCTIs of tpm2-tss 3.2.1 allow, and how each is waited for:
//
//            poll handles   finite timeout   cancel            how a response is awaited
//   device   yes            yes              not implemented   poll(), can be interrupted
//   mssim    yes            yes              yes               poll(), can be interrupted
//   tabrmd   yes            yes              yes               poll(), can be interrupted
//   swtpm    no             ignored          not implemented   Receive blocks: the thread outlives Stop until the TPM
//                                                              answers or hangs up, and then cleans up by itself
#include "tcti-thread.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

namespace tpmux {
namespace {

constexpr size_t kMaxResponse = 4096;
constexpr size_t kMaxHandles = 4;
constexpr auto kReceiveHeadStart = std::chrono::milliseconds(20);

/**
 * tpm2-tss opens its descriptors without close-on-exec, and swtpm's TCTI a new one for each command. A child process
 * that inherits one keeps the connection open, and a TPM that serves one connection at a time would wait for it for
 * as long as the child lives. Node marks all of its own descriptors, so this changes nothing else.
 */
void MarkCloseOnExec() {
#ifdef SYS_close_range
  constexpr unsigned kCloseRangeCloexec = 4;
  syscall(SYS_close_range, 3U, ~0U, kCloseRangeCloexec);
#endif
}

int MakeEvent() {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  return fd;
}

void Drain(int event) {
  uint64_t count;
  while (read(event, &count, sizeof count) < 0 && errno == EINTR) continue;
}

void Wipe(std::vector<uint8_t>& bytes) { explicit_bzero(bytes.data(), bytes.size()); }

}  // namespace

TctiThread::TctiThread(Done done) : done_(std::move(done)), wake_(MakeEvent()) {}

TctiThread::~TctiThread() { close(wake_); }

std::shared_ptr<TctiThread> TctiThread::Start(Done done) {
  std::shared_ptr<TctiThread> self(new TctiThread(std::move(done)));
  std::thread([self] { self->Run(); }).detach();
  return self;
}

void TctiThread::Open(uint32_t id, std::string configuration) {
  Add([this, id, configuration = std::move(configuration)] { DoOpen(id, configuration); });
}

void TctiThread::Transceive(uint32_t id, std::vector<uint8_t> command) {
  Add([this, id, command = std::move(command)]() mutable { DoTransceive(id, std::move(command)); });
}

void TctiThread::SetLocality(uint32_t id, uint8_t locality) {
  Add([this, id, locality] {
    Finish(id, context_ == nullptr ? TSS2_TCTI_RC_BAD_CONTEXT : Tss2_Tcti_SetLocality(context_, locality));
  });
}

void TctiThread::Cancel(uint32_t id) {
  if (!can_cancel_) return Finish(id, TSS2_TCTI_RC_NOT_IMPLEMENTED);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancels_.push_back(id);
  }
  Wake();
}

void TctiThread::Stop(uint32_t id) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    if (id != 0) stop_id_ = id;
  }
  Wake();
}

void TctiThread::Add(Job job) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  Wake();
}

void TctiThread::Wake() {
  const uint64_t one = 1;
  while (write(wake_, &one, sizeof one) < 0 && errno == EINTR) continue;
}

void TctiThread::Finish(uint32_t id, TSS2_RC code) {
  if (id != 0) done_({id, code, {}});
}

void TctiThread::Run() {
  Job job;
  while (Next(job)) {
    job();
    job = nullptr;
  }
  if (context_ != nullptr) Tss2_TctiLdr_Finalize(&context_);
  uint32_t id;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    id = std::exchange(stop_id_, 0);
  }
  Finish(id, TSS2_RC_SUCCESS);
}

bool TctiThread::Next(Job& job) {
  for (;;) {
    for (const uint32_t id : TakeCancels()) Finish(id, TSS2_TCTI_RC_BAD_SEQUENCE);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return false;
      if (!jobs_.empty()) {
        job = std::move(jobs_.front());
        jobs_.pop_front();
        return true;
      }
    }
    pollfd wake{wake_, POLLIN, 0};
    poll(&wake, 1, -1);
    Drain(wake_);
  }
}

void TctiThread::DoOpen(uint32_t id, const std::string& configuration) {
  if (context_ != nullptr) return Finish(id, TSS2_TCTI_RC_BAD_SEQUENCE);
  const TSS2_RC code = Tss2_TctiLdr_Initialize(configuration.c_str(), &context_);
  MarkCloseOnExec();
  if (code == TSS2_RC_SUCCESS) {
    // With no command in flight, a TCTI that can cancel says "bad sequence".
    can_cancel_ = Tss2_Tcti_Cancel(context_) != TSS2_TCTI_RC_NOT_IMPLEMENTED;
  } else {
    context_ = nullptr;
  }
  Finish(id, code);
}

void TctiThread::DoTransceive(uint32_t id, std::vector<uint8_t> command) {
  Completion completion{id, TSS2_TCTI_RC_BAD_CONTEXT, {}};
  if (context_ != nullptr) {
    completion.code = Tss2_Tcti_Transmit(context_, command.size(), command.data());
    MarkCloseOnExec();
    if (completion.code == TSS2_RC_SUCCESS) {
      const Wait wait = AwaitResponse();
      if (wait == Wait::kStop) {
        completion.code = TSS2_TCTI_RC_NO_CONNECTION;
      } else if (wait == Wait::kCancel) {
        DoCancel(completion);
      } else {
        Receive(completion);
      }
    }
  }
  Wipe(command);
  done_(std::move(completion));
}

/** Waits until a response can be read. kBlind: this TCTI does not say what to wait for. */
TctiThread::Wait TctiThread::AwaitResponse() {
  std::array<TSS2_TCTI_POLL_HANDLE, kMaxHandles> handles{};
  size_t count = handles.size();
  if (Tss2_Tcti_GetPollHandles(context_, handles.data(), &count) != TSS2_RC_SUCCESS || count == 0) return Wait::kBlind;
  std::array<pollfd, kMaxHandles + 1> fds{};
  fds[0] = {wake_, POLLIN, 0};
  // A TCTI may ask for POLLOUT as well, which is always ready and would make this a busy loop.
  for (size_t i = 0; i < count; i++) fds[i + 1] = {handles[i].fd, POLLIN, 0};
  for (;;) {
    const int ready = poll(fds.data(), count + 1, -1);
    if (ready < 0 && errno != EINTR) return Wait::kBlind;
    if (ready <= 0) continue;
    for (size_t i = 0; i < count; i++) {
      if (fds[i + 1].revents != 0) return Wait::kReadable;
    }
    Drain(wake_);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return Wait::kStop;
    if (!cancels_.empty()) return Wait::kCancel;
  }
}

/**
 * tpm2-tss takes a canceled context as idle: Receive refuses to start after Cancel, but one that already waits
 * goes on to the answer. So Receive gets a thread of its own and a head start.
 */
void TctiThread::DoCancel(Completion& completion) {
  std::thread receiver([this, &completion] { Receive(completion); });
  std::this_thread::sleep_for(kReceiveHeadStart);
  const TSS2_RC code = Tss2_Tcti_Cancel(context_);
  for (const uint32_t id : TakeCancels()) Finish(id, code);
  receiver.join();
}

void TctiThread::Receive(Completion& completion) {
  size_t size = kMaxResponse;
  completion.response.resize(size);
  completion.code = Tss2_Tcti_Receive(context_, &size, completion.response.data(), TSS2_TCTI_TIMEOUT_BLOCK);
  completion.response.resize(completion.code == TSS2_RC_SUCCESS && size <= kMaxResponse ? size : 0);
}

std::vector<uint32_t> TctiThread::TakeCancels() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(cancels_, {});
}

}  // namespace tpmux
