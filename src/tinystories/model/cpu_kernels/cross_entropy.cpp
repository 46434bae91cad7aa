// Cross-entropy of logits, and its gradient in their place: the fast twin of model/cross_entropy.py, whose docstring
// has the formula. A row is read from memory once and stays in the cache. tests/model/test_cross_entropy.py compares
// the two.
//
// Shapes: logits (rows, columns); targets, losses (rows).

#include <limits>

#include "vectors.h"

extern "C" void cross_entropy_inplace(ELEMENT* logits, const int64_t* targets, int64_t rows, int64_t columns,
                                      float* losses) {
    const int64_t full = columns / LANES * LANES;  // columns in full vectors
    const float minus_infinity = -std::numeric_limits<float>::infinity();
    #pragma omp parallel
    {
        std::vector<CacheLine> memory(columns / MAX_LANES + 1);  // a row in fp32, filled up to full vectors
        float* x = memory[0].at;
        #pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++) {
            ELEMENT* row_logits = logits + row * columns;
            for (int64_t i = 0; i < full; i += LANES) store(x + i, load(row_logits + i));
            for (int64_t i = full; i < full + LANES; i++) x[i] = i < columns ? to_float(row_logits[i]) : minus_infinity;
            const float target_logit = x[targets[row]];
            Vector running_max = load(x);
            for (int64_t i = LANES; i < columns; i += LANES) {
                const Vector other = load(x + i);
                running_max = other > running_max ? other : running_max;
            }
            const float row_max = reduce_max(running_max);
            Vector running_sum = {};
            for (int64_t i = 0; i < columns; i += LANES) {
                const Vector power = exp2((load(x + i) - row_max) * LOG2_E);
                store(x + i, power);
                running_sum += power;
            }
            const float row_sum = reduce_sum(running_sum);
            losses[row] = row_max + std::log(row_sum) - target_logit;
            x[targets[row]] -= row_sum;
            const float scale = 1 / row_sum;
            for (int64_t i = 0; i < full; i += LANES) store(row_logits + i, load(x + i) * scale);
            ELEMENT rest[LANES];
            store(rest, load(x + full) * scale);
            std::memcpy(row_logits + full, rest, (columns - full) * sizeof(ELEMENT));
        }
    }
}
