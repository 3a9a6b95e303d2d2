#include "descriptors.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace tpmux {
namespace {

Napi::Value Failure(Napi::Env env) { return Napi::Number::New(env, -errno); }

int Fd(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>().Int32Value(); }

Napi::Value RecvWithFds(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::vector<uint8_t> data(info[1].As<Napi::Number>().Uint32Value());
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  iovec part{data.data(), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = recvmsg(Fd(info, 0), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return Failure(env);
  const std::vector<int> fds = ReceivedDescriptors(message);
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    for (const int fd : fds) close(fd);
    errno = EMSGSIZE;
    return Failure(env);
  }
  return ReceivedObject(env, data.data(), static_cast<size_t>(size), fds);
}

Napi::Value SendWithFds(const Napi::CallbackInfo& info) {
  auto data = info[1].As<Napi::Uint8Array>();
  std::vector<std::byte> rights = RightsMessage(DescriptorList(info[2].As<Napi::Array>()));
  iovec part{data.Data(), data.ByteLength()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = rights.empty() ? nullptr : rights.data();
  message.msg_controllen = rights.size();
  ssize_t size;
  do {
    size = sendmsg(Fd(info, 0), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (size < 0 && errno == EINTR);
  return size < 0 ? Failure(info.Env()) : Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(Fd(info, 0), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return Failure(info.Env());
  const Napi::Object result = Napi::Object::New(info.Env());
  result.Set("pid", Napi::Number::New(info.Env(), peer.pid));
  result.Set("uid", Napi::Number::New(info.Env(), peer.uid));
  result.Set("gid", Napi::Number::New(info.Env(), peer.gid));
  return result;
}

Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return Failure(info.Env());
  const Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(0U, Napi::Number::New(info.Env(), ends[0]));
  result.Set(1U, Napi::Number::New(info.Env(), ends[1]));
  return result;
}

/** The kernel goes back to delayed acknowledgements by itself: it is asked again each time. */
Napi::Value HasInput(const Napi::CallbackInfo& info) {
  pollfd one{Fd(info, 0), POLLIN, 0};
  const int ready = poll(&one, 1, 0);
  return Napi::Number::New(info.Env(), ready < 0 ? -errno : ready);
}

Napi::Value QuickAck(const Napi::CallbackInfo& info) {
  const int on = 1;
  const int result = setsockopt(Fd(info, 0), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
  return result == 0 ? Napi::Number::New(info.Env(), 0) : Failure(info.Env());
}

Napi::Value CloseFd(const Napi::CallbackInfo& info) {
  // After EINTR the descriptor is gone all the same; a second close could hit someone else's.
  if (close(Fd(info, 0)) != 0 && errno != EINTR) return Failure(info.Env());
  return Napi::Number::New(info.Env(), 0);
}

}  // namespace

std::vector<int> ReceivedDescriptors(msghdr& message) {
  std::vector<int> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.push_back(fd);
    }
  }
  return fds;
}

Napi::Object ReceivedObject(Napi::Env env, const uint8_t* data, size_t size, const std::vector<int>& fds) {
  const Napi::Array list = Napi::Array::New(env, fds.size());
  for (uint32_t i = 0; i < fds.size(); i++) list.Set(i, Napi::Number::New(env, fds[i]));
  const Napi::Object result = Napi::Object::New(env);
  result.Set("data", Napi::Buffer<uint8_t>::Copy(env, data, size));
  result.Set("fds", list);
  return result;
}

std::vector<std::byte> RightsMessage(const std::vector<int>& fds) {
  if (fds.empty()) return {};
  const size_t size = fds.size() * sizeof(int);
  std::vector<std::byte> message(CMSG_SPACE(size));
  cmsghdr header{};
  header.cmsg_level = SOL_SOCKET;
  header.cmsg_type = SCM_RIGHTS;
  header.cmsg_len = CMSG_LEN(size);
  memcpy(message.data(), &header, sizeof header);
  memcpy(message.data() + CMSG_LEN(0), fds.data(), size);
  return message;
}

std::vector<int> DescriptorList(const Napi::Array& array) {
  std::vector<int> fds;
  for (uint32_t i = 0; i < array.Length(); i++) fds.push_back(array.Get(i).As<Napi::Number>().Int32Value());
  return fds;
}

void ExportDescriptors(Napi::Env env, Napi::Object exports) {
  exports["recvWithFds"] = Napi::Function::New<RecvWithFds>(env, "recvWithFds");
  exports["sendWithFds"] = Napi::Function::New<SendWithFds>(env, "sendWithFds");
  exports["peerCredentials"] = Napi::Function::New<PeerCredentials>(env, "peerCredentials");
  exports["socketPair"] = Napi::Function::New<SocketPair>(env, "socketPair");
  exports["quickAck"] = Napi::Function::New<QuickAck>(env, "quickAck");
  exports["hasInput"] = Napi::Function::New<HasInput>(env, "hasInput");
  exports["closeFd"] = Napi::Function::New<CloseFd>(env, "closeFd");
}

}  // namespace tpmux
