// What attention.cpp and decoder.cpp compute with: vectors of fp32, read from and written to memory as fp32 or bf16.
//
// HEAD: head size, a multiple of 16. EPSILON: of the normalisation. ELEMENT: uint16_t (bf16) or float.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

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

struct Count { int32_t at[LANES]; };
constexpr Count count() { Count c = {}; for (int i = 0; i < LANES; i++) c.at[i] = i; return c; }
constexpr Ints LANE = __builtin_bit_cast(Ints, count());  // 0, 1, 2, ...

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
    Vector scaled = (Vector)((Bits)power + ((Bits)shifted << 23));
    return x < floor ? Vector{} : scaled;
}

template <typename Join>
inline float reduce(Vector x, Join join) {  // halves upon halves: one after the other, each would wait for the last
    for (int count = LANES / 2; count; count /= 2) x = join(x, __builtin_shuffle(x, LANE ^ count));
    return x[0];
}

inline float sum(Vector x) { return reduce(x, [](Vector a, Vector b) { return a + b; }); }

inline float largest(Vector x) { return reduce(x, [](Vector a, Vector b) { return a > b ? a : b; }); }

// Where the CPU multiplies pairs of bf16 (AVX512_BF16), a bf16 model's products are of pairs, twice as many at once. A pair
// takes the place of one number of fp32; elsewhere it is one number.
#ifdef __AVX512BF16__
constexpr bool PAIRS = std::is_same_v<ELEMENT, uint16_t>;
#else
constexpr bool PAIRS = false;
#endif
constexpr int STEP = PAIRS ? 2 : 1;  // numbers in a pair

// The sum and the products of one pair with each of many.
inline Vector multiply_add(Vector sum, const void* one, Vector many) {
#ifdef __AVX512BF16__
    if constexpr (PAIRS) {
        int32_t pair;
        std::memcpy(&pair, one, sizeof pair);
        return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)many);
    }
#endif
    return sum + *(const float*)one * many;
}

// STEP vectors as one, of pairs.
inline Vector packed(const Vector x[STEP]) {
#ifdef __AVX512BF16__
    if constexpr (PAIRS) {
        const auto halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)x[1], (__m512)x[0]);  // all of x[0], then x[1]
        return (Vector)_mm512_permutexvar_epi16((__m512i)(LANE * 0x10001 + (LANES << 16)), halves);
    }
#endif
    return x[0];
}

// A vector's numbers in pairs of neighbours.
inline void store_packed(float* to, Vector x) {
#ifdef __AVX512BF16__
    if constexpr (PAIRS) {
        const __m256bh halves = _mm512_cvtneps_pbh((__m512)x);
        std::memcpy(to, &halves, sizeof halves);
        return;
    }
#endif
    store(to, x);
}

const float LOG2_E = 1.44269504f;

}  // namespace
