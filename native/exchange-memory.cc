#include "exchange-memory.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "descriptors.h"

namespace tpmux {
namespace {

/** "tpmuxLG" and the version of the layout. */
constexpr uint64_t kFormat = 0x74706d75784c4702;
/** Most bytes that are received at once. */
constexpr uint32_t kPiece = 1 << 18;
/** Larger pieces of used memory are given back. */
constexpr size_t kWipeLimit = 1 << 16;
constexpr size_t kPage = 4096;

enum Phase : uint32_t { kIdle = 0, kExecuting = 1, kEffect = 2, kAnswered = 3 };

uint32_t Uint(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>().Uint32Value(); }
int Fd(const Napi::CallbackInfo& info, size_t index) { return info[index].As<Napi::Number>().Int32Value(); }
Napi::Value Result(const Napi::CallbackInfo& info, int64_t value) { return Napi::Number::New(info.Env(), static_cast<double>(value)); }

}  // namespace

Napi::Function ExchangeMemory::Define(Napi::Env env) {
  return DefineClass(
      env, "ExchangeMemory",
      {InstanceMethod<&ExchangeMemory::Error>("error"), InstanceMethod<&ExchangeMemory::Descriptor>("descriptor"),
       InstanceMethod<&ExchangeMemory::Receive>("receive"), InstanceMethod<&ExchangeMemory::Input>("input"), InstanceMethod<&ExchangeMemory::View>("view"),
       InstanceMethod<&ExchangeMemory::Begin>("begin"), InstanceMethod<&ExchangeMemory::Effect>("effect"), InstanceMethod<&ExchangeMemory::Answer>("answer"),
       InstanceMethod<&ExchangeMemory::Send>("send"), InstanceMethod<&ExchangeMemory::Done>("done"), InstanceMethod<&ExchangeMemory::SetNote>("setNote"), InstanceMethod<&ExchangeMemory::Close>("close")});
}

ExchangeMemory::ExchangeMemory(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ExchangeMemory>(info) {
  const int fd = Fd(info, 0);
  in_size_ = Uint(info, 1);
  out_size_ = Uint(info, 2);
  size_ = kHeaderSize + 2 * static_cast<size_t>(in_size_) + out_size_;
  error_ = Open(fd, info[3].ToBoolean().Value());
}

ExchangeMemory::~ExchangeMemory() { Release(); }

int ExchangeMemory::Open(int fd, bool kept) {
  if (fd >= 0) {
    fd_ = fd;
    return Map(fd, false);
  }
  if (!kept) return Map(-1, true);
  fd_ = memfd_create("tpmux", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd_ < 0) return -errno;
  if (ftruncate(fd_, static_cast<off_t>(size_)) != 0) return -errno;
  if (fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return -errno;
  return Map(fd_, true);
}

int ExchangeMemory::Map(int fd, bool fresh) {
  struct stat found{};
  if (!fresh && (fstat(fd, &found) != 0 || static_cast<size_t>(found.st_size) != size_)) return -EINVAL;
  void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
  if (memory == MAP_FAILED) return -errno;
  base_ = static_cast<uint8_t*>(memory);
  if (fresh) {
    header()->in_size = in_size_;
    header()->out_size = out_size_;
    header()->format = kFormat;
  }
  return Sound() ? 0 : -EINVAL;
}

bool ExchangeMemory::Sound() const {
  static_assert(sizeof(Header) <= kHeaderSize);
  const Header& found = *header();
  if (found.format != kFormat || found.in_size != in_size_ || found.out_size != out_size_ || found.active > 1) return false;
  const State& raw = found.states[found.active];
  if (raw.in.msg_len > in_size_ || raw.out.msg_len > out_size_ || raw.end > in_size_ || raw.sent > out_size_) return false;
  const State state = Now();
  return state.area <= 1 && state.phase <= kAnswered && state.start <= state.end && state.end <= in_size_ &&
         state.request <= state.end - state.start && state.response <= out_size_ && state.sent <= state.response;
}

ExchangeMemory::State ExchangeMemory::Now() const {
  State state = header()->states[header()->active];
  state.end += state.in.msg_len;
  state.sent += state.out.msg_len;
  state.in = {};
  state.out = {};
  return state;
}

void ExchangeMemory::Publish(State next) {
  const uint32_t other = header()->active ^ 1;
  header()->states[other] = next;
  __atomic_store_n(&header()->active, other, __ATOMIC_SEQ_CST);
}

void ExchangeMemory::Wipe(uint8_t* bytes, size_t size) {
  if (size > kWipeLimit) {
    const auto from = (reinterpret_cast<uintptr_t>(bytes) + kPage - 1) / kPage * kPage;
    const auto to = reinterpret_cast<uintptr_t>(bytes + size) / kPage * kPage;
    if (madvise(reinterpret_cast<void*>(from), to - from, MADV_REMOVE) == 0) {
      explicit_bzero(bytes, from - reinterpret_cast<uintptr_t>(bytes));
      explicit_bzero(reinterpret_cast<void*>(to), reinterpret_cast<uintptr_t>(bytes) + size - to);
      return;
    }
  }
  explicit_bzero(bytes, size);
}

Napi::Value ExchangeMemory::Error(const Napi::CallbackInfo& info) { return Result(info, error_); }

Napi::Value ExchangeMemory::Descriptor(const Napi::CallbackInfo& info) { return Result(info, fd_); }

/** Receives what is there behind the input that is not consumed. */
Napi::Value ExchangeMemory::Receive(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Result(info, -EBADF);
  State state = Now();
  if (state.end == in_size_ && state.start > 0) {
    const uint32_t size = state.end - state.start;
    memcpy(Area(state.area ^ 1), Area(state.area) + state.start, size);
    State moved = state;
    moved.area ^= 1;
    moved.start = 0;
    moved.end = size;
    Publish(moved);
    Wipe(Area(state.area) + state.start, size);
    state = moved;
  } else {
    Publish(state);
  }
  if (state.end == in_size_) return Result(info, -ENOBUFS);
  uint8_t* place = Area(state.area) + state.end;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
  iovec part{place, std::min(kPiece, in_size_ - state.end)};
  mmsghdr& message = header()->states[header()->active].in;
  message.msg_hdr.msg_iov = &part;
  message.msg_hdr.msg_iovlen = 1;
  const bool descriptors = info[1].As<Napi::Boolean>().Value();
  message.msg_hdr.msg_control = descriptors ? control : nullptr;
  message.msg_hdr.msg_controllen = descriptors ? sizeof control : 0;
  int count;
  do {
    count = recvmmsg(Fd(info, 0), &message, 1, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return Result(info, -errno);
  const std::vector<int> fds = descriptors ? ReceivedDescriptors(message.msg_hdr) : std::vector<int>{};
  const uint32_t size = message.msg_len;
  if (descriptors && (message.msg_hdr.msg_flags & MSG_CTRUNC) != 0) {
    for (const int fd : fds) close(fd);
    return Result(info, -EMSGSIZE);
  }
  return ReceivedObject(info.Env(), place, size, fds);
}

/** A copy of the input that is not consumed. */
Napi::Value ExchangeMemory::Input(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Napi::Buffer<uint8_t>::New(info.Env(), 0);
  const State state = Now();
  return Napi::Buffer<uint8_t>::Copy(info.Env(), Area(state.area) + state.start, state.end - state.start);
}

Napi::Value ExchangeMemory::View(const Napi::CallbackInfo& info) {
  const State state = base_ == nullptr ? State{} : Now();
  const Napi::Object view = Napi::Object::New(info.Env());
  view.Set("phase", Napi::Number::New(info.Env(), state.phase));
  view.Set("request", Napi::Number::New(info.Env(), state.request));
  view.Set("token", Napi::Number::New(info.Env(), state.token));
  view.Set("note", Napi::Number::New(info.Env(), state.note));
  return view;
}

/** The first `size` bytes of the input are being executed. */
Napi::Value ExchangeMemory::Begin(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Result(info, -EBADF);
  State state = Now();
  const uint32_t size = Uint(info, 0);
  if (state.phase != kIdle || size > state.end - state.start) return Result(info, -EINVAL);
  state.phase = kExecuting;
  state.request = size;
  state.token = Uint(info, 1);
  Publish(state);
  return Result(info, 0);
}

/** From now on something of the request can be there, whether it is answered or not. */
Napi::Value ExchangeMemory::Effect(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Result(info, -EBADF);
  State state = Now();
  if (state.phase != kExecuting && state.phase != kEffect) return Result(info, -EINVAL);
  state.phase = kEffect;
  Publish(state);
  return Result(info, 0);
}

Napi::Value ExchangeMemory::Answer(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Result(info, -EBADF);
  State state = Now();
  const auto response = info[0].As<Napi::Uint8Array>();
  if (state.phase != kExecuting && state.phase != kEffect) return Result(info, -EINVAL);
  if (response.ByteLength() > out_size_) return Result(info, -EMSGSIZE);
  memcpy(Out(), response.Data(), response.ByteLength());
  state.phase = kAnswered;
  state.response = static_cast<uint32_t>(response.ByteLength());
  state.sent = 0;
  Publish(state);
  return Result(info, 0);
}

/** Sends what is left of the response without waiting; how much is left then. */
Napi::Value ExchangeMemory::Send(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Result(info, -EBADF);
  State state = Now();
  if (state.phase != kAnswered) return Result(info, -EINVAL);
  if (state.sent == state.response) return Result(info, 0);
  Publish(state);
  iovec part{Out() + state.sent, state.response - state.sent};
  mmsghdr& message = header()->states[header()->active].out;
  message.msg_hdr.msg_iov = &part;
  message.msg_hdr.msg_iovlen = 1;
  int count;
  do {
    count = sendmmsg(Fd(info, 0), &message, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return Result(info, -errno);
  state = Now();
  return Result(info, state.response - state.sent);
}

/** The request was answered: it is consumed, and `note` is what is remembered. */
Napi::Value ExchangeMemory::Done(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Result(info, -EBADF);
  State state = Now();
  if (state.phase != kAnswered) return Result(info, -EINVAL);
  const State before = state;
  state.start += state.request;
  if (state.start == state.end) state.start = state.end = 0;
  state.phase = kIdle;
  state.request = state.token = state.response = state.sent = 0;
  state.note = Uint(info, 0);
  Publish(state);
  Wipe(Area(before.area) + before.start, before.request);
  Wipe(Out(), before.response);
  return Result(info, 0);
}

Napi::Value ExchangeMemory::SetNote(const Napi::CallbackInfo& info) {
  if (base_ == nullptr) return Result(info, -EBADF);
  State state = Now();
  state.note = Uint(info, 0);
  Publish(state);
  return Result(info, 0);
}

Napi::Value ExchangeMemory::Close(const Napi::CallbackInfo& info) {
  Release();
  return info.Env().Undefined();
}

void ExchangeMemory::Release() {
  if (base_ != nullptr) munmap(base_, size_);
  base_ = nullptr;
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

}  // namespace tpmux
