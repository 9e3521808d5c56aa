// Where files are that the user did not name: the model that ships, and the vocabulary of a model.
#pragma once
#include <memory>
#include <string>

#include "base/result.h"
#include "models/model.h"
#include "text/tokenizer.h"

namespace fr {

// models/rwkv7-story-9m.pth: below FRWKV_SHARE if that is set, in the installed share folder next to the
// program or library, or in the source tree. Error: it is nowhere.
Result<std::string> shipped_model();
bool is_shipped_model(const std::string& path);  // by the name of the file

// `vocab` if it is not empty; else "<model without ending>.vocab.txt" if it exists; else the built-in World
// vocabulary if the model has 65529 to 65536 entries; else null. Error: a vocabulary that does
// not fit: more entries than the model, or less than three quarters of them.
Result<std::shared_ptr<const Tokenizer>> find_tokenizer(const std::string& vocab,
                                                        const std::string& model_path, int n_vocab);

}  // namespace fr
