// One head of one window in a thread's scratch memory: loaded, packed and stored, with QK-norm and RoPE on the way.
//
// LANES tokens lie side by side in vectors, one for each component of the head. Tensors that are multiplied are packed
// in pairs of what is summed over (vectors.h): in columns (HEAD / STEP, tokens) where that is components, in rows
// (tokens / STEP, HEAD) where it is tokens.

#pragma once

#include "vectors.h"

namespace {

// The scratch memory of one thread: a head's tensors, of as many tokens as fill whole vectors. Tokens beyond the window
// are zeros.
struct Scratch {
    int64_t tokens;
    std::vector<CacheLine> memory;
    int64_t used = 0;
    Scratch(int64_t window, int64_t tensors, int64_t vectors)  // of tokens x HEAD, of tokens
        : tokens((window + LANES - 1) / LANES * LANES), memory((tensors * HEAD + vectors) * tokens / MAX_LANES + 1) {}
    float* take(int64_t floats) { float* start = memory[used / MAX_LANES].at; used += floats; return start; }
    float* tensor() { return take(tokens * HEAD); }
};

// Queries, keys, values or outputs of one head, as they lie in the model's tensors.
struct HeadLayout { int64_t tokens, stride; };

// LANES tokens side by side: component i of all of them is at[i].
struct HeadBlock { Vector at[HEAD]; };

// Row i becomes column i: halves are exchanged in ever larger squares.
template <int SIZE = 1>
inline void transpose(Vector x[LANES]) {
    const IntVector right = (LANE & SIZE) != 0;
    const IntVector upper = right ? LANE + (LANES - SIZE) : LANE, lower = right ? LANE + LANES : LANE + SIZE;
    #pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        if (i & SIZE) continue;
        const Vector a = x[i], b = x[i + SIZE];
        x[i] = __builtin_shuffle(a, b, upper);
        x[i + SIZE] = __builtin_shuffle(a, b, lower);
    }
    if constexpr (2 * SIZE < LANES) transpose<2 * SIZE>(x);
}

template <typename T>
inline HeadBlock load_block(const T* from, HeadLayout layout, int64_t first) {
    HeadBlock block;
    for (int part = 0; part < VECS_PER_HEAD; part++) {
        Vector* x = block.at + part * LANES;
        for (int j = 0; j < LANES; j++)
            x[j] = first + j < layout.tokens ? load(from + (first + j) * layout.stride + part * LANES) : Vector{};
        transpose(x);
    }
    return block;
}

template <typename T>
inline void store_block(HeadBlock block, T* to, HeadLayout layout, int64_t first) {
    for (int part = 0; part < VECS_PER_HEAD; part++) {
        Vector* x = block.at + part * LANES;
        transpose(x);
        for (int j = 0; j < LANES && first + j < layout.tokens; j++)
            store(to + (first + j) * layout.stride + part * LANES, x[j]);
    }
}

inline void pack_columns(const HeadBlock& block, float* columns, int64_t tokens, int64_t first) {
    for (int i = 0; i < HEAD; i += STEP) store(columns + i / STEP * tokens + first, packed(block.at + i));
}

inline void pack_rows(HeadBlock block, float* rows, int64_t first) {
    for (int part = 0; part < VECS_PER_HEAD; part++) {
        Vector* x = block.at + part * LANES;
        transpose(x);
        for (int j = 0; j < LANES; j += STEP) store(rows + (first + j) / STEP * HEAD + part * LANES, packed(x + j));
    }
}

template <typename T>
void pack_rows(const T* from, HeadLayout layout, float* rows) {
    for (int64_t t = 0; t < layout.tokens; t += STEP)
        for (int i = 0; i < HEAD; i += LANES) {
            Vector x[STEP] = {};
            for (int j = 0; j < STEP && t + j < layout.tokens; j++) x[j] = load(from + (t + j) * layout.stride + i);
            store(rows + t / STEP * HEAD + i, packed(x));
        }
}

template <typename T>
void store_rows(const float* rows, T* to, HeadLayout layout) {
    for (int64_t t = 0; t < layout.tokens; t++)
        for (int i = 0; i < HEAD; i += LANES) store(to + t * layout.stride + i, load(rows + t * HEAD + i));
}

// RMSNorm's weight of queries or keys, (HEAD); the angles' cos and sin in columns, (HEAD / 2, tokens).
struct RopeTable {
    const float *norm_weight, *cos, *sin;
    int64_t tokens;
};

// The first half of cos or sin, (tokens, HEAD), in columns.
const float* load_angles(const float* table, int64_t tokens, Scratch& scratch) {
    float* columns = scratch.take(HALF_HEAD * scratch.tokens);
    for (int64_t t = 0; t < tokens; t++)
        for (int i = 0; i < HALF_HEAD; i++) columns[i * scratch.tokens + t] = table[t * HEAD + i];
    return columns;
}

// RMSNorm of each token, without a weight. Returns the factors.
inline Vector normalize(HeadBlock& block) {
    Vector squares = {};
    for (const Vector& x : block.at) squares += x * x;
    float factors[LANES];
    store(factors, squares);
    for (float& factor : factors) factor = inverse_rms(factor, HEAD);
    for (Vector& x : block.at) x *= load(factors);
    return load(factors);
}

// rope(rms_norm(x) · norm_weight) · scale of queries or keys, in columns and, if wanted, in rows.
template <typename T>
void load_qk(const T* from, HeadLayout layout, const RopeTable& table, float scale, float* columns,
             float* rows = nullptr) {
    for (int64_t first = 0; first < table.tokens; first += LANES) {
        HeadBlock block = load_block(from, layout, first);
        normalize(block);
        for (int i = 0; i < HALF_HEAD; i++) {
            const Vector left = block.at[i] * (table.norm_weight[i] * scale);
            const Vector right = block.at[i + HALF_HEAD] * (table.norm_weight[i + HALF_HEAD] * scale);
            const Vector cos = load(table.cos + i * table.tokens + first);
            const Vector sin = load(table.sin + i * table.tokens + first);
            block.at[i] = left * cos - right * sin;
            block.at[i + HALF_HEAD] = right * cos + left * sin;
        }
        pack_columns(block, columns, table.tokens, first);
        if (rows) pack_rows(block, rows, first);
    }
}

// The backward pass of load_qk: from the gradient in `rows`, times scale, those of queries or keys and of norm_weight.
template <typename T>
void store_qk_grad(const float* rows, const T* from, HeadLayout layout, const RopeTable& table, float scale, T* to,
                   float* grad_norm_weight) {
    HeadBlock grad_weight = {};
    for (int64_t first = 0; first < table.tokens; first += LANES) {
        HeadBlock grad = load_block(rows, {table.tokens, HEAD}, first), x = load_block(from, layout, first);
        const Vector factor = normalize(x);
        Vector dot = {};
        for (int i = 0; i < HALF_HEAD; i++) {
            const Vector cos = load(table.cos + i * table.tokens + first);
            const Vector sin = load(table.sin + i * table.tokens + first);
            const Vector left = grad.at[i] * scale, right = grad.at[i + HALF_HEAD] * scale;
            const Vector pair[] = {left * cos + right * sin, right * cos - left * sin};  // rotated back
            for (int half = 0; half < 2; half++) {
                const int at = i + half * HALF_HEAD;
                grad_weight.at[at] += pair[half] * x.at[at];
                grad.at[at] = pair[half] * table.norm_weight[at];
                dot += grad.at[at] * x.at[at];
            }
        }
        const Vector mean = dot / (float)HEAD;
        for (int i = 0; i < HEAD; i++) grad.at[i] = (grad.at[i] - x.at[i] * mean) * factor;
        store_block(grad, to, layout, first);
    }
    for (int i = 0; i < HEAD; i++) grad_norm_weight[i] = reduce_sum(grad_weight.at[i]);
}

}  // namespace
