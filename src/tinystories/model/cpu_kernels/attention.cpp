// Causal attention of small heads on a CPU, forward and backward, compiled for one head size and one dtype.
//
// A head of 16 at 128 tokens is too small for the products that libraries are made for: writing and reading the T × T
// scores costs more than computing them. Here one head of one window stays in the first-level cache; scores are
// computed 4 queries at a time, used, and forgotten. The method is that of Dao et al. 2022 (arXiv 2205.14135).
//
// Queries and keys are normalised, multiplied by their gains and turned by their position on the way in, and the
// gradients on the way out, so that none of it is ever written to memory. For that, LANES tokens lie side by side in
// vectors, one for each component.
//
// Tensors that are multiplied are packed in pairs of what is summed over: components, keys, or queries (vectors.h). Sums
// are fp32.
//
// qkv and its gradient: (batch, tokens, 3, heads, HEAD); o and its gradient: (batch, tokens, heads, HEAD);
// lse: (batch, heads, tokens), base 2; gains: (2, HEAD), of queries and keys, and their gradient (batch, heads, 2, HEAD);
// cos, sin: (tokens, HEAD), each angle twice.

#include <algorithm>

#include "vectors.h"

namespace {

constexpr int ROWS = 4;  // queries at a time: their sums fit into registers, each key is loaded once for all

// The scratch memory of one thread: the head's tensors, for tokens up to a multiple of LANES; those beyond the window's
// are zeros. A packed tensor lies there in rows (tokens / STEP, HEAD) or in columns (HEAD / STEP, tokens), the sums of
// gradients in rows of fp32.
struct Scratch {
    int64_t tokens;
    std::vector<Line> memory;
    int64_t used = 0;
    explicit Scratch(int64_t window, int64_t tensors)
        : tokens((window + LANES - 1) / LANES * LANES), memory((tensors * HEAD + 3 * ROWS + 1) * tokens / LINE + 1) {}
    float* take(int64_t floats) { float* start = memory[used / LINE].at; used += floats; return start; }
    float* tensor() { return take(tokens * HEAD); }
};

// One kind of vectors of one head, of all tokens of a window, as they lie in memory.
struct Heads { int64_t tokens, stride; };

// Vectors of LANES tokens, side by side: component i of all of them is at[i].
struct Block { Vector at[HEAD]; };

// Row i becomes column i: halves are exchanged in ever larger squares.
template <int SIZE = 1>
inline void transpose(Vector x[LANES]) {
    const Ints right = (LANE & SIZE) != 0;
    const Ints upper = right ? LANE + (LANES - SIZE) : LANE, lower = right ? LANE + LANES : LANE + SIZE;
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
inline Block read(const T* from, Heads heads, int64_t first) {
    Block block;
    for (int part = 0; part < PARTS; part++) {
        Vector* x = block.at + part * LANES;
        for (int j = 0; j < LANES; j++)
            x[j] = first + j < heads.tokens ? load(from + (first + j) * heads.stride + part * LANES) : Vector{};
        transpose(x);
    }
    return block;
}

template <typename T>
inline void write(Block block, T* to, Heads heads, int64_t first) {
    for (int part = 0; part < PARTS; part++) {
        Vector* x = block.at + part * LANES;
        transpose(x);
        for (int j = 0; j < LANES && first + j < heads.tokens; j++)
            store(to + (first + j) * heads.stride + part * LANES, x[j]);
    }
}

inline void pack_columns(const Block& block, float* columns, int64_t tokens, int64_t first) {
    for (int i = 0; i < HEAD; i += STEP) store(columns + i / STEP * tokens + first, packed(block.at + i));
}

inline void pack_rows(Block block, float* rows, int64_t first) {
    for (int part = 0; part < PARTS; part++) {
        Vector* x = block.at + part * LANES;
        transpose(x);
        for (int j = 0; j < LANES; j += STEP) store(rows + (first + j) / STEP * HEAD + part * LANES, packed(x + j));
    }
}

template <typename T>
void pack_rows(const T* from, Heads heads, float* rows) {
    for (int64_t t = 0; t < heads.tokens; t += STEP)
        for (int i = 0; i < HEAD; i += LANES) {
            Vector x[STEP] = {};
            for (int j = 0; j < STEP && t + j < heads.tokens; j++) x[j] = load(from + (t + j) * heads.stride + i);
            store(rows + t / STEP * HEAD + i, packed(x));
        }
}

template <typename T>
void write_rows(const float* rows, T* to, Heads heads) {
    for (int64_t t = 0; t < heads.tokens; t++)
        for (int i = 0; i < HEAD; i += LANES) store(to + t * heads.stride + i, load(rows + t * HEAD + i));
}

// How queries or keys are turned: gain (HEAD); cos, sin in columns (HEAD / 2, tokens).
struct Turn {
    const float *gain, *cos, *sin;
    int64_t tokens;
};

// The first half of a table's (tokens, HEAD), in columns.
const float* read_angles(const float* table, int64_t tokens, Scratch& scratch) {
    float* columns = scratch.take(HALF * scratch.tokens);
    for (int64_t t = 0; t < tokens; t++)
        for (int i = 0; i < HALF; i++) columns[i * scratch.tokens + t] = table[t * HEAD + i];
    return columns;
}

// Divide each token's vector by its root mean square. Returns what they were multiplied by.
inline Vector normalize(Block& block) {
    Vector squares = {};
    for (const Vector& x : block.at) squares += x * x;
    float factors[LANES];
    store(factors, squares);
    for (float& factor : factors) factor = 1 / std::sqrt(factor / HEAD + EPSILON);
    for (Vector& x : block.at) x *= load(factors);
    return load(factors);
}

inline void turn(Block& block, const Turn& by, float scale, int64_t first) {
    for (int i = 0; i < HALF; i++) {
        const Vector cos = load(by.cos + i * by.tokens + first), sin = load(by.sin + i * by.tokens + first);
        const Vector left = block.at[i] * (by.gain[i] * scale), right = block.at[i + HALF] * (by.gain[i + HALF] * scale);
        block.at[i] = left * cos - right * sin;
        block.at[i + HALF] = right * cos + left * sin;
    }
}

// Queries or keys as the scores are computed with, in columns and, where they are asked for, in rows.
template <typename T>
void read_turned(const T* from, Heads heads, const Turn& by, float scale, float* columns, float* rows = nullptr) {
    for (int64_t first = 0; first < by.tokens; first += LANES) {
        Block block = read(from, heads, first);
        normalize(block);
        turn(block, by, scale, first);
        pack_columns(block, columns, by.tokens, first);
        if (rows) pack_rows(block, rows, first);
    }
}

// From the gradient of what read_turned gave, times scale: those of what it read, and of the gain.
template <typename T>
void write_turned_gradient(const float* rows, const T* from, Heads heads, const Turn& by, float scale, T* to,
                           float* grad_gain) {
    Block of_gain = {};
    for (int64_t first = 0; first < by.tokens; first += LANES) {
        Block gradient = read(rows, {by.tokens, HEAD}, first), x = read(from, heads, first);
        const Vector factor = normalize(x);
        Vector dot = {};
        for (int i = 0; i < HALF; i++) {
            const Vector cos = load(by.cos + i * by.tokens + first), sin = load(by.sin + i * by.tokens + first);
            const Vector left = gradient.at[i] * scale, right = gradient.at[i + HALF] * scale;
            const Vector back[] = {left * cos + right * sin, right * cos - left * sin};
            for (int half = 0; half < 2; half++) {
                const int at = i + half * HALF;
                of_gain.at[at] += back[half] * x.at[at];
                gradient.at[at] = back[half] * by.gain[at];
                dot += gradient.at[at] * x.at[at];
            }
        }
        const Vector mean = dot / (float)HEAD;
        for (int i = 0; i < HEAD; i++) gradient.at[i] = (gradient.at[i] - x.at[i] * mean) * factor;
        write(gradient, to, heads, first);
    }
    for (int i = 0; i < HEAD; i++) grad_gain[i] = sum(of_gain.at[i]);
}

// out[r][j] = a[r] · b[j] for ROWS tokens of a and LANES tokens of b, both in columns.
inline void products(const float* a, const float* b, int64_t tokens, Vector out[ROWS]) {
    for (int r = 0; r < ROWS; r++) out[r] = Vector{};
    for (int i = 0; i < HEAD / STEP; i++) {
        Vector part = load(b + i * tokens);
        for (int r = 0; r < ROWS; r++) out[r] = multiply_add(out[r], a + i * tokens + r, part);
    }
}

// Scores of ROWS queries, of which the first is number `first`, with LANES keys, of which the first is number `key`.
inline void scores(const float* q, const float* k, int64_t tokens, int64_t first, int64_t key, Vector out[ROWS]) {
    products(q + first, k + key, tokens, out);
    if (key + LANES <= first + 1) return;
    for (int r = 0; r < ROWS; r++) {
        Ints hidden = LANE > (int32_t)(first + r - key);
        out[r] = hidden ? -1e30f - Vector{} : out[r];
    }
}

}  // namespace

extern "C" void forward(const ELEMENT* qkv, const float* gains, const float* cos, const float* sin, int64_t batch,
                        int64_t tokens, int64_t heads, ELEMENT* o, float* lse) {
    if (!(batch * tokens * heads)) return;  // tensors without numbers may be null: no place in them to point at
    #pragma omp parallel
    {
        Scratch scratch(tokens, 4);
        const int64_t padded = scratch.tokens;
        float *q_columns = scratch.tensor(), *k_columns = scratch.tensor(), *v_rows = scratch.tensor();
        const float *cos_columns = read_angles(cos, tokens, scratch), *sin_columns = read_angles(sin, tokens, scratch);
        const Turn q_turn = {gains, cos_columns, sin_columns, padded};
        const Turn k_turn = {gains + HEAD, cos_columns, sin_columns, padded};
        float* p = scratch.take(ROWS * padded);
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t b = index / heads, h = index % heads;
            const ELEMENT* q = qkv + (b * tokens * 3 * heads + h) * HEAD;
            const Heads in = {tokens, 3 * heads * HEAD};
            read_turned(q, in, q_turn, LOG2_E / std::sqrt((float)HEAD), q_columns);
            read_turned(q + heads * HEAD, in, k_turn, 1.f, k_columns);
            pack_rows(q + 2 * heads * HEAD, in, v_rows);
            ELEMENT* to = o + (b * tokens * heads + h) * HEAD;
            for (int64_t first = 0; first < tokens; first += ROWS) {
                Vector best[ROWS], total[ROWS] = {}, s[ROWS];
                for (int r = 0; r < ROWS; r++) best[r] = -1e30f - Vector{};
                for (int64_t key = 0; key <= first; key += LANES) {
                    scores(q_columns, k_columns, padded, first, key, s);
                    for (int r = 0; r < ROWS; r++) {
                        best[r] = s[r] > best[r] ? s[r] : best[r];
                        store(p + r * padded + key, s[r]);
                    }
                }
                float top[ROWS];
                for (int r = 0; r < ROWS; r++) top[r] = largest(best[r]);
                for (int64_t key = 0; key <= first; key += LANES)
                    for (int r = 0; r < ROWS; r++) {
                        Vector weight = exp2(load(p + r * padded + key) - top[r]);
                        total[r] += weight;
                        store_packed(p + r * padded + key / STEP, weight);  // over scores that have been read
                    }
                Vector mixed[ROWS][PARTS] = {};
                for (int64_t key = 0; key < (first + ROWS) / STEP; key++)
                    for (int part = 0; part < PARTS; part++) {
                        Vector value = load(v_rows + key * HEAD + part * LANES);
                        for (int r = 0; r < ROWS; r++)
                            mixed[r][part] = multiply_add(mixed[r][part], p + r * padded + key, value);
                    }
                for (int r = 0; r < ROWS && first + r < tokens; r++) {
                    float whole = sum(total[r]);
                    lse[index * tokens + first + r] = top[r] + std::log2(whole);
                    for (int part = 0; part < PARTS; part++)
                        store(to + (first + r) * heads * HEAD + part * LANES, mixed[r][part] * (1 / whole));
                }
            }
        }
    }
}

extern "C" void backward(const ELEMENT* qkv, const float* gains, const float* cos, const float* sin, int64_t batch,
                         int64_t tokens, int64_t heads, const ELEMENT* o, const float* lse, const ELEMENT* grad_o,
                         ELEMENT* grad_qkv, float* grad_gains) {
    if (!tokens) std::fill_n(grad_gains, batch * heads * 2 * HEAD, 0.f);  // sums of nothing
    if (!(batch * tokens * heads)) return;  // as above
    #pragma omp parallel
    {
        Scratch scratch(tokens, 11);
        const int64_t padded = scratch.tokens;
        float *q_columns = scratch.tensor(), *k_columns = scratch.tensor(), *v_columns = scratch.tensor();
        float *q_rows = scratch.tensor(), *k_rows = scratch.tensor();
        float *go_columns = scratch.tensor(), *go_rows = scratch.tensor();
        float *gq_rows = scratch.tensor(), *gk_rows = scratch.tensor(), *gv_rows = scratch.tensor();
        const float *cos_columns = read_angles(cos, tokens, scratch), *sin_columns = read_angles(sin, tokens, scratch);
        const Turn q_turn = {gains, cos_columns, sin_columns, padded};
        const Turn k_turn = {gains + HEAD, cos_columns, sin_columns, padded};
        float *gs = scratch.take(ROWS * padded);
        float *p_of_rows = scratch.take(ROWS * padded), *gs_of_rows = scratch.take(ROWS * padded);
        float* delta = scratch.take(padded);  // the last: its length may be no multiple of LINE
        const float scale = 1 / std::sqrt((float)HEAD);
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t b = index / heads, h = index % heads;
            const int64_t offset_in = (b * tokens * 3 * heads + h) * HEAD, offset_out = (b * tokens * heads + h) * HEAD;
            const ELEMENT* q = qkv + offset_in;
            const Heads in = {tokens, 3 * heads * HEAD}, out = {tokens, heads * HEAD};
            read_turned(q, in, q_turn, LOG2_E * scale, q_columns, q_rows);
            read_turned(q + heads * HEAD, in, k_turn, 1.f, k_columns, k_rows);
            pack_rows(grad_o + offset_out, out, go_rows);
            for (int64_t first = 0; first < padded; first += LANES) {
                pack_columns(read(q + 2 * heads * HEAD, in, first), v_columns, padded, first);
                const Block go = read(grad_o + offset_out, out, first), mixed = read(o + offset_out, out, first);
                pack_columns(go, go_columns, padded, first);
                Vector dot = {};
                for (int i = 0; i < HEAD; i++) dot += go.at[i] * mixed.at[i];
                store(delta + first, dot);
            }
            std::memset(gk_rows, 0, padded * HEAD * sizeof(float));
            std::memset(gv_rows, 0, padded * HEAD * sizeof(float));
            for (int64_t first = 0; first < tokens; first += ROWS) {
                float norm[ROWS];
                // Rows of padding have no gradient: any finite weights will do for them.
                for (int r = 0; r < ROWS; r++) norm[r] = first + r < tokens ? lse[index * tokens + first + r] : 0;
                for (int64_t key = 0; key <= first; key += LANES) {
                    Vector s[ROWS], gp[ROWS];
                    scores(q_columns, k_columns, padded, first, key, s);
                    products(go_columns + first, v_columns + key, padded, gp);
                    for (int r = 0; r < ROWS; r++) {
                        s[r] = exp2(s[r] - norm[r]);
                        gp[r] = s[r] * (gp[r] - delta[first + r]);
                        store_packed(gs + r * padded + key / STEP, gp[r]);
                    }
                    for (int r = 0; r < ROWS; r += STEP) {
                        store(p_of_rows + r / STEP * padded + key, packed(s + r));
                        store(gs_of_rows + r / STEP * padded + key, packed(gp + r));
                    }
                }
                Vector gq[ROWS][PARTS] = {};
                for (int64_t key = 0; key < first + ROWS; key += STEP)
                    for (int part = 0; part < PARTS; part++) {
                        const float* queries = q_rows + first / STEP * HEAD + part * LANES;
                        const float* go = go_rows + first / STEP * HEAD + part * LANES;
                        const Vector k_part = load(k_rows + key / STEP * HEAD + part * LANES);
                        for (int r = 0; r < ROWS; r++)
                            gq[r][part] = multiply_add(gq[r][part], gs + r * padded + key / STEP, k_part);
                        for (int64_t one = key; one < key + STEP; one++) {
                            const int64_t place = one * HEAD + part * LANES;
                            Vector gk = load(gk_rows + place), gv = load(gv_rows + place);
                            for (int r = 0; r < ROWS / STEP; r++) {
                                gk = multiply_add(gk, gs_of_rows + r * padded + one, load(queries + r * HEAD));
                                gv = multiply_add(gv, p_of_rows + r * padded + one, load(go + r * HEAD));
                            }
                            store(gk_rows + place, gk);
                            store(gv_rows + place, gv);
                        }
                    }
                for (int r = 0; r < ROWS; r++)
                    for (int part = 0; part < PARTS; part++)
                        store(gq_rows + (first + r) * HEAD + part * LANES, gq[r][part]);
            }
            ELEMENT* to = grad_qkv + offset_in;
            float* grad_gain = grad_gains + index * 2 * HEAD;
            write_turned_gradient(gq_rows, q, in, q_turn, scale, to, grad_gain);
            // What multiplied the scores' gradients were the q_rows, which carry scale and log2(e).
            write_turned_gradient(gk_rows, q + heads * HEAD, in, k_turn, 1 / LOG2_E, to + heads * HEAD, grad_gain + HEAD);
            write_rows(gv_rows, to + 2 * heads * HEAD, in);
        }
    }
}
