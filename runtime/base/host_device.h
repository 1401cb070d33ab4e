// Marks what is compiled for the GPU as well as for the host: nothing where nvcc is not at work.
#pragma once

#ifdef __CUDACC__
#define MEMWALL_HOST_DEVICE __host__ __device__
#else
#define MEMWALL_HOST_DEVICE
#endif
