// Causal attention of small heads on a CPU, forward and backward, compiled for one head size and one dtype.
//
// A head of 16 at 128 tokens is too small for the products that libraries are made for: writing and reading the T × T
// scores costs more than computing them. Here one head of one window stays in the first-level cache; scores are
// computed 4 queries at a time, used, and forgotten. The method is that of Dao et al. 2022 (arXiv 2205.14135).
//
// Queries and keys are normalised, multiplied by their gains and turned by their position on the way in, and the
// gradients on the way out, so that none of it is ever written to memory.
//
// Sums are fp32.
// qkv and its gradient: (batch, tokens, 3, heads, HEAD); o and its gradient: (batch, tokens, heads, HEAD);
// lse: (batch, heads, tokens), base 2; gains: (2, HEAD), of queries and keys, and their gradient (batch, heads, 2, HEAD);
// cos, sin: (tokens, HEAD), each angle twice.

#include "vectors.h"

namespace {

constexpr int ROWS = 4;  // queries at a time: their sums fit into registers, each key is loaded once for all

// The scratch memory of one thread: the head's tensors in fp32, rows padded with zeros to a multiple of LANES.
struct Scratch {
    int64_t rows;
    std::vector<Line> memory;
    int64_t used = 0;
    explicit Scratch(int64_t tokens, int64_t tensors)
        : rows((tokens + LANES - 1) / LANES * LANES), memory((tensors * HEAD + 2 * ROWS) * rows / LINE) {}
    float* take(int64_t floats) { float* start = memory[used / LINE].at; used += floats; return start; }
    float* tensor() { return take(rows * HEAD); }
};

// One kind of vectors of one head, of all tokens of a window, as they lie in memory.
struct Heads { int64_t tokens, stride; };

template <typename T>
void read(const T* from, Heads heads, float* rows) {
    for (int64_t t = 0; t < heads.tokens; t++)
        for (int i = 0; i < HEAD; i += LANES) store(rows + t * HEAD + i, load(from + t * heads.stride + i));
}

template <typename T>
void write(const float* rows, Heads heads, T* to) {
    for (int64_t t = 0; t < heads.tokens; t++)
        for (int i = 0; i < HEAD; i += LANES) store(to + t * heads.stride + i, load(rows + t * HEAD + i));
}

template <typename T>
void read_turned(const T* from, Heads heads, Turn turn, float scale, float* rows) {
    for (int64_t t = 0; t < heads.tokens; t++) turned(from + t * heads.stride, turn, t, scale, rows + t * HEAD);
}

// From the gradient of what read_turned gave, times scale: those of what it read, and of the gain.
template <typename T>
void write_turned_gradient(const float* rows, const T* from, Heads heads, Turn turn, float scale, T* to,
                           float* grad_gain) {
    alignas(64) float of_gain[HEAD] = {};
    for (int64_t t = 0; t < heads.tokens; t++, rows += HEAD) {
        const float *cos = turn.cos + t * HEAD, *sin = turn.sin + t * HEAD;
        alignas(64) float x[HEAD], g[HEAD];
        const float factor = normalize(from + t * heads.stride, HEAD, x);
        for (int i = 0; i < HALF; i++) {
            const float left = rows[i] * scale, right = rows[i + HALF] * scale;
            g[i] = left * cos[i] + right * sin[i];
            g[i + HALF] = right * cos[i] - left * sin[i];
        }
        Vector dot = {};
        for (int i = 0; i < HEAD; i += LANES) {
            const Vector x_part = load(x + i), turned_back = load(g + i), part = turned_back * load(turn.gain + i);
            store(of_gain + i, load(of_gain + i) + turned_back * x_part);
            store(g + i, part);
            dot += part * x_part;
        }
        const float mean = sum(dot) / HEAD;
        for (int i = 0; i < HEAD; i += LANES)
            store(to + t * heads.stride + i, (load(g + i) - load(x + i) * mean) * factor);
    }
    std::memcpy(grad_gain, of_gain, sizeof of_gain);
}

void transpose(const float* rows, int64_t count, float* columns) {
    for (int64_t t = 0; t < count; t++)
        for (int i = 0; i < HEAD; i++) columns[i * count + t] = rows[t * HEAD + i];
}

// out[r][j] = a[r] · b[j] for ROWS rows of a and LANES rows of b, b given transposed.
inline void products(const float* a, const float* b_columns, int64_t count, Vector out[ROWS]) {
    for (int r = 0; r < ROWS; r++) out[r] = Vector{};
    for (int i = 0; i < HEAD; i++) {
        Vector b = load(b_columns + i * count);
        for (int r = 0; r < ROWS; r++) out[r] += a[r * HEAD + i] * b;
    }
}

// Scores of ROWS queries, of which the first is number `first`, with LANES keys, of which the first is number `key`.
inline void scores(const float* q, const float* k_columns, int64_t count, int64_t first, int64_t key, Vector out[ROWS]) {
    products(q + first * HEAD, k_columns + key, count, out);
    if (key + LANES <= first + 1) return;
    for (int r = 0; r < ROWS; r++) {
        Ints hidden = LANE > (int32_t)(first + r - key);
        out[r] = hidden ? -1e30f - Vector{} : out[r];
    }
}

}  // namespace

extern "C" void forward(const ELEMENT* qkv, const float* gains, const float* cos, const float* sin, int64_t batch,
                        int64_t tokens, int64_t heads, ELEMENT* o, float* lse) {
    #pragma omp parallel
    {
        Scratch scratch(tokens, 4);
        const int64_t rows = scratch.rows;
        float *qs = scratch.tensor(), *ks = scratch.tensor(), *kt = scratch.tensor(), *vs = scratch.tensor();
        float* p = scratch.take(ROWS * rows);
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t b = index / heads, h = index % heads;
            const ELEMENT* q = qkv + (b * tokens * 3 * heads + h) * HEAD;
            const Heads in = {tokens, 3 * heads * HEAD};
            read_turned(q, in, {gains, cos, sin}, LOG2_E / std::sqrt((float)HEAD), qs);
            read_turned(q + heads * HEAD, in, {gains + HEAD, cos, sin}, 1.f, ks);
            read(q + 2 * heads * HEAD, in, vs);
            transpose(ks, rows, kt);
            ELEMENT* to = o + (b * tokens * heads + h) * HEAD;
            for (int64_t first = 0; first < tokens; first += ROWS) {
                Vector best[ROWS], total[ROWS] = {}, s[ROWS];
                for (int r = 0; r < ROWS; r++) best[r] = -1e30f - Vector{};
                for (int64_t key = 0; key <= first; key += LANES) {
                    scores(qs, kt, rows, first, key, s);
                    for (int r = 0; r < ROWS; r++) {
                        best[r] = s[r] > best[r] ? s[r] : best[r];
                        store(p + r * rows + key, s[r]);
                    }
                }
                float top[ROWS];
                for (int r = 0; r < ROWS; r++) top[r] = largest(best[r]);
                for (int64_t key = 0; key <= first; key += LANES)
                    for (int r = 0; r < ROWS; r++) {
                        Vector weight = exp2(load(p + r * rows + key) - top[r]);
                        total[r] += weight;
                        store(p + r * rows + key, weight);
                    }
                Vector mixed[ROWS][PARTS] = {};
                for (int64_t key = 0; key < first + ROWS && key < tokens; key++)
                    for (int part = 0; part < PARTS; part++) {
                        Vector value = load(vs + key * HEAD + part * LANES);
                        for (int r = 0; r < ROWS; r++) mixed[r][part] += p[r * rows + key] * value;
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
    #pragma omp parallel
    {
        Scratch scratch(tokens, 10);
        const int64_t rows = scratch.rows;
        float *qs = scratch.tensor(), *ks = scratch.tensor(), *kt = scratch.tensor(), *vs = scratch.tensor();
        float *vt = scratch.tensor(), *os = scratch.tensor(), *gos = scratch.tensor();
        float *gqs = scratch.tensor(), *gks = scratch.tensor(), *gvs = scratch.tensor();
        float *p = scratch.take(ROWS * rows), *gs = scratch.take(ROWS * rows);
        const float scale = 1 / std::sqrt((float)HEAD);
        #pragma omp for schedule(static)
        for (int64_t index = 0; index < batch * heads; index++) {
            const int64_t b = index / heads, h = index % heads;
            const int64_t offset_in = (b * tokens * 3 * heads + h) * HEAD, offset_out = (b * tokens * heads + h) * HEAD;
            const ELEMENT* q = qkv + offset_in;
            const Heads in = {tokens, 3 * heads * HEAD}, out = {tokens, heads * HEAD};
            const Turn q_turn = {gains, cos, sin}, k_turn = {gains + HEAD, cos, sin};
            read_turned(q, in, q_turn, LOG2_E * scale, qs);
            read_turned(q + heads * HEAD, in, k_turn, 1.f, ks);
            read(q + 2 * heads * HEAD, in, vs);
            read(o + offset_out, out, os);
            read(grad_o + offset_out, out, gos);
            transpose(ks, rows, kt);
            transpose(vs, rows, vt);
            std::memset(gks, 0, rows * HEAD * sizeof(float));
            std::memset(gvs, 0, rows * HEAD * sizeof(float));
            for (int64_t first = 0; first < tokens; first += ROWS) {
                float norm[ROWS], delta[ROWS];
                for (int r = 0; r < ROWS; r++) {
                    // Rows of padding have no gradient: any finite weights will do for them.
                    norm[r] = first + r < tokens ? lse[index * tokens + first + r] : 0;
                    Vector dot = {};
                    for (int i = (first + r) * HEAD; i < (first + r + 1) * HEAD; i += LANES) dot += load(os + i) * load(gos + i);
                    delta[r] = sum(dot);
                }
                for (int64_t key = 0; key <= first; key += LANES) {
                    Vector s[ROWS], gp[ROWS];
                    scores(qs, kt, rows, first, key, s);
                    products(gos + first * HEAD, vt + key, rows, gp);
                    for (int r = 0; r < ROWS; r++) {
                        Vector weight = exp2(s[r] - norm[r]);
                        store(p + r * rows + key, weight);
                        store(gs + r * rows + key, weight * (gp[r] - delta[r]));
                    }
                }
                Vector gq[ROWS][PARTS] = {};
                for (int64_t key = 0; key < first + ROWS && key < tokens; key++)
                    for (int part = 0; part < PARTS; part++) {
                        const int64_t place = key * HEAD + part * LANES;
                        Vector k_part = load(ks + place), gk = load(gks + place), gv = load(gvs + place);
                        for (int r = 0; r < ROWS; r++) {
                            const int64_t row = (first + r) * HEAD + part * LANES;
                            gq[r][part] += gs[r * rows + key] * k_part;
                            gk += gs[r * rows + key] * load(qs + row);
                            gv += p[r * rows + key] * load(gos + row);
                        }
                        store(gks + place, gk);
                        store(gvs + place, gv);
                    }
                for (int r = 0; r < ROWS; r++)
                    for (int part = 0; part < PARTS; part++) store(gqs + (first + r) * HEAD + part * LANES, gq[r][part]);
            }
            ELEMENT* to = grad_qkv + offset_in;
            float* grad_gain = grad_gains + index * 2 * HEAD;
            write_turned_gradient(gqs, q, in, q_turn, scale, to, grad_gain);
            // What multiplied the scores' gradients were the qs, which carry scale and log2(e).
            write_turned_gradient(gks, q + heads * HEAD, in, k_turn, 1 / LOG2_E, to + heads * HEAD, grad_gain + HEAD);
            write(gvs, in, to + 2 * heads * HEAD);
        }
    }
}
