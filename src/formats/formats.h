// Opens model files of any known format. Formats are recognised by content, never by name.
// A new format is one reader file and one line in the table in formats.cpp.
#pragma once
#include <string>

#include "base/checkpoint.h"
#include "base/log.h"
#include "base/result.h"

namespace fr {

// Maps the file and reads its index; no tensor data is read or copied. Any thread.
// Errors (ErrorCode::invalid_file) name the path and say what to do: missing, directory, empty, damaged; a
// model in a format that is not supported; something that is no model. ErrorCode::interrupted when `progress`
// said so.
Result<Checkpoint> open_checkpoint(const std::string& path, const Progress& progress = {});

// Compares the data of an opened file with the checksums in it. Reads the whole file. False: it has none.
Result<bool> verify_checkpoint(const Checkpoint& checkpoint, const Progress& progress = {});

}  // namespace fr
