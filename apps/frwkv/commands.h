// The commands of frwkv. Each parses its own arguments (argv[0] is its name), throws faster_rwkv::Error, and
// returns the exit code.
#pragma once

namespace fr::app {

int run_bench(int argc, char** argv);
int run_chat(int argc, char** argv);
int run_convert(int argc, char** argv);
int run_doctor(int argc, char** argv);
int run_export(int argc, char** argv);
int run_generate(int argc, char** argv);
int run_info(int argc, char** argv);
int run_list(int argc, char** argv);
int run_logits(int argc, char** argv);
int run_perplexity(int argc, char** argv);
int run_pull(int argc, char** argv);
int run_tokenize(int argc, char** argv);

}  // namespace fr::app
