#include "notify.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <vector>

#include "descriptors.h"

namespace tpmux {
namespace {

/** The manager reads at once or not at all; the event loop must not hang with it. */
constexpr timeval kSendTimeout{0, 500'000};

int SendTo(const std::string& path, Napi::Uint8Array data, const std::vector<int>& fds, bool wait) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof kSendTimeout);

  std::vector<std::byte> rights = RightsMessage(fds);
  iovec part{data.Data(), data.ByteLength()};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = rights.empty() ? nullptr : rights.data();
  message.msg_controllen = rights.size();
  ssize_t size;
  do {
    size = sendmsg(fd, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT));
  } while (size < 0 && errno == EINTR);
  const int result = size < 0 ? -errno : 0;
  close(fd);
  return result;
}

Napi::Value SendDatagram(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const std::vector<int> fds = DescriptorList(info[2].As<Napi::Array>());
  return Napi::Number::New(info.Env(), SendTo(path, info[1].As<Napi::Uint8Array>(), fds, info[3].ToBoolean().Value()));
}

}  // namespace

void ExportNotify(Napi::Env env, Napi::Object exports) {
  exports["sendDatagram"] = Napi::Function::New<SendDatagram>(env, "sendDatagram");
}

}  // namespace tpmux
