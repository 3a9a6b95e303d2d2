#include "sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>

namespace tpmux {
namespace {

int Fd(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>().Int32Value(); }
Napi::Value Result(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }

/** A UNIX socket bound to a path, of mode 0600 from the beginning. */
int Bound(const std::string& path, int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  // The mode of the socket's file is that of the socket, if it is set before.
  if (fchmod(fd, S_IRUSR | S_IWUSR) == 0 && bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = -errno;
  close(fd);
  return error;
}

Napi::Value ListenUnix(const Napi::CallbackInfo& info) {
  const int fd = Bound(info[0].As<Napi::String>().Utf8Value(), SOCK_STREAM);
  if (fd < 0 || listen(fd, SOMAXCONN) == 0) return Result(info, fd);
  const int error = -errno;
  close(fd);
  return Result(info, error);
}

Napi::Value BindDatagram(const Napi::CallbackInfo& info) {
  return Result(info, Bound(info[0].As<Napi::String>().Utf8Value(), SOCK_DGRAM));
}

bool Option(int fd, int option, int* value) {
  socklen_t size = sizeof *value;
  return getsockopt(fd, SOL_SOCKET, option, value, &size) == 0;
}

Napi::Value DescribeSocket(const Napi::CallbackInfo& info) {
  const int fd = Fd(info, 0);
  int type = 0, listening = 0;
  if (!Option(fd, SO_TYPE, &type) || !Option(fd, SO_ACCEPTCONN, &listening)) return Result(info, -errno);
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return Result(info, -errno);
  const Napi::Object result = Napi::Object::New(info.Env());
  result.Set("stream", Napi::Boolean::New(info.Env(), type == SOCK_STREAM));
  result.Set("listening", Napi::Boolean::New(info.Env(), listening != 0));
  if (address.ss_family == AF_UNIX) {
    const auto* unix_address = reinterpret_cast<sockaddr_un*>(&address);
    const size_t offset = offsetof(sockaddr_un, sun_path);
    const size_t length = size > offset ? strnlen(unix_address->sun_path, size - offset) : 0;
    result.Set("path", Napi::String::New(info.Env(), unix_address->sun_path, length));
  } else if (address.ss_family == AF_INET) {
    const auto* inet = reinterpret_cast<sockaddr_in*>(&address);
    char text[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, &inet->sin_addr, text, sizeof text);
    result.Set("host", Napi::String::New(info.Env(), text));
    result.Set("port", Napi::Number::New(info.Env(), ntohs(inet->sin_port)));
  }
  return result;
}

Napi::Value ShutdownSocket(const Napi::CallbackInfo& info) {
  return Result(info, shutdown(Fd(info, 0), SHUT_RDWR) == 0 ? 0 : -errno);
}

Napi::Value DuplicateFd(const Napi::CallbackInfo& info) {
  const int fd = fcntl(Fd(info, 0), F_DUPFD_CLOEXEC, 0);
  return Result(info, fd >= 0 ? fd : -errno);
}

Napi::Value SetCloseOnExec(const Napi::CallbackInfo& info) {
  return Result(info, fcntl(Fd(info, 0), F_SETFD, FD_CLOEXEC) == 0 ? 0 : -errno);
}

}  // namespace

void ExportSockets(Napi::Env env, Napi::Object exports) {
  exports["listenUnix"] = Napi::Function::New<ListenUnix>(env, "listenUnix");
  exports["bindDatagram"] = Napi::Function::New<BindDatagram>(env, "bindDatagram");
  exports["describeSocket"] = Napi::Function::New<DescribeSocket>(env, "describeSocket");
  exports["shutdownSocket"] = Napi::Function::New<ShutdownSocket>(env, "shutdownSocket");
  exports["duplicateFd"] = Napi::Function::New<DuplicateFd>(env, "duplicateFd");
  exports["setCloseOnExec"] = Napi::Function::New<SetCloseOnExec>(env, "setCloseOnExec");
}

}  // namespace tpmux
