#include "formats/formats.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "formats/fr_msgpack.h"
#include "formats/gguf.h"
#include "formats/hf_directory.h"
#include "formats/layout.h"
#include "formats/pth.h"
#include "formats/reader.h"
#include "formats/rwkv_bin.h"
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
    {"gguf", looks_like_gguf, parse_gguf, nullptr},
    {"fr", looks_like_fr, parse_fr, nullptr},
    {"rwkv.cpp", looks_like_rwkv_bin, parse_rwkv_bin, nullptr},
};

// Files that are recognised and not read.
struct Refused {
  std::string_view what, what_to_do;
};
constexpr std::string_view other_format =
    "give the model as .pth, .safetensors, .st, .gguf, .fr, rwkv.cpp .bin or a Hugging Face folder";
constexpr std::string_view give_weights = "give the file with the weights of the model";
constexpr std::string_view unpack = "unpack it and give the model file inside it";

struct Magic {
  std::string_view bytes;
  Refused refused;
};
constexpr Magic magics[] = {
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

// A msgpack map of numbers to byte strings: a tokenizer_model.
bool is_vocabulary(std::string_view head) {
  const auto u = [&](std::size_t i) { return i < head.size() ? static_cast<unsigned char>(head[i]) : 0u; };
  const std::size_t key = u(0) > 0x80 && u(0) < 0x90 ? 1 : u(0) == 0xde ? 3 : u(0) == 0xdf ? 5 : 0;
  return key > 0 && u(key) < 0x80 && u(key + 1) == 0xc4;
}

// What an unknown file is, as far as its beginning tells.
Refused refuse(Bytes bytes) {
  const std::string_view head = text_of(bytes, 512);
  for (const Magic& magic : magics) {
    if (head.starts_with(magic.bytes)) return magic.refused;
  }
  if (is_vocabulary(head)) return {"this is a tokenizer vocabulary", give_weights};
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

// One file, with the names that are in it.
Result<Checkpoint> open_file(const std::string& path) {
  FR_TRY(const auto file, MappedFile::open(path));
  const Bytes bytes = file->bytes();
  for (const Reader& reader : readers) {
    if (!reader.looks_like(bytes)) continue;
    FR_TRY(Checkpoint checkpoint, reader.parse(bytes, path));
    checkpoint.files.push_back(file);
    return checkpoint;
  }
  const Refused refused = refuse(bytes);
  return file_fault(path, refused.what, refused.what_to_do);
}

}  // namespace

Result<Checkpoint> open_checkpoint(const std::string& path, const Progress& progress) {
  std::error_code ignored;
  const bool directory = std::filesystem::is_directory(path, ignored);
  FR_TRY(Checkpoint checkpoint, directory ? open_hf_directory(path, open_file) : open_file(path));
  FR_OK(to_official_layout(checkpoint));
  const std::uint64_t size = checkpoint.file_size();
  if (progress && !progress("opening", size, size)) {
    return Error{ErrorCode::interrupted, "opening was interrupted (" + path + "): start it again"};
  }
  return checkpoint;
}

Result<bool> verify_checkpoint(const Checkpoint& checkpoint, const Progress& progress) {
  const auto reader = std::find_if(std::begin(readers), std::end(readers),
                                   [&](const Reader& r) { return r.format == checkpoint.format; });
  if (reader == std::end(readers) || reader->verify == nullptr) return false;
  bool compared = false;
  for (const auto& file : checkpoint.files) {
    FR_TRY(const bool has_checksums, reader->verify(file->bytes(), file->path(), progress));
    compared = compared || has_checksums;
  }
  return compared;
}

}  // namespace fr
