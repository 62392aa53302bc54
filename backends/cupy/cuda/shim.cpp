// What runs kernels on the CPU: the fibers that shim.h speaks of, and the order in which they run.
#include "shim.h"

#include <setjmp.h>
#include <stdio.h>
#include <ucontext.h>

#include <memory>
#include <utility>
#include <vector>

namespace shim {

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
    int any = 0;  // of what threads give a barrier
    std::vector<Warp> warps;
};

struct Fiber : Thread {
    Block* block = nullptr;
    Warp* warp = nullptr;
    int stack = -1;  // number of the stack that it runs on
    bool started = false, done = false;
    jmp_buf at;
};

struct Launch {
    Barrier barrier;
    unsigned threads = 0;
    const Kernel* kernel = nullptr;
    void** args = nullptr;
    bool moved = false;  // something happened in this round of the scheduler
    char error[160] = "";
};

static Launch* launch = nullptr;
static jmp_buf scheduler;
static ucontext_t home;

static Fiber* self() { return static_cast<Fiber*>(rg_shim_thread); }

static void yield() {
    if (!_setjmp(self()->at)) _longjmp(scheduler, 1);
}

enum Kind { SYNC_BLOCK = 1, SYNC_WARP, SHUFFLE, PRODUCT, SYNC_GRID, SYNC_OR };

// Wait until ``count`` threads are here.
static void meet(Barrier& b, unsigned count, int kind) {
    if (b.arrived && b.kind != kind) rg_shim_fail("others wait in a different barrier");
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

static float bf16(rg_u32 pair, int which) {
    rg_u32 bits = which ? pair & 0xFFFF0000u : pair << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static void body() {
    launch->kernel->run(launch->kernel->code, launch->args);
    self()->done = true;
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
static void resume(Fiber* f, std::vector<std::unique_ptr<char[]>>& stacks, std::vector<int>& free) {
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
static int start(const Kernel& k, Extent extent, size_t shared, void** args, unsigned order, char* message,
                 size_t room) {
    uint3 grid = extent.grid, size = extent.size;
    Launch here;
    here.kernel = &k;
    here.args = args;
    launch = &here;
    rg_shim_extent = extent;
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
        unsigned char* aligned = reinterpret_cast<unsigned char*>(
            (reinterpret_cast<uintptr_t>(memory.back().get()) + 15) & ~uintptr_t(15));
        for (unsigned j = 0; j < threads; j++) {
            Fiber& f = fibers[static_cast<size_t>(i) * threads + j];
            f.thread = {j % size.x, j / size.x % size.y, j / (size.x * size.y)};
            f.place = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
            f.shared = aligned;
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
                    rg_shim_thread = &fibers[mine[at]];
                    int came = _setjmp(scheduler);
                    if (!came) resume(self(), stacks, free);
                    if (came == 2) {
                        snprintf(message, room, "%s", here.error);
                        return 1;
                    }
                    if (self()->done) {
                        free.push_back(self()->stack);
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

using namespace shim;

extern "C" {

Thread* rg_shim_thread = nullptr;
Extent rg_shim_extent;

void rg_shim_sync_block() { meet(self()->block->barrier, self()->block->threads, SYNC_BLOCK); }

int rg_shim_sync_or(int any) {
    Block& b = *self()->block;
    b.any |= any != 0;
    meet(b.barrier, b.threads, SYNC_OR);
    int out = b.any;
    meet(b.barrier, b.threads, SYNC_OR);
    b.any = 0;
    meet(b.barrier, b.threads, SYNC_OR);
    return out;
}

void rg_shim_sync_warp() { meet(self()->warp->barrier, self()->warp->threads, SYNC_WARP); }
void rg_shim_sync_grid() { meet(launch->barrier, launch->threads, SYNC_GRID); }

uint64_t rg_shim_shuffle(uint64_t mine, int from) {
    Warp& w = *self()->warp;
    w.slot[self()->lane] = mine;
    meet(w.barrier, w.threads, SHUFFLE);
    uint64_t out = from >= 0 && from < static_cast<int>(w.threads) ? w.slot[from] : mine;
    meet(w.barrier, w.threads, SHUFFLE);
    return out;
}

// The fragments of mma.m16n8k16 as PTX lays them out: lane = 4 * group + t holds of A rows group and group + 8, columns
// 2t, 2t+1 and 8 further; of B the same columns as rows, at column group; of D rows group, group + 8, columns 2t, 2t+1.
void rg_shim_product(float d[4], const rg_u32 a[4], const rg_u32 b[2]) {
    Warp& w = *self()->warp;
    if (w.threads != WARP) rg_shim_fail("a tensor-core product needs a whole warp");
    memcpy(w.a[self()->lane], a, sizeof w.a[0]);
    memcpy(w.b[self()->lane], b, sizeof w.b[0]);
    meet(w.barrier, w.threads, PRODUCT);
    int group = self()->lane / 4, t = self()->lane % 4;
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

void rg_shim_fail(const char* what) {
    const Thread& t = *rg_shim_thread;
    if (!launch->error[0])
        snprintf(launch->error, sizeof launch->error, "thread (%u,%u,%u) of block (%u,%u,%u): %s", t.thread.x,
                 t.thread.y, t.thread.z, t.place.x, t.place.y, t.place.z, what);
    _longjmp(scheduler, 2);
}

int rg_shim_start(const Kernel* kernels, size_t count, const char* name, Extent extent, size_t shared, void** args,
                  unsigned order, char* message, size_t room) {
    for (size_t k = 0; k < count; k++)
        if (!strcmp(kernels[k].name, name)) return start(kernels[k], extent, shared, args, order, message, room);
    snprintf(message, room, "no kernel %s", name);
    return 2;
}

}  // extern "C"
