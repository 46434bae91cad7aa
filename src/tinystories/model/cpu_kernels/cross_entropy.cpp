// Cross-entropy of logits, and its gradient in their place: a row is read from memory once, while it is in the cache.
//
// logits: (rows, columns); targets, losses: (rows). The gradient is that of each row's own loss: shares, less 1 for the
// target.

#include <limits>

#include "vectors.h"

extern "C" void cross_entropy(ELEMENT* logits, const int64_t* targets, int64_t rows, int64_t columns, float* losses) {
    const int64_t whole = columns / LANES * LANES;
    const float nothing = -std::numeric_limits<float>::infinity();
    #pragma omp parallel
    {
        std::vector<Line> memory(columns / LINE + 1);  // a row in fp32, filled up to whole vectors
        float* x = memory[0].at;
        #pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++) {
            ELEMENT* of_row = logits + row * columns;
            for (int64_t i = 0; i < whole; i += LANES) store(x + i, load(of_row + i));
            for (int64_t i = whole; i < whole + LANES; i++) x[i] = i < columns ? to_float(of_row[i]) : nothing;
            const float of_target = x[targets[row]];
            Vector highest = load(x);
            for (int64_t i = LANES; i < columns; i += LANES) {
                const Vector other = load(x + i);
                highest = other > highest ? other : highest;
            }
            const float top = largest(highest);
            Vector sums = {};
            for (int64_t i = 0; i < columns; i += LANES) {
                const Vector power = exp2((load(x + i) - top) * LOG2_E);
                store(x + i, power);
                sums += power;
            }
            const float all = sum(sums);
            losses[row] = top + std::log(all) - of_target;
            x[targets[row]] -= all;
            const float scale = 1 / all;
            for (int64_t i = 0; i < whole; i += LANES) store(of_row + i, load(x + i) * scale);
            ELEMENT rest[LANES];
            store(rest, load(x + whole) * scale);
            std::memcpy(of_row + whole, rest, (columns - whole) * sizeof(ELEMENT));
        }
    }
}
