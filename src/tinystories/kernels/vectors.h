// What attention.cpp and decoder.cpp compute with: vectors of fp32, read from and written to memory as fp32 or bf16.
//
// HEAD: head size, a multiple of 16. EPSILON: of the normalisation. ELEMENT: uint16_t (bf16) or float.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// Numbers in a vector: as many as the CPU has. GCC keeps longer ones in memory, which is up to 70 times as slow.
#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int PARTS = HEAD / LANES, HALF = HEAD / 2;
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

constexpr int LINE = 16;
struct alignas(64) Line { float at[LINE]; };  // memory aligned for vectors of any length

inline Vector load(const float* from) { Vector x; std::memcpy(&x, from, sizeof x); return x; }
inline void store(float* to, Vector x) { std::memcpy(to, &x, sizeof x); }

inline Vector load(const uint16_t* from) {
    Halves half;
    std::memcpy(&half, from, sizeof half);
    return (Vector)(__builtin_convertvector(half, Bits) << 16);
}

inline float to_float(float x) { return x; }
inline float to_float(uint16_t x) { const uint32_t bits = (uint32_t)x << 16; float y; std::memcpy(&y, &bits, sizeof y); return y; }

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

inline float sum(Vector x) {  // halves upon halves: one after the other, each addition would wait for the last
    typedef float Half __attribute__((vector_size(2 * LANES)));
    struct { Half low, high; } halves;
    std::memcpy(&halves, &x, sizeof x);
    const Half half = halves.low + halves.high;
    float part[LANES / 2];
    std::memcpy(part, &half, sizeof half);
    for (int count = LANES / 4; count; count /= 2)
        for (int i = 0; i < count; i++) part[i] += part[i + count];
    return part[0];
}

inline float largest(Vector x) { float best = x[0]; for (int i = 1; i < LANES; i++) best = x[i] > best ? x[i] : best; return best; }

// What divides a vector by its root mean square.
template <typename T>
inline float normalizer(const T* from, int64_t length) {
    Vector squares = {};
    for (int64_t i = 0; i < length; i += LANES) { Vector x = load(from + i); squares += x * x; }
    return 1 / std::sqrt(sum(squares) / length + EPSILON);
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

inline Ints lane() { Ints x; for (int i = 0; i < LANES; i++) x[i] = i; return x; }
const Ints LANE = lane();
const float LOG2_E = 1.44269504f;

}  // namespace
