{
  # Two addons over one static core. The core links without Node, so that its tests are plain
  # executables (native/test/Makefile) and no VM code can reach into JavaScript.
  "target_defaults": {
    "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti"],
    "cflags_cc": ["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wshadow", "-Wno-missing-field-initializers"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
      "MACOSX_DEPLOYMENT_TARGET": "11.0",
      "GCC_SYMBOLS_PRIVATE_EXTERN": "YES"
    },
    "include_dirs": ["native/core", "native/hvf-headers"],
    "conditions": [["OS=='linux'", { "ldflags": ["-pthread"], "cflags": ["-pthread"] }]]
  },
  "targets": [
    {
      "target_name": "core",
      "type": "static_library",
      "sources": ["<!@(node native/sources.mjs core)"]
    },
    {
      "target_name": "vmm",
      "dependencies": ["core"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      # Headers that are not ours do not warn.
      "cflags_cc": ["-isystem", "<!(node -p \"path.dirname(require.resolve('node-addon-api/package.json'))\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "conditions": [["OS=='mac' and target_arch=='x64'", { "libraries": ["-framework Hypervisor"] }]],
      "sources": ["<!@(node native/sources.mjs addon/vmm)"]
    },
    {
      "target_name": "host",
      "dependencies": ["core"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      # Headers that are not ours do not warn.
      "cflags_cc": ["-isystem", "<!(node -p \"path.dirname(require.resolve('node-addon-api/package.json'))\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "sources": ["<!@(node native/sources.mjs addon/host)"]
    }
  ]
}
