// Causal attention of small heads on a CPU, forward and backward, compiled by attention.py for one head size and dtype.
//
// A head of 16 at 128 tokens is too small for the products that libraries are made for: writing and reading the T × T
// scores costs more than computing them. Here one head of one window stays in the first-level cache; scores are
// computed 4 queries at a time, used, and forgotten. The method is that of Dao et al. 2022 (arXiv 2205.14135).
//
// HEAD: head size, a multiple of 16. ELEMENT: uint16_t (bf16) or float. All sums are fp32.
// q, k, v: (batch, tokens, heads, HEAD), the last two dimensions contiguous, so that they may be views of one
// projection; o and all gradients contiguous of the same shape; lse: (batch, heads, tokens), base 2.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int LANES = 16;         // numbers in a vector; a compiler splits it where the CPU's vectors are shorter
constexpr int ROWS = 4;           // queries at a time: their sums fit into registers, each key is loaded once for all
constexpr int PARTS = HEAD / LANES;
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

struct alignas(64) Line { float at[LANES]; };  // memory aligned for vectors
struct Strides { int64_t batch, token; };

inline Vector load(const float* from) { Vector x; std::memcpy(&x, from, sizeof x); return x; }
inline void store(float* to, Vector x) { std::memcpy(to, &x, sizeof x); }

inline Vector load(const uint16_t* from) {
    Halves half;
    std::memcpy(&half, from, sizeof half);
    return (Vector)(__builtin_convertvector(half, Bits) << 16);
}

inline void store(uint16_t* to, Vector x) {  // rounds to the nearest, ties to even
    Bits bits = (Bits)x;
    bits += 0x7fff + ((bits >> 16) & 1);
    Halves half = __builtin_convertvector(bits >> 16, Halves);
    std::memcpy(to, &half, sizeof half);
}

inline Vector exp2(Vector x) {  // relative error below 3e-7 (Taylor's series on [-1/2, 1/2]); 0 below 2^-126
    const float shift = 12582912.f;  // 1.5 · 2^23: adding it rounds to an integer, in the low bits
    Vector floor = -126.f - Vector{};
    Vector clipped = x < floor ? floor : x;
    Vector shifted = clipped + shift;
    Vector rest = clipped - (shifted - shift);
    Vector power = 1.5403530e-4f - Vector{};
    power = power * rest + 1.3333558e-3f;
    power = power * rest + 9.6181291e-3f;
    power = power * rest + 5.5504109e-2f;
    power = power * rest + 2.4022651e-1f;
    power = power * rest + 6.9314718e-1f;
    power = power * rest + 1.f;
    Vector scaled = (Vector)((Ints)power + ((Ints)shifted << 23));
    return x < floor ? Vector{} : scaled;
}

inline float sum(Vector x) { float total = 0; for (int i = 0; i < LANES; i++) total += x[i]; return total; }
inline float largest(Vector x) { float best = x[0]; for (int i = 1; i < LANES; i++) best = x[i] > best ? x[i] : best; return best; }

// The scratch memory of one thread: the head's tensors in fp32, rows padded with zeros to a multiple of LANES.
struct Scratch {
    int64_t rows;
    std::vector<Line> memory;
    int64_t used = 0;
    explicit Scratch(int64_t tokens, int64_t tensors)
        : rows((tokens + LANES - 1) / LANES * LANES), memory(tensors * rows * PARTS + 2 * ROWS * rows / LANES) {}
    float* take(int64_t floats) { float* start = memory[used / LANES].at; used += floats; return start; }
    float* tensor() { return take(rows * HEAD); }
};

template <typename T>
void read(const T* from, int64_t stride, int64_t tokens, float scale, float* rows) {
    for (int64_t t = 0; t < tokens; t++)
        for (int part = 0; part < HEAD; part += LANES) store(rows + t * HEAD + part, load(from + t * stride + part) * scale);
}

template <typename T>
void write(const float* rows, int64_t tokens, int64_t stride, float scale, T* to) {
    for (int64_t t = 0; t < tokens; t++)
        for (int part = 0; part < HEAD; part += LANES) store(to + t * stride + part, load(rows + t * HEAD + part) * scale);
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
    const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int r = 0; r < ROWS; r++) {
        Ints hidden = lane > (int32_t)(first + r - key);
        out[r] = hidden ? -1e30f - Vector{} : out[r];
    }
}

const float LOG2_E = 1.44269504f;

}  // namespace

extern "C" void forward(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, const Strides* strides, int64_t batch,
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
            read(q + b * strides[0].batch + h * HEAD, strides[0].token, tokens, LOG2_E / std::sqrt((float)HEAD), qs);
            read(k + b * strides[1].batch + h * HEAD, strides[1].token, tokens, 1.f, ks);
            read(v + b * strides[2].batch + h * HEAD, strides[2].token, tokens, 1.f, vs);
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

extern "C" void backward(const ELEMENT* q, const ELEMENT* k, const ELEMENT* v, const Strides* strides, int64_t batch,
                         int64_t tokens, int64_t heads, const ELEMENT* o, const float* lse, const ELEMENT* grad_o,
                         ELEMENT* grad_q, ELEMENT* grad_k, ELEMENT* grad_v) {
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
            const int64_t offset = (b * tokens * heads + h) * HEAD, stride = heads * HEAD;
            read(q + b * strides[0].batch + h * HEAD, strides[0].token, tokens, LOG2_E * scale, qs);
            read(k + b * strides[1].batch + h * HEAD, strides[1].token, tokens, 1.f, ks);
            read(v + b * strides[2].batch + h * HEAD, strides[2].token, tokens, 1.f, vs);
            read(o + offset, stride, tokens, 1.f, os);
            read(grad_o + offset, stride, tokens, 1.f, gos);
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
            write(gqs, tokens, stride, scale, grad_q + offset);
            write(gks, tokens, stride, 1 / LOG2_E, grad_k + offset);  // qs carry scale and log2(e)
            write(gvs, tokens, stride, 1.f, grad_v + offset);
        }
    }
}
