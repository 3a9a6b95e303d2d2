// The JavaScript object around one TctiThread: turns requests into promises.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <unordered_map>

#include "tcti-thread.h"

namespace tpmux {

class Tcti : public Napi::ObjectWrap<Tcti> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Tcti(const Napi::CallbackInfo& info);
  ~Tcti() override;

 private:
  /**
   * Carries completions from the thread to the event loop. The thread may outlive the environment, so `open` tells
   * under the mutex whether the function can still be called. `owner` belongs to the event loop alone.
   */
  struct Mailbox {
    static void Deliver(Napi::Env env, Napi::Function callback, Mailbox* mailbox, Completion* completion);
    using Function = Napi::TypedThreadSafeFunction<Mailbox, Completion, Deliver>;

    void Post(Completion completion);

    std::mutex mutex;
    bool open = true;
    Function function;
    Tcti* owner = nullptr;
  };

  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Transceive(const Napi::CallbackInfo& info);
  Napi::Value SetLocality(const Napi::CallbackInfo& info);
  Napi::Value Cancel(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);
  void Abandon(const Napi::CallbackInfo& info);

  uint32_t Promise(Napi::Env env, Napi::Value& promise);
  void Complete(Napi::Env env, Completion& completion);
  void Settle(Napi::Env env, const Napi::Promise::Deferred& deferred, Completion& completion);
  void Hold(Napi::Env env);
  void Release(Napi::Env env);
  void Part();

  std::shared_ptr<Mailbox> mailbox_;
  std::shared_ptr<TctiThread> thread_;
  std::unordered_map<uint32_t, Napi::Promise::Deferred> pending_;
  uint32_t last_id_ = 0;
  uint32_t close_id_ = 0;
  bool held_ = false;
  bool abandoned_ = false;
};

}  // namespace tpmux
