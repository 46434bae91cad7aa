// Causal attention of small heads on a CPU, forward and backward, compiled for one head size and one dtype: the fast
// twin of model/attention.py, whose docstring has the formula. tests/model/test_attention.py compares the two.
//
// A head of 16 at 128 tokens is too small for the products that libraries are made for: writing and reading the T x T
// scores costs more than computing them. Here one head of one window stays in the first-level cache. Scores are
// computed for ROWS queries at a time, used, and forgotten: the method of Dao et al. 2022 (arXiv 2205.14135).
//
// Queries and keys get their norm, weight and rotation as they are loaded, and the gradients as they are stored, so
// none of it is ever written to memory. Sums are fp32. q carries 1 / sqrt(HEAD) and log2(e): scores, lse are base 2.
//
// Shapes: qkv, grad_qkv (batch, tokens, 3, heads, HEAD); attn_out, grad_out (batch, tokens, heads, HEAD);
// lse (batch, heads, tokens); qk_norm_weight (2, HEAD); grad_weight (batch, heads, 2, HEAD);
// cos, sin (tokens, HEAD), each angle twice.

#include <algorithm>

#include "head_blocks.h"

namespace {

constexpr int ROWS = 4;  // queries at a time: their sums fit into registers, each key is loaded once for all

// out[r][j] = a[r] · b[j] for ROWS tokens of a and LANES tokens of b, both in columns.
inline void dot_products(const float* a, const float* b, int64_t tokens, Vector out[ROWS]) {
    for (int r = 0; r < ROWS; r++) out[r] = Vector{};
    for (int i = 0; i < HEAD / STEP; i++) {
        Vector part = load(b + i * tokens);
        for (int r = 0; r < ROWS; r++) out[r] = multiply_add(out[r], a + i * tokens + r, part);
    }
}

// Scores of the queries from `query` with the keys from `key`, causal mask applied.
inline void masked_scores(const float* q, const float* k, int64_t tokens, int64_t query, int64_t key,
                          Vector out[ROWS]) {
    dot_products(q + query, k + key, tokens, out);
    if (key + LANES <= query + 1) return;
    for (int r = 0; r < ROWS; r++) {
        IntVector causal_mask = LANE > (int32_t)(query + r - key);
        out[r] = causal_mask ? -1e30f - Vector{} : out[r];
    }
}

// Attention of the ROWS queries from `first`. p: (ROWS, padded tokens), room for their scores and weights.
inline void attend(const float* q_columns, const float* k_columns, const float* v_rows, int64_t padded, int64_t tokens,
                   int64_t first, float* p, ELEMENT* attn_out, int64_t stride, float* lse) {
    Vector running_max[ROWS], running_sum[ROWS] = {}, s[ROWS];
    for (int r = 0; r < ROWS; r++) running_max[r] = -1e30f - Vector{};
    for (int64_t key = 0; key <= first; key += LANES) {
        masked_scores(q_columns, k_columns, padded, first, key, s);
        for (int r = 0; r < ROWS; r++) {
            running_max[r] = s[r] > running_max[r] ? s[r] : running_max[r];
            store(p + r * padded + key, s[r]);
        }
    }
    float row_max[ROWS];
    for (int r = 0; r < ROWS; r++) row_max[r] = reduce_max(running_max[r]);
    for (int64_t key = 0; key <= first; key += LANES)
        for (int r = 0; r < ROWS; r++) {
            Vector weight = exp2(load(p + r * padded + key) - row_max[r]);
            running_sum[r] += weight;
            store_packed(p + r * padded + key / STEP, weight);  // over scores that have been read
        }
    Vector out[ROWS][VECS_PER_HEAD] = {};
    for (int64_t key = 0; key < (first + ROWS) / STEP; key++)
        for (int part = 0; part < VECS_PER_HEAD; part++) {
            Vector value = load(v_rows + key * HEAD + part * LANES);
            for (int r = 0; r < ROWS; r++) out[r][part] = multiply_add(out[r][part], p + r * padded + key, value);
        }
    for (int r = 0; r < ROWS && first + r < tokens; r++) {
        float row_sum = reduce_sum(running_sum[r]);
        lse[first + r] = row_max[r] + std::log2(row_sum);
        for (int part = 0; part < VECS_PER_HEAD; part++)
            store(attn_out + (first + r) * stride + part * LANES, out[r][part] * (1 / row_sum));
    }
}

// One head in the backward pass. g: gradient of q, k, v, s (scores), o (attn_out). delta: go · o of each query.
struct HeadScratch {
    float *q_columns, *k_columns, *v_columns, *q_rows, *k_rows, *go_columns, *go_rows, *gq_rows, *gk_rows, *gv_rows;
    float *gs, *p_of_rows, *gs_of_rows, *delta;  // (ROWS, tokens), the latter two in pairs of queries; (tokens)
};

// Load what the gradients are computed from: all but q and k, which load_qk loads.
inline void load_for_backward(const HeadScratch& h, const ELEMENT* v, HeadLayout in, const ELEMENT* attn_out,
                              const ELEMENT* grad_out, HeadLayout out, int64_t padded) {
    pack_rows(grad_out, out, h.go_rows);
    for (int64_t first = 0; first < padded; first += LANES) {
        pack_columns(load_block(v, in, first), h.v_columns, padded, first);
        const HeadBlock go = load_block(grad_out, out, first), o = load_block(attn_out, out, first);
        pack_columns(go, h.go_columns, padded, first);
        Vector dot = {};
        for (int i = 0; i < HEAD; i++) dot += go.at[i] * o.at[i];
        store(h.delta + first, dot);
    }
}

// p and the scores' gradients gs of the ROWS queries from `first`, in pairs of keys and in pairs of queries.
inline void compute_p_and_gs(const HeadScratch& h, int64_t padded, int64_t first, const float lse[ROWS]) {
    for (int64_t key = 0; key <= first; key += LANES) {
        Vector s[ROWS], gp[ROWS];
        masked_scores(h.q_columns, h.k_columns, padded, first, key, s);
        dot_products(h.go_columns + first, h.v_columns + key, padded, gp);
        for (int r = 0; r < ROWS; r++) {
            s[r] = exp2(s[r] - lse[r]);
            gp[r] = s[r] * (gp[r] - h.delta[first + r]);
            store_packed(h.gs + r * padded + key / STEP, gp[r]);
        }
        for (int r = 0; r < ROWS; r += STEP) {
            store(h.p_of_rows + r / STEP * padded + key, packed(s + r));
            store(h.gs_of_rows + r / STEP * padded + key, packed(gp + r));
        }
    }
}

// The gradient of the ROWS queries from `first`; their part of those of keys and values is added.
inline void compute_qkv_grads(const HeadScratch h, int64_t padded, int64_t first) {
    Vector gq[ROWS][VECS_PER_HEAD] = {};
    for (int64_t key = 0; key < first + ROWS; key += STEP)
        for (int part = 0; part < VECS_PER_HEAD; part++) {
            const float* queries = h.q_rows + first / STEP * HEAD + part * LANES;
            const float* go = h.go_rows + first / STEP * HEAD + part * LANES;
            const Vector k_part = load(h.k_rows + key / STEP * HEAD + part * LANES);
            for (int r = 0; r < ROWS; r++)
                gq[r][part] = multiply_add(gq[r][part], h.gs + r * padded + key / STEP, k_part);
            for (int64_t one = key; one < key + STEP; one++) {
                const int64_t offset = one * HEAD + part * LANES;
                Vector gk = load(h.gk_rows + offset), gv = load(h.gv_rows + offset);
                for (int r = 0; r < ROWS / STEP; r++) {
                    gk = multiply_add(gk, h.gs_of_rows + r * padded + one, load(queries + r * HEAD));
                    gv = multiply_add(gv, h.p_of_rows + r * padded + one, load(go + r * HEAD));
                }
                store(h.gk_rows + offset, gk);
                store(h.gv_rows + offset, gv);
            }
        }
    for (int r = 0; r < ROWS; r++)
        for (int part = 0; part < VECS_PER_HEAD; part++)
            store(h.gq_rows + (first + r) * HEAD + part * LANES, gq[r][part]);
}

}  // namespace

extern "C" void attention_forward(const ELEMENT* qkv, const float* qk_norm_weight, const float* cos, const float* sin,
                                  int64_t batch, int64_t tokens, int64_t heads, ELEMENT* attn_out, float* lse) {
    if (!(batch * tokens * heads)) return;  // tensors without numbers may be null: there is nothing to point at
    #pragma omp parallel
    {
        Scratch scratch(tokens, 4, ROWS);
        const int64_t padded = scratch.tokens;
        float *q_columns = scratch.tensor(), *k_columns = scratch.tensor(), *v_rows = scratch.tensor();
        const float *cos_columns = load_angles(cos, tokens, scratch), *sin_columns = load_angles(sin, tokens, scratch);
        const RopeTable q_rope = {qk_norm_weight, cos_columns, sin_columns, padded};
        const RopeTable k_rope = {qk_norm_weight + HEAD, cos_columns, sin_columns, padded};
        float* p = scratch.take(ROWS * padded);
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t b = index / heads, head = index % heads;
            const ELEMENT* q = qkv + (b * tokens * 3 * heads + head) * HEAD;
            const ELEMENT *k = q + heads * HEAD, *v = k + heads * HEAD;
            const HeadLayout in = {tokens, 3 * heads * HEAD};
            load_qk(q, in, q_rope, LOG2_E / std::sqrt((float)HEAD), q_columns);
            load_qk(k, in, k_rope, 1.f, k_columns);
            pack_rows(v, in, v_rows);
            for (int64_t first = 0; first < tokens; first += ROWS)
                attend(q_columns, k_columns, v_rows, padded, tokens, first, p,
                       attn_out + (b * tokens * heads + head) * HEAD, heads * HEAD, lse + index * tokens);
        }
    }
}

extern "C" void attention_backward(const ELEMENT* qkv, const float* qk_norm_weight, const float* cos, const float* sin,
                                   int64_t batch, int64_t tokens, int64_t heads, const ELEMENT* attn_out,
                                   const float* lse, const ELEMENT* grad_out, ELEMENT* grad_qkv, float* grad_weight) {
    if (!tokens) std::fill_n(grad_weight, batch * heads * 2 * HEAD, 0.f);  // sums of nothing
    if (!(batch * tokens * heads)) return;  // as above
    #pragma omp parallel
    {
        Scratch scratch(tokens, 11, 3 * ROWS + 1);
        const int64_t padded = scratch.tokens;
        HeadScratch h;
        for (float** tensor : {&h.q_columns, &h.k_columns, &h.v_columns, &h.q_rows, &h.k_rows, &h.go_columns,
                               &h.go_rows, &h.gq_rows, &h.gk_rows, &h.gv_rows}) *tensor = scratch.tensor();
        const float *cos_columns = load_angles(cos, tokens, scratch), *sin_columns = load_angles(sin, tokens, scratch);
        const RopeTable q_rope = {qk_norm_weight, cos_columns, sin_columns, padded};
        const RopeTable k_rope = {qk_norm_weight + HEAD, cos_columns, sin_columns, padded};
        for (float** rows : {&h.gs, &h.p_of_rows, &h.gs_of_rows}) *rows = scratch.take(ROWS * padded);
        h.delta = scratch.take(padded);  // the last: its length may be no multiple of a cache line
        const float scale = 1 / std::sqrt((float)HEAD);
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t b = index / heads, head = index % heads, to_k = heads * HEAD, to_v = 2 * to_k;
            const int64_t offset_in = (b * tokens * 3 * heads + head) * HEAD;
            const int64_t offset_out = (b * tokens * heads + head) * HEAD;
            const ELEMENT* q = qkv + offset_in;
            const HeadLayout in = {tokens, 3 * heads * HEAD}, out = {tokens, heads * HEAD};
            load_qk(q, in, q_rope, LOG2_E * scale, h.q_columns, h.q_rows);
            load_qk(q + to_k, in, k_rope, 1.f, h.k_columns, h.k_rows);
            load_for_backward(h, q + to_v, in, attn_out + offset_out, grad_out + offset_out, out, padded);
            std::memset(h.gk_rows, 0, padded * HEAD * sizeof(float));
            std::memset(h.gv_rows, 0, padded * HEAD * sizeof(float));
            for (int64_t first = 0; first < tokens; first += ROWS) {
                float row_lse[ROWS];  // rows of padding have no gradient: any finite weights will do for them
                for (int r = 0; r < ROWS; r++) row_lse[r] = first + r < tokens ? lse[index * tokens + first + r] : 0;
                compute_p_and_gs(h, padded, first, row_lse);
                compute_qkv_grads(h, padded, first);
            }
            ELEMENT* to = grad_qkv + offset_in;
            float* to_weight = grad_weight + index * 2 * HEAD;
            store_qk_grad(h.gq_rows, q, in, q_rope, scale, to, to_weight);
            // What multiplied gs were the q_rows, which carry scale and log2(e).
            store_qk_grad(h.gk_rows, q + to_k, in, k_rope, 1 / LOG2_E, to + to_k, to_weight + HEAD);
            store_rows(h.gv_rows, to + to_v, in);
        }
    }
}
