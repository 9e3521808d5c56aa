# FR_ENABLE_CUDA: the CUDA device library (src/backends/cuda), built with nvcc. Also what its emulated build for tests
# needs, which takes a C++ compiler only (tests/cuda).
option(FR_ENABLE_CUDA "Build the CUDA device library libfaster_rwkv_cuda.so (needs nvcc)" OFF)

set(FR_CUDA_FOLDER ${PROJECT_SOURCE_DIR}/src/backends/cuda)
set(FR_CUDA_HOST_SOURCES cuda_device.cpp cuda_ops.cpp device_sampler.cpp driver.cpp graphs.cpp memory.cpp native.cpp
  native_linear.cpp native_mix.cpp native_wkv.cpp pack.cpp recording.cpp scan.cpp slots.cpp step_inputs.cpp)
file(GLOB FR_CUDA_KERNEL_SOURCES CONFIGURE_DEPENDS RELATIVE ${FR_CUDA_FOLDER} ${FR_CUDA_FOLDER}/*.cu)
list(TRANSFORM FR_CUDA_HOST_SOURCES PREPEND ${FR_CUDA_FOLDER}/)
list(TRANSFORM FR_CUDA_KERNEL_SOURCES PREPEND ${FR_CUDA_FOLDER}/)

# What the program and the device library must share: the headers whose types go from one to the other, and the compiler.
file(GLOB abi_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/core/*.h ${PROJECT_SOURCE_DIR}/src/base/*.h
  ${PROJECT_SOURCE_DIR}/src/backends/backend.h ${FR_CUDA_FOLDER}/plugin.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${abi_headers})
set(abi_hashes "")
foreach(header ${abi_headers})
  file(SHA256 ${header} hash)
  string(APPEND abi_hashes ${hash})
endforeach()
string(SHA256 abi_hash "${abi_hashes}")
string(SUBSTRING ${abi_hash} 0 12 abi_hash)
set(FR_CUDA_ABI "${PROJECT_VERSION} ${abi_hash} ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
if(FR_SANITIZE)
  string(APPEND FR_CUDA_ABI " ${FR_SANITIZE}")
endif()

if(FR_ENABLE_CUDA)
  if(FR_SANITIZE)
    message(FATAL_ERROR "FR_ENABLE_CUDA and FR_SANITIZE do not go together: sanitizers see the emulated build")
  endif()
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(FR_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    if(NOT FR_NVCC)
      message(FATAL_ERROR "FR_ENABLE_CUDA needs nvcc, and none was found: install the CUDA toolkit (13.0 or newer), "
        "or say where it is with -DCMAKE_CUDA_COMPILER=/path/to/nvcc, or build with -DFR_ENABLE_CUDA=OFF")
    endif()
    set(CMAKE_CUDA_COMPILER ${FR_NVCC})
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80;90a;120" CACHE STRING "GPUs to build for; native: the one in this machine")
  endif()
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  if(FR_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${FR_CCACHE})
  endif()
  enable_language(CUDA)
  if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 knows CUDA up to 17
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  find_package(CUDAToolkit REQUIRED)

  # "80;90a" -> "sm_80, sm_90a"
  set(FR_CUDA_ARCHITECTURE_NAMES ${CMAKE_CUDA_ARCHITECTURES})
  list(TRANSFORM FR_CUDA_ARCHITECTURE_NAMES REPLACE "-(real|virtual)$" "")
  list(REMOVE_DUPLICATES FR_CUDA_ARCHITECTURE_NAMES)
  list(TRANSFORM FR_CUDA_ARCHITECTURE_NAMES PREPEND "sm_")
  list(JOIN FR_CUDA_ARCHITECTURE_NAMES ", " FR_CUDA_ARCHITECTURE_NAMES)
endif()
