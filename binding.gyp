{
  'targets': [
    {
      'target_name': 'tpmux',
      'sources': [
        'native/addon.cc',
        'native/descriptors.cc',
        'native/exchange-memory.cc',
        'native/notify.cc',
        'native/sockets.cc',
        'native/tcti.cc',
        'native/tcti-thread.cc',
        'native/vtpmx.cc',
        'native/watch.cc',
      ],
      'dependencies': ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except"],
      # Nothing can be thrown into a worker that is being terminated; that is no reason to abort the process.
      'defines': ['NAPI_VERSION=8', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
      'cflags': ["<!@(pkg-config --cflags tss2-tctildr tss2-rc)"],
      'cflags_cc!': ['-std=gnu++20', '-std=gnu++17'],
      'cflags_cc': ['-std=c++17', '-fexceptions', '-fvisibility=hidden', '-Wall', '-Wextra'],
      'libraries': ["<!@(pkg-config --libs tss2-tctildr tss2-rc)"],
      # A thread may still be waiting for a chip when the last worker that uses the addon ends: its code must stay mapped.
      'ldflags': ['-Wl,-z,nodelete', '-Wl,-z,relro,-z,now'],
    },
  ],
}
