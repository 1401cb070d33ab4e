// In the place of the driver's library where there is none: cuDNN looks for these functions before
// it compiles for a card that is only described to it. Each says that no driver is initialised.
#define NOT_INITIALIZED(name)                                    \
  extern "C" __attribute__((visibility("default"))) int name() { \
    return 3;                                                    \
  }

NOT_INITIALIZED(cuInit)
NOT_INITIALIZED(cuDriverGetVersion)
NOT_INITIALIZED(cuGetProcAddress)
NOT_INITIALIZED(cuGetProcAddress_v2)
NOT_INITIALIZED(cuGetErrorName)
NOT_INITIALIZED(cuGetErrorString)
NOT_INITIALIZED(cuCtxGetCurrent)
NOT_INITIALIZED(cuCtxGetLimit)
NOT_INITIALIZED(cuCtxPopCurrent)
NOT_INITIALIZED(cuCtxPushCurrent)
NOT_INITIALIZED(cuStreamGetCtx)
NOT_INITIALIZED(cuLinkCreate)
NOT_INITIALIZED(cuLinkAddData)
NOT_INITIALIZED(cuLinkComplete)
NOT_INITIALIZED(cuLinkDestroy)
NOT_INITIALIZED(cuLaunchKernel)
NOT_INITIALIZED(cuLaunchKernelEx)
NOT_INITIALIZED(cuLaunchCooperativeKernel)
NOT_INITIALIZED(cuDeviceGet)
NOT_INITIALIZED(cuDeviceGetCount)
NOT_INITIALIZED(cuLibraryLoadData)
NOT_INITIALIZED(cuLibraryLoadFromFile)
NOT_INITIALIZED(cuLibraryGetKernel)
NOT_INITIALIZED(cuLibraryUnload)
NOT_INITIALIZED(cuKernelSetAttribute)
NOT_INITIALIZED(cuKernelGetAttribute)
NOT_INITIALIZED(cuOccupancyMaxPotentialClusterSize)
