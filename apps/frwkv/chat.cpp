// frwkv chat: the interactive chat, or one turn per line of a pipe.
#include "commands.h"
#include "common/history_file.h"
#include "common/repl.h"
#include "options.h"

namespace fr::app {

int run_chat(int argc, char** argv) {
  CLI::App app("Chat with a model. On a terminal /help lists the commands; in a pipe every line is one turn.",
               "chat");
  ModelOptions model_options;
  TemplateOptions chat_template;
  ChatSetup setup;
  bool history = true;
  add_model_options(app, model_options);
  add_template_options(app, chat_template);
  app.add_flag("--history,!--no-history", history,
               "remember what was typed, in ~/.local/state/frwkv/history");
  add_sampling_options(app, setup.settings, "longest reply; -1: no limit");
  if (!parse(app, argc, argv)) return FR_OK;
  setup.template_name = chat_template.name;
  setup.think = chat_template.think;
  setup.system = chat_template.system;
  if (history) setup.history_file = default_history_file();
  return run_repl(load_model(model_options), setup);
}

}  // namespace fr::app
