// A TPM device of the host that is served by this process: ioctl VTPM_PROXY_IOC_NEW_DEV on /dev/vtpmx (linux/vtpm_proxy.h).
#pragma once

#include <napi.h>

namespace tpmux {

void ExportVtpmx(Napi::Env env, Napi::Object exports);

}  // namespace tpmux
