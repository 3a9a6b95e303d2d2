#include "watch.h"

#include <fcntl.h>
#include <node_api.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>

namespace tpmux {

/**
 * The descriptor in the loop. It belongs to the loop, not to the JavaScript object: libuv needs its handle until the loop has closed
 * it, and a worker's loop is closed before it may end.
 */
class Watched {
 public:
  /** `owner` is set to null when the environment ends before the owner does. */
  Watched(Napi::Env env, uv_loop_t* loop, int fd, Watched** owner) : env_(env), fd_(fd), owner_(owner), context_(env, "tpmux:watch") {
    error_ = uv_poll_init(loop, &poll_, fd);
    poll_.data = this;
    if (error_ == 0) napi_add_async_cleanup_hook(env, AtExit, this, &hook_);
  }

  int error() const { return error_; }
  int fd() const { return fd_; }

  int Once(Napi::Function callback, bool writable) {
    callback_ = Napi::Persistent(callback);
    return uv_poll_start(&poll_, writable ? UV_WRITABLE : UV_READABLE, Ready);
  }

  void Close() {
    if (closing_) return;
    closing_ = true;
    *owner_ = nullptr;
    callback_.Reset();
    if (error_ != 0) {
      Closed(this);
      return;
    }
    uv_poll_stop(&poll_);
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_), [](uv_handle_t* handle) { Closed(static_cast<Watched*>(handle->data)); });
  }

 private:
  static void Closed(Watched* self) {
    close(self->fd_);
    if (self->hook_ != nullptr) napi_remove_async_cleanup_hook(self->hook_);
    delete self;
  }

  static void AtExit(napi_async_cleanup_hook_handle, void* self) { static_cast<Watched*>(self)->Close(); }

  // An error (a hang-up among them) is told as well: reading or writing then says what it is.
  static void Ready(uv_poll_t* poll, int, int) {
    auto* self = static_cast<Watched*>(poll->data);
    uv_poll_stop(poll);
    const Napi::HandleScope scope(self->env_);
    const Napi::Function callback = self->callback_.Value();
    self->callback_.Reset();
    callback.MakeCallback(self->env_.Global(), std::initializer_list<napi_value>{}, self->context_);
  }

  Napi::Env env_;
  int fd_;
  Watched** owner_;
  int error_ = 0;
  bool closing_ = false;
  uv_poll_t poll_{};
  napi_async_cleanup_hook_handle hook_ = nullptr;
  Napi::AsyncContext context_;
  Napi::FunctionReference callback_;
};

Napi::Function Watch::Define(Napi::Env env) {
  return DefineClass(env, "Watch",
                     {InstanceMethod<&Watch::Error>("error"), InstanceMethod<&Watch::Descriptor>("descriptor"),
                      InstanceMethod<&Watch::Once>("once"), InstanceMethod<&Watch::Close>("close")});
}

Watch::Watch(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Watch>(info) {
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  const int fd = fcntl(info[0].As<Napi::Number>().Int32Value(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) {
    error_ = -errno;
    return;
  }
  watched_ = new Watched(info.Env(), loop, fd, &watched_);
  error_ = watched_->error();
  if (error_ != 0) watched_->Close();
}

Watch::~Watch() {
  if (watched_ != nullptr) watched_->Close();
}

Napi::Value Watch::Error(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), error_); }

Napi::Value Watch::Descriptor(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), watched_ == nullptr ? -1 : watched_->fd());
}

Napi::Value Watch::Once(const Napi::CallbackInfo& info) {
  const int result = watched_ == nullptr ? -EBADF : watched_->Once(info[0].As<Napi::Function>(), info[1].ToBoolean().Value());
  return Napi::Number::New(info.Env(), result);
}

Napi::Value Watch::Close(const Napi::CallbackInfo& info) {
  if (watched_ != nullptr) watched_->Close();
  return info.Env().Undefined();
}

}  // namespace tpmux
