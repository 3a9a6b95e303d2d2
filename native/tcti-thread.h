// One connection to a TPM through tpm2-tss, and the one thread that uses it. Knows nothing of Node.
#pragma once

#include <tss2/tss2_tcti.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tpmux {

/** What became of one request; `response` is filled for transceive only. */
struct Completion {
  uint32_t id = 0;
  TSS2_RC code = TSS2_RC_SUCCESS;
  std::vector<uint8_t> response;
};

/**
 * The thread owns the TSS2_TCTI_CONTEXT from initialization to finalization; other threads only leave requests.
 * It is detached and shares ownership of this object, so nobody ever waits for a chip that does not answer.
 */
class TctiThread : public std::enable_shared_from_this<TctiThread> {
 public:
  using Done = std::function<void(Completion)>;

  /** `done` is called once for every request, mostly on the thread; not for those that Stop overtakes. Throws std::system_error when the thread can't be made. */
  static std::shared_ptr<TctiThread> Start(Done done);
  ~TctiThread();
  TctiThread(const TctiThread&) = delete;
  TctiThread& operator=(const TctiThread&) = delete;

  void Open(uint32_t id, std::string configuration);
  void Transceive(uint32_t id, std::vector<uint8_t> command);
  void SetLocality(uint32_t id, uint8_t locality);
  /** Asks the TPM to give up the command in flight, which is answered all the same. Only after Open is done. */
  void Cancel(uint32_t id);
  /** Ends the thread as soon as it can be interrupted. `id` is done when the context is finalized; 0 reports nothing. */
  void Stop(uint32_t id);

 private:
  explicit TctiThread(Done done);

  using Job = std::function<void()>;
  enum class Wait { kReadable, kCancel, kStop, kBlind };

  void Run();
  bool Next(Job& job);
  void Add(Job job);
  void Wake();
  void Finish(uint32_t id, TSS2_RC code);
  void DoOpen(uint32_t id, const std::string& configuration);
  void DoTransceive(uint32_t id, std::vector<uint8_t> command);
  Wait AwaitResponse();
  void DoCancel(Completion& completion);
  void Receive(Completion& completion);
  std::vector<uint32_t> TakeCancels();

  const Done done_;
  const int wake_;
  TSS2_TCTI_CONTEXT* context_ = nullptr;
  std::atomic<bool> can_cancel_{false};

  std::mutex mutex_;
  std::deque<Job> jobs_;
  std::vector<uint32_t> cancels_;
  uint32_t stop_id_ = 0;
  bool stopping_ = false;
};

}  // namespace tpmux
