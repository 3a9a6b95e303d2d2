// Waiting on the event loop until a descriptor can be read, without reading: what is read may carry descriptors.
#pragma once

#include <napi.h>

namespace tpmux {

class Watched;

/**
 * `new Watch(fd)`: watches a duplicate of `fd`, so that Node may have the descriptor itself in its loop. `error` is -errno if that
 * could not be made, otherwise 0. `once(callback)` calls back when there is something to read, or the end. `close()` ends it.
 */
class Watch : public Napi::ObjectWrap<Watch> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Watch(const Napi::CallbackInfo& info);
  ~Watch() override;

 private:
  Napi::Value Error(const Napi::CallbackInfo& info);
  Napi::Value Descriptor(const Napi::CallbackInfo& info);
  Napi::Value Once(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  int error_ = 0;
  Watched* watched_ = nullptr;
};

}  // namespace tpmux
