// A layer's experts applied to the tokens that chose them, all at once or as they come to memory.
#pragma once

#include "matmul.h"

namespace apportion {

// The matrices of an expert that comes and goes; null while it is away.
struct ExpertPlace {
  const uint8_t *gate = nullptr, *up = nullptr, *down = nullptr;
};

// Biases are stacks of one vector for each expert, and may be null.
struct Experts {
  size_t count;
  Matrix gate, up, down;  // the first of each stack; where there are places, their data is not used
  const float *gate_bias, *up_bias, *down_bias;
  const ExpertPlace* places = nullptr;  // [count] for experts that come and go
};

// What enters the experts of a layer: x [T, H], ids and weights [T, R]. Every id must be below Experts::count.
struct ExpertInput {
  const float* x;
  const int32_t* ids;
  const float* weights;
  size_t num_tokens, per_token;
};

// The work of a layer's experts in as many parts as they come. A token's sum is made in the order of its experts' ids
// whatever the parts are, so that the result does not depend on them.
class ExpertPass {
 public:
  // Input and `out` [T, H] must stay until end().
  void begin(const Context& context, const ExpertInput& input, const Experts& experts, GateKind kind, float* out);

  // Experts that are in memory now, by id; each once. Of one token they may come in any order, of more tokens every
  // part must follow the one before by id. Those that no token chose are passed over.
  void apply(std::span<const uint32_t> experts);

  void end();

 private:
  // Tokens of an expert: places begin .. end - 1 of lists that are sorted by expert. `at` counts the part's places.
  struct Piece {
    size_t expert, begin, end, at;
    size_t count() const { return end - begin; }
  };

  void group();
  size_t most_places() const;
  Matrix gate_of(size_t expert) const;
  Matrix up_of(size_t expert) const;
  Matrix down_of(size_t expert) const;

  void apply_to_one(std::span<const Piece> pieces);
  void down_of_one(std::span<const Piece> pieces, std::span<const Token> inner, size_t panel);

  void apply_to_many(std::span<const Piece> pieces);
  void gate_and_up(const Piece& piece, const Panels& panels, std::span<const Token> gate_tokens,
                   std::span<const Token> up_tokens, float* sums, float* inner) const;
  void down(std::span<const Piece> pieces, const Panels& panels, std::span<const Token> inner, float* sums) const;

  const Context* context_ = nullptr;
  ExpertInput input_{};
  const Experts* experts_ = nullptr;
  GateKind kind_{};
  float* out_ = nullptr;
  bool is_one_ = false;  // one token, and no expert twice

  Scratch scratch_;                                 // from begin to end
  std::span<size_t> starts_;                        // [count + 1], by expert: its first place
  std::span<uint32_t> tokens_;                      // by place
  std::span<float> weights_;                        // by place
  std::span<const Token> gate_tokens_, up_tokens_;  // of all tokens
  std::span<float> parts_;                          // of one token: [R, H], by place
};

// All of it, for experts that are in memory: x [T, H], ids and weights [T, R] -> out [T, H].
void apply_experts(const Context& context, const ExpertInput& input, const Experts& experts, GateKind kind, float* out);

}  // namespace apportion
