// A parallel loop over pairs of panels and runs of tokens.
#pragma once

#include <algorithm>

#include "matmul.h"

namespace apportion {

inline constexpr size_t kTokensAtATime = 96;  // their codes stay in the L2 cache while panels pass
inline constexpr size_t kPairRows = 2 * kPanelRows;

// Calls body(pair, first token, number of tokens, sums) for all pairs of panels and runs of tokens; `per_token` sums of
// each token have room.
template <class Body>
void for_pairs(const Context& context, Workspace& work, size_t num_pairs, size_t num_tokens, size_t num_cols,
               size_t per_token, Body&& body) {
  const size_t most = std::min(kTokensAtATime, num_tokens), room = most * per_token;
  const std::span<float> sums = work.take<float>(context.threads * room);
  const size_t count = num_pairs * ((num_tokens + kTokensAtATime - 1) / kTokensAtATime);
  const size_t worthwhile = kFewNumbers / std::max<size_t>(1, num_cols * per_token * most);
  const size_t grain = std::max(worthwhile, even_grain(count, context.threads, 32));
  Pool::shared().run(count, grain, context.threads, [&](size_t begin, size_t end, unsigned worker) {
    for (size_t i = begin; i < end; ++i) {
      const size_t token = i / num_pairs * kTokensAtATime;
      body(i % num_pairs, token, std::min(kTokensAtATime, num_tokens - token), sums.data() + worker * room);
    }
  });
}

}  // namespace apportion
