# Stands in for the NDK's toolchain file where there is no NDK: Debian's compiler for the same processors, and the
# variables that the NDK sets. Proves that the Android configuration needs nothing of the target machine but a C++
# library; the programs run under qemu-user. Packages: g++-aarch64-linux-gnu, qemu-user-static.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(ANDROID TRUE)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ANDROID_ABI)  # what CMake compiles to try the compiler reads this file too
if(NOT "${ANDROID_ABI}" STREQUAL "arm64-v8a")
  message(FATAL_ERROR "the stand-in has arm64-v8a alone (ANDROID_ABI is \"${ANDROID_ABI}\")")
endif()
# As the NDK does: libraries, headers and packages come from the target's folders only.
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# c++_static
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static-libstdc++ -static-libgcc")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-static-libstdc++ -static-libgcc")
