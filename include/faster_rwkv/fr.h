/* faster-rwkv: run RWKV language models (v4 to v7) from C. C++ users: fr.hpp wraps this header.
 *
 * Conventions, for every function:
 * - Errors are values: functions that can fail return fr_error; code FR_OK means success. Outputs are written
 * only on success. Nothing here prints, exits or throws.
 * - Ownership: what *_new, *_load, *_clone hand out is freed with the matching *_free (NULL is allowed). An
 * object keeps alive what it depends on (a state its model). Pointers returned by getters belong to the
 * object.
 * - Strings are UTF-8 and end with a zero byte unless a size is given; text given with a size may hold any
 * bytes.
 * - Threads: a model may be used from several threads, its steps run one after the other. A state, sampler or
 * chat is used by one thread at a time. Tokenizers are immutable.
 * - Numbers: token ids are int32, logits and states float32 in the machine's byte order.
 * - Option structs start from their *_default() function, so that new fields get sensible values.
 */
#ifndef FASTER_RWKV_FR_H
#define FASTER_RWKV_FR_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define FR_API __declspec(dllexport)
#else
#define FR_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors and messages
 * ------------------------------------------------------------------------------------- */

typedef enum fr_code { /* also the exit codes of the programs */
                       FR_OK = 0,
                       FR_ERROR_RUNTIME = 1,
                       FR_ERROR_USAGE = 2, /* an argument is wrong */
                       FR_ERROR_FILE = 3,  /* a file is missing, damaged, or not what was expected */
                       FR_ERROR_NETWORK = 4,
                       FR_INTERRUPTED = 130 /* a callback asked to stop */
} fr_code;

typedef struct fr_error {
  fr_code code;
  char message[508]; /* "<what> (<where>): <what to do>", one line; empty on success */
} fr_error;

/* Version of the library, "0.1.0". */
FR_API const char* fr_version(void);

typedef enum fr_log_level { FR_LOG_DEBUG = 0, FR_LOG_INFO = 1, FR_LOG_WARNING = 2 } fr_log_level;
typedef void (*fr_log_callback)(void* user, fr_log_level level, const char* message);
/* Process wide; NULL drops messages (the default). The callback may be called from any thread. */
FR_API void fr_set_log_callback(fr_log_callback callback, void* user);

/* Bytes owned by the caller: free with fr_buffer_free. data always ends with a zero byte beyond size. */
typedef struct fr_buffer {
  char* data;
  size_t size;
} fr_buffer;
FR_API void fr_buffer_free(fr_buffer* buffer);

/* ---- models
 * -------------------------------------------------------------------------------------------------- */

typedef struct fr_model fr_model;
typedef struct fr_tokenizer fr_tokenizer;
typedef struct fr_state fr_state;
typedef struct fr_sampler fr_sampler;
typedef struct fr_chat fr_chat;

/* done and total in bytes. Return 0 to stop (the call then ends with FR_INTERRUPTED). */
typedef int (*fr_progress_callback)(void* user, const char* step, uint64_t done, uint64_t total);

typedef struct fr_load_options {
  const char*
      strategy; /* "cpu fp16", "cpu fp32 *8 -> cpu bf16"; NULL: fastest device, the file's number format */
  const char* vocab; /* vocabulary file; NULL: beside the model, else World if the sizes fit */
  const char*
      state;   /* initial state of every new fr_state: our state file or a tuned .pth; NULL: the file's own */
  int threads; /* 0: one per available core */
  int deterministic; /* 1: logits independent of batch, chunking and threads; an error where a device has none
                      */
  int exact_activations; /* 1: inputs of matrix products stay float32. 0: a device may round them, to 8 bits
                            with int8 and int4 weights, to bf16 with bf16 weights and many tokens at once,
                            which is faster */
  int max_states;        /* most states alive at a time; 0: as many as memory holds. Chats keep up to 9, and a
                            generation with stop strings needs one more for a while */
  fr_progress_callback progress; /* may be NULL */
  void* user;
} fr_load_options;
FR_API fr_load_options fr_load_options_default(void);

/* Loads a model file of any supported version and format; path NULL: the model that ships. options NULL:
 * defaults. */
FR_API fr_error fr_model_load(const char* path, const fr_load_options* options, fr_model** out);
FR_API void fr_model_free(fr_model* model);

typedef struct fr_model_info {
  const char* path;
  const char* format;        /* "pth", "safetensors" */
  const char* version;       /* "4", "5.0", "5.1", "5.2", "6", "7" */
  const char* strategy;      /* in effect, e.g. "cpu fp16" */
  const char* devices;       /* one line on the device: threads, instruction set */
  const char* template_name; /* chat template that fits (a guess) */
  const char* think;         /* its think mode, "off" where there is none */
  const char* dtype;         /* number format of the file's matrices */
  int n_layer, n_embd, n_vocab, n_ffn, n_head, head_size; /* n_head, head_size: 0 for v4 */
  int is_demo;                                            /* 1: the small model that ships */
  int64_t n_parameters;
  int64_t state_size;   /* floats */
  int64_t weight_bytes; /* packed, allocated */
  int64_t mapped_bytes; /* used in place from the file */
} fr_model_info;
/* Strings live as long as the model. */
FR_API fr_model_info fr_model_get_info(const fr_model* model);
/* What a file is, without loading its weights, as one JSON object: version, sizes, dtypes, format,
 * n_parameters, state_size, tokenizer, template, tensors (names, dtypes, shapes), notes. verify 1: also check
 * the stored checksums. */
FR_API fr_error fr_file_info_json(const char* path, int verify, fr_buffer* out);

/* ---- export
 * -------------------------------------------------------------------------------------------------- */

typedef struct fr_export_options {
  const char* dtype; /* of the matrices: "fp32", "fp16", for ncnn also "int8", "int4"; NULL: fp16 for ncnn,
                        fp32 for onnx */
  int chunk;         /* ncnn: tokens of the sequence graph, 2 to 256; 0: 16; -1: no sequence graph */
  fr_progress_callback progress; /* may be NULL */
  void* user;
} fr_export_options;
FR_API fr_export_options fr_export_options_default(void);
/* Writes a model, given as a file with its weights, as graphs of another runtime. kind "ncnn": out is the
 * prefix of PREFIX.param, PREFIX.seq.param, PREFIX.bin and PREFIX.config; "onnx": out ends in .onnx. report
 * (may be NULL): a JSON object with "files", "bytes", "chunk", "notes". An error leaves no files. */
FR_API fr_error fr_export(const char* kind, const char* path, const char* out,
                          const fr_export_options* options, fr_buffer* report);

/* ---- tokenizers
 * ---------------------------------------------------------------------------------------------- */

/* path NULL: the World vocabulary that is built in. Reads `tokenizer_model` (msgpack) and the official txt
 * form. */
FR_API fr_error fr_tokenizer_load(const char* path, fr_tokenizer** out);
FR_API void fr_tokenizer_free(fr_tokenizer* tokenizer);
/* The model's own, owned by the model; NULL when its vocabulary is not known (load with
 * fr_load_options.vocab). */
FR_API const fr_tokenizer* fr_model_tokenizer(const fr_model* model);
FR_API int fr_tokenizer_vocab_size(const fr_tokenizer* tokenizer); /* largest id + 1 */
/* Any bytes -> ids. *count is the number of ids; when it exceeds capacity nothing is written (call again). */
FR_API fr_error fr_tokenizer_encode(const fr_tokenizer* tokenizer, const char* text, size_t size,
                                    int32_t* ids, size_t capacity, size_t* count);
/* ids -> the exact bytes. Error: an id that the vocabulary does not have. */
FR_API fr_error fr_tokenizer_decode(const fr_tokenizer* tokenizer, const int32_t* ids, size_t count,
                                    fr_buffer* out);

/* ---- states: the whole memory of a sequence
 * -------------------------------------------------------------------- */

FR_API fr_error fr_state_new(fr_model* model, fr_state** out); /* the initial state */
FR_API void fr_state_free(fr_state* state);
FR_API fr_error fr_state_clone(const fr_state* state, fr_state** out);
FR_API fr_error fr_state_copy(fr_state* to, const fr_state* from); /* both of one model */
FR_API void fr_state_reset(fr_state* state);                       /* to the initial state */
/* Largest absolute difference of any number; 0 = equal. */
FR_API fr_error fr_state_compare(const fr_state* a, const fr_state* b, float* max_abs);
FR_API uint64_t fr_state_tokens_seen(const fr_state* state);
/* Canonical form, fr_model_info.state_size floats: per layer v4 att.x_prev, aa, bb, pp, ffn.x_prev [D each];
 * v5, v6 att.x_prev [D], att.kv [H][key][value], ffn.x_prev [D]; v7 the same with att.kv [H][value][key]. */
FR_API fr_error fr_state_export(const fr_state* state, float* values, size_t count);
FR_API fr_error fr_state_import(fr_state* state, const float* values, size_t count);
/* A safetensors file with the model's fingerprint and a checksum. Loading refuses a state of another model
 * and a damaged file; it also takes a tuned initial state (.pth or .safetensors with
 * blocks.N.att.time_state). */
FR_API fr_error fr_state_save(const fr_state* state, const char* path);
FR_API fr_error fr_state_load(fr_state* state, const char* path);

/* ---- steps
 * ----------------------------------------------------------------------------------------------------- */

typedef enum fr_want { FR_WANT_NONE = 0, FR_WANT_LAST = 1, FR_WANT_ALL = 2 } fr_want;

/* The tokens that one sequence feeds in a step: one in decode, many in prefill; any mix of sequences in one
 * step. */
typedef struct fr_sequence {
  fr_state* state;       /* of this model; distinct within a step */
  const int32_t* tokens; /* [n_tokens], n_tokens >= 1 */
  size_t n_tokens;
  fr_want want; /* which tokens' logits are wanted */
} fr_sequence;

/* Feeds the tokens and advances the states. logits: one row of n_vocab floats for every wanted token,
 * sequence by sequence; hidden (may be NULL): the same rows of n_embd floats after the final norm. *_capacity
 * in floats. An error found before the step (a wrong token id, too little capacity) leaves the states as they
 * were. */
FR_API fr_error fr_step(fr_model* model, const fr_sequence* sequences, size_t n_sequences, float* logits,
                        size_t logits_capacity, float* hidden, size_t hidden_capacity);
/* Feeds the tokens and draws one token per sequence from its last logits, which stay where they were
 * computed. samplers[i] also counts the drawn token. `want` is ignored. */
FR_API fr_error fr_step_sample(fr_model* model, const fr_sequence* sequences, size_t n_sequences,
                               fr_sampler* const* samplers, int32_t* tokens);

/* ---- sampling
 * -------------------------------------------------------------------------------------------------- */

typedef struct fr_logit_bias {
  int32_t token;
  float bias;
} fr_logit_bias;

typedef struct fr_sampler_params {
  const char* profile; /* "rwkv" (the pip package's rules), "albatross", "ai00" */
  double temperature;  /* 0: greedy */
  int top_k;           /* 0: off */
  double top_p;        /* 1: off */
  double min_p;        /* 0: off */
  double typical_p;    /* 1: off */
  double presence_penalty, frequency_penalty, penalty_decay;
  uint64_t seed; /* same logits, parameters and seed: same tokens on every machine */
  const fr_logit_bias* logit_bias;
  size_t n_logit_bias;
  const int32_t* banned;
  size_t n_banned;
} fr_sampler_params;
/* Profile rwkv with the values of ChatRWKV's chat: temperature 1, top_p 0.3, penalties 0.5, 0.5, decay 0.996.
 */
FR_API fr_sampler_params fr_sampler_params_default(void);
/* The values that the program behind a profile uses: rwkv as above, albatross with top_k 500, ai00. Error: no
 * such profile. */
FR_API fr_error fr_sampler_params_for(const char* profile, fr_sampler_params* out);

/* The model tells the vocabulary, and which tokens the rwkv profile exempts from the frequency penalty
 * (digits, space, tab). Errors name the parameter. */
FR_API fr_error fr_sampler_new(const fr_model* model, const fr_sampler_params* params, fr_sampler** out);
FR_API void fr_sampler_free(fr_sampler* sampler);
FR_API fr_error fr_sampler_clone(const fr_sampler* sampler, fr_sampler** out);
FR_API fr_error fr_sampler_set_params(fr_sampler* sampler,
                                      const fr_sampler_params* params); /* keeps the counts */
FR_API void fr_sampler_reset(
    fr_sampler* sampler); /* forgets the counts, restarts the generator at the seed */
/* Draws from a row of logits [n_vocab] and counts the token. Errors: NaN logits, every token banned. */
FR_API fr_error fr_sampler_sample(fr_sampler* sampler, const float* logits, int32_t* token);

/* ---- generation
 * ------------------------------------------------------------------------------------------------ */

typedef enum fr_finish {
  FR_FINISH_LENGTH = 0, /* max_tokens reached */
  FR_FINISH_STOP = 1,   /* a stop token or stop string */
  FR_FINISH_CANCELLED = 2
} fr_finish;

/* A piece of the reply: complete UTF-8 characters (invalid bytes arrive as U+FFFD), never part of a stop
 * string; size may be 0 while something is held back. Return 0 to stop. */
typedef int (*fr_text_callback)(void* user, const char* text, size_t size);

typedef struct fr_generate_options {
  int max_tokens;           /* < 0: no limit */
  const char* const* stops; /* stop strings, matched across token borders; not part of the text */
  size_t n_stops;
  const int32_t* stop_tokens; /* not part of the text */
  size_t n_stop_tokens;
  int ignore_eos;    /* 1: token 0 (end of text) does not stop */
  int think_visible; /* chats: 1: the callback also gets the reasoning, as <think>...</think> before the
                        answer */
} fr_generate_options;
FR_API fr_generate_options fr_generate_options_default(void); /* 256 tokens, stop at token 0 */

typedef struct fr_generate_result {
  fr_finish finish;
  int n_prompt;    /* tokens fed before the first drawn one */
  int n_generated; /* tokens drawn, a stop token included */
  double prompt_seconds, generate_seconds;
  int32_t* tokens; /* [n_tokens] of the text; owned by the result */
  size_t n_tokens;
} fr_generate_result;
FR_API void fr_generate_result_free(fr_generate_result* result);

/* Feeds the prompt (at least one token) and draws until something stops it. Afterwards the state has seen the
 * prompt and exactly result.tokens. The sampler counts drawn tokens only. callback and result may be NULL. */
FR_API fr_error fr_generate(fr_model* model, fr_state* state, const int32_t* prompt, size_t n_prompt,
                            fr_sampler* sampler, const fr_generate_options* options,
                            fr_text_callback callback, void* user, fr_generate_result* result);

/* ---- chats
 * ----------------------------------------------------------------------------------------------------- */

typedef struct fr_chat_options {
  const char* template_name; /* NULL or "auto": the model's guess; names: fr_template_names */
  const char*
      think; /* "off", "fast", "on", "low", "medium", "high"; NULL: "fast" where the template thinks */
  const char* system; /* NULL: none */
} fr_chat_options;

/* Comma separated names of the chat templates. */
FR_API const char* fr_template_names(void);
/* One turn in text form, as generate --template sends it: [system] user text, ready for the reply. */
FR_API fr_error fr_template_render(const fr_chat_options* options, const char* user_text, fr_buffer* out);

/* A conversation: a state, its template, and snapshots for undo and retry (the last 8 turns). Reasoning is
 * dropped from the conversation when the next turn begins. The template "plain" makes a chat of free text:
 * send continues the text. */
FR_API fr_error fr_chat_new(fr_model* model, const fr_chat_options* options, fr_chat** out);
FR_API void fr_chat_free(fr_chat* chat);
/* One turn: the user's text in, the reply through the callback. A cancelled reply stays in the conversation
 * as far as it got. */
FR_API fr_error fr_chat_send(fr_chat* chat, const char* user_text, fr_sampler* sampler,
                             const fr_generate_options* options, fr_text_callback callback, void* user,
                             fr_generate_result* result);
/* Another reply to the last turn. Error: there is none. */
FR_API fr_error fr_chat_retry(fr_chat* chat, fr_sampler* sampler, const fr_generate_options* options,
                              fr_text_callback callback, void* user, fr_generate_result* result);
/* Goes on with the last reply, which a limit or a cancellation ended ("+++"). Error: there is none, or the
 * text has ended. */
FR_API fr_error fr_chat_continue(fr_chat* chat, fr_sampler* sampler, const fr_generate_options* options,
                                 fr_text_callback callback, void* user, fr_generate_result* result);
FR_API fr_error
fr_chat_undo(fr_chat* chat); /* forgets the last turn; error: there is none (or it is too long ago) */
FR_API fr_error fr_chat_reset(fr_chat* chat);                     /* forgets everything but the system text */
FR_API fr_error fr_chat_fork(const fr_chat* chat, fr_chat** out); /* an independent copy */
FR_API fr_error fr_chat_set_options(fr_chat* chat,
                                    const fr_chat_options* options); /* starts anew with them */
FR_API fr_error fr_chat_save(fr_chat* chat, const char* path);       /* the conversation's state */
FR_API fr_error fr_chat_load(fr_chat* chat, const char* path);       /* goes on from a saved one */
FR_API const char* fr_chat_template(const fr_chat* chat);
FR_API const char* fr_chat_think(const fr_chat* chat);
FR_API int fr_chat_turns(const fr_chat* chat); /* turns since the start or the last load */
FR_API uint64_t fr_chat_tokens_seen(const fr_chat* chat);

#ifdef __cplusplus
}
#endif
#endif
