// Words of CUDA C++ for headers and kernels that other compilers read too.
#pragma once

#ifdef __CUDACC__
#define FR_HOST_DEVICE __host__ __device__
#define FR_UNROLL _Pragma("unroll")
#else
#define FR_HOST_DEVICE
#define FR_UNROLL
#endif
