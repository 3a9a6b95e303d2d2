// System calls on descriptors that Node lacks.
#pragma once

#include <napi.h>

#include <cstddef>
#include <vector>

namespace tpmux {

/** SCM_RIGHTS for `fds`, laid out for `msghdr.msg_control`. Empty for no descriptors. */
std::vector<std::byte> RightsMessage(const std::vector<int>& fds);

/** The numbers in a JavaScript array. */
std::vector<int> DescriptorList(const Napi::Array& array);

/** Adds recvWithFds, sendWithFds, peerCredentials, socketPair and closeFd. Each returns -errno when it fails. */
void ExportDescriptors(Napi::Env env, Napi::Object exports);

}  // namespace tpmux
