// A GPU made of one CPU thread: each CUDA thread is a fiber, all blocks of a launch are resident, and barriers,
// shuffles and tensor-core products are carried out between fibers. For tests: kernels' sources run unchanged.
//
// The order in which fibers run is a parameter of a launch, so that a missing barrier shows in some order: dynamic
// shared memory starts as NaN, threads that wait for others in vain are an error, and so are threads of a warp or a
// block that meet in different barriers. A barrier waits for all threads of the launch, also those that have left.
#pragma once

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

typedef uint16_t rg_bf16;
typedef uint32_t rg_u32;

#define RG_KERNEL extern "C" void
#define RG_DEVICE static inline
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define RG_SHARED(T, name) T* name = reinterpret_cast<T*>(shim::self->block->shared)

struct uint3 { unsigned x, y, z; };

namespace shim {

constexpr int WARP = 32;
constexpr size_t STACK = 64 << 10;

struct Barrier {
    unsigned arrived = 0, turn = 0;
    int kind = 0;  // of the threads that wait here: a different one is a program that diverges
};

struct Warp {
    Barrier barrier;
    unsigned threads = 0;
    uint64_t slot[WARP];
    rg_u32 a[WARP][4], b[WARP][2];
};

struct Block {
    Barrier barrier;
    unsigned threads = 0;
    unsigned char* shared = nullptr;
    std::vector<Warp> warps;
};

struct Fiber {
    uint3 thread, place;
    Block* block = nullptr;
    Warp* warp = nullptr;
    int lane = 0;
    int stack = -1;  // number of the stack that it runs on
    bool started = false, done = false;
    jmp_buf at;
};

struct Launch {
    uint3 grid, size;
    Barrier barrier;
    unsigned threads = 0;
    void (*run)(void*, void**) = nullptr;
    void* kernel = nullptr;
    void** args = nullptr;
    bool moved = false;  // something happened in this round of the scheduler
    char error[160] = "";
};

static thread_local Fiber* self = nullptr;
static thread_local Launch* launch = nullptr;
static thread_local jmp_buf scheduler;
static thread_local ucontext_t home;

inline void fail(const char* what) {
    if (!launch->error[0])
        snprintf(launch->error, sizeof launch->error, "thread (%u,%u,%u) of block (%u,%u,%u): %s", self->thread.x,
                 self->thread.y, self->thread.z, self->place.x, self->place.y, self->place.z, what);
    _longjmp(scheduler, 2);
}

inline void yield() {
    if (!_setjmp(self->at)) _longjmp(scheduler, 1);
}

enum Kind { SYNC_BLOCK = 1, SYNC_WARP, SHUFFLE, PRODUCT, SYNC_GRID };

// Wait until ``count`` threads are here.
inline void meet(Barrier& b, const unsigned& count, int kind) {
    if (b.arrived && b.kind != kind) fail("others wait in a different barrier");
    b.kind = kind;
    unsigned turn = b.turn;
    if (++b.arrived == count) {
        b.arrived = 0;
        b.turn++;
        launch->moved = true;
        return;
    }
    while (b.turn == turn) yield();
}

}  // namespace shim

#define threadIdx (shim::self->thread)
#define blockIdx (shim::self->place)
#define blockDim (shim::launch->size)
#define gridDim (shim::launch->grid)

inline void __syncthreads() { shim::meet(shim::self->block->barrier, shim::self->block->threads, shim::SYNC_BLOCK); }
inline void __syncwarp(unsigned = 0xFFFFFFFFu) { shim::meet(shim::self->warp->barrier, shim::self->warp->threads, shim::SYNC_WARP); }
inline void rg_grid_sync(rg_u32*, rg_u32) { shim::meet(shim::launch->barrier, shim::launch->threads, shim::SYNC_GRID); }
inline void __threadfence() {}

namespace shim {

// What lane ``from`` has given; a lane that is not there, or beyond the warp, gives the caller's own.
template <class T> T shuffle(T mine, int from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    Warp& w = *self->warp;
    memcpy(&w.slot[self->lane], &mine, sizeof(T));
    meet(w.barrier, w.threads, SHUFFLE);
    T out = mine;
    if (from >= 0 && from < static_cast<int>(w.threads)) memcpy(&out, &w.slot[from], sizeof(T));
    meet(w.barrier, w.threads, SHUFFLE);
    return out;
}

}  // namespace shim

template <class T> T __shfl_sync(unsigned mask, T v, int from) { if (mask != 0xFFFFFFFFu) shim::fail("a shuffle without all lanes"); return shim::shuffle(v, from & 31); }
template <class T> T __shfl_xor_sync(unsigned mask, T v, int by) { if (mask != 0xFFFFFFFFu) shim::fail("a shuffle without all lanes"); return shim::shuffle(v, shim::self->lane ^ by); }
template <class T> T __shfl_down_sync(unsigned mask, T v, int by) { if (mask != 0xFFFFFFFFu) shim::fail("a shuffle without all lanes"); return shim::shuffle(v, shim::self->lane + by); }
template <class T> T atomicAdd(T* p, T v) { T old = *p; *p = old + v; return old; }

inline float rg_load_fresh(const float* p) { return *p; }
inline int __float_as_int(float x) { int i; memcpy(&i, &x, 4); return i; }
inline float __int_as_float(int i) { float x; memcpy(&x, &i, 4); return x; }
inline float __ldg(const float* p) { return *p; }
inline int min(int x, int y) { return x < y ? x : y; }
inline int max(int x, int y) { return x > y ? x : y; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

namespace shim {
inline float bf16(rg_u32 pair, int which) {
    rg_u32 bits = which ? pair & 0xFFFF0000u : pair << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
}  // namespace shim

// The fragments of mma.m16n8k16 as PTX lays them out: lane = 4 * group + t holds of A rows group and group + 8, columns
// 2t, 2t+1 and 8 further; of B the same columns as rows, at column group; of D rows group, group + 8, columns 2t, 2t+1.
inline void rg_mma_16816(float d[4], const rg_u32 a[4], const rg_u32 b[2]) {
    using namespace shim;
    Warp& w = *self->warp;
    if (w.threads != WARP) fail("a tensor-core product needs a whole warp");
    memcpy(w.a[self->lane], a, sizeof w.a[0]);
    memcpy(w.b[self->lane], b, sizeof w.b[0]);
    meet(w.barrier, w.threads, PRODUCT);
    int group = self->lane / 4, t = self->lane % 4;
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 2; c++) {
            float sum = d[2 * r + c];
            for (int k = 0; k < 16; k++) {
                int at = (k % 8) / 2, high = k / 8;
                float x = bf16(w.a[4 * group + at][r + 2 * high], k % 2);
                float y = bf16(w.b[4 * (2 * t + c) + at][high], k % 2);
                sum += x * y;
            }
            d[2 * r + c] = sum;
        }
    meet(w.barrier, w.threads, PRODUCT);
}

namespace shim {

template <class... A, size_t... I> void call(void (*k)(A...), void** args, std::index_sequence<I...>) {
    k(*reinterpret_cast<A*>(args[I])...);
}

template <class... A> void run(void* kernel, void** args) {
    call(reinterpret_cast<void (*)(A...)>(kernel), args, std::index_sequence_for<A...>{});
}

struct Kernel {
    const char* name;
    void* code;
    void (*run)(void*, void**);
};

template <class... A> Kernel kernel(const char* name, void (*code)(A...)) {
    return {name, reinterpret_cast<void*>(code), &run<A...>};
}

static void body() {
    launch->run(launch->kernel, launch->args);
    self->done = true;
    launch->moved = true;
    _longjmp(scheduler, 1);
}

struct Random {
    uint32_t state;
    unsigned below(unsigned n) {
        state = state * 1664525u + 1013904223u;
        return static_cast<unsigned>((static_cast<uint64_t>(state) * n) >> 32);
    }
    void mix(std::vector<unsigned>& of) {
        for (size_t i = of.size(); i > 1; i--) std::swap(of[i - 1], of[below(static_cast<unsigned>(i))]);
    }
};

// Goes on with a thread until it waits or ends, and comes back by a jump to the scheduler.
inline void resume(Fiber* f, std::vector<std::unique_ptr<char[]>>& stacks, std::vector<int>& free) {
    if (f->started) _longjmp(f->at, 1);
    f->started = true;
    if (free.empty()) {
        free.push_back(static_cast<int>(stacks.size()));
        stacks.emplace_back(new char[STACK]);
    }
    f->stack = free.back();
    free.pop_back();
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks[f->stack].get();
    context.uc_stack.ss_size = STACK;
    context.uc_link = &home;
    makecontext(&context, body, 0);
    setcontext(&context);
}

// Runs a launch to its end. Blocks run as far as they come, one after the other, forwards (order 0) or backwards (1);
// or, with any other order as the seed, a few rounds at a time, in an order of blocks and threads that changes always.
inline int start(const Kernel& k, uint3 grid, uint3 size, size_t shared, void** args, unsigned order, char* message,
                 size_t room) {
    Launch here;
    here.grid = grid;
    here.size = size;
    here.run = k.run;
    here.kernel = k.code;
    here.args = args;
    launch = &here;
    unsigned threads = size.x * size.y * size.z, blocks = grid.x * grid.y * grid.z;
    here.threads = threads * blocks;
    std::vector<Block> all(blocks);
    std::vector<std::unique_ptr<unsigned char[]>> memory;
    std::vector<Fiber> fibers(static_cast<size_t>(threads) * blocks);
    for (unsigned i = 0; i < blocks; i++) {
        Block& block = all[i];
        block.threads = threads;
        block.warps.resize((threads + WARP - 1) / WARP);
        memory.emplace_back(new unsigned char[shared + 32]);
        memset(memory.back().get(), 0xFF, shared + 32);
        block.shared = reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(memory.back().get()) + 15) &
                                                        ~uintptr_t(15));
        for (unsigned j = 0; j < threads; j++) {
            Fiber& f = fibers[static_cast<size_t>(i) * threads + j];
            f.thread = {j % size.x, j / size.x % size.y, j / (size.x * size.y)};
            f.place = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
            f.block = &block;
            f.warp = &block.warps[j / WARP];
            f.lane = j % WARP;
            f.warp->threads++;
        }
    }
    std::vector<std::unique_ptr<char[]>> stacks;
    std::vector<int> free;
    Random random{order * 2654435761u + 1};
    std::vector<unsigned> turns(blocks);  // the order of the blocks, and of the threads of each that are not done
    std::vector<std::vector<unsigned>> left(blocks, std::vector<unsigned>(threads));
    for (unsigned i = 0; i < blocks; i++) {
        turns[i] = order == 1 ? blocks - 1 - i : i;
        for (unsigned j = 0; j < threads; j++) left[i][j] = i * threads + (order == 1 ? threads - 1 - j : j);
    }
    for (unsigned remaining = blocks; remaining > 0;) {
        bool moved = false;
        if (order > 1) random.mix(turns);
        for (unsigned b : turns) {
            volatile unsigned block = b, rounds = order > 1 ? 1 + random.below(6) : ~0u;  // kept across the jumps
            while (!left[block].empty() && rounds > 0) {
                rounds = rounds - 1;
                here.moved = false;
                std::vector<unsigned>& mine = left[block];
                if (order > 1) random.mix(mine);
                volatile size_t at = 0, kept = 0;
                for (; at < mine.size(); at = at + 1) {
                    self = &fibers[mine[at]];
                    int came = _setjmp(scheduler);
                    if (!came) resume(self, stacks, free);
                    if (came == 2) {
                        snprintf(message, room, "%s", here.error);
                        return 1;
                    }
                    if (self->done) {
                        free.push_back(self->stack);
                    } else {
                        mine[kept] = mine[at];
                        kept = kept + 1;
                    }
                }
                mine.resize(kept);
                if (mine.empty()) remaining--;
                if (!here.moved) break;
                moved = true;
            }
        }
        if (!moved && remaining > 0) {
            size_t waiting = 0;
            for (const std::vector<unsigned>& mine : left) waiting += mine.size();
            snprintf(message, room, "%zu threads wait for each other for ever", waiting);
            return 1;
        }
    }
    return 0;
}

}  // namespace shim

// RG_TABLE(a, b): the kernels of a file, by name, and how they are launched.
#define RG_ENTRY(k) shim::kernel(#k, k)
#define RG_TABLE(...)                                                                                             \
    static const shim::Kernel rg_table[] = {__VA_ARGS__};                                                          \
    extern "C" int rg_launch(const char* name, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,   \
                             unsigned bz, size_t shared, void** args, unsigned order, char* message, size_t room) { \
        for (const shim::Kernel& k : rg_table)                                                                    \
            if (!strcmp(k.name, name))                                                                            \
                return shim::start(k, {gx, gy, gz}, {bx, by, bz}, shared, args, order, message, room);            \
        snprintf(message, room, "no kernel %s", name);                                                            \
        return 2;                                                                                                 \
    }
