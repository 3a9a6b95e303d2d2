// System calls on descriptors that Node lacks.
#pragma once

#include <napi.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tpmux {

/** The kernel passes at most SCM_MAX_FD (253) in one message; peers of ours have a use for one. */
constexpr size_t kMaxDescriptors = 16;

/** SCM_RIGHTS for `fds`, laid out for `msghdr.msg_control`. Empty for no descriptors. */
std::vector<std::byte> RightsMessage(const std::vector<int>& fds);

/** The descriptors that came with a message. */
std::vector<int> ReceivedDescriptors(msghdr& message);

/** `{data, fds}` for JavaScript; the bytes are copied. */
Napi::Object ReceivedObject(Napi::Env env, const uint8_t* data, size_t size, const std::vector<int>& fds);

/** The numbers in a JavaScript array. */
std::vector<int> DescriptorList(const Napi::Array& array);

/** Adds recvWithFds, sendWithFds, peerCredentials, socketPair and closeFd. Each returns -errno when it fails. */
void ExportDescriptors(Napi::Env env, Napi::Object exports);

}  // namespace tpmux
