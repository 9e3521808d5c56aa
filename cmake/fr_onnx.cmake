# onnxruntime for the onnx runner: an installed CMake package (onnxruntime-config.cmake), or headers and library found by
# name, in FR_ONNXRUNTIME_DIR (a folder with include/ and lib/) first. Defines the target fr_onnxruntime if there is one.
#   FR_ENABLE_ONNX           OFF: do not look for it
#   FR_ONNXRUNTIME_DIR       where it is; an error if it is not there
#   FR_ONNXRUNTIME_LIBRARY   the library, if its name is not libonnxruntime.so
option(FR_ENABLE_ONNX "Run ONNX exports where an installed onnxruntime with headers is found" ON)
set(FR_ONNXRUNTIME_DIR "" CACHE PATH "Folder of onnxruntime, with include/ and lib/")
if(NOT FR_ENABLE_ONNX)
  return()
endif()

if(NOT FR_ONNXRUNTIME_DIR)
  find_package(onnxruntime CONFIG QUIET)
endif()
if(TARGET onnxruntime::onnxruntime)
  set_target_properties(onnxruntime::onnxruntime PROPERTIES IMPORTED_GLOBAL TRUE)
  add_library(fr_onnxruntime INTERFACE)
  target_link_libraries(fr_onnxruntime INTERFACE onnxruntime::onnxruntime)
else()
  find_path(FR_ONNXRUNTIME_INCLUDE onnxruntime_c_api.h HINTS ${FR_ONNXRUNTIME_DIR}
    PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session onnxruntime onnxruntime/core/session)
  find_library(FR_ONNXRUNTIME_LIBRARY onnxruntime HINTS ${FR_ONNXRUNTIME_DIR} PATH_SUFFIXES lib lib64)
  if(FR_ONNXRUNTIME_INCLUDE AND FR_ONNXRUNTIME_LIBRARY)
    add_library(fr_onnxruntime INTERFACE)
    target_include_directories(fr_onnxruntime SYSTEM INTERFACE ${FR_ONNXRUNTIME_INCLUDE})
    target_link_libraries(fr_onnxruntime INTERFACE ${FR_ONNXRUNTIME_LIBRARY})
  elseif(FR_ONNXRUNTIME_DIR)
    message(FATAL_ERROR "no onnxruntime_c_api.h or no libonnxruntime in FR_ONNXRUNTIME_DIR=${FR_ONNXRUNTIME_DIR}: "
      "give a folder with include/ and lib/ of an onnxruntime release")
  endif()
endif()
if(TARGET fr_onnxruntime)
  message(STATUS "onnxruntime found: the onnx runner is built")
else()
  message(STATUS "no onnxruntime with headers found: the onnx runner is not built")
endif()
