#include "vtpmx.h"

#include <fcntl.h>
#include <linux/vtpm_proxy.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace tpmux {
namespace {

/** `vtpmProxyDevice(path)`: {fd, number, major, minor} of a new TPM 2.0 device, or -errno. */
Napi::Value VtpmProxyDevice(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int control = open(info[0].As<Napi::String>().Utf8Value().c_str(), O_RDWR | O_CLOEXEC);
  if (control < 0) return Napi::Number::New(env, -errno);
  vtpm_proxy_new_dev device{};
  device.flags = VTPM_PROXY_FLAG_TPM2;
  const int result = ioctl(control, VTPM_PROXY_IOC_NEW_DEV, &device) == 0 ? 0 : -errno;
  close(control);
  if (result < 0) return Napi::Number::New(env, result);
  // The kernel does not mark it, and a child that inherits it would keep the device alive.
  const int fd = static_cast<int>(device.fd);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  const Napi::Object made = Napi::Object::New(env);
  made.Set("fd", Napi::Number::New(env, fd));
  made.Set("number", Napi::Number::New(env, device.tpm_num));
  made.Set("major", Napi::Number::New(env, device.major));
  made.Set("minor", Napi::Number::New(env, device.minor));
  return made;
}

}  // namespace

void ExportVtpmx(Napi::Env env, Napi::Object exports) {
  exports["vtpmProxyDevice"] = Napi::Function::New<VtpmProxyDevice>(env, "vtpmProxyDevice");
}

}  // namespace tpmux
