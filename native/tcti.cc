// Arguments are checked by the TypeScript wrapper (src/native/tcti.ts), which is the only user of this object.
#include "tcti.h"

#include <string.h>
#include <tss2/tss2_rc.h>

#include <utility>

namespace tpmux {
namespace {

/** An Error with the TSS2_RC as `code` and tpm2-tss's words for it as message. */
Napi::Value RcError(Napi::Env env, TSS2_RC code) {
  Napi::Error error = Napi::Error::New(env, Tss2_RC_Decode(code));
  error.Set("code", Napi::Number::New(env, code));
  return error.Value();
}

}  // namespace

void Tcti::Mailbox::Post(Completion completion) {
  auto carried = std::make_unique<Completion>(std::move(completion));
  const std::lock_guard<std::mutex> lock(mutex);
  if (open && function.NonBlockingCall(carried.get()) == napi_ok) carried.release();
}

void Tcti::Mailbox::Deliver(Napi::Env env, Napi::Function, Mailbox* mailbox, Completion* completion) {
  const std::unique_ptr<Completion> carried(completion);
  // Without an environment the queue is only being emptied.
  if (env != nullptr && mailbox->owner != nullptr) mailbox->owner->Complete(env, *carried);
  explicit_bzero(carried->response.data(), carried->response.size());
}

Napi::Function Tcti::Define(Napi::Env env) {
  return DefineClass(env, "Tcti",
                     {
                         InstanceMethod<&Tcti::Open>("open"),
                         InstanceMethod<&Tcti::Transceive>("transceive"),
                         InstanceMethod<&Tcti::SetLocality>("setLocality"),
                         InstanceMethod<&Tcti::Cancel>("cancel"),
                         InstanceMethod<&Tcti::Close>("close"),
                         InstanceMethod<&Tcti::Abandon>("abandon"),
                     });
}

Tcti::Tcti(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Tcti>(info), mailbox_(std::make_shared<Mailbox>()) {
  const Napi::Env env = info.Env();
  mailbox_->owner = this;
  mailbox_->function = Mailbox::Function::New(
      env, "tpmux.Tcti", 0, 1, mailbox_.get(),
      [](Napi::Env, std::shared_ptr<Mailbox>* kept, Mailbox* mailbox) {
        {
          const std::lock_guard<std::mutex> lock(mailbox->mutex);
          mailbox->open = false;
        }
        delete kept;
      },
      new std::shared_ptr<Mailbox>(mailbox_));
  // Only a request in flight keeps the process alive.
  mailbox_->function.Unref(env);
  thread_ = TctiThread::Start([mailbox = mailbox_](Completion completion) { mailbox->Post(std::move(completion)); });
}

Tcti::~Tcti() {
  mailbox_->owner = nullptr;
  Part();
}

/** Lets go of the thread, which ends as soon as it can. */
void Tcti::Part() {
  if (thread_ == nullptr) return;
  thread_->Stop(0);
  thread_ = nullptr;
  const std::lock_guard<std::mutex> lock(mailbox_->mutex);
  if (std::exchange(mailbox_->open, false)) mailbox_->function.Release();
}

Napi::Value Tcti::Open(const Napi::CallbackInfo& info) {
  Napi::Value promise;
  const uint32_t id = Promise(info.Env(), promise);
  thread_->Open(id, info[0].As<Napi::String>().Utf8Value());
  return promise;
}

Napi::Value Tcti::Transceive(const Napi::CallbackInfo& info) {
  Napi::Value promise;
  const uint32_t id = Promise(info.Env(), promise);
  const auto command = info[0].As<Napi::Uint8Array>();
  thread_->Transceive(id, {command.Data(), command.Data() + command.ByteLength()});
  return promise;
}

Napi::Value Tcti::SetLocality(const Napi::CallbackInfo& info) {
  Napi::Value promise;
  const uint32_t id = Promise(info.Env(), promise);
  thread_->SetLocality(id, static_cast<uint8_t>(info[0].As<Napi::Number>().Uint32Value()));
  return promise;
}

Napi::Value Tcti::Cancel(const Napi::CallbackInfo& info) {
  Napi::Value promise;
  thread_->Cancel(Promise(info.Env(), promise));
  return promise;
}

Napi::Value Tcti::Close(const Napi::CallbackInfo& info) {
  Napi::Value promise;
  close_id_ = Promise(info.Env(), promise);
  thread_->Stop(close_id_);
  return promise;
}

/** What is in flight no longer keeps the process alive. */
void Tcti::Abandon(const Napi::CallbackInfo& info) {
  if (thread_ == nullptr) return;
  abandoned_ = true;
  mailbox_->function.Unref(info.Env());
}

/** Throws after close; otherwise a promise, and the id of the request that settles it. */
uint32_t Tcti::Promise(Napi::Env env, Napi::Value& promise) {
  if (thread_ == nullptr) throw Napi::Error::New(env, "this Tcti is closed");
  auto deferred = Napi::Promise::Deferred::New(env);
  promise = deferred.Promise();
  pending_.emplace(++last_id_, deferred);
  Hold(env);
  return last_id_;
}

void Tcti::Complete(Napi::Env env, Completion& completion) {
  const auto found = pending_.find(completion.id);
  if (found == pending_.end()) return;
  const Napi::Promise::Deferred deferred = found->second;
  pending_.erase(found);
  if (completion.id == close_id_) {
    // The thread has ended: requests that it did not come to are answered here.
    for (auto& [id, overtaken] : std::exchange(pending_, {})) {
      overtaken.Reject(RcError(env, TSS2_TCTI_RC_NO_CONNECTION));
    }
  }
  Settle(env, deferred, completion);
  if (pending_.empty()) Release(env);
  if (completion.id == close_id_) Part();
}

void Tcti::Settle(Napi::Env env, const Napi::Promise::Deferred& deferred, Completion& completion) {
  if (completion.code != TSS2_RC_SUCCESS) {
    deferred.Reject(RcError(env, completion.code));
  } else if (completion.response.empty()) {
    deferred.Resolve(env.Undefined());
  } else {
    deferred.Resolve(Napi::Buffer<uint8_t>::Copy(env, completion.response.data(), completion.response.size()));
  }
}

/** Keeps this object from being collected, and the process alive, while promises are open. */
void Tcti::Hold(Napi::Env env) {
  if (held_) return;
  held_ = true;
  Ref();
  if (!abandoned_) mailbox_->function.Ref(env);
}

void Tcti::Release(Napi::Env env) {
  held_ = false;
  mailbox_->function.Unref(env);
  Unref();
}

}  // namespace tpmux
