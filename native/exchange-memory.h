// What one connection has going on, in memory that outlives the process.
#pragma once

#include <napi.h>
#include <sys/socket.h>

#include <cstdint>

namespace tpmux {

/**
 * Input that is not answered yet, the response that is being sent, and how far that is. The kernel writes the number of bytes that it took
 * or gave into the same memory within the system call, so that wherever the process is killed nothing is lost and nothing is sent twice.
 */
class ExchangeMemory : public Napi::ObjectWrap<ExchangeMemory> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit ExchangeMemory(const Napi::CallbackInfo& info);
  ~ExchangeMemory() override;

 private:
  struct State {
    uint32_t area;
    /** Unconsumed input, before in.msg_len is added. */
    uint32_t start, end;
    uint32_t phase;
    /** Size of the request that is being answered. */
    uint32_t request;
    uint32_t token;
    uint32_t response;
    /** Bytes of the response that were taken, before out.msg_len is added. */
    uint32_t sent;
    uint32_t note;
    mmsghdr in, out;
  };
  struct Header {
    uint64_t format;
    uint32_t in_size, out_size;
    uint32_t active;
    State states[2];
  };

  Napi::Value Error(const Napi::CallbackInfo& info);
  Napi::Value Descriptor(const Napi::CallbackInfo& info);
  Napi::Value Receive(const Napi::CallbackInfo& info);
  Napi::Value Input(const Napi::CallbackInfo& info);
  Napi::Value View(const Napi::CallbackInfo& info);
  Napi::Value Begin(const Napi::CallbackInfo& info);
  Napi::Value Effect(const Napi::CallbackInfo& info);
  Napi::Value Answer(const Napi::CallbackInfo& info);
  Napi::Value Send(const Napi::CallbackInfo& info);
  Napi::Value Done(const Napi::CallbackInfo& info);
  Napi::Value SetNote(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  int Open(int fd, bool kept);
  int Map(int fd, bool fresh);
  bool Sound() const;
  void Release();
  /** The state with what the kernel has added to it. */
  State Now() const;
  /** Makes `next` the state, in one store. */
  void Publish(State next);
  uint8_t* Area(uint32_t area) const { return base_ + kHeaderSize + static_cast<size_t>(area) * in_size_; }
  uint8_t* Out() const { return Area(2); }
  static void Wipe(uint8_t* bytes, size_t size);

  static constexpr size_t kHeaderSize = 4096;
  int error_ = 0;
  int fd_ = -1;
  uint8_t* base_ = nullptr;
  size_t size_ = 0;
  uint32_t in_size_ = 0, out_size_ = 0;
  Header* header() const { return reinterpret_cast<Header*>(base_); }
};

}  // namespace tpmux
