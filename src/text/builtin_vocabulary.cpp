// Takes the files into the object with .incbin: no generated source, no compile time. Works with the GNU and
// the LLVM assembler for ELF on every processor; FR_TOKENIZER_MODEL and FR_20B_MERGES are paths, given by
// CMake.
#include "text/builtin_vocabulary.h"

#define FR_FILE_IMAGE(name, path)   \
  __asm__(                          \
      ".pushsection .rodata\n"      \
      ".global " name               \
      "\n"                          \
      ".hidden " name               \
      "\n"                          \
      ".global " name               \
      "_end\n"                      \
      ".hidden " name "_end\n" name \
      ":\n"                         \
      ".incbin \"" path "\"\n" name \
      "_end:\n"                     \
      ".popsection\n")

FR_FILE_IMAGE("fr_tokenizer_model", FR_TOKENIZER_MODEL);
FR_FILE_IMAGE("fr_20b_merges", FR_20B_MERGES);

extern "C" {
__attribute__((visibility("hidden"))) extern const char fr_tokenizer_model[];
__attribute__((visibility("hidden"))) extern const char fr_tokenizer_model_end[];
__attribute__((visibility("hidden"))) extern const char fr_20b_merges[];
__attribute__((visibility("hidden"))) extern const char fr_20b_merges_end[];
}

namespace fr {

std::string_view builtin_vocabulary() {
  return {fr_tokenizer_model, static_cast<std::size_t>(fr_tokenizer_model_end - fr_tokenizer_model)};
}

std::string_view builtin_20b_merges() {
  return {fr_20b_merges, static_cast<std::size_t>(fr_20b_merges_end - fr_20b_merges)};
}

}  // namespace fr
