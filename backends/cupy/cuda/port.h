// What differs between a GPU and the CPU that stands in for one. Kernels touch the machine through these names alone:
//
//   RG_KERNEL              in front of a kernel's parameters: extern "C" __global__
//   RG_SHARED(T, name)     the block's dynamic shared memory (static __shared__ is not used: the shim runs all blocks
//                          of a launch in one address space)
//   rg_grid_sync(...)      every thread of a cooperative launch waits for every other
//   rg_grid_end(...)       the last thing of a launch whose barrier the next launch uses again
//   rg_mma_16816(...)      d += a b of a warp: bf16 [16, 16] by [16, 8], f32 sums
//   rg_load4(p)            16 bytes that no kernel writes; ``p`` is aligned to them
//   rg_bf16                storage of a bfloat16: its 16 bits
//   rg_pack_bf16(...)      two numbers rounded to bf16, the first in the low half
//
// and otherwise through __syncthreads, __syncthreads_or, __syncwarp, __shfl_*_sync with full masks, atomicAdd, and C++.
#pragma once

#ifdef RG_SHIM
#include "shim.h"
#else

#define RG_KERNEL extern "C" __global__ void
#define RG_DEVICE static __device__ __forceinline__
#define RG_SHARED(T, name)                                    \
    extern __shared__ __align__(16) unsigned char rg_smem_[]; \
    T* name = reinterpret_cast<T*>(rg_smem_)

typedef unsigned short rg_bf16;
typedef unsigned int rg_u32;

// ``bar`` is zero at the launch and ``turn`` counts this kernel's barriers from 1.
RG_DEVICE void rg_grid_sync(rg_u32* bar, rg_u32 turn) {
    __syncthreads();
    if (threadIdx.x == 0) {
        rg_u32 seen;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(bar) : "memory");
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(bar) : "memory");
        } while (seen < turn * gridDim.x);
    }
    __syncthreads();
}

#if __CUDA_ARCH__ >= 800
RG_DEVICE void rg_mma_16816(float d[4], const rg_u32 a[4], const rg_u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

RG_DEVICE rg_u32 rg_pack_bf16(float low, float high) {
    rg_u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
#endif

// Memory that another block has written during this launch: past L1, which is not coherent.
RG_DEVICE float rg_load_fresh(const float* p) { return __ldcg(p); }

// Weights: through L1.
RG_DEVICE float4 rg_load4(const float* p) { return __ldg(reinterpret_cast<const float4*>(p)); }

#endif  // RG_SHIM

// The end of a launch that has waited at ``bar``, two words: the last block makes it fit for the next launch. Nobody
// waits there any more, as every block has come here.
RG_DEVICE void rg_grid_end(rg_u32* bar) {
    __syncthreads();
    if (threadIdx.x == 0 && atomicAdd(bar + 1, 1u) == gridDim.x - 1) bar[0] = bar[1] = 0;
}

// One exchange after the other by templates: loops that halve are not unrolled, and ``v`` would be no registers.
template <int HALF, int BY, int N> RG_DEVICE void rg_warp_exchange(float (&v)[N]) {
    if constexpr (HALF > 0) {
        const bool high = threadIdx.x & BY;
#pragma unroll
        for (int j = 0; j < HALF; j++) {
            const float mine = high ? v[j + HALF] : v[j], other = high ? v[j] : v[j + HALF];
            v[j] = mine + __shfl_xor_sync(0xFFFFFFFFu, other, BY);
        }
    } else {
        v[0] += __shfl_xor_sync(0xFFFFFFFFu, v[0], BY);
    }
    if constexpr (BY > 1) rg_warp_exchange<HALF / 2, BY / 2>(v);
}

// The sums over a warp of N numbers of each thread, N a power of two up to 32: thread t gets the sum of v[t / (32 / N)].
// Each exchange halves what a thread still adds up.
template <int N> RG_DEVICE float rg_warp_sums(float (&v)[N]) {
    rg_warp_exchange<N / 2, 16>(v);
    return v[0];
}

RG_DEVICE float rg_from_bf16(rg_bf16 x) {
    union { rg_u32 bits; float value; } u;
    u.bits = static_cast<rg_u32>(x) << 16;
    return u.value;
}

// To the nearest, ties to even; NaN stays NaN.
RG_DEVICE rg_bf16 rg_to_bf16(float x) {
    union { float value; rg_u32 bits; } u;
    u.value = x;
    if (x != x) return static_cast<rg_bf16>((u.bits >> 16) | 0x40u);
    return static_cast<rg_bf16>((u.bits + 0x7FFFu + ((u.bits >> 16) & 1u)) >> 16);
}

#ifdef RG_SHIM
RG_DEVICE rg_u32 rg_pack_bf16(float low, float high) {
    return rg_to_bf16(low) | static_cast<rg_u32>(rg_to_bf16(high)) << 16;
}
#endif

#if defined(RG_SHIM) || __CUDA_ARCH__ >= 800
// d += a b, of fragments as they come from memory.
RG_DEVICE void rg_multiply(float d[4], const uint4& a, rg_u32 b0, rg_u32 b1) {
    const rg_u32 left[4] = {a.x, a.y, a.z, a.w}, right[2] = {b0, b1};
    rg_mma_16816(d, left, right);
}
#endif

// The sum of N numbers that are ``apart``.
template <int N> RG_DEVICE float rg_total(const float* from, int apart) {
    float sum = from[0];
#pragma unroll
    for (int i = 1; i < N; i++) sum += from[i * apart];
    return sum;
}
