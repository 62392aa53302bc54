// A GPU made of one CPU thread: each CUDA thread is a fiber, all blocks of a launch are resident, and barriers,
// shuffles and tensor-core products are carried out between fibers. For tests: kernels' sources run unchanged.
//
// The order in which fibers run is a parameter of a launch, so that a missing barrier shows in some order: dynamic
// shared memory starts as NaN, threads that wait for others in vain are an error, and so are threads of a warp or a
// block that meet in different barriers. A barrier waits for all threads of the launch, also those that have left.
//
// A kernel's file is compiled with this header alone, which includes next to nothing, so that it is fast; what runs
// the fibers is in shim.cpp, a library that is built once.
#pragma once

#include <stdint.h>
#include <string.h>

typedef uint16_t rg_bf16;
typedef uint32_t rg_u32;

#define RG_KERNEL extern "C" void
#define RG_DEVICE static inline
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define RG_SHARED(T, name) T* name = reinterpret_cast<T*>(rg_shim_thread->shared)

struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

namespace shim {

constexpr int WARP = 32;

// What a kernel sees of the thread that it runs as, and of its launch.
struct Thread {
    uint3 thread, place;
    unsigned char* shared;
    int lane;
};

struct Extent { uint3 grid, size; };

struct Kernel {
    const char* name;
    void* code;
    void (*run)(void*, void**);
};

}  // namespace shim

// --- the library; it runs one launch at a time ---

extern "C" {
extern shim::Thread* rg_shim_thread;
extern shim::Extent rg_shim_extent;
void rg_shim_sync_block();
int rg_shim_sync_or(int any);
void rg_shim_sync_warp();
void rg_shim_sync_grid();
uint64_t rg_shim_shuffle(uint64_t mine, int from);
void rg_shim_product(float d[4], const rg_u32 a[4], const rg_u32 b[2]);
void rg_shim_fail(const char* what);
int rg_shim_start(const shim::Kernel* kernels, size_t count, const char* name, shim::Extent extent, size_t shared,
                  void** args, unsigned order, char* message, size_t room);
}

// --- what CUDA has ---

#define threadIdx (rg_shim_thread->thread)
#define blockIdx (rg_shim_thread->place)
#define blockDim (rg_shim_extent.size)
#define gridDim (rg_shim_extent.grid)

// Of math.h, without its headers.
extern "C" {
float expf(float), exp2f(float), expm1f(float), logf(float), log2f(float), log1pf(float), tanhf(float), erff(float);
float sinf(float), cosf(float), sqrtf(float), fabsf(float), floorf(float), ceilf(float), rintf(float), roundf(float);
float truncf(float), fmaxf(float, float), fminf(float, float), powf(float, float), fmodf(float, float);
float copysignf(float, float), fmaf(float, float, float);
double exp(double), log(double), tanh(double), erf(double), sqrt(double), fabs(double), floor(double), ceil(double);
double rint(double), pow(double, double), fmax(double, double), fmin(double, double), fma(double, double, double);
int abs(int);
}

inline void __syncthreads() { rg_shim_sync_block(); }
inline int __syncthreads_or(int any) { return rg_shim_sync_or(any); }
inline void __syncwarp(unsigned = 0xFFFFFFFFu) { rg_shim_sync_warp(); }
inline void __threadfence() {}
inline void rg_grid_sync(rg_u32*, rg_u32) { rg_shim_sync_grid(); }
inline void rg_mma_16816(float d[4], const rg_u32 a[4], const rg_u32 b[2]) { rg_shim_product(d, a, b); }

namespace shim {

// What lane ``from`` has given; a lane that is not there, or beyond the warp, gives the caller's own.
template <class T> T shuffle(unsigned mask, T mine, int from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    if (mask != 0xFFFFFFFFu) rg_shim_fail("a shuffle without all lanes");
    uint64_t bits = 0;
    memcpy(&bits, &mine, sizeof(T));
    bits = rg_shim_shuffle(bits, from);
    memcpy(&mine, &bits, sizeof(T));
    return mine;
}

}  // namespace shim

template <class T> T __shfl_sync(unsigned mask, T v, int from) { return shim::shuffle(mask, v, from & 31); }
template <class T> T __shfl_xor_sync(unsigned mask, T v, int by) { return shim::shuffle(mask, v, rg_shim_thread->lane ^ by); }
template <class T> T __shfl_down_sync(unsigned mask, T v, int by) { return shim::shuffle(mask, v, rg_shim_thread->lane + by); }
template <class T> T atomicAdd(T* p, T v) { T old = *p; *p = old + v; return old; }

struct alignas(16) float4 { float x, y, z, w; };
inline float4 rg_load4(const float* p) {
    if (reinterpret_cast<uintptr_t>(p) % 16) rg_shim_fail("a wide read that is not aligned");
    return *reinterpret_cast<const float4*>(p);
}
inline float rg_load_fresh(const float* p) { return *p; }
inline int __float_as_int(float x) { int i; memcpy(&i, &x, 4); return i; }
inline float __int_as_float(int i) { float x; memcpy(&x, &i, 4); return x; }
inline float __ldg(const float* p) { return *p; }
inline int min(int x, int y) { return x < y ? x : y; }
inline int max(int x, int y) { return x > y ? x : y; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

namespace shim {

template <class... A> struct Types {};

template <class... All, class... Given> void call(void (*kernel)(All...), void**, Types<>, Given&... given) {
    kernel(given...);
}

template <class... All, class First, class... Rest, class... Given>
void call(void (*kernel)(All...), void** args, Types<First, Rest...>, Given&... given) {
    call(kernel, args + 1, Types<Rest...>(), given..., *static_cast<First*>(*args));
}

template <class... A> void run(void* kernel, void** args) {
    call(reinterpret_cast<void (*)(A...)>(kernel), args, Types<A...>());
}

template <class... A> Kernel kernel(const char* name, void (*code)(A...)) {
    return {name, reinterpret_cast<void*>(code), &run<A...>};
}

}  // namespace shim

// RG_TABLE(a, b): the kernels of a file, by name, and how they are launched.
#define RG_ENTRY(k) shim::kernel(#k, k)
#define RG_TABLE(...)                                                                                              \
    extern "C" int rg_launch(const char* name, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,    \
                             unsigned bz, size_t shared, void** args, unsigned order, char* message, size_t room) { \
        static const shim::Kernel table[] = {__VA_ARGS__};                                                         \
        return rg_shim_start(table, sizeof table / sizeof table[0], name, {{gx, gy, gz}, {bx, by, bz}}, shared,    \
                             args, order, message, room);                                                          \
    }
