# `cmake --install`: programs, library, headers, the shipped model, and the package behind find_package(faster_rwkv).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS faster_rwkv EXPORT faster_rwkv_targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/faster_rwkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY models DESTINATION ${CMAKE_INSTALL_DATADIR}/faster_rwkv)
if(FR_BUILD_APPS)
  install(TARGETS frwkv chat export_ncnn RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  set_target_properties(frwkv chat export_ncnn PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
endif()

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/faster_rwkv)
install(EXPORT faster_rwkv_targets NAMESPACE faster_rwkv:: DESTINATION ${config_dir})
configure_package_config_file(cmake/faster_rwkv-config.cmake.in ${PROJECT_BINARY_DIR}/faster_rwkv-config.cmake
  INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/faster_rwkv-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/faster_rwkv-config.cmake ${PROJECT_BINARY_DIR}/faster_rwkv-config-version.cmake
  DESTINATION ${config_dir})
