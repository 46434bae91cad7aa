// The model, reading new tokens of texts whose keys and values are kept, compiled for one head size and one dtype.
//
// A token of one text is too little work for operations that are called one by one: calling them takes longer than
// computing. Here all layers are one function. Its time goes into reading the weights, which lie in the order in which
// they are read: blocks of WIDTH outputs, in each the weights of one input (or STEP of them) after the other; keys are
// kept in the same way, in blocks of LANES of them. Activations are fp32, but where the CPU multiplies pairs of bf16
// (AVX512_BF16), twice as many at once, a bf16 model's are rounded to it before a product.
//
// D: embedding size (heads · HEAD), F: feed-forward size.

#include <algorithm>

#include "vectors.h"

namespace {

constexpr int WIDTH = 32, PARTS_OF_BLOCK = WIDTH / LANES;
constexpr int MOST_ROWS = LANES == 16 ? 8 : 2;  // as many sums as there are registers for

using Input = std::conditional_t<PAIRS, uint16_t, float>;  // of a product

// LANES pairs of weights.
inline Vector load_packed(const ELEMENT* weights) {
    if constexpr (PAIRS) return load((const float*)weights);
    else return load(weights);
}

inline int64_t padded(int64_t numbers) { return (numbers + WIDTH - 1) / WIDTH * WIDTH; }

// y = x Wᵀ, or y += x Wᵀ, for ROWS rows of x and one block of outputs: all sums in registers.
template <int ROWS>
inline void block(const Input* x, int64_t inputs, const ELEMENT* weights, float* y, int64_t outputs, bool add) {
    const int64_t stride = padded(inputs);
    Vector sums[ROWS][PARTS_OF_BLOCK] = {};
    for (int64_t i = 0; i < inputs; i += STEP, weights += STEP * WIDTH)
        for (int part = 0; part < PARTS_OF_BLOCK; part++) {
            const ELEMENT* of_part = weights + part * STEP * LANES;
            if (ROWS > 1) __builtin_prefetch(of_part + inputs * WIDTH);  // the next block's
            for (int r = 0; r < ROWS; r++) sums[r][part] = multiply_add(sums[r][part], x + r * stride + i, load_packed(of_part));
        }
    for (int r = 0; r < ROWS; r++)
        for (int part = 0; part < PARTS_OF_BLOCK; part++) {
            float* to = y + r * padded(outputs) + part * LANES;
            store(to, add ? load(to) + sums[r][part] : sums[r][part]);
        }
}

// The same for any number of rows: ROWS at a time, then what is left of them with fewer at a time.
template <int ROWS>
inline void blocks(const Input* x, int64_t rows, int64_t inputs, const ELEMENT* weights, float* y, int64_t outputs,
                   bool add) {
    int64_t row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        block<ROWS>(x + row * padded(inputs), inputs, weights, y + row * padded(outputs), outputs, add);
    if constexpr (ROWS > 1)
        blocks<ROWS / 2>(x + row * padded(inputs), rows - row, inputs, weights, y + row * padded(outputs), outputs, add);
}

// The same for all outputs. Rows of x and y are padded to a multiple of WIDTH. The threads share the blocks.
void product(const Input* x, int64_t rows, int64_t inputs, const ELEMENT* weights, float* y, int64_t outputs, bool add) {
    #pragma omp for schedule(static)
    for (int64_t first = 0; first < padded(outputs); first += WIDTH)
        blocks<MOST_ROWS>(x, rows, inputs, weights + first * inputs, y + first, outputs, add);
}

// What divides a vector by its root mean square.
template <typename T>
inline float normalizer(const T* from, int64_t length) {
    Vector squares = {};
    for (int64_t i = 0; i < length; i += LANES) { Vector x = load(from + i); squares += x * x; }
    return 1 / std::sqrt(sum(squares) / length + EPSILON);
}

void norm(const float* x, int64_t rows, int64_t size, const float* gain, Input* y) {
    #pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * padded(size), factor = normalizer(from, size);
        for (int64_t i = 0; i < size; i += LANES) store(y + row * padded(size) + i, load(from + i) * factor * load(gain + i));
    }
}

// A vector divided by its root mean square. Returns what it was multiplied by.
template <typename T>
inline float normalize(const T* from, int64_t length, float* out) {
    const float factor = normalizer(from, length);
    for (int64_t i = 0; i < length; i += LANES) store(out + i, load(from + i) * factor);
    return factor;
}

// How queries or keys are turned: gain (HEAD); cos, sin (tokens, HEAD), each angle twice.
struct Turn { const float *gain, *cos, *sin; };

// A query or key as the scores are computed with: normalised, multiplied by its gain, turned by its position.
template <typename T>
inline void turned(const T* from, Turn turn, int64_t position, float scale, float* __restrict__ out) {
    const float *cos = turn.cos + position * HEAD, *sin = turn.sin + position * HEAD;
    alignas(64) float x[HEAD];
    normalize(from, HEAD, x);
    for (int i = 0; i < HALF; i++) {
        const float left = x[i] * turn.gain[i] * scale, right = x[i + HALF] * turn.gain[i + HALF] * scale;
        out[i] = left * cos[i] - right * sin[i];
        out[i + HALF] = right * cos[i] + left * sin[i];
    }
}

// One query over the keys and values up to a position, which are those of its text and head.
inline void attend(const float query[HEAD], const ELEMENT* keys, const ELEMENT* values, int64_t slots, int64_t position,
                   float* weights, Input* out) {
    const int64_t next = slots * HEAD;  // where the next head's are: they are fetched while this one is computed
    Vector best = -1e30f - Vector{}, total = {}, mixed[PARTS] = {};
    for (int64_t first = 0; first <= position; first += LANES) {
        Vector score = {};
        for (int i = 0; i < HEAD; i++) {
            const ELEMENT* of_block = keys + first * HEAD + i * LANES;
            score += query[i] * load(of_block);
            __builtin_prefetch(of_block + next);
        }
        score = LANE > (int32_t)(position - first) ? -1e30f - Vector{} : score;
        best = score > best ? score : best;
        store(weights + first, score);
    }
    const float top = largest(best);
    for (int64_t first = 0; first <= position; first += LANES) {
        const Vector weight = exp2(load(weights + first) - top);
        total += weight;
        store(weights + first, weight);
    }
    for (int64_t slot = 0; slot <= position; slot++)
        for (int part = 0; part < PARTS; part++) {
            const ELEMENT* value = values + slot * HEAD + part * LANES;
            mixed[part] += weights[slot] * load(value);
            __builtin_prefetch(value + next);
        }
    for (int part = 0; part < PARTS; part++) store(out + part * LANES, mixed[part] * (1 / sum(total)));
}

inline Vector silu(Vector x) {
    const Vector power = x * -LOG2_E, most = 126.f - Vector{};
    return x / (1.f + exp2(power > most ? most : power));
}

}  // namespace

// As fast_decoder.py has it.
struct Model {
    int64_t layers, heads, feed_forward, vocabulary, rows, slots;
    const ELEMENT *embedding, *qkv_proj, *o_proj, *gate_up_proj, *down_proj;  // in blocks
    const float *attn_norm, *gains, *mlp_norm, *final_norm, *cos, *sin;
    ELEMENT *keys, *values;  // (layers, rows, heads, slots / LANES, HEAD, LANES), (layers, rows, heads, slots, HEAD)
};

// Weights, (stacked, outputs, inputs), in the order in which they are read: (stacked, blocks, inputs / STEP, WIDTH, STEP).
extern "C" void pack(const ELEMENT* weights, int64_t stacked, int64_t outputs, int64_t inputs, ELEMENT* packed) {
    const int64_t count = padded(outputs) / WIDTH;
    #pragma omp parallel for schedule(static)
    for (int64_t index = 0; index < stacked * count; index++) {
        const int64_t first = index % count * WIDTH, rows = std::min<int64_t>(WIDTH, outputs - first);
        const ELEMENT* from = weights + (index / count * outputs + first) * inputs;
        ELEMENT* to = packed + index * inputs * WIDTH;
        for (int64_t i = 0; i < inputs; i += STEP)
            for (int64_t row = 0; row < WIDTH; row++)
                for (int64_t j = i; j < i + STEP; j++) *to++ = row < rows ? from[row * inputs + j] : 0;
    }
}

// Read `count` tokens, each at its position of the text in its row; the logits of what follows, (count, vocabulary padded
// to a multiple of WIDTH), unless null.
extern "C" void read_tokens(const Model* model, int64_t count, const int64_t* tokens, const int64_t* rows,
                            const int64_t* positions, float* logits) {
    if (!count) return;  // no memory, so none to point at
    const Model m = *model;
    const int64_t D = m.heads * HEAD, F = m.feed_forward, wide = padded(D), F_wide = padded(2 * F);
    const int64_t per_row = m.heads * HEAD * m.slots;  // keys or values
    std::vector<Line> memory(count * (3 * wide + padded(3 * D) + F_wide + padded(F)) / LINE);
    float *x = memory[0].at, *projected = x + count * wide, *hidden = projected + count * padded(3 * D);
    Input *normed = (Input*)(hidden + count * F_wide), *mixed = normed + count * wide, *gated = mixed + count * wide;
    #pragma omp parallel
    {
        std::vector<Line> of_thread((m.slots + HEAD) / LINE);
        float *weights = of_thread[0].at, *query = weights + m.slots;
        #pragma omp for schedule(static)
        for (int64_t token = 0; token < count; token++) {
            const ELEMENT* column = m.embedding + tokens[token] / WIDTH * WIDTH * D + tokens[token] % WIDTH * STEP;
            for (int64_t i = 0; i < D; i++) x[token * wide + i] = to_float(column[i / STEP * STEP * WIDTH + i % STEP]);
        }
        for (int64_t layer = 0; layer < m.layers; layer++) {
            ELEMENT *keys = m.keys + layer * m.rows * per_row, *values = m.values + layer * m.rows * per_row;
            const Turn q_turn = {m.gains + 2 * layer * HEAD, m.cos, m.sin};
            const Turn k_turn = {m.gains + (2 * layer + 1) * HEAD, m.cos, m.sin};

            norm(x, count, D, m.attn_norm + layer * D, normed);
            product(normed, count, D, m.qkv_proj + layer * padded(3 * D) * D, projected, 3 * D, false);
            #pragma omp for schedule(static)
            for (int64_t index = 0; index < count * m.heads; index++) {
                const int64_t token = index / m.heads, head = index % m.heads, position = positions[token];
                const int64_t place = rows[token] * per_row + head * HEAD * m.slots;
                const float *k = projected + token * padded(3 * D) + D + head * HEAD, *v = k + D;
                alignas(64) float key[HEAD];
                ELEMENT rounded[HEAD], *column = keys + place + position / LANES * LANES * HEAD + position % LANES;
                turned(k, k_turn, position, 1.f, key);
                for (int i = 0; i < HEAD; i += LANES) store(rounded + i, load(key + i));
                for (int i = 0; i < HEAD; i++) column[i * LANES] = rounded[i];
                for (int i = 0; i < HEAD; i += LANES) store(values + place + position * HEAD + i, load(v + i));
            }
            #pragma omp for schedule(static)
            for (int64_t index = 0; index < count * m.heads; index++) {
                const int64_t token = index / m.heads, head = index % m.heads, position = positions[token];
                const int64_t place = rows[token] * per_row + head * HEAD * m.slots;
                const float* q = projected + token * padded(3 * D) + head * HEAD;
                turned(q, q_turn, position, LOG2_E / std::sqrt((float)HEAD), query);
                attend(query, keys + place, values + place, m.slots, position, weights, mixed + token * wide + head * HEAD);
            }
            product(mixed, count, D, m.o_proj + layer * wide * D, x, D, true);

            norm(x, count, D, m.mlp_norm + layer * D, normed);
            product(normed, count, D, m.gate_up_proj + layer * F_wide * D, hidden, 2 * F, false);
            #pragma omp for schedule(static)
            for (int64_t token = 0; token < count; token++) {
                const float *gate = hidden + token * F_wide, *up = gate + F;
                for (int64_t i = 0; i < F; i += LANES)  // beyond F it computes what nobody reads
                    store(gated + token * padded(F) + i, silu(load(gate + i)) * load(up + i));
            }
            product(gated, count, F, m.down_proj + layer * wide * F, x, D, true);
        }
        if (logits) {
            norm(x, count, D, m.final_norm, normed);
            product(normed, count, D, m.embedding, logits, m.vocabulary, false);
        }
    }
}
