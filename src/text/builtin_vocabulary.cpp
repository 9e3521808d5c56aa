// Takes the file into the object with .incbin: no generated source, no compile time. Works with the GNU and
// the LLVM assembler for ELF on every processor; FR_TOKENIZER_MODEL is the path, given by CMake.
#include "text/builtin_vocabulary.h"

__asm__(
    ".pushsection .rodata\n"
    ".global fr_tokenizer_model\n"
    ".hidden fr_tokenizer_model\n"
    ".global fr_tokenizer_model_end\n"
    ".hidden fr_tokenizer_model_end\n"
    "fr_tokenizer_model:\n"
    ".incbin \"" FR_TOKENIZER_MODEL
    "\"\n"
    "fr_tokenizer_model_end:\n"
    ".popsection\n");

extern "C" {
__attribute__((visibility("hidden"))) extern const char fr_tokenizer_model[];
__attribute__((visibility("hidden"))) extern const char fr_tokenizer_model_end[];
}

namespace fr {

std::string_view builtin_vocabulary() {
  return {fr_tokenizer_model, static_cast<std::size_t>(fr_tokenizer_model_end - fr_tokenizer_model)};
}

}  // namespace fr
