// Sockets that are made, asked about and ended without Node.
#pragma once

#include <napi.h>

namespace tpmux {

void ExportSockets(Napi::Env env, Napi::Object exports);

}  // namespace tpmux
