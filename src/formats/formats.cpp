#include "formats/formats.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "formats/pth.h"
#include "formats/reader.h"
#include "formats/safetensors.h"

namespace fr {
namespace {

using Bytes = std::span<const std::byte>;

struct Reader {
  std::string_view format;  // Checkpoint::format
  bool (*looks_like)(Bytes);
  Result<Checkpoint> (*parse)(Bytes, std::string_view path);
  Result<bool> (*verify)(Bytes, std::string_view path, const Progress&);  // null: the format has no checksums
};
constexpr Reader readers[] = {
    {"pth", looks_like_pth, parse_pth, verify_pth},
    {"safetensors", looks_like_safetensors, parse_safetensors, nullptr},
};

// Files that are recognised and not read.
struct Refused {
  std::string_view what, what_to_do;
};
constexpr std::string_view other_format =
    "this version reads .pth and .safetensors; give the model in one of these";
constexpr std::string_view give_weights = "give the .pth or .safetensors file of the model";
constexpr std::string_view unpack = "unpack it and give the model file inside it";

struct Magic {
  std::string_view bytes;
  Refused refused;
};
constexpr Magic magics[] = {
    {"GGUF", {"this is a GGUF file", other_format}},
    {"fmgg", {"this is an rwkv.cpp file", other_format}},
    {"lmgg", {"this is an old ggml file", other_format}},
    {"tjgg", {"this is an old ggml file", other_format}},
    {"\x89HDF", {"this is an HDF5 file", other_format}},
    {"\x93NUMPY", {"this is a NumPy array", other_format}},
    {"\x1f\x8b", {"this is a gzip archive", unpack}},
    {"\x28\xb5\x2f\xfd", {"this is a zstd archive", unpack}},
    {"\3757zXZ", {"this is an xz archive", unpack}},
    {"7z\xbc\xaf", {"this is a 7z archive", unpack}},
    {"BZh", {"this is a bzip2 archive", unpack}},
    {"Rar!", {"this is a RAR archive", unpack}},
    {"\177ELF", {"this is a program", give_weights}},
    {"%PDF", {"this is a PDF document", give_weights}},
    {"version https://git-lfs",
     {"this is a git-lfs pointer, not the file itself", "run `git lfs pull`, or download the file"}},
};

std::string_view text_of(Bytes bytes, std::size_t length) {
  return {reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), length)};
}

bool is_text(std::string_view head) {
  return std::none_of(head.begin(), head.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return (u < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f') || u == 0x7f;
  });
}

// A msgpack map: of words to values (.fr models), or of numbers to byte strings (tokenizer_model).
std::optional<Refused> msgpack(std::string_view head) {
  const auto u = [&](std::size_t i) { return i < head.size() ? static_cast<unsigned char>(head[i]) : 0u; };
  const std::size_t key = u(0) > 0x80 && u(0) < 0x90 ? 1 : u(0) == 0xde ? 3 : u(0) == 0xdf ? 5 : 0;
  if (key == 0) return std::nullopt;
  if (u(key) > 0xa0 && u(key) < 0xc0) {
    const std::string_view word = head.substr(key + 1, u(key) - 0xa0u);
    const bool is_word = word.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == word.npos;
    if (is_word) return Refused{"this is a .fr file", other_format};
  }
  if (u(key) < 0x80 && u(key + 1) == 0xc4) return Refused{"this is a tokenizer vocabulary", give_weights};
  return std::nullopt;
}

// What an unknown file is, as far as its beginning tells.
Refused refuse(Bytes bytes) {
  const std::string_view head = text_of(bytes, 512);
  for (const Magic& magic : magics) {
    if (head.starts_with(magic.bytes)) return magic.refused;
  }
  if (const auto refused = msgpack(head)) return *refused;
  if (is_text(head)) {
    const std::string_view words = head.substr(std::min(head.size(), head.find_first_not_of(" \t\r\n")));
    if (words.starts_with("<!") || words.starts_with("<html") || words.starts_with("<HTML")) {
      return {"this is a web page, not a model",
              "the download went wrong (wrong address, or a login is needed); download the file itself"};
    }
    if (words.starts_with('{')) return {"this is a JSON file", give_weights};
    return {"this is a text file", give_weights};
  }
  if (text_of(bytes, 262).substr(std::min<std::size_t>(bytes.size(), 257)) == "ustar")
    return {"this is a tar archive", unpack};
  if (head.size() > 2 && head[0] == 8 && head[1] < 32 && head[2] == 0x12)
    return {"this is an ONNX file", other_format};
  if (std::all_of(head.begin(), head.end(), [](char c) { return c == 0; })) {
    return {"the file begins with zeros, as unfinished downloads do", "download it again"};
  }
  return {"the file has no known format", other_format};
}

std::optional<Error> refuse_directory(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::path directory(path);
  if (!std::filesystem::is_directory(directory, ignored)) return std::nullopt;
  for (const char* name :
       {"config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"}) {
    if (std::filesystem::exists(directory / name, ignored)) {
      return file_fault(path, "this is a Hugging Face model directory, which this version does not read",
                        "give the official .pth file of the model");
    }
  }
  return std::nullopt;  // MappedFile::open reports any other directory
}

Status report(const Progress& progress, const std::string& path, std::size_t done, std::size_t total) {
  if (!progress || progress("opening", done, total)) return {};
  return Error{ErrorCode::interrupted, "opening was interrupted (" + path + "): start it again"};
}

}  // namespace

Result<Checkpoint> open_checkpoint(const std::string& path, const Progress& progress) {
  if (auto error = refuse_directory(path)) return *error;
  FR_TRY(const auto file, MappedFile::open(path));
  const Bytes bytes = file->bytes();
  FR_OK(report(progress, path, 0, bytes.size()));
  for (const Reader& reader : readers) {
    if (!reader.looks_like(bytes)) continue;
    FR_TRY(Checkpoint checkpoint, reader.parse(bytes, path));
    checkpoint.file = file;
    FR_OK(report(progress, path, bytes.size(), bytes.size()));
    return checkpoint;
  }
  const Refused refused = refuse(bytes);
  return file_fault(path, refused.what, refused.what_to_do);
}

Result<bool> verify_checkpoint(const Checkpoint& checkpoint, const Progress& progress) {
  for (const Reader& reader : readers) {
    if (reader.format != checkpoint.format || reader.verify == nullptr || !checkpoint.file) continue;
    return reader.verify(checkpoint.file->bytes(), checkpoint.path, progress);
  }
  return false;
}

}  // namespace fr
