/* The C API from C: loads the shipped model, generates, saves and restores a state, and meets errors as
 * values. */
#define _POSIX_C_SOURCE 200809L
#include <faster_rwkv/fr.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)
#define OK(call)                                                                 \
  do {                                                                           \
    const fr_error e_ = (call);                                                  \
    if (e_.code != FR_OK) {                                                      \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, e_.message); \
      exit(1);                                                                   \
    }                                                                            \
  } while (0)

struct text {
  char data[4096];
  size_t size;
};

static int append(void* user, const char* text, size_t size) {
  struct text* out = user;
  CHECK(out->size + size < sizeof out->data);
  memcpy(out->data + out->size, text, size);
  out->size += size;
  out->data[out->size] = '\0';
  return 1;
}

static void errors_are_values(void) {
  fr_model* model = NULL;
  fr_error e = fr_model_load("no/such/file.pth", NULL, &model);
  CHECK(e.code == FR_ERROR_FILE && strstr(e.message, "no/such/file.pth") != NULL && model == NULL);
  fr_load_options options = fr_load_options_default();
  options.strategy = "abacus fp32";
  e = fr_model_load(NULL, &options, &model);
  CHECK(e.code == FR_ERROR_USAGE && strstr(e.message, "abacus") != NULL);
  CHECK(fr_model_load(NULL, NULL, NULL).code == FR_ERROR_USAGE);
}

int main(void) {
  fr_model* model = NULL;
  fr_state *state = NULL, *copy = NULL;
  fr_sampler* sampler = NULL;
  errors_are_values();

  OK(fr_model_load(NULL, NULL, &model));
  const fr_model_info info = fr_model_get_info(model);
  CHECK(strcmp(info.version, "7") == 0 && info.n_layer == 8 && info.n_vocab == 4096 && info.is_demo == 1);

  const char* prompt = "Once upon a time, there was a little";
  int32_t ids[64];
  size_t n = 0;
  OK(fr_tokenizer_encode(fr_model_tokenizer(model), prompt, strlen(prompt), ids, 64, &n));
  CHECK(n == 9 && ids[0] == 1803);
  size_t needed = 0; /* too little room: the count alone */
  OK(fr_tokenizer_encode(fr_model_tokenizer(model), prompt, strlen(prompt), NULL, 0, &needed));
  CHECK(needed == n);

  fr_sampler_params params = fr_sampler_params_default();
  params.temperature = 0;
  params.presence_penalty = params.frequency_penalty = 0;
  OK(fr_sampler_new(model, &params, &sampler));
  OK(fr_state_new(model, &state));
  fr_generate_options options = fr_generate_options_default();
  options.max_tokens = 15;
  struct text text = {{0}, 0};
  fr_generate_result result = {0};
  OK(fr_generate(model, state, ids, n, sampler, &options, append, &text, &result));
  CHECK(strcmp(text.data, " girl named Lily. She loved to play with her toys all day long.") == 0);
  CHECK(result.finish == FR_FINISH_LENGTH && result.n_tokens == 15);
  CHECK(fr_state_tokens_seen(state) == n + 15);

  /* fr_step over prompt and reply leads to the same state. */
  OK(fr_state_new(model, &copy));
  float* logits = malloc((size_t)info.n_vocab * sizeof *logits);
  const fr_sequence pieces[] = {{copy, ids, n, FR_WANT_NONE},
                                {copy, result.tokens, result.n_tokens, FR_WANT_LAST}};
  OK(fr_step(model, &pieces[0], 1, NULL, 0, NULL, 0));
  CHECK(fr_step(model, &pieces[1], 1, logits, 10, NULL, 0).code == FR_ERROR_USAGE); /* too little room */
  CHECK(fr_state_tokens_seen(copy) == n);
  OK(fr_step(model, &pieces[1], 1, logits, (size_t)info.n_vocab, NULL, 0));
  float difference = -1;
  OK(fr_state_compare(state, copy, &difference));
  CHECK(difference >= 0 && difference < 1e-3f && isfinite(logits[0]));
  const int32_t bad = 4096;
  const fr_sequence wrong = {copy, &bad, 1, FR_WANT_NONE};
  CHECK(fr_step(model, &wrong, 1, NULL, 0, NULL, 0).code == FR_ERROR_USAGE);
  const fr_sequence twice[] = {{copy, ids, 1, FR_WANT_NONE}, {copy, ids, 1, FR_WANT_NONE}};
  CHECK(fr_step(model, twice, 2, NULL, 0, NULL, 0).code == FR_ERROR_USAGE);

  char path[64];
  snprintf(path, sizeof path, "/tmp/frwkv_c_test_%ld", (long)getpid());
  OK(fr_state_save(state, path));
  fr_state_reset(copy);
  OK(fr_state_load(copy, path));
  OK(fr_state_compare(state, copy, &difference));
  CHECK(difference == 0 && fr_state_tokens_seen(copy) == n + 15);
  remove(path);

  free(logits);
  fr_generate_result_free(&result);
  fr_sampler_free(sampler);
  fr_state_free(copy);
  fr_state_free(state);
  fr_model_free(model);
  puts("ok");
  return 0;
}
