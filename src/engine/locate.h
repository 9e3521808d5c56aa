// Where files are that the user did not name: the model that ships, and the vocabulary of a model.
#pragma once
#include <memory>
#include <string>

#include "base/checkpoint.h"
#include "base/result.h"
#include "models/model.h"
#include "text/tokenizer.h"

namespace fr {

// models/rwkv7-story-9m.pth: below FRWKV_SHARE if that is set, in the installed share folder next to the
// program or library, or in the source tree. Error: it is nowhere.
Result<std::string> shipped_model();
bool is_shipped_model(const std::string& path);  // by the name of the file

// The runner (backends/backend.h) that a path needs: "onnx" for NAME.onnx; "ncnn" for NAME.param, for
// NAME.bin beside it unless that is a file of rwkv.cpp, and for NAME if nothing else has that name; else "".
std::string_view exported_kind(const std::string& path);
// An error if the path is an exported model, where its weights are needed.
Status refuse_exported(const std::string& path);
// The error for a runner that this build does not have.
Error missing_runner(std::string_view kind, const std::string& path);

// Where the vocabulary of a model stands: "<model without ending>.vocab.txt", of an ncnn export
// "NAME.vocab.txt".
std::string vocabulary_beside(const std::string& model);
// A vocabulary that stands beside `model` goes beside `copy` too, for formats that have no place for it. What
// was done, for the user; empty: nothing. dry_run: only says so.
std::string copy_vocabulary(const std::string& model, const std::string& copy, bool dry_run = false);

// What --vocab names: a vocabulary file or a built-in one (load_tokenizer), or a GGUF model with its
// vocabulary.
Result<std::shared_ptr<const Tokenizer>> open_tokenizer(const std::string& vocab);

// The vocabulary of a model, the first that there is of:
// 1. `vocab`, if it is not empty;
// 2. "<model without ending>.vocab.txt"; in a model that is a folder the first of rwkv_vocab_v20230424.txt,
//    vocab.txt and tokenizer.json that can be read;
// 3. the one inside the model (GGUF);
// 4. the built-in one: World for 65529 to 65536 entries, 20B for 50277 to 50304.
// Null when there is none. Error: one of 1 to 3 that cannot be read, or does not fit: more entries than the
// model has, or less than seven eighths of them.
Result<std::shared_ptr<const Tokenizer>> find_tokenizer(const std::string& vocab, const Checkpoint& model,
                                                        int n_vocab);

}  // namespace fr
