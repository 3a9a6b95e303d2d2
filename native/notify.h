// One datagram to a UNIX socket: the service manager's notification protocol, sd_notify(3).
#pragma once

#include <napi.h>

namespace tpmux {

/** Adds sendDatagram(path, data, fds): 0, or -errno. A leading '@' in `path` means the abstract namespace. */
void ExportNotify(Napi::Env env, Napi::Object exports);

}  // namespace tpmux
