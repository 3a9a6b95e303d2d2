// The native half of src/native: TCTI access and the system calls that Node lacks.
#include <napi.h>

#include "descriptors.h"
#include "exchange-memory.h"
#include "notify.h"
#include "sockets.h"
#include "tcti.h"
#include "vtpmx.h"
#include "watch.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports["ExchangeMemory"] = tpmux::ExchangeMemory::Define(env);
  exports["Tcti"] = tpmux::Tcti::Define(env);
  exports["Watch"] = tpmux::Watch::Define(env);
  tpmux::ExportDescriptors(env, exports);
  tpmux::ExportNotify(env, exports);
  tpmux::ExportSockets(env, exports);
  tpmux::ExportVtpmx(env, exports);
  return exports;
}

NODE_API_MODULE(tpmux, Init)
