// SIMD vectors of fp32, loaded from and stored to memory as fp32 or bf16.
//
// Macros, defined by cpu_kernels/__init__.py: HEAD, the head size, a multiple of MAX_LANES; ELEMENT, uint16_t (bf16) or
// float; NORM_EPSILON, of RMSNorm; MAX_LANES, numbers in the longest vector; OUT_BLOCK, see decoder.cpp.

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

// Numbers in a vector: as many as a register of the CPU holds. GCC keeps longer ones in memory, up to 70 times as slow.
#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
static_assert(MAX_LANES % LANES == 0 && HEAD % MAX_LANES == 0);
constexpr int VECS_PER_HEAD = HEAD / LANES, HALF_HEAD = HEAD / 2;
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t IntVector __attribute__((vector_size(4 * LANES)));
typedef uint32_t BitVector __attribute__((vector_size(4 * LANES)));
typedef uint16_t HalfVector __attribute__((vector_size(2 * LANES)));

struct Iota { int32_t at[LANES]; };
constexpr Iota iota() { Iota x = {}; for (int i = 0; i < LANES; i++) x.at[i] = i; return x; }
constexpr IntVector LANE = __builtin_bit_cast(IntVector, iota());  // 0, 1, 2, ...

struct alignas(4 * MAX_LANES) CacheLine { float at[MAX_LANES]; };  // memory aligned for vectors of any length

inline Vector load(const float* from) { Vector x; std::memcpy(&x, from, sizeof x); return x; }
inline void store(float* to, Vector x) { std::memcpy(to, &x, sizeof x); }

inline Vector load(const uint16_t* from) {
    HalfVector half;
    std::memcpy(&half, from, sizeof half);
    return (Vector)(__builtin_convertvector(half, BitVector) << 16);
}

inline float to_float(float x) { return x; }
inline float to_float(uint16_t x) { return __builtin_bit_cast(float, (uint32_t)x << 16); }

inline void store(uint16_t* to, Vector x) {  // rounds to the nearest, ties to even
    BitVector bits = (BitVector)x;
    bits += 0x7fff + ((bits >> 16) & 1);
    HalfVector half = __builtin_convertvector(bits >> 16, HalfVector);
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
    Vector scaled = (Vector)((BitVector)power + ((BitVector)shifted << 23));
    return x < floor ? Vector{} : scaled;
}

template <typename Join>
inline float reduce(Vector x, Join join) {  // in a tree: one after the other, each addition would wait for the last
    for (int count = LANES / 2; count; count /= 2) x = join(x, __builtin_shuffle(x, LANE ^ count));
    return x[0];
}

inline float reduce_sum(Vector x) { return reduce(x, [](Vector a, Vector b) { return a + b; }); }

inline float reduce_max(Vector x) { return reduce(x, [](Vector a, Vector b) { return a > b ? a : b; }); }

// Where the CPU multiplies pairs of bf16 (AVX512_BF16), a bf16 model's dot products are of pairs, twice as many at
// once. A pair takes the place of one number of fp32. Elsewhere a "pair" is one number.
#ifdef __AVX512BF16__
constexpr bool PAIRS = std::is_same_v<ELEMENT, uint16_t>;
#else
constexpr bool PAIRS = false;
#endif
constexpr int STEP = PAIRS ? 2 : 1;  // numbers in a pair

// sum + the product of one pair with each of many.
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

// STEP vectors as one vector of pairs.
inline Vector packed(const Vector x[STEP]) {
#ifdef __AVX512BF16__
    if constexpr (PAIRS) {
        const auto halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)x[1], (__m512)x[0]);  // all of x[0], then x[1]
        return (Vector)_mm512_permutexvar_epi16((__m512i)(LANE * 0x10001 + (LANES << 16)), halves);
    }
#endif
    return x[0];
}

// Store a vector's numbers in pairs of neighbours.
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

// The factor of RMSNorm, from the sum of a vector's squares.
inline float inverse_rms(float squares, float size) { return 1 / std::sqrt(squares / size + NORM_EPSILON); }

const float LOG2_E = 1.44269504f;

}  // namespace
