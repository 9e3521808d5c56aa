// The 20-line program: loads the shipped model and continues a text.
#include <faster_rwkv/fr.hpp>
#include <iostream>

int main() try {
  const faster_rwkv::Model model;
  faster_rwkv::State state(model);
  fr_sampler_params params = fr_sampler_params_default();
  params.temperature = 0;
  params.presence_penalty = params.frequency_penalty = 0;
  faster_rwkv::Sampler sampler(model, params);
  fr_generate_options options = fr_generate_options_default();
  options.max_tokens = 15;
  const auto prompt = model.tokenizer().encode("Once upon a time, there was a little");
  const auto reply = faster_rwkv::generate(model, state, prompt, sampler, options);
  std::cout << reply.text << "\n";
  return state.tokens_seen() == prompt.size() + reply.result.n_tokens ? 0 : 1;
} catch (const faster_rwkv::Error& e) {
  std::cerr << e.what() << "\n";
  return e.code();
}
