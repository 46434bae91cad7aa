// The forward pass over new tokens of texts whose keys and values are cached, compiled for one head size and one dtype:
// the fast twin of GPT.forward with a cache. tests/inference/test_decoder.py compares the two.
//
// A token of one text is too little work for operations that are called one by one: calling them takes longer than
// computing. Here all layers are one function. Its time goes into reading the weights, which lie in the order in which
// they are read: blocks of OUT_BLOCK outputs, in each the weights of one input (or STEP of them) after the other. Keys
// lie in the same way, in blocks of LANES. Activations are fp32, but where the CPU multiplies pairs of bf16
// (AVX512_BF16), twice as many at once, a bf16 model's are rounded to it before a matmul.
//
// D: embedding size (heads · HEAD), F: MLP size. Rows of activations are padded to a multiple of OUT_BLOCK.

#include <algorithm>

#include "vectors.h"

// As cpu_decoder.py has it.
struct Model {
    int64_t layers, heads, mlp_size, vocab_size, rows, max_seq_len;
    const ELEMENT *embedding, *qkv_proj, *o_proj, *gate_up_proj, *down_proj;  // packed
    const float *attn_norm, *qk_norm_weight, *mlp_norm, *final_norm, *cos, *sin;
    ELEMENT *keys, *values;  // (L, rows, heads, max_seq_len / LANES, HEAD, LANES), (L, rows, heads, max_seq_len, HEAD)
};

namespace {

constexpr int VECS_PER_BLOCK = OUT_BLOCK / LANES;
constexpr int MAX_GEMM_ROWS = LANES == 16 ? 8 : 2;  // as many sums as there are registers for
static_assert(OUT_BLOCK % MAX_LANES == 0);

using Input = std::conditional_t<PAIRS, uint16_t, float>;  // of a matmul

// LANES pairs of weights.
inline Vector load_packed(const ELEMENT* weights) {
    if constexpr (PAIRS) return load((const float*)weights);
    else return load(weights);
}

inline int64_t padded(int64_t numbers) { return (numbers + OUT_BLOCK - 1) / OUT_BLOCK * OUT_BLOCK; }

// y = x Wᵀ, or y += x Wᵀ, for ROWS rows of x and one block of outputs: all sums in registers.
template <int ROWS>
inline void gemm_tile(const Input* x, int64_t inputs, const ELEMENT* weights, float* y, int64_t outputs, bool add) {
    const int64_t stride = padded(inputs);
    Vector sums[ROWS][VECS_PER_BLOCK] = {};
    for (int64_t i = 0; i < inputs; i += STEP, weights += STEP * OUT_BLOCK)
        for (int part = 0; part < VECS_PER_BLOCK; part++) {
            const ELEMENT* w = weights + part * STEP * LANES;
            if (ROWS > 1) __builtin_prefetch(w + inputs * OUT_BLOCK);  // the next block's
            for (int r = 0; r < ROWS; r++)
                sums[r][part] = multiply_add(sums[r][part], x + r * stride + i, load_packed(w));
        }
    for (int r = 0; r < ROWS; r++)
        for (int part = 0; part < VECS_PER_BLOCK; part++) {
            float* to = y + r * padded(outputs) + part * LANES;
            store(to, add ? load(to) + sums[r][part] : sums[r][part]);
        }
}

// The same for any number of rows: ROWS at a time, then what is left of them with fewer at a time.
template <int ROWS>
inline void gemm_rows(const Input* x, int64_t rows, int64_t inputs, const ELEMENT* weights, float* y, int64_t outputs,
                      bool add) {
    int64_t row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        gemm_tile<ROWS>(x + row * padded(inputs), inputs, weights, y + row * padded(outputs), outputs, add);
    if constexpr (ROWS > 1)
        gemm_rows<ROWS / 2>(x + row * padded(inputs), rows - row, inputs, weights, y + row * padded(outputs), outputs,
                            add);
}

// The same for all outputs. The threads share the blocks.
void matmul(const Input* x, int64_t rows, int64_t inputs, const ELEMENT* weights, float* y, int64_t outputs, bool add) {
    #pragma omp for schedule(static)
    for (int64_t first = 0; first < padded(outputs); first += OUT_BLOCK)
        gemm_rows<MAX_GEMM_ROWS>(x, rows, inputs, weights + first * inputs, y + first, outputs, add);
}

inline float inverse_rms(const float* x, int64_t size) {
    Vector squares = {};
    for (int64_t i = 0; i < size; i += LANES) { Vector part = load(x + i); squares += part * part; }
    return inverse_rms(reduce_sum(squares), size);
}

// RMSNorm.
void norm(const float* x, int64_t rows, int64_t size, const float* weight, Input* y) {
    #pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * padded(size), factor = inverse_rms(from, size);
        for (int64_t i = 0; i < size; i += LANES)
            store(y + row * padded(size) + i, load(from + i) * factor * load(weight + i));
    }
}

// RMSNorm without a weight.
inline void normalize(const float* from, int64_t size, float* out) {
    const float factor = inverse_rms(from, size);
    for (int64_t i = 0; i < size; i += LANES) store(out + i, load(from + i) * factor);
}

// norm_weight (HEAD), of queries or keys; cos, sin (positions, HEAD), each angle twice.
struct RopeTable { const float *norm_weight, *cos, *sin; };

// rope(rms_norm(x) · norm_weight) · scale of one query or key.
inline void norm_rope(const float* from, RopeTable table, int64_t position, float scale, float* __restrict__ out) {
    const float *cos = table.cos + position * HEAD, *sin = table.sin + position * HEAD;
    alignas(64) float x[HEAD];
    normalize(from, HEAD, x);
    for (int i = 0; i < HALF_HEAD; i++) {
        const float left = x[i] * table.norm_weight[i] * scale;
        const float right = x[i + HALF_HEAD] * table.norm_weight[i + HALF_HEAD] * scale;
        out[i] = left * cos[i] - right * sin[i];
        out[i + HALF_HEAD] = right * cos[i] + left * sin[i];
    }
}

// Attention of one query over its text's keys and values of one head, up to `position`. p: (max_seq_len), for weights.
inline void attend(const float query[HEAD], const ELEMENT* keys, const ELEMENT* values, int64_t max_seq_len,
                   int64_t position, float* p, Input* out) {
    const int64_t next = max_seq_len * HEAD;  // where the next head's are: they are fetched while this one is computed
    Vector running_max = -1e30f - Vector{}, running_sum = {}, sums[VECS_PER_HEAD] = {};
    for (int64_t first = 0; first <= position; first += LANES) {
        Vector score = {};
        for (int i = 0; i < HEAD; i++) {
            const ELEMENT* component = keys + first * HEAD + i * LANES;
            score += query[i] * load(component);
            __builtin_prefetch(component + next);
        }
        score = LANE > (int32_t)(position - first) ? -1e30f - Vector{} : score;
        running_max = score > running_max ? score : running_max;
        store(p + first, score);
    }
    const float row_max = reduce_max(running_max);
    for (int64_t first = 0; first <= position; first += LANES) {
        const Vector weight = exp2(load(p + first) - row_max);
        running_sum += weight;
        store(p + first, weight);
    }
    for (int64_t key = 0; key <= position; key++)
        for (int part = 0; part < VECS_PER_HEAD; part++) {
            const ELEMENT* value = values + key * HEAD + part * LANES;
            sums[part] += p[key] * load(value);
            __builtin_prefetch(value + next);
        }
    for (int part = 0; part < VECS_PER_HEAD; part++)
        store(out + part * LANES, sums[part] * (1 / reduce_sum(running_sum)));
}

inline Vector silu(Vector x) {
    const Vector power = x * -LOG2_E, most = 126.f - Vector{};
    return x / (1.f + exp2(power > most ? most : power));
}

// The new tokens and their activations. Its functions are called by all threads, which share the work.
struct Pass {
    const Model& m;
    const int64_t count, *tokens, *rows, *positions;
    const int64_t D = m.heads * HEAD, F = m.mlp_size, qkv_size = padded(3 * D), gate_up_size = padded(2 * F);
    std::vector<CacheLine> memory{(size_t)(count * (3 * padded(D) + qkv_size + gate_up_size + padded(F)) / MAX_LANES)};
    float *x = memory[0].at, *qkv = x + count * padded(D), *gate_up = qkv + count * qkv_size;
    Input *normed = (Input*)(gate_up + count * gate_up_size);
    Input *attn_out = normed + count * padded(D), *gated = attn_out + count * padded(D);

    void embed() {
        #pragma omp for schedule(static)
        for (int64_t token = 0; token < count; token++) {
            const int64_t id = tokens[token];
            const ELEMENT* column = m.embedding + id / OUT_BLOCK * OUT_BLOCK * D + id % OUT_BLOCK * STEP;
            for (int64_t i = 0; i < D; i++)
                x[token * padded(D) + i] = to_float(column[i / STEP * STEP * OUT_BLOCK + i % STEP]);
        }
    }

    // Where one head's keys and values of a token's text begin.
    int64_t cache_offset(int64_t layer, int64_t token, int64_t head) {
        return ((layer * m.rows + rows[token]) * m.heads + head) * HEAD * m.max_seq_len;
    }

    void store_keys_and_values(int64_t layer, RopeTable k_rope) {
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < count * m.heads; index++) {
            const int64_t token = index / m.heads, head = index % m.heads, position = positions[token];
            const int64_t offset = cache_offset(layer, token, head);
            const float *k = qkv + token * qkv_size + D + head * HEAD, *v = k + D;
            alignas(64) float key[HEAD];
            ELEMENT rounded[HEAD], *column = m.keys + offset + position / LANES * LANES * HEAD + position % LANES;
            norm_rope(k, k_rope, position, 1.f, key);
            for (int i = 0; i < HEAD; i += LANES) store(rounded + i, load(key + i));
            for (int i = 0; i < HEAD; i++) column[i * LANES] = rounded[i];
            for (int i = 0; i < HEAD; i += LANES) store(m.values + offset + position * HEAD + i, load(v + i));
        }
    }

    // scratch: (max_seq_len + HEAD) of this thread.
    void attention(int64_t layer, float* scratch) {
        const RopeTable q_rope = {m.qk_norm_weight + 2 * layer * HEAD, m.cos, m.sin};
        const RopeTable k_rope = {m.qk_norm_weight + (2 * layer + 1) * HEAD, m.cos, m.sin};
        float *p = scratch, *query = scratch + m.max_seq_len;
        norm(x, count, D, m.attn_norm + layer * D, normed);
        matmul(normed, count, D, m.qkv_proj + layer * qkv_size * D, qkv, 3 * D, false);
        store_keys_and_values(layer, k_rope);
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < count * m.heads; index++) {
            const int64_t token = index / m.heads, head = index % m.heads, position = positions[token];
            const int64_t offset = cache_offset(layer, token, head);
            norm_rope(qkv + token * qkv_size + head * HEAD, q_rope, position, LOG2_E / std::sqrt((float)HEAD), query);
            attend(query, m.keys + offset, m.values + offset, m.max_seq_len, position, p,
                   attn_out + token * padded(D) + head * HEAD);
        }
        matmul(attn_out, count, D, m.o_proj + layer * padded(D) * D, x, D, true);
    }

    void mlp(int64_t layer) {
        norm(x, count, D, m.mlp_norm + layer * D, normed);
        matmul(normed, count, D, m.gate_up_proj + layer * gate_up_size * D, gate_up, 2 * F, false);
        #pragma omp for schedule(static)
        for (int64_t token = 0; token < count; token++) {
            const float *gate = gate_up + token * gate_up_size, *up = gate + F;
            for (int64_t i = 0; i < F; i += LANES)  // beyond F it computes what is never read
                store(gated + token * padded(F) + i, silu(load(gate + i)) * load(up + i));
        }
        matmul(gated, count, F, m.down_proj + layer * padded(D) * F, x, D, true);
    }

    void output(float* logits) {
        norm(x, count, D, m.final_norm, normed);
        matmul(normed, count, D, m.embedding, logits, m.vocab_size, false);
    }
};

}  // namespace

// Weights (stacked, outputs, inputs) in the order in which they are read: (stacked, blocks, inputs / STEP, OUT_BLOCK,
// STEP).
extern "C" void pack_weights(const ELEMENT* weights, int64_t stacked, int64_t outputs, int64_t inputs,
                             ELEMENT* packed) {
    const int64_t count = padded(outputs) / OUT_BLOCK;
    #pragma omp parallel for schedule(static)
    for (int64_t index = 0; index < stacked * count; index++) {
        const int64_t first = index % count * OUT_BLOCK, rows = std::min<int64_t>(OUT_BLOCK, outputs - first);
        const ELEMENT* from = weights + (index / count * outputs + first) * inputs;
        ELEMENT* to = packed + index * inputs * OUT_BLOCK;
        for (int64_t i = 0; i < inputs; i += STEP)
            for (int64_t row = 0; row < OUT_BLOCK; row++)
                for (int64_t j = i; j < i + STEP; j++) *to++ = row < rows ? from[row * inputs + j] : 0;
    }
}

// `count` tokens, each at its position of the text in its row, through all layers. logits: of the token that follows
// each, (count, vocab_size padded to a multiple of OUT_BLOCK), or null.
extern "C" void forward_tokens(const Model* model, int64_t count, const int64_t* tokens, const int64_t* rows,
                               const int64_t* positions, float* logits) {
    if (!count) return;  // no memory, so none to point at
    Pass pass{*model, count, tokens, rows, positions};
    #pragma omp parallel
    {
        std::vector<CacheLine> scratch((model->max_seq_len + HEAD) / MAX_LANES);
        pass.embed();
        for (int64_t layer = 0; layer < model->layers; layer++) {
            pass.attention(layer, scratch[0].at);
            pass.mlp(layer);
        }
        if (logits) pass.output(logits);
    }
}
